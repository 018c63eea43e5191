//! A worker's session with the coordinator, and how sure the worker may be that it still lives.

use std::time::Duration;

use quire_core::{EngineInfo, SessionId};
use quire_proto::v1::{self, RegisterRequest, RegisterResponse};
use quire_proto::{CallError, WorkerCalls};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;

/// What the worker says of itself when it registers.
pub(crate) fn introduction(
    config: &WorkerConfig,
    engine: &EngineInfo,
    devices: Vec<String>,
) -> RegisterRequest {
    RegisterRequest {
        worker_name: config.name.clone(),
        node: config.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engines: vec![v1::EngineInfo::from(engine)],
        devices,
        pages_per_second_hint: 0.0,
    }
}

/// A session as the coordinator opened it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) heartbeat_period: Duration,
    /// Shards that may be held beyond the ones worked on.
    pub(crate) max_prefetch: usize,
    /// Without a heartbeat for this long the leases are given to others.
    ttl: Duration,
    /// When the newest heartbeat that was answered was sent: the coordinator's count of the time
    /// to live began later than that.
    alive_at: watch::Sender<Instant>,
    nudge: Notify,
    /// Cancelled when the coordinator says that the session is over.
    pub(crate) lost: CancellationToken,
}

impl Session {
    /// Opens a session; one try.
    pub(crate) async fn open(
        calls: &dyn WorkerCalls,
        introduction: RegisterRequest,
    ) -> Result<Self, CallError> {
        let sent = Instant::now();
        let answer = calls.register(introduction).await?;
        tracing::debug!(
            session_id = answer.session_id,
            incarnation = answer.incarnation,
            "registered"
        );
        metrics::counter!("quire_worker_sessions_total").increment(1);
        Ok(Self::from_answer(answer, sent))
    }

    fn from_answer(answer: RegisterResponse, sent: Instant) -> Self {
        let period = Duration::from_millis(answer.heartbeat_period_ms.max(1));
        // A coordinator that does not say is taken at its shortest sensible word.
        let ttl = match answer.session_ttl_ms {
            0 => period * 3,
            ttl => Duration::from_millis(ttl),
        };
        Self {
            id: SessionId::new(answer.session_id),
            heartbeat_period: period,
            max_prefetch: answer.max_prefetch as usize,
            ttl,
            alive_at: watch::Sender::new(sent),
            nudge: Notify::new(),
            lost: CancellationToken::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(answer: RegisterResponse) -> Self {
        Self::from_answer(answer, Instant::now())
    }

    /// A heartbeat that was sent then has been answered.
    pub(crate) fn answered(&self, sent: Instant) {
        self.alive_at.send_replace(sent);
    }

    /// Time after which a silent session's leases are given to others.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Waits until the session is known to live, or to be over. After a time without answers,
    /// be it that the coordinator was away or that this process slept, somebody else may have
    /// its leases: nothing is committed until a heartbeat has settled that.
    pub(crate) async fn certain(&self) {
        let mut alive_at = self.alive_at.subscribe();
        loop {
            if self.lost.is_cancelled() || alive_at.borrow_and_update().elapsed() < self.ttl {
                return;
            }
            self.beat_soon();
            tokio::select! {
                () = self.lost.cancelled() => return,
                changed = alive_at.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Asks for a heartbeat before its time.
    pub(crate) fn beat_soon(&self) {
        self.nudge.notify_one();
    }

    /// Waits until somebody wants a heartbeat.
    pub(crate) async fn wants_beat(&self) {
        self.nudge.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn session(ttl_ms: u64) -> Session {
        let answer = RegisterResponse {
            session_ttl_ms: ttl_ms,
            heartbeat_period_ms: 1000,
            ..RegisterResponse::default()
        };
        Session::for_test(answer)
    }

    #[tokio::test]
    async fn a_silent_session_is_certain_again_after_an_answer_or_its_end() {
        let session = session(60_000);
        let long_ago = || Instant::now() - Duration::from_secs(61);
        let is_certain = || session.certain().now_or_never().is_some();
        assert!(is_certain());
        session.answered(long_ago());
        assert!(!is_certain());
        // It asked for a heartbeat itself.
        assert!(session.wants_beat().now_or_never().is_some());
        session.answered(Instant::now());
        assert!(is_certain());
        session.answered(long_ago());
        session.lost.cancel();
        assert!(is_certain());
    }
}
