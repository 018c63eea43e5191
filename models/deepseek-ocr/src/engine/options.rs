//! What an engine is loaded with.

use std::path::PathBuf;

use burn::tensor::Device;

use crate::prompt::Task;
use crate::weights::StoredType;

/// Which repetitions of an answer are forbidden; see [`crate::generate::NgramBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NgramSetting {
    Off,
    /// As the authors serve the model: within a window of the answer, table cells aside.
    Window {
        size: usize,
        window: usize,
    },
    /// As the code beside the checkpoint does: anywhere in prompt and answer.
    Whole {
        size: usize,
    },
}

/// What an engine is loaded with. Start from [`DeepSeekOptions::new`].
#[derive(Debug, Clone)]
pub struct DeepSeekOptions {
    /// The checkpoint: `config.json`, `tokenizer.json` and safetensors files.
    pub folder: PathBuf,
    /// Where it is remembered which checkpoints have been read and checked; without it every
    /// loading reads every byte.
    pub cache_folder: Option<PathBuf>,
    /// Where the network runs. `Device::flex()` is the CPU, with kernels of its own.
    pub device: Device,
    /// The device in metrics and logs, such as `cpu` or `cuda:0`.
    pub device_name: String,
    /// Type of weights and cache; `None` is the checkpoint's. On the CPU the vision towers are
    /// computed in f32 in any case.
    pub dtype: Option<StoredType>,
    /// A published mode by name; see [`crate::preprocess::Mode::named`].
    pub mode: String,
    /// Tiles of a page at most, in modes that have tiles; `None` is the paper's 9 (6 in the
    /// second model).
    pub max_tiles: Option<u32>,
    /// What is asked of every page.
    pub task: Task,
    /// Tokens of an answer at most. Prompt and answer together are bounded by the model.
    pub max_new_tokens: usize,
    pub ngrams: NgramSetting,
    /// Whether an answer that repeats itself is cut.
    pub cut_repetition: bool,
    /// Whether each picture of a page is asked about by itself.
    pub deep_parsing: bool,
    /// Pictures of a page that are asked about at most.
    pub max_figures: usize,
    /// Pages that are written at once; 0 is as many as the cache has room for, 64 at most.
    pub places: usize,
    /// Bytes for keys and values; `None` is room for `places` pages of full length.
    pub cache_bytes: Option<u64>,
    /// Positions of a prompt that are computed at once.
    pub prompt_piece: usize,
    /// Positions of prompts beside one step of the pages that are written; one piece at least.
    pub prompt_budget: usize,
    /// Threads on the CPU; 0 is one a core.
    pub threads: usize,
}

/// A mode as rows name it: with what makes answers differ from those of the mode alone.
pub fn named_with(mode: &str, max_tiles: Option<u32>, task: &Task, deep_parsing: bool) -> String {
    let mut name = mode.to_owned();
    if let Some(max_tiles) = max_tiles {
        name += &format!(" tiles:{max_tiles}");
    }
    if *task != Task::default() {
        name += &format!(" {task}");
    }
    if deep_parsing {
        name += " deep-parsing";
    }
    name
}

impl DeepSeekOptions {
    /// The published settings on the CPU.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            cache_folder: None,
            device: Device::flex(),
            device_name: "cpu".to_owned(),
            dtype: None,
            mode: "gundam".to_owned(),
            max_tiles: None,
            task: Task::Document,
            max_new_tokens: 8192,
            ngrams: NgramSetting::Window {
                size: 30,
                window: 90,
            },
            cut_repetition: true,
            deep_parsing: false,
            max_figures: 16,
            places: 16,
            cache_bytes: None,
            prompt_piece: 512,
            prompt_budget: 1024,
            threads: 0,
        }
    }
}
