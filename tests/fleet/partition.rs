//! The network between a worker and its coordinator goes away and comes back. Each is on a machine
//! of its own as far as the network is concerned: a namespace, joined to the coordinator's by a
//! cable that a packet filter cuts.

use std::process::Command;

use quire_tests::fleet::{Fleet, FleetOptions, Process, Times, wait_for};
use serde_json::Value;

use super::support::{PROGRAM, documents, expect_exact};

/// Where the coordinator listens in its namespace, which nobody else reaches.
const PORT: u16 = 7420;

/// Namespaces of a coordinator and so many workers; removed with their owner.
struct Networks {
    names: Vec<String>,
}

fn ip(args: &[&str]) -> bool {
    done(Command::new("ip").args(args))
}

fn done(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Networks {
    /// Worker `i` is 10.77.i.2 and finds the coordinator at 10.77.i.1. `None`, after saying so,
    /// where the machine does not allow it.
    #[allow(clippy::print_stdout, reason = "a skipped test must say so")]
    fn make(workers: usize) -> Option<Self> {
        let id = std::process::id();
        let names = (0..=workers).map(|i| format!("quire-{id}-{i}")).collect();
        let networks = Self { names };
        if networks.connect() {
            return Some(networks);
        }
        println!(
            "skipped: no network namespaces with a packet filter here (they need root, `ip` and \
             `nft`)"
        );
        None
    }

    fn connect(&self) -> bool {
        let coordinator = &self.names[0];
        let is_made = self.names.iter().all(|name| {
            ip(&["netns", "add", name]) && ip(&["-n", name, "link", "set", "lo", "up"])
        });
        is_made
            && (1..self.names.len()).all(|i| {
                let worker = &self.names[i];
                let (here, there) = (format!("qc{i}"), format!("qw{i}"));
                let joined = ip(&[
                    "-n", coordinator, "link", "add", &here, "type", "veth", "peer", "name",
                    &there, "netns", worker,
                ]);
                let address = |ns: &str, link: &str, host: u32| {
                    let address = format!("10.77.{i}.{host}/24");
                    ip(&["-n", ns, "addr", "add", &address, "dev", link])
                        && ip(&["-n", ns, "link", "set", link, "up"])
                };
                joined && address(coordinator, &here, 1) && address(worker, &there, 2)
            })
            // That a filter works is seen before anything depends on it.
            && self.try_cut(1)
            && self.try_heal(1)
    }

    /// A command in a namespace; 0 is the coordinator's.
    fn command(&self, which: usize, fleet: &Fleet) -> Command {
        let plain = fleet.command();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.names[which]])
            .arg(plain.get_program())
            .args(plain.get_args());
        for (key, value) in plain.get_envs() {
            if let Some(value) = value {
                command.env(key, value);
            }
        }
        command.current_dir(fleet.path(""));
        command
    }

    fn nft(&self, which: usize, rules: &str) -> bool {
        done(Command::new("ip").args(["netns", "exec", &self.names[which], "nft", rules]))
    }

    fn try_cut(&self, which: usize) -> bool {
        self.nft(
            which,
            "add table inet cut; \
             add chain inet cut incoming { type filter hook input priority 0; policy drop; }; \
             add chain inet cut outgoing { type filter hook output priority 0; policy drop; }",
        )
    }

    fn try_heal(&self, which: usize) -> bool {
        self.nft(which, "delete table inet cut")
    }

    /// Everything to and from a worker is lost from now on; nobody is told.
    fn cut(&self, which: usize) {
        assert!(self.try_cut(which), "the filter took no rule");
    }

    fn heal(&self, which: usize) {
        assert!(self.try_heal(which), "the filter kept its rule");
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "del", name]);
        }
    }
}

/// What the coordinator says, asked beside it.
fn ask(networks: &Networks, fleet: &Fleet, args: &[&str]) -> String {
    let mut command = networks.command(0, fleet);
    let url = format!("http://127.0.0.1:{PORT}");
    command.args(args).args(["--json", "--coordinator", &url]);
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn job(networks: &Networks, fleet: &Fleet, job_id: &str) -> Option<Value> {
    serde_json::from_str(&ask(networks, fleet, &["status", job_id])).ok()
}

#[test]
fn a_worker_that_is_cut_off_for_longer_than_its_session_lives_brings_nothing_twice() {
    let Some(networks) = Networks::make(2) else {
        return;
    };
    let mut options = FleetOptions::new(PROGRAM);
    options.times = Times {
        progress: Times::PATIENT.progress,
        ..Times::QUICK
    };
    let fleet = Fleet::start(options).unwrap();
    fleet.close_gate(0);
    let known = documents(&fleet, &[10; 8]);
    let logs = fleet.path("logs");

    let mut coordinator = networks.command(0, &fleet);
    let listen = format!("0.0.0.0:{PORT}");
    coordinator
        .args([
            "coordinator",
            "--listen",
            &listen,
            "--allow-plaintext",
            "--json",
        ])
        .args(["--store", fleet.store()]);
    let mut coordinator = Process::start("coordinator", coordinator, &logs);
    coordinator.wait_event("listening");
    let mut workers: Vec<Process> = (1..=2)
        .map(|i| {
            let mut worker = networks.command(i, &fleet);
            worker
                .args([
                    "worker",
                    "--allow-plaintext",
                    "--name",
                    &format!("worker-{i}"),
                ])
                .args(["--node", &format!("node-{i}"), "--coordinator"])
                .arg(format!("http://10.77.{i}.1:{PORT}"));
            Process::start(&format!("worker-{i}"), worker, &logs)
        })
        .collect();

    let out = fleet.out("dataset");
    let url = format!("http://127.0.0.1:{PORT}");
    let mut submit = networks.command(0, &fleet);
    submit
        .arg("submit")
        .arg(&known.folder)
        .args(["--out", &out, "--coordinator", &url]);
    let output = submit.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let job_id = String::from_utf8_lossy(&output.stdout).trim().to_owned();

    wait_for("the first worker to hold a shard", || {
        let workers = ask(&networks, &fleet, &["workers"]);
        workers.contains("worker-1").then_some(())?;
        let job = job(&networks, &fleet, &job_id)?;
        (job["shards"]["leased"].as_u64()? >= 2).then_some(())
    });
    networks.cut(1);
    fleet.open_gate();
    wait_for("the end of its session", || {
        let workers = ask(&networks, &fleet, &["workers"]);
        (!workers.contains("worker-1")).then_some(())
    });
    networks.heal(1);
    wait_for("the end of the job", || {
        for worker in &mut workers {
            assert!(worker.is_running(), "a worker left:\n{}", worker.tail());
        }
        let job = job(&networks, &fleet, &job_id)?;
        (job["state"] == "done").then_some(())
    });
    expect_exact(&fleet, &known, &out);
}
