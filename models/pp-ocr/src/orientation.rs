//! Which way up a page is.
//!
//! Sideways pages show in the shape of their lines, which are taller than wide. Upside-down ones
//! show when lines are read: text that stands on its head reads badly. So a few long lines are
//! read first. If they read well, as on nearly every page, nothing more is done and their texts
//! are kept; if not, the angle classifier votes, and the recognizer confirms or refutes it.

use std::sync::Arc;

use quire_core::{PageImage, Rotation};

use crate::crew::Parts;
use crate::ctc::ReadText;
use crate::line::TextLine;
use crate::read::Reader;

/// Lines that are read to judge a page.
const SAMPLE: usize = 3;
/// Lines that the classifier votes on.
const VOTERS: usize = 9;
/// Mean confidence of the sample from which the page is taken to be upright.
const READS_WELL: f32 = 0.9;
/// Mean confidence under which the other way up is tried whatever the classifier says.
const READS_BADLY: f32 = 0.7;
/// By how much the other way up must read better.
const BETTER: f32 = 0.05;
/// Share of the lines' length that must run downwards on a sideways page.
const SIDEWAYS: f32 = 0.6;
/// Edge ratio from which a box is a line with a direction, not a letter or two.
const DIRECTED: f32 = 2.0;

/// A page turned upright, with its lines.
pub(crate) struct Upright {
    pub(crate) image: Arc<PageImage>,
    /// The turn that was made.
    pub(crate) rotation: Rotation,
    pub(crate) lines: Vec<TextLine>,
    /// Texts of the lines that were read on the way.
    pub(crate) texts: Vec<Option<ReadText>>,
}

/// Finds the lines of a page and turns it upright if they say so.
pub(crate) fn upright(reader: &Reader, parts: &Parts, image: &Arc<PageImage>) -> Upright {
    let as_given = Candidate::new(reader, Arc::clone(image), Rotation::None);
    if !is_sideways(&as_given.lines) {
        return as_given.upside_up(reader, parts).into_upright();
    }
    let turned = image.rotated(Rotation::Quarter);
    let turned =
        Candidate::new(reader, Arc::new(turned), Rotation::Quarter).upside_up(reader, parts);
    if turned.confidence >= READS_BADLY {
        return turned.into_upright();
    }
    // Lines that run downwards and do not read when turned: East Asian columns, or no text.
    let mut as_given = as_given;
    as_given.read_sample(reader, parts);
    if as_given.confidence >= turned.confidence {
        as_given.into_upright()
    } else {
        turned.into_upright()
    }
}

/// A page turned one way, with its lines and how well a few of them read.
struct Candidate {
    image: Arc<PageImage>,
    rotation: Rotation,
    lines: Vec<TextLine>,
    texts: Vec<Option<ReadText>>,
    /// Mean over the characters of the sample; 0 before it is read.
    confidence: f32,
}

impl Candidate {
    fn new(reader: &Reader, image: Arc<PageImage>, rotation: Rotation) -> Self {
        let lines = reader.find(&image);
        let texts = vec![None; lines.len()];
        Self {
            image,
            rotation,
            lines,
            texts,
            confidence: 0.0,
        }
    }

    /// This page or the same turned by 180 degrees, whichever reads better.
    fn upside_up(mut self, reader: &Reader, parts: &Parts) -> Self {
        self.read_sample(reader, parts);
        if self.lines.is_empty() || self.confidence >= READS_WELL {
            return self;
        }
        if self.confidence >= READS_BADLY && !self.votes_for_turning(reader) {
            return self;
        }
        let turned = Arc::new(self.image.rotated(Rotation::Half));
        let mut turned = Candidate::new(reader, turned, self.rotation.then(Rotation::Half));
        turned.read_sample(reader, parts);
        if turned.confidence > self.confidence + BETTER {
            turned
        } else {
            self
        }
    }

    fn read_sample(&mut self, reader: &Reader, parts: &Parts) {
        let sample = longest(&self.lines, SAMPLE);
        let sampled: Vec<TextLine> = sample.iter().map(|&index| self.lines[index]).collect();
        let texts = reader.read_sample(parts, &self.image, &sampled);
        let n_chars: usize = texts.iter().map(|text| text.n_chars).sum();
        let sum: f32 = texts
            .iter()
            .map(|text| text.confidence * text.n_chars as f32)
            .sum();
        self.confidence = sum / n_chars.max(1) as f32;
        for (index, text) in sample.into_iter().zip(texts) {
            self.texts[index] = Some(text);
        }
    }

    fn votes_for_turning(&self, reader: &Reader) -> bool {
        let voters: Vec<TextLine> = longest(&self.lines, VOTERS)
            .into_iter()
            .map(|index| self.lines[index])
            .collect();
        let votes = reader.upside_down(&self.image, &voters);
        let n_against = votes
            .iter()
            .filter(|&&probability| probability > 0.5)
            .count();
        2 * n_against > votes.len()
    }

    fn into_upright(self) -> Upright {
        let Self {
            image,
            rotation,
            lines,
            texts,
            ..
        } = self;
        Upright {
            image,
            rotation,
            lines,
            texts,
        }
    }
}

/// Whether most of the text runs downwards. Lines start where their text does.
fn is_sideways(lines: &[TextLine]) -> bool {
    let (mut down, mut total) = (0.0, 0.0);
    for line in lines
        .iter()
        .filter(|line| line.width() >= DIRECTED * line.height())
    {
        let [start, end, ..] = line.rectangle.corners;
        let length = line.width();
        total += length;
        if (end[1] - start[1]).abs() > (end[0] - start[0]).abs() {
            down += length;
        }
    }
    down > SIDEWAYS * total
}

/// Indexes of the lines that say most about the page: the longest in letters.
fn longest(lines: &[TextLine], count: usize) -> Vec<usize> {
    let letters = |index: usize| lines[index].width() / lines[index].height().max(1.0);
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|&a, &b| letters(b).total_cmp(&letters(a)).then(a.cmp(&b)));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rectangle;

    fn line(x: f32, y: f32, width: f32, height: f32) -> TextLine {
        let corners = [
            [x, y],
            [x + width, y],
            [x + width, y + height],
            [x, y + height],
        ];
        TextLine::straight(Rectangle { corners })
    }

    #[test]
    fn page_is_sideways_if_most_of_its_text_runs_down() {
        let across = line(0.0, 0.0, 300.0, 20.0);
        let down = TextLine::straight(line(0.0, 0.0, 20.0, 300.0).rectangle.quarter_turned());
        assert!(!is_sideways(&[]));
        assert!(is_sideways(&[down]));
        assert!(is_sideways(&[across, down, down]));
        assert!(!is_sideways(&[across, across, down]));
        // Single digits have no direction.
        assert!(!is_sideways(&[
            across,
            line(0.0, 0.0, 10.0, 14.0),
            line(9.0, 0.0, 10.0, 14.0)
        ]));
    }

    #[test]
    fn sample_takes_lines_of_most_letters() {
        let lines = [
            line(0.0, 0.0, 400.0, 80.0),
            line(0.0, 0.0, 300.0, 10.0),
            line(0.0, 0.0, 9.0, 9.0),
        ];
        assert_eq!(longest(&lines, 2), [1, 0]);
    }
}
