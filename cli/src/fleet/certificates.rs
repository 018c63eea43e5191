//! Certificates that are renewed while a process runs: files are read again now and then, and
//! what has changed is handed on. Authorities that renew every day would otherwise stop a fleet
//! whose processes run for weeks.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::failure::Outcome;

/// Between looks. Certificates change hours before the old ones end.
const PERIOD: Duration = Duration::from_secs(5);

/// Reads certificates every few seconds until `end`. What differs from what is `in_use` is handed
/// to `change` once two looks in a row found the same: certificate and key are two files, and are
/// seldom replaced at one moment. What cannot be read or used is told once, and the old stays.
pub(crate) async fn watch<T: PartialEq + Clone>(
    mut in_use: T,
    read: impl Fn() -> Outcome<T>,
    mut change: impl FnMut(&T) -> Outcome<()>,
    end: CancellationToken,
) {
    let mut seen: Option<T> = None;
    let mut told = String::new();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let trouble = match read() {
            Ok(now) if now == in_use => {
                seen = None;
                None
            }
            Ok(now) if seen.as_ref() == Some(&now) => match change(&now) {
                Ok(()) => {
                    in_use = now;
                    None
                }
                Err(failure) => Some(failure.message()),
            },
            Ok(now) => {
                seen = Some(now);
                continue;
            }
            Err(failure) => Some(failure.message()),
        };
        let trouble = trouble.unwrap_or_default();
        if !trouble.is_empty() && trouble != told {
            tracing::warn!(
                "the certificates have changed and cannot be used, the old ones stay: {trouble}"
            );
        }
        told = trouble;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::*;
    use crate::failure::Failure;

    /// Looks that find these one after the other, and what was put to use.
    async fn used(found: &[Result<i32, &str>], refused: i32) -> Vec<i32> {
        let found: RefCell<VecDeque<_>> = RefCell::new(found.iter().cloned().collect());
        let (end, used) = (CancellationToken::new(), RefCell::new(Vec::new()));
        let read = || {
            let next = found.borrow_mut().pop_front();
            if found.borrow().is_empty() {
                end.cancel();
            }
            next.unwrap().map_err(Failure::failed)
        };
        let change = |now: &i32| {
            if *now == refused {
                return Err(Failure::failed("the key is of another certificate"));
            }
            used.borrow_mut().push(*now);
            Ok(())
        };
        watch(1, read, change, end.clone()).await;
        used.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_changed_and_settled_is_used_once() {
        let found = [
            Ok(1),
            Ok(2),
            Ok(2),
            Ok(2),
            Ok(3),
            Ok(4),
            Ok(4),
            Ok(1),
            Ok(1),
        ];
        assert_eq!(used(&found, 0).await, [2, 4, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_used_changes_nothing() {
        let found = [Ok(2), Ok(2), Err("gone"), Ok(1), Ok(2), Ok(3), Ok(3)];
        assert_eq!(used(&found, 2).await, [3]);
    }
}
