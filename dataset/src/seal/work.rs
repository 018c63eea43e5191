//! Carries row groups from the store to the builder, and finished files to their place.

use std::sync::Arc;

use crate::area::{JobArea, Output};
use crate::error::{Error, Result};
use crate::manifest::PartEntry;
use crate::object::ParquetObject;
use crate::place::sha256;
use crate::schema::Table;
use crate::seal::build::{Builder, BuiltFile, PAGE_SUM, Source};
use crate::seal::check::check_file;
use crate::seal::folder::BuildFolder;
use crate::seal::place_files;
use crate::seal::request::SealPlan;
use crate::seal::survey::Survey;
use crate::strand::{Started, Strand, blocking};
use crate::version::VersionFile;

/// Writes all files of a version. Those of a dataset in an object store are in their place then.
pub(super) async fn write_files(
    output: &Output,
    owner: &JobArea,
    plan: &SealPlan,
    looked: Survey,
    parent: Option<&VersionFile>,
    build_folder: &BuildFolder,
) -> Result<Vec<BuiltFile>> {
    let looked = Arc::new(looked);
    let mut work = Work {
        output,
        is_renamed: build_folder.is_renamed,
        builder: Strand::new(Builder::new(
            plan,
            Arc::clone(&looked),
            &build_folder.path(),
        )),
        pending: None,
        files: Vec::new(),
    };
    let parent_files = |table| {
        let files = parent
            .into_iter()
            .flat_map(move |parent| parent.files_of(table));
        files.map(|file| file.path.as_str())
    };
    for path in parent_files(Table::Documents) {
        work.take_file(path, Source::ParentDocuments, None).await?;
    }
    for path in parent_files(Table::Errors) {
        work.take_file(path, Source::ParentErrors, None).await?;
    }
    // Sums of documents need their pages in files that stay, where there are such documents.
    if !looked.held.is_empty() {
        for path in &plan.kept {
            work.take_file(path, Source::KeptPages, Some(&PAGE_SUM))
                .await?;
        }
    }
    for path in &plan.rewritten {
        work.take_file(path, Source::RewrittenPages, None).await?;
    }
    let mut parts = looked.parts.entries(owner);
    while let Some(part) = parts.next().await? {
        let object = open_part(owner, &part).await?;
        work.take_object(&object, Source::Part, None).await?;
    }
    work.finish().await
}

/// Opens a part whose bytes are what its manifest says.
async fn open_part(owner: &JobArea, part: &PartEntry) -> Result<ParquetObject> {
    /// A part of an object store up to this size is fetched once and read from memory.
    const FETCHED_BYTES: u64 = 32 << 20;
    let is_fetched = part.bytes <= FETCHED_BYTES && owner.folder().is_none();
    let content = match is_fetched {
        true => Some(owner.place.get(&part.key).await?),
        false => None,
    };
    let sha256 = match content.clone() {
        Some(content) => blocking(move || Ok(sha256(&content))).await?,
        None => owner.place.hash(&part.key).await?.1,
    };
    if sha256 != part.sha256 {
        return Err(Error::corrupt(
            &part.key,
            "is not the part that its manifest lists",
        ));
    }
    match content {
        Some(content) => ParquetObject::fetched(&owner.place, &part.key, content),
        None => ParquetObject::open(&owner.place, &part.key).await,
    }
}

/// A builder that is fed by the store and emptied into it. While it works on one row group the
/// next one is fetched.
struct Work<'a> {
    output: &'a Output,
    is_renamed: bool,
    builder: Strand<Builder>,
    /// The row group that the builder works on.
    pending: Option<Started<Result<Vec<BuiltFile>>>>,
    files: Vec<BuiltFile>,
}

impl Work<'_> {
    async fn take_file(
        &mut self,
        path: &str,
        source: Source,
        columns: Option<&[&str]>,
    ) -> Result<()> {
        let object = ParquetObject::open(&self.output.place, path).await?;
        self.take_object(&object, source, columns).await
    }

    async fn take_object(
        &mut self,
        object: &ParquetObject,
        source: Source,
        columns: Option<&[&str]>,
    ) -> Result<()> {
        for idx in 0..object.n_row_groups() {
            let group = object.row_group(idx, columns).await?;
            self.place_pending().await?;
            let step = move |builder: &mut Builder| {
                builder.take(source, group)?;
                checked(builder.take_done())
            };
            self.pending = Some(self.builder.start(step).await?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<BuiltFile>> {
        self.place_pending().await?;
        let step = |builder: &mut Builder| {
            builder.finish()?;
            checked(builder.take_done())
        };
        self.pending = Some(self.builder.start(step).await?);
        self.place_pending().await?;
        self.builder.finish().await?;
        Ok(self.files)
    }

    /// Waits for the builder, and brings the files that it finished to their place.
    async fn place_pending(&mut self) -> Result<()> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        for built in pending.answer().await?? {
            if !self.is_renamed {
                place_files::upload(self.output, &built).await?;
                let removed = tokio::fs::remove_file(&built.file).await;
                removed.map_err(Error::file("remove", &built.file))?;
            }
            self.files.push(built);
        }
        Ok(())
    }
}

fn checked(built: Vec<BuiltFile>) -> Result<Vec<BuiltFile>> {
    built
        .iter()
        .try_for_each(|built| check_file(&built.file, &built.entry))?;
    Ok(built)
}
