//! A part to the object store, under the key of its lease. Comes after `write`.

use std::time::Duration;

use quire_core::Fault;
use quire_proto::v1::Part;

use super::shard::Shard;
use super::write::WrittenPart;
use crate::error::{Error, Result};

/// Stores the part; tries again while the store is away, for `patience` at most. A retry
/// overwrites only its own bytes: the key holds the lease.
pub(crate) async fn upload(shard: &Shard, part: &WrittenPart, patience: Duration) -> Result<Part> {
    let start = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(200);
    loop {
        match shard
            .area
            .put_part(shard.shard_idx, &shard.lease_id, part.file.path())
            .await
        {
            Ok(key) => {
                return Ok(Part {
                    key,
                    bytes: part.summary.bytes,
                    checksum: part.summary.sha256.clone(),
                    etag: String::new(),
                });
            }
            Err(source) if source.fault() == Fault::Unavailable && start.elapsed() < patience => {
                tracing::warn!(key = shard.part_key, error = %source, "upload failed, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(15));
            }
            Err(source) => {
                return Err(Error::Part {
                    key: shard.part_key.clone(),
                    source: Box::new(source),
                });
            }
        }
    }
}
