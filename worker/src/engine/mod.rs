//! The engines of a worker behind one door: pages go in from async code, answers come back to
//! whoever asked, whichever engine thread was free.

mod thread;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use quire_core::{Engine, EngineInfo, Fault, Line, PageImage, PageRequest, Recognition, Trouble};
use tokio::sync::{Semaphore, oneshot};

use crate::error::{Error, Result};

/// What an engine said of a page, or why no engine can answer any more.
type Answer = std::result::Result<std::result::Result<Recognition, Trouble>, String>;

/// Engines on their own threads, fed from one bounded queue.
#[derive(Clone)]
pub struct EnginePool {
    shared: Arc<Shared>,
    queue: crossbeam_channel::Sender<PageRequest>,
}

/// What the pool and its threads both see.
struct Shared {
    info: EngineInfo,
    in_flight: usize,
    permits: Semaphore,
    next_ticket: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.waiting
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn settle(&self, ticket: u64, answer: Answer) {
        if let Some(asker) = self.waiting().remove(&ticket) {
            // The asker may have gone: its shard was abandoned.
            drop(asker.send(answer));
        }
    }
}

impl EnginePool {
    /// Starts one thread an engine. All engines must be of one kind: they share the queue.
    ///
    /// # Errors
    /// When `engines` is empty or a thread cannot be started.
    pub fn start(engines: Vec<Box<dyn Engine>>) -> Result<Self> {
        let Some(first) = engines.first() else {
            return Err(Error::Engine {
                message: "no engine was given".into(),
                fault: Fault::Config,
            });
        };
        let in_flight: usize = engines
            .iter()
            .map(|engine| engine.pages_in_flight().max(1))
            .sum();
        let (queue, pages) = crossbeam_channel::bounded(in_flight);
        let shared = Arc::new(Shared {
            info: first.info().clone(),
            in_flight,
            permits: Semaphore::new(in_flight),
            next_ticket: AtomicU64::new(0),
            waiting: Mutex::new(HashMap::new()),
        });
        for (index, engine) in engines.into_iter().enumerate() {
            let (shared, pages) = (Arc::clone(&shared), pages.clone());
            std::thread::Builder::new()
                .name(format!("engine-{index}"))
                .spawn(move || thread::run(engine, &shared, pages))
                .map_err(|source| Error::Engine {
                    message: format!("cannot start an engine thread: {source}"),
                    fault: Fault::Unavailable,
                })?;
        }
        Ok(Self { shared, queue })
    }

    /// Who reads.
    pub fn info(&self) -> &EngineInfo {
        &self.shared.info
    }

    /// Pages that are worth preparing at once.
    pub fn pages_in_flight(&self) -> usize {
        self.shared.in_flight
    }

    /// Reads one page; waits while the engines have as many pages as they like.
    ///
    /// # Errors
    /// The inner error is a page that cannot be read; the outer one an engine that cannot go on.
    pub async fn read(
        &self,
        image: Arc<PageImage>,
        known_lines: Option<Vec<Line>>,
    ) -> Result<std::result::Result<Recognition, Trouble>> {
        let gone = |message: &str| Error::Engine {
            message: format!("{}: {message}", self.shared.info.name),
            fault: Fault::Bug,
        };
        let permit = self
            .shared
            .permits
            .acquire()
            .await
            .map_err(|_| gone("the pool closed"))?;
        let ticket = self.shared.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = oneshot::channel();
        self.shared.waiting().insert(ticket, asker);
        let request = PageRequest {
            ticket,
            image,
            known_lines,
        };
        if self.queue.try_send(request).is_err() {
            self.shared.waiting().remove(&ticket);
            return Err(gone("its threads have ended"));
        }
        let answer = answer.await.map_err(|_| gone("its threads have ended"))?;
        drop(permit);
        answer.map_err(|message| gone(&message))
    }
}

impl std::fmt::Debug for EnginePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnginePool")
            .field("info", &self.shared.info)
            .finish_non_exhaustive()
    }
}
