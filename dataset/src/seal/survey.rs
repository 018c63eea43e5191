//! A first look at the rows that a seal is about: only the few columns that tell how many rows
//! each file gets, which earlier rows are replaced, and which documents cannot be summed up on
//! the way because their rows do not stand together.

use std::collections::{BTreeSet, HashSet};

use quire_core::{DocId, JobId, PlannedDocument};
use sha2::{Digest, Sha256};

use crate::area::{JobArea, Output};
use crate::cell::{columns, struct_cell};
use crate::error::{Error, Result};
use crate::object::ParquetObject;
use crate::paths::in_job;
use crate::row::{PartStatus, Split};
use crate::schema::{SCHEMA_VERSION, Table};
use crate::seal::parts::NewParts;
use crate::split::SplitRule;
use crate::version::VersionFile;

/// A document in a set: 16 bytes instead of its text.
pub(crate) type DocKey = [u8; 16];

pub(crate) fn doc_key(doc_id: &DocId) -> DocKey {
    let mut key = [0; 16];
    if hex::decode_to_slice(doc_id.as_str(), &mut key).is_err() {
        let digest = Sha256::digest(doc_id.as_str());
        key.copy_from_slice(&digest[..16]);
    }
    key
}

/// Which part of the commit log a seal adds, and on what terms.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) after_manifest: u64,
    pub(crate) last_manifest: u64,
    /// `None`: every document of the job is read whole.
    pub(crate) whole_documents: Option<Vec<DocId>>,
    pub(crate) split: SplitRule,
}

/// Earlier rows that the new ones replace.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    documents: HashSet<DocKey>,
    /// Single pages of other documents; no page number is the error of the whole document.
    pages: HashSet<(DocKey, Option<i32>)>,
}

impl Replaced {
    /// Whether an earlier row goes. Rows of the sealing job itself never do: they are of
    /// shards that an earlier version already holds.
    pub(crate) fn holds(&self, doc: DocKey, page: Option<i32>, is_own_job: bool) -> bool {
        !is_own_job && (self.documents.contains(&doc) || self.pages.contains(&(doc, page)))
    }

    /// Whether an earlier row of `documents` goes, and not only its sums change.
    pub(crate) fn holds_document(&self, doc: DocKey, is_own_job: bool) -> bool {
        !is_own_job && self.documents.contains(&doc)
    }
}

/// Rows of one row group of a source, by where they go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupCounts {
    /// Shard of the source; `None` for a file of the parent.
    pub(crate) shard_idx: Option<u64>,
    pub(crate) train: u64,
    pub(crate) validation: u64,
    /// Compressed bytes a row, on average.
    pub(crate) row_bytes: u64,
}

/// What the first look found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// New parts, in plan order.
    pub(crate) parts: NewParts,
    pub(crate) replaced: Replaced,
    /// Documents whose sums are held until the end.
    pub(crate) held: HashSet<DocKey>,
    /// Every document with new rows.
    pub(crate) touched: HashSet<DocKey>,
    /// Row groups with pages: rewritten files of the parent, then parts.
    pub(crate) groups: Vec<GroupCounts>,
    pub(crate) rewritten: Vec<String>,
    pub(crate) kept: Vec<String>,
    pub(crate) n_documents: u64,
    pub(crate) n_errors: u64,
}

columns! {
    /// The columns of a part's row that a survey needs.
    pub(crate) struct PartGlance {
        pub(crate) doc_id: Option<DocId>,
        pub(crate) content_sha256: Option<String>,
        pub(crate) page_number: Option<i32>,
        pub(crate) status: PartStatus,
        pub(crate) error: Option<ErrorKey>,
        pub(crate) document: Option<DocumentKey>,
    }
}
columns! {
    /// Which page an error is about.
    pub(crate) struct ErrorKey {
        pub(crate) doc_id: DocId,
        pub(crate) page_number: Option<i32>,
    }
}
columns! {
    /// Which document a row carries.
    pub(crate) struct DocumentKey {
        pub(crate) doc_id: DocId,
    }
}
struct_cell!(ErrorKey);
struct_cell!(DocumentKey);

const PART_GLANCE: [&str; 7] = [
    "doc_id",
    "content_sha256",
    "page_number",
    "status",
    "error.doc_id",
    "error.page_number",
    "document.doc_id",
];

columns! {
    /// Which page or error a row of a sealed table is, and whose.
    pub(crate) struct RowKey {
        pub(crate) doc_id: DocId,
        pub(crate) page_number: Option<i32>,
        pub(crate) job_id: JobId,
    }
}
const ROW_KEY: [&str; 3] = ["doc_id", "page_number", "job_id"];

columns! {
    /// Which document a row of `documents` is, and whose.
    pub(crate) struct DocumentOwner {
        pub(crate) doc_id: DocId,
        pub(crate) job_id: JobId,
    }
}
const DOCUMENT_OWNER: [&str; 2] = ["doc_id", "job_id"];

/// Looks at the new parts, and at the parent version as far as it has to.
pub(crate) async fn survey(
    output: &Output,
    area: &JobArea,
    scope: &Scope,
    parent: Option<&VersionFile>,
) -> Result<Survey> {
    let mut survey = Survey {
        parts: NewParts::find(area, scope.after_manifest, scope.last_manifest).await?,
        ..Survey::default()
    };
    let part_groups = survey.look_at_parts(area, scope).await?;
    if let Some(parent) = parent {
        survey.look_at_parent(output, area.job_id(), parent).await?;
    }
    survey.groups.extend(part_groups);
    Ok(survey)
}

/// Documents that the job's plan reads whole; `None` if it is all of them. Only a retry reads
/// single pages.
pub(crate) async fn whole_documents(area: &JobArea) -> Result<Option<Vec<DocId>>> {
    let mut whole = BTreeSet::new();
    let mut has_single_pages = false;
    for object in area.place.list(in_job::PLAN).await? {
        if in_job::parse_plan_group(&object.key).is_none() {
            continue;
        }
        let lines = area.place.get(&object.key).await?;
        for line in lines
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let document: PlannedDocument = serde_json::from_slice(line)
                .map_err(|error| Error::corrupt(&object.key, format!("is not a plan: {error}")))?;
            match document.whole_document {
                true => drop(whole.insert(document.doc_id)),
                false => has_single_pages = true,
            }
        }
    }
    Ok(has_single_pages.then(|| whole.into_iter().collect()))
}

impl Survey {
    async fn look_at_parts(&mut self, area: &JobArea, scope: &Scope) -> Result<Vec<GroupCounts>> {
        let whole: Option<HashSet<DocKey>> = scope
            .whole_documents
            .as_ref()
            .map(|whole| whole.iter().map(doc_key).collect());
        let mut groups = Vec::new();
        let mut run = Run::default();
        let parts = std::mem::take(&mut self.parts);
        let mut entries = parts.entries(area);
        while let Some(part) = entries.next().await? {
            let object = ParquetObject::open(&area.place, &part.key).await?;
            let mut n_rows = 0;
            for idx in 0..object.n_row_groups() {
                let metadata = object.row_group_metadata(idx);
                let bytes = u64::try_from(metadata.compressed_size()).unwrap_or(0);
                let rows = u64::try_from(metadata.num_rows()).unwrap_or(0);
                let mut counts = GroupCounts {
                    shard_idx: Some(part.shard_idx),
                    train: 0,
                    validation: 0,
                    row_bytes: bytes / rows.max(1),
                };
                let reader = object.row_group(idx, Some(&PART_GLANCE)).await?;
                for glance in reader.glances::<PartGlance>() {
                    let glance = glance?;
                    n_rows += 1;
                    self.count_row(&part.key, &glance, scope, &mut counts)?;
                    self.note_document(&part.key, &glance, whole.as_ref(), &mut run)?;
                }
                groups.push(counts);
            }
            if n_rows != part.rows {
                let what = format!("has {n_rows} rows, its manifest says {}", part.rows);
                return Err(Error::corrupt(&part.key, what));
            }
        }
        drop(entries);
        self.parts = parts;
        self.n_documents = self.touched.len() as u64;
        Ok(groups)
    }

    fn count_row(
        &mut self,
        key: &str,
        glance: &PartGlance,
        scope: &Scope,
        counts: &mut GroupCounts,
    ) -> Result<()> {
        match glance.status {
            PartStatus::Skipped => {}
            PartStatus::Failed => self.n_errors += 1,
            PartStatus::Ok => {
                let content = glance.content_sha256.as_deref();
                let content = content
                    .ok_or_else(|| Error::corrupt(key, "has a page without content_sha256"))?;
                match scope.split.side(content) {
                    Split::Train => counts.train += 1,
                    Split::Validation => counts.validation += 1,
                }
            }
        }
        Ok(())
    }

    fn note_document(
        &mut self,
        key: &str,
        glance: &PartGlance,
        whole: Option<&HashSet<DocKey>>,
        run: &mut Run,
    ) -> Result<()> {
        let (doc_id, page) = match (
            glance.status,
            &glance.doc_id,
            &glance.error,
            &glance.document,
        ) {
            (PartStatus::Ok, Some(doc_id), _, _) => (doc_id, glance.page_number),
            (PartStatus::Failed, _, Some(error), _) => (&error.doc_id, error.page_number),
            (PartStatus::Skipped, _, _, Some(document)) => (&document.doc_id, None),
            _ => return Err(Error::corrupt(key, "has a row of no document")),
        };
        let doc = doc_key(doc_id);
        if run.doc != Some(doc) {
            *run = Run {
                doc: Some(doc),
                pages: HashSet::new(),
            };
            if !self.touched.insert(doc) {
                self.held.insert(doc);
            }
        }
        if !run.pages.insert(page) {
            let page = page.map_or("all of it".to_owned(), |page| format!("page {page}"));
            return Err(Error::corrupt(
                key,
                format!("has document {doc_id} twice: {page}"),
            ));
        }
        match whole.is_none_or(|whole| whole.contains(&doc)) {
            true => self.replaced.documents.insert(doc),
            false => self.replaced.pages.insert((doc, page)),
        };
        Ok(())
    }

    async fn look_at_parent(
        &mut self,
        output: &Output,
        job_id: &JobId,
        parent: &VersionFile,
    ) -> Result<()> {
        let mut is_met = false;
        for file in parent.files_of(Table::Documents) {
            let object = ParquetObject::open(&output.place, &file.path).await?;
            for idx in 0..object.n_row_groups() {
                let reader = object.row_group(idx, Some(&DOCUMENT_OWNER)).await?;
                for owner in reader.glances::<DocumentOwner>() {
                    let owner = owner?;
                    let doc = doc_key(&owner.doc_id);
                    if !self.touched.contains(&doc) {
                        self.n_documents += 1;
                        continue;
                    }
                    is_met = true;
                    let is_own = owner.job_id == *job_id;
                    if !self.replaced.holds_document(doc, is_own) {
                        self.held.insert(doc);
                    }
                }
            }
        }
        for file in parent.files_of(Table::Errors) {
            let counts = self.surviving(output, job_id, &file.path).await?;
            self.n_errors += counts.iter().map(|&(rows, _)| rows).sum::<u64>();
        }
        // All files of a version have one schema, or readers that take them together fail.
        let is_current = parent.schema_version == SCHEMA_VERSION;
        for file in parent.files_of(Table::Pages) {
            // Without a common document there is nothing to replace, and no need to look.
            if !is_met && is_current {
                self.kept.push(file.path.clone());
                continue;
            }
            let counts = self.surviving(output, job_id, &file.path).await?;
            let surviving = counts.iter().map(|&(rows, _)| rows).sum::<u64>();
            if is_current && surviving == file.rows {
                self.kept.push(file.path.clone());
                continue;
            }
            self.rewritten.push(file.path.clone());
            self.groups
                .extend(counts.into_iter().map(|(rows, row_bytes)| {
                    let is_train = file.split != Some(Split::Validation);
                    let (train, validation) = if is_train { (rows, 0) } else { (0, rows) };
                    GroupCounts {
                        shard_idx: None,
                        train,
                        validation,
                        row_bytes,
                    }
                }));
        }
        Ok(())
    }

    /// Rows of each row group of a sealed file that no new row replaces, with their size.
    async fn surviving(
        &self,
        output: &Output,
        job_id: &JobId,
        path: &str,
    ) -> Result<Vec<(u64, u64)>> {
        let object = ParquetObject::open(&output.place, path).await?;
        let mut groups = Vec::new();
        for idx in 0..object.n_row_groups() {
            let metadata = object.row_group_metadata(idx);
            let bytes = u64::try_from(metadata.compressed_size()).unwrap_or(0);
            let all = u64::try_from(metadata.num_rows()).unwrap_or(0);
            let mut rows = 0;
            for key in object
                .row_group(idx, Some(&ROW_KEY))
                .await?
                .glances::<RowKey>()
            {
                let key = key?;
                let doc = doc_key(&key.doc_id);
                let is_own = key.job_id == *job_id;
                rows += u64::from(!self.replaced.holds(doc, key.page_number, is_own));
            }
            groups.push((rows, bytes / all.max(1)));
        }
        Ok(groups)
    }
}

/// Rows of one document that stand together.
#[derive(Debug, Default)]
struct Run {
    doc: Option<DocKey>,
    pages: HashSet<Option<i32>>,
}
