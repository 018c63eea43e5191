//! Objects that are written once: created only if absent, and read back on any doubt.
//!
//! A store may answer "already exists" for a write that succeeded and whose reply was lost, for
//! one that failed with a conflict, and for one that somebody else won. Only the bytes that lie
//! there afterwards tell which, so they must differ between writers that must not be confused:
//! a manifest holds a random nonce, while a version file is equal from whoever writes it.

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::error::{Error, Result};
use crate::place::Place;

/// How often the same object is tried before the store is said to give no answer. Each try is
/// already retried with pauses by the store's own client.
const TRIES: usize = 4;

/// What lies under the name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// What was to be written: by this call, by an earlier one, or by an equal writer.
    Mine,
    /// Something else, which came first.
    Theirs(Bytes),
}

/// Writes an object unless there is one, and says what lies there afterwards.
pub(crate) async fn create_only(place: &Place, key: &str, content: Bytes) -> Result<Created> {
    let path = place.path(key);
    for _ in 0..TRIES {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let payload = PutPayload::from_bytes(content.clone());
        let doubt = match place.store().put_opts(&path, payload, options).await {
            Ok(_) => return Ok(Created::Mine),
            Err(source @ object_store::Error::NotImplemented { .. })
            | Err(source @ object_store::Error::NotSupported { .. }) => {
                return Err(Error::Store {
                    action: "create",
                    path: path.to_string(),
                    source,
                });
            }
            Err(error) => {
                tracing::debug!(%path, %error, "create is in doubt, reading back");
                error
            }
        };
        match read_back(place, &path).await? {
            Some(bytes) if bytes == content => return Ok(Created::Mine),
            Some(bytes) => return Ok(Created::Theirs(bytes)),
            None => {}
        }
        // Who may not write is told so; trying again changes nothing.
        if matches!(
            doubt,
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        ) {
            return Err(Error::store("create", &path)(doubt));
        }
    }
    Err(Error::Undecided {
        path: path.to_string(),
    })
}

/// The object's bytes, or `None` if the store is sure that it is absent.
async fn read_back(place: &Place, path: &object_store::path::Path) -> Result<Option<Bytes>> {
    let mut last = None;
    for _ in 0..TRIES {
        let read = async { place.store().get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(Error::store("read back", path)(error)),
        None => Err(Error::Undecided {
            path: path.to_string(),
        }),
    }
}
