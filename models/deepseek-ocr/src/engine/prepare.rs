//! Pages become views on threads of their own, while the decoder writes others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use quire_core::{PageImage, Stage, Trouble, TroubleCode};
use rayon::ThreadPool;

use super::serve::Part;
use crate::preprocess::{Mode, PageViews};
use crate::prompt::Task;

/// An image, and what is asked about it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) part: Part,
    pub(super) image: Arc<PageImage>,
    pub(super) mode: Mode,
    pub(super) task: Task,
}

/// An image as the vision towers see it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) part: Part,
    pub(super) mode: Mode,
    pub(super) task: Task,
    pub(super) views: Result<PageViews, Trouble>,
    pub(super) spent: Duration,
}

/// Images that are being prepared, a bounded number at a time.
#[derive(Debug)]
pub(super) struct Preparing<'a> {
    pool: &'a ThreadPool,
    sender: SyncSender<Prepared>,
    receiver: Receiver<Prepared>,
    n_running: usize,
    limit: usize,
}

impl<'a> Preparing<'a> {
    pub(super) fn new(pool: &'a ThreadPool, limit: usize) -> Self {
        // As large as the number of jobs, so that no thread of the pool ever waits to hand over.
        let (sender, receiver) = sync_channel(limit);
        Self {
            pool,
            sender,
            receiver,
            n_running: 0,
            limit,
        }
    }

    /// Jobs that are not yet handed over.
    pub(super) fn n_running(&self) -> usize {
        self.n_running
    }

    pub(super) fn has_room(&self) -> bool {
        self.n_running < self.limit
    }

    pub(super) fn start(&mut self, job: Job) {
        self.n_running += 1;
        let sender = self.sender.clone();
        self.pool.spawn(move || {
            // Whoever waited may have gone with a panic of the decoder.
            drop(sender.send(prepare(job)));
        });
    }

    /// What is ready; if `wait` is set and something is on its way, at least that.
    pub(super) fn take(&mut self, wait: bool) -> Option<Prepared> {
        if self.n_running == 0 {
            return None;
        }
        let prepared = if wait {
            self.receiver.recv().ok()
        } else {
            self.receiver.try_recv().ok()
        }?;
        self.n_running -= 1;
        Some(prepared)
    }
}

fn prepare(job: Job) -> Prepared {
    let start = Instant::now();
    let views = catch_unwind(AssertUnwindSafe(|| PageViews::of(&job.image, &job.mode)));
    Prepared {
        part: job.part,
        mode: job.mode,
        task: job.task,
        views: views.map_err(|_| crash("cutting the page into views panicked")),
        spent: start.elapsed(),
    }
}

/// A page that took a part of the engine down which goes on without it.
pub(super) fn crash(message: &str) -> Trouble {
    tracing::error!(message, "page took the engine down");
    Trouble::new(Stage::Recognize, TroubleCode::Crash, message)
}

/// Whether the image is one.
pub(super) fn check(image: &PageImage) -> Result<(), Trouble> {
    let wanted = u64::from(image.width) * u64::from(image.height) * 3;
    if wanted == image.rgb.len() as u64 && wanted > 0 {
        return Ok(());
    }
    let message = format!("{} bytes of pixels for {image:?}", image.rgb.len());
    Err(Trouble::new(
        Stage::Recognize,
        TroubleCode::Damaged,
        message,
    ))
}
