//! The decoder in burn as a batch of pages sees it: nobody's answer depends on the company.

#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use deepseek_ocr::decoder::{Decoder, DeviceDecoder, DeviceOptions, Input, Row, Slot};
use deepseek_ocr::stages::Stages;
use deepseek_ocr::weights::{Checkpoint, StoredType};

const HIDDEN: usize = 64;
/// Bytes of a position of the tiny model in f32: keys and values of three layers.
const POSITION_BYTES: u64 = 3 * 2 * 64 * 4;

fn load(dtype: StoredType, positions: u64) -> DeviceDecoder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let options = DeviceOptions {
        device: Device::flex(),
        dtype,
        cache_bytes: positions * POSITION_BYTES,
    };
    let mut weights = checkpoint.weights();
    DeviceDecoder::load(&mut weights, &checkpoint.config().decoder, options).unwrap()
}

/// Embeddings like nothing in particular, the same in every run.
fn prompt(seed: u64, n: usize) -> Tensor<2> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let values: Vec<f32> = (0..n * HIDDEN)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            3.0 * (state >> 40) as f32 / (1u64 << 24) as f32 - 1.5
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [n, HIDDEN]), &Device::flex())
}

fn row(slot: Slot, input: Input) -> Row {
    Row {
        slot,
        input,
        banned: Vec::new(),
    }
}

/// A page's answer alone, with the logarithms of its probabilities.
fn alone(decoder: &mut DeviceDecoder, prompt: &Tensor<2>, n: usize) -> Vec<(u32, f32)> {
    let slot = decoder.open(prompt.dims()[0] + n).unwrap();
    let mut input = Input::Prompt(prompt.clone());
    let mut answer = Vec::new();
    for _ in 0..n {
        let chosen = decoder.step(&[row(slot, input)])[0];
        answer.push((chosen.token, chosen.log_probability));
        input = Input::Token(chosen.token);
    }
    decoder.close(slot);
    answer
}

fn tokens(answer: &[(u32, f32)]) -> Vec<u32> {
    answer.iter().map(|&(token, _)| token).collect()
}

#[test]
fn pages_of_many_lengths_written_together_get_the_answers_they_get_alone() {
    const N_TOKENS: usize = 24;
    let mut decoder = load(StoredType::F32, 4096);
    let lengths = [1, 5, 31, 32, 33, 64, 90, 150, 7];
    let prompts: Vec<Tensor<2>> = (0u64..)
        .zip(lengths)
        .map(|(seed, n)| prompt(seed, n))
        .collect();
    let wanted: Vec<_> = prompts
        .iter()
        .map(|prompt| alone(&mut decoder, prompt, N_TOKENS))
        .collect();
    let slots: Vec<Slot> = lengths
        .iter()
        .map(|n| decoder.open(n + N_TOKENS).unwrap())
        .collect();
    // A page joins every other step, so prompts stand between tokens of others.
    let mut answers: Vec<Vec<(u32, f32)>> = vec![Vec::new(); lengths.len()];
    for step in 0.. {
        let active: Vec<usize> = (0..lengths.len())
            .filter(|&page| 2 * page <= step && answers[page].len() < N_TOKENS)
            .collect();
        if active.is_empty() {
            break;
        }
        let rows: Vec<Row> = active
            .iter()
            .map(|&page| {
                let input = match answers[page].last() {
                    None => Input::Prompt(prompts[page].clone()),
                    Some(&(token, _)) => Input::Token(token),
                };
                row(slots[page], input)
            })
            .collect();
        for (&page, chosen) in active.iter().zip(decoder.step(&rows)) {
            answers[page].push((chosen.token, chosen.log_probability));
        }
    }
    for (answer, wanted) in answers.iter().zip(&wanted) {
        assert_eq!(tokens(answer), tokens(wanted));
        for (found, wanted) in answer.iter().zip(wanted) {
            assert!((found.1 - wanted.1).abs() < 1e-4, "{found:?} {wanted:?}");
        }
    }
}

#[test]
fn prompt_in_pieces_gets_the_answer_of_the_whole() {
    let mut decoder = load(StoredType::F32, 2048);
    let prompt = prompt(3, 101);
    let wanted = alone(&mut decoder, &prompt, 8);
    for piece in [1, 16, 32, 33, 100] {
        let slot = decoder.open(128).unwrap();
        let mut chosen = None;
        for first in (0..101).step_by(piece) {
            let piece = prompt.clone().narrow(0, first, piece.min(101 - first));
            chosen = decoder.step(&[row(slot, Input::Prompt(piece))]).pop();
        }
        let mut answer = vec![chosen.unwrap().token];
        while answer.len() < 8 {
            let token = Input::Token(*answer.last().unwrap());
            answer.push(decoder.step(&[row(slot, token)])[0].token);
        }
        decoder.close(slot);
        assert_eq!(answer, tokens(&wanted), "pieces of {piece}");
    }
}

#[test]
fn long_prompt_is_the_same_in_parts_of_queries_and_tokens() {
    // More than the decoder takes at a time, of queries and of tokens before experts.
    let mut decoder = load(StoredType::F32, 4096);
    let prompt = prompt(5, 1300);
    let slot = decoder.open(1300).unwrap();
    let input = Input::Prompt(prompt.clone());
    let whole = decoder.logits(&row(slot, input), &mut Stages::ignored());
    decoder.close(slot);
    let slot = decoder.open(1300).unwrap();
    let mut parts = Vec::new();
    for first in (0..1300).step_by(50) {
        let input = Input::Prompt(prompt.clone().narrow(0, first, 50));
        parts.push(decoder.logits(&row(slot, input), &mut Stages::ignored()));
    }
    let difference = (whole - Tensor::cat(parts, 0)).abs().max();
    assert!(difference.into_scalar::<f32>() < 2e-3);
}

#[test]
fn banned_tokens_are_not_chosen_and_only_in_their_row() {
    let mut decoder = load(StoredType::F32, 1024);
    let prompt = prompt(9, 20);
    let slots = [decoder.open(20).unwrap(), decoder.open(20).unwrap()];
    let free = alone(&mut decoder, &prompt, 1)[0];
    let rows = [
        Row {
            slot: slots[0],
            input: Input::Prompt(prompt.clone()),
            banned: vec![free.0, free.0, 100_000],
        },
        row(slots[1], Input::Prompt(prompt.clone())),
    ];
    let chosen = decoder.step(&rows);
    assert_ne!(chosen[0].token, free.0);
    assert!(chosen[0].log_probability < free.1);
    assert_eq!(chosen[1].token, free.0);
}

#[test]
fn page_whose_numbers_are_lost_does_not_spoil_the_next_in_its_place() {
    // Room for one page: the second gets exactly the blocks of the first.
    let mut decoder = load(StoredType::F32, 64);
    let prompt = prompt(11, 40);
    let wanted = alone(&mut decoder, &prompt, 5);
    let slot = decoder.open(64).unwrap();
    let lost = Tensor::full([64, HIDDEN], f32::NAN, &Device::flex());
    decoder.step(&[row(slot, Input::Prompt(lost))]);
    decoder.close(slot);
    assert_eq!(tokens(&alone(&mut decoder, &prompt, 5)), tokens(&wanted));
}

#[test]
fn cache_holds_what_its_bytes_hold() {
    let mut decoder = load(StoredType::F32, 100);
    // Whole blocks of 32 positions.
    assert_eq!(decoder.capacity(), 96);
    let slot = decoder.open(65).unwrap();
    assert_eq!(decoder.open(1).unwrap_err().positions, 1);
    decoder.close(slot);
    decoder.open(96).unwrap();
}

#[test]
fn sixteen_bits_stay_near_the_reference() {
    let mut exact = load(StoredType::F32, 1024);
    let prompt = prompt(2, 30);
    let slot = exact.open(30).unwrap();
    let input = Input::Prompt(prompt);
    let wanted = exact.logits(&row(slot, input.clone()), &mut Stages::ignored());
    for (dtype, allowed) in [(StoredType::Bf16, 0.5), (StoredType::F16, 0.1)] {
        let mut decoder = load(dtype, 1024);
        let slot = decoder.open(30).unwrap();
        let logits = decoder.logits(&row(slot, input.clone()), &mut Stages::ignored());
        let difference = (logits - wanted.clone()).abs().mean().into_scalar::<f32>();
        assert!(difference < allowed, "{dtype:?}: {difference}");
        assert_eq!(decoder.capacity(), 2048);
    }
}
