//! Ends what a test started, in whatever way the test process goes: a shell reads the processes
//! from a pipe, and kills those that are left when the pipe closes.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

const SCRIPT: &str = r#"
list=" "
while read -r sign pid; do
  case "$sign" in
    +) list="$list$pid " ;;
    -) list="${list%% $pid *} ${list#* $pid }" ;;
  esac
done
for pid in $list; do kill -KILL "$pid"; done 2>/dev/null
"#;

fn shell() -> &'static Mutex<Child> {
    static SHELL: OnceLock<Mutex<Child>> = OnceLock::new();
    SHELL.get_or_init(|| {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal must not end it before its work is done.
            .process_group(0)
            .spawn()
            .expect("a shell");
        Mutex::new(shell)
    })
}

fn tell(sign: char, pid: u32) {
    let mut shell = shell().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pipe) = shell.stdin.as_mut() {
        writeln!(pipe, "{sign} {pid}").expect("the shell reads on");
    }
}

/// This process must not outlive the test.
pub(crate) fn keep(pid: u32) {
    tell('+', pid);
}

/// This process has ended and was waited for.
pub(crate) fn forget(pid: u32) {
    tell('-', pid);
}
