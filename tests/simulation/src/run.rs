//! One run: a seed in, what happened out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::chance::{Chance, mix};
use crate::check::{self, Found};
use crate::faults::Faults;
use crate::world::{COORDINATORS, OWNER, WORKERS, World};
use crate::{coordinator, corpus, entropy, owner, worker};

/// Simulated time after which a job that is not done never will be.
const LONGEST: Duration = Duration::from_secs(3 * 3600);
const TICK: Duration = Duration::from_millis(5);

/// What happened in a run.
#[derive(Debug)]
pub struct Outcome {
    /// Every event, a line each.
    pub trace: String,
    /// Of the trace.
    pub digest: String,
    /// In a few words.
    pub summary: String,
    /// What did not hold, if anything.
    pub wrong: Option<String>,
}

/// Runs the fleet of a seed to the end of its job. To be called once in a process: what a run
/// draws depends on nothing but the seed only if nobody has drawn before.
pub fn run(seed: u64) -> Outcome {
    let scratch = tempfile::tempdir().unwrap();
    let chance = Chance::new(mix(seed));
    let folder = scratch.path().to_owned();
    // On a thread of its own, so that it leaves nothing behind on this one.
    let planned = std::thread::spawn(move || {
        entropy::seed(seed);
        runtime(true).block_on(corpus::plan(chance, &folder))
    });
    let planned = planned.join().unwrap();
    let world = World::new(chance, planned, scratch.path().to_owned());
    entropy::seed(mix(seed));
    let mut faults = Faults::draw(chance);
    let ran = catch_unwind(AssertUnwindSafe(|| simulate(&world, &mut faults)));
    let (elapsed, wrong) = match ran {
        Ok(Ok(elapsed)) => (elapsed, None),
        Ok(Err(error)) => (Duration::ZERO, Some(error.to_string())),
        Err(panic) => (Duration::ZERO, Some(words(&*panic))),
    };
    let (trace, digest) = (world.trace.told(), world.trace.digest());
    let n_events = world.trace.n_events();
    let n_faults = faults.n_faults();
    let seconds = elapsed.as_secs();
    let mut outcome = Outcome {
        trace,
        digest,
        summary: format!("{n_faults} faults, {n_events} events, {seconds} s"),
        wrong,
    };
    if outcome.wrong.is_none() {
        match catch_unwind(AssertUnwindSafe(|| {
            runtime(false).block_on(check::check(&world))
        })) {
            Ok(found) => {
                let Found {
                    n_rows,
                    n_manifests,
                    n_parts,
                } = found;
                let found = format!("{n_rows} rows in {n_parts} parts and {n_manifests} manifests");
                outcome.summary = format!("{found}, {}", outcome.summary);
            }
            Err(panic) => outcome.wrong = Some(words(&*panic)),
        }
    }
    outcome
}

fn simulate(world: &Arc<World>, faults: &mut Faults) -> turmoil::Result<Duration> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(world.chance.number("network"))
        .simulation_duration(LONGEST)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(50))
        .tcp_capacity(4096)
        .build();
    for host in COORDINATORS {
        let world = Arc::clone(world);
        sim.host(host, move || coordinator::run(Arc::clone(&world), host));
    }
    for (nth, host) in WORKERS.into_iter().enumerate() {
        let world = Arc::clone(world);
        sim.host(host, move || worker::run(Arc::clone(&world), host, nth));
    }
    sim.client(OWNER, owner::run(Arc::clone(world)));
    world.weather.set_rough(true);
    while !sim.step()? {
        entropy::set_elapsed(sim.elapsed());
        faults.apply(&mut sim, world);
    }
    Ok(sim.elapsed())
}

/// Outside the simulation. Paused time makes the number of turns that anything takes, and so of
/// tasks, the same each time: their numbers decide in which order a crash ends them.
fn runtime(is_paused: bool) -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(is_paused)
        .build()
        .unwrap()
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    said.unwrap_or("a panic without words").to_owned()
}
