//! Random access to the bytes of one object, local or remote or in memory, for blocking code.
//!
//! Containers are read through this seam, so that a tar of many gigabytes in a bucket costs a few
//! megabytes of memory. Every length is checked against the object's own before memory is taken.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use quire_core::{Stage, Trouble, TroubleCode};
use tokio::runtime::Handle;

use crate::address::Address;
use crate::entry::Entry;
use crate::error::{Error, scrub};
use crate::stores::{Place, Stores};
use crate::unreadable::{TroubleError, trouble_of_io};

/// Bytes fetched at once from a store while reading in order; also the largest single request.
const REMOTE_CHUNK: u64 = 8 << 20;
/// Requests in flight for one large read.
const REMOTE_REQUESTS: usize = 4;
/// Bytes read at once from a local file while reading in order.
const LOCAL_CHUNK: u64 = 256 << 10;

const CHANGED: &str = "the object has changed since it was listed";

/// The bytes of one object. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    File { file: Arc<File>, len: u64 },
    Memory(Bytes),
    Remote(Arc<RemoteObject>),
}

#[derive(Debug)]
pub(crate) struct RemoteObject {
    runtime: Handle,
    store: Arc<dyn ObjectStore>,
    path: Path,
    etag: Option<String>,
    len: u64,
}

/// Entity tag of a local file: time of its last change and its size.
pub(crate) fn local_etag(metadata: &Metadata) -> String {
    let nanos = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    format!("{nanos:x}-{:x}", metadata.len())
}

impl Object {
    /// Opens what `entry` names, and refuses it if it has changed since it was listed.
    /// An object of the web is read whole by that, since many of its servers hand out no ranges.
    pub(crate) fn open(stores: &Stores, entry: &Entry, runtime: &Handle) -> Result<Self, Trouble> {
        let other = |e: Error| Trouble::new(Stage::Fetch, TroubleCode::Other, e.to_string());
        let known = entry.etag.as_deref();
        let address = Address::parse(&entry.uri).map_err(other)?;
        if let Address::Web(url) = &address {
            return runtime.block_on(stores.web().read(url, known));
        }
        match stores.at(&address).map_err(other)?.place {
            Place::Local(path) => Self::open_file(&path, known),
            Place::Remote { store, path } => {
                runtime.block_on(Self::open_remote(&store, &path, known, runtime))
            }
        }
    }

    pub(crate) fn open_file(path: &FilePath, known_etag: Option<&str>) -> Result<Self, Trouble> {
        let fetch = |e: io::Error| trouble_of_io(&e, Stage::Fetch);
        // Opening a pipe or device could wait for ever, so what it is comes first.
        let metadata = std::fs::metadata(path).map_err(fetch)?;
        if !metadata.is_file() {
            let what = "is no regular file";
            return Err(Trouble::new(Stage::Fetch, TroubleCode::Unsupported, what));
        }
        let file = File::open(path).map_err(fetch)?;
        let metadata = file.metadata().map_err(fetch)?;
        check_etag(known_etag, Some(&local_etag(&metadata)))?;
        Ok(Self::File {
            file: Arc::new(file),
            len: metadata.len(),
        })
    }

    async fn open_remote(
        store: &Arc<dyn ObjectStore>,
        path: &Path,
        known_etag: Option<&str>,
        runtime: &Handle,
    ) -> Result<Self, Trouble> {
        let head = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let answer = store
            .get_opts(path, head)
            .await
            .map_err(|e| trouble_of_store(&e))?;
        let meta = answer.meta;
        check_etag(known_etag, meta.e_tag.as_deref())?;
        Ok(Self::Remote(Arc::new(RemoteObject {
            runtime: runtime.clone(),
            store: store.clone(),
            path: path.clone(),
            etag: meta.e_tag,
            len: meta.size,
        })))
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Remote(remote) => remote.len,
        }
    }

    /// Exactly `len` bytes from `offset` on; `UnexpectedEof` if the object ends before.
    pub(crate) fn read_at(&self, offset: u64, len: u64) -> io::Result<Bytes> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len());
        let (Some(end), Ok(size)) = (end, usize::try_from(len)) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        match self {
            Self::File { file, .. } => {
                let mut buffer = vec![0; size];
                file.read_exact_at(&mut buffer, offset)?;
                Ok(buffer.into())
            }
            Self::Memory(bytes) => Ok(bytes.slice(offset as usize..end as usize)),
            Self::Remote(remote) => remote.runtime.block_on(remote.read_range(offset, end)),
        }
    }

    /// Up to `len` bytes from the start.
    pub(crate) fn head(&self, len: u64) -> io::Result<Bytes> {
        self.read_at(0, len.min(self.len()))
    }

    /// A reader over the whole object, from its start.
    pub(crate) fn reader(&self) -> ObjectReader {
        let ahead = match self {
            Self::File { .. } => LOCAL_CHUNK,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Remote(_) => REMOTE_CHUNK,
        };
        ObjectReader {
            object: self.clone(),
            at: 0,
            window: Bytes::new(),
            window_at: 0,
            ahead,
        }
    }
}

impl RemoteObject {
    async fn read_range(&self, start: u64, end: u64) -> io::Result<Bytes> {
        if end - start <= REMOTE_CHUNK {
            return self.read_piece(start, end).await;
        }
        let starts: Vec<u64> = (start..end).step_by(REMOTE_CHUNK as usize).collect();
        let mut pieces = futures::stream::iter(starts)
            .map(|at| self.read_piece(at, end.min(at + REMOTE_CHUNK)))
            .buffered(REMOTE_REQUESTS);
        let mut whole = BytesMut::with_capacity((end - start) as usize);
        while let Some(piece) = pieces.try_next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    async fn read_piece(&self, start: u64, end: u64) -> io::Result<Bytes> {
        if start == end {
            return Ok(Bytes::new());
        }
        let options = GetOptions {
            if_match: self.etag.clone(),
            range: Some(GetRange::Bounded(start..end)),
            ..GetOptions::default()
        };
        let read = async {
            self.store
                .get_opts(&self.path, options)
                .await?
                .bytes()
                .await
        };
        let bytes = read
            .await
            .map_err(|e| TroubleError::wrap(trouble_of_store(&e)))?;
        if bytes.len() as u64 != end - start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }
}

/// Tags are compared without quotes: listings and single answers of one store differ in them.
pub(crate) fn check_etag(known: Option<&str>, found: Option<&str>) -> Result<(), Trouble> {
    let (Some(known), Some(found)) = (known, found) else {
        return Ok(());
    };
    if known.trim_matches('"') == found.trim_matches('"') {
        return Ok(());
    }
    Err(Trouble::new(Stage::Fetch, TroubleCode::Other, CHANGED))
}

/// A store's failure to hand out one object. Messages of lasting failures are fixed, since rows
/// of two runs must be equal and stores put times and request numbers into theirs.
pub(crate) fn trouble_of_store(error: &object_store::Error) -> Trouble {
    use object_store::Error;
    let (code, message) = match error {
        Error::NotFound { .. } => (TroubleCode::NotFound, "the store has no such object"),
        Error::PermissionDenied { .. } => (
            TroubleCode::Denied,
            "the store's permissions do not allow reading the object",
        ),
        Error::Unauthenticated { .. } => (
            TroubleCode::Denied,
            "the store does not accept the credentials",
        ),
        Error::Precondition { .. } => (TroubleCode::Other, CHANGED),
        other => {
            // The client has tried again for minutes by then; another day may go better.
            let is_passing = matches!(other, Error::Generic { .. } | Error::JoinError { .. });
            let code = if is_passing {
                TroubleCode::Timeout
            } else {
                TroubleCode::Other
            };
            return Trouble::new(Stage::Fetch, code, scrub(&other.to_string()));
        }
    };
    Trouble::new(Stage::Fetch, code, message)
}

/// Reads an object in order, a large piece at a time, and seeks for free.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    object: Object,
    at: u64,
    window: Bytes,
    window_at: u64,
    ahead: u64,
}

impl ObjectReader {
    pub(crate) fn position(&self) -> u64 {
        self.at
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.object.len().saturating_sub(self.at);
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if self.at < self.window_at || self.at >= window_end {
            self.window = self.object.read_at(self.at, left.min(self.ahead))?;
            self.window_at = self.at;
        }
        let from = (self.at - self.window_at) as usize;
        let count = buffer.len().min(self.window.len() - from);
        buffer[..count].copy_from_slice(&self.window[from..from + count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.object.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
