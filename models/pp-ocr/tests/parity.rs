//! The networks against onnxruntime, on the fixtures that `reference/generate.py` writes.
//!
//! Large kernels are rounded to 16 bits and so are most products, so values differ a little: by
//! 2.1e-3 of a probability at most, which is far below every threshold of the engine. The narrow
//! layers of the tiny networks average less of it away: 7.2e-3. Where products are bf16, which has
//! eight bits, a CPU with AMX gave up to 3.8e-2, and 1.4e-1 with the tiny networks; what is read on
//! pages is as good (README, Measured). Boxes of the layout detector are logits, and their difference
//! is seen through the expectation that they stand for, in units of a stride.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail by panic and tell what it measured"
)]

use std::path::{Path, PathBuf};

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use pp_ocr::Mode;
use pp_ocr::classify::AngleClassifier;
use pp_ocr::ctc::decode;
use pp_ocr::detect::TextDetector;
use pp_ocr::layout::{LayoutDetector, N_BINS};
use pp_ocr::recognize::TextRecognizer;
use quire_kernels::{Path as CpuPath, Vectors};
use safetensors::SafeTensors;

const TOLERANCE: f32 = 3e-3;
const TINY_TOLERANCE: f32 = 1e-2;
const BF16_TOLERANCE: f32 = 5e-2;
const BF16_TINY_TOLERANCE: f32 = 2e-1;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Images as one batch, `(value / 255 - mean) / deviation`.
fn batch(names: &[&str], mean: [f32; 3], deviation: [f32; 3]) -> Tensor<4> {
    let mut values = Vec::new();
    let mut size = (0, 0);
    for name in names {
        let image = image::open(fixture(name)).unwrap().into_rgb8();
        size = (image.height() as usize, image.width() as usize);
        for channel in 0..3 {
            values.extend(image.pixels().map(|pixel| {
                (f32::from(pixel.0[channel]) / 255.0 - mean[channel]) / deviation[channel]
            }));
        }
    }
    let data = TensorData::new(values, [names.len(), 3, size.0, size.1]);
    Tensor::from_data(data, &Device::flex())
}

fn half(names: &[&str]) -> Tensor<4> {
    batch(names, [0.5; 3], [0.5; 3])
}

struct Expected(Vec<u8>);

impl Expected {
    fn read(name: &str) -> Self {
        Self(std::fs::read(fixture(name)).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name)
            .into_iter()
            .map(f32::from_le_bytes)
            .collect()
    }

    fn indices(&self, name: &str) -> Vec<usize> {
        self.words(name)
            .into_iter()
            .map(|word| i32::from_le_bytes(word) as usize)
            .collect()
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors
            .tensor(name)
            .unwrap()
            .data()
            .as_chunks::<4>()
            .0
            .to_vec()
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_within(TOLERANCE, what, found, expected);
}

#[track_caller]
fn assert_within(tolerance: f32, what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let error = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    println!("{what}: greatest error {error:.2e}");
    assert!(error <= tolerance, "{what}: greatest error {error}");
}

fn tolerance(mode: Mode) -> f32 {
    let is_bf16 = Vectors::chosen().path() == CpuPath::Amx;
    match mode {
        Mode::Small if is_bf16 => BF16_TOLERANCE,
        Mode::Tiny if is_bf16 => BF16_TINY_TOLERANCE,
        Mode::Small => TOLERANCE,
        Mode::Tiny => TINY_TOLERANCE,
    }
}

/// The fixture of a network that each mode has its own of.
fn expected(mode: Mode, network: &str) -> Expected {
    match mode {
        Mode::Small => Expected::read(&format!("{network}.safetensors")),
        Mode::Tiny => Expected::read(&format!("tiny-{network}.safetensors")),
    }
}

fn recognizer(mode: Mode) -> TextRecognizer {
    TextRecognizer::of(mode, &Device::flex()).unwrap()
}

#[test]
fn detectors_give_the_published_maps() {
    for mode in Mode::ALL {
        let detector = TextDetector::of(mode, &Device::flex()).unwrap();
        let map = detector.forward(half(&["detector.png"]));
        assert_eq!(map.dims(), [1, 1, 96, 160]);
        let expected = expected(mode, "detector").floats("map");
        let what = format!("{mode:?} map");
        assert_within(tolerance(mode), &what, &values(map), &expected);
    }
}

#[test]
fn classifier_gives_the_published_probabilities() {
    let classifier = AngleClassifier::load(&Device::flex()).unwrap();
    let probabilities = classifier.forward(half(&["classifier_0.png", "classifier_1.png"]));
    let expected = Expected::read("classifier.safetensors").floats("probabilities");
    assert_close("probabilities", &values(probabilities), &expected);
}

#[test]
fn recognizers_give_the_published_probabilities() {
    for (mode, n_expected) in [(Mode::Small, 18710), (Mode::Tiny, 6906)] {
        let lines = half(&["recognizer_0.png", "recognizer_1.png"]);
        let probabilities = softmax(recognizer(mode).forward(lines), 2);
        let [n_lines, n_steps, n_classes] = probabilities.dims();
        assert_eq!([n_lines, n_steps, n_classes], [2, 44, n_expected]);
        let probabilities = values(probabilities);
        let expected = expected(mode, "recognizer");
        let classes = expected.indices("classes");
        let n_top = classes.len() / (n_lines * n_steps);
        let found: Vec<f32> = classes
            .iter()
            .enumerate()
            .map(|(place, class)| probabilities[place / n_top * n_classes + class])
            .collect();
        let expected = expected.floats("probabilities");
        let what = format!("{mode:?} probabilities");
        assert_within(tolerance(mode), &what, &found, &expected);
    }
}

#[test]
fn recognizers_read_the_lines() {
    for mode in Mode::ALL {
        let recognizer = recognizer(mode);
        let lines = half(&["recognizer_0.png", "recognizer_1.png"]);
        let charset: Vec<&str> = recognizer.charset().collect();
        let read: Vec<String> = recognizer
            .steps(lines)
            .iter()
            .map(|steps| decode(steps, &charset).text)
            .collect();
        let written = ["Quire reads pages, 2026", "read: 37% (of $5) [a+b]"];
        assert_eq!(read, written, "{mode:?}");
    }
}

#[test]
fn steps_agree_with_the_logits() {
    for mode in Mode::ALL {
        let recognizer = recognizer(mode);
        let lines = half(&["recognizer_0.png", "recognizer_1.png"]);
        let probabilities = softmax(recognizer.forward(lines.clone()), 2);
        let n_classes = probabilities.dims()[2];
        let probabilities = values(probabilities);
        let steps = recognizer.steps(lines).concat();
        assert_eq!(steps.len() * n_classes, probabilities.len());
        for (step, probabilities) in steps.iter().zip(probabilities.chunks_exact(n_classes)) {
            let greatest = probabilities.iter().copied().fold(0.0, f32::max);
            assert!((probabilities[step.class] - greatest).abs() < 1e-5);
            assert!((step.probability - greatest).abs() < 1e-4);
        }
    }
}

#[test]
fn recognizers_read_a_line_alike_alone_and_in_a_batch() {
    for mode in Mode::ALL {
        let recognizer = recognizer(mode);
        let together = recognizer.steps(half(&["recognizer_0.png", "recognizer_1.png"]));
        let alone = recognizer.steps(half(&["recognizer_1.png"]));
        assert_eq!(together[1].len(), alone[0].len());
        for (together, alone) in together[1].iter().zip(&alone[0]) {
            assert_eq!(together.class, alone.class);
            assert!((together.probability - alone.probability).abs() < 1e-5);
        }
    }
}

#[test]
fn layout_detector_gives_the_published_scores_and_boxes() {
    let detector = LayoutDetector::load(&Device::flex()).unwrap();
    let image = batch(
        &["layout.png"],
        [0.485, 0.456, 0.406],
        [0.229, 0.224, 0.225],
    );
    let expected = Expected::read("layout.safetensors");
    for (index, level) in detector.forward(image).into_iter().enumerate() {
        let places = expected.indices(&format!("{index}.places"));
        let [n_places, n_classes] = level.scores.dims();
        assert_eq!(n_places, [100 * 76, 50 * 38, 25 * 19, 13 * 10][index]);
        let rows = |values: Vec<f32>, width: usize| -> Vec<f32> {
            places
                .iter()
                .flat_map(|&p| values[p * width..][..width].to_vec())
                .collect()
        };
        let scores = rows(values(level.scores), n_classes);
        assert_close(
            &format!("scores at stride {}", level.stride),
            &scores,
            &expected.floats(&format!("{index}.scores")),
        );
        let distances = expectations(&rows(values(level.boxes), 4 * N_BINS));
        let wanted = expectations(&expected.floats(&format!("{index}.boxes")));
        let error = distances
            .iter()
            .zip(&wanted)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("distances: greatest error {error:.2e} strides");
        assert!(error < 1e-2, "greatest error {error} strides");
    }
}

fn expectations(logits: &[f32]) -> Vec<f32> {
    logits
        .chunks_exact(N_BINS)
        .map(|bins| {
            let weights: Vec<f32> = bins.iter().map(|logit| logit.exp()).collect();
            let sum: f32 = weights.iter().sum();
            weights
                .iter()
                .enumerate()
                .map(|(bin, weight)| bin as f32 * weight / sum)
                .sum()
        })
        .collect()
}
