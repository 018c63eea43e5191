//! Third stage of a page: a document becomes upright page images, and the text a PDF carries.
//!
//! Before it: `fetch` and `unpack` give the bytes of one document. After it: `batch`.
//!
//! Documents are hostile until proven otherwise, so nothing here decodes one in this process.
//! A [`RenderPool`] keeps a few child processes that know neither files nor network and die by a
//! limit rather than take the machine along; [`RenderPool::open`] lends one child to one document
//! until the [`OpenDocument`] is dropped. A page that kills its child costs that page a typed
//! [`quire_core::Trouble`], and the next page goes on in a fresh child.
//!
//! The child's side is `serve/`; what the two say to each other is `wire`.

mod child;
mod death;
mod document;
mod fonts;
mod pool;
mod serve;
mod settings;
mod spawner;
mod wire;

pub use document::{OpenDocument, RenderedPage};
pub use fonts::FontFace;
pub use pool::RenderPool;
pub use serve::render_child_main;
pub use settings::{RenderError, RenderSettings};
pub use wire::{OpenedInfo, SandboxStatus};
