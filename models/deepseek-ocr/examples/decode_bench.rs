//! How fast the decoder runs on this CPU, beside what its memory allows.
//!
//! ```text
//! cargo run --release -p deepseek-ocr --example make_checkpoint -- DIR
//! cargo run --release -p deepseek-ocr --example decode_bench -- DIR
//! ```
//!
//! Settings follow the folder as `name=value`: `threads` (0: one a core), `prompt` (positions of a
//! page's prompt, 900), `steps` (32), `batches` (1,4,16), `dtype` of the cache (bf16). Weights
//! without meaning do as well as real ones: time depends on shapes, and on experts that are chosen
//! about evenly. `reference/torch_decode.py` prints the same for PyTorch.
//!
//! A step's bytes are those of the weights it needs, each once, and of cached keys and values; its
//! share of the memory's speed is that over what reading a gigabyte reached in the same run, before
//! and after. A busy machine makes every number worse: run it alone.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::path::Path;
use std::time::{Duration, Instant};

use deepseek_ocr::decoder::{Decoder, Input, Row, Slot};
use deepseek_ocr::host::{HostDecoder, HostOptions};
use deepseek_ocr::weights::{Checkpoint, StoredType};
use quire_kernels::{Vectors, padded, read_through};

type Error = Box<dyn std::error::Error>;

/// Bytes that are read to find the speed of memory; far more than caches hold.
const PROBE_BYTES: usize = 1 << 30;

struct Settings {
    threads: usize,
    prompt: usize,
    steps: usize,
    batches: Vec<usize>,
    dtype: StoredType,
}

impl Settings {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Error> {
        let mut settings = Self {
            threads: 0,
            prompt: 900,
            steps: 32,
            batches: vec![1, 4, 16],
            dtype: StoredType::Bf16,
        };
        for argument in arguments {
            let (name, value) = argument.split_once('=').ok_or("settings are name=value")?;
            match name {
                "threads" => settings.threads = value.parse()?,
                "prompt" => settings.prompt = value.parse::<usize>()?.max(1),
                "steps" => settings.steps = value.parse::<usize>()?.max(1),
                "batches" => {
                    settings.batches = value
                        .split(',')
                        .map(|batch| batch.parse::<usize>().map(|batch| batch.max(1)))
                        .collect::<Result<_, _>>()?;
                }
                "dtype" => {
                    settings.dtype = match value {
                        "bf16" => StoredType::Bf16,
                        "f16" => StoredType::F16,
                        "f32" => StoredType::F32,
                        _ => return Err("dtype is bf16, f16 or f32".into()),
                    }
                }
                _ => return Err(format!("there is no setting {name}").into()),
            }
        }
        Ok(settings)
    }
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give the folder of a checkpoint")?;
    let settings = Settings::parse(arguments)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(settings.threads)
        .build()?;
    println!(
        "{} threads, {}",
        pool.current_num_threads(),
        Vectors::widest().name()
    );
    let before = pool.install(memory_speed);
    println!("memory, before       {:6.2} GB/s", before / 1e9);
    let (mut decoder, vocabulary) = load(Path::new(&folder), &settings)?;

    let most = settings.batches.iter().copied().max().unwrap_or(1);
    let mut pages = prefill(&mut decoder, &settings, most, vocabulary)?;
    let mut speeds = Vec::new();
    for batch in &settings.batches {
        speeds.push(decode(&mut decoder, &settings, &mut pages[..*batch]));
    }
    let after = pool.install(memory_speed);
    println!("memory, after        {:6.2} GB/s", after / 1e9);
    let memory = before.max(after);
    let alone = speeds.first().map_or(0.0, |speed| speed.tokens);
    for (batch, speed) in settings.batches.iter().zip(&speeds) {
        println!(
            "batch {batch:<3} {:8.2} tokens/s (best {:.2})  {:6.3} GB a step  {:6.2} GB/s = {:5.1}% of memory  \
             {:5.2} times batch {}",
            speed.tokens,
            speed.best_tokens,
            speed.step_bytes / 1e9,
            speed.bytes / 1e9,
            100.0 * speed.bytes / memory,
            speed.tokens / alone,
            settings.batches[0],
        );
    }
    Ok(())
}

/// The decoder and the size of its vocabulary.
fn load(folder: &Path, settings: &Settings) -> Result<(HostDecoder, usize), Error> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(folder)?;
    let config = &checkpoint.config().decoder;
    let most = settings.batches.iter().copied().max().unwrap_or(1);
    // Room for the prompt and all measurements of each page.
    let positions = positions(settings).div_ceil(64) * 64;
    let heads = config.n_heads * padded(config.head_size());
    let position_bytes = 2 * config.n_layers * heads * settings.dtype.size();
    let options = HostOptions {
        dtype: settings.dtype,
        cache_bytes: (most * positions * position_bytes) as u64,
        threads: settings.threads,
    };
    let decoder = HostDecoder::load(&mut checkpoint.weights(), config, options)?;
    println!(
        "load                 {:6.2} s",
        start.elapsed().as_secs_f64()
    );
    for pass in ["first", "second"] {
        let start = Instant::now();
        let bytes = decoder.read_weights() as f64;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:<20} {seconds:6.2} s for {:.2} GB, {:.2} GB/s",
            format!("weights, {pass} pass"),
            bytes / 1e9,
            bytes / seconds / 1e9
        );
    }
    Ok((decoder, config.vocabulary))
}

/// Positions that a page grows to.
fn positions(settings: &Settings) -> usize {
    settings.prompt + (settings.steps + 1) * settings.batches.len() + 1
}

/// The best of several readings, in bytes a second.
fn memory_speed() -> f64 {
    let bytes = vec![1u8; PROBE_BYTES];
    let seconds = (0..5).map(|_| {
        let start = Instant::now();
        std::hint::black_box(read_through(Vectors::widest(), &bytes));
        start.elapsed().as_secs_f64()
    });
    PROBE_BYTES as f64 / seconds.fold(f64::INFINITY, f64::min)
}

/// A page and the token that it wrote last.
struct Page {
    slot: Slot,
    token: u32,
}

/// Prompts of different tokens, one page at a time.
fn prefill(
    decoder: &mut HostDecoder,
    settings: &Settings,
    n: usize,
    vocabulary: usize,
) -> Result<Vec<Page>, Error> {
    let mut pages = Vec::new();
    let mut best = f64::INFINITY;
    for page in 0..n {
        let tokens: Vec<u32> = (0..settings.prompt)
            .map(|index| ((page * 131 + index) * 7919 % vocabulary) as u32)
            .collect();
        let slot = decoder.open(positions(settings))?;
        let input = Input::Prompt(decoder.embed(&tokens));
        let start = Instant::now();
        let chosen = decoder.step(&[row(slot, input)]);
        best = best.min(start.elapsed().as_secs_f64());
        pages.push(Page {
            slot,
            token: chosen[0].token,
        });
    }
    println!(
        "prefill of {:<9} {best:6.2} s, {:.1} tokens/s, the best of {n}",
        settings.prompt,
        settings.prompt as f64 / best
    );
    Ok(pages)
}

struct Speed {
    tokens: f64,
    /// In the fastest step.
    best_tokens: f64,
    bytes: f64,
    step_bytes: f64,
}

/// Some steps of some pages, after one that is not counted. Of the steps the median counts: others
/// on the machine make some of them slow.
fn decode(decoder: &mut HostDecoder, settings: &Settings, pages: &mut [Page]) -> Speed {
    let mut times: Vec<Duration> = Vec::new();
    let mut step_bytes = 0;
    for step in 0..=settings.steps {
        let rows = pages
            .iter()
            .map(|page| row(page.slot, Input::Token(page.token)));
        let rows: Vec<Row> = rows.collect();
        let read = decoder.bytes_read();
        let start = Instant::now();
        let chosen = decoder.step(&rows);
        if step > 0 {
            times.push(start.elapsed());
            step_bytes += decoder.bytes_read() - read;
        }
        for (page, chosen) in pages.iter_mut().zip(chosen) {
            page.token = chosen.token;
        }
    }
    times.sort();
    let seconds = times[times.len() / 2].as_secs_f64();
    let step_bytes = step_bytes as f64 / settings.steps as f64;
    Speed {
        tokens: pages.len() as f64 / seconds,
        best_tokens: pages.len() as f64 / times[0].as_secs_f64(),
        bytes: step_bytes / seconds,
        step_bytes,
    }
}

fn row(slot: Slot, input: Input) -> Row {
    Row {
        slot,
        input,
        banned: Vec::new(),
    }
}
