//! How much of a machine one coordinator needs for a fleet:
//! `fleet-load --nodes 20 --gpus 8 --pages-per-second 400 --minutes 10 --database postgres`.
//!
//! The coordinator is the product's own process with its own settings; the job is submitted by
//! `quire submit` over documents of a thousand pages each, planned as any other, sealed and
//! verified at the end. Only the reading is left out: nodes of this process register, acquire,
//! send heartbeats, wait as long as their devices would read, write real parts and commit them,
//! all over gRPC.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its report is for people"
)]

mod documents;
mod measure;
mod node;
mod rows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use quire_core::{EngineInfo, JobSpec};
use quire_dataset::Output;
use quire_proto::v1;
use quire_tests::fleet::{Database, Fleet, FleetOptions, Times};
use quire_tests::postgres::Cluster;
use tokio_util::sync::CancellationToken;

use measure::{Load, ProcessCost, Retries};
use node::NodePlan;

/// Holds the load of a fleet of simulated devices on one real coordinator and reports what that
/// costs.
#[derive(Debug, Parser)]
struct Args {
    /// Simulated nodes, each with a session and a connection of its own
    #[arg(long, default_value_t = 20)]
    nodes: u32,
    /// Devices of a node
    #[arg(long, default_value_t = 8)]
    gpus: u32,
    /// Of the whole fleet
    #[arg(long, default_value_t = 400.0)]
    pages_per_second: f64,
    /// How long the fleet reads
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Pages of a shard
    #[arg(long, default_value_t = 100)]
    shard_pages: u32,
    /// Where the coordinator keeps the job
    #[arg(long, value_enum, default_value_t = Kind::Postgres)]
    database: Kind,
    /// The command under test [default: quire-under-test beside this program]
    #[arg(long)]
    program: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Postgres,
    Sqlite,
}

/// Times of a fleet as the product sets them by default.
const TIMES: Times = Times {
    heartbeat: 10_000,
    ttl: 45_000,
    progress: 300_000,
    reap: 5_000,
    publish: 30_000,
};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::FAILURE,
        // What is missing was said; a program that did nothing has not succeeded.
        Ok(None) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<Option<bool>> {
    let retries = Retries::count();
    let Some((mut fleet, database)) = start_fleet(args) else {
        return Ok(None);
    };
    fleet.start_coordinator();
    let coordinator = ProcessCost::of(fleet.coordinators[0].process.id());
    let server = database
        .as_ref()
        .and_then(Cluster::pid)
        .map(ProcessCost::of);

    let pages = (args.pages_per_second * args.minutes * 60.0).round() as u64;
    let inputs = fleet.path("inputs");
    let made = documents::write(&inputs, pages)?;
    println!("{made} documents with {pages} pages; submitting");
    let out = fleet.out("dataset");
    let began = Instant::now();
    let job_id = fleet.submit(&inputs, &out);
    let job = fleet.wait_job(&job_id, "a plan", |job| job.planned_at_ms > 0);
    println!(
        "planned in {:.1} s: {} pages in shards of {}",
        began.elapsed().as_secs_f64(),
        job.rows_planned,
        args.shard_pages,
    );

    let load = Arc::new(Load::default());
    let before = (coordinator.now()?, server.as_ref().map(ProcessCost::now));
    let began = Instant::now();
    let spec: JobSpec = serde_json::from_str(&job.job_spec_json).context("the job's spec")?;
    let nodes = Nodes::start(args, &fleet, &out, &spec.engine, &load)?;
    let steady = watch(args, &fleet, &job_id, &load, &coordinator, began)?;
    let read_for = began.elapsed();
    let after = (coordinator.now()?, server.as_ref().map(ProcessCost::now));
    let job = finished(&fleet, &job_id)?;
    nodes.stop();
    fleet.verify(&out);

    println!("\n{} nodes x {} devices", args.nodes, args.gpus);
    println!("{}", load.report(steady, read_for));
    println!(
        "retries below the caller {}   errors {}",
        retries.so_far(),
        load.errors()
    );
    println!("coordinator   {}", after.0.since(&before.0, read_for));
    if let (Some(Ok(after)), Some(Ok(before))) = (after.1, before.1) {
        println!("PostgreSQL    {}", after.since(&before, read_for));
    }
    let done = job.rows_committed.unwrap_or_default();
    let is_exact = done.ok == pages && done.failed == 0;
    println!(
        "published {} of {pages} pages once, verified: {}",
        done.ok,
        if is_exact { "exact" } else { "NOT EXACT" }
    );
    Ok(Some(is_exact))
}

fn start_fleet(args: &Args) -> Option<(Fleet, Option<Cluster>)> {
    let beside = std::env::current_exe()
        .map(|own| own.with_file_name("quire-under-test"))
        .unwrap_or_default();
    let mut options = FleetOptions::new(args.program.clone().unwrap_or(beside));
    options.shard_pages = args.shard_pages;
    options.times = TIMES;
    options.database = Database::Sqlite;
    let mut fleet = Fleet::start(options)?;
    // A server that waits for its disk, unlike those of tests.
    let database = match args.database {
        Kind::Sqlite => None,
        Kind::Postgres => {
            let cluster = Cluster::start_durable()?;
            fleet.set_store(cluster.create_database());
            Some(cluster)
        }
    };
    Some((fleet, database))
}

/// The nodes and the runtime that they live on.
struct Nodes {
    runtime: tokio::runtime::Runtime,
    tasks: tokio::task::JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
}

impl Nodes {
    fn start(
        args: &Args,
        fleet: &Fleet,
        out: &str,
        engine: &EngineInfo,
        load: &Arc<Load>,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("a runtime")?;
        let (mut tasks, stop) = (tokio::task::JoinSet::new(), CancellationToken::new());
        for at in 0..args.nodes {
            let plan = NodePlan {
                name: format!("node-{at:02}"),
                engine: engine.clone(),
                at: f64::from(at) / f64::from(args.nodes),
                gpus: args.gpus,
                pages_per_second: args.pages_per_second / f64::from(args.nodes * args.gpus),
                shard_pages: args.shard_pages,
            };
            let output = Output::open_local(out.as_ref()).context("the dataset's folder")?;
            // A connection of its own, as a machine would have.
            let client = fleet.client();
            let work = node::run(plan, client, output, Arc::clone(load), stop.clone());
            tasks.spawn_on(work, runtime.handle());
        }
        Ok(Self {
            runtime,
            tasks,
            stop,
        })
    }

    /// Ends all nodes and says what they died of, if they did.
    fn stop(mut self) {
        self.stop.cancel();
        let tasks = &mut self.tasks;
        self.runtime.block_on(async {
            while let Some(ended) = tasks.join_next().await {
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => eprintln!("a node ended: {error:#}"),
                    Err(error) => eprintln!("a node ended: {error}"),
                }
            }
        });
    }
}

/// Reports every minute until every page is accepted; the steady rate is taken between the first
/// tenth and the last tenth of the pages.
fn watch(
    args: &Args,
    fleet: &Fleet,
    job_id: &str,
    load: &Load,
    coordinator: &ProcessCost,
    began: Instant,
) -> anyhow::Result<f64> {
    let planned = (args.pages_per_second * args.minutes * 60.0).round() as u64;
    let deadline = Duration::from_secs_f64(args.minutes * 60.0 * 2.0 + 300.0);
    let (mut from, mut steady) = (None, None);
    let mut told = 0;
    loop {
        let (elapsed, rows) = (began.elapsed(), load.rows());
        if from.is_none() && rows >= planned / 10 {
            from = Some((elapsed, rows));
        }
        if let (Some((at, first)), None) = (from, steady)
            && rows >= planned - planned / 10
        {
            steady = Some((rows - first) as f64 / (elapsed - at).as_secs_f64());
        }
        if rows >= planned {
            return Ok(steady.unwrap_or(rows as f64 / elapsed.as_secs_f64()));
        }
        let minute = elapsed.as_secs() / 60;
        if minute > told {
            told = minute;
            let cost = coordinator.now()?;
            println!(
                "{minute:3} min   {rows:8} pages   coordinator {:.1} s CPU, {} MiB",
                cost.cpu.as_secs_f64(),
                cost.rss_kib / 1024
            );
        }
        if elapsed > deadline {
            let job = fleet.job(job_id);
            bail!("{rows} of {planned} pages after {elapsed:?}: {job:?}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn finished(fleet: &Fleet, job_id: &str) -> anyhow::Result<v1::Job> {
    let began = Instant::now();
    let job = fleet.wait_state(job_id, v1::JobState::Done);
    println!(
        "published and sealed {:.1} s after the last page",
        began.elapsed().as_secs_f64()
    );
    Ok(job)
}
