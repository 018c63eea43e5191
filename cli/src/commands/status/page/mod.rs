//! `quire status --watch` at a terminal: a page that is drawn anew as the fleet changes, with a
//! few keys. The loop is here; what is drawn and what keys do are pure.

mod draw;
mod input;
mod state;
mod terminal;
mod workers;

use std::process::ExitCode;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quire_core::{Clock, SystemClock};
use quire_proto::v1::{PauseJobRequest, ResumeJobRequest};
use quire_proto::{CallError, JobCalls};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Fleet, Look};
use crate::signals;

use input::Input;
use state::{Action, Change, Page};
use terminal::Terminal;

/// Between looks.
const PERIOD: Duration = Duration::from_secs(1);
/// A coordinator that does not answer is asked again this much later.
const AFTER_FAILURE: Duration = Duration::from_secs(3);

type Looking<'a> = BoxFuture<'a, Result<Look, CallError>>;
type Acting<'a> = BoxFuture<'a, Result<String, CallError>>;

/// Shows the page until somebody leaves it.
pub(super) async fn watch(
    context: &Context,
    fleet: &Fleet,
    job_id: Option<String>,
) -> Outcome<ExitCode> {
    let clock = SystemClock::default();
    // The first look is before the page: what is wrong from the start is said as always.
    let first = super::look(fleet, job_id.as_deref(), clock.unix_ms()).await;
    let first = first.map_err(|error| fleet.refused(error))?;
    let mut page = Page::new(fleet.url.clone());
    page.see(clock.monotonic(), first);
    let _held = context.screen.hold();
    let shown = show(fleet, job_id.as_deref(), &clock, page).await;
    shown.map_err(|error| Failure::from(error).context("cannot draw on this terminal"))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(
    fleet: &Fleet,
    job_id: Option<&str>,
    clock: &SystemClock,
    mut page: Page,
) -> std::io::Result<()> {
    let mut terminal = Terminal::enter()?;
    let mut input = Input::start()?;
    let mut looking: Option<Looking<'_>> = None;
    let mut acting: Option<Acting<'_>> = None;
    let mut pause = PERIOD;
    loop {
        terminal.draw(|frame| draw::page(frame, &page))?;
        tokio::select! {
            key = input.next() => match key {
                Some(key) => match page.press(key) {
                    Action::None => {}
                    Action::Leave => return Ok(()),
                    Action::Change(change) => acting = Some(apply(fleet, change)),
                },
                None => return Ok(()),
            },
            () = signals::next() => return Ok(()),
            seen = answer(&mut looking) => {
                looking = None;
                pause = match seen {
                    Ok(look) => {
                        page.see(clock.monotonic(), look);
                        PERIOD
                    }
                    Err(error) => {
                        page.lose(error.message);
                        AFTER_FAILURE
                    }
                };
            }
            done = answer(&mut acting) => {
                acting = None;
                page.say(done.unwrap_or_else(|error| error.message));
            }
            () = tokio::time::sleep(pause), if looking.is_none() => {
                looking = Some(super::look(fleet, job_id, clock.unix_ms()).boxed());
            }
        }
    }
}

fn apply(fleet: &Fleet, change: Change) -> Acting<'_> {
    async move {
        let calls = &fleet.client;
        match change {
            Change::Pause(job_id) => {
                let request = PauseJobRequest {
                    job_id: job_id.clone(),
                    reason: "paused from the status page".to_owned(),
                };
                calls.pause_job(request).await?;
                Ok(format!("{job_id} is paused"))
            }
            Change::Resume(job_id) => {
                let request = ResumeJobRequest {
                    job_id: job_id.clone(),
                };
                calls.resume_job(request).await?;
                Ok(format!("{job_id} goes on"))
            }
        }
    }
    .boxed()
}

/// The answer to what is under way; waits for ever if nothing is.
async fn answer<T>(asking: &mut Option<BoxFuture<'_, T>>) -> T {
    match asking {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}
