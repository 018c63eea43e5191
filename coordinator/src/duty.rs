//! Work that one coordinator of several does at a time. It only saves work: whoever does it
//! without the duty, because it lapsed or was lost, does no harm.

use std::pin::pin;
use std::time::Duration;

use quire_core::chain;

use crate::error::Result;
use crate::shared::Shared;
use crate::store::Duty;

/// A coordinator that dies is replaced after this long, or as soon as a worker would be.
const LONGEST_TTL: Duration = Duration::from_secs(30);

fn ttl(shared: &Shared) -> Duration {
    LONGEST_TTL.min(shared.config.session_ttl)
}

/// Does `work` if no other coordinator has the duty, and keeps it meanwhile; `None` if another
/// has it, or took it over because this one was taken for dead.
pub(crate) async fn on_duty<T>(
    shared: &Shared,
    duty: &Duty,
    work: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    if shared.config.is_alone {
        return work.await.map(Some);
    }
    if !hold(shared, duty).await? {
        return Ok(None);
    }
    let mut work = pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done.map(Some),
            () = tokio::time::sleep(ttl(shared) / 3) => match hold(shared, duty).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(%duty, "another coordinator took over");
                    return Ok(None);
                }
                // The store may be back before the duty lapses, or the work finds out.
                Err(error) => tracing::debug!(%duty, reason = chain(&error), "duty not renewed"),
            },
        }
    };
    drop_duty(shared, duty).await;
    done
}

/// Takes or keeps a duty; whether this coordinator has it now.
pub(crate) async fn hold(shared: &Shared, duty: &Duty) -> Result<bool> {
    if shared.config.is_alone {
        return Ok(true);
    }
    let ttl_ms = i64::try_from(ttl(shared).as_millis()).unwrap_or(i64::MAX);
    shared.store.take_duty(duty, &shared.holder, ttl_ms).await
}

/// Lets a duty go; one that cannot be dropped lapses.
pub(crate) async fn drop_duty(shared: &Shared, duty: &Duty) {
    if shared.config.is_alone {
        return;
    }
    if let Err(error) = shared.store.drop_duty(duty, &shared.holder).await {
        tracing::debug!(%duty, reason = chain(&error), "duty not dropped");
    }
}
