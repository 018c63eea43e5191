//! What an engine counts. Each metric is declared here once; recorders belong to the program.
//!
//! Occupancy over any time is the growth of `decode_rows` over that of `decode_places`.

use std::time::Duration;

use metrics::{Counter, Histogram, Unit, describe_counter, describe_histogram};

use super::rules::FinishReason;

/// Tells the recorder what the engine's metrics are.
pub fn describe() {
    describe_counter!(
        "quire_engine_decode_steps_total",
        Unit::Count,
        "Steps of the decoder, by device"
    );
    describe_counter!(
        "quire_engine_decode_rows_total",
        Unit::Count,
        "Pages that took part in steps of the decoder, by device"
    );
    describe_counter!(
        "quire_engine_decode_places_total",
        Unit::Count,
        "Pages that could have taken part in steps of the decoder, by device"
    );
    describe_histogram!(
        "quire_engine_step_seconds",
        Unit::Seconds,
        "Time of a step of the decoder, by device"
    );
    describe_counter!(
        "quire_engine_prompt_tokens_total",
        Unit::Count,
        "Positions of prompts computed, image slots included, by device"
    );
    describe_counter!(
        "quire_engine_output_tokens_total",
        Unit::Count,
        "Tokens written, by device"
    );
    describe_counter!(
        "quire_engine_answers_total",
        Unit::Count,
        "Answers that ended, by device and end: stop, length, repetition, refused"
    );
    describe_counter!(
        "quire_engine_restarts_total",
        Unit::Count,
        "Answers begun anew because the cache was full, by device"
    );
    describe_counter!(
        "quire_engine_views_total",
        Unit::Count,
        "Views and tiles that went through the vision towers, by device"
    );
    describe_histogram!(
        "quire_engine_vision_seconds",
        Unit::Seconds,
        "Time of a batch of views in the vision towers, by device"
    );
}

/// The metrics of one engine.
#[derive(Debug, Clone)]
pub struct Meters {
    device: String,
    steps: Counter,
    rows: Counter,
    places: Counter,
    step_seconds: Histogram,
    prompt_tokens: Counter,
    output_tokens: Counter,
    restarts: Counter,
    views: Counter,
    vision_seconds: Histogram,
}

impl Meters {
    /// Of the engine on `device`, such as `cpu` or `cuda:0`.
    pub fn of(device: &str) -> Self {
        let device = device.to_owned();
        let label = || device.clone();
        Self {
            steps: metrics::counter!("quire_engine_decode_steps_total", "device" => label()),
            rows: metrics::counter!("quire_engine_decode_rows_total", "device" => label()),
            places: metrics::counter!("quire_engine_decode_places_total", "device" => label()),
            step_seconds: metrics::histogram!("quire_engine_step_seconds", "device" => label()),
            prompt_tokens: metrics::counter!("quire_engine_prompt_tokens_total", "device" => label()),
            output_tokens: metrics::counter!("quire_engine_output_tokens_total", "device" => label()),
            restarts: metrics::counter!("quire_engine_restarts_total", "device" => label()),
            views: metrics::counter!("quire_engine_views_total", "device" => label()),
            vision_seconds: metrics::histogram!("quire_engine_vision_seconds", "device" => label()),
            device,
        }
    }

    /// A step of the decoder over `rows` of `places`, with so many positions of prompts.
    pub(super) fn step(&self, rows: usize, places: usize, prompt_tokens: usize, spent: Duration) {
        self.steps.increment(1);
        self.rows.increment(rows as u64);
        self.places.increment(places as u64);
        self.prompt_tokens.increment(prompt_tokens as u64);
        self.step_seconds.record(spent.as_secs_f64());
    }

    /// An answer that ended; `None` where the question could not be asked.
    pub(super) fn answer(&self, reason: Option<FinishReason>, tokens: usize) {
        let end = reason.map_or("refused", FinishReason::as_str);
        let device = self.device.clone();
        metrics::counter!("quire_engine_answers_total", "device" => device, "end" => end)
            .increment(1);
        self.output_tokens.increment(tokens as u64);
    }

    /// A page that gave its place back before its answer ended.
    pub(super) fn sent_back(&self) {
        self.restarts.increment(1);
    }

    /// Views that went through the towers.
    pub(crate) fn views(&self, n_views: usize, spent: Duration) {
        self.views.increment(n_views as u64);
        self.vision_seconds.record(spent.as_secs_f64());
    }
}
