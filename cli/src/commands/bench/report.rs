//! What was measured, for people and for programs.

use std::time::Duration;

use pp_ocr::{Stage, StageTime};
use serde_json::{Value, json};

use super::Measured;
use crate::context::Context;
use crate::failure::Outcome;
use crate::output;

pub(super) fn print(context: &Context, measured: &Measured) -> Outcome<()> {
    match context.json {
        true => output::print_json(&as_json(measured)),
        false => output::print(&as_text(measured)),
    }
}

impl Measured {
    fn pages_per_second(&self) -> f64 {
        self.n_pages as f64 / self.wall.as_secs_f64()
    }

    fn millis_a_page(&self, time: Duration) -> f64 {
        1e3 * time.as_secs_f64() / self.n_pages as f64
    }

    /// Time of readers that belongs to no stage.
    fn other(&self) -> Duration {
        let stages = Stage::ALL.map(|stage| self.times.of(stage).whole);
        self.reading.saturating_sub(stages.iter().sum())
    }

    /// Operations a second of a stage's network, if it ran.
    fn flops(&self, time: StageTime) -> Option<f64> {
        let seconds = time.network.as_secs_f64();
        (seconds > 0.0).then(|| 2.0 * time.multiply_adds as f64 / seconds)
    }
}

fn as_text(measured: &Measured) -> String {
    let engine = &measured.engine;
    let peak = &measured.peak;
    let mut text = format!(
        "{} {} ({}), {} at the same time\n{}: at most {:.1} GFLOP/s a core, measured on registers\n\
         {}, {} pages/s\n\n{:<10}{:>11}{:>8}{:>10}{:>10}\n",
        engine.name,
        engine.version,
        engine.mode,
        output::counted(measured.n_readers as u64, "page", "pages"),
        peak.path,
        peak.flops_a_core / 1e9,
        output::counted(measured.n_pages as u64, "page", "pages"),
        output::rate(measured.pages_per_second()),
        "stage",
        "ms a page",
        "share",
        "GFLOP/s",
        "of peak",
    );
    let decode = measured.millis_a_page(measured.decode);
    line(&mut text, &format!("{:<10}{decode:>11.1}", "decode"));
    for stage in Stage::ALL {
        let time = measured.times.of(stage);
        let mut row = row(measured, stage.name(), time.whole);
        if let Some(flops) = measured.flops(time) {
            let of_peak = 100.0 * flops / peak.flops_a_core;
            row.push_str(&format!("{:>10.1}{of_peak:>9.0}%", flops / 1e9));
        }
        line(&mut text, &row);
    }
    line(&mut text, &row(measured, "other", measured.other()));
    line(&mut text, &row(measured, "reading", measured.reading));
    text
}

fn row(measured: &Measured, name: &str, time: Duration) -> String {
    let share = 100.0 * time.as_secs_f64() / measured.reading.as_secs_f64();
    let millis = measured.millis_a_page(time);
    format!("{name:<10}{millis:>11.1}{share:>7.0}%")
}

fn line(text: &mut String, row: &str) {
    text.push_str(row);
    text.push('\n');
}

fn as_json(measured: &Measured) -> Value {
    let stages = Stage::ALL.map(|stage| {
        let time = measured.times.of(stage);
        let flops = measured.flops(time);
        json!({
            "stage": stage.name(),
            "ms_a_page": measured.millis_a_page(time.whole),
            "network_ms_a_page": measured.millis_a_page(time.network),
            "gflops": flops.map(|flops| flops / 1e9),
            "of_peak": flops.map(|flops| flops / measured.peak.flops_a_core),
        })
    });
    json!({
        "engine": measured.engine,
        "readers": measured.n_readers,
        "pages": measured.n_pages,
        "pages_per_second": measured.pages_per_second(),
        "cpu_path": measured.peak.path,
        "peak_gflops_a_core": measured.peak.flops_a_core / 1e9,
        "decode_ms_a_page": measured.millis_a_page(measured.decode),
        "reading_ms_a_page": measured.millis_a_page(measured.reading),
        "other_ms_a_page": measured.millis_a_page(measured.other()),
        "stages": stages,
    })
}
