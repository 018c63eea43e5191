//! A store and a prefix in it, addressed by the keys of [`crate::paths`]; on local disk also the
//! folder, because a folder can be renamed into place there.

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::create::{self, Created};
use crate::error::{Error, Result};
use crate::strand::blocking;

/// Up to this size an object is one request; above, the upload has parts.
const ONE_REQUEST_BYTES: u64 = 64 << 20;
const UPLOAD_PART_BYTES: usize = 16 << 20;
const UPLOAD_PARTS_AT_ONCE: usize = 4;

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Relative to the place.
    pub key: String,
    /// Size.
    pub bytes: u64,
    /// When it was written last, Unix milliseconds by the store's clock.
    pub modified_at_ms: i64,
}

/// SHA-256 of bytes, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Size and SHA-256 of a file, read in small pieces.
pub(crate) fn hash_file(file: &FilePath) -> Result<(u64, String)> {
    let mut reader = std::fs::File::open(file).map_err(Error::file("open", file))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let n_read = reader
            .read(&mut buffer)
            .map_err(Error::file("read", file))?;
        if n_read == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..n_read]);
        bytes += n_read as u64;
    }
}

/// A store, a prefix in it, and on local disk the folder that this is.
#[derive(Debug, Clone)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    folder: Option<PathBuf>,
}

impl Place {
    /// A prefix of an object store.
    pub fn remote(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self {
            store,
            prefix,
            folder: None,
        }
    }

    /// A folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create_local(folder: &FilePath) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        Self::open_local(folder)
    }

    /// A folder that exists.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn open_local(folder: &FilePath) -> Result<Self> {
        let folder = folder.canonicalize().map_err(Error::file("open", folder))?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(Error::store("open", &Path::default()))?
            .with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            prefix: Path::default(),
            folder: Some(folder),
        })
    }

    /// The same place behind another store, which must hold the same objects. Tests put a store
    /// that fails in between.
    #[must_use]
    pub fn with_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.store = store;
        self
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The folder, if the place is one of this machine.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    /// A place below this one.
    #[must_use]
    pub(crate) fn below(&self, key: &str) -> Self {
        Self {
            store: Arc::clone(&self.store),
            prefix: self.path(key),
            folder: self.folder.as_ref().map(|folder| folder.join(key)),
        }
    }

    /// The object's path in the store.
    pub(crate) fn path(&self, key: &str) -> Path {
        self.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    /// The object's file, if the place is a folder of this machine.
    pub(crate) fn file(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(key))
    }

    /// For messages: where this is.
    pub fn describe(&self) -> String {
        match &self.folder {
            Some(folder) => folder.display().to_string(),
            None => format!("{}/{}", self.store, self.prefix),
        }
    }

    /// The object, which must be there.
    pub(crate) async fn get(&self, key: &str) -> Result<Bytes> {
        let path = self.path(key);
        let read = async { self.store.get(&path).await?.bytes().await };
        read.await.map_err(Error::store("get", &path))
    }

    /// The object, if it is there.
    pub(crate) async fn find(&self, key: &str) -> Result<Option<Bytes>> {
        match self.get(key).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object's size, if it is there.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>> {
        let path = self.path(key);
        match self.store.head(&path).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::store("look at", &path)(error)),
        }
    }

    /// Size and SHA-256 of the object, read as a stream.
    pub(crate) async fn hash(&self, key: &str) -> Result<(u64, String)> {
        if let Some(file) = self.file(key) {
            return blocking(move || hash_file(&file)).await;
        }
        let path = self.path(key);
        let got = self
            .store
            .get(&path)
            .await
            .map_err(Error::store("get", &path))?;
        let mut stream = got.into_stream();
        let mut hash = Sha256::new();
        let mut bytes = 0;
        while let Some(piece) = stream
            .try_next()
            .await
            .map_err(Error::store("get", &path))?
        {
            bytes += piece.len() as u64;
            hash.update(&piece);
        }
        Ok((bytes, hex::encode(hash.finalize())))
    }

    /// Writes the object over whatever is there.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let path = self.path(key);
        let put = self.store.put(&path, PutPayload::from_bytes(bytes)).await;
        put.map(|_| ()).map_err(Error::store("put", &path))
    }

    /// Writes the object unless there is one.
    pub(crate) async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        create::create_only(self, key, bytes).await
    }

    /// Removes the object if it is there.
    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::store("delete", &path)(error)),
        }
    }

    /// Objects below a prefix that ends in `/`, by key.
    pub(crate) async fn list(&self, below: &str) -> Result<Vec<Listed>> {
        let path = self.path(below);
        let n_prefix = self.prefix.parts().count();
        let mut objects: Vec<Listed> = self
            .store
            .list(Some(&path))
            .map_ok(|meta| Listed {
                key: meta
                    .location
                    .parts()
                    .skip(n_prefix)
                    .collect::<Path>()
                    .to_string(),
                bytes: meta.size,
                modified_at_ms: meta.last_modified.timestamp_millis(),
            })
            .try_collect()
            .await
            .map_err(Error::store("list", &path))?;
        objects.sort();
        Ok(objects)
    }

    /// Folders right below a prefix that ends in `/`, with `/` at their end.
    pub(crate) async fn folders(&self, below: &str) -> Result<Vec<String>> {
        let path = self.path(below);
        let n_prefix = self.prefix.parts().count();
        let listed = self.store.list_with_delimiter(Some(&path)).await;
        let listed = listed.map_err(Error::store("list", &path))?;
        let folder = |path: Path| format!("{}/", path.parts().skip(n_prefix).collect::<Path>());
        Ok(listed.common_prefixes.into_iter().map(folder).collect())
    }

    /// Writes a file of this machine over whatever is there; visible only when complete.
    pub(crate) async fn upload(&self, key: &str, file: &FilePath) -> Result<()> {
        let size = tokio::fs::metadata(file)
            .await
            .map_err(Error::file("look at", file))?
            .len();
        if size <= ONE_REQUEST_BYTES {
            let bytes = tokio::fs::read(file)
                .await
                .map_err(Error::file("read", file))?;
            return self.put(key, Bytes::from(bytes)).await;
        }
        let path = self.path(key);
        let upload = self
            .store
            .put_multipart(&path)
            .await
            .map_err(Error::store("upload", &path))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, UPLOAD_PART_BYTES);
        match self.upload_parts(&path, file, &mut upload).await {
            Ok(()) => upload
                .finish()
                .await
                .map(|_| ())
                .map_err(Error::store("upload", &path)),
            Err(error) => {
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(%path, %abort, "upload could not be taken back");
                }
                Err(error)
            }
        }
    }

    async fn upload_parts(
        &self,
        path: &Path,
        file: &FilePath,
        upload: &mut WriteMultipart,
    ) -> Result<()> {
        let mut reader = tokio::fs::File::open(file)
            .await
            .map_err(Error::file("open", file))?;
        loop {
            let mut part = BytesMut::with_capacity(UPLOAD_PART_BYTES);
            while part.len() < UPLOAD_PART_BYTES {
                let n_read = reader
                    .read_buf(&mut part)
                    .await
                    .map_err(Error::file("read", file))?;
                if n_read == 0 {
                    break;
                }
            }
            if part.is_empty() {
                return Ok(());
            }
            upload
                .wait_for_capacity(UPLOAD_PARTS_AT_ONCE)
                .await
                .map_err(Error::store("upload", path))?;
            upload.put(part.freeze());
        }
    }
}
