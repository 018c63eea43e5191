//! A checkpoint of an object store as files of this machine.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use deepseek_ocr::weights::{
    CONFIG_FILE, INDEX_FILE, SINGLE_FILE, TOKENIZER_FILE, file_digest, shard_names,
};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Outcome};
use crate::settings::Size;

/// Bytes of one request, and requests at the same time.
const PIECE: u64 = 8 << 20;
const REQUESTS: usize = 4;
/// After so many bytes a copy is made sure to be on disk up to there, and says how far it is.
const KEPT_EVERY: u64 = 256 << 20;
/// What is remembered of a copy.
const COPIED_FILE: &str = "copied.json";
const UNFINISHED: &str = ".unfinished";

/// A prefix of an object store with the files of a checkpoint.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Key,
    /// Without a slash at its end.
    pub(super) uri: String,
}

impl Source {
    async fn piece(
        &self,
        name: &str,
        key: &Key,
        meta: &ObjectMeta,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, Trouble> {
        let wanted = range.end - range.start;
        let options = GetOptions {
            if_match: meta.e_tag.clone(),
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let read = async { self.store.get_opts(key, options).await?.bytes().await };
        let bytes = read
            .await
            .map_err(|error| self.trouble("read", name, error))?;
        if bytes.len() as u64 != wanted {
            let (found, uri) = (bytes.len(), &self.uri);
            let what = format!("{uri}/{name} gave {found} bytes instead of {wanted}");
            return Err(Trouble::Away(Failure::failed(what)));
        }
        Ok(bytes)
    }

    fn trouble(&self, doing: &str, name: &str, error: object_store::Error) -> Trouble {
        use object_store::Error as Store;
        let is_lasting = matches!(
            error,
            Store::NotFound { .. } | Store::PermissionDenied { .. } | Store::Unauthenticated { .. }
        );
        let uri = format!("{}/{name}", self.uri);
        let what = match error {
            Store::Precondition { .. } => format!("{uri} changes while it is copied"),
            _ => format!("cannot {doing} {}", uri.trim_end_matches('/')),
        };
        let failure = Failure::from(anyhow::Error::new(error)).context(what);
        if is_lasting {
            Trouble::Lasting(failure.hint("check the address, and who may read it"))
        } else {
            Trouble::Away(failure.hint("the same command goes on where this one stopped"))
        }
    }
}

/// What was copied.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Copied {
    uri: String,
    /// All files were there when this was written.
    complete: bool,
    files: BTreeMap<String, CopiedFile>,
    unfinished: Option<Unfinished>,
}

/// What is on disk of a file that is being copied. What lies behind that may be anything after a
/// machine lost its power.
#[derive(Debug, Serialize, Deserialize)]
struct Unfinished {
    name: String,
    tag: String,
    bytes: u64,
}

/// One file, as the store told of it and as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CopiedFile {
    bytes: u64,
    tag: String,
    sha256: String,
}

/// The folder of the copy, with every file whole and as it was copied.
pub(super) async fn copied(source: &Source, cache: &Path) -> Outcome<PathBuf> {
    let id = hex::encode(&Sha256::digest(&source.uri)[..8]);
    let folder = cache.join("checkpoints").join(&id);
    std::fs::create_dir_all(&folder).map_err(|error| cannot("make", &folder, error))?;
    let _lock = lock(folder.with_extension("lock")).await?;
    let mut copy = Copy {
        source,
        cache,
        copied: recall(&folder.join(COPIED_FILE), &source.uri),
        folder,
    };
    match copy.bring().await {
        Ok(()) => {}
        // A store that is away keeps nobody from reading with what was copied before.
        Err(Trouble::Away(failure)) if copy.copied.complete && copy.is_whole().await? => {
            let (uri, why) = (&source.uri, failure.message());
            tracing::warn!("using the copy of {uri}, which could not be asked for changes: {why}");
        }
        Err(Trouble::Away(failure) | Trouble::Lasting(failure)) => return Err(failure),
    }
    Ok(copy.folder)
}

/// Whether another day may go better.
#[derive(Debug)]
enum Trouble {
    Away(Failure),
    Lasting(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Lasting(failure)
    }
}

/// A copy at work; the folder is locked.
struct Copy<'a> {
    source: &'a Source,
    cache: &'a Path,
    folder: PathBuf,
    copied: Copied,
}

impl Copy<'_> {
    /// Copies what is missing or has changed, and forgets what is no part of it any more.
    async fn bring(&mut self) -> Result<(), Trouble> {
        let mut names = vec![CONFIG_FILE.to_owned()];
        if !self.bring_file(CONFIG_FILE).await? {
            let what = format!("there is no {CONFIG_FILE} at {}", self.source.uri);
            return Err(Failure::usage(what)
                .hint(
                    "the prefix of a checkpoint holds config.json, tokenizer.json and \
                       *.safetensors",
                )
                .into());
        }
        // Whether it may be missing is for whoever opens the checkpoint to say.
        if self.bring_file(TOKENIZER_FILE).await? {
            names.push(TOKENIZER_FILE.to_owned());
        }
        let shards = if self.bring_file(INDEX_FILE).await? {
            names.push(INDEX_FILE.to_owned());
            self.listed_shards()?
        } else {
            self.found_shards().await?
        };
        for shard in &shards {
            if !self.bring_file(shard).await? {
                let what = format!("there is no {shard} at {}", self.source.uri);
                return Err(Failure::usage(what).into());
            }
        }
        names.extend(shards);
        self.copied.files.retain(|name, _| names.contains(name));
        self.copied.complete = true;
        self.remember()?;
        self.forget_others(&names);
        Ok(())
    }

    fn listed_shards(&self) -> Outcome<Vec<String>> {
        let path = self.folder.join(INDEX_FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| cannot("read", &path, error))?;
        shard_names(&text).map_err(|reason| {
            Failure::usage(format!(
                "{}/{INDEX_FILE} is no index: {reason}",
                self.source.uri
            ))
        })
    }

    /// Without an index there is one file with tensors.
    async fn found_shards(&self) -> Result<Vec<String>, Trouble> {
        let source = self.source;
        let listed = source.store.list_with_delimiter(Some(&source.prefix)).await;
        let listed = listed.map_err(|error| source.trouble("list", "", error))?;
        let names = listed
            .objects
            .iter()
            .filter_map(|object| object.location.filename());
        let names: Vec<String> = names
            .filter(|name| name.ends_with(".safetensors"))
            .map(str::to_owned)
            .collect();
        if names.len() == 1 || names.iter().any(|name| name == SINGLE_FILE) {
            let single = names.iter().find(|name| *name == SINGLE_FILE);
            return Ok(vec![single.unwrap_or(&names[0]).clone()]);
        }
        let (n, uri) = (names.len(), &source.uri);
        let what = format!("{uri} holds {n} safetensors files, and no {INDEX_FILE}");
        Err(Failure::usage(what).into())
    }

    /// Brings one file, unless it is here as the store has it. False: the store has none.
    async fn bring_file(&mut self, name: &str) -> Result<bool, Trouble> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let key = self.source.prefix.clone().join(name);
        let meta = match self.source.store.get_opts(&key, options).await {
            Ok(answer) => answer.meta,
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(self.source.trouble("read", name, error)),
        };
        let tag = tag(&meta);
        if let Some(known) = self.copied.files.get(name)
            && (known.bytes, &known.tag) == (meta.size, &tag)
            && self.is_as_copied(name, known.clone()).await?
        {
            return Ok(true);
        }
        self.copied.complete = false;
        let sha256 = self.download(name, &key, &meta, &tag).await?;
        let file = CopiedFile {
            bytes: meta.size,
            tag,
            sha256,
        };
        self.copied.files.insert(name.to_owned(), file);
        self.remember()?;
        Ok(true)
    }

    /// Whether every file of a finished copy is still what was copied.
    async fn is_whole(&self) -> Outcome<bool> {
        for (name, known) in &self.copied.files {
            if !self.is_as_copied(name, known.clone()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn is_as_copied(&self, name: &str, known: CopiedFile) -> Outcome<bool> {
        let path = self.folder.join(name);
        let has_size = std::fs::metadata(&path).is_ok_and(|found| found.len() == known.bytes);
        if !has_size {
            return Ok(false);
        }
        let cache = self.cache.to_owned();
        let digest = off_the_runtime(move || file_digest(&path, Some(&cache))).await?;
        Ok(digest.map_err(Failure::of)? == known.sha256)
    }

    /// Gives the SHA-256 of what arrived.
    async fn download(
        &mut self,
        name: &str,
        key: &Key,
        meta: &ObjectMeta,
        tag: &str,
    ) -> Result<String, Trouble> {
        let (bytes, source) = (meta.size, self.source);
        tracing::info!("copying {}/{name}, {}", source.uri, Size(bytes));
        let unfinished = self.folder.join(format!("{name}{UNFINISHED}"));
        let failed = |error| cannot("write", &unfinished, error);
        let known = self.copied.unfinished.as_ref();
        // Without a tag nobody can tell whether the rest belongs to the same object.
        let known = known.filter(|known| meta.e_tag.is_some() && known.tag == tag);
        let known = known.filter(|known| known.name == name && known.bytes <= bytes);
        let (path, kept) = (unfinished.clone(), known.map_or(0, |known| known.bytes));
        let opened = off_the_runtime(move || Sink::open(&path, kept)).await?;
        let mut sink = opened.map_err(failed)?;
        let starts = (sink.written..bytes).step_by(PIECE as usize);
        let piece = |start: u64| source.piece(name, key, meta, start..bytes.min(start + PIECE));
        let mut pieces = futures::stream::iter(starts).map(piece).buffered(REQUESTS);
        while let Some(piece) = pieces.try_next().await? {
            let before = sink.written;
            let written = off_the_runtime(move || sink.write(&piece)).await?;
            sink = written.map_err(failed)?;
            if before / KEPT_EVERY != sink.written / KEPT_EVERY {
                let synced = off_the_runtime(move || sink.sync()).await?;
                sink = synced.map_err(failed)?;
                self.copied.unfinished = Some(Unfinished {
                    name: name.to_owned(),
                    tag: tag.to_owned(),
                    bytes: sink.written,
                });
                self.remember()?;
                tracing::info!("{name}: {} of {}", Size(sink.written), Size(bytes));
            }
        }
        let (from, to) = (unfinished.clone(), self.folder.join(name));
        let finished = off_the_runtime(move || sink.finish(&from, &to)).await?;
        self.copied.unfinished = None;
        Ok(finished.map_err(failed)?)
    }

    fn remember(&self) -> Outcome<()> {
        let path = self.folder.join(COPIED_FILE);
        let text = serde_json::to_vec_pretty(&self.copied).map_err(anyhow::Error::from)?;
        let unfinished = self.folder.join(format!("{COPIED_FILE}{UNFINISHED}"));
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)
        };
        write().map_err(|error| cannot("write", &path, error))
    }

    /// Removes files that are no part of the checkpoint any more, and unfinished ones.
    fn forget_others(&self, names: &[String]) {
        for entry in std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let is_known = |known: &String| name == known.as_str();
            if name != COPIED_FILE && !names.iter().any(is_known) {
                // One that cannot be removed takes room and does no harm.
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }
}

/// What tells one version of an object from another.
fn tag(meta: &ObjectMeta) -> String {
    match &meta.e_tag {
        Some(tag) => tag.trim_matches('"').to_owned(),
        None => meta.last_modified.to_rfc3339(),
    }
}

fn recall(path: &Path, uri: &str) -> Copied {
    let found = std::fs::read(path).ok();
    let found = found.and_then(|text| serde_json::from_slice::<Copied>(&text).ok());
    found.filter(|copied| copied.uri == uri).unwrap_or(Copied {
        uri: uri.to_owned(),
        ..Copied::default()
    })
}

/// Waits until no other process copies into the folder. The lock ends with the file.
async fn lock(path: PathBuf) -> Outcome<File> {
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = open.map_err(|error| cannot("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(cannot("lock", &path, error)),
    }
    tracing::info!("another process copies the same checkpoint; waiting for it");
    let locked = off_the_runtime(move || file.lock().map(|()| file)).await?;
    locked.map_err(|error| cannot("lock", &path, error))
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Outcome<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::failed(format!("copying ended by a fault of its own: {error}")))
}

fn cannot(doing: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::from(error).context(format!("cannot {doing} {}", path.display()))
}

/// A file being written, with the digest of what it holds so far.
struct Sink {
    file: File,
    hash: Sha256,
    written: u64,
}

impl Sink {
    /// Opens a file to write to, and keeps so many bytes of what is there.
    fn open(path: &Path, kept: u64) -> std::io::Result<Self> {
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        let mut bounded = (&mut file).take(kept);
        let mut written = 0;
        loop {
            match bounded.read(&mut piece)? {
                0 => break,
                n => {
                    hash.update(&piece[..n]);
                    written += n as u64;
                }
            }
        }
        file.set_len(written)?;
        file.seek(SeekFrom::Start(written))?;
        Ok(Self {
            file,
            hash,
            written,
        })
    }

    fn sync(self) -> std::io::Result<Self> {
        self.file.sync_data()?;
        Ok(self)
    }

    fn write(mut self, piece: &[u8]) -> std::io::Result<Self> {
        self.file.write_all(piece)?;
        self.hash.update(piece);
        self.written += piece.len() as u64;
        Ok(self)
    }

    fn finish(self, from: &Path, to: &Path) -> std::io::Result<String> {
        self.file.sync_all()?;
        std::fs::rename(from, to)?;
        Ok(hex::encode(self.hash.finalize()))
    }
}

#[cfg(test)]
mod tests;
