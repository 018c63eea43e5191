//! What `quire model check` found, for people and for programs.

use std::fmt::Write as _;

use deepseek_ocr::weights::{CheckpointError, GroupFound, MemoryNeed};
use quire_core::chain;
use serde_json::{Value, json};

use super::check::{Checked, ModeMemory, Values};
use crate::output::{counted, grouped};
use crate::settings::Size;

/// Faults that people are shown; JSON has all.
const SHOWN: usize = 20;

pub(super) fn as_text(checked: &Checked) -> String {
    let mut text = String::new();
    let written = write_text(checked, &mut text);
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    text
}

fn write_text(checked: &Checked, text: &mut String) -> std::fmt::Result {
    let found = &checked.found;
    writeln!(text, "{}", checked.folder.display())?;
    if let Some(config) = &found.config {
        let architecture = config.architecture;
        let (name, model) = (architecture.name(), architecture.model_id());
        writeln!(text, "network     {name}, as {model}")?;
    }
    for file in &found.files {
        let tensors = counted(file.n_tensors as u64, "tensor", "tensors");
        let (name, size) = (&file.name, Size(file.bytes));
        writeln!(text, "file        {name}, {size}, {tensors}")?;
    }
    for group in &found.groups {
        writeln!(text, "{:<11} {}", group.group.as_str(), of_group(group))?;
    }
    for name in &found.ignored {
        writeln!(text, "ignored     {name}")?;
    }
    if found.config.is_some() && checked.tokenizer.is_ok() {
        writeln!(text, "tokenizer   fits the network")?;
    }
    let opened_in = checked.opened_in.as_secs_f64();
    writeln!(
        text,
        "opened      in {opened_in:.3} s, its files are mapped and not read"
    )?;
    if let Some(values) = &checked.values {
        writeln!(text, "values      {}", of_values(values))?;
        if let Some(revision) = &values.revision {
            writeln!(text, "revision    {revision}")?;
        }
    }
    write_memory(checked, text)?;
    write_faults(checked, text)
}

fn of_group(group: &GroupFound) -> String {
    let stored = group
        .stored
        .iter()
        .map(|(stored, n)| match group.stored.len() {
            1 => stored.as_str().to_owned(),
            _ => format!("{n} in {}", stored.as_str()),
        });
    let stored = stored.collect::<Vec<_>>().join(", ");
    let (found, expected) = (group.n_found as u64, group.n_expected as u64);
    let values = grouped(group.n_values);
    if found == expected {
        format!(
            "{values} values in {}, {stored}",
            counted(found, "tensor", "tensors")
        )
    } else {
        format!(
            "{values} values in {} of {} tensors {stored}",
            grouped(found),
            grouped(expected)
        )
    }
}

fn of_values(values: &Values) -> String {
    let seconds = values.took.as_secs_f64();
    let speed = values.bytes as f64 / seconds.max(1e-9) / 1e9;
    format!(
        "{} read in {seconds:.1} s, {speed:.1} GB/s",
        Size(values.bytes)
    )
}

fn write_memory(checked: &Checked, text: &mut String) -> std::fmt::Result {
    if checked.memory.is_empty() {
        return Ok(());
    }
    let pages = counted(u64::from(checked.batch), "page", "pages");
    writeln!(
        text,
        "\nMemory for {pages} at the same time, on the CPU (bf16, towers in f32, weights mapped) and \
         on a GPU (bf16):\n{:<10} {:>6} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "MODE", "SLOTS", "WEIGHTS", "CACHE", "VISION", "CPU", "GPU"
    )?;
    for mode in &checked.memory {
        let (name, slots, device) = (&mode.mode, mode.slots, &mode.device);
        let cells = [
            device.weights,
            device.cache,
            device.vision,
            mode.cpu.total(),
            device.total(),
        ];
        let cells = cells
            .map(|bytes| format!("{:>12}", Size(bytes).to_string()))
            .join(" ");
        writeln!(text, "{name:<10} {slots:>6} {cells}")?;
    }
    writeln!(text)
}

fn write_faults(checked: &Checked, text: &mut String) -> std::fmt::Result {
    let faults: Vec<&CheckpointError> = checked.faults().collect();
    for fault in faults.iter().take(SHOWN) {
        writeln!(text, "BROKEN      {}", chain(*fault))?;
    }
    let more = faults.len().saturating_sub(SHOWN);
    if more > 0 {
        writeln!(text, "and {} more", grouped(more as u64))?;
    }
    match faults.len() {
        0 if checked.values.is_none() => writeln!(
            text,
            "this checkpoint can be used, if its numbers are sound: --values reads them"
        ),
        0 => writeln!(text, "this checkpoint can be used"),
        n => writeln!(
            text,
            "{}: this checkpoint cannot be used",
            counted(n as u64, "fault", "faults")
        ),
    }
}

pub(super) fn as_json(checked: &Checked) -> Value {
    let found = &checked.found;
    let files = found
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.bytes, "tensors": file.n_tensors }));
    let groups = found.groups.iter().map(|group| {
        let stored = group.stored.iter();
        let stored = stored.map(|(stored, n)| (stored.as_str().to_owned(), json!(n)));
        json!({
            "group": group.group.as_str(),
            "tensors_expected": group.n_expected,
            "tensors_found": group.n_found,
            "values": group.n_values,
            "bytes": group.bytes,
            "stored": stored.collect::<serde_json::Map<_, _>>(),
        })
    });
    let architecture = found.config.as_ref().map(|config| config.architecture);
    let values = checked.values.as_ref().map(|values| {
        json!({
            "bytes": values.bytes,
            "seconds": values.took.as_secs_f64(),
            "revision": values.revision,
        })
    });
    json!({
        "model": checked.folder.display().to_string(),
        "sound": checked.is_sound(),
        "architecture": architecture.map(|architecture| architecture.name()),
        "files": files.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "ignored": found.ignored,
        "opened_in_seconds": checked.opened_in.as_secs_f64(),
        "values": values,
        "batch": checked.batch,
        "memory": checked.memory.iter().map(of_mode).collect::<Vec<_>>(),
        "faults": checked.faults().map(|fault| chain(fault)).collect::<Vec<_>>(),
    })
}

fn of_mode(mode: &ModeMemory) -> Value {
    let need = |need: &MemoryNeed| {
        json!({
            "weights_bytes": need.weights,
            "cache_bytes": need.cache,
            "vision_bytes": need.vision,
            "decoder_bytes": need.decoder,
            "total_bytes": need.total(),
        })
    };
    json!({
        "mode": mode.mode,
        "most_slots": mode.slots,
        "cpu": need(&mode.cpu),
        "device": need(&mode.device),
    })
}
