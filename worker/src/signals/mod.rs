//! Signals about a page that need no large model: what readers filter and weigh pages by.
//! Pure functions of text and pixels; the row that carries them is made in `pipeline/row.rs`.

mod agreement;
mod blank;
mod language;
mod phash;
mod repetition;

pub use agreement::agreement;
pub use blank::is_blank;
pub use language::{Language, language};
pub use phash::phash;
pub use repetition::repetition;

/// Mean confidence under which a page is flagged `low_confidence`.
pub const LOW_CONFIDENCE: f32 = 0.80;

/// Agreement with the text layer under which a page is flagged `text_layer_mismatch`.
pub const LAYER_MISMATCH: f32 = 0.70;

/// One number for ranking pages, 0 to 1: `confidence · (1 − repetition) · (½ + ½ · agreement)`,
/// the last factor only where a visible text layer was compared. `None` for a page without text.
pub fn quality(confidence: Option<f32>, repetition: f32, agreement: Option<f32>) -> Option<f32> {
    let layer = agreement.map_or(1.0, |share| 0.5 + 0.5 * share);
    confidence.map(|mean| (mean * (1.0 - repetition) * layer).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_falls_with_repetition_and_with_disagreement() {
        assert_eq!(quality(None, 0.0, None), None);
        assert_eq!(quality(Some(0.9), 0.0, None), Some(0.9));
        assert!(quality(Some(0.9), 0.5, None) < quality(Some(0.9), 0.0, None));
        assert!(quality(Some(0.9), 0.0, Some(0.2)) < quality(Some(0.9), 0.0, Some(0.9)));
    }
}
