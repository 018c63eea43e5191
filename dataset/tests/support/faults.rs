//! A store that stops working, as seen by a process that is killed or cut off.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What a failing call has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Before,
    /// All of it; only the answer is lost.
    After,
}

/// Works for a number of calls and then fails: for good, or only once.
#[derive(Debug)]
pub struct FailingStore {
    inner: Arc<dyn ObjectStore>,
    calls_left: AtomicI64,
    effect: Effect,
    is_for_good: bool,
    answer_exists: bool,
}

impl FailingStore {
    /// Every call after the first `calls` fails.
    pub fn crashing(inner: Arc<dyn ObjectStore>, calls: i64, effect: Effect) -> Arc<Self> {
        let calls_left = AtomicI64::new(calls);
        Arc::new(Self {
            inner,
            calls_left,
            effect,
            is_for_good: true,
            answer_exists: false,
        })
    }

    /// The write after `calls` calls says that the object exists already.
    pub fn lying(inner: Arc<dyn ObjectStore>, calls: i64, effect: Effect) -> Arc<Self> {
        let calls_left = AtomicI64::new(calls);
        Arc::new(Self {
            inner,
            calls_left,
            effect,
            is_for_good: false,
            answer_exists: true,
        })
    }

    /// Whether it has failed yet.
    pub fn has_failed(&self) -> bool {
        self.calls_left.load(Ordering::SeqCst) < 0
    }

    fn fails_now(&self) -> bool {
        let left = self.calls_left.fetch_sub(1, Ordering::SeqCst);
        if self.is_for_good {
            left <= 0
        } else {
            left == 0
        }
    }

    fn error(&self, path: &Path) -> Error {
        let source = "the store is away".into();
        match self.answer_exists {
            true => Error::AlreadyExists {
                path: path.to_string(),
                source,
            },
            false => Error::Generic {
                store: "failing",
                source,
            },
        }
    }
}

impl fmt::Display for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failing {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FailingStore {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.fails_now() {
            if self.effect == Effect::After {
                self.inner.put_opts(path, payload, options).await?;
            }
            return Err(self.error(path));
        }
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if self.fails_now() {
            return Err(self.error(path));
        }
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if self.is_for_good && self.fails_now() {
            return Err(self.error(path));
        }
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if self.is_for_good && self.fails_now() {
            return Err(self.error(path));
        }
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if self.is_for_good && self.fails_now() {
            let error = self.error(&Path::default());
            let (inner, effect) = (Arc::clone(&self.inner), self.effect);
            return stream::once(async move {
                if effect == Effect::After {
                    inner.delete_stream(paths).try_collect::<Vec<_>>().await?;
                }
                Err(error)
            })
            .boxed();
        }
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.is_for_good && self.fails_now() {
            let error = self.error(&Path::default());
            return stream::once(async { Err(error) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
