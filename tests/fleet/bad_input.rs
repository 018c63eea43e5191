//! What a fleet is told that it must not believe: each refusal has a reason of its own, and
//! nothing is lost by it.

use quire_proto::grpc::Client;
use quire_proto::v1::{self, JobState};
use quire_proto::{CallError, JobCalls, Reason, WorkerCalls};
use quire_tests::fleet::{Fleet, Process};

use super::support::{documents, expect_exact, node, small_fleet};

/// A worker that a test plays itself, with one shard in its hands.
struct Player {
    client: Client,
    session_id: String,
    lease: v1::Lease,
}

impl Player {
    fn join(fleet: &Fleet) -> Self {
        let client = fleet.client();
        let (session_id, lease) = fleet.block_on(async {
            let request = v1::RegisterRequest {
                worker_name: "player".into(),
                node: "stage".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..v1::RegisterRequest::default()
            };
            let session_id = client.register(request).await.unwrap().session_id;
            loop {
                let request = v1::AcquireRequest {
                    session_id: session_id.clone(),
                    max_leases: 1,
                    want_rows: 0,
                    wait_ms: 1_000,
                };
                let answer = client.acquire(request).await.unwrap();
                if let Some(lease) = answer.leases.into_iter().next() {
                    return (session_id, lease);
                }
            }
        });
        Self {
            client,
            session_id,
            lease,
        }
    }

    /// A commit with nothing wrong but that there is no part.
    fn commit(&self) -> v1::CommitRequest {
        v1::CommitRequest {
            lease_id: self.lease.lease_id.clone(),
            session_id: self.session_id.clone(),
            part: Some(v1::Part {
                key: self.lease.part_key.clone(),
                bytes: 1_000,
                checksum: "0".repeat(64),
                etag: String::new(),
            }),
            n_rows: self.lease.n_rows,
            counts: Some(v1::RowCounts {
                ok: u64::from(self.lease.n_rows),
                failed: 0,
                skipped: 0,
            }),
            timings: None,
            failures: Vec::new(),
        }
    }

    fn refused(&self, fleet: &Fleet, change: impl FnOnce(&mut v1::CommitRequest)) -> CallError {
        let mut request = self.commit();
        change(&mut request);
        fleet.block_on(self.client.commit(request)).unwrap_err()
    }
}

#[test]
fn wrong_commits_are_refused_each_for_its_own_reason_and_the_shard_is_done_by_another() {
    let mut fleet = small_fleet(0, |_| {});
    let known = documents(&fleet, &[4, 4]);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    let player = Player::join(&fleet);

    let missing = player.refused(&fleet, |_| {});
    assert_eq!(missing.reason, Reason::PartMissing, "{missing:?}");
    let foreign = player.refused(&fleet, |commit| {
        let part = commit.part.as_mut().unwrap();
        part.key = "parts/00000000-somebody-elses.parquet".into();
    });
    assert_eq!(foreign.reason, Reason::PartKeyForeign, "{foreign:?}");
    let outside = player.refused(&fleet, |commit| {
        let part = commit.part.as_mut().unwrap();
        part.key = "../../../etc/passwd".into();
    });
    assert_eq!(outside.reason, Reason::PartKeyForeign, "{outside:?}");
    let short = player.refused(&fleet, |commit| {
        commit.n_rows -= 1;
        commit.counts.as_mut().unwrap().ok -= 1;
    });
    assert_eq!(short.reason, Reason::RowCountMismatch, "{short:?}");
    let uneven = player.refused(&fleet, |commit| commit.counts.as_mut().unwrap().ok += 1);
    assert!(
        matches!(uneven.reason, Reason::Malformed | Reason::RowCountMismatch),
        "{uneven:?}"
    );
    let bare = player.refused(&fleet, |commit| commit.part = None);
    assert_eq!(bare.reason, Reason::Malformed, "{bare:?}");
    let stale = player.refused(&fleet, |commit| commit.lease_id = "no-such-lease".into());
    assert_eq!(stale.reason, Reason::LeaseFenced, "{stale:?}");
    let unknown = fleet.block_on(player.client.acquire(v1::AcquireRequest {
        session_id: "no-such-session".into(),
        max_leases: 1,
        want_rows: 0,
        wait_ms: 0,
    }));
    assert_eq!(unknown.unwrap_err().reason, Reason::SessionUnknown);

    let release = v1::ReleaseRequest {
        session_id: player.session_id.clone(),
        lease_ids: Vec::new(),
        reason: "the play is over".into(),
        end_session: true,
    };
    fleet.block_on(player.client.release(release)).unwrap();
    fleet.start_worker(&node(0));
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
}

#[test]
fn jobs_that_say_what_nobody_understands_are_refused() {
    let fleet = small_fleet(0, |_| {});
    let known = documents(&fleet, &[1]);
    let out = fleet.out("dataset");
    let client = fleet.client();
    let create = |spec: String| {
        let request = v1::CreateJobRequest {
            request_id: "bad".into(),
            job_spec_json: spec,
            out: format!("file://{out}"),
            priority: 0,
        };
        fleet.block_on(client.create_job(request)).unwrap_err()
    };
    let words = create("not JSON".into());
    assert_eq!(words.reason, Reason::Malformed, "{words:?}");
    // A specification that is right but for one word.
    let job_id = fleet.submit(&known.folder, &fleet.out("other"));
    let right = fleet.job(&job_id).job_spec_json;
    let mut wrong: serde_json::Value = serde_json::from_str(&right).unwrap();
    wrong["warp_speed"] = 9.into();
    let unknown = create(wrong.to_string());
    assert_eq!(unknown.reason, Reason::Malformed, "{unknown:?}");
    assert!(unknown.message.contains("warp_speed"), "{unknown:?}");
    let huge = create(format!("{{\"inputs\": [\"{}\"]}}", "x".repeat(5 << 20)));
    assert_eq!(huge.reason, Reason::MessageTooLarge, "{huge:?}");

    // The same by the command, from a file.
    let file = fleet.path("job.toml");
    let text = format!(
        "inputs = [\"{}\"]\nout = \"{out}\"\n[render]\nwarp_speed = 9\n",
        known.folder.display()
    );
    std::fs::write(&file, text).unwrap();
    let output = fleet.run(&["submit", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("warp_speed"), "{said}");
    assert!(output.stdout.is_empty(), "an identifier was printed");
}

/// An object store that has no bucket at all, until the test process ends.
fn store_without_buckets() -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let head = BufReader::new(&stream).lines();
            // To the empty line that ends it.
            head.map_while(Result::ok).find(String::is_empty);
            let body = "<Error><Code>NoSuchBucket</Code></Error>";
            let answer = format!(
                "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            (&stream).write_all(answer.as_bytes()).ok();
        }
    });
    endpoint
}

#[test]
fn buckets_that_are_not_there_are_named_when_the_job_is_submitted() {
    let endpoint = store_without_buckets();
    let fleet = small_fleet(0, |options| {
        options.coordinator_settings = format!(
            "[stores.gone]\nkind = \"s3\"\nbucket = \"gone\"\nregion = \"us-east-1\"\n\
             endpoint = \"{endpoint}\"\nanonymous = true"
        );
    });
    let known = documents(&fleet, &[1]);
    let input = known.folder.display().to_string();
    let out = fleet.out("dataset");
    for args in [
        ["submit", &input, "--out", "s3://gone/dataset"],
        ["submit", "s3://gone/inputs", "--out", &out],
    ] {
        let output = fleet.run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("s3://gone/"), "{said}");
        assert!(said.contains("there is no such bucket"), "{said}");
        assert!(said.contains("[stores.NAME]"), "{said}");
        assert!(output.stdout.is_empty(), "an identifier was printed");
    }
    let jobs = fleet.run_ok(&["status", "--json"]);
    assert!(!jobs.contains("j-"), "a job was taken: {jobs}");
}

#[test]
fn coordinators_that_would_be_open_to_all_or_tell_a_secret_do_not_start() {
    let fleet = small_fleet(0, |_| {});
    let refused = |args: &[&str]| {
        let mut command = fleet.command();
        command.arg("coordinator").args(args);
        let mut process = Process::start("refused", command, &fleet.path("logs"));
        let code = process.wait().code();
        assert_eq!(code, Some(2), "{args:?}: {}", process.said());
        process.said()
    };
    let store = format!("sqlite:{}", fleet.path("other.db").display());
    let open = refused(&["--listen", "0.0.0.0:0", "--store", &store]);
    assert!(open.contains("TLS"), "{open}");
    let secret = "postgres://quire:sesame@127.0.0.1/quire";
    let told = refused(&["--listen", "127.0.0.1:0", "--store", secret]);
    assert!(told.contains("QUIRE_DATABASE_PASSWORD"), "{told}");
    assert!(!told.contains("sesame"), "the password was printed: {told}");
}

#[test]
fn workers_and_commands_that_find_no_coordinator_say_so() {
    let fleet = small_fleet(0, |_| {});
    let nobody = format!("http://127.0.0.1:{}", quire_tests::fleet::free_port());
    let mut command = fleet.command();
    let output = command.args(["status", "--coordinator", &nobody]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&nobody), "{said}");
    let unknown = fleet.run(&["status", "j-000000000000"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert_ne!(unknown.status.code(), Some(0));
    assert!(said.contains("j-000000000000"), "{said}");
}
