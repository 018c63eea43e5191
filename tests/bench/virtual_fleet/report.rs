//! What each phase took, and what that means for a billion pages.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use quire_proto::v1;

use crate::hollow::HollowStore;

/// What a coordinator does with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Plan,
    Commit,
    Publish,
    Recover,
}

struct Took {
    phase: Phase,
    time: Duration,
    rss_kib: u64,
}

/// What was measured.
pub(crate) struct Report {
    pages: u64,
    shards: u64,
    took: Vec<Took>,
    plan: (u64, u64),
    manifests: (u64, u64),
    virtual_time: Duration,
}

/// Pages of the corpus that everything is judged against.
const BILLION: f64 = 1e9;

impl Report {
    pub(crate) fn new(pages: u64, shard_pages: u32) -> Self {
        Self {
            pages,
            shards: pages.div_ceil(u64::from(shard_pages)),
            took: Vec::new(),
            plan: (0, 0),
            manifests: (0, 0),
            virtual_time: Duration::ZERO,
        }
    }

    pub(crate) fn phase(&mut self, phase: Phase, time: Duration, objects: &HollowStore) {
        self.took.push(Took {
            phase,
            time,
            rss_kib: memory(),
        });
        (self.plan, self.manifests) = (objects.plan.so_far(), objects.manifests.so_far());
    }

    /// Grants and commits of one tenth of the shards.
    pub(crate) fn tenth(&mut self, tenth: u64, mut times: Vec<Duration>, took: Duration) {
        times.sort();
        let at = |share: f64| {
            let last = times.len().saturating_sub(1) as f64;
            times
                .get((last * share).round() as usize)
                .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        println!(
            "{:3}%  {:8.0} shards/s   grant + commit p50 {:.2} ms, p99 {:.2} ms   {} MiB",
            tenth * 10,
            times.len() as f64 / took.as_secs_f64(),
            at(0.5),
            at(0.99),
            memory() / 1024
        );
    }

    pub(crate) fn published(&mut self, job: &v1::Job, virtual_time: Duration) {
        self.virtual_time = virtual_time;
        let shards = job.shards.unwrap_or_default();
        println!(
            "published {} shards in {} manifests",
            shards.published, job.last_manifest
        );
    }

    pub(crate) fn text(&self, database_bytes: u64) -> String {
        let factor = BILLION / self.pages as f64;
        let mut text = format!(
            "\n{} pages in {} shards; the fleet's time {:.2} days; a billion pages is x {factor:.1}\n",
            self.pages,
            self.shards,
            self.virtual_time.as_secs_f64() / 86_400.0
        );
        for took in &self.took {
            let seconds = took.time.as_secs_f64();
            writeln!(
                text,
                "{:8} {seconds:9.1} s   {} MiB afterwards   for a billion {:.2} h",
                format!("{:?}", took.phase),
                took.rss_kib / 1024,
                seconds * factor / 3600.0
            )
            .expect("a string takes everything");
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        for (name, (objects, bytes)) in [("plan", self.plan), ("manifests", self.manifests)] {
            writeln!(
                text,
                "{name:9} {objects} objects, {:.1} MiB ({:.0} bytes a shard), for a billion {:.2} GiB",
                mib(bytes),
                bytes as f64 / self.shards as f64,
                mib(bytes) * factor / 1024.0
            )
            .expect("a string takes everything");
        }
        writeln!(
            text,
            "database  {:.1} MiB ({:.0} bytes a shard), for a billion {:.2} GiB",
            mib(database_bytes),
            database_bytes as f64 / self.shards as f64,
            mib(database_bytes) * factor / 1024.0
        )
        .expect("a string takes everything");
        text
    }
}

/// Bytes of the files in a folder whose names begin like this.
pub(crate) fn folder_bytes(folder: &Path, name: &str) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with(name))
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Resident memory of this process, which holds the objects, too.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.trim().split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
