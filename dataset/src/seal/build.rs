//! Writes the files of a version: rows in, files of exactly the planned sizes out. The bytes are
//! a pure function of the seal plan, the parts and the parent version.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quire_core::{DocId, EngineInfo, JobId};

use crate::cell::{Columns, columns};
use crate::digest::RowsDigest;
use crate::error::{Error, Result};
use crate::object::GroupReader;
use crate::row::{DocumentRow, ErrorRow, PageRow, PartRow, Split};
use crate::schema::TableRow;
use crate::seal::documents::DocumentSum;
use crate::seal::request::{PlannedFile, SealPlan};
use crate::seal::survey::{DocKey, Survey, doc_key};
use crate::split::SplitRule;
use crate::version::{EngineUse, FileEntry, Totals};
use crate::writer::RowWriter;

/// A file that was written, and where it lies until it is in its place.
#[derive(Debug)]
pub(crate) struct BuiltFile {
    pub(crate) entry: FileEntry,
    pub(crate) file: PathBuf,
}

/// What a fetched row group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// New rows.
    Part,
    /// `documents` of the parent.
    ParentDocuments,
    /// `errors` of the parent.
    ParentErrors,
    /// A file of the parent's `pages` that stays: only looked at.
    KeptPages,
    /// A file of the parent's `pages` that holds replaced rows.
    RewrittenPages,
}

columns! {
    /// The columns of a page that a document is summed up from.
    pub(crate) struct PageSum {
        pub(crate) doc_id: DocId,
        pub(crate) page_number: Option<i32>,
        pub(crate) language: Option<String>,
        pub(crate) text_chars: Option<i32>,
        pub(crate) text_tokens: Option<i32>,
        pub(crate) job_id: JobId,
    }
}
pub(crate) const PAGE_SUM: [&str; 6] = [
    "doc_id",
    "page_number",
    "language",
    "text_chars",
    "text_tokens",
    "job_id",
];

/// Takes row groups in order and writes files.
#[derive(Debug)]
pub(crate) struct Builder {
    job_id: JobId,
    split: SplitRule,
    survey: Arc<Survey>,
    train: FileRow<PageRow>,
    validation: FileRow<PageRow>,
    documents: FileRow<DocumentRow>,
    errors: FileRow<ErrorRow>,
    /// The document whose rows are passing.
    current: Option<(DocKey, DocumentSum)>,
    held: BTreeMap<DocKey, DocumentSum>,
    done: Vec<BuiltFile>,
    scratch: Vec<u8>,
}

impl Builder {
    /// Starts to write below a folder, which stands for the version's own folder.
    pub(crate) fn new(plan: &SealPlan, survey: Arc<Survey>, folder: &Path) -> Self {
        Self {
            job_id: plan.job_id.clone(),
            split: plan.split.clone(),
            survey,
            train: FileRow::new(plan, Some(Split::Train), folder),
            validation: FileRow::new(plan, Some(Split::Validation), folder),
            documents: FileRow::new(plan, None, folder),
            errors: FileRow::new(plan, None, folder),
            current: None,
            held: BTreeMap::new(),
            done: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes one row group.
    pub(crate) fn take(&mut self, source: Source, group: GroupReader) -> Result<()> {
        match source {
            Source::Part => group
                .rows::<PartRow>()
                .try_for_each(|row| self.new_row(row?)),
            Source::ParentDocuments => group
                .rows::<DocumentRow>()
                .try_for_each(|row| self.parent_document(row?)),
            Source::ParentErrors => group
                .rows::<ErrorRow>()
                .try_for_each(|row| self.parent_error(row?)),
            Source::KeptPages => group
                .glances::<PageSum>()
                .try_for_each(|page| self.kept_page(page?)),
            Source::RewrittenPages => group
                .rows::<PageRow>()
                .try_for_each(|row| self.parent_page(row?)),
        }
    }

    /// Files that were finished since the last call.
    pub(crate) fn take_done(&mut self) -> Vec<BuiltFile> {
        std::mem::take(&mut self.done)
    }

    /// Ends the last files.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.end_document()?;
        for (_, sum) in std::mem::take(&mut self.held) {
            self.write_document(sum)?;
        }
        self.train.check_finished()?;
        self.validation.check_finished()?;
        self.documents.check_finished()?;
        self.errors.check_finished()
    }

    fn new_row(&mut self, row: PartRow) -> Result<()> {
        let doc = doc_key(row.doc_id());
        let is_held = self.survey.held.contains(&doc);
        if !is_held
            && self
                .current
                .as_ref()
                .is_none_or(|(current, _)| *current != doc)
        {
            self.end_document()?;
            self.current = Some((doc, DocumentSum::default()));
        }
        let sum = match &mut self.current {
            Some((_, sum)) if !is_held => sum,
            _ => self.held.entry(doc).or_default(),
        };
        match row {
            PartRow::Page { page, document } => {
                document.into_iter().for_each(|row| sum.take_row(*row));
                sum.add_page(&page);
                self.write_page(*page)
            }
            PartRow::Failed { error, document } => {
                document.into_iter().for_each(|row| sum.take_row(*row));
                sum.add_error(&error);
                self.write_error(*error)
            }
            PartRow::Skipped { document } => {
                sum.take_row(*document);
                Ok(())
            }
        }
    }

    fn parent_document(&mut self, row: DocumentRow) -> Result<()> {
        let doc = doc_key(&row.doc_id);
        if !self.survey.touched.contains(&doc) {
            return self
                .documents
                .write(row, false, &mut self.done, &mut self.scratch);
        }
        let is_own = row.job_id == self.job_id;
        if !self.survey.replaced.holds_document(doc, is_own) {
            self.held.entry(doc).or_default().take_row(row);
        }
        Ok(())
    }

    fn parent_error(&mut self, row: ErrorRow) -> Result<()> {
        let doc = doc_key(&row.doc_id);
        let is_own = row.job_id == self.job_id;
        if self.survey.replaced.holds(doc, row.page_number, is_own) {
            return Ok(());
        }
        if self.survey.held.contains(&doc) {
            self.held.entry(doc).or_default().add_error(&row);
        }
        self.write_error(row)
    }

    fn kept_page(&mut self, page: PageSum) -> Result<()> {
        let doc = doc_key(&page.doc_id);
        if self.survey.held.contains(&doc) {
            self.held.entry(doc).or_default().add_read(
                page.language.as_deref(),
                page.text_chars.unwrap_or(0),
                page.text_tokens,
            );
        }
        Ok(())
    }

    fn parent_page(&mut self, page: PageRow) -> Result<()> {
        let doc = doc_key(&page.doc_id);
        let is_own = page.job_id == self.job_id;
        if self
            .survey
            .replaced
            .holds(doc, Some(page.page_number), is_own)
        {
            return Ok(());
        }
        if self.survey.held.contains(&doc) {
            self.held.entry(doc).or_default().add_page(&page);
        }
        self.write_page(page)
    }

    fn write_page(&mut self, mut page: PageRow) -> Result<()> {
        page.split = self.split.side(&page.content_sha256);
        let has_image = page.image.is_some();
        let file = match page.split {
            Split::Train => &mut self.train,
            Split::Validation => &mut self.validation,
        };
        file.write(page, has_image, &mut self.done, &mut self.scratch)
    }

    fn write_error(&mut self, row: ErrorRow) -> Result<()> {
        self.errors
            .write(row, false, &mut self.done, &mut self.scratch)
    }

    fn end_document(&mut self) -> Result<()> {
        match self.current.take() {
            Some((_, sum)) => self.write_document(sum),
            None => Ok(()),
        }
    }

    fn write_document(&mut self, sum: DocumentSum) -> Result<()> {
        match sum.finish(&self.job_id, &self.split) {
            Some(row) => self
                .documents
                .write(row, false, &mut self.done, &mut self.scratch),
            None => Ok(()),
        }
    }
}

/// Rows that can be counted into a file's totals.
pub(crate) trait Counted: TableRow + Columns {
    fn count(&self, totals: &mut Totals);
    /// Who read the page.
    fn engine(&self) -> Option<EngineInfo> {
        None
    }
    /// Whether that is this one.
    fn is_of(&self, _engine: &EngineInfo) -> bool {
        false
    }
    /// The model whose tokenizer counted the page's text.
    fn tokenizer(&self) -> Option<&str> {
        None
    }
}

impl Counted for PageRow {
    fn count(&self, totals: &mut Totals) {
        totals.add_page(self);
    }

    fn engine(&self) -> Option<EngineInfo> {
        Some(EngineInfo {
            name: self.engine.clone(),
            version: self.engine_version.clone(),
            model_id: self.model_id.clone(),
            model_revision: self.model_revision.clone(),
            mode: self.engine_mode.clone(),
        })
    }

    fn is_of(&self, engine: &EngineInfo) -> bool {
        self.engine == engine.name
            && self.engine_version == engine.version
            && self.model_id == engine.model_id
            && self.model_revision == engine.model_revision
            && self.engine_mode == engine.mode
    }

    fn tokenizer(&self) -> Option<&str> {
        self.text_tokens.map(|_| self.model_id.as_str())
    }
}

impl Counted for DocumentRow {
    fn count(&self, totals: &mut Totals) {
        totals.documents += 1;
    }
}

impl Counted for ErrorRow {
    fn count(&self, totals: &mut Totals) {
        totals.errors += 1;
    }
}

/// Sums of the rows of one file.
#[derive(Debug, Default)]
pub(crate) struct FileSums {
    pub(crate) totals: Totals,
    pub(crate) engines: Vec<EngineUse>,
    pub(crate) tokenizers: BTreeSet<String>,
    pub(crate) digest: RowsDigest,
}

impl FileSums {
    pub(crate) fn add<R: Counted>(&mut self, row: &R, scratch: &mut Vec<u8>) {
        row.count(&mut self.totals);
        self.digest.add_row(row, scratch);
        if let Some(tokenizer) = row.tokenizer()
            && !self.tokenizers.contains(tokenizer)
        {
            self.tokenizers.insert(tokenizer.to_owned());
        }
        match self
            .engines
            .iter_mut()
            .find(|known| row.is_of(&known.engine))
        {
            Some(known) => known.pages += 1,
            None => {
                let engine = row.engine().map(|engine| EngineUse { engine, pages: 1 });
                self.engines.extend(engine);
            }
        }
    }
}

/// The files of a table and split, one after the other, each of exactly its planned rows.
#[derive(Debug)]
struct FileRow<R: Counted> {
    folder: PathBuf,
    /// What the paths of the plan begin with, which `folder` stands for.
    above: String,
    planned: VecDeque<PlannedFile>,
    open: Option<OpenFile<R>>,
}

#[derive(Debug)]
struct OpenFile<R: Counted> {
    planned: PlannedFile,
    file: PathBuf,
    writer: RowWriter<R>,
    sums: FileSums,
    rows: u64,
}

impl<R: Counted> FileRow<R> {
    fn new(plan: &SealPlan, split: Option<Split>, folder: &Path) -> Self {
        let is_mine = |file: &&PlannedFile| file.table == R::TABLE && file.split == split;
        Self {
            folder: folder.to_owned(),
            above: crate::paths::version_data(plan.version),
            planned: plan.files.iter().filter(is_mine).cloned().collect(),
            open: None,
        }
    }

    fn write(
        &mut self,
        row: R,
        has_image: bool,
        done: &mut Vec<BuiltFile>,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start()?,
        };
        open.sums.add(&row, scratch);
        open.writer.write(row, has_image)?;
        open.rows += 1;
        match open.rows == open.planned.rows {
            true => done.push(open.finish()?),
            false => self.open = Some(open),
        }
        Ok(())
    }

    fn start(&mut self) -> Result<OpenFile<R>> {
        let planned = self.planned.pop_front().ok_or_else(|| {
            Error::corrupt(
                &self.above,
                format!("gets more rows of {} than planned", R::TABLE),
            )
        })?;
        let below = planned.path.strip_prefix(&self.above);
        let below = below.ok_or_else(|| Error::corrupt(&planned.path, "is of another version"))?;
        let file = self.folder.join(below);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        let writer = RowWriter::create(File::create(&file).map_err(Error::file("create", &file))?)?;
        Ok(OpenFile {
            planned,
            file,
            writer,
            sums: FileSums::default(),
            rows: 0,
        })
    }

    fn check_finished(&self) -> Result<()> {
        let short = self
            .open
            .as_ref()
            .map(|open| &open.planned)
            .or(self.planned.front());
        match short {
            Some(planned) => Err(Error::corrupt(
                &planned.path,
                "gets fewer rows than planned",
            )),
            None => Ok(()),
        }
    }
}

impl<R: Counted> OpenFile<R> {
    fn finish(self) -> Result<BuiltFile> {
        let summary = self.writer.finish()?;
        let entry = FileEntry {
            table: self.planned.table,
            split: self.planned.split,
            path: self.planned.path,
            bytes: summary.bytes,
            sha256: summary.sha256,
            rows: summary.rows,
            row_groups: summary.row_groups,
            rows_digest: self.sums.digest.to_hex(),
            totals: self.sums.totals,
            engines: self.sums.engines,
            tokenizers: self.sums.tokenizers,
        };
        Ok(BuiltFile {
            entry,
            file: self.file,
        })
    }
}
