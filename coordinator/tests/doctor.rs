//! The probe of a store: local disk passes, a store on which two writers win is refused.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use quire_coordinator::probe;

#[tokio::test(flavor = "multi_thread")]
async fn local_disk_and_memory_are_fit_and_left_clean() {
    let folder = tempfile::tempdir().unwrap();
    let disk = LocalFileSystem::new_with_prefix(folder.path())
        .unwrap()
        .with_fsync(true);
    let report = probe(
        Arc::new(disk.with_automatic_cleanup(true)),
        &Path::default(),
    )
    .await;
    assert!(report.is_fit(), "{report}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let report = probe(Arc::new(InMemory::new()), &Path::from("a/b")).await;
    assert!(report.is_fit() && report.checks.len() == 4, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_on_which_two_win_is_refused() {
    let store = Broken {
        inner: InMemory::new(),
        how: How::IgnoresCreate,
    };
    let report = probe(Arc::new(store), &Path::from("p")).await;
    assert!(!report.is_fit());
    let text = report.to_string();
    assert!(text.contains("FAILED  of racing creates"), "{text}");
    assert!(text.contains("were told that they had won"), "{text}");
    assert!(
        text.ends_with("rows could be lost or doubled on it."),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn store_that_forgets_to_list_or_denies_writes_is_refused() {
    let store = Broken {
        inner: InMemory::new(),
        how: How::ListsNothing,
    };
    let report = probe(Arc::new(store), &Path::default()).await;
    assert!(
        report.to_string().contains("FAILED  a listing shows"),
        "{report}"
    );
    let store = Broken {
        inner: InMemory::new(),
        how: How::DeniesWrites,
    };
    let report = probe(Arc::new(store), &Path::default()).await;
    assert_eq!(
        (report.is_fit(), report.checks.len()),
        (false, 1),
        "{report}"
    );
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    IgnoresCreate,
    ListsNothing,
    DeniesWrites,
}

#[derive(Debug)]
struct Broken {
    inner: InMemory,
    how: How,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Broken {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        if self.how == How::DeniesWrites {
            let (path, source) = (path.to_string(), "read-only".into());
            return Err(object_store::Error::PermissionDenied { path, source });
        }
        if self.how == How::IgnoresCreate {
            options.mode = PutMode::Overwrite;
        }
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.how {
            How::ListsNothing => Box::pin(futures::stream::empty()),
            _ => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
