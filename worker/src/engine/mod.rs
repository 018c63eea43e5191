//! The engines of a worker behind one door: pages go in from async code, answers come back to
//! whoever asked, whichever engine thread was free.

mod ladder;
mod thread;

pub use ladder::{Ladder, Rung};

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

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

/// Panics with no page read in between that an engine may have. A page may be at fault once, and so
/// may a few; a device that is lost would cost every page that comes.
const MOST_FUTILE_PANICS: u32 = 5;

const ENDED: &str = "its threads have ended";

/// What the pool and its threads both see.
struct Shared {
    info: EngineInfo,
    takes_known_lines: bool,
    /// Where the engines run, each once.
    devices: Vec<String>,
    in_flight: usize,
    /// Threads that have not ended.
    n_living: AtomicUsize,
    /// What the first engine that gave up said.
    last_words: OnceLock<String>,
    permits: Semaphore,
    next_ticket: AtomicU64,
    /// Steps that engines took with pages they hold, those of all engines together.
    steps: Arc<AtomicU64>,
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

    /// Answers everybody who waits: nobody else will.
    fn settle_all(&self, message: &str) {
        let waiting: Vec<_> = self.waiting().drain().collect();
        for (_, asker) in waiting {
            drop(asker.send(Err(message.to_owned())));
        }
    }
}

impl EnginePool {
    /// Starts one thread an engine, all on this machine's processor.
    ///
    /// # Errors
    /// As [`Self::start_on`].
    pub fn start(engines: Vec<Box<dyn Engine>>) -> Result<Self> {
        let on_cpu = |engine| ("cpu".to_owned(), engine);
        Self::start_on(engines.into_iter().map(on_cpu).collect())
    }

    /// Starts one thread an engine, each with the device it runs on, such as `cuda:0`. All
    /// engines must be of one kind: they share the queue.
    ///
    /// # Errors
    /// When `engines` is empty or a thread cannot be started.
    pub fn start_on(engines: Vec<(String, Box<dyn Engine>)>) -> Result<Self> {
        let Some((_, first)) = engines.first() else {
            return Err(Error::Engine {
                message: "no engine was given".into(),
                fault: Fault::Config,
            });
        };
        let in_flight: usize = engines
            .iter()
            .map(|(_, engine)| engine.pages_in_flight().max(1))
            .sum();
        let mut devices: Vec<String> = Vec::new();
        for (device, _) in &engines {
            if !devices.contains(device) {
                devices.push(device.clone());
            }
        }
        let (queue, pages) = crossbeam_channel::bounded(in_flight);
        let shared = Arc::new(Shared {
            info: first.info().clone(),
            takes_known_lines: first.takes_known_lines(),
            devices,
            in_flight,
            n_living: AtomicUsize::new(engines.len()),
            last_words: OnceLock::new(),
            permits: Semaphore::new(in_flight),
            next_ticket: AtomicU64::new(0),
            steps: Arc::default(),
            waiting: Mutex::new(HashMap::new()),
        });
        for (index, (device, engine)) in engines.into_iter().enumerate() {
            let (shared, pages) = (Arc::clone(&shared), pages.clone());
            std::thread::Builder::new()
                .name(format!("engine-{index}"))
                .spawn(move || thread::run(engine, device, &shared, pages))
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

    /// Where the engines run, each once.
    pub fn devices(&self) -> Vec<String> {
        self.shared.devices.clone()
    }

    /// Whether lines of a trusted text layer are taken as a page's text.
    pub(crate) fn takes_known_lines(&self) -> bool {
        self.shared.takes_known_lines
    }

    /// Whether every engine has given up: no page will be read any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.shared.n_living.load(Ordering::Acquire) == 0
    }

    /// Grows with every step that an engine takes with pages it holds.
    pub(crate) fn steps(&self) -> &Arc<AtomicU64> {
        &self.shared.steps
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
        self.ask(image, known_lines, None).await
    }

    /// Reads one page in a mode that the engines take beside their own.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_in_mode(
        &self,
        image: Arc<PageImage>,
        mode: &str,
    ) -> Result<std::result::Result<Recognition, Trouble>> {
        self.ask(image, None, Some(mode.to_owned())).await
    }

    async fn ask(
        &self,
        image: Arc<PageImage>,
        known_lines: Option<Vec<Line>>,
        mode: Option<String>,
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
            mode,
        };
        if self.queue.try_send(request).is_err() {
            self.shared.waiting().remove(&ticket);
            let last_words = self.shared.last_words.get();
            return Err(gone(last_words.map_or(ENDED, String::as_str)));
        }
        let answer = answer.await.map_err(|_| gone(ENDED))?;
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

#[cfg(test)]
mod tests {
    use quire_core::{AnswerSink, EngineError, PageSource};

    use super::*;

    /// Takes one page, and gives up or panics.
    struct Lost {
        info: EngineInfo,
        panics: bool,
    }

    impl Lost {
        fn pool(panics: bool) -> EnginePool {
            let info = EngineInfo {
                name: "lost".into(),
                version: String::new(),
                model_id: String::new(),
                model_revision: String::new(),
                mode: String::new(),
            };
            let engine = Box::new(Self { info, panics }) as Box<dyn Engine>;
            EnginePool::start_on(vec![("cuda:1".into(), engine)]).unwrap()
        }
    }

    fn image() -> Arc<PageImage> {
        Arc::new(PageImage {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
            dpi: None,
        })
    }

    impl Engine for Lost {
        fn info(&self) -> &EngineInfo {
            &self.info
        }

        fn pages_in_flight(&self) -> usize {
            4
        }

        fn serve(
            &mut self,
            pages: &mut dyn PageSource,
            _: &mut dyn AnswerSink,
        ) -> std::result::Result<(), EngineError> {
            pages.next();
            assert!(!self.panics, "the driver is gone");
            Err(EngineError {
                engine: "lost".into(),
                message: "the device is lost".into(),
                fault: Fault::Bug,
            })
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_an_engine_that_is_lost() {
        let pool = Lost::pool(false);
        assert_eq!(pool.devices(), ["cuda:1"]);
        let read = || pool.read(image(), None);
        let (a, b, c) = tokio::join!(read(), read(), read());
        assert!(a.is_err() && b.is_err() && c.is_err());
        assert!(read().await.is_err());
        assert!(pool.is_lost());
    }

    #[tokio::test]
    async fn engine_that_only_panics_costs_a_few_pages_and_is_lost() {
        let pool = Lost::pool(true);
        for number in 1..MOST_FUTILE_PANICS {
            let read = pool.read(image(), None).await;
            let trouble = read.unwrap().unwrap_err();
            assert_eq!(
                trouble.code,
                quire_core::TroubleCode::Crash,
                "page {number}"
            );
            assert!(!pool.is_lost());
        }
        let error = pool.read(image(), None).await.unwrap_err().to_string();
        assert!(error.contains("panicked 5 times"), "{error}");
        assert!(pool.is_lost());
    }
}
