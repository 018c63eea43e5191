//! Which documents are held out: decided by a document's bytes, so that equal bytes fall
//! together and nothing changes sides when the corpus grows.

use quire_core::SplitSpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::row::Split;

/// The rule of `split` as version files say it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitRule {
    /// Written before the content's SHA-256.
    pub salt: String,
    /// Share of documents that are held out, 0 to 1.
    pub fraction: f64,
}

impl SplitRule {
    /// The side of a document.
    pub fn side(&self, content_sha256: &str) -> Split {
        side(&self.salt, self.fraction, content_sha256)
    }
}

impl From<&SplitSpec> for SplitRule {
    fn from(spec: &SplitSpec) -> Self {
        Self {
            salt: spec.salt.clone(),
            fraction: spec.validation_fraction,
        }
    }
}

/// The side of a document: `validation` if and only if the first 64 bits of
/// SHA-256(salt, content SHA-256 as 64 hex digits), big-endian, are below the fraction of 2^64.
pub fn split_of(spec: &SplitSpec, content_sha256: &str) -> Split {
    side(&spec.salt, spec.validation_fraction, content_sha256)
}

fn side(salt: &str, fraction: f64, content_sha256: &str) -> Split {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update(content_sha256.as_bytes());
    let digest = hash.finalize();
    let first = digest
        .iter()
        .take(8)
        .fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
    let position = first as f64 / 2_f64.powi(64);
    match position < fraction {
        true => Split::Validation,
        false => Split::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_the_asked_share_of_documents_is_held_out() {
        let spec = SplitSpec {
            salt: "s".to_owned(),
            validation_fraction: 0.25,
        };
        let held_out = (0..4000)
            .filter(|n| split_of(&spec, &format!("{n:064x}")) == Split::Validation)
            .count();
        assert!((900..1100).contains(&held_out), "{held_out} of 4000");
    }

    #[test]
    fn fractions_of_nothing_and_all_hold_for_every_document() {
        for (validation_fraction, expected) in [(0.0, Split::Train), (1.0, Split::Validation)] {
            let spec = SplitSpec {
                salt: String::new(),
                validation_fraction,
            };
            for n in 0..100 {
                assert_eq!(split_of(&spec, &format!("{n:064x}")), expected);
            }
        }
    }
}
