//! Carries row groups from the store to the builder, and finished files to their place.

use std::sync::Arc;

use crate::area::{JobArea, Output};
use crate::error::{Error, Result};
use crate::manifest::PartEntry;
use crate::object::{GroupReader, ParquetObject};
use crate::schema::Table;
use crate::seal::blocking;
use crate::seal::build::{Builder, BuiltFile, PAGE_SUM, Source};
use crate::seal::check::check_file;
use crate::seal::folder::BuildFolder;
use crate::seal::place_files;
use crate::seal::request::SealPlan;
use crate::seal::survey::Survey;
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
        builder: Some(Box::new(Builder::new(
            plan,
            Arc::clone(&looked),
            &build_folder.path(),
        ))),
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
    for part in &looked.parts {
        let object = open_part(owner, part).await?;
        work.take_object(&object, Source::Part, None).await?;
    }
    work.finish().await
}

/// Opens a part whose bytes are what its manifest says.
async fn open_part(owner: &JobArea, part: &PartEntry) -> Result<ParquetObject> {
    /// A part up to this size is fetched once and read from memory.
    const FETCHED_BYTES: u64 = 32 << 20;
    let wrong = || Error::corrupt(&part.key, "is not the part that its manifest lists");
    if part.bytes <= FETCHED_BYTES {
        let content = owner.place.get(&part.key).await?;
        let place = owner.place.clone();
        let part = part.clone();
        return blocking(move || {
            let is_listed = crate::place::sha256(&content) == part.sha256;
            match is_listed {
                true => ParquetObject::fetched(&place, &part.key, content),
                false => Err(Error::corrupt(
                    &part.key,
                    "is not the part that its manifest lists",
                )),
            }
        })
        .await;
    }
    let (bytes, sha256) = owner.place.hash(&part.key).await?;
    match bytes == part.bytes && sha256 == part.sha256 {
        true => ParquetObject::open(&owner.place, &part.key).await,
        false => Err(wrong()),
    }
}

/// A builder that is fed by the store and emptied into it.
struct Work<'a> {
    output: &'a Output,
    is_renamed: bool,
    /// Away only while it works on another thread.
    builder: Option<Box<Builder>>,
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
            self.take_group(source, group).await?;
        }
        Ok(())
    }

    async fn take_group(&mut self, source: Source, group: GroupReader) -> Result<()> {
        let mut builder = self.builder()?;
        let (builder, done) = blocking(move || {
            builder.take(source, group)?;
            let done = builder.take_done();
            Ok((builder, done))
        })
        .await?;
        self.builder = Some(builder);
        self.place(done).await
    }

    async fn finish(mut self) -> Result<Vec<BuiltFile>> {
        let builder = self.builder()?;
        let done = blocking(move || builder.finish()).await?;
        self.place(done).await?;
        Ok(self.files)
    }

    fn builder(&mut self) -> Result<Box<Builder>> {
        self.builder
            .take()
            .ok_or_else(|| Error::Bug("a seal went on after an error".to_owned()))
    }

    async fn place(&mut self, done: Vec<BuiltFile>) -> Result<()> {
        for built in done {
            let built = blocking(move || {
                check_file(&built.file, &built.entry)?;
                Ok(built)
            })
            .await?;
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
