//! Both blocks of n-grams against what the published code forbids.

use std::fs;

use deepseek_ocr::generate::{NgramBlock, Ngrams};
use proptest::prelude::*;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<u32> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|n| n.as_u64().unwrap() as u32).collect()
}

/// What is forbidden after `written`, in rising order.
fn banned(block: &NgramBlock, prompt: &[u32], written: &[u32]) -> Vec<u32> {
    let mut ngrams = Ngrams::new(block, prompt);
    for &token in written {
        ngrams.push(token);
    }
    let mut banned = Vec::new();
    ngrams.banned(&mut banned);
    banned.sort_unstable();
    banned
}

#[test]
fn published_code_forbids_the_same() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/tiny/ngram_cases.json"
    );
    let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let size = case["n"].as_u64().unwrap() as usize;
        let window = NgramBlock::Window {
            size,
            window: case["window"].as_u64().unwrap() as usize,
            whitelist: numbers(&case["whitelist"]),
        };
        let output = numbers(&case["output_ids"]);
        assert_eq!(
            banned(&window, &[], &output),
            numbers(&case["banned_window"]),
            "{case}"
        );
        // The whole history does not care where the prompt ends.
        let (prompt, written) = output.split_at(output.len() / 2);
        let whole = NgramBlock::Whole { size };
        assert_eq!(
            banned(&whole, prompt, written),
            numbers(&case["banned_hf"]),
            "{case}"
        );
    }
}

#[test]
fn nothing_is_forbidden_when_the_block_is_off() {
    assert!(banned(&NgramBlock::Off, &[7; 50], &[7; 50]).is_empty());
}

#[test]
fn window_does_not_see_the_prompt() {
    let block = NgramBlock::Window {
        size: 3,
        window: 50,
        whitelist: Vec::new(),
    };
    assert!(banned(&block, &[1, 2, 3, 1, 2], &[1, 2]).is_empty());
    assert_eq!(banned(&block, &[], &[1, 2, 3, 1, 2]), [3]);
}

/// The rule as the design states it, looked up from the start each time.
fn searched(size: usize, window: usize, whitelist: &[u32], output: &[u32]) -> Vec<u32> {
    if size < 2 || output.len() < size {
        return Vec::new();
    }
    let prefix = &output[output.len() - (size - 1)..];
    let first = output.len().saturating_sub(window);
    let mut banned: Vec<u32> = (first..=output.len() - size)
        .filter(|&start| &output[start..start + size - 1] == prefix)
        .map(|start| output[start + size - 1])
        .filter(|token| !whitelist.contains(token))
        .collect();
    banned.sort_unstable();
    banned.dedup();
    banned
}

proptest! {
    #[test]
    fn keeping_up_finds_what_searching_finds(
        size in 1usize..6,
        window in 0usize..40,
        whitelist in prop::collection::vec(0u32..4, 0..2),
        output in prop::collection::vec(0u32..4, 0..80),
    ) {
        let block = NgramBlock::Window { size, window, whitelist: whitelist.clone() };
        prop_assert_eq!(
            banned(&block, &[], &output),
            searched(size, window, &whitelist, &output)
        );
        let whole = NgramBlock::Whole { size };
        if size > 1 {
            prop_assert_eq!(
                banned(&whole, &[], &output),
                searched(size, usize::MAX, &[], &output)
            );
        }
    }
}
