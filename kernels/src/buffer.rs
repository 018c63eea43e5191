//! Memory of maps, aligned to cache lines and used again.
//!
//! A network makes dozens of maps of many megabytes. Fresh memory would be mapped and cleared by
//! the system each time, which costs more than some layers.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use aligned_vec::{AVec, ConstAlign};

type Aligned = AVec<f32, ConstAlign<64>>;

/// Buffers that a thread keeps for later; beyond them the memory of the one goes back that has not
/// been used for the longest time. The networks of a page take turns and want other sizes each.
const MAX_KEPT: usize = 32;
/// Values of the least buffer: small ones take the place of each other, and not of large ones.
const LEAST: usize = 4096;

thread_local! {
    /// The one that was used last comes last.
    static KEPT: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// Values whose content is whatever was there before.
#[derive(Debug)]
pub struct Buffer {
    /// At least as many as are asked for. Never shortened: what was in use once need not be cleared.
    values: Aligned,
    len: usize,
}

impl Buffer {
    /// A buffer of exactly `len` values.
    pub fn take(len: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| {
            let fitting = (0..kept.len()).filter(|&index| {
                let capacity = kept[index].capacity();
                capacity >= len && capacity <= LEAST.max(2 * len)
            });
            let best = fitting.min_by_key(|&index| kept[index].capacity());
            best.map(|index| kept.remove(index))
        });
        let mut values = kept.unwrap_or_else(|| Aligned::with_capacity(64, capacity_for(len)));
        if values.len() < len {
            values.resize(len, 0.0);
        }
        Self { values, len }
    }
}

/// An eighth more at most than what is asked for, so that lengths that are nearly equal share.
fn capacity_for(len: usize) -> usize {
    let len = len.max(LEAST);
    len.next_multiple_of(len.next_power_of_two() / 16)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::replace(&mut self.values, Aligned::new(64));
        if values.capacity() == 0 {
            return;
        }
        let keep = |kept: &RefCell<Vec<Aligned>>| {
            let mut kept = kept.borrow_mut();
            kept.push(values);
            if kept.len() > MAX_KEPT {
                kept.remove(0);
            }
        };
        // A thread that is ending keeps nothing.
        KEPT.try_with(keep).unwrap_or_default();
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::take(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}
