//! What was written becomes a recognition.

use quire_core::{Flag, Recognition};

use crate::generate::{FinishReason, Written};
use crate::output::{self, ReadOptions};
use crate::prompt::Task;
use crate::tokenizer::TextTokenizer;

/// The recognition of an image of `size` pixels, all but its time and vision tokens.
///
/// Of an answer that repeats itself, what stands before the repetition is read; `output_tokens`
/// counts all that was written.
pub(super) fn recognition(
    tokenizer: &TextTokenizer,
    task: &Task,
    size: (u32, u32),
    written: &Written,
) -> Recognition {
    let kept = &written.tokens[..written.n_kept];
    let options = ReadOptions { task: task.clone() };
    let read = output::read(&tokenizer.decode(kept), size, &options);
    let markers = Markers::of(tokenizer);
    let (confidence, confidence_p10) = confidence(&markers.of_text(written));
    let mut flags = read.flags;
    match written.reason {
        FinishReason::Stop => {}
        FinishReason::Length => flags.push(Flag::Truncated),
        FinishReason::Repetition => flags.push(Flag::Repetition),
    }
    Recognition {
        text_tokens: tokenizer
            .encode(&read.text)
            .ok()
            .map(|ids| count(ids.len())),
        text: read.text,
        blocks: read.blocks,
        confidence,
        confidence_p10,
        finish_reason: Some(written.reason.as_str().to_owned()),
        output_tokens: Some(count(written.tokens.len())),
        flags,
        ..Recognition::default()
    }
}

/// Whether every token was chosen by numbers.
pub(super) fn is_sane(written: &Written) -> bool {
    !written.log_probabilities.iter().any(|value| value.is_nan())
}

/// Numbers of tokens stay below the limit of positions.
pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Ids around labels and boxes.
struct Markers {
    label: Option<u32>,
    boxes: [Option<u32>; 2],
}

impl Markers {
    fn of(tokenizer: &TextTokenizer) -> Self {
        Self {
            label: tokenizer.id_of("<|ref|>"),
            boxes: ["<|det|>", "<|/det|>"].map(|marker| tokenizer.id_of(marker)),
        }
    }

    /// The probabilities of the kept tokens that are text. How sure the model is of a box's last
    /// digit says nothing of how well it reads; where there is nothing else, it has to do.
    fn of_text(&self, written: &Written) -> Vec<f32> {
        let of = |&log_probability: &f32| log_probability.exp().clamp(0.0, 1.0);
        let log_probabilities = &written.log_probabilities[..written.n_kept];
        let mut inside = false;
        let mut text = Vec::new();
        for (&token, log_probability) in written.tokens.iter().zip(log_probabilities) {
            let opens = [self.label, self.boxes[0]].contains(&Some(token));
            let closes = self.boxes[1] == Some(token);
            inside = (inside || opens) && !closes;
            if !inside && !closes {
                text.push(of(log_probability));
            }
        }
        if text.is_empty() {
            text = log_probabilities.iter().map(of).collect();
        }
        text
    }
}

/// Mean probability, and the probability that a tenth of the tokens stay under.
fn confidence(probabilities: &[f32]) -> (Option<f32>, Option<f32>) {
    let mut probabilities = probabilities.to_vec();
    if probabilities.is_empty() {
        return (None, None);
    }
    let n = probabilities.len();
    let sum: f64 = probabilities.iter().copied().map(f64::from).sum();
    probabilities.sort_by(f32::total_cmp);
    let tenth = probabilities.get(n.div_ceil(10) - 1).copied();
    (Some((sum / n as f64) as f32), tenth)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn boxes_do_not_count_for_confidence() {
        let markers = Markers {
            label: Some(7),
            boxes: [Some(8), Some(9)],
        };
        let half = 0.5f32.ln();
        let written = |tokens: &[u32], log_probabilities: &[f32], n_kept| Written {
            tokens: tokens.to_vec(),
            log_probabilities: log_probabilities.to_vec(),
            n_kept,
            reason: FinishReason::Stop,
            spent: Duration::ZERO,
        };
        let text = written(
            &[7, 20, 8, 21, 9, 30, 31, 32],
            &[-9.0, -9.0, -9.0, -9.0, -9.0, 0.0, half, -5.0],
            7,
        );
        let found = markers.of_text(&text);
        assert_eq!(found.len(), 2);
        assert!((found[0] - 1.0).abs() < 1e-6 && (found[1] - 0.5).abs() < 1e-6);
        let only_a_box = written(&[8, 21, 9], &[0.0, half, 0.0], 3);
        assert_eq!(markers.of_text(&only_a_box).len(), 3);
    }

    #[test]
    fn confidence_is_the_mean_and_the_lowest_tenth() {
        assert_eq!(confidence(&[]), (None, None));
        let mut probabilities = vec![1.0; 18];
        probabilities.extend([0.2, 0.4]);
        let (mean, tenth) = confidence(&probabilities);
        assert!((mean.unwrap() - 0.93).abs() < 1e-6);
        assert_eq!(tenth, Some(0.4));
    }
}
