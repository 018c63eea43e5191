//! Plan lines to objects: groups of shards as they fill, the index last.

use std::io::Write;

use bytes::Bytes;
use quire_core::{JobId, PlannedDocument};
use quire_dataset::{Created, JobArea};
use sha2::{Digest, Sha256};

use super::index::{INDEX_FORM, PlanGroup, PlanIndex};
use crate::error::{Error, Result};

/// Workers fetch the whole object for one shard, so it is not large; a plan of a million shards
/// still has only some ten thousand of them.
const SHARDS_A_GROUP: usize = 64;
const LINES_A_GROUP: usize = 8192;

/// Writes the plan of one job.
#[derive(Debug)]
pub(super) struct PlanWriter<'a> {
    area: &'a JobArea,
    lines: Vec<u8>,
    n_lines: usize,
    shards: Vec<(u32, u32)>,
    next_number: u64,
    groups: Vec<PlanGroup>,
    rows: u64,
}

impl<'a> PlanWriter<'a> {
    pub(super) fn new(area: &'a JobArea) -> Self {
        Self {
            area,
            lines: Vec::new(),
            n_lines: 0,
            shards: Vec::new(),
            next_number: 0,
            groups: Vec::new(),
            rows: 0,
        }
    }

    /// Adds a shard.
    pub(super) async fn write(&mut self, shard: &[PlannedDocument]) -> Result<()> {
        let mut n_rows = 0;
        for line in shard {
            n_rows += line.n_rows();
            serde_json::to_writer(&mut self.lines, line)
                .map_err(|source| self.unwritable("a plan line", source))?;
            self.lines
                .write_all(b"\n")
                .map_err(|source| self.unwritable("a plan line", serde_json::Error::io(source)))?;
        }
        self.rows += u64::from(n_rows);
        self.n_lines += shard.len();
        self.shards
            .push((u32::try_from(shard.len()).unwrap_or(u32::MAX), n_rows));
        if self.shards.len() >= SHARDS_A_GROUP || self.n_lines >= LINES_A_GROUP {
            self.end_group().await?;
        }
        Ok(())
    }

    /// Writes the index. If another planner was faster, its plan is the plan.
    pub(super) async fn finish(mut self, documents: u64, known: u64) -> Result<PlanIndex> {
        self.end_group().await?;
        let index = PlanIndex {
            form: INDEX_FORM,
            job_id: self.job_id(),
            documents,
            rows: self.rows,
            documents_known: known,
            groups: std::mem::take(&mut self.groups),
        };
        let content = serde_json::to_vec(&index)
            .map_err(|source| self.unwritable("the plan index", source))?;
        let created = self.area.create_plan_index(Bytes::from(content)).await;
        match created.map_err(|source| self.unwritten(source))? {
            Created::Mine => Ok(index),
            Created::Theirs(content) => super::parse_index(&self.job_id(), &content),
        }
    }

    async fn end_group(&mut self) -> Result<()> {
        if self.shards.is_empty() {
            return Ok(());
        }
        let content = Bytes::from(std::mem::take(&mut self.lines));
        let sha256 = hex::encode(Sha256::digest(&content));
        // A number may be taken by a plan that was given up before its index, over inputs that
        // have changed since. Nobody refers to it; ours goes under the next number.
        let number = loop {
            let number = self.next_number;
            self.next_number += 1;
            let created = self.area.create_plan_group(number, content.clone()).await;
            if created.map_err(|source| self.unwritten(source))? == Created::Mine {
                break number;
            }
        };
        let shards = std::mem::take(&mut self.shards);
        self.n_lines = 0;
        self.groups.push(PlanGroup {
            number,
            sha256,
            shards,
        });
        Ok(())
    }

    fn job_id(&self) -> JobId {
        self.area.job_id().clone()
    }

    fn unwritten(&self, source: quire_dataset::Error) -> Error {
        let action = format!("write the plan of job {}", self.area.job_id());
        Error::Dataset {
            action,
            source: Box::new(source),
        }
    }

    fn unwritable(&self, what: &str, source: serde_json::Error) -> Error {
        Error::Stored {
            what: what.to_owned(),
            job_id: self.job_id(),
            source,
        }
    }
}
