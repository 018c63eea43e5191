//! Walls that only Linux has.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{no_new_privs, set_no_new_privs};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::pipeline::render::wire::SandboxStatus;

pub(super) fn enter(status: &mut SandboxStatus) {
    let mut missing = |wall: &str, reason: String| status.missing.push(format!("{wall}: {reason}"));
    match set_parent_process_death_signal(Some(Signal::KILL)) {
        Ok(()) => status.ends_with_parent = true,
        Err(error) => missing("death with the parent", error.to_string()),
    }
    match set_no_new_privs(true).and_then(|()| no_new_privs()) {
        Ok(is_set) => status.no_new_privileges = is_set,
        Err(error) => missing("no new privileges", error.to_string()),
    }
    match close_files() {
        Ok(RulesetStatus::NotEnforced) => missing("Landlock", "this kernel has none".into()),
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => {
            status.landlock = true;
        }
        Err(error) => missing("Landlock", error.to_string()),
    }
    match close_system_calls() {
        Ok(()) => status.seccomp = true,
        Err(reason) => missing("seccomp", reason),
    }
}

/// Forbids every access to files that this kernel's Landlock knows, and to the network where it
/// knows that. What is open stays open.
fn close_files() -> Result<RulesetStatus, RulesetError> {
    let newest = ABI::V6;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?;
    Ok(ruleset.create()?.restrict_self()?.ruleset)
}

/// Rules by number of system call; no rule means any arguments.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Three filters, of which the kernel obeys the strictest answer: one kills for everything that
/// is not on the list, and two make some of the list fail the way that lets libraries go on.
fn close_system_calls() -> Result<(), String> {
    let allow = rules(CALLS, true)?;
    let deny = rules(DENIED_CALLS, false)?;
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let errno = |number: i32| SeccompAction::Errno(number as u32);
    let filters = [
        // glibc then falls back to `clone`, whose arguments can be looked at.
        program(unknown, SeccompAction::Allow, errno(libc::ENOSYS))?,
        program(deny, SeccompAction::Allow, errno(libc::EACCES))?,
        // Last, for it forbids adding filters.
        program(allow, SeccompAction::KillProcess, SeccompAction::Allow)?,
    ];
    filters
        .iter()
        .try_for_each(|filter| apply_filter(filter).map_err(|e| e.to_string()))
}

fn program(
    rules: Rules,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    SeccompFilter::new(rules, otherwise, on_match, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|e| e.to_string())
}

fn rules(calls: &[i64], with_conditions: bool) -> Result<Rules, String> {
    let mut rules: Rules = calls.iter().map(|&call| (call, Vec::new())).collect();
    if with_conditions {
        rules.extend(DENIED_CALLS.iter().map(|&call| (call, Vec::new())));
        rules.insert(libc::SYS_clone3, Vec::new());
        // Threads, not processes.
        let thread = libc::CLONE_THREAD as u64;
        rules.insert(libc::SYS_clone, vec![masked(0, thread, thread)?]);
        // Memory, not programs.
        let exec = libc::PROT_EXEC as u64;
        rules.insert(libc::SYS_mmap, vec![masked(2, exec, 0)?]);
        rules.insert(libc::SYS_mprotect, vec![masked(2, exec, 0)?]);
        // Names of threads and of memory.
        let names = [libc::PR_SET_NAME as u64, libc::PR_SET_VMA as u64];
        let names: Result<Vec<_>, _> = names
            .into_iter()
            .map(|name| masked(0, u64::from(u32::MAX), name))
            .collect();
        rules.insert(libc::SYS_prctl, names?);
    }
    Ok(rules)
}

/// Holds when argument `nth` has exactly the bits `value` of those in `mask`.
fn masked(nth: u8, mask: u64, value: u64) -> Result<SeccompRule, String> {
    let equal = SeccompCmpOp::MaskedEq(mask);
    let condition = SeccompCondition::new(nth, SeccompCmpArgLen::Qword, equal, value);
    condition
        .and_then(|c| SeccompRule::new(vec![c]))
        .map_err(|e| e.to_string())
}

/// What computing, threads, memory and the pipes to the parent need, and ending.
const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

/// What libraries try now and then and live without: these fail instead of killing.
const DENIED_CALLS: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_ioctl,
    libc::SYS_prlimit64,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
];

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use rustix::process::Signal;

    /// Names what the second run of the test does behind the walls.
    const DEED: &str = "QUIRE_TEST_DEED";

    /// Runs `deed` in a process of its own and gives how that ended: its exit code, or the signal
    /// that killed it.
    fn outcome(test: &str, deed: &str) -> Result<i32, i32> {
        let module = module_path!().split_once("::").map_or("", |(_, path)| path);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::{test}"), "--nocapture"])
            .env(DEED, deed)
            .output()
            .unwrap();
        output
            .status
            .code()
            .ok_or(output.status.signal().unwrap_or(0))
    }

    fn close_off() {
        let mut status = super::SandboxStatus::default();
        super::enter(&mut status);
        assert!(status.seccomp, "{status:?}");
    }

    #[test]
    fn forbidden_deeds_kill_or_fail() {
        if let Some(deed) = std::env::var_os(DEED) {
            close_off();
            match deed.to_str().unwrap() {
                "compute" => {
                    let sum = std::thread::spawn(|| vec![1u64; 10 << 20].iter().sum::<u64>());
                    assert_eq!(sum.join().unwrap(), 10 << 20);
                }
                "open" => assert!(std::fs::File::open("/etc/hostname").is_err()),
                "write" => assert!(std::fs::write("/tmp/quire-sandbox-test", "x").is_err()),
                "list" => assert!(std::fs::read_dir("/").is_err()),
                "connect" => drop(std::net::TcpStream::connect("127.0.0.1:9")),
                "listen" => drop(std::os::unix::net::UnixListener::bind("\0quire-test")),
                "run" => drop(Command::new("/bin/true").status()),
                "delete" => drop(std::fs::remove_file("/tmp/quire-sandbox-test")),
                other => panic!("unknown deed {other}"),
            }
            // Not through the harness, which talks to threads and files of its own.
            #[expect(clippy::exit, reason = "the process has done its one deed")]
            std::process::exit(42);
        }
        let killed = Err(Signal::SYS.as_raw());
        let expected = [
            ("compute", Ok(42)),
            ("open", Ok(42)),
            ("write", Ok(42)),
            ("list", Ok(42)),
            ("connect", killed),
            ("listen", killed),
            ("run", killed),
            ("delete", killed),
        ];
        for (deed, expected) in expected {
            assert_eq!(
                outcome("forbidden_deeds_kill_or_fail", deed),
                expected,
                "{deed}"
            );
        }
    }
}
