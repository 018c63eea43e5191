//! The object store as one host reaches it: answers take time, and in rough weather a request
//! is refused, or done and its answer lost, or refused as if somebody else had been faster.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::world::World;

/// The object store as one host reaches it.
#[derive(Debug)]
pub(crate) struct Objects {
    world: Arc<World>,
    host: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Nothing is done.
    Refused,
    /// It is done, and nobody hears of it.
    Unheard,
    /// Nothing is done, and the answer is that there is such an object.
    Conflict,
}

impl Objects {
    pub(crate) fn new(world: Arc<World>, host: &str) -> Self {
        let host = host.to_owned();
        Self { world, host }
    }

    async fn request<T>(
        &self,
        what: &str,
        path: &Path,
        is_create: bool,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let named = format!("{} {what} {path}", self.host);
        let nth = self.world.weather.count(&named);
        let named = format!("{named} {nth}");
        let fate = self.fate(&named, is_create);
        let pause = self.pause(&named);
        // On the way there, and on the way back.
        self.pass(pause / 2).await;
        let answer = match fate {
            Fate::Refused => Err(away("503")),
            Fate::Conflict => Err(Error::AlreadyExists {
                path: path.to_string(),
                source: "409".into(),
            }),
            Fate::Answered => request.await,
            Fate::Unheard => request.await.and(Err(away("the connection was closed"))),
        };
        self.pass(pause / 2).await;
        if fate != Fate::Answered || path.as_ref().contains("/manifest/") && what != "get" {
            let end = answer.as_ref().map_or("failed", |_| "done");
            self.world
                .trace
                .note(&self.host, format!("{what} {path}: {fate:?}, {end}"));
        }
        answer
    }

    fn fate(&self, named: &str, is_create: bool) -> Fate {
        let weather = &self.world.weather;
        if weather.is_cut_off(&self.host, "objects") {
            return Fate::Refused;
        }
        if !weather.is_rough() {
            return Fate::Answered;
        }
        match self.world.chance.within(named, 0..100) {
            0..3 => Fate::Refused,
            3..6 => Fate::Unheard,
            6..16 if is_create => [Fate::Refused, Fate::Unheard, Fate::Conflict][nth_of(named, 3)],
            _ => Fate::Answered,
        }
    }

    /// Lets time pass, except while a version is sealed: simulated time stands still as long as
    /// a thread computes, and sealing has threads that wait for objects.
    async fn pass(&self, time: Duration) {
        if !self.world.weather.is_closed() {
            tokio::time::sleep(time).await;
        }
    }

    fn pause(&self, named: &str) -> Duration {
        let chance = self.world.chance;
        let is_slow =
            self.world.weather.is_rough() && chance.share(&format!("slow {named}")) < 0.03;
        let most_ms = if is_slow { 20_000 } else { 200 };
        Duration::from_millis(chance.within(&format!("pause {named}"), 10..most_ms))
    }
}

/// As it stands in the last manifest.
const CLOSING: &[u8] = br#""closing":"done""#;

fn holds(payload: &PutPayload, words: &[u8]) -> bool {
    let content: Vec<u8> = payload.iter().flatten().copied().collect();
    content.windows(words.len()).any(|window| window == words)
}

/// One of so many, the same each time.
fn nth_of(named: &str, n: usize) -> usize {
    named.bytes().map(usize::from).sum::<usize>() % n
}

fn away(why: &'static str) -> Error {
    Error::Generic {
        store: "simulated",
        source: why.into(),
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the simulated store of {}", self.host)
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let is_create = options.mode == PutMode::Create;
        let what = if is_create { "create" } else { "put" };
        let closes = path.as_ref().contains("/manifest/") && holds(&payload, CLOSING);
        let put = async {
            let put = self.world.objects.put_opts(path, payload, options).await;
            if put.is_ok() && closes {
                self.world.weather.close();
            }
            put
        };
        self.request(what, path, is_create, put).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begin = self.world.objects.put_multipart_opts(path, options);
        self.request("upload", path, false, begin).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head" } else { "get" };
        let get = self.world.objects.get_opts(path, options);
        self.request(what, path, false, get).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let get = self.world.objects.get_ranges(path, ranges);
        self.request("get ranges", path, false, get).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (world, host) = (Arc::clone(&self.world), self.host.clone());
        let noted = paths.inspect(move |path| {
            if let Ok(path) = path {
                world.trace.note(&host, format!("delete {path}"));
            }
        });
        self.world.objects.delete_stream(noted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.world.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let list = self.world.objects.list_with_delimiter(prefix);
        let path = prefix.cloned().unwrap_or_default();
        self.request("list", &path, false, list).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copy = self.world.objects.copy_opts(from, to, options);
        self.request("copy", to, false, copy).await
    }
}
