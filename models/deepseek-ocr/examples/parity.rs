//! Compares this crate with a reference, stage by stage.
//!
//! `parity [--decoder device|host] [--device cpu|cuda[:N]|vulkan[:N]|wgpu[:N]] FOLDER`
//!
//! The folder has the form of `tests/fixtures/tiny`: a checkpoint, questions, and what the
//! published code computes for them. A row is printed for each stage with the largest difference
//! and the largest that passes; the program ends with 0 if all pass, 1 if not, 2 if it cannot
//! compare. `device` is the decoder in burn, on whatever device; `host` the one with kernels of its
//! own, whose towers are computed on the device all the same.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::tensor::Device;
use deepseek_ocr::config::DecoderConfig;
use deepseek_ocr::decoder::{DeviceDecoder, DeviceOptions};
use deepseek_ocr::host::{HostDecoder, HostOptions};
use deepseek_ocr::parity::{Loaded, Network, compare_all};
use deepseek_ocr::preprocess::View;
use deepseek_ocr::weights::{CheckpointError, StoredType, Weights};

/// Room for all pages of a folder at once, many times over.
const CACHE_BYTES: u64 = 256 << 20;

#[derive(Debug, Clone, Copy)]
enum Which {
    Device,
    Host,
}

struct Arguments {
    decoder: Which,
    device: Device,
    folder: PathBuf,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("{reason}");
            eprintln!(
                "parity [--decoder device|host] [--device cpu|cuda[:N]|vulkan[:N]|wgpu[:N]] FOLDER"
            );
            return ExitCode::from(2);
        }
    };
    let open = |folder: &Path| open(folder, &arguments);
    match compare_all(&arguments.folder, &open, &read_view) {
        Ok(report) => {
            println!("{report}");
            match report.ok() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("{}", quire_core::chain(&error));
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut decoder = Which::Device;
    let mut device = Device::flex();
    let mut folder = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--decoder" => {
                decoder = match arguments.next().as_deref() {
                    Some("device") => Which::Device,
                    Some("host") => Which::Host,
                    _ => return Err("--decoder wants device or host".to_owned()),
                }
            }
            "--device" => {
                let name = arguments.next().ok_or("--device wants a name")?;
                device = device_named(&name)?;
            }
            _ if argument.starts_with('-') => return Err(format!("{argument} is not known")),
            _ if folder.is_none() => folder = Some(PathBuf::from(argument)),
            _ => return Err("there is more than one folder".to_owned()),
        }
    }
    Ok(Arguments {
        decoder,
        device,
        folder: folder.ok_or("there is no folder")?,
    })
}

/// A device by kind and number.
fn device_named(name: &str) -> Result<Device, String> {
    let (kind, number) = match name.split_once(':') {
        None => (name, None),
        Some((kind, number)) => {
            let number: usize = number
                .parse()
                .map_err(|_| format!("{name}: {number} is no number"))?;
            (kind, Some(number))
        }
    };
    match (kind, number) {
        ("cpu", None) => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        ("cuda", number) => Ok(Device::cuda(number.unwrap_or(0))),
        #[cfg(feature = "vulkan")]
        ("vulkan", number) => Ok(Device::vulkan(adapter(number))),
        #[cfg(feature = "wgpu")]
        ("wgpu", number) => Ok(Device::wgpu(adapter(number))),
        _ => Err(format!("this build knows no device {name}")),
    }
}

#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn adapter(number: Option<usize>) -> burn::tensor::DeviceKind {
    use burn::tensor::DeviceKind;
    number.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu)
}

fn open(folder: &Path, arguments: &Arguments) -> Result<Box<dyn Network>, CheckpointError> {
    let device = &arguments.device;
    match arguments.decoder {
        Which::Device => {
            let decoder = |weights: &mut Weights, config: &DecoderConfig| {
                let options = DeviceOptions {
                    device: device.clone(),
                    dtype: StoredType::F32,
                    cache_bytes: CACHE_BYTES,
                };
                DeviceDecoder::load(weights, config, options)
            };
            Ok(Box::new(Loaded::open(folder, device, decoder)?))
        }
        Which::Host => {
            let decoder = |weights: &mut Weights, config: &DecoderConfig| {
                let options = HostOptions {
                    dtype: StoredType::F32,
                    cache_bytes: CACHE_BYTES,
                    threads: std::thread::available_parallelism().map_or(1, usize::from),
                };
                HostDecoder::load(weights, config, options)
            };
            Ok(Box::new(Loaded::open(folder, device, decoder)?))
        }
    }
}

fn read_view(path: &Path) -> Result<View, String> {
    let image = image::open(path).map_err(|error| error.to_string())?;
    let image = image.into_rgb8();
    if image.width() != image.height() {
        return Err("a view is square".to_owned());
    }
    Ok(View {
        side: image.width(),
        rgb: image.into_raw(),
    })
}
