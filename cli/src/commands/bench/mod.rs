//! `quire bench`: how fast this machine reads, where the time goes, and how much of what its cores
//! could do the networks get.

mod peak;
mod report;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pp_ocr::{PpOcr, PpOcrOptions, Times};
use quire_core::{EngineInfo, PageImage, PageRequest, Trouble};
use quire_corpus::{HEAD_BYTES, is_page_document, media_type};
use quire_worker::pipeline::render::RenderPool;

use crate::args::BenchArgs;
use crate::commands::run::parts;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use peak::Peak;

/// What is read where no files are named: a page of minutes at 100 dots an inch.
const OWN_PAGE: &[u8] = include_bytes!("../../../tests/fixtures/minutes.png");
/// How often each reader reads it.
const OWN_ROUNDS: usize = 4;

/// Everything that was measured.
#[derive(Debug)]
struct Measured {
    engine: EngineInfo,
    /// Pages read at the same time.
    n_readers: usize,
    n_pages: usize,
    peak: Peak,
    /// Time from having a file to having a page's pixels, of all pages.
    decode: Duration,
    /// Time from the first page to the last.
    wall: Duration,
    /// Time that readers spent on pages.
    reading: Duration,
    times: Times,
}

/// Measures, and prints what was found.
pub(crate) async fn execute(context: &Context, args: BenchArgs) -> Outcome<()> {
    let settings = context.settings();
    if settings.engine.is_deepseek() {
        return Err(Failure::usage(
            "`quire bench` knows the stages of pp-ocr only",
        ));
    }
    let n_readers = settings.run.n_workers();
    let options = PpOcrOptions {
        mode: settings.engine.pp_ocr_mode(),
        ..PpOcrOptions::default()
    };
    let renderer = parts::start_renderer(settings, 1).await?;
    let pages = match args.files.is_empty() {
        true => vec![one_page(context, &renderer).await?; OWN_ROUNDS * n_readers],
        false => pages_of(context, &renderer, &args.files).await?,
    };
    let measured = tokio::task::spawn_blocking(move || measure(options, n_readers, &pages)).await;
    let measured =
        measured.map_err(|error| Failure::failed(format!("measuring ended: {error}")))?;
    report::print(context, &measured?)
}

/// A page to read, and what its decoding took.
#[derive(Debug, Clone)]
struct Decoded {
    image: Arc<PageImage>,
    decode: Duration,
}

async fn one_page(context: &Context, renderer: &RenderPool) -> Outcome<Decoded> {
    let pages = decoded(context, renderer, Bytes::from_static(OWN_PAGE)).await;
    let pages = pages.map_err(|trouble| Failure::failed(trouble.to_string()))?;
    let first = pages.into_iter().next();
    first.ok_or_else(|| Failure::failed("the page inside the program has no page"))
}

/// All pages of the files. They stay in memory, so that nothing but reading is timed later.
async fn pages_of(
    context: &Context,
    renderer: &RenderPool,
    files: &[std::path::PathBuf],
) -> Outcome<Vec<Decoded>> {
    let mut pages = Vec::new();
    for file in files {
        let content = read(file)?;
        let found = decoded(context, renderer, content).await;
        pages.extend(found.map_err(|trouble| {
            Failure::failed(format!("{} cannot be read: {trouble}", file.display()))
        })?);
    }
    match pages.is_empty() {
        true => Err(Failure::failed("the files have no page")),
        false => Ok(pages),
    }
}

fn read(file: &Path) -> Outcome<Bytes> {
    let content = std::fs::read(file)
        .map_err(|error| Failure::from(error).context(format!("cannot read {}", file.display())))?;
    let is_page = is_page_document(kind_of(&content));
    match is_page {
        true => Ok(content.into()),
        false => Err(
            Failure::usage(format!("{} is no document with pages", file.display()))
                .hint("`quire bench` takes images and PDFs, one by one"),
        ),
    }
}

fn kind_of(content: &[u8]) -> &'static str {
    media_type(&content[..content.len().min(HEAD_BYTES)])
}

async fn decoded(
    context: &Context,
    renderer: &RenderPool,
    content: Bytes,
) -> Result<Vec<Decoded>, Trouble> {
    let spec = context.settings().render.spec();
    let kind = kind_of(&content);
    let start = Instant::now();
    let mut document = renderer.open(content, kind).await?;
    let mut since = start;
    let mut pages = Vec::new();
    for page_idx in 0..document.info().n_pages {
        let page = document.page(page_idx, &spec, false).await?;
        pages.push(Decoded {
            image: Arc::new(page.image),
            // Opening is the first page's.
            decode: since.elapsed(),
        });
        since = Instant::now();
    }
    Ok(pages)
}

fn measure(options: PpOcrOptions, n_readers: usize, pages: &[Decoded]) -> Outcome<Measured> {
    let peak = Peak::measure(n_readers);
    let first = PpOcr::load(options).map_err(Failure::of)?;
    let forks = (1..n_readers).map(|_| first.fork());
    let mut readers = forks.collect::<Result<Vec<_>, _>>().map_err(Failure::of)?;
    let engine = quire_core::Engine::info(&first).clone();
    readers.push(first);
    // What is done once, such as asking for memory, is done before anything is timed.
    read_all(&readers, &vec![pages[0].clone(); n_readers])?;
    let start = Instant::now();
    let (reading, times) = read_all(&readers, pages)?;
    Ok(Measured {
        engine,
        n_readers,
        n_pages: pages.len(),
        peak,
        decode: pages.iter().map(|page| page.decode).sum(),
        wall: start.elapsed(),
        reading,
        times,
    })
}

/// Lets every reader take the next page until there is none.
fn read_all(readers: &[PpOcr], pages: &[Decoded]) -> Outcome<(Duration, Times)> {
    let next = AtomicUsize::new(0);
    let take = |reader: &PpOcr| -> Result<(Duration, Times), Trouble> {
        let mut sum = (Duration::ZERO, Times::default());
        while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
            let request = PageRequest {
                ticket: 0,
                image: page.image.clone(),
                known_lines: None,
                mode: None,
            };
            let (recognition, times) = reader.read_page_timed(&request)?;
            sum.0 += recognition.infer;
            sum.1.add(&times);
        }
        Ok(sum)
    };
    let ended: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = readers
            .iter()
            .map(|reader| scope.spawn(|| take(reader)))
            .collect();
        started.into_iter().map(|thread| thread.join()).collect()
    });
    let mut sum = (Duration::ZERO, Times::default());
    for result in ended {
        let result = result.map_err(|_| Failure::failed("a reader panicked"))?;
        let (reading, times) = result.map_err(|trouble| Failure::failed(trouble.to_string()))?;
        sum.0 += reading;
        sum.1.add(&times);
    }
    Ok(sum)
}
