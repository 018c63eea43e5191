//! Identifiers, each its own type so that a shard number is never passed as a page number.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps an identifier that was made or checked elsewhere.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The identifier as it is written in rows, keys and messages.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// One submission of a corpus.
    JobId
}
text_id! {
    /// A grant of one shard to one worker; random, and the fencing token of its commit.
    LeaseId
}
text_id! {
    /// One worker process as the coordinator knows it; leases hang on it.
    SessionId
}
text_id! {
    /// A document: the first 32 hex digits of SHA-256(source URI, 0x00, member path).
    DocId
}

impl DocId {
    /// The identifier of a document, known before a byte of it is fetched.
    ///
    /// `source_uri` is the canonical URI without credentials; `member` is the path inside a
    /// container, if there is one.
    pub fn of(source_uri: &str, member: Option<&str>) -> Self {
        let mut hash = Sha256::new();
        hash.update(source_uri.as_bytes());
        hash.update([0]);
        hash.update(member.unwrap_or("").as_bytes());
        let mut text = hex::encode(hash.finalize());
        text.truncate(32);
        Self(text)
    }
}

/// Position of a shard in the plan of its job, from 0.
pub type ShardIdx = u64;

/// `{doc_id}-{page_number:06}`, where `page_number` counts from 1.
pub fn page_id(doc_id: &DocId, page_number: u32) -> String {
    format!("{doc_id}-{page_number:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_id_separates_source_from_member() {
        let plain = DocId::of("file:///a/b", None);
        let member = DocId::of("file:///a", Some("b"));
        assert_eq!(plain.as_str().len(), 32);
        assert_ne!(plain, member);
        assert_eq!(plain, DocId::of("file:///a/b", None));
    }

    #[test]
    fn page_id_counts_from_one_with_six_digits() {
        assert_eq!(page_id(&DocId::new("d"), 7), "d-000007");
    }
}
