//! Where randomness and the date come from: on a thread that has been given a seed, every draw
//! from the system is made of it, and the date is the simulation's. Identifiers, hash maps and
//! the fair choices of `select!` all draw there, each by a way of its own; answers over HTTP bear
//! a date, whose spelling decides how long they are. This is the one place that all of them have
//! in common.

#![expect(
    unsafe_code,
    reason = "takes the place of functions of the C library, for this test's process alone"
)]

use std::cell::Cell;
use std::time::Duration;

use crate::chance::mix;
use crate::clock::START_MS;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// From now on this thread draws what follows from the seed.
pub(crate) fn seed(seed: u64) {
    STATE.set(Some(mix(seed)));
}

/// How far the simulation of this thread is.
pub(crate) fn set_elapsed(elapsed: Duration) {
    ELAPSED.set(elapsed);
}

/// The date, on a thread with a seed.
fn date() -> Option<Duration> {
    STATE.try_with(Cell::get).ok().flatten()?;
    let start = Duration::from_millis(u64::try_from(START_MS).ok()?);
    Some(start + ELAPSED.try_with(Cell::get).ok()?)
}

/// The next bytes, on a thread with a seed.
fn fill(buffer: &mut [u8]) -> bool {
    let Some(mut state) = STATE.try_with(Cell::get).ok().flatten() else {
        return false;
    };
    for piece in buffer.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let drawn = mix(state).to_le_bytes();
        piece.copy_from_slice(&drawn[..piece.len()]);
    }
    STATE.set(Some(state));
    true
}

/// Bytes that nobody can foresee, for threads without a seed.
fn fill_by_system(buffer: &mut [u8]) -> bool {
    use std::io::Read;
    let file = std::fs::File::open("/dev/urandom");
    file.is_ok_and(|mut file| file.read_exact(buffer).is_ok())
}

// SAFETY: has the name, the arguments and the promise of getrandom(2): fills the buffer and says
// how many bytes that were, or -1.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, n_bytes: usize, _flags: u32) -> isize {
    if buffer.is_null() {
        return -1;
    }
    // SAFETY: the caller says that so many bytes may be written there.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, n_bytes) };
    if fill(buffer) || fill_by_system(buffer) {
        return isize::try_from(n_bytes).unwrap_or(-1);
    }
    -1
}

// SAFETY: has the name, the arguments and the promise of clock_gettime(2): writes the time and
// says 0, or writes nothing and says -1.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    match date() {
        Some(date) if clock == libc::CLOCK_REALTIME && !time.is_null() => {
            let date = libc::timespec {
                tv_sec: libc::time_t::try_from(date.as_secs()).unwrap_or_default(),
                tv_nsec: date.subsec_nanos().into(),
            };
            // SAFETY: the caller says that a time may be written there.
            unsafe { time.write(date) };
            0
        }
        _ => {
            // SAFETY: the caller's own arguments, to the call that they were meant for.
            let said = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
            libc::c_int::try_from(said).unwrap_or(-1)
        }
    }
}
