//! What is accepted on the command line, and which setting each flag reaches.

use clap::CommandFactory;

use super::*;
use crate::settings::merge_layers;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(line.split(' '))
}

#[test]
fn command_line_is_well_formed() {
    Args::command().debug_assert();
}

#[test]
fn every_flag_of_run_reaches_its_setting() {
    let line = "quire run scans --out data --image-mode embed --text-layer prefer --dpi 200 \
                --workers 3 --require-sandbox --json -v --engine deepseek-ocr --model m \
                --mode base --device cuda:0,1 --dtype f16";
    let args = parse(line).unwrap();
    assert!(args.common.json);
    let mut flags = args.common.flag_values();
    flags.extend(args.command.flag_values());
    let settings = merge_layers(None, Vec::new(), flags).unwrap().settings;
    assert_eq!(settings.run.out, "data");
    assert_eq!(settings.run.workers, 3);
    assert_eq!(settings.render.dpi, 200.0);
    assert!(settings.render.require_sandbox);
    assert_eq!(settings.image.mode, quire_core::ImageMode::Embed);
    assert_eq!(settings.text_layer.mode, quire_core::TextLayerMode::Prefer);
    assert_eq!(settings.log.level, "info");
    assert!(settings.engine.is_deepseek());
    let own = &settings.deepseek_ocr;
    let told = (own.model.as_str(), own.mode.as_str(), own.dtype.as_str());
    assert_eq!(told, ("m", "base", "f16"));
    assert_eq!(own.devices().unwrap().len(), 2);
}

#[test]
fn wrong_usage_is_refused() {
    for line in [
        "quire",
        "quire run",
        "quire run a --image-mode some",
        "quire run a --dpi many",
        "quire inspect out --png x.png",
        "quire files out --table lines",
        "quire run a -q -v",
        "quire study",
        "quire study compression",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn every_flag_of_the_fleet_reaches_its_setting() {
    let settings_of = |line: &str| {
        let flags = parse(line).unwrap().command.flag_values();
        merge_layers(None, Vec::new(), flags).unwrap().settings
    };
    let coordinator = settings_of(
        "quire coordinator --listen 0.0.0.0:1 --store postgres://quire@db/quire \
         --metrics-listen 127.0.0.1:2 --allow-plaintext",
    )
    .coordinator;
    assert_eq!(coordinator.listen, "0.0.0.0:1");
    assert_eq!(coordinator.store, "postgres://quire@db/quire");
    assert_eq!(coordinator.metrics_listen, "127.0.0.1:2");
    assert!(coordinator.allow_plaintext);
    let worker = settings_of(
        "quire worker --coordinator https://c:1 --engine pp-ocr --slots 3 --workers 2 --name w \
         --node n --metrics-listen 127.0.0.1:3 --require-sandbox --allow-plaintext",
    );
    assert_eq!(worker.fleet.coordinator, "https://c:1");
    assert!(worker.fleet.allow_plaintext && worker.render.require_sandbox);
    assert_eq!((worker.worker.slots, worker.run.workers), (3, 2));
    let named = (worker.worker.name.as_str(), worker.worker.node.as_str());
    assert_eq!(named, ("w", "n"));
    assert_eq!(worker.worker.metrics_listen, "127.0.0.1:3");
    let submit = settings_of(
        "quire submit a b --out o --priority -2 --wait --dpi 200 --shard-pages 7 \
         --coordinator https://c:2 --engine deepseek-ocr --model m --mode small",
    );
    assert_eq!((submit.job.shard_pages, submit.render.dpi), (7, 200.0));
    assert_eq!(submit.deepseek_ocr.mode, "small");
    for command in [
        "run a --out o",
        "submit a --out o",
        "worker",
        "study compression a",
    ] {
        let settings = settings_of(&format!("quire {command} --mode tiny"));
        assert_eq!(settings.engine.mode, "tiny", "{command}");
    }
    for line in [
        "quire status --coordinator https://c:2",
        "quire pause j-0123456789ab --reason x --coordinator https://c:2",
        "quire resume j-0123456789ab --coordinator https://c:2",
        "quire cancel j-0123456789ab --coordinator https://c:2",
        "quire retry j-0123456789ab --coordinator https://c:2",
        "quire workers --coordinator https://c:2",
        "quire workers drain n --coordinator https://c:2",
        "quire tenants set a --weight 2 --coordinator https://c:2",
        "quire doctor --coordinator https://c:2",
    ] {
        assert_eq!(settings_of(line).fleet.coordinator, "https://c:2", "{line}");
    }
}

#[test]
fn what_looks_like_a_job_is_one() {
    for (text, is_job) in [
        ("j-0123456789ab", true),
        ("./j-0123456789ab", false),
        ("j-0123456789AB", false),
        ("j-0123456789", false),
        ("out", false),
    ] {
        let target: Target = text.parse().unwrap();
        assert_eq!(matches!(target, Target::Job(_)), is_job, "{text}");
    }
}
