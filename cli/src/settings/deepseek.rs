//! `[deepseek_ocr]`: how the engine of that name is loaded, where it runs, and who reads what it
//! gives up.

use std::str::FromStr;

use serde::Deserialize;

use super::sections::Problems;
use super::units::Size;

/// Modes of the published model, smallest first.
const MODES: [&str; 6] = ["tiny", "small", "base", "large", "gundam", "gundam-m"];
/// Tasks that need nothing but their name; `locate:PHRASE` needs what to look for.
const TASKS: [&str; 5] = ["document", "ocr", "free-ocr", "figure", "describe"];
/// What weights are computed in; "" leaves it to device and checkpoint.
const DTYPES: [&str; 4] = ["", "f32", "f16", "bf16"];
/// Tiles of a page at most, whatever is asked for: 36 and a view are 3,900 vision tokens.
const MOST_TILES: u32 = 36;
/// Prompt and answer of the model together.
const MOST_POSITIONS: u32 = 8192;

/// `[deepseek_ocr]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeepSeekSettings {
    pub model: String,
    pub mode: String,
    pub max_tiles: u32,
    pub task: String,
    pub device: String,
    pub dtype: String,
    pub max_new_tokens: u32,
    pub ngram_size: u32,
    pub ngram_window: u32,
    pub deep_parsing: bool,
    pub kv_cache: Size,
    pub places: u32,
    pub fallback: Vec<String>,
    pub cache_folder: String,
}

/// Who is asked for a page that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// The same model in another mode.
    Mode(String),
    /// The engine that is part of the program.
    PpOcr,
}

impl FromStr for Fallback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("mode:") {
            Some(mode) if MODES.contains(&mode) => Ok(Self::Mode(mode.to_owned())),
            Some(mode) => Err(format!("names the mode `{mode}`; {}", one_of(&MODES))),
            None if text == "pp-ocr" => Ok(Self::PpOcr),
            None => Err(format!("holds `{text}`; must be `mode:NAME` or `pp-ocr`")),
        }
    }
}

/// What kind of processor an engine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DeviceKind {
    Cpu,
    Cuda,
    Vulkan,
    Wgpu,
}

impl DeviceKind {
    const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::Vulkan, Self::Wgpu];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
        }
    }

    /// Whether this program was built for it.
    #[cfg_attr(
        not(feature = "deepseek-ocr"),
        allow(dead_code, reason = "for the engine that this build left out")
    )]
    pub(crate) fn is_built(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }
}

/// One device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DeviceName {
    pub kind: DeviceKind,
    /// 0 for the CPU.
    pub index: usize,
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            DeviceKind::Cpu => f.write_str("cpu"),
            kind => write!(f, "{}:{}", kind.as_str(), self.index),
        }
    }
}

/// Understands `cpu`, `cuda:0,1`, `vulkan:0`; a kind alone is its first device.
pub(crate) fn devices(text: &str) -> Result<Vec<DeviceName>, String> {
    let (name, list) = match text.split_once(':') {
        Some((name, list)) => (name, Some(list)),
        None => (text, None),
    };
    let kind = DeviceKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .ok_or("must be `cpu`, `cuda:0`, `vulkan:0`, `wgpu:0`, or several as `cuda:0,1`")?;
    let Some(list) = list else {
        return Ok(vec![DeviceName { kind, index: 0 }]);
    };
    if kind == DeviceKind::Cpu {
        return Err("must be `cpu` alone: one engine takes all of its cores".to_owned());
    }
    let mut found = Vec::new();
    for index in list.split(',') {
        let index = index.trim().parse().ok().filter(|&index| index < 1024);
        let index = index.ok_or("must number its devices from 0, as in `cuda:0,1`")?;
        let device = DeviceName { kind, index };
        if found.contains(&device) {
            return Err(format!("names {device} twice"));
        }
        found.push(device);
    }
    Ok(found)
}

impl DeepSeekSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let mut at = |key, wrong: Option<String>| {
            if let Some(wrong) = wrong {
                problems.0.push((key, wrong));
            }
        };
        let unless = |holds: bool, wrong: &str| (!holds).then(|| wrong.to_owned());
        let listed = |value: &str, list: &[&str]| (!list.contains(&value)).then(|| one_of(list));
        at("deepseek_ocr.mode", listed(&self.mode, &MODES));
        let tiles = self.max_tiles == 0 || (2..=MOST_TILES).contains(&self.max_tiles);
        let wrong = unless(tiles, "must be 0, which leaves it to the model, or 2 to 36");
        at("deepseek_ocr.max_tiles", wrong);
        at("deepseek_ocr.task", wrong_task(&self.task));
        at("deepseek_ocr.dtype", listed(&self.dtype, &DTYPES));
        at("deepseek_ocr.device", devices(&self.device).err());
        let tokens = (1..=MOST_POSITIONS).contains(&self.max_new_tokens);
        let wrong = unless(tokens, "must be between 1 and 8192");
        at("deepseek_ocr.max_new_tokens", wrong);
        let window = self.ngram_size == 0 || self.ngram_window >= self.ngram_size;
        let wrong = unless(window, "must be `deepseek_ocr.ngram_size` at least");
        at("deepseek_ocr.ngram_window", wrong);
        let ngram = self.ngram_size != 1 && self.ngram_size <= MOST_POSITIONS;
        let wrong = unless(
            ngram,
            "must be 0, which blocks nothing, or between 2 and 8192",
        );
        at("deepseek_ocr.ngram_size", wrong);
        let cache = self.kv_cache.0 >= 1 << 20;
        at(
            "deepseek_ocr.kv_cache",
            unless(cache, "must be at least 1 MiB"),
        );
        let places = self.places <= 1024;
        at(
            "deepseek_ocr.places",
            unless(places, "must be at most 1024"),
        );
        at("deepseek_ocr.fallback", self.fallbacks().err());
    }

    /// Where the engine runs, once each.
    pub(crate) fn devices(&self) -> Result<Vec<DeviceName>, String> {
        devices(&self.device)
    }

    /// Who is asked for pages that are given up, in this order. The mode that is in use anyway is
    /// no fallback.
    pub(crate) fn fallbacks(&self) -> Result<Vec<Fallback>, String> {
        let mut found: Vec<Fallback> = Vec::new();
        for text in &self.fallback {
            let fallback: Fallback = text.parse()?;
            let is_mode = matches!(fallback, Fallback::Mode(_));
            if is_mode && found.contains(&Fallback::PpOcr) {
                return Err("must name modes before `pp-ocr`".to_owned());
            }
            if fallback != Fallback::Mode(self.mode.clone()) && !found.contains(&fallback) {
                found.push(fallback);
            }
        }
        Ok(found)
    }
}

/// Whether the engine has a mode of this name.
pub(super) fn is_deepseek_mode(name: &str) -> bool {
    MODES.contains(&name)
}

fn wrong_task(task: &str) -> Option<String> {
    match task.strip_prefix("locate:") {
        Some(phrase) if !phrase.trim().is_empty() => None,
        _ if TASKS.contains(&task) => None,
        _ => Some(format!("{} or `locate:PHRASE`", one_of(&TASKS))),
    }
}

fn one_of(list: &[&str]) -> String {
    let named: Vec<String> = list
        .iter()
        .map(|&word| match word {
            "" => "\"\"".to_owned(),
            word => format!("`{word}`"),
        })
        .collect();
    format!("must be one of {}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_a_kind_and_numbers() {
        let named = |text: &str| -> Vec<String> {
            let found = devices(text).unwrap();
            found.iter().map(DeviceName::to_string).collect()
        };
        assert_eq!(named("cpu"), ["cpu"]);
        assert_eq!(named("cuda"), ["cuda:0"]);
        assert_eq!(named("cuda:0,1, 3"), ["cuda:0", "cuda:1", "cuda:3"]);
        assert_eq!(named("wgpu:2"), ["wgpu:2"]);
        for (text, wrong) in [
            ("", "must be `cpu`"),
            ("tpu:0", "must be `cpu`"),
            ("cpu:0", "must be `cpu` alone"),
            ("cuda:", "must number"),
            ("cuda:a", "must number"),
            ("cuda:-1", "must number"),
            ("cuda:1,1", "names cuda:1 twice"),
        ] {
            let error = devices(text).unwrap_err();
            assert!(error.starts_with(wrong), "{text}: {error}");
        }
    }

    #[test]
    fn fallbacks_are_modes_and_then_engines() {
        let mode = |mode: &str| Ok(Fallback::Mode(mode.to_owned()));
        assert_eq!("mode:base".parse(), mode("base"));
        assert_eq!("pp-ocr".parse(), Ok(Fallback::PpOcr));
        for wrong in ["mode:huge", "mode:", "base", ""] {
            assert!(wrong.parse::<Fallback>().is_err(), "{wrong}");
        }
    }
}
