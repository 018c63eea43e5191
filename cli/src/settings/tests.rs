//! What wins over what, and what is refused.

use std::io::Write;

use quire_core::{ImageMode, TextLayerMode};

use super::units::Size;
use super::*;

fn with(
    file: &str,
    environment: &[(&str, &str)],
    flags: Vec<FlagValue>,
) -> Result<Loaded, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(file.as_bytes())
        .unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    merge_layers(Some(&path), environment, flags)
}

fn refused(file: &str, environment: &[(&str, &str)]) -> SettingsError {
    with(file, environment, Vec::new()).expect_err("these settings are wrong")
}

#[test]
fn defaults_are_valid_and_mean_what_the_command_line_promises() {
    let loaded = merge_layers(None, Vec::new(), Vec::new()).unwrap();
    let settings = loaded.settings;
    assert_eq!(settings.render.dpi, 144.0);
    assert_eq!(settings.image.mode, ImageMode::None);
    assert_eq!(settings.text_layer.mode, TextLayerMode::Compare);
    assert_eq!(settings.render.memory_limit, Size(2 << 30));
    assert!(settings.run.n_workers() >= 1);
    assert!(settings.render.font_folder().is_none());
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let flag = FlagValue {
        key: "render.dpi",
        value: Value::Float(300.0),
        flag: "--dpi",
    };
    let file = "[render]\ndpi = 100\nmax_edge_px = 5000\n[image]\nmode = \"embed\"";
    let environment = [
        ("QUIRE__RENDER__DPI", "200"),
        ("QUIRE__RENDER__MAX_EDGE_PX", "6000"),
    ];
    let loaded = with(file, &environment, vec![flag]).unwrap();
    assert_eq!(loaded.settings.render.dpi, 300.0);
    assert_eq!(loaded.settings.render.max_edge_px, 6000);
    assert_eq!(loaded.settings.image.mode, ImageMode::Embed);
    assert_eq!(loaded.settings.render.max_area_px, 12_000_000);
    assert_eq!(
        loaded.merged.origin("render.dpi"),
        Origin::Flag("--dpi".into())
    );
}

#[test]
fn unknown_key_is_named_with_what_was_probably_meant() {
    for (file, key, meant) in [
        ("[render]\ndpy = 100", "render.dpy", Some("render.dpi")),
        ("[run]\ndpi = 100", "run.dpi", Some("render.dpi")),
        (
            "[rendering]\npage_timeout = \"1s\"",
            "rendering.page_timeout",
            Some("render.page_timeout"),
        ),
        ("[run]\nzzzzzzzzz = 1", "run.zzzzzzzzz", None),
        ("dpi = 3", "dpi", Some("render.dpi")),
    ] {
        let error = refused(file, &[]);
        let SettingsError::Unknown {
            key: found,
            suggestion,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((found.as_str(), suggestion.as_deref()), (key, meant));
        assert!(error.hint().is_some());
    }
}

#[test]
fn unknown_variable_is_named() {
    let error = refused("", &[("QUIRE__RENDER__DPY", "1")]);
    assert_eq!(
        error.to_string(),
        "unknown setting `render.dpy` (from QUIRE__RENDER__DPY)"
    );
}

#[test]
fn value_of_another_kind_is_refused_with_its_key() {
    for (file, environment, message) in [
        (
            "[render]\ndpi = \"many\"",
            None,
            "setting `render.dpi` must be a number, not text",
        ),
        (
            "[run]\nworkers = true",
            None,
            "setting `run.workers` must be a number, not true or false",
        ),
        (
            "",
            Some(("QUIRE__RENDER__DPI", "many")),
            "setting `render.dpi` must be a number",
        ),
        (
            "[render]\npage_timeout = 30",
            None,
            "setting `render.page_timeout` must be text",
        ),
        (
            "[render]\npage_timeout = \"30\"",
            None,
            "`30` is no duration",
        ),
        (
            "[render]\nmemory_limit = \"lots\"",
            None,
            "`lots` is no size",
        ),
        ("[image]\nmode = \"some\"", None, "image.mode"),
        ("render = 3", None, "unknown setting `render`"),
    ] {
        let error = refused(file, environment.as_slice()).to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn impossible_values_are_all_named_at_once_with_who_set_them() {
    let error = refused(
        "[split]\nvalidation_fraction = 2",
        &[("QUIRE__RENDER__DPI", "0")],
    );
    let message = error.to_string();
    assert!(message.contains("`render.dpi` must be between 18 and 1200 (from QUIRE__RENDER__DPI)"));
    assert!(message.contains("`split.validation_fraction` must be between 0 and 1 (from "));
    assert_eq!(error.fault(), Fault::Config);
}

#[test]
fn passwords_come_from_the_environment_and_are_never_shown() {
    let one = with("", &[("QUIRE__RENDER__PASSWORDS", "a,b")], Vec::new()).unwrap();
    assert_eq!(one.settings.render.passwords.len(), 1);
    assert_eq!(one.settings.render.passwords[0].expose(), "a,b");
    let two = with(
        "",
        &[("QUIRE__RENDER__PASSWORDS", "[\"open\", \"sesame\"]")],
        Vec::new(),
    )
    .unwrap();
    assert_eq!(two.settings.render.passwords.len(), 2);
    for shown in [
        as_toml(&two.merged),
        as_json(&two.merged).to_string(),
        format!("{:?}", two.settings),
    ] {
        assert!(!shown.contains("sesame"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }
}

#[test]
fn printed_settings_say_who_set_what_and_can_be_used_again() {
    let loaded = with("[render]\ndpi = 100", &[], Vec::new()).unwrap();
    let shown = as_toml(&loaded.merged);
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("dpi = 100") && line.contains("mine.toml"))
    );
    assert!(with(&shown, &[], Vec::new()).is_ok());
    assert_eq!(
        as_json(&loaded.merged)["job.shard_pages"]["from"],
        "default"
    );
}

#[test]
fn settings_of_the_model_that_cannot_be_are_named() {
    for (file, message) in [
        (
            "mode = \"huge\"",
            "`deepseek_ocr.mode` must be one of `tiny`",
        ),
        (
            "task = \"read\"",
            "`deepseek_ocr.task` must be one of `document`",
        ),
        (
            "task = \"locate: \"",
            "`deepseek_ocr.task` must be one of `document`",
        ),
        (
            "dtype = \"f64\"",
            "`deepseek_ocr.dtype` must be one of \"\", `f32`",
        ),
        ("device = \"gpu\"", "`deepseek_ocr.device` must be `cpu`"),
        (
            "max_new_tokens = 0",
            "`deepseek_ocr.max_new_tokens` must be between",
        ),
        ("ngram_size = 1", "`deepseek_ocr.ngram_size` must be 0"),
        ("ngram_window = 3", "`deepseek_ocr.ngram_window` must be"),
        (
            "kv_cache = \"1 KiB\"",
            "`deepseek_ocr.kv_cache` must be at least",
        ),
        (
            "fallback = [\"tesseract\"]",
            "`deepseek_ocr.fallback` holds `tesseract`",
        ),
        (
            "fallback = [\"pp-ocr\", \"mode:base\"]",
            "`deepseek_ocr.fallback` must name modes before",
        ),
    ] {
        let error = refused(&format!("[deepseek_ocr]\n{file}"), &[]).to_string();
        assert!(error.contains(message), "{error}");
    }
    for fine in [
        "task = \"locate:a red car\"",
        "ngram_size = 0",
        "fallback = []",
    ] {
        with(&format!("[deepseek_ocr]\n{fine}"), &[], Vec::new()).unwrap();
    }
}

#[test]
fn mode_in_use_is_no_fallback_to_itself() {
    let file = "[deepseek_ocr]\nmode = \"base\"";
    let settings = with(file, &[], Vec::new()).unwrap().settings;
    assert_eq!(settings.deepseek_ocr.fallbacks(), Ok(vec![Fallback::PpOcr]));
}

#[test]
fn flag_of_an_engine_that_is_not_in_use_is_refused_and_its_settings_are_not() {
    let flag = FlagValue {
        key: "deepseek_ocr.dtype",
        value: Value::String("f16".into()),
        flag: "--dtype",
    };
    let error = merge_layers(None, Vec::new(), vec![flag]).unwrap_err();
    let message =
        "`deepseek_ocr.dtype` is none of `pp-ocr`: add `--engine deepseek-ocr` (from --dtype)";
    assert!(error.to_string().contains(message), "{error}");
    with("[deepseek_ocr]\ndtype = \"f16\"", &[], Vec::new()).unwrap();
}

fn mode_flag(mode: &str) -> Vec<FlagValue> {
    vec![FlagValue {
        key: MODE,
        value: Value::String(mode.into()),
        flag: "--mode",
    }]
}

#[test]
fn mode_that_is_typed_is_one_of_the_engine_in_use() {
    let modes = |file: &str, mode: &str| {
        let settings = with(file, &[], mode_flag(mode)).unwrap().settings;
        (settings.engine.mode, settings.deepseek_ocr.mode)
    };
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    assert_eq!(modes("", "tiny"), pair("tiny", "gundam"));
    assert_eq!(
        modes("[engine]\nmode = \"tiny\"", "small"),
        pair("small", "gundam")
    );
    let deepseek = "[engine]\nname = \"deepseek-ocr\"";
    if cfg!(feature = "deepseek-ocr") {
        assert_eq!(modes(deepseek, "base"), pair("small", "base"));
        assert_eq!(modes(deepseek, "tiny"), pair("small", "tiny"));
    }
}

#[test]
fn mode_of_another_engine_is_refused_by_name() {
    for (mode, message) in [
        (
            "gundam",
            "`engine.mode` must be `small` or `tiny`: `gundam` is a mode of `deepseek-ocr`, which \
             `--engine deepseek-ocr` chooses (from --mode)",
        ),
        (
            "huge",
            "`engine.mode` must be `small` or `tiny` (from --mode)",
        ),
    ] {
        let error = merge_layers(None, Vec::new(), mode_flag(mode)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn missing_or_broken_file_is_named() {
    let missing = merge_layers(Some(Path::new("/nowhere/x.toml")), Vec::new(), Vec::new());
    assert!(matches!(missing, Err(SettingsError::Read { .. })));
    let broken = refused("[render\ndpi = 3", &[]);
    assert!(matches!(broken, SettingsError::Syntax { .. }), "{broken}");
}

/// `docs/settings.md` shows the file itself, so that it cannot fall behind.
#[test]
fn every_default_is_preceded_by_words() {
    let mut explained = false;
    for line in DEFAULTS.lines() {
        if line.starts_with('#') {
            explained = true;
        } else if line.is_empty() {
            explained = false;
        } else if line.contains(" = ") {
            assert!(explained, "nothing explains `{line}`");
        }
    }
}

/// Settings as if the files of an example were there.
fn example(text: &str) -> Settings {
    with(text, &[], Vec::new()).unwrap().settings
}

#[test]
fn examples_can_be_used() {
    let local = example(include_str!("../../../configs/local.toml"));
    assert!(local.fleet.is_on_this_machine());
    assert!(local.coordinator.store.starts_with("sqlite:"));
    let cluster = example(include_str!("../../../configs/cluster.toml"));
    assert!(!cluster.fleet.is_on_this_machine());
    assert_eq!(cluster.coordinator.identities.len(), 4);
    assert_eq!(
        cluster.coordinator.identities[2].tenant.as_deref(),
        Some("ingest")
    );
    assert!(cluster.worker.drain_deadline.0.as_secs() == 150);
}

#[test]
fn settings_of_a_fleet_that_cannot_be_are_named() {
    for (file, message) in [
        (
            "[coordinator]\nlisten = \"here\"",
            "`coordinator.listen` must be an address and a port",
        ),
        (
            "[coordinator]\nstore = \"postgres://quire:sesame@db/quire\"",
            "`coordinator.store` must hold no password",
        ),
        (
            "[coordinator]\nsession_ttl = \"5s\"",
            "`coordinator.session_ttl` must be three heartbeat periods",
        ),
        (
            "[coordinator]\ncert_file = \"a.pem\"",
            "`coordinator.key_file` must be set together",
        ),
        (
            "[[coordinator.identities]]\nidentity = \"a\"\nroles = []",
            "`coordinator.identities` must each have one of the roles",
        ),
        (
            "[[coordinator.identities]]\nidentity = \"a\"\nroles = [\"king\"]",
            "coordinator.identities",
        ),
        (
            "[[coordinator.identities]]\nidentity = \"a\"\nroles = [\"admin\"]\ntenants = \"b\"",
            "tenants",
        ),
        (
            "[fleet]\ncoordinator = \"coordinator:7420\"",
            "`fleet.coordinator` must be an address such as",
        ),
        (
            "[fleet]\nkey_file = \"a.pem\"",
            "`fleet.key_file` must be set together",
        ),
        (
            "[worker]\nprefetch = 3",
            "`worker.prefetch` must be at most 2",
        ),
    ] {
        let error = refused(file, &[]).to_string();
        assert!(error.contains(message), "{error}");
        assert!(!error.contains("sesame"), "{error}");
    }
}
