//! What is in a version of a dataset, counted row by row, for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::output::{counted, grouped};
use crate::summary::{DocumentCounts, FailureKind};

/// Bars of the quality histogram: tenths.
const BINS: usize = 10;
/// Rows of a list that are shown; JSON has all.
const SHOWN: usize = 12;
/// Widest bar of the histogram.
const BAR_CHARS: u64 = 40;

/// What is in a version.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub out: String,
    pub version: u64,
    /// Every version that exists, and when it was made.
    pub versions: Vec<VersionLine>,
    pub documents: DocumentCounts,
    pub media_types: BTreeMap<String, u64>,
    pub pages: PageCounts,
    pub errors: u64,
    /// By code, most frequent first.
    pub failures: Vec<FailureKind>,
}

/// One version of the dataset.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VersionLine {
    pub version: u64,
    pub created_at: String,
    pub documents: u64,
    pub pages: u64,
    pub errors: u64,
}

/// Counts over pages.
#[derive(Debug, Default, Serialize)]
pub(crate) struct PageCounts {
    pub total: u64,
    pub splits: BTreeMap<String, u64>,
    pub text_chars: u64,
    pub languages: BTreeMap<String, u64>,
    pub flags: BTreeMap<String, u64>,
    /// Pages by quality in tenths, 0.0 to 0.1 first.
    pub quality: [u64; BINS],
    pub without_quality: u64,
    /// By `engine version (mode)`.
    pub engines: BTreeMap<String, u64>,
    pub with_image: u64,
}

/// What is counted of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageFacts<'a> {
    pub split: &'a str,
    pub text_chars: u64,
    pub language: Option<&'a str>,
    pub quality: Option<f32>,
    pub engine: &'a str,
    pub engine_version: &'a str,
    pub engine_mode: &'a str,
    pub has_image: bool,
}

impl PageCounts {
    /// Counts one page.
    pub(crate) fn add<'a>(
        &mut self,
        page: PageFacts<'_>,
        flags: impl IntoIterator<Item = &'a str>,
    ) {
        self.total += 1;
        self.text_chars += page.text_chars;
        self.with_image += u64::from(page.has_image);
        count(&mut self.splits, page.split);
        count(&mut self.languages, page.language.unwrap_or("none"));
        for flag in flags {
            count(&mut self.flags, flag);
        }
        let engine = format!(
            "{} {} ({})",
            page.engine, page.engine_version, page.engine_mode
        );
        count(&mut self.engines, &engine);
        match page.quality {
            Some(quality) => {
                let bin = (quality.clamp(0.0, 1.0) * BINS as f32) as usize;
                self.quality[bin.min(BINS - 1)] += 1;
            }
            None => self.without_quality += 1,
        }
    }
}

/// Counts one more of a name.
pub(crate) fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

impl Report {
    /// As a person reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}  version {}\n\n", self.out, self.version);
        for version in &self.versions {
            text.push_str(&format!(
                "  version {:<3} {}  {}, {}, {}\n",
                version.version,
                to_the_second(&version.created_at),
                counted(version.documents, "document", "documents"),
                counted(version.pages, "page", "pages"),
                counted(version.errors, "error", "errors"),
            ));
        }
        self.add_documents(&mut text);
        self.add_pages(&mut text);
        self.add_failures(&mut text);
        text
    }

    fn add_documents(&self, text: &mut String) {
        let documents = self.documents;
        text.push_str(&format!("\nDocuments  {}\n", grouped(documents.total)));
        let kinds = [
            ("complete", documents.complete),
            ("partial", documents.partial),
            ("failed", documents.failed),
            ("duplicate", documents.duplicate),
            ("filtered", documents.filtered),
        ];
        for (name, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
            text.push_str(&format!("  {name:<28} {:>9}\n", grouped(count)));
        }
        add_list(text, "Types", &self.media_types);
    }

    fn add_pages(&self, text: &mut String) {
        let pages = &self.pages;
        text.push_str(&format!("\nPages  {}\n", grouped(pages.total)));
        if pages.total == 0 {
            return;
        }
        for (split, count) in &pages.splits {
            text.push_str(&format!("  {split:<28} {:>9}\n", grouped(*count)));
        }
        text.push_str(&format!(
            "  {:<28} {:>9}\n",
            "characters",
            grouped(pages.text_chars)
        ));
        if pages.with_image > 0 {
            text.push_str(&format!(
                "  {:<28} {:>9}\n",
                "with image",
                grouped(pages.with_image)
            ));
        }
        add_list(text, "Languages", &pages.languages);
        add_list(text, "Flags", &pages.flags);
        add_list(text, "Engines", &pages.engines);
        self.add_quality(text);
    }

    fn add_quality(&self, text: &mut String) {
        text.push_str("\nQuality\n");
        let most = self.pages.quality.iter().copied().max().unwrap_or(0).max(1);
        for (bin, count) in self.pages.quality.iter().enumerate() {
            let (from, to) = (bin as f32 / BINS as f32, (bin + 1) as f32 / BINS as f32);
            let wide = (count * BAR_CHARS).div_ceil(most) as usize;
            let line = format!(
                "  {from:.1} to {to:.1} {:>9}  {}",
                grouped(*count),
                "#".repeat(wide)
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if self.pages.without_quality > 0 {
            text.push_str(&format!(
                "  none       {:>9}\n",
                grouped(self.pages.without_quality)
            ));
        }
    }

    fn add_failures(&self, text: &mut String) {
        text.push_str(&format!("\nErrors  {}\n", grouped(self.errors)));
        for kind in &self.failures {
            let (code, count) = (&kind.code, grouped(kind.count));
            text.push_str(&format!(
                "  {code:<14} {count:>7}  {}\n",
                kind.example.text()
            ));
        }
    }
}

/// A time of RFC 3339 without its fraction.
fn to_the_second(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

/// Names by how often they occur.
fn add_list(text: &mut String, title: &str, counts: &BTreeMap<String, u64>) {
    if counts.is_empty() {
        return;
    }
    text.push_str(&format!("\n{title}\n"));
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
    for (name, count) in sorted.iter().take(SHOWN) {
        text.push_str(&format!("  {name:<28} {:>9}\n", grouped(**count)));
    }
    if let Some(rest) = sorted.get(SHOWN..).filter(|rest| !rest.is_empty()) {
        let sum: u64 = rest.iter().map(|(_, count)| **count).sum();
        let name = format!("{} more", rest.len());
        text.push_str(&format!("  {name:<28} {:>9}\n", grouped(sum)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::FailureExample;

    fn report() -> Report {
        let mut report = Report {
            out: "/data/out".into(),
            version: 1,
            versions: vec![VersionLine {
                version: 1,
                created_at: "2026-01-02T03:04:05.29Z".into(),
                documents: 3,
                pages: 3,
                errors: 1,
            }],
            documents: DocumentCounts {
                total: 3,
                complete: 2,
                failed: 1,
                ..DocumentCounts::default()
            },
            errors: 1,
            failures: vec![FailureKind {
                code: "damaged".into(),
                count: 1,
                example: FailureExample {
                    source_uri: "file:///in/bad.pdf".into(),
                    source_member: None,
                    page_number: None,
                    message: "no pages".into(),
                },
            }],
            ..Report::default()
        };
        count(&mut report.media_types, "application/pdf");
        for (language, quality) in [
            (Some("eng_Latn"), Some(0.97)),
            (Some("eng_Latn"), Some(1.0)),
            (None, Some(0.05)),
        ] {
            let page = PageFacts {
                split: "train",
                text_chars: 1000,
                language,
                quality,
                engine: "pp-ocr",
                engine_version: "0.1.0",
                engine_mode: "small",
                has_image: false,
            };
            report.pages.add(
                page,
                ["rotated"]
                    .into_iter()
                    .take(usize::from(language.is_none())),
            );
        }
        report
    }

    #[test]
    fn report_is_text_for_people() {
        let expected = "\
/data/out  version 1

  version 1   2026-01-02T03:04:05Z  3 documents, 3 pages, 1 error

Documents  3
  complete                             2
  failed                               1

Types
  application/pdf                      1

Pages  3
  train                                3
  characters                       3,000

Languages
  eng_Latn                             2
  none                                 1

Flags
  rotated                              1

Engines
  pp-ocr 0.1.0 (small)                 3

Quality
  0.0 to 0.1         1  ####################
  0.1 to 0.2         0
  0.2 to 0.3         0
  0.3 to 0.4         0
  0.4 to 0.5         0
  0.5 to 0.6         0
  0.6 to 0.7         0
  0.7 to 0.8         0
  0.8 to 0.9         0
  0.9 to 1.0         2  ########################################

Errors  1
  damaged              1  bad.pdf: no pages
";
        assert_eq!(report().text(), expected);
    }

    #[test]
    fn report_is_json_for_programs() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["pages"]["quality"][9], 2);
        assert_eq!(json["failures"][0]["example"]["message"], "no pages");
        assert_eq!(json["documents"]["complete"], 2);
    }

    #[test]
    fn empty_dataset_has_a_report() {
        assert!(Report::default().text().contains("Pages  0"));
    }

    #[test]
    fn long_lists_end_with_how_many_more() {
        let counts = (0..20).map(|at| (format!("l{at:02}"), 1)).collect();
        let mut text = String::new();
        add_list(&mut text, "Languages", &counts);
        assert!(text.contains("8 more"));
    }
}
