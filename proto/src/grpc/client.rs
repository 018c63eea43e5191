//! The client: carries one call at a time to whichever coordinator answers.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use prost::Message;
use quire_core::Fault;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::MAX_MESSAGE_BYTES;
use super::endpoint::Endpoint;
use super::retry::{self, Next, Outcome};
use crate::calls::{CallError, Reason};
use crate::trace::{TRACEPARENT, current_traceparent};

/// How a call is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Longest time of one try.
    pub(super) deadline: Duration,
    /// Whether it may be repeated when nobody knows what became of it. Repeating the others is
    /// not wrong, only wasteful: a session or leases that nobody knows of until they expire.
    pub(super) is_idempotent: bool,
    /// Sent once and never repeated in here: the caller repeats it and counts.
    pub(super) is_once: bool,
}

/// The way to coordinators over the network; a cheap clone.
///
/// Implements every call trait. A call is carried to the coordinator that answered last; if that
/// one is away the others are asked in turn. Tries are few and end within seconds: callers that
/// can wait longer repeat a call that failed as [`Fault::Unavailable`].
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    routes: Vec<Route>,
    /// The route that is asked first.
    current: AtomicUsize,
    chance: AtomicU64,
}

/// The way to one coordinator.
struct Route {
    url: String,
    /// Another one when certificates have changed; calls at work keep the one they began with.
    channel: RwLock<Channel>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = self.shared.routes.iter().map(|route| &*route.url).collect();
        f.debug_struct("Client").field("urls", &urls).finish()
    }
}

impl Client {
    /// A client of the coordinators at `endpoint`. Connections are made when they are needed: a
    /// coordinator that is away is no error here.
    ///
    /// # Errors
    /// When a URL or certificate cannot be used, or plaintext would leave this machine.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, CallError> {
        Ok(Self::over(endpoint.channels()?))
    }

    /// Uses other certificates for calls from now on, and calls at work end as they began.
    /// `endpoint` must have the URLs that the client was made with.
    ///
    /// # Errors
    /// When a certificate cannot be used, or the URLs are others. Then everything stays as it is.
    pub fn change_certificates(&self, endpoint: &Endpoint) -> Result<(), CallError> {
        let fresh = endpoint.channels()?;
        let routes = &self.shared.routes;
        let urls = fresh.iter().map(|(url, _)| url);
        if !urls.eq(routes.iter().map(|route| &route.url)) {
            let message = "a client does not change its coordinators, only its certificates";
            return Err(CallError::new(Reason::Internal, message));
        }
        for (route, (_, channel)) in routes.iter().zip(fresh) {
            let mut known = route
                .channel
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *known = channel;
        }
        Ok(())
    }

    /// A client over a channel that the caller made, as simulated networks need.
    pub fn with_channel(channel: Channel) -> Self {
        Self::with_channels([channel])
    }

    /// As [`Self::with_channel`] with one channel for each coordinator, of which there must be
    /// one at least.
    ///
    /// # Panics
    /// When there is none.
    pub fn with_channels(channels: impl IntoIterator<Item = Channel>) -> Self {
        let routes: Vec<(String, Channel)> = channels
            .into_iter()
            .map(|channel| ("the coordinator".to_owned(), channel))
            .collect();
        assert!(!routes.is_empty(), "a client needs a channel");
        Self::over(routes)
    }

    fn over(routes: Vec<(String, Channel)>) -> Self {
        let routes = routes
            .into_iter()
            .map(|(url, channel)| Route {
                url,
                channel: RwLock::new(channel),
            })
            .collect();
        Self {
            shared: Arc::new(Shared {
                routes,
                current: AtomicUsize::new(0),
                chance: AtomicU64::new(RandomState::new().hash_one(0_u8)),
            }),
        }
    }

    /// Draws the chance in pauses from `seed`, so that a simulation can be run again.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        self.shared.chance.store(seed, Ordering::Relaxed);
        self
    }

    /// Carries a call until it is answered or the tries are used up.
    pub(super) async fn carry<Q, A>(
        &self,
        manner: Manner,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> BoxFuture<'static, Result<Response<A>, Status>>,
    ) -> Result<A, CallError>
    where
        Q: Clone + Message,
    {
        let bytes = request.encoded_len();
        if bytes > MAX_MESSAGE_BYTES {
            // Sending it would only show as a broken stream.
            return Err(CallError::new(
                Reason::MessageTooLarge,
                format!("the request takes {bytes} bytes, and {MAX_MESSAGE_BYTES} are allowed"),
            ));
        }
        let n_routes = self.n_routes();
        let mut tried = 0;
        loop {
            let (route, channel) = self.route();
            let mut request = traced(Request::new(request.clone()));
            request.set_timeout(manner.deadline);
            let answer = tokio::time::timeout(manner.deadline, send(channel, request)).await;
            tried += 1;
            let (error, outcome) = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => self.judged(status, manner, route),
                Err(_) => self.judged(late(manner), manner, route),
            };
            match retry::next(outcome, tried, n_routes, self.jitter()) {
                _ if manner.is_once => return Err(error),
                Next::GiveUp => return Err(error),
                Next::Again(pause) => {
                    tracing::debug!(%error, tried, "a call was not answered, trying again");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    pub(super) fn n_routes(&self) -> u32 {
        u32::try_from(self.shared.routes.len()).unwrap_or(u32::MAX)
    }

    /// The route that is asked now.
    pub(super) fn route(&self) -> (usize, Channel) {
        let n_routes = self.shared.routes.len();
        let route = self.shared.current.load(Ordering::Relaxed) % n_routes;
        let channel = self.shared.routes[route]
            .channel
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        (route, channel)
    }

    /// What a failed try means. One that nobody answered moves every later call to the next
    /// coordinator.
    pub(super) fn judged(
        &self,
        status: Status,
        manner: Manner,
        route: usize,
    ) -> (CallError, Outcome) {
        let is_late = status.code() == Code::DeadlineExceeded
            || (status.code() == Code::Cancelled && status.message().contains("imeout"));
        let mut error = CallError::from(status);
        let outcome = match (error.fault, error.reason) {
            _ if is_late => Outcome::Deadline {
                is_idempotent: manner.is_idempotent,
            },
            (Fault::Unavailable, _) => Outcome::Unavailable {
                retry_after: error.retry_after,
            },
            (_, Reason::Quota) => Outcome::Exhausted {
                retry_after: error.retry_after,
            },
            _ => Outcome::Answered,
        };
        if matches!(
            outcome,
            Outcome::Unavailable { .. } | Outcome::Deadline { .. }
        ) {
            let next = (route + 1) % self.shared.routes.len();
            // If another call moved on already, that stands.
            let moved = self.shared.current.compare_exchange(
                route,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if moved.is_ok() && next != route {
                tracing::info!(
                    from = self.shared.routes[route].url,
                    to = self.shared.routes[next].url,
                    %error,
                    "going to the next coordinator"
                );
            }
        }
        if error.fault == Fault::Unavailable || error.reason == Reason::IdentityUnknown {
            error.message = format!("{}: {}", self.shared.routes[route].url, error.message);
        }
        (error, outcome)
    }

    /// A number in `0..1` (SplitMix64).
    pub(super) fn jitter(&self) -> f64 {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let before = self.shared.chance.fetch_add(step, Ordering::Relaxed);
        let mut z = before.wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        f64::from(u32::try_from(z >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }
}

/// Adds the trace context that the caller works under.
pub(super) fn traced<Q>(mut request: Request<Q>) -> Request<Q> {
    if let Some(value) = current_traceparent().and_then(|text| MetadataValue::try_from(text).ok()) {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    request
}

pub(super) fn late(manner: Manner) -> Status {
    Status::deadline_exceeded(format!("no answer within {} s", manner.deadline.as_secs()))
}
