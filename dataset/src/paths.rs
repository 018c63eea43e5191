//! Every object name, built and parsed: no other file of the workspace spells one.
//!
//! There are two places. `OUT` is the dataset that people read. `OUT.quire` is its sibling for
//! everything uncommitted: readers take hidden folders below `OUT` for data, so nothing of the
//! kind may lie there. Keys are relative to their place and hold only `[A-Za-z0-9._/-]`.

use quire_core::{JobId, LeaseId, ShardIdx};

use crate::row::Split;
use crate::schema::Table;

/// What is added to the name of a dataset to get the name of its job areas.
pub const AREA_SUFFIX: &str = ".quire";

/// The card that people and the `datasets` library read.
pub const README: &str = "README.md";
/// Number and checksum of the newest version file.
pub const DATASET_JSON: &str = "dataset.json";
/// Checksums of all live files, as `sha256sum --check` reads them.
pub const SHA256SUMS: &str = "SHA256SUMS";
/// Written last of all.
pub const SUCCESS: &str = "_SUCCESS";
/// Where version files lie.
pub const VERSIONS: &str = "versions/";
/// Where the rows of all versions lie.
pub const DATA: &str = "data/";

/// The file whose existence is the commit of a version.
pub fn version(number: u64) -> String {
    format!("{VERSIONS}{number:06}.json")
}

/// The number of a version file.
pub fn parse_version(key: &str) -> Option<u64> {
    number(key.strip_prefix(VERSIONS)?.strip_suffix(".json")?, 6)
}

/// The folder of the files that a version added, with `/` at its end.
pub fn version_data(number: u64) -> String {
    format!("{DATA}v{number:06}/")
}

/// The version that added a file below `data/`.
pub fn parse_version_data(key: &str) -> Option<u64> {
    number(
        key.strip_prefix(DATA)?
            .strip_prefix('v')?
            .split_once('/')?
            .0,
        6,
    )
}

/// Where a file of rows stands among its fellows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataFile {
    /// Version that added it.
    pub version: u64,
    /// What its rows are; never `Part`.
    pub table: Table,
    /// Of pages; the other tables have none.
    pub split: Option<Split>,
    /// Position among its fellows, from 0.
    pub idx: u32,
    /// How many fellows there are, itself included.
    pub count: u32,
}

impl DataFile {
    /// The folder that it and its fellows lie in, with `/` at its end.
    pub fn folder(&self) -> String {
        let data = version_data(self.version);
        match self.split {
            Some(split) => format!("{data}{}/{split}/", self.table),
            None => format!("{data}{}/", self.table),
        }
    }

    /// Its key in `OUT`.
    pub fn key(&self) -> String {
        let stem = self
            .split
            .map_or(self.table.as_str(), |split| split.as_str());
        format!(
            "{}{stem}-{:05}-of-{:05}.parquet",
            self.folder(),
            self.idx,
            self.count
        )
    }

    /// The file that has this key.
    pub fn parse(key: &str) -> Option<Self> {
        let version = parse_version_data(key)?;
        let mut names = key.split('/').skip(2);
        let table = Table::parse(names.next()?).filter(|&table| table != Table::Part)?;
        let split = match table {
            Table::Pages => Some(Split::parse(names.next()?)?),
            _ => None,
        };
        let stem = split.map_or(table.as_str(), |split| Split::as_str(&split));
        let name = names.next()?.strip_suffix(".parquet")?;
        let numbers = name.strip_prefix(stem)?.strip_prefix('-')?;
        let (idx, count) = numbers.split_once("-of-")?;
        let idx = u32::try_from(number(idx, 5)?).ok()?;
        let count = u32::try_from(number(count, 5)?).ok()?;
        let file = Self {
            version,
            table,
            split,
            idx,
            count,
        };
        (names.next().is_none() && idx < count).then_some(file)
    }
}

/// Where the objects of all jobs lie, in `OUT.quire`.
pub const JOBS: &str = "jobs/";

/// The folder of a job, with `/` at its end.
pub fn job(job_id: &JobId) -> String {
    format!("{JOBS}{job_id}/")
}

/// The job whose folder holds an object of `OUT.quire`.
pub fn parse_job(key: &str) -> Option<JobId> {
    let (job_id, _) = key.strip_prefix(JOBS)?.split_once('/')?;
    (!job_id.is_empty()).then(|| JobId::new(job_id))
}

/// Which job may write the files of a version. Two jobs that seal at the same time would
/// otherwise write different bytes under equal names.
pub fn claim(version: u64) -> String {
    format!("{CLAIMS}{version:06}.json")
}

/// The version that a claim is about.
pub fn parse_claim(key: &str) -> Option<u64> {
    number(key.strip_prefix(CLAIMS)?.strip_suffix(".json")?, 6)
}

/// Where claims lie, in `OUT.quire`.
pub const CLAIMS: &str = "claims/";

/// The record of a version that was dropped, until its files are gone.
pub fn dropped(version: u64) -> String {
    format!("{DROPPED}{version:06}.json")
}

/// The version of such a record.
pub fn parse_dropped(key: &str) -> Option<u64> {
    number(key.strip_prefix(DROPPED)?.strip_suffix(".json")?, 6)
}

/// Where records of dropped versions lie, in `OUT.quire`.
pub const DROPPED: &str = "dropped/";

/// Names inside a job's folder.
pub mod in_job {
    use super::{LeaseId, ShardIdx, number};

    /// What the job asks for.
    pub const JOB: &str = "job.json";
    /// Written last of the plan: the plan exists.
    pub const PLAN_INDEX: &str = "plan/index.json";
    /// Where plan objects lie.
    pub const PLAN: &str = "plan/";
    /// Where parts lie.
    pub const PARTS: &str = "parts/";
    /// Where the commit log lies.
    pub const MANIFESTS: &str = "manifest/";
    /// Says that the parts were removed, since a version holds their rows.
    pub const PARTS_REMOVED: &str = "parts-removed.json";
    /// Where seal plans lie.
    pub const SEALS: &str = "seal/";

    /// Some lines of the plan.
    pub fn plan_group(group: u64) -> String {
        format!("{PLAN}{group:06}.jsonl")
    }

    /// The number of a plan object.
    pub fn parse_plan_group(key: &str) -> Option<u64> {
        number(key.strip_prefix(PLAN)?.strip_suffix(".jsonl")?, 6)
    }

    /// A part: its name holds the lease, so that a worker overwrites only its own bytes.
    pub fn part(shard_idx: ShardIdx, lease_id: &LeaseId) -> String {
        format!("{PARTS}{shard_idx:08}-{lease_id}.parquet")
    }

    /// Shard and lease of a part.
    pub fn parse_part(key: &str) -> Option<(ShardIdx, LeaseId)> {
        let name = key.strip_prefix(PARTS)?.strip_suffix(".parquet")?;
        let (shard_idx, lease_id) = name.split_once('-')?;
        let is_plain = !lease_id.is_empty() && !lease_id.contains('/');
        is_plain.then_some((number(shard_idx, 8)?, LeaseId::new(lease_id)))
    }

    /// An entry of the commit log; numbers count from 1.
    pub fn manifest(number: u64) -> String {
        format!("{MANIFESTS}{number:020}.json")
    }

    /// The number of a manifest.
    pub fn parse_manifest(key: &str) -> Option<u64> {
        number(key.strip_prefix(MANIFESTS)?.strip_suffix(".json")?, 20)
    }

    /// What a version will hold, fixed before its first file is written.
    pub fn seal_plan(version: u64) -> String {
        format!("{SEALS}{version:06}.json")
    }

    /// The version of a seal plan.
    pub fn parse_seal_plan(key: &str) -> Option<u64> {
        number(key.strip_prefix(SEALS)?.strip_suffix(".json")?, 6)
    }
}

/// A number as it is written here: at least `width` digits, and no more zeros than that needs.
fn number(text: &str, width: usize) -> Option<u64> {
    let is_ours = text.len() >= width
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == width || !text.starts_with('0'));
    if is_ours { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_built_path_parses_back(n: u64, lease in "[A-Za-z0-9-]{1,40}") {
            let lease_id = LeaseId::new(lease);
            prop_assert_eq!(parse_version(&version(n)), Some(n));
            prop_assert_eq!(parse_version_data(&format!("{}x", version_data(n))), Some(n));
            prop_assert_eq!(parse_claim(&claim(n)), Some(n));
            prop_assert_eq!(parse_dropped(&dropped(n)), Some(n));
            prop_assert_eq!(in_job::parse_plan_group(&in_job::plan_group(n)), Some(n));
            prop_assert_eq!(in_job::parse_manifest(&in_job::manifest(n)), Some(n));
            prop_assert_eq!(in_job::parse_seal_plan(&in_job::seal_plan(n)), Some(n));
            let part = in_job::part(n, &lease_id);
            prop_assert_eq!(in_job::parse_part(&part), Some((n, lease_id)));
        }

        #[test]
        fn every_data_file_parses_back(version: u64, idx in 0..u32::MAX, more in 1..1000_u32) {
            let count = idx.saturating_add(more);
            for (table, split) in [
                (Table::Pages, Some(Split::Train)),
                (Table::Pages, Some(Split::Validation)),
                (Table::Documents, None),
                (Table::Errors, None),
            ] {
                let file = DataFile { version, table, split, idx, count };
                prop_assert_eq!(DataFile::parse(&file.key()), Some(file));
            }
        }

        #[test]
        fn no_text_makes_a_parser_panic(text: String, tail in "[a-z0-9/.-]{0,60}") {
            for key in [text.clone(), tail.clone(), format!("{DATA}v{tail}")] {
                let _ = (DataFile::parse(&key), parse_version(&key), parse_job(&key));
                let _ = (in_job::parse_part(&key), in_job::parse_manifest(&key));
            }
        }
    }

    #[test]
    fn names_are_those_of_the_documentation() {
        let lease_id = LeaseId::new("7d3f");
        let train = DataFile {
            version: 1,
            table: Table::Pages,
            split: Some(Split::Train),
            idx: 0,
            count: 12,
        };
        let documents = DataFile {
            table: Table::Documents,
            split: None,
            count: 1,
            ..train
        };
        assert_eq!(
            train.key(),
            "data/v000001/pages/train/train-00000-of-00012.parquet"
        );
        assert_eq!(
            documents.key(),
            "data/v000001/documents/documents-00000-of-00001.parquet"
        );
        assert_eq!(version(1), "versions/000001.json");
        assert_eq!(in_job::part(3, &lease_id), "parts/00000003-7d3f.parquet");
        assert_eq!(in_job::manifest(2), "manifest/00000000000000000002.json");
        assert_eq!(parse_version("versions/1.json"), None);
        assert_eq!(parse_version("versions/0000001.json"), None);
    }
}
