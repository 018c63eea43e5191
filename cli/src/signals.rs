//! Ctrl-C and SIGTERM: the first asks to finish what is in hand, the second leaves at once.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::logging::Screen;
use crate::output;
use crate::settings::Span;

/// Exit code of a process that Ctrl-C ended, as shells know it.
const INTERRUPTED: i32 = 130;

/// Signals this close together are one.
const BOUNCE: Duration = Duration::from_millis(400);

/// How a command is told to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Take nothing new, finish and commit what is in hand.
    pub drain: CancellationToken,
    /// Leave now: the time to finish is over.
    pub now: CancellationToken,
}

/// What people are told, and how long the first signal waits.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    pub screen: Screen,
    /// Then the time to finish is over.
    pub deadline: Duration,
    /// After the first signal.
    pub first: String,
    /// After the second.
    pub second: &'static str,
}

impl Words {
    /// Those of a command that reads pages.
    pub(crate) fn of_reading(screen: Screen, deadline: Duration, second: &'static str) -> Self {
        let first = format!(
            "Stopping: finishing and committing what is in hand, at most {}. \
             Ctrl-C again leaves at once.\n",
            Span(deadline)
        );
        Self {
            screen,
            deadline,
            first,
            second,
        }
    }
}

/// Listens for signals until the task is dropped with its tracker.
pub(crate) fn listen(tasks: &TaskTracker, words: Words) -> (Stop, JoinHandle<()>) {
    let stop = Stop::default();
    let told = stop.clone();
    let listener = tasks.spawn(async move {
        next().await;
        words.screen.aside(&words.first);
        told.drain.cancel();
        // One press may come twice: to this process and to its group.
        tokio::time::sleep(BOUNCE).await;
        tokio::select! {
            () = next() => leave(&words),
            () = tokio::time::sleep(words.deadline) => told.now.cancel(),
        }
        next().await;
        leave(&words);
    });
    (stop, listener)
}

/// What is not committed is done again by whoever goes on: nothing needs tidying here, and
/// children die with their parent.
#[expect(
    clippy::exit,
    reason = "the second Ctrl-C leaves at once, whatever still runs"
)]
fn leave(words: &Words) {
    words.screen.hide_bars();
    output::tell(words.second);
    std::process::exit(INTERRUPTED);
}

/// The next Ctrl-C or SIGTERM.
pub(crate) async fn next() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return interrupted().await;
        };
        tokio::select! {
            () = interrupted() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    interrupted().await;
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal itself ends the process.
        std::future::pending::<()>().await;
    }
}
