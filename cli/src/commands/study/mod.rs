//! `quire study`: how engines and modes read documents whose text is known.

mod buckets;
mod known;
mod plot;
mod precision;
mod report;

use std::path::Path;
use std::process::ExitCode;

use quire_core::Trouble;
use quire_worker::EnginePool;
use tokio::task::JoinSet;

use super::run::parts;
use crate::args::{CompressionArgs, StudyArgs, StudyKind};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{self, counted};
use crate::settings::{Origin, Settings};

use known::{Known, KnownPage, TokenCounter};
use report::Study;

/// One page as one mode read it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    pub mode: String,
    /// Source, member and page number.
    pub page: String,
    /// Of the known text.
    pub text_tokens: u32,
    pub vision_tokens: Option<u32>,
    /// 0 to 1; 0 for a page that could not be read.
    pub precision: f32,
    pub word_precision: f32,
    /// `stop`, `length`, `repetition`, `failed`; `None` for engines that do not generate.
    pub ended: Option<String>,
}

impl Measured {
    /// Tokens of text that each token of the image stands for.
    pub(crate) fn compression(&self) -> Option<f32> {
        let vision = self.vision_tokens.filter(|&tokens| tokens > 0)?;
        Some(self.text_tokens as f32 / vision as f32)
    }
}

/// Measures what is asked for.
pub(crate) async fn execute(context: &Context, args: StudyArgs) -> Outcome<ExitCode> {
    match args.kind {
        StudyKind::Compression(args) => compression(context, args).await,
    }
}

async fn compression(context: &Context, args: CompressionArgs) -> Outcome<ExitCode> {
    if let Some(out) = &args.out {
        make_folder(out)?;
    }
    let settings = settings_of(context);
    let engines = parts::load_engines(context, &settings).await?;
    let Some((_, first)) = engines.first() else {
        return Err(Failure::failed("this build has no engine"));
    };
    let own_mode = first.info().mode.clone();
    let mut modes: Vec<String> = Vec::new();
    for mode in &args.modes {
        let mode = mode.trim();
        if !first.takes_mode(mode) {
            let what = format!("{} has no mode `{mode}`", first.info().name);
            return Err(Failure::usage(what).hint(format!("its own mode is `{own_mode}`")));
        }
        if !modes.iter().any(|known| known == mode) {
            modes.push(mode.to_owned());
        }
    }
    if modes.is_empty() {
        modes.push(own_mode);
    }
    let pool = EnginePool::start_on(engines).map_err(Failure::of)?;
    // Whoever reads: a model that is named counts for all engines alike.
    let folder = match settings.deepseek_ocr.model.is_empty() {
        true => None,
        false => Some(parts::checkpoint(context, &settings.deepseek_ocr).await?),
    };
    let tokens = TokenCounter::of(folder.as_deref())?;
    let renderer = parts::start_renderer(&settings, 2).await?;
    let mut known = Known::open(context, &settings, renderer, &args.inputs).await?;
    let mut study = Study::new(pool.info().clone(), modes, tokens.name().to_owned());
    let most = args.pages.unwrap_or(usize::MAX);
    let mut reading: JoinSet<Outcome<Measured>> = JoinSet::new();
    let mut n_pages = 0;
    while n_pages < most
        && let Some(page) = known.next().await?
    {
        let text_tokens = tokens.count(&page.truth);
        if text_tokens == 0 {
            known.leave_out("with nothing but white space for text");
            continue;
        }
        n_pages += 1;
        for mode in study.modes.clone() {
            // As many pages as the engines take, and no more images in memory.
            while reading.len() > pool.pages_in_flight() {
                take(&mut reading, &mut study).await?;
            }
            let (pool, page) = (pool.clone(), page.clone());
            reading.spawn(async move { measure(&pool, page, mode, text_tokens).await });
        }
    }
    while !reading.is_empty() {
        take(&mut reading, &mut study).await?;
    }
    study.left_out = known.left_out();
    if study.pages.is_empty() {
        let what = match study.why_left_out() {
            none if none.is_empty() => "no page was found".to_owned(),
            why => format!("no page with known text was found: {why}"),
        };
        return Err(Failure::failed(what)
            .hint("give PDFs with a text layer, or images with a .txt or .md beside them"));
    }
    study.sort();
    if let Some(out) = &args.out {
        write(out, &study)?;
    }
    if context.json {
        output::print_json(&study.json())?;
    } else {
        output::print(&study.text())?;
        if let Some(out) = &args.out {
            let read = counted(n_pages as u64, "page", "pages");
            output::tell(&format!(
                "{read} measured; tables and plot in {}\n",
                out.display()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings in force, but that nothing falls back to another engine, and that the model is
/// asked for text alone unless somebody says otherwise.
fn settings_of(context: &Context) -> Settings {
    let mut settings = context.settings().clone();
    let own = &mut settings.deepseek_ocr;
    own.fallback.clear();
    own.deep_parsing = false;
    if context.loaded.merged.origin("deepseek_ocr.task") == Origin::Default {
        own.task = "free-ocr".to_owned();
    }
    settings
}

async fn take(reading: &mut JoinSet<Outcome<Measured>>, study: &mut Study) -> Outcome<()> {
    if let Some(joined) = reading.join_next().await {
        let measured = joined.map_err(|error| {
            Failure::failed(format!("measuring ended by a fault of its own: {error}"))
        })?;
        let measured = measured?;
        tracing::info!(
            "{} in mode {}: {:.1} %",
            measured.page,
            measured.mode,
            measured.precision * 100.0
        );
        study.pages.push(measured);
    }
    Ok(())
}

async fn measure(
    pool: &EnginePool,
    page: KnownPage,
    mode: String,
    text_tokens: u32,
) -> Outcome<Measured> {
    let image = page.image;
    let read = if mode == pool.info().mode {
        pool.read(image, None).await
    } else {
        pool.read_in_mode(image, &mode).await
    };
    let read = read.map_err(Failure::of)?;
    let (name, truth) = (page.name, page.truth);
    // Comparing long texts is no work for the runtime's threads.
    let measured = tokio::task::spawn_blocking(move || {
        let (text, vision_tokens, ended) = match read {
            Ok(page) => (page.text, page.vision_tokens, page.finish_reason),
            Err(Trouble { message, .. }) => {
                tracing::warn!("{name} in mode {mode} cannot be read: {message}");
                (String::new(), None, Some("failed".to_owned()))
            }
        };
        let likeness = precision::likeness(&truth, &text);
        Measured {
            mode,
            page: name,
            text_tokens,
            vision_tokens,
            precision: likeness.characters,
            word_precision: likeness.words,
            ended,
        }
    });
    measured.await.map_err(|error| {
        Failure::failed(format!(
            "comparing texts ended by a fault of its own: {error}"
        ))
    })
}

fn make_folder(out: &Path) -> Outcome<()> {
    std::fs::create_dir_all(out).map_err(|error| {
        Failure::from(error).context(format!("cannot make the folder {}", out.display()))
    })
}

fn write(out: &Path, study: &Study) -> Outcome<()> {
    for (name, content) in [
        ("pages.csv", study.pages_csv()),
        ("buckets.csv", study.buckets_csv()),
        ("compression.svg", plot::svg(study)),
    ] {
        let path = out.join(name);
        std::fs::write(&path, content).map_err(|error| {
            Failure::from(error).context(format!("cannot write {}", path.display()))
        })?;
    }
    Ok(())
}
