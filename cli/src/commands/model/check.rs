//! `quire model check`: whether a checkpoint can be used, with everything that is wrong with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use deepseek_ocr::config::ModelConfig;
use deepseek_ocr::preprocess::Mode;
use deepseek_ocr::tokenizer::TextTokenizer;
use deepseek_ocr::weights::{
    CheckpointError, Computed, Examination, MemoryNeed, TOKENIZER_FILE, examine, memory_need,
    most_vision_slots,
};

use super::report;
use crate::args::ModelCheckArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::model_folder;
use crate::output;

/// What was looked at and found.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) folder: PathBuf,
    pub(super) found: Examination,
    /// Why the tokenizer cannot be used.
    pub(super) tokenizer: Result<(), CheckpointError>,
    /// Reading headers and mapping files took so long.
    pub(super) opened_in: Duration,
    pub(super) values: Option<Values>,
    pub(super) memory: Vec<ModeMemory>,
    pub(super) batch: u16,
}

/// What reading every number gave.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) bytes: u64,
    pub(super) took: Duration,
    /// Known only where every number is finite.
    pub(super) revision: Option<String>,
}

/// What reading takes in a mode.
#[derive(Debug)]
pub(super) struct ModeMemory {
    pub(super) mode: String,
    /// Slots of the prompt that a page takes at most.
    pub(super) slots: usize,
    pub(super) cpu: MemoryNeed,
    pub(super) device: MemoryNeed,
}

impl Checked {
    /// Everything that is wrong.
    pub(super) fn faults(&self) -> impl Iterator<Item = &CheckpointError> {
        self.found
            .faults
            .iter()
            .chain(self.tokenizer.as_ref().err())
    }

    pub(super) fn is_sound(&self) -> bool {
        self.faults().next().is_none()
    }
}

/// Exit code 0 if the checkpoint can be used, else 1.
pub(super) async fn execute(context: &Context, args: ModelCheckArgs) -> Outcome<ExitCode> {
    let folder = model_folder::local_folder(context, &args.model).await?;
    let cache = model_folder::cache_folder(context);
    let checked = tokio::task::spawn_blocking(move || check(&folder, &args, &cache)).await;
    let checked = checked.map_err(|error| {
        Failure::failed(format!("the check ended by a fault of its own: {error}"))
    })??;
    if context.json {
        output::print_json(&report::as_json(&checked))?;
    } else {
        output::print(&report::as_text(&checked))?;
    }
    Ok(if checked.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(folder: &Path, args: &ModelCheckArgs, cache: &Path) -> Outcome<Checked> {
    let begun = Instant::now();
    let mut found = examine(folder);
    let opened_in = begun.elapsed();
    let (memory, tokenizer) = match &found.config {
        Some(config) => (
            memory(config, args)?,
            TextTokenizer::open(&folder.join(TOKENIZER_FILE), config).map(drop),
        ),
        None => (Vec::new(), Ok(())),
    };
    let values = if args.values {
        read_values(&mut found, cache)
    } else {
        None
    };
    Ok(Checked {
        folder: folder.to_owned(),
        found,
        tokenizer,
        opened_in,
        values,
        memory,
        batch: args.batch,
    })
}

/// Reads what can be read, even of a checkpoint that cannot be used.
fn read_values(found: &mut Examination, cache: &Path) -> Option<Values> {
    let begun = Instant::now();
    let faults = found.check_values();
    let took = begun.elapsed();
    let bytes = found.groups.iter().map(|group| group.bytes).sum();
    let is_sound = found.faults.is_empty() && faults.is_empty();
    found.faults.extend(faults);
    let revision = is_sound.then(|| found.revision(Some(cache)));
    let revision = match revision.transpose() {
        Ok(revision) => revision,
        Err(fault) => {
            found.faults.push(fault);
            None
        }
    };
    Some(Values {
        bytes,
        took,
        revision,
    })
}

fn memory(config: &ModelConfig, args: &ModelCheckArgs) -> Outcome<Vec<ModeMemory>> {
    let names = Mode::names(config.architecture);
    let wanted = args.mode.as_deref();
    let chosen = names
        .iter()
        .filter(|name| wanted.is_none_or(|wanted| wanted == **name));
    let mut memory = Vec::new();
    for name in chosen {
        let mode = Mode::named(name, config.architecture);
        let mode = mode.map_err(|error| Failure::usage(error.to_string()))?;
        let batch = usize::from(args.batch);
        memory.push(ModeMemory {
            mode: (*name).to_owned(),
            slots: most_vision_slots(config, &mode),
            cpu: memory_need(config, &mode, batch, Computed::CPU),
            device: memory_need(config, &mode, batch, Computed::DEVICE),
        });
    }
    if memory.is_empty() {
        let what = format!("--mode must be one of {}", names.join(", "));
        return Err(Failure::usage(what));
    }
    Ok(memory)
}

#[cfg(test)]
mod tests;
