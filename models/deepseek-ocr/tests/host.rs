//! The decoder in host memory against the published reference, and against itself: a page's answer
//! must not depend on what else is computed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail by panic and tell what it measured"
)]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use deepseek_ocr::decoder::{CacheFull, Chosen, Decoder, Input, Row, Slot};
use deepseek_ocr::host::{HostDecoder, HostOptions};
use deepseek_ocr::stages::Stages;
use deepseek_ocr::weights::{Checkpoint, StoredType};
use safetensors::{Dtype, SafeTensors};

const CASES: [&str; 6] = [
    "text_only",
    "base",
    "small",
    "large",
    "gundam_2x3",
    "gundam_3x1",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tiny")
        .join(name)
}

/// What the reference was given and what it found.
struct Case(Vec<u8>);

impl Case {
    fn read(name: &str) -> Self {
        Self(std::fs::read(folder(&format!("{name}.safetensors"))).unwrap())
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).unwrap_or_else(|_| panic!("{name}"));
        let data = tensor.data();
        match tensor.dtype() {
            Dtype::F32 => {
                let values = data.as_chunks::<4>().0.iter();
                values
                    .map(|value| f64::from(f32::from_le_bytes(*value)))
                    .collect()
            }
            Dtype::I64 => {
                let values = data.as_chunks::<8>().0.iter();
                values
                    .map(|value| i64::from_le_bytes(*value) as f64)
                    .collect()
            }
            Dtype::I32 => {
                let values = data.as_chunks::<4>().0.iter();
                values
                    .map(|value| f64::from(i32::from_le_bytes(*value)))
                    .collect()
            }
            other => panic!("{name} is {other:?}"),
        }
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        self.numbers(name)
            .into_iter()
            .map(|token| token as u32)
            .collect()
    }

    fn prompt(&self, hidden: usize) -> Tensor<2> {
        let values: Vec<f32> = self
            .numbers("inputs_embeds")
            .iter()
            .map(|x| *x as f32)
            .collect();
        let n = values.len() / hidden;
        Tensor::from_data(TensorData::new(values, [n, hidden]), &Device::flex())
    }
}

fn decoder(model: &str, options: HostOptions) -> (HostDecoder, usize) {
    let checkpoint = Checkpoint::open(&folder(model)).unwrap();
    let config = &checkpoint.config().decoder;
    let decoder = HostDecoder::load(&mut checkpoint.weights(), config, options).unwrap();
    (decoder, config.hidden)
}

/// A cache in which keys and values are exact.
const EXACT: HostOptions = HostOptions {
    dtype: StoredType::F32,
    cache_bytes: 64 << 20,
    threads: 2,
};

fn prompt(slot: Slot, embeddings: Tensor<2>) -> Row {
    Row {
        slot,
        input: Input::Prompt(embeddings),
        banned: Vec::new(),
    }
}

fn token(slot: Slot, token: u32) -> Row {
    Row {
        slot,
        input: Input::Token(token),
        banned: Vec::new(),
    }
}

/// Writes `n` tokens alone.
fn write(decoder: &mut HostDecoder, embeddings: &Tensor<2>, n: usize) -> Vec<Chosen> {
    let slot = decoder.open(embeddings.dims()[0] + n).unwrap();
    let mut chosen = decoder.step(&[prompt(slot, embeddings.clone())]);
    while chosen.len() < n {
        let last = chosen[chosen.len() - 1].token;
        chosen.extend(decoder.step(&[token(slot, last)]));
    }
    decoder.close(slot);
    chosen
}

fn greatest_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let errors = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    errors.fold(0.0, f64::max)
}

#[test]
fn prompts_give_the_published_values_at_every_stage() {
    for name in CASES {
        let case = Case::read(&format!("case_{name}"));
        let (mut decoder, hidden) = decoder("", EXACT);
        let slot = decoder.open(100).unwrap();
        let mut stages = Stages::kept();
        let logits = decoder.logits(&prompt(slot, case.prompt(hidden)), &mut stages);
        assert_eq!(logits.dims()[1], 512);
        for (stage, found) in stages.into_kept() {
            let found = found.try_into_vec_as::<f64>().unwrap();
            let tolerance = match stage.as_str() {
                "logits" => 1e-3,
                "final_norm" => 3e-4,
                stage if stage.ends_with("topk_idx") => 0.0,
                stage if stage.starts_with("router") => 1e-4,
                stage if stage.starts_with("layer") => 3e-4,
                stage => panic!("{stage}"),
            };
            let error = greatest_error(&found, &case.numbers(&stage));
            println!("{name} {stage}: {error:.1e}");
            assert!(error <= tolerance, "{name} {stage}: {error}");
        }
    }
}

#[test]
fn greedy_tokens_are_the_published_ones() {
    for name in CASES {
        let case = Case::read(&format!("case_{name}"));
        let (mut decoder, hidden) = decoder("", EXACT);
        let chosen = write(&mut decoder, &case.prompt(hidden), 32);
        let tokens: Vec<u32> = chosen.iter().map(|chosen| chosen.token).collect();
        assert_eq!(tokens, case.tokens("gen_off.tokens"), "{name}");
        let logits = case.numbers("gen_off.step_logits");
        for (chosen, logits) in chosen.iter().zip(logits.chunks_exact(512)) {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let expected = logits[chosen.token as usize] - sum.ln();
            assert!((f64::from(chosen.log_probability) - expected).abs() < 2e-3);
        }
    }
}

#[test]
fn second_model_decodes_as_published() {
    for name in ["ocr2/case_base", "ocr2/case_crop"] {
        let case = Case::read(name);
        let (mut decoder, hidden) = decoder("ocr2", EXACT);
        let tokens: Vec<u32> = write(&mut decoder, &case.prompt(hidden), 16)
            .iter()
            .map(|chosen| chosen.token)
            .collect();
        assert_eq!(tokens, case.tokens("gen_off.tokens"), "{name}");
    }
}

#[test]
fn banned_tokens_leave_the_choice_to_the_next_best() {
    let case = Case::read("case_base");
    let (mut decoder, hidden) = decoder("", EXACT);
    let logits = case.numbers("gen_off.step_logits");
    let mut order: Vec<u32> = (0..512).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    for n_banned in 0..5 {
        let slot = decoder.open(100).unwrap();
        let row = Row {
            banned: order[..n_banned].to_vec(),
            ..prompt(slot, case.prompt(hidden))
        };
        let chosen = decoder.step(&[row])[0];
        assert_eq!(chosen.token, order[n_banned]);
        let sum: f64 = logits[..512].iter().map(|logit| logit.exp()).sum();
        let expected = logits[chosen.token as usize] - sum.ln();
        assert!((f64::from(chosen.log_probability) - expected).abs() < 2e-3);
        decoder.close(slot);
    }
}

/// All pages at once: each begins one step after the one before it, and its prompt comes in pieces.
fn write_together(decoder: &mut HostDecoder, prompts: &[Tensor<2>], n: usize) -> Vec<Vec<Chosen>> {
    const PIECE: usize = 7;
    let slots: Vec<Slot> = prompts
        .iter()
        .map(|prompt| decoder.open(prompt.dims()[0] + n).unwrap())
        .collect();
    let mut found = vec![Vec::new(); prompts.len()];
    let mut given = vec![0; prompts.len()];
    for step in 0.. {
        let mut rows = Vec::new();
        let mut pages = Vec::new();
        for (page, embeddings) in prompts.iter().enumerate().take(step + 1) {
            let [positions, hidden] = embeddings.dims();
            let last: Option<&Chosen> = found[page].last();
            if given[page] < positions {
                let end = positions.min(given[page] + PIECE);
                let piece = embeddings.clone().slice([given[page]..end, 0..hidden]);
                given[page] = end;
                rows.push(prompt(slots[page], piece));
                pages.push((page, end == positions));
            } else if let (Some(last), true) = (last, found[page].len() < n) {
                rows.push(token(slots[page], last.token));
                pages.push((page, true));
            }
        }
        if rows.is_empty() {
            break;
        }
        // Company in another order now and then.
        if step % 2 == 1 {
            rows.reverse();
            pages.reverse();
        }
        let chosen = decoder.step(&rows);
        assert_eq!(chosen.len(), rows.len());
        for ((page, is_answer), chosen) in pages.into_iter().zip(chosen) {
            if is_answer {
                found[page].push(chosen);
            }
        }
    }
    slots.into_iter().for_each(|slot| decoder.close(slot));
    found
}

#[test]
fn pages_get_the_same_alone_and_in_company() {
    for dtype in [StoredType::F32, StoredType::Bf16, StoredType::F16] {
        let options = HostOptions { dtype, ..EXACT };
        let (mut decoder, hidden) = decoder("", options);
        let prompts = CASES.map(|name| Case::read(&format!("case_{name}")).prompt(hidden));
        let alone = prompts
            .each_ref()
            .map(|prompt| write(&mut decoder, prompt, 24));
        let together = write_together(&mut decoder, &prompts, 24);
        assert_eq!(together, alone, "{dtype:?}");
    }
}

#[test]
fn number_of_threads_changes_nothing() {
    let case = Case::read("case_gundam_2x3");
    let answers = [0, 1, 2, 5].map(|threads| {
        let (mut decoder, hidden) = decoder("", HostOptions { threads, ..EXACT });
        write(&mut decoder, &case.prompt(hidden), 16)
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[test]
fn long_prompts_go_through_in_several_passes() {
    let (mut decoder, hidden) = decoder("", EXACT);
    let tokens: Vec<u32> = (0..2500).map(|index| index * 7919 % 480).collect();
    let embeddings = decoder.embed(&tokens);
    assert_eq!(embeddings.dims(), [2500, hidden]);
    let slot = decoder.open(2600).unwrap();
    let whole = decoder.step(&[prompt(slot, embeddings)]);
    let pieces_slot = decoder.open(2600).unwrap();
    let mut last = Vec::new();
    for piece in tokens.chunks(333) {
        let embeddings = decoder.embed(piece);
        last = decoder.step(&[prompt(pieces_slot, embeddings)]);
    }
    assert_eq!(whole, last);
    // A token is the same as a prompt of one position.
    let next = whole[0].token;
    let embedded = decoder.embed(&[next]);
    let rows = [token(slot, next), prompt(pieces_slot, embedded)];
    let both = decoder.step(&rows);
    assert_eq!(both[0], both[1]);
}

#[test]
fn cache_in_half_the_bytes_stays_close() {
    let case = Case::read("case_large");
    let logits = [StoredType::F32, StoredType::F16, StoredType::Bf16].map(|dtype| {
        let (mut decoder, hidden) = decoder("", HostOptions { dtype, ..EXACT });
        let slot = decoder.open(100).unwrap();
        let row = prompt(slot, case.prompt(hidden));
        let logits = decoder.logits(&row, &mut Stages::ignored());
        logits.into_data().try_into_vec_as::<f64>().unwrap()
    });
    let drift = [1, 2].map(|index| greatest_error(&logits[index], &logits[0]));
    println!("f16 {:.1e}, bf16 {:.1e}", drift[0], drift[1]);
    assert!(drift[0] > 0.0 && drift[0] < 0.2 && drift[1] < 1.5);
}

#[test]
fn memory_of_the_cache_bounds_the_pages() {
    // A block is 64 positions of 3 layers, keys and values, 4 heads padded to 32, in 4 bytes.
    let block_bytes = 64 * 3 * 2 * 4 * 32 * 4;
    let options = HostOptions {
        cache_bytes: 3 * block_bytes,
        ..EXACT
    };
    let (mut decoder, _) = decoder("", options);
    assert_eq!(decoder.capacity(), 192);
    let first = decoder.open(100).unwrap();
    let second = decoder.open(64).unwrap();
    assert_eq!(decoder.open(1), Err(CacheFull { positions: 1 }));
    decoder.close(second);
    decoder.open(1).unwrap();
    decoder.close(first);
    decoder.open(128).unwrap();
}

#[test]
fn steps_know_what_they_read() {
    let (mut decoder, _) = decoder("", EXACT);
    let slot = decoder.open(64).unwrap();
    decoder.step(&[token(slot, 5)]);
    // Queries, keys, values and output; dense layer; router, two experts and the shared ones; head.
    let squares = 3 * 4 * 64 * 64;
    let dense = 3 * 160 * 64;
    let experts = 2 * (8 * 64 + 2 * 3 * 32 * 64 + 3 * 64 * 64);
    let weights = 2 * (squares + dense + experts + 512 * 64);
    let cached = 3 * 2 * 4 * 32 * 4;
    assert_eq!(decoder.bytes_read(), weights + cached);
    assert!(decoder.read_weights() > weights);
}
