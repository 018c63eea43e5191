//! Versions of the code, as far as they can be told apart.

use std::fmt;

/// Three numbers; what follows them, such as a build's name, is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version([u64; 3]);

impl Version {
    /// The version written as `text`, such as `0.1.0` or `1.2.3-dev`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let core = text.split(['-', '+']).next()?;
        let mut numbers = core.split('.').map(|number| number.parse().ok());
        let parsed = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some(Self(parsed))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Whether code that says it is `version` is older than `oldest`. What is no version is a build
/// of somebody's own, which is theirs to judge.
pub(crate) fn is_too_old(version: &str, oldest: &str) -> bool {
    match (Version::parse(version), Version::parse(oldest)) {
        (Some(version), Some(oldest)) => version < oldest,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_decide_and_not_letters() {
        assert!(is_too_old("0.9.9", "0.10.0"));
        assert!(is_too_old("0.1.0-dev", "0.1.1"));
        assert!(!is_too_old("0.1.0+abc", "0.1.0"));
        assert!(!is_too_old("2.0.0", "1.9.9"));
        assert!(!is_too_old("mine", "1.0.0"));
        assert_eq!(Version::parse("1.2"), None);
        assert_eq!(Version::parse("1.2.3.4"), None);
    }
}
