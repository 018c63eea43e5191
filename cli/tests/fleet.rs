//! The commands of a fleet as a user types them: one coordinator, one worker and a small job on
//! this machine, and what is said when something is wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

/// A folder with one page to read, and where everything of the fleet lies.
struct Desk {
    folder: tempfile::TempDir,
}

/// A server of the fleet; killed with the test.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// The first event, which says where it listens.
    started: Value,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    fn text(&self, field: &str) -> String {
        self.started[field].as_str().unwrap().to_owned()
    }

    /// Asks it to leave, as Kubernetes does.
    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success());
    }

    /// Its last event and its exit code, once it has left.
    fn left(mut self) -> (Option<Value>, Option<i32>) {
        let mut last = None;
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            last = serde_json::from_str(&line).ok();
            line.clear();
        }
        let code = self.child.wait().unwrap().code();
        (last, code)
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Self {
        let said = self.out.contains(words) || self.err.contains(words);
        assert!(said, "`{words}` in {self:#?}");
        self
    }
}

impl Desk {
    fn with_a_page() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let scans = desk.path("scans");
        std::fs::create_dir(&scans).unwrap();
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/minutes.png");
        std::fs::copy(page, scans.join("minutes.png")).unwrap();
        std::fs::write(scans.join("notes.txt"), "buy seed").unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quire"));
        command
            .args(line.split(' '))
            .current_dir(self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env_remove("PGPASSWORD");
        command
    }

    fn quire(&self, line: &str) -> Ended {
        Ended::from(self.command(line).output().unwrap())
    }

    /// Starts a server and waits until it says where it is.
    fn start(&self, line: &str) -> Server {
        let mut command = self.command(line);
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let started = serde_json::from_str(&first).unwrap_or_default();
        Server {
            child,
            lines,
            started,
        }
    }

    fn coordinator(&self, store: &str) -> Server {
        self.start(&format!(
            "coordinator --listen 127.0.0.1:0 --store {store} --json -q"
        ))
    }
}

#[test]
fn job_goes_through_a_fleet_of_one_machine() {
    let desk = Desk::with_a_page();
    let coordinator = desk.coordinator("sqlite:fleet.db");
    let url = coordinator.text("url");
    let at = |line: &str| desk.quire(&format!("{line} --coordinator {url}"));

    at("status").ends_with(0).says("There are no jobs");
    at("workers").ends_with(0).says("No worker is there");
    let submit = "submit scans --out data -q";
    let submitted = at(submit).ends_with(0);
    let job = submitted.out.trim_end().to_owned();
    assert!(job.starts_with("j-") && job.len() == 14, "{job}");
    assert_eq!(submitted.err, "");
    assert_eq!(at(submit).ends_with(0).out.trim_end(), job);
    at("submit scans --out data --dpi 200")
        .ends_with(2)
        .says("hint: ")
        .says("quire cancel JOB");

    let worker = desk.start(&format!(
        "worker --coordinator {url} --workers 1 --node here --json -q"
    ));
    assert_eq!(worker.started["event"], "worker_started");
    let followed = at("submit scans --out data --wait -q").ends_with(0);
    assert_eq!(followed.out.trim_end(), job);
    let followed = followed.says("documents  2  (1 complete, 1 failed)");
    assert!(followed.err.contains("load_dataset"), "{followed:?}");

    at("status")
        .ends_with(0)
        .says(&job)
        .says("done")
        .says("100%");
    let detail = at(&format!("status {job}")).ends_with(0);
    detail
        .says("(version 1)")
        .says("unsupported")
        .says("pp-ocr");
    let json: Value = serde_json::from_str(&at("status --json").ends_with(0).out).unwrap();
    assert_eq!(json["state"], "done");
    assert_eq!(json["rows_done"], 2);
    at(&format!("status {job} --watch"))
        .ends_with(0)
        .says("done");
    at("workers").ends_with(0).says("here").says("idle");
    at("tenants").ends_with(0).says("default");
    at("tenants set default --weight 3")
        .ends_with(0)
        .says("weighs 3");
    desk.quire(&format!("doctor --coordinator {url}"))
        .ends_with(0)
        .says("answers in")
        .says("1 worker on here");
    at(&format!("pause {job}")).ends_with(2).says("is done");

    at("workers cordon here --reason disk").ends_with(0);
    at("workers").says("here is given nothing: disk");
    at("workers uncordon here").ends_with(0);
    at("workers drain here")
        .ends_with(0)
        .says("1 worker is told");
    let (last, code) = worker.left();
    assert_eq!(code, Some(0));
    assert_eq!(last.unwrap()["told_by"], "coordinator");
    desk.quire("verify data").ends_with(0);
    coordinator.terminate();
    assert_eq!(coordinator.left().1, Some(0));

    desk.quire("doctor sqlite:fleet.db")
        .ends_with(0)
        .says("0 unfinished jobs");
    desk.quire("recover --out data --store sqlite:new.db")
        .ends_with(0)
        .says(&format!("{job}  done"))
        .says("version 1");
    desk.quire("recover --out data --store sqlite:new.db")
        .ends_with(0)
        .says("was known already");
}

#[test]
fn unfinished_job_survives_the_loss_of_its_database() {
    let desk = Desk::with_a_page();
    let coordinator = desk.coordinator("sqlite:fleet.db");
    let url = coordinator.text("url");
    std::fs::write(
        desk.path("job.toml"),
        "inputs = [\"scans\"]\nout = \"data\"\npriority = 4\n[job]\nshard_pages = 1\n",
    )
    .unwrap();
    let submit = format!("submit job.toml -q --coordinator {url}");
    let job = desk.quire(&submit).ends_with(0).out.trim_end().to_owned();
    let until_planned = || loop {
        let status = desk.quire(&format!("status {job} --json --coordinator {url}"));
        let status: Value = serde_json::from_str(&status.ends_with(0).out).unwrap();
        if status["state"] != "planning" {
            return status;
        }
    };
    let status = until_planned();
    assert_eq!(
        (&status["state"], &status["priority"]),
        (&"running".into(), &4.into())
    );
    let at = |line: &str| desk.quire(&format!("{line} --coordinator {url}"));
    at(&format!("pause {job} --reason lunch"))
        .ends_with(0)
        .says("is paused");
    at("status").says("paused: lunch");
    at(&format!("resume {job}")).ends_with(0).says("goes on");
    drop(coordinator);

    desk.quire("recover --out data --store sqlite:new.db")
        .ends_with(0)
        .says(&format!("{job}  running"))
        .says("0 of 2 pages are safe");
    let coordinator = desk.coordinator("sqlite:new.db");
    let url = coordinator.text("url");
    let at = |line: &str| desk.quire(&format!("{line} --coordinator {url}"));
    let again = desk.quire(&format!("submit job.toml -q --coordinator {url}"));
    assert_eq!(again.ends_with(0).out.trim_end(), job);
    at(&format!("cancel {job} --reason enough"))
        .ends_with(0)
        .says("is given up");
    at(&format!("status {job} --watch"))
        .ends_with(1)
        .says("stopped: enough");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let desk = Desk::with_a_page();
    for (line, code, words) in [
        (
            "coordinator --listen 0.0.0.0:0 --store sqlite:a.db",
            2,
            "--allow-plaintext",
        ),
        (
            "coordinator --store postgres://quire:sesame@db/quire",
            2,
            "QUIRE_DATABASE_PASSWORD",
        ),
        ("coordinator --listen here", 2, "`coordinator.listen`"),
        ("worker --coordinator http://192.0.2.1:7420", 2, "TLS"),
        ("status --coordinator ftp://host", 2, "`fleet.coordinator`"),
        (
            "status --coordinator http://127.0.0.1:1",
            1,
            "hint: is the coordinator running",
        ),
        ("submit scans", 2, "--out OUT"),
        ("submit absent.toml --out data", 2, "absent.toml"),
        ("submit scans a.toml --out data", 2, "stands alone"),
        ("submit data/a --out data", 2, "lies inside OUT"),
        ("retry data", 2, "`--where` is missing"),
        ("retry j-0123456789ab --where true", 2, "is for datasets"),
        (
            "recover --out scans --store sqlite:a.db",
            1,
            "no job lies beside",
        ),
        ("doctor sqlite:absent.db", 0, "is not there yet"),
        ("doctor postgres://quire@127.0.0.1:1/quire", 1, "BAD"),
    ] {
        let ended = desk.quire(line).ends_with(code).says(words);
        assert!(!ended.err.contains("sesame"), "{ended:?}");
    }
    std::fs::write(
        desk.path("job.toml"),
        "inputs = [\"scans\"]\n[render]\ndpy = 3\n",
    )
    .unwrap();
    desk.quire("submit job.toml --out data")
        .ends_with(2)
        .says("`render.dpy`")
        .says("did you mean `render.dpi`?");

    let coordinator = desk.coordinator("sqlite:fleet.db");
    let url = coordinator.text("url");
    desk.quire("coordinator --listen 127.0.0.1:0 --store sqlite:fleet.db")
        .ends_with(2)
        .says("another coordinator has this database");
    for command in ["status", "pause", "resume", "cancel", "retry"] {
        desk.quire(&format!("{command} j-0123456789ab --coordinator {url}"))
            .ends_with(2)
            .says("there is no job j-0123456789ab")
            .says("hint: `quire status` lists");
    }
}
