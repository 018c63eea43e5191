//! The engine whose model users bring, with a shrunken checkpoint: what it writes is nonsense, what
//! becomes of that is not.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use quire_core::Flag;
use quire_dataset::PageRow;
use quire_tests::documents::pdf;

use super::command::{Scratch, events, finish, quire, run_of, verify, version, wait_until};

/// Files of a checkpoint.
const FILES: [&str; 4] = [
    "config.json",
    "tokenizer.json",
    "model.safetensors.index.json",
    SHARD,
];
const SHARD: &str = "model-00001-of-000001.safetensors";

fn checkpoint() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/deepseek-ocr/tests/fixtures/tiny"
    ))
}

/// A copy that may be spoiled.
fn copied(scratch: &Scratch, name: &str) -> PathBuf {
    let folder = scratch.path(name);
    std::fs::create_dir_all(&folder).unwrap();
    for file in FILES {
        std::fs::copy(checkpoint().join(file), folder.join(file)).unwrap();
    }
    folder
}

/// `quire` with settings in which a page takes little time and nothing is kept outside the test.
fn small(scratch: &Scratch) -> Command {
    let mut command = quire();
    command
        .env("XDG_CACHE_HOME", scratch.path("cache"))
        .env("QUIRE__DEEPSEEK_OCR__MAX_NEW_TOKENS", "40")
        .env("QUIRE__DEEPSEEK_OCR__KV_CACHE", "64 MiB")
        .env("QUIRE__DEEPSEEK_OCR__PLACES", "4");
    command
}

/// Adds `run DOCUMENTS --out OUT --json --engine deepseek-ocr --model MODEL --mode tiny`.
fn reads(command: &mut Command, model: &Path, documents: &Path, out: &Path) {
    reads_in("tiny", command, model, documents, out);
}

fn reads_in(mode: &str, command: &mut Command, model: &Path, documents: &Path, out: &Path) {
    run_of(command, documents, out);
    command
        .args(["--engine", "deepseek-ocr", "--mode", mode, "--model"])
        .arg(model);
}

fn without_fallback(scratch: &Scratch) -> Command {
    let mut command = small(scratch);
    command.env("QUIRE__DEEPSEEK_OCR__FALLBACK", "[]");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a page says, whatever else was in its batch.
fn words(pages: Vec<PageRow>) -> Vec<(String, String, Option<i32>)> {
    let mut words: Vec<_> = pages
        .into_iter()
        .map(|page| (page.page_id, page.text, page.output_tokens))
        .collect();
    words.sort();
    words
}

#[test]
fn real_documents_read_by_a_model_become_a_dataset_that_verifies() {
    let scratch = Scratch::new();
    let mut command = without_fallback(&scratch);
    reads(
        &mut command,
        &checkpoint(),
        &quire_tests::own_documents(),
        &scratch.out(),
    );
    let output = finish(&mut command, 0);
    verify(&scratch.out());
    let pages = quire_tests::pages(&scratch.out()).unwrap();
    let summary = &events(&output, "summary")[0];
    assert_eq!(pages.len() as u64, summary["pages"].as_u64().unwrap());
    for page in &pages {
        let told = (page.engine.as_str(), page.engine_mode.as_str());
        assert_eq!(told, ("deepseek-ocr", "tiny"), "{}", page.page_id);
        assert_eq!(page.model_revision.len(), 64);
        assert_eq!((page.attempt, &page.fallback_from), (1, &None));
        assert_eq!(page.vision_tokens, Some(64));
        let output_tokens = page.output_tokens.unwrap();
        assert!((0..=40).contains(&output_tokens), "{output_tokens}");
        let ratio = page.text_tokens.unwrap() as f32 / 64.0;
        assert_eq!(page.compression_ratio, Some(ratio));
        let reason = page.finish_reason.as_deref().unwrap();
        assert_eq!(page.flags.contains(&Flag::Truncated), reason == "length");
        assert_eq!(
            page.flags.contains(&Flag::Repetition),
            reason == "repetition"
        );
    }
    let totals = &version(&scratch.out())["totals"];
    assert_eq!(totals["vision_tokens"], 64 * pages.len());
    let tokenizer = &version(&scratch.out())["tokenizer"];
    assert_eq!(tokenizer, "deepseek-ai/DeepSeek-OCR");

    let mut again = without_fallback(&scratch);
    reads(
        &mut again,
        &checkpoint(),
        &quire_tests::own_documents(),
        &scratch.out(),
    );
    let output = finish(&mut again, 0);
    assert_eq!(events(&output, "summary")[0]["already_complete"], true);
}

fn start(scratch: &Scratch, out: &Path) -> Child {
    let mut command = without_fallback(scratch);
    command.env("QUIRE__JOB__SHARD_PAGES", "3");
    reads(&mut command, &checkpoint(), &scratch.documents(), out);
    command.spawn().unwrap()
}

#[test]
fn a_run_that_is_killed_goes_on_and_pages_say_the_same() {
    let scratch = Scratch::new();
    for number in 0..6 {
        let name = format!("document {number}.pdf");
        scratch.document(&name, &pdf(2 + number, &name));
    }
    let whole = scratch.path("whole");
    assert!(
        start(&scratch, &whole)
            .wait_with_output()
            .unwrap()
            .status
            .success()
    );
    let expected = words(quire_tests::pages(&whole).unwrap());

    let mut child = start(&scratch, &scratch.out());
    let jobs = scratch.path("dataset.quire/jobs");
    let parts = || -> usize {
        let jobs = std::fs::read_dir(&jobs).into_iter().flatten().flatten();
        let parts = jobs.map(|job| std::fs::read_dir(job.path().join("parts")));
        parts
            .map(|parts| parts.map_or(0, |parts| parts.count()))
            .sum()
    };
    wait_until(&mut child, || parts() > 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = start(&scratch, &scratch.out()).wait_with_output().unwrap();
    assert!(resumed.status.success(), "{}", said(&resumed));
    assert_eq!(events(&resumed, "started")[0]["resumed"], true);
    verify(&scratch.out());
    assert_eq!(words(quire_tests::pages(&scratch.out()).unwrap()), expected);
}

/// A page of text, as a picture.
fn picture(scratch: &Scratch) {
    let page = quire_tests::own_documents().join("en12_receipt_q40.jpg");
    let content = std::fs::read(page).unwrap();
    scratch.document("page.jpg", &content);
}

#[test]
fn a_page_that_loops_is_cut_and_flagged_and_read_by_the_fallback() {
    let scratch = Scratch::new();
    picture(&scratch);
    // Nothing keeps these weights from writing the same few tokens for ever, in either mode.
    let looping = |fallback: &str, out: &Path| -> PageRow {
        let mut command = small(&scratch);
        command
            .env("QUIRE__DEEPSEEK_OCR__NGRAM_SIZE", "0")
            .env("QUIRE__DEEPSEEK_OCR__MAX_NEW_TOKENS", "4000")
            .env("QUIRE__DEEPSEEK_OCR__FALLBACK", fallback);
        let documents = scratch.documents();
        reads_in("base", &mut command, &checkpoint(), &documents, out);
        finish(&mut command, 0);
        verify(out);
        quire_tests::pages(out).unwrap().remove(0)
    };
    let cut = looping("[]", &scratch.path("cut"));
    assert_eq!(cut.finish_reason.as_deref(), Some("repetition"));
    assert!(cut.flags.contains(&Flag::Repetition), "{:?}", cut.flags);
    assert!(cut.output_tokens.unwrap() < 4000, "{:?}", cut.output_tokens);

    let read = looping("[\"pp-ocr\"]", &scratch.out());
    assert_eq!(
        (read.engine.as_str(), read.engine_mode.as_str()),
        ("pp-ocr", "small")
    );
    assert_eq!(read.fallback_from.as_deref(), Some("deepseek-ocr"));
    assert_eq!((read.attempt, read.finish_reason), (2, None));
    assert!(read.flags.contains(&Flag::Fallback), "{:?}", read.flags);
    assert!(read.text.chars().count() > 100, "{}", read.text);
    assert_eq!(read.vision_tokens, None);

    // Another mode of the same model loops, too; then the engine that is part of the program.
    let ladder = looping("[\"mode:large\", \"pp-ocr\"]", &scratch.path("ladder"));
    assert_eq!((ladder.engine.as_str(), ladder.attempt), ("pp-ocr", 3));
    let kept = looping("[\"mode:large\"]", &scratch.path("kept"));
    assert_eq!((kept.engine.as_str(), kept.attempt), ("deepseek-ocr", 2));
    assert!(kept.flags.contains(&Flag::Repetition), "{:?}", kept.flags);
}

#[test]
fn checkpoints_that_cannot_be_used_are_refused_before_any_page_is_handed_out() {
    let scratch = Scratch::new();
    picture(&scratch);
    let spoil = |name: &str, spoil: &dyn Fn(&Path)| {
        let folder = copied(&scratch, name);
        spoil(&folder);
        folder
    };
    let edit = |file: PathBuf, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&file).unwrap();
        edit(&mut bytes);
        std::fs::write(file, bytes).unwrap();
    };
    let shorter = spoil("truncated", &|folder| {
        edit(folder.join(SHARD), &|bytes| {
            bytes.truncate(bytes.len() - 100)
        });
    });
    let nan = spoil("nan", &|folder| {
        edit(folder.join(SHARD), &|bytes| {
            let end = bytes.len();
            bytes[end - 2..].copy_from_slice(&0x7fc0_u16.to_le_bytes());
        });
    });
    let other_shape = spoil("shape", &|folder| {
        let file = folder.join("config.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("\"vocab_size\": 512", "\"vocab_size\": 640");
        std::fs::write(file, text).unwrap();
    });
    let no_shard = spoil("missing", &|folder| {
        std::fs::remove_file(folder.join(SHARD)).unwrap();
    });
    let no_config = spoil("config", &|folder| {
        std::fs::remove_file(folder.join("config.json")).unwrap();
    });
    let no_tokenizer = spoil("tokenizer", &|folder| {
        std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    });
    let wrong_tokenizer = spoil("wrong", &|folder| {
        let file = folder.join("tokenizer.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replace("<|grounding|>", "<|grounded|>")).unwrap();
    });
    for (model, named) in [
        (shorter, SHARD),
        (nan, "not a number"),
        (other_shape, "shape"),
        (no_shard, SHARD),
        (no_config, "config.json"),
        (no_tokenizer, "tokenizer.json"),
        (wrong_tokenizer, "<|grounding|>"),
        (scratch.path("nowhere"), "nowhere"),
    ] {
        let mut command = small(&scratch);
        reads(&mut command, &model, &scratch.documents(), &scratch.out());
        let message = said(&finish(&mut command, 2));
        assert!(message.contains(named), "{}: {message}", model.display());
        let jobs = scratch.path("dataset.quire/jobs");
        let planned = std::fs::read_dir(jobs).map_or(0, |jobs| jobs.count());
        assert_eq!(planned, 0, "{}", model.display());
    }
}

#[test]
fn engines_and_devices_that_cannot_be_are_refused_with_the_reason() {
    let scratch = Scratch::new();
    picture(&scratch);
    let model = checkpoint();
    let model = model.to_str().unwrap();
    let deepseek = ["--engine", "deepseek-ocr"];
    for (flags, named) in [
        (
            vec!["--engine", "other"],
            "must be `pp-ocr` or `deepseek-ocr`",
        ),
        (vec!["--mode", "gundam"], "--engine deepseek-ocr"),
        (deepseek.to_vec(), "--model DIR"),
        (
            [&deepseek[..], &["--model", model, "--mode", "huge"]].concat(),
            "must be one of `tiny`",
        ),
        (
            [&deepseek[..], &["--model", model, "--device", "tpu:0"]].concat(),
            "must be `cpu`",
        ),
        (
            [&deepseek[..], &["--model", model, "--dtype", "int8"]].concat(),
            "`bf16`",
        ),
    ] {
        let mut command = small(&scratch);
        run_of(&mut command, &scratch.documents(), &scratch.out());
        let message = said(&finish(command.args(&flags), 2));
        assert!(message.contains(named), "{flags:?}: {message}");
    }
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself needs no end.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_worker_takes_the_jobs_that_want_exactly_its_engine() {
    let scratch = Scratch::new();
    picture(&scratch);
    let mut coordinator = small(&scratch);
    let store = format!("sqlite:{}", scratch.path("jobs.db").display());
    coordinator.args([
        "coordinator",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--store",
        &store,
    ]);
    let mut coordinator = Running(coordinator.spawn().unwrap());
    let mut lines = BufReader::new(coordinator.0.stdout.take().unwrap()).lines();
    let listening: serde_json::Value =
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let url = listening["url"].as_str().unwrap();
    let model = checkpoint();
    let engine = |command: &mut Command, mode: &str| {
        command.args([
            "--coordinator",
            url,
            "--engine",
            "deepseek-ocr",
            "--mode",
            mode,
        ]);
        command.arg("--model").arg(&model);
    };
    let submit = |mode: &str, out: &str, more: &[&str]| -> Output {
        let mut command = small(&scratch);
        command.arg("submit").arg(scratch.documents());
        command.arg("--out").arg(scratch.path(out)).args(more);
        engine(&mut command, mode);
        finish(&mut command, 0)
    };
    // The first job in line wants another mode than the worker has.
    let other = submit("base", "other", &[]);
    let other = String::from_utf8(other.stdout).unwrap().trim().to_owned();
    let mut worker = without_fallback(&scratch);
    worker.arg("worker");
    engine(&mut worker, "tiny");
    let _worker = Running(worker.spawn().unwrap());
    submit("tiny", "dataset", &["--wait"]);
    verify(&scratch.out());
    let page = quire_tests::pages(&scratch.out()).unwrap().remove(0);
    assert_eq!(
        (page.engine.as_str(), page.engine_mode.as_str()),
        ("deepseek-ocr", "tiny")
    );
    let mut status = small(&scratch);
    status.args(["status", &other, "--coordinator", url, "--json"]);
    let status = finish(&mut status, 0);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["rows_done"], 0, "{status}");
    assert_eq!(status["shards"]["leased"], 0, "{status}");
}

#[test]
fn a_study_compares_modes_on_pages_whose_text_is_known() {
    let scratch = Scratch::new();
    let name = "en11_table_150.png";
    let content = std::fs::read(quire_tests::own_documents().join(name)).unwrap();
    scratch.document("page.png", &content);
    scratch.document("page.md", b"# What stands there\n\nis *known*.");
    scratch.document("unknown.png", &content);
    let study = |more: &[&str], code: i32| -> Output {
        let mut command = small(&scratch);
        command.args(["study", "compression", "--json"]);
        command.arg(scratch.documents()).args(more);
        finish(&mut command, code)
    };
    let out = scratch.path("study");
    let model = checkpoint();
    let flags = [
        "--engine",
        "deepseek-ocr",
        "--model",
        model.to_str().unwrap(),
        "--modes",
        "tiny,small",
        "--out",
        out.to_str().unwrap(),
    ];
    let told: serde_json::Value = serde_json::from_slice(&study(&flags, 0).stdout).unwrap();
    assert_eq!(told["pages"], 1);
    assert_eq!(told["left_out"]["without known text"], 1);
    let buckets = told["buckets"].as_array().unwrap();
    let modes: Vec<&str> = buckets
        .iter()
        .map(|bucket| bucket["mode"].as_str().unwrap())
        .collect();
    assert_eq!(modes, ["tiny", "small"]);
    let ratio = |at: usize| buckets[at]["compression_ratio"].as_f64().unwrap();
    assert!((ratio(0) / ratio(1) - 100.0 / 64.0).abs() < 1e-3);
    let pages = std::fs::read_to_string(out.join("pages.csv")).unwrap();
    assert_eq!(pages.lines().count(), 3, "{pages}");
    let svg = std::fs::read_to_string(out.join("compression.svg")).unwrap();
    assert!(svg.contains(">tiny<") && svg.contains(">small<"));
}

#[test]
fn a_study_of_the_own_engine_finds_that_it_reads_the_own_documents() {
    let scratch = Scratch::new();
    let mut command = small(&scratch);
    command.args(["study", "compression", "--json"]);
    for name in ["own-twocolumn-en.pdf", "own-mixed-zh-en.pdf"] {
        command.arg(quire_tests::own_documents().join(name));
    }
    let output = finish(&mut command, 0);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["engine"]["name"], "pp-ocr");
    let buckets = told["buckets"].as_array().unwrap();
    assert!(!buckets.is_empty());
    for bucket in buckets {
        assert!(bucket["precision"].as_f64().unwrap() > 0.9, "{bucket}");
        assert!(bucket["compression_ratio"].is_null());
    }
    let mut nothing = small(&scratch);
    scratch.document("words.txt", b"words");
    nothing
        .args(["study", "compression"])
        .arg(scratch.documents());
    let message = said(&finish(&mut nothing, 1));
    assert!(message.contains("no page was found"), "{message}");
}
