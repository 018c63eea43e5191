//! Attention of one head over one window, which may be a whole map.
//!
//! The keys are laid out row of the window by row, each row filled up to whole vectors, so that all
//! keys of a vector lie in one row. What the relative positions add is then one value of the
//! query for the row and one vector for the columns, and the sums of the products simply begin
//! with them. Keys that fill up a row begin so low that the softmax makes nothing of them.

use std::sync::Arc;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::pointwise::make_exponentials;
use crate::vectors::{Vectors, rows};

/// Where sums of keys begin that are none. Twice of it is finite.
const NO_KEY: f32 = -1e30;

/// Groups of queries that go together: their products with all keys should stay in the cache.
const GROUPS_AT_ONCE: usize = 2;

/// All heads of maps of one size.
#[derive(Debug)]
pub struct Heads<'a> {
    /// Rows and columns of a map.
    pub map: [usize; 2],
    /// Rows and columns of a window.
    pub window: [usize; 2],
    /// Queries, keys and values of places of a window that lie outside the map.
    pub outside: &'a [f32],
    pub n_heads: usize,
    /// Values of a head.
    pub head: usize,
    /// Of rows and of columns.
    pub positions: Option<[RelativeTable; 2]>,
}

impl Heads<'_> {
    /// Windows down and across a map.
    pub fn n_windows(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.map[axis].div_ceil(self.window[axis]))
    }

    fn n_places(&self) -> usize {
        self.window[0] * self.window[1]
    }
}

/// One head in one window.
#[derive(Debug, Clone, Copy)]
struct Head<'a> {
    heads: &'a Heads<'a>,
    /// `[places, 3 * n_heads * head]`
    map: &'a [f32],
    /// The window, counted down and across.
    window: [usize; 2],
    index: usize,
}

/// What a place has for a head.
#[derive(Debug, Clone, Copy)]
enum Part {
    Query = 0,
    Key = 1,
    Value = 2,
}

impl<'a> Head<'a> {
    #[inline(always)]
    fn part(&self, place: usize, part: Part) -> &'a [f32] {
        let Heads { n_heads, head, .. } = *self.heads;
        let [rows, columns] = self.heads.map;
        let [height, length] = self.heads.window;
        let row = self.window[0] * height + place / length;
        let column = self.window[1] * length + place % length;
        let len = 3 * n_heads * head;
        let all = match row < rows && column < columns {
            true => &self.map[(row * columns + column) * len..][..len],
            false => self.heads.outside,
        };
        &all[(part as usize * n_heads + self.index) * head..][..head]
    }
}

/// Vectors of relative positions along one axis, for one side.
#[derive(Debug, Clone)]
pub struct RelativeTable {
    side: usize,
    /// `[head, 2 * side - 1]`, from the greatest difference to the least: what belongs to a query
    /// and all keys, in the order of the keys, stands together.
    turned: Arc<Vec<f32>>,
}

impl RelativeTable {
    /// Takes a `[2 * side - 1, head]` table, from the least difference to the greatest.
    pub fn new(table: &[f32], side: usize) -> Self {
        let len = 2 * side - 1;
        let head = table.len() / len;
        let turned = (0..head * len).map(|index| {
            let (channel, place) = (index / len, index % len);
            table[(len - 1 - place) * head + channel]
        });
        Self {
            side,
            turned: Arc::new(turned.collect()),
        }
    }

    /// Adds the products of a query at `place` with the vectors of all keys of the axis.
    #[inline(always)]
    fn add_products(&self, query: &[f32], place: usize, out: &mut [f32]) {
        let lines = self.turned.chunks_exact(2 * self.side - 1);
        let out = &mut out[..self.side];
        for (value, line) in query.iter().zip(lines) {
            let line = &line[self.side - 1 - place..][..self.side];
            for (out, of_key) in out.iter_mut().zip(line) {
                *out = value.mul_add(*of_key, *out);
            }
        }
    }
}

/// Keys and values of a head, packed for the products.
struct Packed {
    lanes: usize,
    /// For each pair of vectors of keys: for each channel the values of these keys.
    keys: Vec<f32>,
    /// For each pair of vectors of channels: for each key the values of these channels.
    values: Vec<f32>,
    /// For each vector its row and the column of its first key. A vector that only makes a pair
    /// whole lies in a row after the last.
    places: Vec<[usize; 2]>,
}

impl Packed {
    fn new(head: &Head<'_>, lanes: usize) -> Self {
        let pair = 2 * lanes;
        let len = head.heads.head;
        let [height, length] = head.heads.window;
        let per_row = length.div_ceil(lanes);
        let mut places: Vec<[usize; 2]> = (0..height * per_row)
            .map(|vector| [vector / per_row, vector % per_row * lanes])
            .collect();
        if places.len() % 2 == 1 {
            places.push([height, 0]);
        }
        let n_keys = places.len() * lanes;
        let mut keys = vec![0.0; n_keys * len];
        let mut values = vec![0.0; n_keys * len.next_multiple_of(pair)];
        for place in 0..height * length {
            let (row, column) = (place / length, place % length);
            let key = (row * per_row + column / lanes) * lanes + column % lanes;
            let panel = &mut keys[key / pair * pair * len + key % pair..];
            let of_key = head.part(place, Part::Key).iter();
            for (out, value) in panel.iter_mut().step_by(pair).zip(of_key) {
                *out = *value;
            }
            let of_key = head.part(place, Part::Value);
            for (panel, of_key) in of_key.chunks(pair).enumerate() {
                let out = &mut values[(panel * n_keys + key) * pair..];
                out[..of_key.len()].copy_from_slice(of_key);
            }
        }
        Self {
            lanes,
            keys,
            values,
            places,
        }
    }

    /// Keys, those that fill up included.
    fn n_keys(&self) -> usize {
        self.places.len() * self.lanes
    }
}

/// What a thread writes to while it works on some queries; used again for the next.
#[derive(Default)]
struct Scratch {
    /// Scaled.
    queries: Vec<f32>,
    /// For each query a value for each row, and one more for vectors in no row.
    by_row: Vec<f32>,
    /// For each query the values of all columns, up to whole vectors.
    by_column: Vec<f32>,
    /// For each query what it gives to each key.
    scores: Vec<f32>,
}

/// Attention of a head in a window of a `[places, 3 * n_heads * head]` map: `[places, head]`, the
/// places of the window.
pub fn attend_head(
    vectors: Vectors,
    heads: &Heads<'_>,
    map: &[f32],
    window: [usize; 2],
    index: usize,
) -> Vec<f32> {
    let head = Head {
        heads,
        map,
        window,
        index,
    };
    let packed = Packed::new(&head, vectors.lanes());
    let at_once = GROUPS_AT_ONCE * vectors.rows();
    let mut out = vec![0.0; heads.n_places() * heads.head];
    out.par_chunks_mut(at_once * heads.head)
        .enumerate()
        .for_each_init(Scratch::default, |scratch, (chunk, out)| {
            vectors.run(Queries {
                head,
                packed: &packed,
                first: chunk * at_once,
                scratch,
                out,
            });
        });
    out
}

/// Some queries of a head, those from `first` for which `out` has room.
struct Queries<'a> {
    head: Head<'a>,
    packed: &'a Packed,
    first: usize,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl WithSimd for Queries<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if rows::<S>() == 12 {
            self.attend::<S, 12>(simd);
        } else {
            self.attend::<S, 6>(simd);
        }
    }
}

impl Queries<'_> {
    #[inline(always)]
    fn attend<S: Simd, const R: usize>(&mut self, simd: S) {
        self.prepare::<R>();
        self.score::<S, R>(simd);
        let n_keys = self.packed.n_keys();
        let n_queries = self.out.len() / self.head.heads.head;
        for scores in self.scratch.scores.chunks_exact_mut(n_keys).take(n_queries) {
            let scale = 1.0 / make_exponentials(scores);
            for score in scores.iter_mut() {
                *score *= scale;
            }
        }
        self.gather::<S, R>(simd);
    }

    /// Scales queries and multiplies them with the tables. A last group of queries is filled up
    /// with zeros.
    #[inline(always)]
    fn prepare<const R: usize>(&mut self) {
        let [rows, columns] = self.head.heads.window;
        let head = self.head.heads.head;
        let scale = 1.0 / (head as f32).sqrt();
        let filled = columns.next_multiple_of(self.packed.lanes);
        let n_queries = (self.out.len() / head).next_multiple_of(R);
        let Scratch {
            queries,
            by_row,
            by_column,
            scores,
        } = &mut *self.scratch;
        for (buffer, len) in [
            (&mut *queries, head),
            (&mut *by_row, rows + 1),
            (&mut *by_column, filled),
        ] {
            buffer.clear();
            buffer.resize(n_queries * len, 0.0);
        }
        // All of it is written later.
        scores.resize(n_queries * self.packed.n_keys(), 0.0);
        let each = queries
            .chunks_exact_mut(head)
            .zip(by_row.chunks_exact_mut(rows + 1))
            .zip(by_column.chunks_exact_mut(filled))
            .take(self.out.len() / head);
        for (index, ((scaled, by_row), by_column)) in each.enumerate() {
            let place = self.first + index;
            let query = self.head.part(place, Part::Query);
            for (scaled, value) in scaled.iter_mut().zip(query) {
                *scaled = value * scale;
            }
            if let Some([of_rows, of_columns]) = &self.head.heads.positions {
                of_rows.add_products(query, place / columns, by_row);
                of_columns.add_products(query, place % columns, by_column);
            }
            by_row[rows] = NO_KEY;
            by_column[columns..].fill(NO_KEY);
        }
    }

    /// Products of all queries with all keys. A pair of vectors of keys stays in the first-level
    /// cache while all queries pass over it.
    #[inline(always)]
    fn score<S: Simd, const R: usize>(&mut self, simd: S) {
        let head = self.head.heads.head;
        let (lanes, n_keys) = (S::F32_LANES, self.packed.n_keys());
        let [rows, columns] = self.head.heads.window;
        let (n_rows, filled) = (rows + 1, columns.next_multiple_of(lanes));
        let Scratch {
            queries,
            by_row,
            by_column,
            scores,
        } = &mut *self.scratch;
        let panels = self.packed.keys.chunks_exact(2 * lanes * head);
        let places = self.packed.places.as_chunks::<2>().0;
        for (pair, (panel, places)) in panels.zip(places).enumerate() {
            let (panel, _) = S::as_simd_f32s(panel);
            for first in (0..queries.len() / head).step_by(R) {
                let rows: [&[f32]; R] = some_rows(&queries[first * head..], head);
                let mut sums = [[simd.splat_f32s(0.0); 2]; R];
                for (row, sums) in sums.iter_mut().enumerate() {
                    for (sum, [at_row, at_column]) in sums.iter_mut().zip(places) {
                        let of_row = by_row[(first + row) * n_rows + at_row];
                        let of_columns = &by_column[(first + row) * filled + at_column..];
                        let (of_columns, _) = S::as_simd_f32s(&of_columns[..lanes]);
                        *sum = simd.add_f32s(simd.splat_f32s(of_row), of_columns[0]);
                    }
                }
                accumulate(simd, rows, panel, &mut sums);
                for (row, sums) in sums.iter().enumerate() {
                    let out = &mut scores[(first + row) * n_keys + pair * 2 * lanes..];
                    let (out, _) = S::as_mut_simd_f32s(&mut out[..2 * lanes]);
                    out.copy_from_slice(sums);
                }
            }
        }
    }

    /// Sums of all values, each times its weight.
    #[inline(always)]
    fn gather<S: Simd, const R: usize>(&mut self, simd: S) {
        let head = self.head.heads.head;
        let (lanes, n_keys) = (S::F32_LANES, self.packed.n_keys());
        let scores = &self.scratch.scores;
        let n_queries = self.out.len() / head;
        let panels = self.packed.values.chunks_exact(2 * lanes * n_keys);
        for (panel, values) in panels.enumerate() {
            let (values, _) = S::as_simd_f32s(values);
            let channels = panel * 2 * lanes..head.min((panel + 1) * 2 * lanes);
            for first in (0..n_queries).step_by(R) {
                let rows: [&[f32]; R] = some_rows(&scores[first * n_keys..], n_keys);
                let mut sums = [[simd.splat_f32s(0.0); 2]; R];
                accumulate(simd, rows, values, &mut sums);
                for (row, sums) in sums.iter().enumerate().take(n_queries - first) {
                    let sums: &[f32] = pulp::bytemuck::cast_slice(sums.as_slice());
                    let out = &mut self.out[(first + row) * head..][..head];
                    out[channels.clone()].copy_from_slice(&sums[..channels.len()]);
                }
            }
        }
    }
}

/// Rows of a matrix that follow each other.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "a closure may fail to be inlined"
)]
fn some_rows<const R: usize>(values: &[f32], width: usize) -> [&[f32]; R] {
    let mut rows: [&[f32]; R] = [&[]; R];
    for index in 0..R {
        rows[index] = &values[index * width..][..width];
    }
    rows
}

/// Adds to the sums of each row the products of its values with as many pairs of vectors.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
fn accumulate<S: Simd, const R: usize>(
    simd: S,
    rows: [&[f32]; R],
    pairs: &[S::f32s],
    sums: &mut [[S::f32s; 2]; R],
) {
    // A copy of its own, which the compiler keeps in registers.
    let mut registers = *sums;
    for (index, pair) in pairs.as_chunks::<2>().0.iter().enumerate() {
        for row in 0..R {
            let value = simd.splat_f32s(rows[row][index]);
            for vector in 0..2 {
                registers[row][vector] =
                    simd.mul_add_e_f32s(value, pair[vector], registers[row][vector]);
            }
        }
    }
    *sums = registers;
}
