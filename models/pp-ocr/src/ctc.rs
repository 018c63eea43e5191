//! From the recognizer's steps to text.

use crate::recognize::Step;

/// The class that means "no character here".
const BLANK: usize = 0;

/// Text of one line with how sure the recognizer is of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadText {
    pub text: String,
    /// Mean probability of the characters, 0 to 1; 0 without any.
    pub confidence: f32,
    pub n_chars: usize,
}

/// Greedy decoding: a run of one class is one character, blanks only part runs.
///
/// `charset` holds the characters of class 1 and on; a class beyond it reads as nothing.
pub fn decode(steps: &[Step], charset: &[&str]) -> ReadText {
    let mut read = ReadText::default();
    let mut sum = 0.0;
    let mut previous = BLANK;
    for step in steps {
        let class = step.class;
        let starts = class != BLANK && class != previous;
        if let Some(character) = charset.get(class.wrapping_sub(1)).filter(|_| starts) {
            read.text.push_str(character);
            read.n_chars += 1;
            sum += step.probability;
        }
        previous = class;
    }
    if read.n_chars > 0 {
        read.confidence = sum / read.n_chars as f32;
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(classes: &[usize], expected: &str) {
        let steps: Vec<Step> = classes
            .iter()
            .map(|&class| Step {
                class,
                probability: 0.5,
            })
            .collect();
        let read = decode(&steps, &["a", "b", " "]);
        assert_eq!(read.text, expected);
        assert_eq!(read.n_chars, expected.chars().count());
    }

    #[test]
    fn runs_are_one_character_and_blanks_part_them() {
        check(&[], "");
        check(&[0, 0], "");
        check(&[1, 1, 0, 1, 2], "aab");
        check(&[2, 3, 3, 0, 1], "b a");
        check(&[1, 77, 2], "ab");
    }

    #[test]
    fn confidence_is_the_mean_over_characters_only() {
        let step = |class, probability| Step { class, probability };
        let read = decode(
            &[step(0, 0.1), step(1, 1.0), step(1, 0.2), step(2, 0.5)],
            &["a", "b"],
        );
        assert_eq!(read.confidence, 0.75);
        assert_eq!(decode(&[step(0, 1.0)], &["a"]).confidence, 0.0);
    }
}
