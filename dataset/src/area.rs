//! The two places of a dataset as types: [`Output`] is `OUT`, which people read; [`JobArea`] is
//! one job's folder in the sibling `OUT.quire`, where everything uncommitted lies.

use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use quire_core::{JobId, LeaseId, ShardIdx};

use crate::create::Created;
use crate::error::{Error, Result};
use crate::paths::{self, in_job};
use crate::place::{Listed, Place};

/// The dataset that people read.
#[derive(Debug, Clone)]
pub struct Output {
    pub(crate) place: Place,
    /// `OUT.quire`; on local disk it may not exist yet.
    pub(crate) areas: Areas,
}

#[derive(Debug, Clone)]
pub(crate) enum Areas {
    At(Place),
    /// The folder is made when the first job needs it: a dataset that is only read gets none.
    Folder(std::path::PathBuf),
}

impl Output {
    /// A dataset below a prefix of an object store; its job areas lie in the same store.
    pub fn remote(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        let sibling = format!("{prefix}{}", paths::AREA_SUFFIX);
        let areas = Place::remote(Arc::clone(&store), parsed(&sibling));
        Self {
            place: Place::remote(store, prefix),
            areas: Areas::At(areas),
        }
    }

    /// A dataset in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create_local(folder: &FilePath) -> Result<Self> {
        Self::at_folder(Place::create_local(folder)?)
    }

    /// A dataset in a folder that exists.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn open_local(folder: &FilePath) -> Result<Self> {
        Self::at_folder(Place::open_local(folder)?)
    }

    /// A dataset and its job areas at two places that are already open.
    pub fn at(place: Place, areas: Place) -> Self {
        Self {
            place,
            areas: Areas::At(areas),
        }
    }

    fn at_folder(place: Place) -> Result<Self> {
        let folder = place.folder().unwrap_or(FilePath::new("/"));
        let Some(name) = folder.file_name() else {
            let message = format!("{} cannot hold a dataset", folder.display());
            return Err(Error::Config(message));
        };
        let mut sibling = name.to_owned();
        sibling.push(paths::AREA_SUFFIX);
        let areas = Areas::Folder(folder.with_file_name(sibling));
        Ok(Self { place, areas })
    }

    /// The area of a job; on local disk its folder is made.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn job_area(&self, job_id: &JobId) -> Result<JobArea> {
        let areas = match &self.areas {
            Areas::At(place) => place.clone(),
            Areas::Folder(folder) => Place::create_local(folder)?,
        };
        Ok(JobArea::new(areas, job_id.clone()))
    }

    /// Where job areas lie, if there are any.
    pub(crate) fn areas(&self) -> Result<Option<Place>> {
        match &self.areas {
            Areas::At(place) => Ok(Some(place.clone())),
            Areas::Folder(folder) if folder.is_dir() => Place::open_local(folder).map(Some),
            Areas::Folder(_) => Ok(None),
        }
    }

    /// The jobs that have an area, by id.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn jobs(&self) -> Result<Vec<JobId>> {
        let Some(areas) = self.areas()? else {
            return Ok(Vec::new());
        };
        let mut jobs: Vec<JobId> = areas
            .folders(paths::JOBS)
            .await?
            .iter()
            .filter_map(|folder| paths::parse_job(folder))
            .collect();
        jobs.sort();
        Ok(jobs)
    }

    /// For messages: where this is.
    pub fn describe(&self) -> String {
        self.place.describe()
    }

    /// The folder, if the dataset is on this machine.
    pub fn folder(&self) -> Option<&FilePath> {
        self.place.folder()
    }
}

/// One job's own area; readers of the dataset never look here.
#[derive(Debug, Clone)]
pub struct JobArea {
    /// `OUT.quire`.
    pub(crate) areas: Place,
    /// `OUT.quire/jobs/{job_id}`.
    pub(crate) place: Place,
    job_id: JobId,
}

impl JobArea {
    /// The area of a job in `OUT.quire`.
    pub fn new(areas: Place, job_id: JobId) -> Self {
        let place = areas.below(&paths::job(&job_id));
        Self {
            areas,
            place,
            job_id,
        }
    }

    /// Whose area it is.
    pub fn job_id(&self) -> &JobId {
        &self.job_id
    }

    /// The area of another job of the same dataset.
    pub(crate) fn of(&self, job_id: &JobId) -> Self {
        Self::new(self.areas.clone(), job_id.clone())
    }

    /// The folder, if it is on this machine.
    pub fn folder(&self) -> Option<&FilePath> {
        self.place.folder()
    }

    /// Writes `job.json` unless there is one.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn create_job(&self, content: Bytes) -> Result<Created> {
        self.place.create(in_job::JOB, content).await
    }

    /// `job.json`, if there is one.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn job(&self) -> Result<Option<Bytes>> {
        self.place.find(in_job::JOB).await
    }

    /// Writes an object of the plan unless there is one.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn create_plan_group(&self, group: u64, content: Bytes) -> Result<Created> {
        self.place.create(&in_job::plan_group(group), content).await
    }

    /// An object of the plan.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn plan_group(&self, group: u64) -> Result<Bytes> {
        self.place.get(&in_job::plan_group(group)).await
    }

    /// Any object of this area by its key, such as the `plan_key` of a lease.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        self.place.get(key).await
    }

    /// Writes the index of the plan unless there is one: from now on the plan exists.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn create_plan_index(&self, content: Bytes) -> Result<Created> {
        self.place.create(in_job::PLAN_INDEX, content).await
    }

    /// The index of the plan, if the plan exists.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn plan_index(&self) -> Result<Option<Bytes>> {
        self.place.find(in_job::PLAN_INDEX).await
    }

    /// Puts a finished part under its lease's key and returns the key. A local file on the same
    /// disk is moved there, any other is copied or uploaded.
    ///
    /// # Errors
    /// When the part cannot be written; the file is then still where it was.
    pub async fn put_part(
        &self,
        shard_idx: ShardIdx,
        lease_id: &LeaseId,
        file: &FilePath,
    ) -> Result<String> {
        let key = in_job::part(shard_idx, lease_id);
        if let Some(target) = self.place.file(&key) {
            if let Some(folder) = target.parent() {
                let made = tokio::fs::create_dir_all(folder).await;
                made.map_err(Error::file("create", folder))?;
            }
            // A rename is atomic, and fails without harm on another disk.
            if tokio::fs::rename(file, &target).await.is_ok() {
                sync_folder(target.parent()).await?;
                return Ok(key);
            }
        }
        self.place.upload(&key, file).await?;
        Ok(key)
    }

    /// Puts a finished part that is in memory under its lease's key and returns the key.
    ///
    /// # Errors
    /// When the part cannot be written.
    pub async fn put_part_bytes(
        &self,
        shard_idx: ShardIdx,
        lease_id: &LeaseId,
        content: Bytes,
    ) -> Result<String> {
        let key = in_job::part(shard_idx, lease_id);
        self.place.put(&key, content).await?;
        Ok(key)
    }

    /// Size of a part, if it is there.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn part_bytes(&self, key: &str) -> Result<Option<u64>> {
        self.place.size(key).await
    }

    /// Removes a part that no manifest lists.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn delete_part(&self, key: &str) -> Result<()> {
        self.place.delete(key).await
    }

    /// All parts, committed or not.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn list_parts(&self) -> Result<Vec<Listed>> {
        self.place.list(in_job::PARTS).await
    }
}

/// Makes a rename durable: a manifest must never outlive a part that it lists.
pub(crate) async fn sync_folder(folder: Option<&FilePath>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    let opened = tokio::fs::File::open(folder)
        .await
        .map_err(Error::file("open", folder))?;
    opened.sync_all().await.map_err(Error::file("sync", folder))
}

/// A prefix that already has the store's own spelling.
fn parsed(prefix: &str) -> Path {
    Path::parse(prefix).unwrap_or_else(|_| Path::from(prefix))
}
