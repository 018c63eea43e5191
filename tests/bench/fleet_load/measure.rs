//! What the load was and what it cost.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use quire_proto::CallError;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Calls whose time is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// That brought a lease.
    Acquire,
    Heartbeat,
    Commit,
}

/// What all nodes did.
#[derive(Debug, Default)]
pub(crate) struct Load {
    rows: AtomicU64,
    took: Mutex<BTreeMap<Call, Vec<Duration>>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Load {
    /// Rows that were accepted.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn accepted(&self, rows: u32) {
        self.rows.fetch_add(u64::from(rows), Ordering::Relaxed);
    }

    pub(crate) fn took(&self, call: Call, time: Duration) {
        let mut took = self.took.lock().expect("nobody panics with it");
        took.entry(call).or_default().push(time);
    }

    pub(crate) fn failed(&self, error: &CallError) {
        let mut errors = self.errors.lock().expect("nobody panics with it");
        *errors.entry(error.reason.to_string()).or_default() += 1;
    }

    /// Errors that callers saw, by reason.
    pub(crate) fn errors(&self) -> String {
        let errors = self.errors.lock().expect("nobody panics with it");
        if errors.is_empty() {
            return "none".to_owned();
        }
        let named: Vec<String> = errors
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        named.join(", ")
    }

    /// Rates and times.
    pub(crate) fn report(&self, steady: f64, read_for: Duration) -> String {
        let whole = self.rows() as f64 / read_for.as_secs_f64();
        let mut text = format!(
            "pages/s       {steady:.1} between the first and the last tenth, {whole:.1} over all \
             {:.0} s",
            read_for.as_secs_f64()
        );
        let took = self.took.lock().expect("nobody panics with it");
        for (call, times) in &*took {
            let mut times = times.clone();
            times.sort();
            let at = |share: f64| {
                let last = times.len().saturating_sub(1);
                let time = times.get((last as f64 * share).round() as usize);
                time.map_or(0.0, |time| time.as_secs_f64() * 1000.0)
            };
            text.push_str(&format!(
                "\n{:13} {:6} calls   p50 {:.1} ms   p99 {:.1} ms   longest {:.1} ms",
                format!("{call:?}"),
                times.len(),
                at(0.5),
                at(0.99),
                at(1.0)
            ));
        }
        text
    }
}

/// Counts how often the client tried a call again, which callers do not see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Retries(Arc<AtomicU64>);

impl Retries {
    /// Counts from now on, in the whole process.
    pub(crate) fn count() -> Self {
        let retries = Self::default();
        // Fails only if somebody else listens already, and nobody does in this program.
        drop(
            tracing_subscriber::registry()
                .with(retries.clone())
                .try_init(),
        );
        retries
    }

    pub(crate) fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for Retries {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: LayerContext<'_, S>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("quire_proto")
    }

    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        struct HasTried(bool);
        impl Visit for HasTried {
            fn record_debug(&mut self, field: &Field, _: &dyn std::fmt::Debug) {
                self.0 |= field.name() == "tried";
            }
        }
        let mut found = HasTried(false);
        event.record(&mut found);
        self.0.fetch_add(u64::from(found.0), Ordering::Relaxed);
    }
}

/// A process, with its children where they do its work.
#[derive(Debug)]
pub(crate) struct ProcessCost {
    pid: u32,
}

/// What a process has cost so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Of all its threads and of its children, also of those that ended.
    pub(crate) cpu: Duration,
    /// Now, with its children.
    pub(crate) rss_kib: u64,
    /// The most it had itself.
    pub(crate) peak_kib: u64,
}

/// Clock ticks of a second in `/proc`; the same on every Linux that we run on.
const TICKS: u64 = 100;

impl ProcessCost {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// What it has cost so far.
    pub(crate) fn now(&self) -> anyhow::Result<Cost> {
        let own = stat(self.pid)?;
        let mut cost = Cost {
            cpu: own.cpu,
            rss_kib: memory(self.pid, "VmRSS:"),
            peak_kib: memory(self.pid, "VmHWM:"),
        };
        for process in fs::read_dir("/proc").context("/proc")? {
            let name = process.context("/proc")?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may be gone by now.
            if let Ok(child) = stat(pid)
                && child.parent == self.pid
            {
                cost.cpu += child.cpu;
                cost.rss_kib += memory(pid, "RssAnon:");
            }
        }
        Ok(cost)
    }
}

impl Cost {
    /// The difference, for people.
    pub(crate) fn since(&self, before: &Self, time: Duration) -> String {
        let cpu = self.cpu.saturating_sub(before.cpu);
        format!(
            "{:.1} s CPU in {:.0} s ({:.1}% of a core), {} MiB now with children, {} MiB at most \
             itself",
            cpu.as_secs_f64(),
            time.as_secs_f64(),
            100.0 * cpu.as_secs_f64() / time.as_secs_f64(),
            self.rss_kib / 1024,
            self.peak_kib / 1024
        )
    }
}

struct Stat {
    parent: u32,
    cpu: Duration,
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("a process")?;
    // The name, in parentheses, may hold anything; fields are counted from behind it.
    let (_, fields) = text.rsplit_once(')').context("a line of /proc/PID/stat")?;
    let fields: Vec<u64> = fields
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // utime, stime and those of children that were waited for.
    let ticks: u64 = fields.iter().skip(10).take(4).sum();
    Ok(Stat {
        parent: fields
            .first()
            .and_then(|&id| u32::try_from(id).ok())
            .unwrap_or(0),
        cpu: Duration::from_millis(ticks * 1000 / TICKS),
    })
}

fn memory(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.trim().split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
