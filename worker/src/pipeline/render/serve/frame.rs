//! A drawn page on its way to the parent, and the sizes it may have.

use quire_core::{PageImage, RenderSpec, Rotation};

use super::PageHead;
use crate::pipeline::text_layer::TextLayer;

/// A page with everything that goes to the parent.
pub(super) struct Frame {
    pub(super) head: PageHead,
    pub(super) rgb: Vec<u8>,
}

impl Frame {
    /// A page whose size in points is known by itself.
    pub(super) fn new(image: PageImage, rotation: Rotation, size_pt: Option<(f32, f32)>) -> Self {
        let PageImage {
            width,
            height,
            rgb,
            dpi,
        } = image;
        let head = PageHead {
            width,
            height,
            dpi,
            rotation,
            width_pt: size_pt.map(|(width, _)| width),
            height_pt: size_pt.map(|(_, height)| height),
            text_layer: None,
            warnings: Vec::new(),
        };
        Self { head, rgb }
    }

    /// A picture whose size in points follows from its resolution.
    pub(super) fn of_picture(image: PageImage, rotation: Rotation) -> Self {
        let size = image.dpi.map(|dpi| {
            (
                image.width as f32 / dpi * 72.0,
                image.height as f32 / dpi * 72.0,
            )
        });
        Self::new(image, rotation, size)
    }

    pub(super) fn with_text(mut self, text_layer: Option<TextLayer>) -> Self {
        self.head.text_layer = text_layer;
        self
    }

    pub(super) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.head.warnings = warnings;
        self
    }
}

/// The largest size of the shape of `width` x `height` that is within the limits of `spec` and
/// not above `scale` times as large; at least one pixel each way.
pub(super) fn fit(width: f64, height: f64, scale: f64, spec: &RenderSpec) -> (u32, u32) {
    let max_edge = f64::from(spec.max_edge_px);
    let max_area = spec.max_area_px as f64;
    let scale = scale
        .min(max_edge / width.max(height))
        .min((max_area / (width * height)).sqrt());
    let edge = |length: f64| ((length * scale).round().max(1.0) as u32).min(spec.max_edge_px);
    let (mut w, mut h) = (edge(width), edge(height));
    // Rounding up may step over the area by a row; a sliver may by more.
    if u64::from(w) * u64::from(h) > spec.max_area_px {
        if w >= h {
            w = (spec.max_area_px / u64::from(h)).max(1) as u32;
        } else {
            h = (spec.max_area_px / u64::from(w)).max(1) as u32;
        }
    }
    (w, h)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_stays_within_edge_and_area() {
        let check = |width: f64, height: f64, scale: f64, expected: (u32, u32)| {
            let spec = RenderSpec {
                dpi: 144.0,
                max_edge_px: 4096,
                max_area_px: 12_000_000,
            };
            assert_eq!(
                fit(width, height, scale, &spec),
                expected,
                "{width} x {height}"
            );
        };
        check(612.0, 792.0, 2.0, (1224, 1584));
        check(3.0, 3.0, 2.0, (6, 6));
        check(0.1, 0.1, 2.0, (1, 1));
        check(14_400.0, 14_400.0, 2.0, (3464, 3464));
        check(20_000.0, 100.0, 2.0, (4096, 20));
        check(1e7, 1.0, 2.0, (4096, 1));
    }
}
