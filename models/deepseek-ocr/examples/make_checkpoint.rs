//! Writes a checkpoint of random numbers: by default the first published network, 3.34 B
//! parameters and 6.7 GB in bf16, under its real names.
//!
//! ```text
//! cargo run --release -p deepseek-ocr --example make_checkpoint -- FOLDER \
//!     [--like FOLDER | --two] [--set KEY=N ...] [--shards N] [--seed N] [--dtype bf16|f16|f32] \
//!     [--tokenizer tokenizer.json]
//! ```
//!
//! `--like` takes the sizes of another folder's `config.json`; `--set` changes one of them:
//! `layers`, `experts`, `hidden`, `heads`, `dense_mlp`, `expert_mlp`, `vocabulary`, `positions`,
//! `sam_layers`, `encoder_layers`. Without `--tokenizer` one of made-up words is written. The numbers mean nothing, so neither does what such a model
//! writes; its speed and its memory are those of the real one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use deepseek_ocr::config::{Architecture, EncoderConfig, ModelConfig};
use deepseek_ocr::weights::random::{RandomOptions, config_json, write_random};
use deepseek_ocr::weights::{CONFIG_FILE, StoredType, TOKENIZER_FILE, expected_tensors};

const USAGE: &str = "make_checkpoint FOLDER [--like FOLDER | --two] [--set KEY=N ...] [--shards N] \
                     [--seed N] [--dtype bf16|f16|f32] [--tokenizer tokenizer.json]";

struct Wanted {
    folder: PathBuf,
    config: ModelConfig,
    options: RandomOptions,
    tokenizer: Option<PathBuf>,
}

fn main() -> ExitCode {
    let made = parse(std::env::args().skip(1)).and_then(|wanted| make(&wanted));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "a program for a terminal")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut arguments = arguments;
    let mut folder = None;
    let mut tokenizer = None;
    let mut options = RandomOptions::default();
    let mut config = ModelConfig::published(Architecture::One);
    let mut changes = Vec::new();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--like" => config = read_config(Path::new(&value()?))?,
            "--two" => config = ModelConfig::published(Architecture::Two),
            "--set" => changes.push(value()?),
            "--shards" => options.n_shards = number(&value()?)?,
            "--seed" => options.seed = number(&value()?)?,
            "--dtype" => options.stored = stored(&value()?)?,
            "--tokenizer" => tokenizer = Some(PathBuf::from(value()?)),
            other if other.starts_with('-') || folder.is_some() => {
                return Err(format!("{other} is not understood\nusage: {USAGE}"));
            }
            _ => folder = Some(PathBuf::from(argument)),
        }
    }
    for change in &changes {
        set(&mut config, change)?;
    }
    // What does not fit together is refused before gigabytes are written.
    let config =
        ModelConfig::parse(&config_json(&config).to_string()).map_err(|e| e.to_string())?;
    Ok(Wanted {
        folder: folder.ok_or(format!("no FOLDER\nusage: {USAGE}"))?,
        config,
        options,
        tokenizer,
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn stored(text: &str) -> Result<StoredType, String> {
    let types = [StoredType::Bf16, StoredType::F16, StoredType::F32];
    let found = types.into_iter().find(|stored| stored.as_str() == text);
    found.ok_or(format!("{text:?} is none of bf16, f16, f32"))
}

fn read_config(folder: &Path) -> Result<ModelConfig, String> {
    let path = folder.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    ModelConfig::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn set(config: &mut ModelConfig, change: &str) -> Result<(), String> {
    let (key, value) = change
        .split_once('=')
        .ok_or(format!("{change:?} is no KEY=N"))?;
    let value: usize = number(value)?;
    let decoder = &mut config.decoder;
    match key {
        "layers" => decoder.n_layers = value,
        "experts" => decoder.n_experts = value,
        "hidden" => decoder.hidden = value,
        "heads" => decoder.n_heads = value,
        "dense_mlp" => decoder.dense_mlp = value,
        "expert_mlp" => decoder.expert_mlp = value,
        "vocabulary" => decoder.vocabulary = value,
        "positions" => decoder.max_positions = value,
        "sam_layers" => {
            config.sam.n_blocks = value;
            config.sam.global_blocks.retain(|block| *block < value);
        }
        "encoder_layers" => match &mut config.encoder {
            EncoderConfig::Clip(clip) => clip.n_blocks = value,
            EncoderConfig::Queries(queries) => queries.n_blocks = value,
        },
        other => return Err(format!("{other:?} is no size that can be set")),
    }
    Ok(())
}

fn make(wanted: &Wanted) -> Result<(), String> {
    let tensors = expected_tensors(&wanted.config);
    let values: u64 = tensors.iter().map(|tensor| tensor.n_values()).sum();
    say(&format!(
        "{} tensors, {values} values, {} to {}",
        tensors.len(),
        wanted.options.stored.as_str(),
        wanted.folder.display()
    ));
    let begun = Instant::now();
    let bytes = write_random(&wanted.folder, &wanted.config, wanted.options)
        .map_err(|error| format!("cannot write the checkpoint: {error}"))?;
    if let Some(tokenizer) = &wanted.tokenizer {
        std::fs::copy(tokenizer, wanted.folder.join(TOKENIZER_FILE))
            .map_err(|error| format!("cannot copy {}: {error}", tokenizer.display()))?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    say(&format!("{bytes} bytes in {seconds:.1} s"));
    Ok(())
}
