//! What every call goes through, whichever service it is of: who calls, is there room, answer,
//! measure. A handler that panics costs its own call and nothing else.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use quire_proto::{CallError, Reason, TRACEPARENT, with_traceparent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::config::GrpcLimits;
use super::identity::{IdentityMap, Peer};
use super::metrics::{AT_WORK, CALLS};
use crate::handle::CoordinatorHandle;

/// Shortest time between two log lines about callers that are not known.
const STRANGERS: Duration = Duration::from_secs(5);

/// Where calls arrive; a cheap clone.
#[derive(Clone)]
pub(super) struct Desk {
    inner: Arc<Inner>,
}

struct Inner {
    handle: CoordinatorHandle,
    identities: IdentityMap,
    calls: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    told_of_stranger: Mutex<Option<Instant>>,
}

impl Desk {
    pub(super) fn new(
        handle: CoordinatorHandle,
        identities: IdentityMap,
        limits: &GrpcLimits,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                handle,
                identities,
                calls: Arc::new(Semaphore::new(limits.calls)),
                watches: Arc::new(Semaphore::new(limits.watches)),
                shutdown,
                tasks: TaskTracker::new(),
                told_of_stranger: Mutex::new(None),
            }),
        }
    }

    /// Answers a call to the end, even if the caller goes away meanwhile: half of a change is
    /// safe, but the whole of it is kinder to whoever asks next.
    pub(super) async fn answer<Q, A, F>(
        &self,
        call: &'static str,
        request: Request<Q>,
        work: impl FnOnce(CoordinatorHandle, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        A: Send + 'static,
        F: Future<Output = Result<A, CallError>> + Send + 'static,
    {
        let admitted = self.admit(call, &request)?;
        let traceparent = traceparent(&request);
        let work = work(admitted.handle.clone(), request.into_inner());
        let span = tracing::debug_span!("call", call, traceparent);
        let task = async move {
            let answer = with_traceparent(&traceparent, caught(call, work)).await;
            admitted.done(&answer);
            answer
        };
        let answer = self.inner.tasks.spawn(task.instrument(span)).await;
        // The task itself cannot panic; it is lost when the runtime shuts down.
        let answer = answer.unwrap_or_else(|_| Err(leaving()));
        Ok(Response::new(answer?))
    }

    /// Answers a call that may wait for something to do. It ends with its caller, so that nothing
    /// is given to somebody who is gone, and when this coordinator leaves.
    pub(super) async fn answer_waiting<Q, A, F>(
        &self,
        call: &'static str,
        request: Request<Q>,
        work: impl FnOnce(CoordinatorHandle, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, CallError>> + Send,
    {
        let admitted = self.admit(call, &request)?;
        let traceparent = traceparent(&request);
        let work = work(admitted.handle.clone(), request.into_inner());
        let span = tracing::debug_span!("call", call, traceparent);
        let answer = async {
            tokio::select! {
                biased;
                answer = with_traceparent(&traceparent, caught(call, work)) => answer,
                () = self.inner.shutdown.cancelled() => Err(leaving()),
            }
        };
        let answer = answer.instrument(span).await;
        admitted.done(&answer);
        Ok(Response::new(answer?))
    }

    /// A place among those who watch.
    pub(super) fn watch_place(&self) -> Result<OwnedSemaphorePermit, CallError> {
        let watches = Arc::clone(&self.inner.watches);
        watches.try_acquire_owned().map_err(|_| {
            let message = "too many jobs are watched on this coordinator; ask again later";
            CallError::new(Reason::Quota, message)
        })
    }

    /// Who makes a call; checked here so that calls without a handle can ask, too.
    pub(super) fn handle_for<Q>(
        &self,
        request: &Request<Q>,
    ) -> Result<CoordinatorHandle, CallError> {
        let peer = request.extensions().get::<Peer>();
        let caller = peer
            .unwrap_or(&Peer::Nameless)
            .caller(&self.inner.identities)?;
        Ok(self.inner.handle.on_behalf_of(caller))
    }

    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.inner.shutdown
    }

    /// Waits for the calls at work, but not for ever.
    pub(super) async fn close(&self, longest: Duration) {
        self.inner.tasks.close();
        let wait = self.inner.tasks.wait();
        if tokio::time::timeout(longest, wait).await.is_err() {
            tracing::warn!("calls were still at work when the coordinator left");
        }
    }

    fn admit<Q>(&self, call: &'static str, request: &Request<Q>) -> Result<Admitted, CallError> {
        let admitted = self.room(call, request);
        if let Err(error) = &admitted {
            count(call, error.reason.as_str());
            if error.reason == Reason::IdentityUnknown {
                self.tell_of_stranger(call, error);
            }
        }
        admitted
    }

    /// Who sets a fleet up looks here when a worker is not let in; who tries a door again and
    /// again must not fill the log.
    fn tell_of_stranger(&self, call: &'static str, error: &CallError) {
        let mut told = lock(&self.inner.told_of_stranger);
        if told.is_none_or(|told| told.elapsed() >= STRANGERS) {
            *told = Some(Instant::now());
            tracing::warn!(call, %error, "a caller is not known");
        }
    }

    fn room<Q>(&self, call: &'static str, request: &Request<Q>) -> Result<Admitted, CallError> {
        let handle = self.handle_for(request)?;
        if self.inner.shutdown.is_cancelled() {
            return Err(leaving());
        }
        let calls = Arc::clone(&self.inner.calls);
        let place = calls.try_acquire_owned().map_err(|_| {
            let message = "this coordinator has too many calls at work";
            CallError::new(Reason::Unavailable, message)
        })?;
        metrics::gauge!(AT_WORK).increment(1.0);
        Ok(Admitted {
            call,
            handle,
            _place: place,
        })
    }
}

/// A call that is at work.
struct Admitted {
    call: &'static str,
    handle: CoordinatorHandle,
    _place: OwnedSemaphorePermit,
}

impl Admitted {
    fn done<A>(&self, answer: &Result<A, CallError>) {
        let reason = match answer {
            Ok(_) => "OK",
            Err(error) => error.reason.as_str(),
        };
        count(self.call, reason);
        if let Err(error) = answer {
            tracing::debug!(call = self.call, reason, %error, "a call was refused");
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        metrics::gauge!(AT_WORK).decrement(1.0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(call: &'static str, reason: &'static str) {
    metrics::counter!(CALLS, "call" => call, "reason" => reason).increment(1);
}

/// Runs a handler; a panic of it becomes an error of this one call.
async fn caught<A>(
    call: &'static str,
    work: impl Future<Output = Result<A, CallError>>,
) -> Result<A, CallError> {
    // What the handler shares is behind locks that shrug off poison, or in the store.
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => {
            let said = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(call, panic = said, "a call panicked");
            let message = format!("the coordinator met a bug in {call}; its log says more");
            Err(CallError::new(Reason::Internal, message))
        }
    }
}

/// What callers are told when this coordinator leaves: there may be others.
pub(super) fn leaving() -> CallError {
    CallError::new(Reason::Unavailable, "this coordinator is shutting down")
}

fn traceparent<Q>(request: &Request<Q>) -> String {
    let value = request.metadata().get(TRACEPARENT);
    let text = value.and_then(|value| value.to_str().ok());
    text.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use async_trait::async_trait;
    use quire_core::{SystemClock, Trouble};
    use quire_corpus::Stores;

    use super::*;
    use crate::store::MemoryStore;
    use crate::{Coordinator, CoordinatorConfig, SealSettings, Survey};

    #[derive(Debug)]
    struct NoPages;

    #[async_trait]
    impl Survey for NoPages {
        async fn count_pages(&self, _: bytes::Bytes, _: &str) -> Result<u32, Trouble> {
            Ok(0)
        }
    }

    async fn desk(limits: GrpcLimits) -> Desk {
        let config = CoordinatorConfig::one_machine(SealSettings {
            title: None,
            license: None,
            renderer: "none".into(),
            renderer_version: "1".into(),
            scratch: std::env::temp_dir(),
        });
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock::default())));
        let stores = Stores::open(&BTreeMap::new()).unwrap();
        let opened = Coordinator::open(config, store, stores, Arc::new(NoPages)).await;
        let (_service, handle) = opened.unwrap();
        Desk::new(
            handle,
            IdentityMap::new(),
            &limits,
            CancellationToken::new(),
        )
    }

    fn request() -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(Peer::Plaintext);
        request
    }

    fn broken() -> Result<(), CallError> {
        panic!("a bug")
    }

    fn reason(status: Status) -> Reason {
        CallError::from(status).reason
    }

    #[tokio::test]
    async fn handler_that_panics_costs_its_own_call_and_no_other() {
        let desk = desk(GrpcLimits::default()).await;
        for _ in 0..2 {
            let answer = desk.answer("broken", request(), |_, ()| async { broken() });
            assert_eq!(reason(answer.await.unwrap_err()), Reason::Internal);
            let answer = desk.answer_waiting("broken", request(), |_, ()| async { broken() });
            assert_eq!(reason(answer.await.unwrap_err()), Reason::Internal);
        }
        let answer = desk.answer("fine", request(), |_, ()| async { Ok(7) });
        assert_eq!(answer.await.unwrap().into_inner(), 7);
    }

    #[tokio::test]
    async fn calls_beyond_the_limit_are_told_to_come_back() {
        let desk = desk(GrpcLimits {
            calls: 1,
            ..GrpcLimits::default()
        })
        .await;
        let (first, second) = tokio::join!(
            desk.answer_waiting("first", request(), |_, ()| async {
                tokio::task::yield_now().await;
                Ok(())
            }),
            desk.answer_waiting("second", request(), |_, ()| async { Ok(()) }),
        );
        first.unwrap();
        assert_eq!(reason(second.unwrap_err()), Reason::Unavailable);
        let third = desk.answer_waiting("third", request(), |_, ()| async { Ok(()) });
        third.await.unwrap();
    }

    #[tokio::test]
    async fn change_is_made_to_the_end_though_its_caller_leaves() {
        let desk = desk(GrpcLimits::default()).await;
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (ended, ends) = tokio::sync::oneshot::channel();
        let (go_on, goes_on) = tokio::sync::oneshot::channel::<()>();
        let call = desk.answer("commit", request(), |_, ()| async move {
            begun.send(()).unwrap();
            goes_on.await.unwrap();
            ended.send(()).unwrap();
            Ok(())
        });
        tokio::select! {
            answer = call => panic!("it cannot have ended: {answer:?}"),
            begun = begins => begun.unwrap(),
        }
        go_on.send(()).unwrap();
        ends.await.unwrap();
    }

    #[tokio::test]
    async fn calls_that_arrive_late_are_sent_elsewhere() {
        let desk = desk(GrpcLimits::default()).await;
        let waiting = desk.answer_waiting("acquire", request(), |_, ()| async {
            std::future::pending::<()>().await;
            Ok(())
        });
        let leave = async { desk.shutdown().cancel() };
        let (waiting, ()) = tokio::join!(waiting, leave);
        assert_eq!(reason(waiting.unwrap_err()), Reason::Unavailable);
        let late = desk.answer("late", request(), |_, ()| async { Ok(()) });
        assert_eq!(reason(late.await.unwrap_err()), Reason::Unavailable);
    }
}
