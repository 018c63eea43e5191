//! Memory of maps, aligned to cache lines and used again.
//!
//! A network makes dozens of maps of many megabytes. Fresh memory would be mapped and cleared by
//! the system each time, which costs more than some layers.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use aligned_vec::{AVec, ConstAlign};

type Aligned = AVec<f32, ConstAlign<64>>;

/// Buffers that a thread keeps for later; beyond them memory goes back.
const MAX_KEPT: usize = 12;

thread_local! {
    static KEPT: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// Values whose content is whatever was there before.
#[derive(Debug)]
pub struct Buffer(Aligned);

impl Buffer {
    /// A buffer of exactly `len` values.
    pub fn take(len: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| {
            let fitting = (0..kept.len()).filter(|&index| {
                let capacity = kept[index].capacity();
                capacity >= len && capacity / 2 <= len
            });
            let best = fitting.min_by_key(|&index| kept[index].capacity());
            best.map(|index| kept.swap_remove(index))
        });
        let mut values = kept.unwrap_or_else(|| Aligned::with_capacity(64, len));
        // Shortening is free and only what was never used is cleared.
        match values.len() >= len {
            true => values.truncate(len),
            false => values.resize(len, 0.0),
        }
        Self(values)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::replace(&mut self.0, Aligned::new(64));
        if values.capacity() == 0 {
            return;
        }
        let keep = |kept: &RefCell<Vec<Aligned>>| {
            let mut kept = kept.borrow_mut();
            kept.push(values);
            if kept.len() > MAX_KEPT {
                let least = (0..kept.len()).min_by_key(|&index| kept[index].capacity());
                if let Some(least) = least {
                    kept.swap_remove(least);
                }
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
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
