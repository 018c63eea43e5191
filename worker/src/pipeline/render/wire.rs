//! What the pool and a child say to each other over the child's stdin and stdout.
//!
//! A frame is a little-endian `u32` length of the head, a `u64` length of the body, the head as
//! JSON and the body raw: document bytes one way, RGB pixels the other. The parent believes no
//! length a child states beyond what it asked for.

use std::io::{self, Read, Write};

use quire_core::{RenderSpec, Rotation, Trouble};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fonts::FontFace;
use crate::pipeline::text_layer::TextLayer;

/// Longest head either side accepts; the text layer of the densest page is far below.
pub(super) const MAX_HEAD_BYTES: u32 = 64 << 20;

/// Bytes before the head: its length and the body's.
pub(super) const PREFIX_BYTES: usize = 12;

/// What the parent asks of a child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// First, once: how to behave from here on.
    Start(ChildSettings),
    /// The body is a document; whatever was open before is closed.
    Open { media_type: String },
    /// Draw a page of the open document.
    Page {
        page_idx: u32,
        spec: RenderSpec,
        with_text: bool,
    },
    /// Forget the open document; not answered.
    Close,
}

/// What a child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Started(SandboxStatus),
    Opened(OpenedInfo),
    /// The body is the page's RGB pixels.
    Page(Box<PageHead>),
    /// The document or page cannot be read. `poisoned` says that the child caught a panic and
    /// must not be used again.
    Failed {
        trouble: Trouble,
        poisoned: bool,
    },
}

/// What a child needs to know before it closes itself off.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ChildSettings {
    pub(super) memory_limit_bytes: u64,
    /// Processor seconds over the child's whole life.
    pub(super) cpu_limit_seconds: u64,
    pub(super) passwords: Vec<String>,
    pub(super) fonts: Vec<FontFace>,
}

/// Which walls stand around the child processes. On systems other than Linux only the limits
/// that the system knows are set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// Memory, processor time, files and core dumps are limited.
    pub limits: bool,
    /// The child cannot gain rights by running another program.
    pub no_new_privileges: bool,
    /// Landlock: no file can be opened.
    pub landlock: bool,
    /// Seccomp: any system call beyond those of computing and talking to the parent kills.
    pub seccomp: bool,
    /// The child ends when its parent does, however that ends.
    pub ends_with_parent: bool,
    /// Why a wall is missing, one sentence each.
    pub missing: Vec<String>,
}

impl SandboxStatus {
    /// Whether every wall stands.
    pub fn is_complete(&self) -> bool {
        self.limits && self.no_new_privileges && self.landlock && self.seccomp
    }
}

/// What is known of a document once it is open.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OpenedInfo {
    /// Pages of a PDF, frames of a TIFF; 1 for other images.
    pub n_pages: u32,
    pub is_encrypted: bool,
    /// A PDF with form fields.
    pub is_form: bool,
    /// Such as `1.7`.
    pub pdf_version: Option<String>,
    pub pdf_producer: Option<String>,
    pub pdf_title: Option<String>,
}

/// A drawn page without its pixels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PageHead {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) dpi: Option<f32>,
    pub(super) rotation: Rotation,
    pub(super) width_pt: Option<f32>,
    pub(super) height_pt: Option<f32>,
    pub(super) text_layer: Option<TextLayer>,
    pub(super) warnings: Vec<String>,
}

/// The prefix and head of a frame whose body has `body_bytes` bytes.
pub(super) fn encode_head<T: Serialize>(head: &T, body_bytes: usize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(head)?;
    let head_bytes = u32::try_from(json.len())
        .ok()
        .filter(|&n| n <= MAX_HEAD_BYTES);
    let head_bytes = head_bytes.ok_or_else(|| io::Error::other("head of a frame is too long"))?;
    let mut frame = Vec::with_capacity(PREFIX_BYTES + json.len());
    frame.extend_from_slice(&head_bytes.to_le_bytes());
    frame.extend_from_slice(&(body_bytes as u64).to_le_bytes());
    frame.extend_from_slice(&json);
    Ok(frame)
}

/// Lengths of head and body.
pub(super) fn decode_prefix(prefix: [u8; PREFIX_BYTES]) -> (u32, u64) {
    let [h0, h1, h2, h3, b0, b1, b2, b3, b4, b5, b6, b7] = prefix;
    (
        u32::from_le_bytes([h0, h1, h2, h3]),
        u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
    )
}

/// Writes a frame and flushes it.
pub(super) fn write_frame<T: Serialize>(
    mut to: impl Write,
    head: &T,
    body: &[u8],
) -> io::Result<()> {
    to.write_all(&encode_head(head, body.len())?)?;
    to.write_all(body)?;
    to.flush()
}

/// Reads a frame; `None` when the other side has closed.
pub(super) fn read_frame<T: DeserializeOwned>(
    mut from: impl Read,
) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut prefix = [0; PREFIX_BYTES];
    match from.read_exact(&mut prefix) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (head_bytes, body_bytes) = decode_prefix(prefix);
    let mut head = vec![0; head_bytes.min(MAX_HEAD_BYTES) as usize];
    from.read_exact(&mut head)?;
    let body_bytes = usize::try_from(body_bytes).map_err(io::Error::other)?;
    let mut body = vec![0; body_bytes];
    from.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&head)?, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_reads_back_with_its_body() {
        let mut wire = Vec::new();
        write_frame(
            &mut wire,
            &Request::Open {
                media_type: "image/png".into(),
            },
            b"bytes",
        )
        .unwrap();
        write_frame(&mut wire, &Request::Close, b"").unwrap();
        let mut from = wire.as_slice();
        let (open, body): (Request, _) = read_frame(&mut from).unwrap().unwrap();
        assert!(matches!(open, Request::Open { media_type } if media_type == "image/png"));
        assert_eq!(body, b"bytes");
        let (close, _): (Request, _) = read_frame(&mut from).unwrap().unwrap();
        assert!(matches!(close, Request::Close));
        assert!(read_frame::<Request>(&mut from).unwrap().is_none());
    }

    #[test]
    fn frame_cut_short_is_an_error() {
        let mut wire = Vec::new();
        write_frame(&mut wire, &Request::Close, b"body").unwrap();
        wire.pop();
        assert!(read_frame::<Request>(wire.as_slice()).is_err());
    }
}
