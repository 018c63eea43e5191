//! One thread that owns some state and works on it in order, for async code that must not
//! compute. Spreading the same work over a pool of threads costs several times the memory,
//! because each thread's allocator keeps what was freed on it.

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};

type Step<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread with a state of its own.
#[derive(Debug)]
pub(crate) struct Strand<S> {
    steps: mpsc::Sender<Step<S>>,
    thread: tokio::task::JoinHandle<S>,
}

/// The answer of a step that was started.
#[derive(Debug)]
pub(crate) struct Started<T>(oneshot::Receiver<T>);

impl<S: Send + 'static> Strand<S> {
    pub(crate) fn new(mut state: S) -> Self {
        let (steps, mut waiting) = mpsc::channel::<Step<S>>(1);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(step) = waiting.blocking_recv() {
                step(&mut state);
            }
            state
        });
        Self { steps, thread }
    }

    /// Starts a step; waits only while another one waits to be started.
    pub(crate) async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<Started<T>> {
        let (answer, started) = oneshot::channel();
        let step: Step<S> = Box::new(move |state| {
            // Nobody may be left who waits for the answer: then nobody needs it.
            drop(answer.send(work(state)));
        });
        self.steps.send(step).await.map_err(|_| ended())?;
        Ok(Started(started))
    }

    /// Does a step.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T> {
        self.start(work).await?.answer().await
    }

    /// Ends the thread and gives the state back.
    pub(crate) async fn finish(self) -> Result<S> {
        drop(self.steps);
        self.thread
            .await
            .map_err(|error| Error::Bug(format!("work on rows ended early: {error}")))
    }
}

impl<T> Started<T> {
    /// Waits until the step is done.
    pub(crate) async fn answer(self) -> Result<T> {
        self.0.await.map_err(|_| ended())
    }
}

fn ended() -> Error {
    Error::Bug("work on rows ended early".to_owned())
}

/// Runs work that computes or waits for a disk, off the threads that serve the store.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Bug(format!("work on rows ended early: {error}"))),
    }
}
