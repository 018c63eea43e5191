//! What probes are told while the database is away.

use std::io::{Read, Write};
use std::net::TcpStream;

use quire_tests::fleet::{Database, Fleet, FleetOptions, wait_for};

use super::support::PROGRAM;

/// The first line of an answer, if there is one.
fn status(pages: &str, path: &str) -> Option<String> {
    let address = pages.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().next().map(str::to_owned)
}

#[test]
fn a_coordinator_without_its_database_is_not_ready_and_alive_and_comes_back() {
    let mut options = FleetOptions::new(PROGRAM);
    options.database = Database::Postgres;
    let Some(mut fleet) = Fleet::start(options) else {
        return;
    };
    fleet.start_coordinator();
    let event = fleet.coordinators[0].process.wait_event("listening");
    let pages = event["metrics_url"].as_str().unwrap().to_owned();
    let told = |path: &str, code: &str| {
        wait_for(&format!("{code} of {path}"), || {
            status(&pages, path).filter(|line| line.contains(code))
        })
    };
    told("/healthz", "200");
    let id = fleet.coordinators[0].process.id();
    fleet.postgres.as_mut().unwrap().stop();
    told("/healthz", "503");
    told("/livez", "200");
    fleet.postgres.as_mut().unwrap().resume();
    told("/healthz", "200");
    assert!(fleet.coordinators[0].process.is_running());
    assert_eq!(fleet.coordinators[0].process.id(), id);
}
