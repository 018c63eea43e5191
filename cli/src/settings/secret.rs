//! A value that is used but never shown.

use std::fmt;

use serde::Deserialize;

/// What stands in the place of a secret wherever settings are printed.
pub(crate) const MASK: &str = "***";

/// A secret; prints as [`MASK`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub(crate) fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one place that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Whether the value of this dotted key must not be printed: the passwords. Stores take no
/// credentials from settings, but somebody may try.
pub(crate) fn is_secret(key: &str) -> bool {
    let Some(last) = key.rsplit('.').next() else {
        return false;
    };
    // Tokens of a text are counted, and are no secret.
    let last = last.trim_end_matches("_tokens");
    let words = ["password", "secret", "token", "credential", "sas"];
    words.iter().any(|word| last.contains(word))
        || (key.starts_with("stores.") && (last.contains("key") || last.contains("signature")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_keys_of_stores_are_secret() {
        for key in [
            "render.passwords",
            "stores.a.secret_access_key",
            "stores.a.token",
            "stores.b.sas_key",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "render.dpi",
            "stores.a.region",
            "stores.a.endpoint",
            "job.shard_pages",
            "deepseek_ocr.max_new_tokens",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn secret_does_not_show_itself() {
        let secret = Secret("sesame".into());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), "sesame");
    }
}
