//! Whether a text layer may stand in for reading the pixels.

use super::TextLayer;
use super::plausible::{self, Doubt};

/// Part of the glyphs whose Unicode must be known.
const MIN_KNOWN: f32 = 0.98;
/// Part of the glyphs that may mean characters no text has.
const MAX_ODD: f32 = 0.01;
/// Part of the glyphs that may lie outside the page or leave no ink.
const MAX_OUTSIDE: f32 = 0.05;
const MAX_INVISIBLE: f32 = 0.05;
/// Part of the page that pictures may cover before the text has to prove that it is the page.
const MAX_IMAGE_COVERAGE: f32 = 0.5;
/// Glyphs that make a text dense enough to be the page over a picture: a third of a full page.
const DENSE_GLYPHS: u32 = 700;
/// Glyphs below which there is nothing to trust.
const MIN_GLYPHS: u32 = 8;

/// Why a text layer is not taken for the text of its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// No or hardly any visible text: blank, a scan, or letters drawn as curves.
    NoText,
    /// Glyphs without Unicode.
    UnknownUnicode,
    /// Private-use, control or replacement characters.
    OddCharacters,
    /// Text without ink: somebody's OCR, or hidden words.
    Invisible,
    /// Pictures cover most of the page and the text does not.
    UnderPicture,
    /// Glyphs outside the page.
    OutsidePage,
    /// Too little text to tell whether its Unicode is right.
    TooShort,
    /// Characters with frequencies of no language, as a broken Unicode map gives.
    Implausible,
    /// A script whose text layers are not judged here.
    Script,
}

impl Distrust {
    /// For logs and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoText => "no_text",
            Self::UnknownUnicode => "unknown_unicode",
            Self::OddCharacters => "odd_characters",
            Self::Invisible => "invisible",
            Self::UnderPicture => "under_picture",
            Self::OutsidePage => "outside_page",
            Self::TooShort => "too_short",
            Self::Implausible => "implausible",
            Self::Script => "script",
        }
    }
}

/// What a text layer is; a column of the dataset's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TextLayerKind {
    /// No text at all.
    None,
    /// Text that the page shows.
    Native,
    /// Text without ink: somebody's OCR, not truth.
    Hidden,
}

impl TextLayerKind {
    /// As written in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Native => "native",
            Self::Hidden => "hidden",
        }
    }

    /// The kind of one page.
    pub(super) fn of(layer: &TextLayer) -> Self {
        if layer.n_glyphs == 0 {
            Self::None
        } else if u64::from(layer.n_invisible) * 2 > u64::from(layer.n_glyphs) {
            Self::Hidden
        } else {
            Self::Native
        }
    }

    /// The kind of a document with pages of kinds `self` and `other`: hidden wins over native,
    /// which wins over none, since what matters is whether its text may be taken for truth.
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

/// Whether `layer` may be used instead of reading the page. All tests must pass.
///
/// # Errors
/// The first test that fails, from the cheapest to the most subtle.
pub fn trust(layer: &TextLayer) -> Result<(), Distrust> {
    let n_visible = layer.n_glyphs - layer.n_invisible.min(layer.n_glyphs);
    if n_visible < MIN_GLYPHS {
        return Err(if layer.n_glyphs >= MIN_GLYPHS {
            Distrust::Invisible
        } else {
            Distrust::NoText
        });
    }
    let part = |n: u32| n as f32 / layer.n_glyphs as f32;
    if part(layer.n_unknown_unicode) > 1.0 - MIN_KNOWN {
        return Err(Distrust::UnknownUnicode);
    }
    if part(layer.n_odd) > MAX_ODD {
        return Err(Distrust::OddCharacters);
    }
    if part(layer.n_outside) > MAX_OUTSIDE {
        return Err(Distrust::OutsidePage);
    }
    let is_under_picture = layer.image_coverage > MAX_IMAGE_COVERAGE;
    if part(layer.n_invisible) > MAX_INVISIBLE || is_under_picture && layer.n_invisible > 0 {
        return Err(Distrust::Invisible);
    }
    if is_under_picture && n_visible < DENSE_GLYPHS {
        return Err(Distrust::UnderPicture);
    }
    match plausible::doubt(&layer.visible_text) {
        None => Ok(()),
        Some(Doubt::TooShort) => Err(Distrust::TooShort),
        Some(Doubt::Script) => Err(Distrust::Script),
        Some(Doubt::MostlySigns | Doubt::Letters | Doubt::Ideographs) => Err(Distrust::Implausible),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> TextLayer {
        let text = "The quick brown fox jumps over the lazy dog and then it rests in the shade of \
            an old tree until the evening comes.";
        TextLayer {
            n_glyphs: 94,
            visible_text: text.into(),
            ..TextLayer::default()
        }
    }

    #[test]
    fn each_fault_is_named() {
        let check = |change: &dyn Fn(&mut TextLayer), expected: Result<(), Distrust>| {
            let mut layer = layer();
            change(&mut layer);
            assert_eq!(trust(&layer), expected);
        };
        check(&|_| {}, Ok(()));
        check(&|l| l.n_glyphs = 0, Err(Distrust::NoText));
        check(&|l| l.n_unknown_unicode = 3, Err(Distrust::UnknownUnicode));
        check(&|l| l.n_odd = 2, Err(Distrust::OddCharacters));
        check(&|l| l.n_outside = 10, Err(Distrust::OutsidePage));
        check(&|l| l.n_invisible = 94, Err(Distrust::Invisible));
        check(&|l| l.n_invisible = 10, Err(Distrust::Invisible));
        check(&|l| l.image_coverage = 0.9, Err(Distrust::UnderPicture));
        check(&|l| l.image_coverage = 0.3, Ok(()));
        check(
            &|l| l.visible_text = l.visible_text.bytes().map(|b| char::from(b + 1)).collect(),
            Err(Distrust::Implausible),
        );
    }

    #[test]
    fn kind_of_a_document_is_its_worst_page() {
        let kind = |n_glyphs, n_invisible| {
            TextLayer {
                n_glyphs,
                n_invisible,
                ..TextLayer::default()
            }
            .kind()
        };
        assert_eq!(kind(0, 0), TextLayerKind::None);
        assert_eq!(kind(10, 1), TextLayerKind::Native);
        assert_eq!(kind(10, 10), TextLayerKind::Hidden);
        assert_eq!(
            TextLayerKind::Native.and(TextLayerKind::None),
            TextLayerKind::Native
        );
        assert_eq!(
            TextLayerKind::Native.and(TextLayerKind::Hidden),
            TextLayerKind::Hidden
        );
    }
}
