//! The pool: a bounded number of child processes, each lent to one document at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quire_core::{Stage, Trouble, TroubleCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::child::Child;
use super::document::OpenDocument;
use super::fonts;
use super::settings::{RenderError, RenderSettings};
use super::spawner::Spawner;
use super::wire::{ChildSettings, SandboxStatus};

/// Opens documents in sandboxed child processes. Clones share the children.
#[derive(Debug, Clone)]
pub struct RenderPool {
    shared: Arc<Shared>,
}

/// What the pool and its open documents share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: RenderSettings,
    child_settings: ChildSettings,
    sandbox: SandboxStatus,
    spawner: Spawner,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Child>>,
}

impl RenderPool {
    /// Reads the font folder and starts the first child; the others start when they are needed.
    ///
    /// # Errors
    /// When the child's program does not start, the font folder cannot be read, or the sandbox is
    /// required and a wall is missing.
    pub async fn start(settings: RenderSettings) -> Result<Self, RenderError> {
        if settings.children == 0 {
            return Err(RenderError::NoChildren);
        }
        let faces = fonts::index(settings.font_folder.as_deref()).await?;
        let child_settings = settings.for_child(faces);
        let spawner = Spawner::new(&settings).map_err(|source| RenderError::Spawn {
            program: settings.program.clone(),
            source,
        })?;
        let first = Child::start(&spawner, &settings, &child_settings).await?;
        let sandbox = first.sandbox.clone();
        if settings.require_sandbox && !sandbox.is_complete() {
            return Err(RenderError::Sandbox {
                missing: sandbox.missing.join("; "),
            });
        }
        let permits = Arc::new(Semaphore::new(settings.children));
        let idle = Mutex::new(vec![first]);
        let shared = Shared {
            settings,
            child_settings,
            sandbox,
            spawner,
            permits,
            idle,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Which walls stand around the children.
    pub fn sandbox_status(&self) -> SandboxStatus {
        self.shared.sandbox.clone()
    }

    /// Opens a document, waiting for a free child. The child is the document's until it is
    /// dropped: whoever opens a second document while holding the last child waits for ever, so
    /// hold one at a time, or have as many children as documents.
    ///
    /// # Errors
    /// A document that cannot be opened is a [`Trouble`] at [`Stage::Open`].
    pub async fn open(&self, bytes: Bytes, media_type: &str) -> Result<OpenDocument, Trouble> {
        // A document is held by the child, and parts of it again as they are unpacked.
        if bytes.len() as u64 > self.shared.settings.memory_limit_bytes / 2 {
            let message = format!(
                "{} bytes are more than half of the memory that a renderer may use",
                bytes.len()
            );
            return Err(Trouble::new(Stage::Open, TroubleCode::TooLarge, message));
        }
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        OpenDocument::open(
            Arc::clone(&self.shared),
            permit,
            bytes,
            media_type.to_owned(),
        )
        .await
    }
}

impl Shared {
    /// A child fit for a document: an idle one or a new one. Needs a permit in hand.
    pub(super) async fn child(&self) -> Result<Child, Trouble> {
        while let Some(mut child) = self.take_idle() {
            if !child.is_worn() {
                return Ok(child);
            }
        }
        self.new_child().await
    }

    /// A child that has done nothing yet.
    pub(super) async fn new_child(&self) -> Result<Child, Trouble> {
        // Starting fails when the machine is short of something, which passes.
        let mut failure = None;
        for wait in [
            Duration::ZERO,
            Duration::from_millis(200),
            Duration::from_secs(2),
        ] {
            tokio::time::sleep(wait).await;
            match Child::start(&self.spawner, &self.settings, &self.child_settings).await {
                Ok(child) if self.settings.require_sandbox && !child.sandbox.is_complete() => {
                    failure = Some("its sandbox is incomplete".to_owned());
                }
                Ok(child) => return Ok(child),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        let reason = failure.unwrap_or_default();
        let message = format!("no renderer could be started: {reason}");
        Err(Trouble::new(Stage::Open, TroubleCode::Crash, message))
    }

    fn take_idle(&self) -> Option<Child> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    /// Takes a child back, or lets it go when it cannot be used again.
    pub(super) fn give_back(&self, mut child: Child, permit: OwnedSemaphorePermit) {
        if child.close_document() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(child);
        }
        // After the push, so that whoever is woken finds the child.
        drop(permit);
    }
}
