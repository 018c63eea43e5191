//! `quire bench`: what people and programs learn from it.

use super::command::{Scratch, finish, quire};

#[test]
fn bench_tells_stages_speed_and_the_share_of_the_peak() {
    let mut command = quire();
    command.args(["bench", "--mode", "tiny", "--workers", "1", "--json"]);
    let output = finish(&mut command, 0);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["engine"]["mode"], "tiny", "{found}");
    assert!(found["pages_per_second"].as_f64().unwrap() > 0.0, "{found}");
    assert!(!found["cpu_path"].as_str().unwrap().is_empty());
    let stages = found["stages"].as_array().unwrap();
    let named = |name: &str| {
        let stage = stages.iter().find(|stage| stage["stage"] == name);
        stage.unwrap_or_else(|| panic!("{name} is missing in {found}"))
    };
    for name in ["detect", "crop", "recognize", "layout", "compose"] {
        assert!(named(name)["ms_a_page"].as_f64().unwrap() > 0.0, "{found}");
    }
    for name in ["detect", "recognize", "layout"] {
        let share = named(name)["of_peak"].as_f64().unwrap();
        assert!(share > 0.0, "{found}");
    }
    let stages: f64 = stages
        .iter()
        .map(|s| s["ms_a_page"].as_f64().unwrap())
        .sum();
    assert!(
        stages <= found["reading_ms_a_page"].as_f64().unwrap(),
        "{found}"
    );
}

#[test]
fn bench_reads_files_and_refuses_what_has_no_pages() {
    let documents = quire_tests::own_documents();
    let receipt = documents.join("en12_receipt_q40.jpg");
    let mut command = quire();
    command.args(["bench", "--mode", "tiny"]).arg(&receipt);
    let output = finish(&mut command, 0);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("1 page, "), "{text}");
    assert!(text.contains("recognize"), "{text}");

    let scratch = Scratch::new();
    let notes = scratch.document("notes.bin", b"nothing to see");
    finish(quire().arg("bench").arg(notes), 2);
}
