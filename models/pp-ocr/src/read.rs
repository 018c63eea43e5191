//! One page from pixels to a recognition.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use quire_core::{Flag, Line, PageImage, Quad, Recognition, Rotation};
use quire_layout::{PageInput, Region, compose};
use unicode_normalization::UnicodeNormalization;

use crate::classify::{AngleClassifier, upside_down};
use crate::crew::{Offered, Parts};
use crate::ctc::ReadText;
use crate::detect::{TextDetector, find_lines};
use crate::layout::{LayoutDetector, find_regions};
use crate::line::TextLine;
use crate::mode::Mode;
use crate::orientation::{self, Upright};
use crate::recognize::LineReader;
use crate::times::{self, Stage};
use crate::weights::WeightsError;

/// Lines that are less sure are not text: rules, logos, drawings, dirt.
const MIN_CONFIDENCE: f32 = 0.5;
/// Lines that are less sure may be upside down and are looked at again.
const DOUBTFUL: f32 = 0.7;
/// Probability from which the classifier is believed.
const BELIEVED: f32 = 0.9;
/// Lines of a page looked at again at most.
const MAX_DOUBTFUL: usize = 48;
/// A page whose mean confidence is less has `Flag::LowConfidence`. Clean print reads at 0.97 and
/// over, bad faxes at 0.9; at 0.8 about every tenth character is wrong.
const LOW_CONFIDENCE: f32 = 0.8;
/// Pages with an edge shorter than this hold no legible text, pixels.
const MIN_EDGE: u32 = 4;
/// How far a line's corners may leave its upright box before its quad is worth giving, pixels.
const UPRIGHT_PX: f32 = 1.5;

/// The four networks. A clone shares the weights.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) device: Device,
    pub(crate) detector: TextDetector,
    pub(crate) classifier: AngleClassifier,
    /// Shared with whoever helps with a page.
    pub(crate) lines: Arc<LineReader>,
    pub(crate) layout: Arc<LayoutDetector>,
}

impl Reader {
    pub(crate) fn load(mode: Mode, device: &Device) -> Result<Self, WeightsError> {
        Ok(Self {
            detector: TextDetector::of(mode, device)?,
            classifier: AngleClassifier::load(device)?,
            lines: Arc::new(LineReader::load(mode, device)?),
            layout: Arc::new(LayoutDetector::load(device)?),
            device: device.clone(),
        })
    }

    /// Reads a page, or gives it structure if its lines are known.
    pub(crate) fn read(
        &self,
        parts: &Parts,
        image: &Arc<PageImage>,
        known_lines: Option<Vec<Line>>,
    ) -> Recognition {
        let start = Instant::now();
        let mut recognition = match known_lines {
            Some(lines) => {
                let regions = self.find_regions(parts, image);
                compose_page(image, lines, parts.wait(regions))
            }
            None => self.read_pixels(parts, image),
        };
        recognition.infer = parts.spent_since(start);
        recognition
    }

    fn read_pixels(&self, parts: &Parts, image: &Arc<PageImage>) -> Recognition {
        if image.width.min(image.height) < MIN_EDGE {
            return Recognition {
                lines: Some(Vec::new()),
                ..Recognition::default()
            };
        }
        let Upright {
            image,
            rotation,
            lines,
            mut texts,
        } = orientation::upright(self, parts, image);
        // Takes longer than any batch of lines, so it is begun first.
        let regions = self.find_regions(parts, &image);
        self.read_rest(parts, &image, &lines, &mut texts);
        let (mut kept, mut read) = (Vec::new(), Vec::new());
        for (line, text) in lines.iter().zip(texts) {
            let text = text.unwrap_or_default();
            let trimmed = text.text.trim();
            if text.confidence < MIN_CONFIDENCE || trimmed.is_empty() {
                continue;
            }
            kept.push(line_of(&image, line, trimmed, text.confidence));
            read.push((text.confidence, text.n_chars));
        }
        let mut recognition = compose_page(&image, kept, parts.wait(regions));
        recognition.rotation = rotation;
        (recognition.confidence, recognition.confidence_p10) = summary(read);
        if rotation != Rotation::None {
            recognition.flags.push(Flag::Rotated);
        }
        if recognition
            .confidence
            .is_some_and(|mean| mean < LOW_CONFIDENCE)
        {
            recognition.flags.push(Flag::LowConfidence);
        }
        recognition
    }

    pub(crate) fn find(&self, image: &PageImage) -> Vec<TextLine> {
        let find = || find_lines(&self.detector, &self.device, image);
        let found = times::stage(Stage::Detect, find);
        found
            .into_iter()
            .map(|found| reading_direction(found.line))
            .collect()
    }

    /// Reads the first few lines of a page.
    pub(crate) fn read_sample(
        &self,
        parts: &Parts,
        image: &Arc<PageImage>,
        lines: &[TextLine],
    ) -> Vec<ReadText> {
        let squeeze = self.lines.recognizer.first_squeeze();
        self.lines.read(parts, image, lines, squeeze)
    }

    pub(crate) fn upside_down(&self, image: &PageImage, lines: &[TextLine]) -> Vec<f32> {
        let look = || upside_down(&self.classifier, &self.device, image, lines);
        times::stage(Stage::Classify, look)
    }

    /// Reads the lines without a text, and upside down those that read badly and look so.
    fn read_rest(
        &self,
        parts: &Parts,
        image: &Arc<PageImage>,
        lines: &[TextLine],
        texts: &mut [Option<ReadText>],
    ) {
        let squeeze = self.lines.squeeze_for(lines, texts);
        let rest: Vec<usize> = (0..lines.len())
            .filter(|&index| texts[index].is_none())
            .collect();
        let unread: Vec<TextLine> = rest.iter().map(|&index| lines[index]).collect();
        let read = self.lines.read(parts, image, &unread, squeeze);
        for (index, text) in rest.into_iter().zip(read) {
            texts[index] = Some(text);
        }
        let confidence = |index: usize| texts[index].as_ref().map_or(0.0, |text| text.confidence);
        let mut doubtful: Vec<usize> = (0..lines.len())
            .filter(|&index| confidence(index) < DOUBTFUL)
            .collect();
        doubtful.truncate(MAX_DOUBTFUL);
        let suspects: Vec<TextLine> = doubtful.iter().map(|&index| lines[index]).collect();
        let verdicts = self.upside_down(image, &suspects);
        doubtful = doubtful
            .into_iter()
            .zip(verdicts)
            .filter_map(|(index, verdict)| (verdict > BELIEVED).then_some(index))
            .collect();
        let turned: Vec<TextLine> = doubtful
            .iter()
            .map(|&index| lines[index].half_turned())
            .collect();
        let read = self.lines.read(parts, image, &turned, squeeze);
        for (index, text) in doubtful.into_iter().zip(read) {
            let before = texts[index].as_ref().map_or(0.0, |text| text.confidence);
            if text.confidence > before {
                texts[index] = Some(text);
            }
        }
    }

    fn find_regions(&self, parts: &Parts, image: &Arc<PageImage>) -> Offered<Vec<Region>> {
        let (layout, device) = (Arc::clone(&self.layout), self.device.clone());
        let image = Arc::clone(image);
        parts.offer(move || {
            if image.width.min(image.height) < MIN_EDGE {
                return Vec::new();
            }
            let find = || find_regions(&layout, &device, &image);
            times::stage(Stage::Layout, find)
        })
    }
}

fn compose_page(image: &PageImage, lines: Vec<Line>, regions: Vec<Region>) -> Recognition {
    let input = PageInput {
        width_px: image.width,
        height_px: image.height,
        lines,
        regions,
        image: Some(image),
    };
    let page = times::stage(Stage::Compose, || compose(input));
    Recognition {
        text: page.text,
        blocks: page.blocks,
        lines: Some(page.lines),
        ..Recognition::default()
    }
}

/// Text much taller than wide runs downwards.
fn reading_direction(line: TextLine) -> TextLine {
    if line.height() >= 1.5 * line.width() {
        TextLine::straight(line.rectangle.quarter_turned())
    } else {
        line
    }
}

fn line_of(image: &PageImage, line: &TextLine, text: &str, confidence: f32) -> Line {
    let (width, height) = (image.width as f32, image.height as f32);
    let quad = Quad(line.rectangle.corners.map(|[x, y]| [x / width, y / height])).clamped();
    let rect = quad.bounds();
    let upright = Quad::from(rect);
    let leaves = quad.0.iter().zip(&upright.0).any(|(a, b)| {
        (a[0] - b[0]).abs() * width > UPRIGHT_PX || (a[1] - b[1]).abs() * height > UPRIGHT_PX
    });
    Line {
        block: None,
        text: text.nfc().collect(),
        rect,
        quad: leaves.then_some(quad),
        confidence,
    }
}

/// Mean confidence of the characters, and the confidence that a tenth of them stay under, each
/// character as sure as its line.
fn summary(mut read: Vec<(f32, usize)>) -> (Option<f32>, Option<f32>) {
    let n_chars: usize = read.iter().map(|(_, n)| n).sum();
    if n_chars == 0 {
        return (None, None);
    }
    let sum: f64 = read
        .iter()
        .map(|&(confidence, n)| f64::from(confidence) * n as f64)
        .sum();
    read.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut passed = 0;
    let tenth = read.iter().find(|(_, n)| {
        passed += n;
        passed * 10 >= n_chars
    });
    (
        Some((sum / n_chars as f64) as f32),
        tenth.map(|&(confidence, _)| confidence),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rectangle;

    #[test]
    fn confidence_is_weighted_by_characters() {
        assert_eq!(summary(Vec::new()), (None, None));
        let (mean, tenth) = summary(vec![(1.0, 85), (0.6, 5), (0.5, 10)]);
        assert!((mean.unwrap() - 0.93).abs() < 1e-6);
        assert_eq!(tenth, Some(0.5));
    }

    #[test]
    fn upright_line_has_no_quad_and_a_tilted_one_has() {
        let image = PageImage::white(1000, 1000);
        let corners = [
            [100.0, 100.0],
            [500.0, 100.0],
            [500.0, 130.0],
            [100.0, 130.0],
        ];
        let line = line_of(&image, &TextLine::straight(Rectangle { corners }), "x", 1.0);
        assert_eq!(line.quad, None);
        assert!((line.rect.x1 - 0.5).abs() < 1e-6);
        let corners = [
            [100.0, 100.0],
            [500.0, 110.0],
            [499.0, 140.0],
            [99.0, 130.0],
        ];
        assert!(
            line_of(&image, &TextLine::straight(Rectangle { corners }), "x", 1.0)
                .quad
                .is_some()
        );
    }
}
