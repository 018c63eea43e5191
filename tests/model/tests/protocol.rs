//! Explores the protocol: with all safeguards nothing breaks in any state, without any one of
//! them something does.

#![allow(
    clippy::print_stdout,
    reason = "what was explored is a result worth reading"
)]

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use quire_model::{Protocol, Safeguards, State, Step};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

const LOST: &str = "no page is lost";
const TWICE: &str = "no page is published twice";
const WHOLE: &str = "what is committed is uploaded whole";

/// Every run with up to so many faults.
fn protocol(faults: u8) -> Protocol {
    Protocol {
        guards: Safeguards::ALL,
        faults,
        may_fail_over: false,
        may_cancel: false,
    }
}

/// As [`protocol`], where a fault may be that the database loses its tail.
fn with_failover(faults: u8) -> Protocol {
    Protocol {
        may_fail_over: true,
        ..protocol(faults)
    }
}

/// Faults of a longer exploration; each more takes three to five times as long and as much
/// memory. Three take seconds, five some minutes.
#[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
fn asked_faults() -> u8 {
    let said = std::env::var("QUIRE_MODEL_FAULTS").ok();
    said.map_or(3, |said| said.parse().expect("a number of faults"))
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Explores everything. Fails with the way to a state that breaks a property, or if something
/// that the model must be able to show never came about, except what `beyond` names.
fn explore(model: Protocol, beyond: &[&str]) {
    let start = Instant::now();
    let checker = model.checker().threads(threads()).spawn_bfs().join();
    println!(
        "{} states, {} transitions, up to {} steps, in {:.1} s: {model:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64(),
    );
    for property in model.properties() {
        let (name, found) = (property.name, checker.discovery(property.name));
        match property.expectation {
            Expectation::Always => {
                if let Some(path) = found {
                    panic!("not so: {name}\n{}", told(path.into_vec()));
                }
            }
            _ => assert_eq!(
                found.is_none(),
                beyond.contains(&name),
                "came about: {name}"
            ),
        }
    }
}

/// A run, step by step.
fn told(path: Vec<(State, Option<Step>)>) -> String {
    let mut text = String::new();
    for (at, (state, step)) in path.iter().enumerate() {
        match step {
            Some(step) => text.push_str(&format!("{:3}. {step:?}\n", at + 1)),
            None => text.push_str(&format!("ends in {state:#?}")),
        }
    }
    text
}

/// Looks for a state that breaks a property, and tells the way there.
fn must_break(guards: Safeguards, property: &'static str) {
    let model = Protocol {
        guards,
        ..with_failover(2)
    };
    let start = Instant::now();
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([property])))
        .spawn_bfs()
        .join();
    let (n_states, seconds) = (checker.unique_state_count(), start.elapsed().as_secs_f64());
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("{n_states} states, and still: {property}"));
    let told = told(path.into_vec());
    println!("not so after {n_states} states in {seconds:.1} s: {property}\n{guards:?}\n{told}");
}

#[test]
fn with_every_safeguard_no_state_breaks_a_property() {
    let beyond = [
        "the database forgets a halving that was published",
        "a shard is halved after it was published whole",
    ];
    explore(protocol(asked_faults()), &beyond);
}

#[test]
fn with_every_safeguard_a_database_may_lose_its_tail() {
    explore(with_failover(2), &[]);
}

#[test]
fn with_every_safeguard_a_job_may_be_canceled_at_any_time() {
    let beyond = [
        "the database forgets a halving that was published",
        "a shard is halved after it was published whole",
    ];
    let model = Protocol {
        may_cancel: true,
        ..protocol(2)
    };
    explore(model, &beyond);
}

#[test]
fn without_the_live_check_a_page_is_published_twice() {
    let guards = Safeguards {
        live_check: false,
        ..Safeguards::ALL
    };
    must_break(guards, TWICE);
    must_break(guards, "a fenced commit never counts");
}

#[test]
fn without_the_part_check_a_part_that_is_not_there_counts() {
    let guards = Safeguards {
        part_check: false,
        ..Safeguards::ALL
    };
    must_break(guards, WHOLE);
}

#[test]
fn without_create_only_numbers_pages_are_lost() {
    let guards = Safeguards {
        create_only: false,
        ..Safeguards::ALL
    };
    must_break(guards, LOST);
}

#[test]
fn without_reading_back_pages_are_lost() {
    let guards = Safeguards {
        read_back: false,
        ..Safeguards::ALL
    };
    must_break(guards, LOST);
}

#[test]
fn without_catching_up_the_job_never_ends() {
    let guards = Safeguards {
        catch_up: false,
        ..Safeguards::ALL
    };
    must_break(guards, LOST);
}

#[test]
fn without_the_check_against_listed_pages_a_page_is_published_twice() {
    let guards = Safeguards {
        page_check: false,
        ..Safeguards::ALL
    };
    must_break(guards, TWICE);
}

/// "Fenced" may come from a database that forgot what a manifest lists already.
#[test]
fn without_keeping_doubtful_parts_a_listed_part_is_removed() {
    let guards = Safeguards {
        keeps_doubtful_parts: false,
        ..Safeguards::ALL
    };
    must_break(guards, WHOLE);
}

/// With no way around in circles, a run that only ever stops at its end comes to it.
#[test]
fn no_run_goes_on_for_ever() {
    let model = with_failover(1);
    let start = model.init_states().remove(0);
    // Whether each state met is on the present way, which must never come back to itself.
    let mut is_on_way = HashMap::from([(start, true)]);
    let mut way = vec![(start, successors(&model, &start))];
    while let Some((state, rest)) = way.last_mut() {
        match rest.pop() {
            None => {
                is_on_way.insert(*state, false);
                way.pop();
            }
            Some(next) => match is_on_way.get(&next) {
                Some(true) => panic!("round and round: {next:#?}"),
                Some(false) => {}
                None => {
                    is_on_way.insert(next, true);
                    way.push((next, successors(&model, &next)));
                }
            },
        }
    }
    println!("{} states, none of them twice in a run", is_on_way.len());
}

fn successors(model: &Protocol, state: &State) -> Vec<State> {
    model.next_states(state)
}
