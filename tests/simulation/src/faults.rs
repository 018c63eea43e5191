//! What goes wrong and when, drawn from the seed before a run starts.

use std::collections::BTreeMap;
use std::time::Duration;

use quire_coordinator::store::MemoryStore;
use turmoil::Sim;

use crate::chance::Chance;
use crate::world::{COORDINATORS, OWNER, WORKERS, World};

/// Something that goes wrong, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// A process dies; at the end it is started again.
    Crash(&'static str),
    /// Nothing gets through between two hosts.
    Partition(&'static str, &'static str),
    /// Nothing gets through in one direction.
    OneWay(&'static str, &'static str),
    /// Messages between two hosts wait until the end.
    Hold(&'static str, &'static str),
    /// A worker stands still, and goes on as if nothing had been.
    Stop(&'static str),
    /// A coordinator does not reach the database.
    NoDatabase(&'static str),
    /// Nobody reaches the database.
    DatabaseAway,
    /// A host does not reach the object store.
    NoObjects(&'static str),
    /// The database's clock is set.
    ClockJump(i64),
    /// The database is lost, and at the end its replica, which has only what was there at the
    /// start, takes its place.
    FailOver,
    /// The database is lost for good, and the coordinators are started with an empty one.
    LoseDatabase,
}

/// A fault's start or end.
#[derive(Debug, Clone)]
struct Event {
    at: Duration,
    fault: usize,
    is_start: bool,
}

/// What goes wrong in one run.
#[derive(Debug)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    /// What is still to come, the last first.
    events: Vec<Event>,
    /// For how many reasons a host is down.
    down: BTreeMap<&'static str, u32>,
    replicas: BTreeMap<usize, MemoryStore>,
    calm_at: Duration,
    is_calm: bool,
}

/// Faults start in this time.
const SEASON: Duration = Duration::from_secs(100);

impl Faults {
    pub(crate) fn draw(chance: Chance) -> Self {
        let n_faults = chance.within("number of faults", 2..12);
        let (mut faults, mut events) = (Vec::new(), Vec::new());
        for nth in 0..n_faults {
            let fault = fault(chance, nth);
            let draw = |what: &str, range| chance.within(&format!("{what} of fault {nth}"), range);
            let at = Duration::from_millis(draw("start", 1000..SEASON.as_millis() as u64));
            let most_ms = match fault {
                Fault::FailOver => 15_000,
                _ => 40_000,
            };
            let end = at + Duration::from_millis(draw("time", 100..most_ms));
            for (at, is_start) in [(at, true), (end, false)] {
                let fault = faults.len();
                events.push(Event {
                    at,
                    fault,
                    is_start,
                });
            }
            faults.push(fault);
        }
        events.sort_by_key(|event| std::cmp::Reverse((event.at, event.fault, !event.is_start)));
        let last = events.first().map_or(Duration::ZERO, |event| event.at);
        Self {
            faults,
            events,
            down: BTreeMap::new(),
            replicas: BTreeMap::new(),
            calm_at: last.max(SEASON),
            is_calm: false,
        }
    }

    pub(crate) fn n_faults(&self) -> usize {
        self.faults.len()
    }

    /// Does what is due.
    pub(crate) fn apply(&mut self, sim: &mut Sim<'_>, world: &World) {
        let now = sim.elapsed();
        while self.events.last().is_some_and(|event| event.at <= now) {
            let Some(event) = self.events.pop() else {
                return;
            };
            let fault = self.faults[event.fault].clone();
            let what = if event.is_start { "starts" } else { "ends" };
            world
                .trace
                .note_at(now, "fault", format!("{fault:?} {what}"));
            if event.is_start {
                self.start(sim, world, event.fault, &fault);
            } else {
                self.end(sim, world, event.fault, &fault);
            }
        }
        if !self.is_calm && now >= self.calm_at {
            world.trace.note_at(now, "fault", "calm from now on");
            world.weather.set_rough(false);
            self.is_calm = true;
        }
    }

    fn start(&mut self, sim: &mut Sim<'_>, world: &World, nth: usize, fault: &Fault) {
        match *fault {
            Fault::Crash(host) => self.crash(sim, host),
            Fault::Partition(a, b) => sim.partition(a, b),
            Fault::OneWay(from, to) => sim.partition_oneway(from, to),
            Fault::Hold(a, b) => sim.hold(a, b),
            Fault::Stop(host) => world.weather.set_cut_off(host, "time", true),
            Fault::NoDatabase(host) => world.weather.set_cut_off(host, "database", true),
            Fault::DatabaseAway => {
                for host in COORDINATORS {
                    world.weather.set_cut_off(host, "database", true);
                }
            }
            Fault::NoObjects(host) => world.weather.set_cut_off(host, "objects", true),
            Fault::ClockJump(by_ms) => world.clock.jump(by_ms),
            Fault::FailOver => {
                self.replicas.insert(nth, world.database().copy());
            }
            Fault::LoseDatabase => {
                for host in COORDINATORS {
                    self.crash(sim, host);
                }
                let clock = std::sync::Arc::clone(&world.clock);
                world.replace_database(MemoryStore::new(clock));
                // What was copied before is of another database.
                self.replicas.clear();
            }
        }
    }

    fn end(&mut self, sim: &mut Sim<'_>, world: &World, nth: usize, fault: &Fault) {
        match *fault {
            Fault::Crash(host) => self.restart(sim, host),
            Fault::Partition(a, b) => sim.repair(a, b),
            Fault::OneWay(from, to) => sim.repair_oneway(from, to),
            Fault::Hold(a, b) => sim.release(a, b),
            Fault::Stop(host) => world.weather.set_cut_off(host, "time", false),
            Fault::NoDatabase(host) => world.weather.set_cut_off(host, "database", false),
            Fault::DatabaseAway => {
                for host in COORDINATORS {
                    world.weather.set_cut_off(host, "database", false);
                }
            }
            Fault::NoObjects(host) => world.weather.set_cut_off(host, "objects", false),
            Fault::ClockJump(_) => {}
            Fault::FailOver => {
                if let Some(replica) = self.replicas.remove(&nth) {
                    world.replace_database(replica);
                }
            }
            Fault::LoseDatabase => {
                for host in COORDINATORS {
                    self.restart(sim, host);
                }
            }
        }
    }

    fn crash(&mut self, sim: &mut Sim<'_>, host: &'static str) {
        let reasons = self.down.entry(host).or_default();
        *reasons += 1;
        if *reasons == 1 {
            sim.crash(host);
        }
    }

    fn restart(&mut self, sim: &mut Sim<'_>, host: &'static str) {
        let reasons = self.down.entry(host).or_default();
        *reasons -= 1;
        if *reasons == 0 {
            sim.bounce(host);
        }
    }
}

fn fault(chance: Chance, nth: u64) -> Fault {
    let one_of = |what: &str, hosts: &[&'static str]| {
        let drawn = chance.within(&format!("{what} of fault {nth}"), 0..hosts.len() as u64);
        hosts[usize::try_from(drawn).unwrap()]
    };
    let coordinator = one_of("coordinator", &COORDINATORS);
    let worker = one_of("worker", &WORKERS);
    let other = one_of("other host", &[WORKERS[0], WORKERS[1], WORKERS[2], OWNER]);
    let host = one_of("host", &[&COORDINATORS[..], &WORKERS[..]].concat());
    match chance.within(&format!("kind of fault {nth}"), 0..16) {
        0..2 => Fault::Crash(coordinator),
        2..4 => Fault::Crash(worker),
        4..6 => Fault::Partition(other, coordinator),
        6 => Fault::OneWay(other, coordinator),
        7 => Fault::OneWay(coordinator, other),
        8 => Fault::Hold(other, coordinator),
        9..11 => Fault::Stop(worker),
        11 => Fault::NoDatabase(coordinator),
        12 => Fault::DatabaseAway,
        13 => Fault::NoObjects(host),
        14 => match chance.within(&format!("clock of fault {nth}"), 0..2) {
            0 => Fault::ClockJump(60_000),
            _ => Fault::ClockJump(-30_000),
        },
        _ => match chance.within(&format!("loss of fault {nth}"), 0..3) {
            0 => Fault::LoseDatabase,
            _ => Fault::FailOver,
        },
    }
}
