//! The kill loop: a fleet at work while its workers, coordinators, database and object store are
//! killed at random and started again, until so many have died; then every dataset is counted
//! page by page.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quire_proto::JobCalls;
use quire_proto::v1;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{Chaos, Fault, Fleet, FleetOptions, Known, Place, Tally};

/// Without a page or a finished job for so long something is stuck.
const STUCK: Duration = Duration::from_secs(900);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Victim {
    Worker,
    Coordinator,
    Database,
    Store,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Coordinator => "coordinator",
            Self::Database => "database",
            Self::Store => "store",
        })
    }
}

/// How many of each kind are in twenty kills.
const DECK: &[(Victim, usize)] = &[
    (Victim::Worker, 9),
    (Victim::Coordinator, 5),
    (Victim::Database, 3),
    (Victim::Store, 3),
];

/// What the loop does.
#[derive(Debug, Clone)]
pub struct KillPlan {
    /// The command under test.
    pub program: PathBuf,
    /// So many are killed.
    pub kills: u32,
    /// Where the chance begins: the same for the same seed, as far as the machine's own timing
    /// lets it.
    pub seed: u64,
    /// Between two kills, milliseconds: at least and at most.
    pub pause_ms: (u64, u64),
    /// Workers, each on a node of its own.
    pub workers: usize,
    /// Coordinators.
    pub coordinators: usize,
    /// What the scripted engine takes for a page, milliseconds.
    pub engine_ms: u64,
    /// Documents of a job, with up to 40 pages each.
    pub documents: usize,
    /// Of a thousand requests to the store, so many fail.
    pub fault_per_mille: u32,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct KillReport {
    /// Kills by what was killed.
    pub kills: BTreeMap<Victim, u32>,
    /// Processes of ours that ended by themselves.
    pub ended_alone: u32,
    /// Jobs that were finished.
    pub jobs: u32,
    /// Pages of their inputs.
    pub pages: u64,
    /// Rows that were given to a worker more than once: each later grant counted whole.
    pub rows_given_again: u64,
    /// Shards that were halved after repeated deaths.
    pub halved: u64,
    /// Pages that were given up, and stand in the errors table.
    pub given_up: u64,
    /// Times a job paused by itself and was resumed.
    pub paused: u32,
    /// Requests to the store that were made to fail.
    pub faults: u64,
    /// Known pages that no row accounts for.
    pub lost: u64,
    /// Pages with more than one row.
    pub duplicated: u64,
    /// Rows that no known page explains.
    pub unknown: u64,
    /// How long the kills took.
    pub elapsed: Duration,
}

impl KillReport {
    /// Whether every page is there once.
    pub fn is_exact(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.unknown == 0
    }

    fn count(&mut self, known: &Known, tally: &Tally) {
        self.jobs += 1;
        self.pages += known.n_pages();
        self.given_up += tally.errors;
        self.lost += tally.lost.len() as u64;
        self.duplicated += tally.duplicated.len() as u64;
        self.unknown += tally.unknown.len() as u64;
    }
}

impl fmt::Display for KillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u32 = self.kills.values().sum();
        let kinds: Vec<String> = self
            .kills
            .iter()
            .map(|(victim, count)| format!("{victim} {count}"))
            .collect();
        writeln!(f, "kills            {total} ({})", kinds.join(", "))?;
        writeln!(f, "store faults     {}", self.faults)?;
        writeln!(f, "jobs             {}", self.jobs)?;
        writeln!(f, "pages            {}", self.pages)?;
        writeln!(f, "lost             {}", self.lost)?;
        writeln!(f, "duplicated       {}", self.duplicated)?;
        writeln!(f, "unknown          {}", self.unknown)?;
        writeln!(f, "given up         {}", self.given_up)?;
        let share = self.rows_given_again as f64 / self.pages.max(1) as f64 * 100.0;
        writeln!(
            f,
            "given out again  {} rows ({share:.1}%), {} shards halved",
            self.rows_given_again, self.halved
        )?;
        writeln!(f, "paused           {}", self.paused)?;
        writeln!(f, "ended by itself  {}", self.ended_alone)?;
        writeln!(f, "seconds          {:.0}", self.elapsed.as_secs_f64())
    }
}

/// A victim that will be started again.
#[derive(Debug)]
struct Down {
    victim: Victim,
    idx: usize,
    until: Instant,
}

/// A job that is being worked on.
#[derive(Debug)]
struct Running {
    number: u32,
    job_id: Option<String>,
    rows: u64,
}

/// Runs the loop. `None`, after saying so, where a server is not installed.
///
/// # Errors
/// When a dataset does not verify, or the fleet is stuck.
///
/// # Panics
/// When a server does not start.
pub fn run(plan: &KillPlan, say: &mut dyn FnMut(&str)) -> anyhow::Result<Option<KillReport>> {
    let mut options = FleetOptions::real_servers(&plan.program);
    options.engine_ms = plan.engine_ms;
    debug_assert_eq!(options.place, Place::S3);
    let Some(fleet) = Fleet::start(options) else {
        return Ok(None);
    };
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let counts: Vec<u32> = (0..plan.documents)
        .map(|_| rng.random_range(1..=40))
        .collect();
    let known = Known::write(&fleet.path("documents"), &counts);
    let mut killing = Killing {
        plan,
        fleet,
        known,
        rng,
        report: KillReport::default(),
        deck: Vec::new(),
        down: Vec::new(),
        generation: 0,
        progress_at: Instant::now(),
        done: Vec::new(),
        say,
    };
    killing.start();
    killing.kill_until_enough()?;
    killing.count_all()?;
    Ok(Some(killing.report))
}

struct Killing<'a> {
    plan: &'a KillPlan,
    fleet: Fleet,
    known: Known,
    rng: StdRng,
    report: KillReport,
    deck: Vec<Victim>,
    down: Vec<Down>,
    /// Counts nodes: a worker that comes back is most often on another machine, as a spot
    /// instance is.
    generation: u32,
    progress_at: Instant,
    done: Vec<u32>,
    say: &'a mut dyn FnMut(&str),
}

impl Killing<'_> {
    fn start(&mut self) {
        for _ in 0..self.plan.coordinators {
            self.fleet.start_coordinator();
        }
        for _ in 0..self.plan.workers {
            let node = self.fresh_node();
            self.fleet.start_worker(&node);
        }
        if let Some(proxy) = &self.fleet.proxy {
            proxy.chaos(Some(Chaos {
                seed: self.plan.seed,
                per_mille: self.plan.fault_per_mille,
                faults: Fault::ALL.to_vec(),
            }));
        }
    }

    fn fresh_node(&mut self) -> String {
        self.generation += 1;
        format!("node-{}", self.generation)
    }

    fn n_kills(&self) -> u32 {
        self.report.kills.values().sum()
    }

    fn pause(&mut self) -> Duration {
        let (least, most) = self.plan.pause_ms;
        Duration::from_millis(self.rng.random_range(least..=most))
    }

    /// Kills and starts again until enough are dead and the last job is done.
    fn kill_until_enough(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut next_kill = started + self.pause();
        let mut job = Running {
            number: 0,
            job_id: None,
            rows: 0,
        };
        loop {
            let is_enough = self.n_kills() >= self.plan.kills;
            self.raise_the_dead();
            if !is_enough && Instant::now() >= next_kill {
                self.kill_one();
                next_kill = Instant::now() + self.pause();
                if self.n_kills().is_multiple_of(50) {
                    let (kills, jobs) = (self.n_kills(), self.done.len());
                    (self.say)(&format!("{kills} kills, {jobs} jobs done"));
                }
            }
            if self.look(&mut job)? {
                self.done.push(job.number);
                if is_enough {
                    break;
                }
                let number = job.number + 1;
                job = Running {
                    number,
                    job_id: None,
                    rows: 0,
                };
            }
            anyhow::ensure!(
                self.progress_at.elapsed() < STUCK,
                "nothing moved for {STUCK:?} in job {}:\n{:#?}\n{}",
                job.number,
                job.job_id.as_deref().and_then(|id| self.fleet.try_job(id)),
                self.fleet.tails()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.report.elapsed = started.elapsed();
        Ok(())
    }

    /// Starts again what has been down for long enough, and what ended by itself.
    fn raise_the_dead(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.down)
            .into_iter()
            .partition(|down: &Down| down.until <= now);
        self.down = later;
        for Down { victim, idx, .. } in due {
            match victim {
                Victim::Worker => self.raise_worker(idx),
                Victim::Coordinator => self.fleet.restart_coordinator(idx),
                Victim::Database => self.fleet.postgres.iter_mut().for_each(|one| one.resume()),
                Victim::Store => self.fleet.seaweed.iter_mut().for_each(|one| one.launch()),
            }
        }
        for idx in 0..self.fleet.workers.len() {
            if !self.is_down(Victim::Worker, idx) && !self.fleet.workers[idx].process.is_running() {
                let tail = self.fleet.workers[idx].process.tail();
                (self.say)(&format!("worker {idx} ended by itself:\n{tail}"));
                self.report.ended_alone += 1;
                self.raise_worker(idx);
            }
        }
        for idx in 0..self.fleet.coordinators.len() {
            let is_down = self.is_down(Victim::Coordinator, idx);
            if !is_down && !self.fleet.coordinators[idx].process.is_running() {
                let tail = self.fleet.coordinators[idx].process.tail();
                (self.say)(&format!("coordinator {idx} ended by itself:\n{tail}"));
                self.report.ended_alone += 1;
                // As a supervisor would: not at once.
                let until = Instant::now() + Duration::from_millis(500);
                self.down.push(Down {
                    victim: Victim::Coordinator,
                    idx,
                    until,
                });
            }
        }
    }

    fn raise_worker(&mut self, idx: usize) {
        let node = if self.rng.random_range(0..4) == 0 {
            self.fleet.workers[idx].node.clone()
        } else {
            self.fresh_node()
        };
        self.fleet.restart_worker(idx, &node);
    }

    fn is_down(&self, victim: Victim, idx: usize) -> bool {
        self.down
            .iter()
            .any(|down| down.victim == victim && down.idx == idx)
    }

    /// What is killed next: so many of each kind in every twenty, in an order of chance.
    fn draw(&mut self) -> Victim {
        if self.deck.is_empty() {
            for (victim, count) in DECK {
                self.deck.extend(std::iter::repeat_n(*victim, *count));
            }
            self.deck.shuffle(&mut self.rng);
        }
        self.deck.pop().unwrap_or(Victim::Worker)
    }

    fn kill_one(&mut self) {
        let victim = self.draw();
        let n = match victim {
            Victim::Worker => self.fleet.workers.len(),
            Victim::Coordinator => self.fleet.coordinators.len(),
            Victim::Database | Victim::Store => 1,
        };
        let idx = self.rng.random_range(0..n);
        if self.is_down(victim, idx) {
            self.deck.insert(0, victim);
            return;
        }
        match victim {
            Victim::Worker => self.fleet.workers[idx].process.kill(),
            Victim::Coordinator => self.fleet.coordinators[idx].process.kill(),
            Victim::Database => self.fleet.postgres.iter_mut().for_each(|one| one.kill()),
            Victim::Store => self.fleet.seaweed.iter_mut().for_each(|one| one.kill()),
        }
        *self.report.kills.entry(victim).or_default() += 1;
        let until = Instant::now() + Duration::from_millis(self.rng.random_range(0..1500));
        self.down.push(Down { victim, idx, until });
    }

    /// Submits the job if nobody has taken it yet, and looks how far it is; whether it is done.
    fn look(&mut self, running: &mut Running) -> anyhow::Result<bool> {
        let Some(job_id) = running.job_id.clone() else {
            running.job_id = self.try_submit(running.number);
            return Ok(false);
        };
        let Some(job) = self.fleet.try_job(&job_id) else {
            return Ok(false);
        };
        let rows = job
            .rows_committed
            .map_or(0, |rows| rows.ok + rows.failed + rows.skipped);
        if rows > running.rows {
            running.rows = rows;
            self.progress_at = Instant::now();
        }
        match job.state() {
            v1::JobState::Done => {
                self.progress_at = Instant::now();
                self.count_shards(&job_id);
                Ok(true)
            }
            v1::JobState::Paused => {
                (self.say)(&format!("{job_id} paused: {}", job.state_reason));
                self.report.paused += 1;
                let request = v1::ResumeJobRequest { job_id };
                // If nobody hears it, the next look does it again.
                drop(self.fleet.block_on(self.fleet.client().resume_job(request)));
                Ok(false)
            }
            v1::JobState::Failed | v1::JobState::Canceled => {
                anyhow::bail!("{job_id} is {:?}: {}", job.state(), job.state_reason)
            }
            _ => Ok(false),
        }
    }

    fn try_submit(&mut self, number: u32) -> Option<String> {
        let out = self.fleet.out(&name(number));
        let input = self.known.folder.display().to_string();
        let output = self.fleet.run(&["submit", &input, "--out", &out]);
        if !output.status.success() {
            return None;
        }
        self.progress_at = Instant::now();
        let printed = String::from_utf8_lossy(&output.stdout);
        Some(printed.trim().to_owned())
    }

    fn count_shards(&mut self, job_id: &str) {
        for shard in self.fleet.shards(job_id) {
            let again = u64::from(shard.epoch.saturating_sub(1));
            self.report.rows_given_again += again * u64::from(shard.n_rows);
            if shard.state() == v1::ShardState::Halved {
                // What came after the halving is counted with the children.
                self.report.rows_given_again += u64::from(shard.n_rows);
                self.report.halved += 1;
            }
        }
    }

    /// Looks at every dataset, with nothing failing any more.
    fn count_all(&mut self) -> anyhow::Result<()> {
        for down in &mut self.down {
            down.until = Instant::now();
        }
        self.raise_the_dead();
        if let Some(proxy) = &self.fleet.proxy {
            self.report.faults = proxy.n_faults();
            proxy.clear();
        }
        if let Some(store) = &mut self.fleet.seaweed {
            store.wait_until_it_answers();
        }
        for number in self.done.clone() {
            let out = self.fleet.out(&name(number));
            self.fleet.verify(&out);
            let environment = self.fleet.environment();
            let scratch = self.fleet.path("");
            let tally = self.known.tally_by_python(&out, &environment, &scratch)?;
            if !tally.is_complete() {
                (self.say)(&format!("{out}: {tally:?}"));
            }
            self.report.count(&self.known, &tally);
        }
        Ok(())
    }
}

fn name(number: u32) -> String {
    format!("dataset-{number:04}")
}
