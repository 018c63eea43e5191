//! The end of a run: what a person reads at a glance, and the same as JSON.

use std::time::Duration;

use serde::Serialize;

use crate::output::{counted, grouped, rate, shortened};
use crate::settings::Span;

/// What a run did and what the dataset holds now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The dataset.
    pub out: String,
    pub version: u64,
    pub documents: DocumentCounts,
    /// Pages of the version that were read, and rows of its errors table.
    pub pages: u64,
    pub errors: u64,
    /// Most frequent first.
    pub failures: Vec<FailureKind>,
    pub run: RunFigures,
    /// One line of Python that loads the pages.
    pub load: String,
    /// There was nothing to do.
    pub already_complete: bool,
}

/// Documents of the version by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DocumentCounts {
    pub total: u64,
    pub complete: u64,
    pub partial: u64,
    pub failed: u64,
    pub duplicate: u64,
    pub filtered: u64,
}

/// Failures of one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FailureKind {
    pub code: String,
    pub count: u64,
    pub example: FailureExample,
}

/// One failure of a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FailureExample {
    pub source_uri: String,
    pub source_member: Option<String>,
    /// From 1; `None` for a whole document.
    pub page_number: Option<u32>,
    pub message: String,
}

/// What this run did, without what an earlier run of the same job did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct RunFigures {
    pub seconds: f64,
    /// Pages read.
    pub pages: u64,
    /// While pages were read: planning and sealing are not counted.
    pub pages_per_second: Option<f64>,
    pub pages_done_before: u64,
}

/// Longest message shown.
const MESSAGE_CHARS: usize = 90;
/// Longest file name shown.
const NAME_CHARS: usize = 60;

impl Summary {
    /// As a person reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = self.headline();
        text.push_str("\n\n");
        self.add_counts(&mut text);
        self.add_failures(&mut text);
        text.push_str(&format!(
            "  data       {}  (version {})\n",
            self.out, self.version
        ));
        text.push_str(&format!("  load it    {}\n", self.load));
        text
    }

    fn headline(&self) -> String {
        if self.already_complete {
            return "Nothing to do: the dataset already holds every page of these inputs."
                .to_owned();
        }
        let time = Span(Duration::try_from_secs_f64(self.run.seconds).unwrap_or_default());
        let pages = counted(self.run.pages, "page", "pages");
        let speed = self.run.pages_per_second;
        let speed = speed.map_or_else(String::new, |speed| format!(", {} pages/s", rate(speed)));
        let mut text = format!("Done in {time}: {pages} read{speed}.");
        if self.run.pages_done_before > 0 {
            let before = counted(self.run.pages_done_before, "page", "pages");
            text.push_str(&format!(" An earlier run had read {before}."));
        }
        text
    }

    fn add_counts(&self, text: &mut String) {
        let documents = self.documents;
        let kinds = [
            (documents.complete, "complete"),
            (documents.partial, "partial"),
            (documents.failed, "failed"),
            (documents.duplicate, "duplicate"),
            (documents.filtered, "filtered"),
        ];
        let kinds = kinds.iter().filter(|(count, _)| *count > 0);
        let kinds = kinds.map(|(count, name)| format!("{} {name}", grouped(*count)));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let total = grouped(documents.total);
        text.push_str(&format!("  documents  {total}  ({kinds})\n").replace("  ()", ""));
        let (pages, errors) = (grouped(self.pages), self.errors);
        text.push_str(&match errors {
            0 => format!("  pages      {pages}, no errors\n"),
            _ => format!(
                "  pages      {pages}, {}\n",
                counted(errors, "row in errors", "rows in errors")
            ),
        });
    }

    fn add_failures(&self, text: &mut String) {
        let widest = self
            .failures
            .iter()
            .map(|kind| kind.code.len())
            .max()
            .unwrap_or(0);
        for (at, kind) in self.failures.iter().enumerate() {
            let lead = if at == 0 { "failures" } else { "" };
            let (code, count) = (&kind.code, grouped(kind.count));
            let example = kind.example.text();
            text.push_str(&format!(
                "  {lead:<9}  {code:<widest$} {count:>5}  {example}\n"
            ));
        }
    }
}

impl FailureExample {
    /// File, page and reason on one line.
    pub(crate) fn text(&self) -> String {
        let mut name = file_name(&self.source_uri).to_owned();
        if let Some(member) = &self.source_member {
            name.push_str(&format!(" > {member}"));
        }
        let page = self
            .page_number
            .map_or_else(String::new, |page| format!(" page {page}"));
        let message = shortened(&self.message, MESSAGE_CHARS);
        format!("{}{page}: {message}", shortened(&name, NAME_CHARS))
    }
}

/// The last part of a URI: the whole path is in the errors table.
fn file_name(uri: &str) -> &str {
    uri.trim_end_matches('/').rsplit('/').next().unwrap_or(uri)
}

/// One line of Python that loads a dataset: `datasets` where it can, else Polars over the
/// folders that hold the version's pages.
pub(crate) fn load_line(out: &str, page_files: &[String]) -> String {
    if !out.contains("://") {
        let path = quoted(out);
        return format!("from datasets import load_dataset; pages = load_dataset({path})");
    }
    let folder = |file: &String| {
        let (folder, _) = file.rsplit_once('/')?;
        Some(quoted(&format!(
            "{}/{folder}/*.parquet",
            out.trim_end_matches('/')
        )))
    };
    let mut folders: Vec<String> = page_files.iter().filter_map(folder).collect();
    folders.sort();
    folders.dedup();
    format!(
        "import polars; pages = polars.scan_parquet([{}])",
        folders.join(", ")
    )
}

/// A Python string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, count: u64, member: Option<&str>, page: Option<u32>) -> FailureKind {
        FailureKind {
            code: code.into(),
            count,
            example: FailureExample {
                source_uri: "file:///scans/in box/letters.zip".into(),
                source_member: member.map(str::to_owned),
                page_number: page,
                message: "needs a password that\nthe settings do not hold".into(),
            },
        }
    }

    fn summary() -> Summary {
        Summary {
            out: "/data/out".into(),
            version: 2,
            documents: DocumentCounts {
                total: 1178,
                complete: 1150,
                partial: 3,
                failed: 20,
                duplicate: 5,
                filtered: 0,
            },
            pages: 12_345,
            errors: 23,
            failures: vec![
                kind("encrypted", 21, Some("a/b.pdf"), None),
                kind("timeout", 2, None, Some(7)),
            ],
            run: RunFigures {
                seconds: 3725.0,
                pages: 12_300,
                pages_per_second: Some(3.3),
                pages_done_before: 68,
            },
            load: load_line("/data/out", &[]),
            already_complete: false,
        }
    }

    #[test]
    fn summary_is_read_at_a_glance() {
        let expected = "\
Done in 1h 02m: 12,300 pages read, 3.30 pages/s. An earlier run had read 68 pages.

  documents  1,178  (1,150 complete, 3 partial, 20 failed, 5 duplicate)
  pages      12,345, 23 rows in errors
  failures   encrypted    21  letters.zip > a/b.pdf: needs a password that the settings do not hold
             timeout       2  letters.zip page 7: needs a password that the settings do not hold
  data       /data/out  (version 2)
  load it    from datasets import load_dataset; pages = load_dataset(\"/data/out\")
";
        assert_eq!(summary().text(), expected);
    }

    #[test]
    fn clean_small_run_says_so() {
        let clean = Summary {
            documents: DocumentCounts {
                total: 1,
                complete: 1,
                ..DocumentCounts::default()
            },
            pages: 1,
            errors: 0,
            failures: Vec::new(),
            run: RunFigures {
                seconds: 1.25,
                pages: 1,
                ..RunFigures::default()
            },
            ..summary()
        };
        let text = clean.text();
        assert!(
            text.starts_with("Done in 1.2s: 1 page read.\n\n  documents  1  (1 complete)\n"),
            "{text}"
        );
        assert!(text.contains("  pages      1, no errors\n"));
        let again = Summary {
            already_complete: true,
            ..summary()
        };
        assert!(again.text().starts_with("Nothing to do"));
    }

    #[test]
    fn dataset_in_an_object_store_is_loaded_by_the_folders_of_its_version() {
        let files = [
            "data/v000001/pages/train/train-00000-of-00002.parquet",
            "data/v000001/pages/train/train-00001-of-00002.parquet",
            "data/v000002/pages/train/train-00000-of-00001.parquet",
        ];
        let line = load_line("s3://scans/out/", &files.map(str::to_owned));
        let expected = "import polars; pages = polars.scan_parquet([\
                        \"s3://scans/out/data/v000001/pages/train/*.parquet\", \
                        \"s3://scans/out/data/v000002/pages/train/*.parquet\"])";
        assert_eq!(line, expected);
        assert!(load_line("/a \"b\"", &[]).ends_with("load_dataset(\"/a \\\"b\\\"\")"));
    }
}
