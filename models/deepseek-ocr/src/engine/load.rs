//! A checkpoint becomes an engine, or is refused with the reason.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{DType, Device};
use quire_core::{EngineError, EngineInfo, Fault, Faulty, chain};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::memory::peak_bytes;
use super::model::Model;
use super::options::{DeepSeekOptions, NgramSetting, named_with};
use super::{DeepSeekOcr, LoadReport, NAME};
use crate::config::{DecoderConfig, ModelConfig};
use crate::decoder::{Decoder, DeviceDecoder, DeviceOptions, Input, Row};
use crate::generate::{BatchSettings, NgramBlock, Rules, WatchedTokens};
use crate::host::{HostDecoder, HostOptions};
use crate::preprocess::{Mode, View};
use crate::prompt::Prompt;
use crate::stages::Stages;
use crate::tokenizer::TextTokenizer;
use crate::vision::{VisionModel, VisionOptions, pixels};
use crate::weights::{Checkpoint, CheckpointError, StoredType, Weights};

/// Pages that are written at once where neither their number nor the cache is set.
const DEFAULT_PLACES: usize = 16;

/// Pages that are written at once at most where the cache alone says how many.
const MOST_PLACES: usize = 64;

/// Threads that cut pages into views. One keeps up with a decoder on the CPU; a second hides the
/// largest pages from a fast one.
const PREPARING_THREADS: usize = 2;

/// Positions that an answer must have room for beside the largest prompt of a mode. Less than a
/// page of large print is not worth loading for.
const LEAST_ANSWER: usize = 256;

/// Positions that any cache hands out at once, at most.
const CACHE_BLOCK: usize = 256;

/// Values that a cache keeps of a head are a multiple of this, at most; the published models'
/// 128 are.
const CACHE_VALUES: usize = 32;

pub(super) fn load(options: DeepSeekOptions) -> Result<DeepSeekOcr, EngineError> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&options.folder).map_err(refuse)?;
    let config = checkpoint.config().clone();
    let architecture = config.architecture;
    let mode = mode(&options, &config)?;
    let tokenizer = TextTokenizer::open(&checkpoint.tokenizer_file(), &config).map_err(refuse)?;
    // Reads every number once: what is not finite would be found page by page otherwise.
    let revision = checkpoint
        .revision(options.cache_folder.as_deref())
        .map_err(refuse)?;

    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let pool = pool("towers", threads)?;
    let dtype = computed_in(&options, &checkpoint)?;
    let longest = longest(&options, &mode, &config, &tokenizer)?;
    let (places, cache_bytes) = batch_of(&options, longest, &config.decoder, dtype);
    let mut weights = checkpoint.weights();
    let vision = pool
        .install(|| load_vision(&mut weights, &config, &options.device, dtype))
        .map_err(refuse)?;
    let mut decoder = if is_cpu(&options.device) {
        let options = HostOptions {
            dtype,
            cache_bytes,
            threads,
        };
        let decoder = HostDecoder::load(&mut weights, &config.decoder, options);
        Box::new(decoder.map_err(refuse)?) as Box<dyn Decoder>
    } else {
        let options = DeviceOptions {
            device: options.device.clone(),
            dtype,
            cache_bytes,
        };
        let decoder = DeviceDecoder::load(&mut weights, &config.decoder, options);
        Box::new(decoder.map_err(refuse)?) as Box<dyn Decoder>
    };
    weights.finish().map_err(refuse)?;

    check_views(&vision, &mode)?;
    check_room(decoder.capacity(), longest)?;
    check_sanity(decoder.as_mut(), &config)?;
    if !is_cpu(&options.device) {
        check_towers(&vision, &mode, &options.device)?;
    }
    let places = match places {
        0 => (decoder.capacity() / longest.positions).clamp(1, MOST_PLACES),
        places => places,
    };
    let info = EngineInfo {
        name: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model_id: architecture.model_id().to_owned(),
        model_revision: revision,
        mode: named_with(
            mode.name(),
            options.max_tiles.filter(|_| mode.crop),
            &options.task,
            options.deep_parsing,
        ),
    };
    let report = LoadReport {
        dtype,
        places,
        cache_positions: decoder.capacity(),
        spent: start.elapsed(),
        peak_bytes: peak_bytes(),
    };
    let model = Model {
        rules: Arc::new(rules(&options, &config, &tokenizer)),
        vision,
        tokenizer,
        architecture,
        mode,
        max_tiles: options.max_tiles,
        task: options.task,
        max_figures: if options.deep_parsing {
            options.max_figures
        } else {
            0
        },
        pool,
        preparing: self::pool("views", PREPARING_THREADS)?,
        device: options.device,
    };
    Ok(DeepSeekOcr {
        info,
        model,
        decoder,
        batch: BatchSettings {
            places,
            prompt_piece: options.prompt_piece,
            prompt_budget: options.prompt_budget,
        },
        device_name: options.device_name,
        report,
    })
}

fn refuse(error: CheckpointError) -> EngineError {
    EngineError {
        engine: NAME.to_owned(),
        message: chain(&error),
        fault: error.fault(),
    }
}

fn setting(message: String) -> EngineError {
    EngineError {
        engine: NAME.to_owned(),
        message,
        fault: Fault::Config,
    }
}

fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

fn pool(what: &str, threads: usize) -> Result<ThreadPool, EngineError> {
    let what = what.to_owned();
    ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(move |index| format!("{NAME}-{what}-{index}"))
        .build()
        .map_err(|error| EngineError {
            engine: NAME.to_owned(),
            message: format!("no thread could be started: {error}"),
            fault: Fault::Unavailable,
        })
}

fn mode(options: &DeepSeekOptions, config: &ModelConfig) -> Result<Mode, EngineError> {
    let mode = Mode::named(&options.mode, config.architecture);
    let mode = mode.map_err(|error| setting(error.to_string()))?;
    Ok(match options.max_tiles {
        Some(max_tiles) if mode.crop => mode.with_max_tiles(max_tiles),
        _ => mode,
    })
}

/// The type that was asked for, if the device computes in it; else the checkpoint's, or the next
/// that the device knows.
fn computed_in(
    options: &DeepSeekOptions,
    checkpoint: &Checkpoint,
) -> Result<StoredType, EngineError> {
    let stored = checkpoint
        .tensor("model.embed_tokens.weight")
        .map_or(StoredType::Bf16, |tensor| tensor.stored);
    let knows = |dtype| is_cpu(&options.device) || options.device.supports_dtype(burn_type(dtype));
    match options.dtype {
        Some(dtype) if knows(dtype) => Ok(dtype),
        Some(dtype) => Err(setting(format!(
            "{} does not compute in {dtype:?}; ask for another dtype",
            options.device_name
        ))),
        None => Ok([stored, StoredType::F16]
            .into_iter()
            .find(|&dtype| knows(dtype))
            .unwrap_or(StoredType::F32)),
    }
}

fn burn_type(dtype: StoredType) -> DType {
    match dtype {
        StoredType::Bf16 => DType::BF16,
        StoredType::F16 => DType::F16,
        StoredType::F32 => DType::F32,
    }
}

/// How long a page can become.
#[derive(Debug, Clone, Copy)]
struct Longest {
    /// Positions of the prompt and of an answer worth having.
    least: usize,
    /// Positions of prompt and answer.
    positions: usize,
}

fn longest(
    options: &DeepSeekOptions,
    mode: &Mode,
    config: &ModelConfig,
    tokenizer: &TextTokenizer,
) -> Result<Longest, EngineError> {
    let slots = mode.most_slots(config.architecture);
    let prompt = Prompt::new(tokenizer, &options.task, slots);
    let prompt = prompt
        .map_err(|error| setting(error.to_string()))?
        .ids
        .len();
    let max = config.decoder.max_positions;
    let answer = options.max_new_tokens;
    if answer == 0 || prompt >= max {
        return Err(setting(format!(
            "{prompt} positions of a prompt in mode {mode} and {answer} of its answer do not go \
             into the {max} positions of the model"
        )));
    }
    Ok(Longest {
        least: (prompt + answer.min(LEAST_ANSWER)).min(max),
        positions: prompt.saturating_add(answer).min(max),
    })
}

/// Places, 0 if the cache is to say how many, and the bytes of the cache.
fn batch_of(
    options: &DeepSeekOptions,
    longest: Longest,
    config: &DecoderConfig,
    dtype: StoredType,
) -> (usize, u64) {
    let of_head = config.head_size().next_multiple_of(CACHE_VALUES);
    let of_position = 2 * config.n_layers * config.n_heads * of_head * dtype.size();
    let positions = longest.positions.next_multiple_of(CACHE_BLOCK);
    let of_page = (of_position * positions) as u64;
    match (options.places, options.cache_bytes) {
        (0, None) => (DEFAULT_PLACES, of_page * DEFAULT_PLACES as u64),
        (places, None) => (places, of_page * places as u64),
        (places, Some(bytes)) => (places, bytes),
    }
}

fn load_vision(
    weights: &mut Weights,
    config: &ModelConfig,
    device: &Device,
    dtype: StoredType,
) -> Result<VisionModel, CheckpointError> {
    // The CPU has no fast products in 16 bits there, and loops of its own in 32.
    let dtype = if is_cpu(device) {
        DType::F32
    } else {
        burn_type(dtype)
    };
    VisionModel::load_with(weights, config, device, VisionOptions::new(dtype))
}

fn rules(options: &DeepSeekOptions, config: &ModelConfig, tokenizer: &TextTokenizer) -> Rules {
    let ids = |tokens: &[&str]| -> Vec<u32> {
        tokens
            .iter()
            .filter_map(|token| tokenizer.id_of(token))
            .collect()
    };
    Rules {
        eos: config.tokens.eos,
        max_new_tokens: options.max_new_tokens,
        max_positions: config.decoder.max_positions,
        ngrams: match options.ngrams {
            NgramSetting::Off => NgramBlock::Off,
            NgramSetting::Window { size, window } => NgramBlock::Window {
                size,
                window,
                whitelist: ids(&["<td>", "</td>"]),
            },
            NgramSetting::Whole { size } => NgramBlock::Whole { size },
        },
        never: vec![config.tokens.image],
        cut_repetition: options.cut_repetition,
        watched: WatchedTokens::new(
            &ids(&["<td>", "</td>", "<tr>", "</tr>"]),
            &numbers(tokenizer),
        ),
    }
}

/// Tokens of digits alone; the published tokenizer groups up to three.
fn numbers(tokenizer: &TextTokenizer) -> Vec<u32> {
    let numbers = (1..=3usize).flat_map(|n_digits| {
        (0..10u32.pow(n_digits as u32)).map(move |number| format!("{number:0n_digits$}"))
    });
    numbers
        .filter_map(|number| tokenizer.id_of(&number))
        .collect()
}

fn check_views(vision: &VisionModel, mode: &Mode) -> Result<(), EngineError> {
    let sides = [Some(mode.base_size), mode.crop.then_some(mode.image_size)];
    match sides
        .into_iter()
        .flatten()
        .find(|&side| !vision.accepts(side))
    {
        None => Ok(()),
        Some(side) => Err(setting(format!(
            "this checkpoint cannot see views of {side} pixels, which mode {mode} has"
        ))),
    }
}

/// Whether the largest page of the mode and something of an answer fit into the cache.
fn check_room(capacity: usize, longest: Longest) -> Result<(), EngineError> {
    if longest.least <= capacity {
        return Ok(());
    }
    Err(setting(format!(
        "the cache of keys and values holds {capacity} positions, but a page may need {} and more: \
         set more memory aside for it",
        longest.least
    )))
}

/// A view of middle gray through the towers: in 16 bits a checkpoint's numbers may overflow that do
/// not in 32.
fn check_towers(vision: &VisionModel, mode: &Mode, device: &Device) -> Result<(), EngineError> {
    let gray = View {
        side: mode.base_size,
        rgb: vec![127; 3 * (mode.base_size as usize).pow(2)],
    };
    let vectors = vision.encode(pixels(&[gray], device), &mut Stages::ignored());
    let sum = vectors.cast(DType::F32).abs().sum().into_scalar::<f32>();
    if sum.is_finite() {
        return Ok(());
    }
    Err(setting(
        "the vision towers give what is no number in this dtype; f32 or bf16 may do".to_owned(),
    ))
}

/// One step, which also makes devices compile their programs before pages wait for them.
fn check_sanity(decoder: &mut dyn Decoder, config: &ModelConfig) -> Result<(), EngineError> {
    let slot = decoder.open(1).map_err(|full| setting(full.to_string()))?;
    let input = Input::Prompt(decoder.embed(&[config.tokens.bos]));
    let chosen = decoder.step(&[Row {
        slot,
        input,
        banned: Vec::new(),
    }]);
    decoder.close(slot);
    let is_sane = chosen
        .first()
        .is_some_and(|chosen| chosen.log_probability.is_finite());
    if is_sane {
        return Ok(());
    }
    Err(setting(
        "the network gives no numbers with these weights; dtype f32 may help".to_owned(),
    ))
}
