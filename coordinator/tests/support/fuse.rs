//! A process that dies at a chosen moment: after so many operations on objects and database,
//! everything that would go on hangs for ever, and the test throws its runtime away.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use quire_coordinator::store::*;
use quire_coordinator::{JobState, Result};
use quire_core::{JobId, LeaseId, SessionId, ShardIdx};
use tokio_util::sync::CancellationToken;

/// Burns with each operation.
#[derive(Debug)]
pub struct Fuse {
    left: AtomicI64,
    burnt: AtomicI64,
    /// Calls of the database that were answered, by name.
    calls: Mutex<BTreeMap<&'static str, u64>>,
    /// The last operation is done, only nobody hears of it.
    dies_after: bool,
    pub dead: CancellationToken,
}

impl Fuse {
    /// One that only counts.
    pub fn that_holds() -> Arc<Self> {
        Self::of(i64::MAX, false)
    }

    pub fn of(n_operations: i64, dies_after: bool) -> Arc<Self> {
        let (left, burnt) = (AtomicI64::new(n_operations), AtomicI64::new(0));
        Arc::new(Self {
            left,
            burnt,
            calls: Mutex::default(),
            dies_after,
            dead: CancellationToken::new(),
        })
    }

    /// Operations so far.
    pub fn burnt(&self) -> i64 {
        self.burnt.load(Ordering::SeqCst)
    }

    /// Calls of this name that the database answered.
    pub fn calls(&self, name: &str) -> u64 {
        let calls = self.calls.lock().unwrap();
        calls.get(name).copied().unwrap_or(0)
    }

    async fn call<T>(&self, name: &'static str, operation: impl Future<Output = T>) -> T {
        let answer = self.around(operation).await;
        *self.calls.lock().unwrap().entry(name).or_default() += 1;
        answer
    }

    async fn around<T>(&self, operation: impl Future<Output = T>) -> T {
        self.burnt.fetch_add(1, Ordering::SeqCst);
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            let done = operation.await;
            if !self.dead.is_cancelled() {
                return done;
            }
        } else if left == 0 && self.dies_after {
            operation.await;
        }
        self.dead.cancel();
        pending().await
    }
}

/// Objects behind a fuse.
#[derive(Debug)]
pub struct FusedObjects {
    pub inner: Arc<dyn ObjectStore>,
    pub fuse: Arc<Fuse>,
}

impl fmt::Display for FusedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fused {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FusedObjects {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.fuse
            .around(self.inner.put_opts(path, payload, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.fuse
            .around(self.inner.put_multipart_opts(path, options))
            .await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.fuse.around(self.inner.get_opts(path, options)).await
    }

    async fn get_ranges(
        &self,
        path: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.fuse.around(self.inner.get_ranges(path, ranges)).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.fuse
            .around(self.inner.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.fuse
            .around(self.inner.copy_opts(from, to, options))
            .await
    }
}

/// A database behind a fuse.
#[derive(Debug)]
pub struct FusedStore {
    pub inner: Arc<dyn Store>,
    pub fuse: Arc<Fuse>,
}

macro_rules! fused {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for FusedStore {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                self.fuse.call(stringify!($name), self.inner.$name($($argument),*)).await
            })*

            async fn work_announced(&self) {
                self.inner.work_announced().await;
            }
        }
    };
}

quire_coordinator::for_every_call! { fused }

/// A database that is away while a test says so.
#[derive(Debug)]
pub struct AwayStore {
    pub inner: Arc<dyn Store>,
    pub is_away: std::sync::atomic::AtomicBool,
}

macro_rules! away {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for AwayStore {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                if self.is_away.load(Ordering::SeqCst) {
                    return Err(quire_coordinator::Error::Database {
                        action: stringify!($name),
                        source: sqlx::Error::PoolClosed,
                    });
                }
                self.inner.$name($($argument),*).await
            })*

            async fn work_announced(&self) {
                self.inner.work_announced().await;
            }
        }
    };
}

quire_coordinator::for_every_call! { away }
