//! The owner's host: asks how the job is, until it is done.

use std::sync::Arc;
use std::time::Duration;

use quire_core::Fault;
use quire_proto::{JobCalls, v1};

use crate::network;
use crate::world::{OWNER, World};

const PERIOD: Duration = Duration::from_secs(2);

/// Ends when the job is done.
pub(crate) async fn run(world: Arc<World>) -> turmoil::Result {
    let client = network::client(&world, OWNER, 0);
    let mut last = String::new();
    loop {
        let request = v1::GetJobRequest {
            job_id: world.job_id.to_string(),
        };
        match client.get_job(request).await {
            Ok(answer) => {
                let job = answer.job.ok_or("an answer without a job")?;
                let shards = job.shards.unwrap_or_default();
                let told = format!("{} {shards:?}", job.state().as_str_name());
                if told != last {
                    world.trace.note(OWNER, &told);
                    last = told;
                }
                match job.state() {
                    v1::JobState::Done => return Ok(()),
                    v1::JobState::Failed | v1::JobState::Paused | v1::JobState::Canceled => {
                        let state = job.state().as_str_name();
                        return Err(format!("the job is {state}: {}", job.state_reason).into());
                    }
                    _ => {}
                }
            }
            // A database that was made anew may not know the job yet.
            Err(error) if error.reason == quire_proto::Reason::JobUnknown => {}
            Err(error) if error.fault == Fault::Unavailable => {}
            Err(error) => return Err(format!("not to be expected: {error:?}").into()),
        }
        tokio::time::sleep(PERIOD).await;
    }
}
