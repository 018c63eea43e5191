//! What a study found, for people, spreadsheets and programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quire_core::EngineInfo;
use serde_json::{Value, json};

use super::Measured;
use super::buckets::{Bucket, buckets};

/// All that was measured.
#[derive(Debug, Clone)]
pub(crate) struct Study {
    pub engine: EngineInfo,
    pub modes: Vec<String>,
    /// What counted the tokens of text.
    pub tokenizer: String,
    pub pages: Vec<Measured>,
    /// Pages without known text, by reason.
    pub left_out: BTreeMap<String, u64>,
}

impl Study {
    pub(super) fn new(engine: EngineInfo, modes: Vec<String>, tokenizer: String) -> Self {
        Self {
            engine,
            modes,
            tokenizer,
            pages: Vec::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// By page, modes in the order asked for: pages are answered in any order.
    pub(super) fn sort(&mut self) {
        let place = |mode: &str| self.modes.iter().position(|known| known == mode);
        self.pages
            .sort_by(|a, b| (&a.page, place(&a.mode)).cmp(&(&b.page, place(&b.mode))));
    }

    /// Buckets of all modes.
    pub(super) fn buckets(&self) -> Vec<Bucket> {
        let of_mode = |mode: &String| buckets(mode, &self.pages);
        self.modes.iter().flat_map(of_mode).collect()
    }

    /// Why pages were left out; empty if none was.
    pub(super) fn why_left_out(&self) -> String {
        let reasons = self.left_out.iter();
        let reasons: Vec<String> = reasons
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        reasons.join(", ")
    }

    /// A table on the terminal.
    pub(super) fn text(&self) -> String {
        let engine = &self.engine;
        let mut text = format!(
            "{} {}, weights {}; text counted by {}\n\n",
            engine.name,
            engine.version,
            engine.model_revision.get(..12).unwrap_or_default(),
            self.tokenizer
        );
        let width = self.modes.iter().map(|mode| mode.chars().count()).max();
        let width = width.unwrap_or(0).max("mode".len());
        let mut line = |cells: [&str; 6]| {
            let [mode, tokens, pages, precision, words, ratio] = cells;
            let row = format!(
                "{mode:<width$}  {tokens:>13}  {pages:>6}  {precision:>9}  {words:>7}  {ratio:>11}"
            );
            text.push_str(row.trim_end());
            text.push('\n');
        };
        line([
            "mode",
            "text tokens",
            "pages",
            "precision",
            "words",
            "compression",
        ]);
        for bucket in self.buckets() {
            let ratio = bucket.compression.map(|ratio| format!("{ratio:.1}×"));
            line([
                &bucket.mode,
                &bucket.range(),
                &bucket.pages.to_string(),
                &percent(bucket.precision),
                &percent(bucket.word_precision),
                ratio.as_deref().unwrap_or("–"),
            ]);
        }
        if !self.left_out.is_empty() {
            let left_out = self.why_left_out();
            let written = writeln!(text, "\nleft out: {left_out}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
        text
    }

    /// One line a page and mode.
    pub(super) fn pages_csv(&self) -> String {
        let mut csv = "mode,page,text_tokens,vision_tokens,compression_ratio,precision,\
                       word_precision,ended\n"
            .to_owned();
        for page in &self.pages {
            let cells = [
                field(&page.mode),
                field(&page.page),
                page.text_tokens.to_string(),
                page.vision_tokens
                    .map_or_else(String::new, |n| n.to_string()),
                page.compression()
                    .map_or_else(String::new, |r| format!("{r:.4}")),
                format!("{:.4}", page.precision),
                format!("{:.4}", page.word_precision),
                field(page.ended.as_deref().unwrap_or_default()),
            ];
            csv.push_str(&cells.join(","));
            csv.push('\n');
        }
        csv
    }

    /// One line a bucket and mode.
    pub(super) fn buckets_csv(&self) -> String {
        let mut csv = "mode,text_tokens_from,text_tokens_to,pages,precision,word_precision,\
                       mean_text_tokens,compression_ratio\n"
            .to_owned();
        for bucket in self.buckets() {
            let cells = [
                field(&bucket.mode),
                bucket.from.to_string(),
                bucket.to.map_or_else(String::new, |to| to.to_string()),
                bucket.pages.to_string(),
                format!("{:.4}", bucket.precision),
                format!("{:.4}", bucket.word_precision),
                format!("{:.1}", bucket.text_tokens),
                bucket
                    .compression
                    .map_or_else(String::new, |r| format!("{r:.4}")),
            ];
            csv.push_str(&cells.join(","));
            csv.push('\n');
        }
        csv
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let buckets: Vec<Value> = self
            .buckets()
            .into_iter()
            .map(|bucket| {
                json!({
                    "mode": bucket.mode,
                    "text_tokens_from": bucket.from,
                    "text_tokens_to": bucket.to,
                    "pages": bucket.pages,
                    "precision": bucket.precision,
                    "word_precision": bucket.word_precision,
                    "mean_text_tokens": bucket.text_tokens,
                    "compression_ratio": bucket.compression,
                })
            })
            .collect();
        json!({
            "engine": self.engine,
            "modes": self.modes,
            "tokenizer": self.tokenizer,
            "pages": self.pages.len() / self.modes.len().max(1),
            "buckets": buckets,
            "left_out": self.left_out,
        })
    }
}

fn percent(share: f32) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A field of a CSV file; quoted where it must be.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
pub(super) fn example() -> Study {
    use super::buckets::page;

    let engine = EngineInfo {
        name: "deepseek-ocr".into(),
        version: "0.1.0".into(),
        model_id: "deepseek-ai/DeepSeek-OCR".into(),
        model_revision: "0123456789abcdef".into(),
        mode: "tiny".into(),
    };
    let modes = vec!["tiny".to_owned(), "lines".to_owned()];
    let mut study = Study::new(engine, modes, "the model's tokenizer".to_owned());
    study.pages = vec![
        page("lines", 650, 0.995),
        page("tiny", 650, 0.965),
        page("tiny", 750, 0.9),
    ];
    study.left_out.insert("without known text".to_owned(), 3);
    study.sort();
    study
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_line_for_each_mode_and_bucket() {
        let expected = "\
deepseek-ocr 0.1.0, weights 0123456789ab; text counted by the model's tokenizer

mode     text tokens   pages  precision    words  compression
tiny         600–700       1     96.5 %   96.5 %        10.2×
tiny         700–800       1     90.0 %   90.0 %        11.7×
lines        600–700       1     99.5 %   99.5 %            –

left out: 3 without known text
";
        assert_eq!(example().text(), expected);
    }

    #[test]
    fn csv_has_a_line_for_each_page_and_quotes_what_needs_it() {
        let mut study = example();
        study.pages[0].page = "a, \"b\".png".into();
        let csv = study.pages_csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[1],
            "tiny,\"a, \"\"b\"\".png\",650,64,10.1562,0.9650,0.9650,"
        );
        assert_eq!(study.buckets_csv().lines().count(), 4);
        assert_eq!(study.json()["buckets"][2]["compression_ratio"], Value::Null);
    }
}
