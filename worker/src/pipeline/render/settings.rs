//! What the pool of renderers is told at start, and why it may not start.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use quire_core::{Fault, Faulty};
use thiserror::Error;

use super::fonts::FontFace;
use super::wire::ChildSettings;

/// How documents are drawn, and within which limits.
#[derive(Debug, Clone)]
pub struct RenderSettings {
    /// Program that calls [`super::render_child_main`]; in the product this program itself.
    pub program: PathBuf,
    /// What makes `program` do so.
    pub args: Vec<String>,
    /// Address space of one child.
    pub memory_limit_bytes: u64,
    /// Wall clock of one page.
    pub page_timeout: Duration,
    /// Wall clock of opening a document.
    pub open_timeout: Duration,
    /// Tried on encrypted PDFs in this order, after the empty one.
    pub passwords: Vec<String>,
    /// Fonts for PDFs that name a font without holding it; Chinese, Japanese and Korean need it.
    pub font_folder: Option<PathBuf>,
    /// Do not start unless every wall of the sandbox stands.
    pub require_sandbox: bool,
    /// Documents that can be open at once.
    pub children: usize,
}

impl RenderSettings {
    /// What each child is told.
    pub(super) fn for_child(&self, fonts: Vec<FontFace>) -> ChildSettings {
        // A backstop for a child whose parent cannot kill it. It counts the child's whole life;
        // the pool replaces a child long before it gets there.
        let longest = self.page_timeout.max(self.open_timeout).as_secs();
        ChildSettings {
            memory_limit_bytes: self.memory_limit_bytes,
            cpu_limit_seconds: 2 * longest + CPU_ALLOWANCE.as_secs(),
            passwords: self.passwords.clone(),
            fonts,
        }
    }
}

/// Processor time after which a child is replaced between two pages.
pub(super) const CPU_ALLOWANCE: Duration = Duration::from_secs(600);

/// The pool of renderers cannot start.
#[derive(Debug, Error)]
pub enum RenderError {
    #[error("cannot read the font folder {folder}")]
    Fonts {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start the renderer {program}")]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the renderer {program} ended before it was ready: {reason}")]
    Ended { program: PathBuf, reason: String },
    #[error("the sandbox is required and incomplete: {missing}")]
    Sandbox { missing: String },
    #[error("render.children must be at least 1")]
    NoChildren,
}

impl Faulty for RenderError {
    fn fault(&self) -> Fault {
        match self {
            Self::Fonts { .. } | Self::Sandbox { .. } | Self::NoChildren => Fault::Config,
            Self::Spawn { .. } => Fault::Unavailable,
            Self::Ended { .. } => Fault::Bug,
        }
    }
}
