//! The published sizes of the text networks.

/// Which pair of text detector and recognizer reads. Angle classifier and layout detector are the
/// same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// PP-OCRv6 small.
    #[default]
    Small,
    /// PP-OCRv6 tiny: a third of the time, twice the errors, and about a third of the characters.
    Tiny,
}

impl Mode {
    /// The default first.
    pub const ALL: [Self; 2] = [Self::Small, Self::Tiny];

    /// Its name in rows and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Tiny => "tiny",
        }
    }

    /// The mode of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Which published model this is.
    pub(crate) fn model_id(self) -> &'static str {
        match self {
            Self::Small => "PP-OCRv6-small",
            Self::Tiny => "PP-OCRv6-tiny",
        }
    }
}
