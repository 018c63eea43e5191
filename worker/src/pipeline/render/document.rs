//! An open document: a child lent to it, and its bytes in case the child dies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quire_core::{PageImage, RenderSpec, Rotation, Stage, Trouble};
use tokio::sync::OwnedSemaphorePermit;

use super::child::Child;
use super::death::Death;
use super::pool::Shared;
use super::wire::{Answer, OpenedInfo, PageHead, Request};
use crate::pipeline::text_layer::TextLayer;

/// A page as pixels, upright as far as the file itself says.
#[derive(Debug, Clone)]
pub struct RenderedPage {
    pub image: PageImage,
    /// Turn that the file asks for (`/Rotate`, EXIF); already applied.
    pub rotation: Rotation,
    /// Size of the upright page in points, 1/72 inch; `None` for images that state no plausible
    /// resolution.
    pub width_pt: Option<f32>,
    pub height_pt: Option<f32>,
    /// Text that the page carries; only of PDFs and only when asked for.
    pub text_layer: Option<TextLayer>,
    /// What was left out of the picture, for people.
    pub warnings: Vec<String>,
    /// Time from asking to having the pixels.
    pub render: Duration,
}

/// A document that is open in a child of its own. Dropping it gives the child back.
#[derive(Debug)]
pub struct OpenDocument {
    shared: Arc<Shared>,
    /// Taken only by `drop`.
    permit: Option<OwnedSemaphorePermit>,
    /// `None` after a page that took the child down, until the next page is asked for.
    child: Option<Child>,
    /// Nothing but this opening has happened in the child.
    is_child_fresh: bool,
    bytes: Bytes,
    media_type: String,
    info: OpenedInfo,
}

impl OpenDocument {
    pub(super) async fn open(
        shared: Arc<Shared>,
        permit: OwnedSemaphorePermit,
        bytes: Bytes,
        media_type: String,
    ) -> Result<Self, Trouble> {
        let info = OpenedInfo::default();
        let permit = Some(permit);
        let mut document = Self {
            shared,
            permit,
            child: None,
            is_child_fresh: true,
            bytes,
            media_type,
            info,
        };
        let child = document.shared.child().await?;
        document.info = match document.open_in(child).await {
            Err(Failed::Died {
                death,
                was_fresh: false,
            }) if death.may_come_from_earlier_work() => document
                .reopen()
                .await
                .map_err(|failed| failed.into_trouble(Stage::Open))?,
            other => other.map_err(|failed| failed.into_trouble(Stage::Open))?,
        };
        Ok(document)
    }

    /// What is known of the document.
    pub fn info(&self) -> &OpenedInfo {
        &self.info
    }

    /// Draws page `page_idx` (from 0).
    ///
    /// A page that takes its child down is tried once more in a fresh child unless it was the
    /// first thing the child did or ran out of time; then it is given up, and the next page goes
    /// on in a child in which the document is opened again.
    ///
    /// # Errors
    /// A page that cannot be drawn is a [`Trouble`] at [`Stage::Render`].
    pub async fn page(
        &mut self,
        page_idx: u32,
        spec: &RenderSpec,
        with_text: bool,
    ) -> Result<RenderedPage, Trouble> {
        let start = Instant::now();
        let result = match self.try_page(page_idx, spec, with_text).await {
            Err(Failed::Died {
                death,
                was_fresh: false,
            }) if death.may_come_from_earlier_work() => {
                self.try_page(page_idx, spec, with_text).await
            }
            other => other,
        };
        let (head, rgb) = result.map_err(|failed| failed.into_trouble(Stage::Render))?;
        let PageHead {
            width,
            height,
            dpi,
            rotation,
            width_pt,
            height_pt,
            text_layer,
            warnings,
        } = head;
        let image = PageImage {
            width,
            height,
            rgb,
            dpi,
        };
        let render = start.elapsed();
        Ok(RenderedPage {
            image,
            rotation,
            width_pt,
            height_pt,
            text_layer,
            warnings,
            render,
        })
    }

    async fn try_page(
        &mut self,
        page_idx: u32,
        spec: &RenderSpec,
        with_text: bool,
    ) -> Result<(PageHead, Vec<u8>), Failed> {
        if self.child.as_ref().is_none_or(Child::is_old) {
            self.child = None;
            self.reopen().await?;
        }
        let mut child = self.child.take().expect("a child was opened above");
        let request = Request::Page {
            page_idx,
            spec: spec.clone(),
            with_text,
        };
        let max_body = spec.max_area_px.saturating_mul(3);
        let asked = child
            .ask(&request, &[], max_body, self.shared.settings.page_timeout)
            .await;
        let was_fresh = std::mem::replace(&mut self.is_child_fresh, false);
        match asked {
            Ok((Answer::Page(head), rgb)) if is_possible(&head, &rgb, spec) => {
                self.child = Some(child);
                Ok((*head, rgb))
            }
            Ok((Answer::Failed { trouble, poisoned }, _)) => {
                self.child = (!poisoned).then_some(child);
                Err(Failed::Told(trouble))
            }
            Ok(_) => Err(Failed::Died {
                death: Death::nonsense("not a page"),
                was_fresh,
            }),
            Err(death) => Err(Failed::Died { death, was_fresh }),
        }
    }

    /// Opens the document in a child that has done nothing else.
    async fn reopen(&mut self) -> Result<OpenedInfo, Failed> {
        let child = self.shared.new_child().await.map_err(Failed::Told)?;
        self.open_in(child).await
    }

    async fn open_in(&mut self, mut child: Child) -> Result<OpenedInfo, Failed> {
        let was_fresh = child.is_fresh();
        let request = Request::Open {
            media_type: self.media_type.clone(),
        };
        let limit = self.shared.settings.open_timeout;
        match child.ask(&request, &self.bytes, 0, limit).await {
            Ok((Answer::Opened(info), _)) => {
                self.child = Some(child);
                self.is_child_fresh = was_fresh;
                Ok(info)
            }
            Ok((Answer::Failed { trouble, poisoned }, _)) => {
                self.child = (!poisoned).then_some(child);
                Err(Failed::Told(trouble))
            }
            Ok(_) => Err(Failed::Died {
                death: Death::nonsense("not a document"),
                was_fresh,
            }),
            Err(death) => Err(Failed::Died { death, was_fresh }),
        }
    }
}

impl Drop for OpenDocument {
    fn drop(&mut self) {
        if let (Some(child), Some(permit)) = (self.child.take(), self.permit.take()) {
            self.shared.give_back(child, permit);
        }
    }
}

/// Why there is no answer to use.
enum Failed {
    /// The child says so.
    Told(Trouble),
    /// The child is gone.
    Died { death: Death, was_fresh: bool },
}

impl Failed {
    fn into_trouble(self, stage: Stage) -> Trouble {
        match self {
            Self::Told(trouble) => Trouble { stage, ..trouble },
            Self::Died { death, .. } => death.into_trouble(stage),
        }
    }
}

/// Whether a page is as long as it says and within what was asked for.
fn is_possible(head: &PageHead, rgb: &[u8], spec: &RenderSpec) -> bool {
    let area = u64::from(head.width) * u64::from(head.height);
    area > 0
        && area * 3 == rgb.len() as u64
        && area <= spec.max_area_px
        && head.width.max(head.height) <= spec.max_edge_px
}
