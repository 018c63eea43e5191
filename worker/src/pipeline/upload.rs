//! A part to the object store, under the key of its lease. Comes after `write`. One try: whoever
//! holds the lease decides how often.

use std::time::Duration;

use quire_proto::v1::Part;
use tokio::time::Instant;

use super::shard::Shard;
use super::write::WrittenPart;
use crate::error::{Error, Result};
use crate::metrics;

/// A part that cannot be removed within this time stays for the sweep of orphans.
const REMOVE_PATIENCE: Duration = Duration::from_secs(10);

/// Stores the part. A retry overwrites only its own bytes: the key holds the lease.
///
/// # Errors
/// When the part is not stored; it is then still on this machine's disk.
pub(crate) async fn upload(shard: &Shard, part: &WrittenPart) -> Result<Part> {
    let start = Instant::now();
    let file = part.file.path();
    let put = shard.area.put_part(shard.shard_idx, &shard.lease_id, file);
    let key = match put.await {
        Ok(key) => key,
        // It was moved into place, and only what comes after that failed.
        Err(_) if !file.exists() && is_stored(shard, part).await => shard.part_key.clone(),
        Err(source) => {
            metrics::store_error("upload");
            return Err(Error::Part {
                key: shard.part_key.clone(),
                source: Box::new(source),
            });
        }
    };
    metrics::stage("upload", start.elapsed());
    metrics::bytes("up", part.summary.bytes);
    Ok(Part {
        key,
        bytes: part.summary.bytes,
        checksum: part.summary.sha256.clone(),
        etag: String::new(),
    })
}

async fn is_stored(shard: &Shard, part: &WrittenPart) -> bool {
    let found = shard.area.part_bytes(&shard.part_key).await;
    found.is_ok_and(|bytes| bytes == Some(part.summary.bytes))
}

/// Removes a part that nothing will ever list. Not after a commit that may have been accepted.
pub(crate) async fn remove(shard: &Shard) {
    let key = &shard.part_key;
    let removing = shard.area.delete_part(key);
    match tokio::time::timeout(REMOVE_PATIENCE, removing).await {
        Ok(Ok(())) => tracing::debug!(key, "removed a part that nobody lists"),
        Ok(Err(error)) => tracing::debug!(key, %error, "a part that nobody lists stays behind"),
        Err(_) => tracing::debug!(key, "a part that nobody lists stays behind"),
    }
}
