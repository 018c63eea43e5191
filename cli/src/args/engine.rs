//! Who reads, as it is typed to every command that reads or asks for reading.

use clap::Args as ClapArgs;
use toml::Value;

use crate::settings::{FlagValue, MODE};

/// Which engine reads, and how.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct EngineArgs {
    /// Who reads the pages: pp-ocr or deepseek-ocr [default: pp-ocr]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// Checkpoint of deepseek-ocr: a folder, or a URI of a store
    #[arg(long, value_name = "DIR | URI")]
    pub model: Option<String>,
    /// Mode of pp-ocr: small, tiny [default: small]; of deepseek-ocr: tiny, small, base, large,
    /// gundam, gundam-m [default: gundam]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// Where deepseek-ocr runs: cpu, cuda:0,1, vulkan:0 or wgpu:0 [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// What deepseek-ocr computes in: f32, f16 or bf16 [default: as the checkpoint is stored]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<String>,
}

impl EngineArgs {
    /// Settings that these flags set.
    pub(crate) fn flag_values(&self) -> Vec<FlagValue> {
        let values = [
            ("engine.name", &self.engine, "--engine"),
            ("deepseek_ocr.model", &self.model, "--model"),
            (MODE, &self.mode, "--mode"),
            ("deepseek_ocr.device", &self.device, "--device"),
            ("deepseek_ocr.dtype", &self.dtype, "--dtype"),
        ];
        let set = values.into_iter();
        set.filter_map(|(key, value, flag)| {
            let value = Value::String(value.clone()?);
            Some(FlagValue { key, value, flag })
        })
        .collect()
    }
}
