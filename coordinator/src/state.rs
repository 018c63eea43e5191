//! What a run on one machine keeps besides objects: its lock and its database. For a dataset on
//! local disk both lie beside the job areas in `OUT.quire`; for one in an object store, in a
//! folder of this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quire_core::Clock;
use quire_corpus::{Place, Stores};
use quire_dataset::paths::AREA_SUFFIX;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::lock::ExclusiveLock;
use crate::store::SqliteStore;

const LOCK: &str = "lock";
const DATABASE: &str = "state.db";
/// Hex digits that tell datasets in object stores apart.
const NAME_DIGITS: usize = 16;

/// The lock and the database of a run.
#[derive(Debug)]
pub struct RunState {
    folder: PathBuf,
    store: Arc<SqliteStore>,
    _lock: ExclusiveLock,
}

impl RunState {
    /// Takes the lock and opens the database of the dataset at `out`. `remote_folder` is where
    /// the state of datasets in object stores is kept.
    ///
    /// # Errors
    /// [`Error::Locked`] if another run works on this output; also when files cannot be made.
    pub async fn open(
        stores: &Stores,
        out: &str,
        remote_folder: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let folder = folder(stores, out, remote_folder)?;
        let lock = ExclusiveLock::take(&folder.join(LOCK))?;
        let store = SqliteStore::open(&folder.join(DATABASE), clock).await?;
        Ok(Self {
            folder,
            store: Arc::new(store),
            _lock: lock,
        })
    }

    /// The database.
    pub fn store(&self) -> Arc<SqliteStore> {
        Arc::clone(&self.store)
    }

    /// Where lock and database lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes the database, then lets the lock go.
    pub async fn close(self) {
        self.store.close().await;
    }
}

fn folder(stores: &Stores, out: &str, remote_folder: &Path) -> Result<PathBuf> {
    let named = |source| Error::Corpus {
        action: "name the run's state".into(),
        source,
    };
    let sibling = quire_corpus::sibling(out, AREA_SUFFIX).map_err(named)?;
    let location = stores.resolve(&sibling).map_err(named)?;
    Ok(match location.place {
        Place::Local(folder) => folder,
        Place::Remote { .. } => {
            let mut name = hex::encode(Sha256::digest(&location.uri));
            name.truncate(NAME_DIGITS);
            remote_folder.join(name)
        }
    })
}
