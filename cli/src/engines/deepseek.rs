//! DeepSeek-OCR as the settings want it: one engine a device, each with its ladder of fallbacks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::tensor::Device;
use deepseek_ocr::preprocess::Mode;
use deepseek_ocr::prompt::{Task, UnknownTask};
use deepseek_ocr::weights::{Checkpoint, CheckpointError, StoredType};
use deepseek_ocr::{DeepSeekOcr, DeepSeekOptions, NgramSetting, named_with};
use quire_core::{Engine, EngineError, EngineInfo, Fault, Faulty, chain};
use quire_worker::{Ladder, Rung};

use super::{EngineChoice, LoadedEngines, pp_ocr_engines};
use crate::settings::{DEEPSEEK_OCR, DeepSeekSettings, DeviceKind, DeviceName, Fallback};

/// One engine a device.
pub(super) fn load(choice: &EngineChoice) -> Result<LoadedEngines, EngineError> {
    let settings = &choice.deepseek;
    let devices = settings.devices().map_err(refused)?;
    let mut fallbacks = settings.fallbacks().map_err(refused)?;
    if !task(settings)?.reads_text() {
        // Its text would stand among descriptions and boxes.
        fallbacks.retain(|fallback| *fallback != Fallback::PpOcr);
    }
    devices.iter().try_for_each(check_built)?;
    // Loading may take minutes: what is wrong with a fallback is known before.
    let mut readers = if fallbacks.contains(&Fallback::PpOcr) {
        pp_ocr_engines(choice.mode, devices.len())?
    } else {
        Vec::new()
    };
    let mut engines: LoadedEngines = Vec::with_capacity(devices.len());
    for device in devices {
        let first = load_on(options(choice, device)?)?;
        tracing::info!("deepseek-ocr on {device} {}", first.load_report());
        let mut rungs = Vec::new();
        for fallback in &fallbacks {
            match fallback {
                Fallback::Mode(mode) if first.takes_mode(mode) => {
                    rungs.push(Rung::Mode(mode.clone()));
                }
                // The second model has one mode; the default names one of the first.
                Fallback::Mode(mode) => {
                    tracing::warn!("this model has no mode {mode}, so nothing falls back to it");
                }
                Fallback::PpOcr => {
                    let reader = readers
                        .pop()
                        .map(|reader| Box::new(reader) as Box<dyn Engine>);
                    rungs.extend(reader.map(Rung::Engine));
                }
            }
        }
        let engine: Box<dyn Engine> = match rungs.is_empty() {
            true => Box::new(first),
            false => Box::new(Ladder::new(Box::new(first), rungs)?),
        };
        engines.push((device.to_string(), engine));
    }
    Ok(engines)
}

/// Drivers that are missing or devices that are not there are panics of the libraries below.
fn load_on(options: DeepSeekOptions) -> Result<DeepSeekOcr, EngineError> {
    let device = options.device_name.clone();
    let loaded = catch_unwind(AssertUnwindSafe(|| DeepSeekOcr::load(options)));
    loaded.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        let said = said.unwrap_or("no message");
        Err(refused(format!("cannot be loaded on {device}: {said}")))
    })
}

/// Who would read, from the checkpoint's files without its weights in memory.
pub(super) fn info(choice: &EngineChoice) -> Result<EngineInfo, EngineError> {
    let checkpoint = Checkpoint::open(model(choice)?).map_err(unusable)?;
    let architecture = checkpoint.config().architecture;
    let own = &choice.deepseek;
    let mode = Mode::named(&own.mode, architecture);
    let mode = mode.map_err(|error| refused(error.to_string()))?;
    let revision = checkpoint.revision(Some(&choice.cache)).map_err(unusable)?;
    Ok(EngineInfo {
        name: DEEPSEEK_OCR.to_owned(),
        // All crates of the program have one version.
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model_id: architecture.model_id().to_owned(),
        model_revision: revision,
        mode: named_with(
            mode.name(),
            max_tiles(own).filter(|_| mode.crop),
            &task(own)?,
            own.deep_parsing,
        ),
    })
}

fn options(choice: &EngineChoice, device: DeviceName) -> Result<DeepSeekOptions, EngineError> {
    let own = &choice.deepseek;
    let ngrams = match own.ngram_size {
        0 => NgramSetting::Off,
        size => NgramSetting::Window {
            size: size as usize,
            window: own.ngram_window as usize,
        },
    };
    let dtype = match own.dtype.as_str() {
        "f32" => Some(StoredType::F32),
        "f16" => Some(StoredType::F16),
        "bf16" => Some(StoredType::Bf16),
        _ => None,
    };
    Ok(DeepSeekOptions {
        cache_folder: Some(choice.cache.clone()),
        device: burn_device(device)?,
        device_name: device.to_string(),
        dtype,
        mode: own.mode.clone(),
        max_tiles: max_tiles(own),
        task: task(own)?,
        max_new_tokens: own.max_new_tokens as usize,
        ngrams,
        deep_parsing: own.deep_parsing,
        places: own.places as usize,
        cache_bytes: Some(own.kv_cache.0),
        ..DeepSeekOptions::new(model(choice)?)
    })
}

/// Of a page, where the settings bound them.
fn max_tiles(own: &DeepSeekSettings) -> Option<u32> {
    (own.max_tiles > 0).then_some(own.max_tiles)
}

fn task(own: &DeepSeekSettings) -> Result<Task, EngineError> {
    let task = own.task.parse();
    task.map_err(|error: UnknownTask| refused(error.to_string()))
}

fn burn_device(device: DeviceName) -> Result<Device, EngineError> {
    match device.kind {
        DeviceKind::Cpu => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda => Ok(Device::cuda(device.index)),
        #[cfg(feature = "vulkan")]
        DeviceKind::Vulkan => Ok(Device::vulkan(adapter(device.index))),
        #[cfg(feature = "wgpu")]
        DeviceKind::Wgpu => Ok(Device::wgpu(adapter(device.index))),
        #[cfg(not(all(feature = "cuda", feature = "vulkan", feature = "wgpu")))]
        _ => Err(not_built(device)),
    }
}

/// The first device is whatever the system thinks best, a software one included.
#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn adapter(index: usize) -> burn::tensor::DeviceKind {
    match index {
        0 => burn::tensor::DeviceKind::DefaultDevice,
        index => burn::tensor::DeviceKind::DiscreteGpu(index),
    }
}

fn check_built(device: &DeviceName) -> Result<(), EngineError> {
    match device.kind.is_built() {
        true => Ok(()),
        false => Err(not_built(*device)),
    }
}

fn not_built(device: DeviceName) -> EngineError {
    let kind = device.kind.as_str();
    refused(format!(
        "cannot run on {device}: this program was built without it; build it with the feature \
         `{kind}`"
    ))
}

fn model(choice: &EngineChoice) -> Result<&Path, EngineError> {
    choice.model.as_deref().ok_or_else(|| {
        refused("has no checkpoint: name it with --model, or with `deepseek_ocr.model`".into())
    })
}

fn unusable(error: CheckpointError) -> EngineError {
    EngineError {
        engine: DEEPSEEK_OCR.to_owned(),
        message: chain(&error),
        fault: error.fault(),
    }
}

fn refused(message: String) -> EngineError {
    EngineError {
        engine: DEEPSEEK_OCR.to_owned(),
        message,
        fault: Fault::Config,
    }
}
