//! Documents whose every page is known, and what a dataset makes of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use quire_core::DocId;
use quire_dataset::{Dataset, ErrorRow, Output, PageRow};
use serde::Deserialize;

use crate::documents::pdf;

/// The interpreter with the packages of `readers/requirements.txt`, if `QUIRE_TEST_PYTHON` names
/// one.
#[allow(
    clippy::disallowed_methods,
    reason = "the switch that names an interpreter for tests"
)]
pub fn python() -> Option<PathBuf> {
    std::env::var("QUIRE_TEST_PYTHON").ok().map(PathBuf::from)
}

/// A folder of documents, with the pages that a dataset of it must have.
#[derive(Debug)]
pub struct Known {
    /// The folder.
    pub folder: PathBuf,
    /// Pages by document.
    pub pages: BTreeMap<String, u32>,
}

/// What of the known pages is in a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tally {
    /// Rows of the pages table.
    pub pages: u64,
    /// Rows of the errors table.
    pub errors: u64,
    /// Known pages that are in neither.
    pub lost: Vec<String>,
    /// Pages that are there more than once.
    pub duplicated: Vec<String>,
    /// Rows that no known page explains.
    pub unknown: Vec<String>,
}

impl Tally {
    /// Whether each page is there once, and read.
    pub fn is_exact(&self) -> bool {
        self.errors == 0 && self.is_complete()
    }

    /// Whether each page is there once, read or given up.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.unknown.is_empty()
    }
}

impl Known {
    /// Writes documents with so many pages each.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn write(folder: &Path, page_counts: &[u32]) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for documents");
        let folder = folder.canonicalize().expect("the folder exists");
        let mut pages = BTreeMap::new();
        for (number, &count) in page_counts.iter().enumerate() {
            let name = format!("document-{number:05}.pdf");
            let path = folder.join(&name);
            let salt = format!("document {number} in {}", folder.display());
            std::fs::write(&path, pdf(count as usize, &salt)).expect("a document");
            let uri = format!("file://{}", path.display());
            pages.insert(DocId::of(&uri, None).to_string(), count);
        }
        Self { folder, pages }
    }

    /// All pages.
    pub fn n_pages(&self) -> u64 {
        self.pages.values().map(|&count| u64::from(count)).sum()
    }

    /// What a dataset holds of them, by our own reader.
    ///
    /// # Errors
    /// When the dataset cannot be read.
    pub async fn tally(&self, output: &Output) -> anyhow::Result<Tally> {
        let dataset = Dataset::open(output).await?;
        let pages = dataset.rows::<PageRow>().collect().await?;
        let errors = dataset.rows::<ErrorRow>().collect().await?;
        let mut seen: HashMap<(String, i64), u32> = HashMap::new();
        for page in &pages {
            let key = (page.doc_id.to_string(), i64::from(page.page_number));
            *seen.entry(key).or_default() += 1;
        }
        for error in &errors {
            let key = (
                error.doc_id.to_string(),
                error.page_number.map_or(0, i64::from),
            );
            *seen.entry(key).or_default() += 1;
        }
        let mut tally = Tally {
            pages: pages.len() as u64,
            errors: errors.len() as u64,
            lost: Vec::new(),
            duplicated: Vec::new(),
            unknown: Vec::new(),
        };
        for (doc_id, &count) in &self.pages {
            for number in 1..=i64::from(count) {
                match seen.remove(&(doc_id.clone(), number)) {
                    None => tally.lost.push(format!("{doc_id}-{number:06}")),
                    Some(1) => {}
                    Some(_) => tally.duplicated.push(format!("{doc_id}-{number:06}")),
                }
            }
        }
        let unknown = seen.into_keys();
        tally.unknown = unknown
            .map(|(doc_id, number)| format!("{doc_id}-{number:06}"))
            .collect();
        tally.unknown.sort();
        Ok(tally)
    }

    /// What a dataset holds of them, by Python and pyarrow alone. `environment` has what it takes
    /// to reach the store.
    ///
    /// # Errors
    /// When there is no interpreter or it fails.
    pub fn tally_by_python(
        &self,
        dataset: &str,
        environment: &[(String, String)],
        scratch: &Path,
    ) -> anyhow::Result<Tally> {
        let Some(python) = python() else {
            anyhow::bail!("QUIRE_TEST_PYTHON names no interpreter");
        };
        let list = scratch.join("known.json");
        std::fs::write(&list, serde_json::to_vec(&self.pages)?)?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/count_pages.py");
        let output = Command::new(python)
            .arg(script)
            .arg(dataset)
            .arg(&list)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "count_pages.py: {said}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
