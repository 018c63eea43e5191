//! What the tile instructions do, in plain code.
#![cfg(test)]

use super::{BLOCK_COLUMNS, Block, STEP, STEP_WEIGHTS, TILE_ROWS, TileRows, Tiles};

/// Tiles that are none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model;

/// A bf16 as the product sees it: what is too small for a leading one is zero.
fn widen(bits: u16) -> f32 {
    flush(f32::from_bits(u32::from(bits) << 16))
}

/// Zero of the same sign instead of a number without a leading one.
fn flush(value: f32) -> f32 {
    match value.is_subnormal() {
        true => 0.0f32.copysign(value),
        false => value,
    }
}

impl Tiles for Model {
    /// A step adds up the products of even and those of odd inputs by themselves, each rounded
    /// once a product, and their sum to what the tile holds.
    fn multiply<const R: usize>(
        &mut self,
        rows: TileRows<'_>,
        weights: &[u16],
        bias: &[f32; BLOCK_COLUMNS],
        sums: &mut Block,
        between: impl FnMut(usize),
    ) {
        rows.check::<R>(weights);
        let places: Vec<usize> = rows.places().collect();
        (0..places.len()).for_each(between);
        for (row, sums) in sums.0.iter_mut().enumerate().take(R * TILE_ROWS) {
            for (column, sum) in sums.iter_mut().enumerate().take(BLOCK_COLUMNS) {
                let mut total = bias[column];
                for (step, place) in places.iter().enumerate() {
                    let tile = step * STEP_WEIGHTS + column / 16 * STEP_WEIGHTS / 2;
                    let mut halves = [0.0f32; 2];
                    for pair in 0..STEP / 2 {
                        for (odd, half) in halves.iter_mut().enumerate() {
                            let value = rows.values[row * rows.stride + place + 2 * pair + odd];
                            let weight = weights[tile + pair * 32 + column % 16 * 2 + odd];
                            *half = flush(widen(value).mul_add(widen(weight), *half));
                        }
                    }
                    total = flush(total + flush(halves[0] + halves[1]));
                }
                *sum = total;
            }
        }
    }
}
