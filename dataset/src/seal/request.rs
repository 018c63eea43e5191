//! What a seal is asked to do, and what it then fixes for good before it writes the first file.

use std::path::PathBuf;

use quire_core::{DocId, JobId, JobSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::row::Split;
use crate::schema::Table;
use crate::split::SplitRule;
use crate::version::RenderNote;

/// What a version is to say besides its rows.
#[derive(Debug, Clone)]
pub struct SealRequest {
    /// What the job asked for.
    pub spec: JobSpec,
    /// When the version is made, milliseconds since the Unix epoch.
    pub created_at_unix_ms: i64,
    /// Rows of the job's plan: sealing fails if committed rows do not add up to it. `None`
    /// seals what is committed so far.
    pub planned_rows: Option<u64>,
    /// Name of the dataset on its card.
    pub title: Option<String>,
    /// License of the dataset as a whole, as its maker gives it; `None` is written as `other`.
    pub license: Option<String>,
    /// Who drew the pages, with version.
    pub renderer: String,
    /// Version of the renderer.
    pub renderer_version: String,
    /// Folder of this machine for files on their way to an object store. A dataset on local
    /// disk does not use it.
    pub scratch: PathBuf,
}

impl SealRequest {
    pub(crate) fn render_note(&self) -> RenderNote {
        RenderNote {
            renderer: self.renderer.clone(),
            version: self.renderer_version.clone(),
            dpi: self.spec.render.dpi,
            max_edge_px: self.spec.render.max_edge_px,
            max_area_px: self.spec.render.max_area_px,
        }
    }

    pub(crate) fn spec_sha256(&self) -> Result<String> {
        let json = serde_json::to_vec(&self.spec)
            .map_err(|error| Error::Bug(format!("a job specification is not JSON: {error}")))?;
        Ok(hex::encode(Sha256::digest(json)))
    }

    pub(crate) fn created_at(&self) -> Result<String> {
        jiff::Timestamp::from_millisecond(self.created_at_unix_ms)
            .map(|at| at.to_string())
            .map_err(|error| Error::Bug(format!("the time of sealing is none: {error}")))
    }
}

/// Everything that the bytes of a version depend on, besides the parts and the parent version.
/// Created once; whoever finishes the seal follows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SealPlan {
    pub(crate) version: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) job_id: JobId,
    /// Only this writer gives these bytes.
    pub(crate) writer: String,
    pub(crate) schema_version: String,
    pub(crate) created_at: String,
    pub(crate) spec_sha256: String,
    pub(crate) title: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) render: RenderNote,
    pub(crate) split: SplitRule,
    /// Parts of manifests after this one, up to `last_manifest`, are added.
    pub(crate) after_manifest: u64,
    pub(crate) last_manifest: u64,
    /// Documents of which all earlier rows are replaced; `None`: every document of the job.
    pub(crate) whole_documents: Option<Vec<DocId>>,
    /// Files of the parent's pages that hold replaced rows: what is left of them stands before
    /// the new rows.
    pub(crate) rewritten: Vec<String>,
    /// Files of the parent's pages that stay as they are.
    pub(crate) kept: Vec<String>,
    /// Files to write, in order.
    pub(crate) files: Vec<PlannedFile>,
}

/// A file that a seal writes: the next `rows` rows of its table and split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedFile {
    pub(crate) table: Table,
    pub(crate) split: Option<Split>,
    pub(crate) path: String,
    pub(crate) rows: u64,
    /// First and last shard of the job with rows in it, where it is cut from parts.
    pub(crate) shards: Option<(u64, u64)>,
}

/// Says which job writes the files of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) version: u64,
    pub(crate) job_id: JobId,
}
