//! Some positions of some pages through all layers.

use quire_kernels::{Attend, Gate, PAGE, Product, Rows, attend, gate, multiply, rms_norm};

use super::network::{Gated, Layer, Mlp};
use super::{HostDecoder, data};
use crate::decoder::Slot;
use crate::stages::Stages;

/// Queries of one head that a thread takes at a time.
const QUERIES: usize = 32;

/// Positions of one page that follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) slot: Slot,
    pub(super) n: usize,
    /// Position of the first.
    pub(super) start: usize,
    /// Whether anybody asks what follows the last.
    pub(super) is_wanted: bool,
}

impl HostDecoder {
    /// Takes rows through all layers and the last norm. The cache has room for them.
    ///
    /// # Shapes
    /// - `hidden`: `[n, hidden]`, the rows of `pieces` one after the other
    /// - gives `[n, hidden]` when `gives_all`, else the last row of each piece that is wanted
    pub(super) fn forward(
        &mut self,
        mut hidden: Rows,
        pieces: &[Piece],
        gives_all: bool,
        stages: &mut Stages,
    ) -> Rows {
        let mut pieces = pieces.to_vec();
        if hidden.n() == 0 {
            return hidden;
        }
        let n_layers = self.network.layers.len();
        for layer in 0..n_layers {
            let is_last = layer + 1 == n_layers;
            let attended = self.attention(layer, &mut hidden, &mut pieces, is_last && !gives_all);
            if hidden.n() == 0 {
                // A part of a prompt leaves its keys and values, and nobody asks for more.
                break;
            }
            self.add_product(&attended, layer, &mut hidden);
            self.mlp(layer, &mut hidden, stages);
            stages.keep_data(&format!("layer_{layer}"), || data(&hidden));
        }
        let epsilon = self.network.config.epsilon as f32;
        let normed = rms_norm(self.vectors, &hidden, &self.network.norm, epsilon);
        stages.keep_data("final_norm", || data(&normed));
        normed
    }

    /// Keys and values of all rows go to the cache. Behind the last layer only rows that are wanted
    /// remain.
    fn attention(
        &mut self,
        layer: usize,
        hidden: &mut Rows,
        pieces: &mut Vec<Piece>,
        only_wanted: bool,
    ) -> Rows {
        let Layer {
            input_norm, qkv, ..
        } = &self.network.layers[layer];
        let config = &self.network.config;
        let normed = rms_norm(self.vectors, hidden, input_norm, config.epsilon as f32);
        let mut results = [0, 1, 2].map(|_| Rows::zeros(normed.n(), config.hidden));
        let products = qkv.iter().zip(&mut results);
        let products = products.map(|(matrix, out)| Product {
            rows: &normed,
            chosen: None,
            matrix,
            out,
            adds: false,
        });
        multiply(self.vectors, products.collect());
        self.bytes_read += qkv.iter().map(|of| of.bytes().len() as u64).sum::<u64>();
        let [mut queries, mut keys, values] = results;
        let turn = Turn::new(config.head_size(), config.rope_theta);
        turn.all(&mut queries, pieces);
        turn.all(&mut keys, pieces);
        let mut row = 0;
        for piece in pieces.iter() {
            for position in piece.start..piece.start + piece.n {
                let kv = [keys.row(row), values.row(row)];
                self.cache.write(piece.slot, layer, position, kv);
                row += 1;
            }
        }
        if only_wanted {
            let wanted = last_rows(pieces);
            *hidden = hidden.select(&wanted);
            queries = queries.select(&wanted);
        }
        self.look_back(layer, &queries, pieces)
    }

    /// Lets every query see its page up to its own position.
    fn look_back(&mut self, layer: usize, queries: &Rows, pieces: &[Piece]) -> Rows {
        let (n_heads, head_size) = (self.network.config.n_heads, self.network.config.head_size());
        let mut out = Rows::zeros(queries.n(), queries.width());
        let mut tasks: Vec<Attend<'_>> = Vec::new();
        let mut rows = out.iter_mut().enumerate();
        for piece in pieces {
            self.bytes_read += self.cache.layer_bytes(piece.start + piece.n);
            for first in (0..piece.n).step_by(QUERIES) {
                let n = QUERIES.min(piece.n - first);
                let start = piece.start + first;
                let first_task = tasks.len();
                tasks.extend((0..n_heads).map(|head| Attend {
                    keys: self.cache.run(piece.slot, layer, 0, head, start + n),
                    values: self.cache.run(piece.slot, layer, 1, head, start + n),
                    queries: Vec::with_capacity(n),
                    seen: (start + 1..=start + n).collect(),
                    out: Vec::with_capacity(n),
                }));
                for (row, out) in rows.by_ref().take(n) {
                    let queries = queries.row(row).chunks_exact(head_size);
                    let heads = queries.zip(out.chunks_exact_mut(head_size));
                    for (task, (query, out)) in tasks[first_task..].iter_mut().zip(heads) {
                        task.queries.push(query);
                        task.out.push(out);
                    }
                }
            }
        }
        drop(rows);
        let scale = 1.0 / (head_size as f32).sqrt();
        attend(self.vectors, self.cache.stored(), scale, tasks);
        out
    }

    fn add_product(&mut self, attended: &Rows, layer: usize, hidden: &mut Rows) {
        let matrix = &self.network.layers[layer].output;
        self.bytes_read += matrix.bytes().len() as u64;
        let product = Product {
            rows: attended,
            chosen: None,
            matrix,
            out: hidden,
            adds: true,
        };
        multiply(self.vectors, vec![product]);
    }

    fn mlp(&mut self, layer: usize, hidden: &mut Rows, stages: &mut Stages) {
        let Layer { mlp_norm, mlp, .. } = &self.network.layers[layer];
        let epsilon = self.network.config.epsilon as f32;
        let normed = rms_norm(self.vectors, hidden, mlp_norm, epsilon);
        match mlp {
            Mlp::Dense(gated) => {
                self.dense(gated, &normed, hidden);
                self.bytes_read += gated.bytes();
            }
            Mlp::Experts(experts) => {
                let name = format!("router_{layer}");
                let n_chosen = self.network.config.experts_per_token;
                self.bytes_read +=
                    experts.add_to(self.vectors, n_chosen, &normed, hidden, (&name, stages));
            }
        }
    }

    fn dense(&self, gated: &Gated, rows: &Rows, hidden: &mut Rows) {
        let mut middle = Rows::zeros(rows.n(), gated.gate.n_rows());
        let of = Gate {
            rows,
            chosen: None,
            gate: &gated.gate,
            up: &gated.up,
            out: &mut middle,
        };
        gate(self.vectors, vec![of]);
        let product = Product {
            rows: &middle,
            chosen: None,
            matrix: &gated.down,
            out: hidden,
            adds: true,
        };
        multiply(self.vectors, vec![product]);
    }
}

/// Indices of the last rows of those pieces that are wanted, which become all there is.
fn last_rows(pieces: &mut Vec<Piece>) -> Vec<usize> {
    let mut wanted = Vec::new();
    let mut end = 0;
    for piece in pieces.iter_mut() {
        end += piece.n;
        if piece.is_wanted {
            wanted.push(end - 1);
        }
        piece.start += piece.n - 1;
        piece.n = 1;
    }
    pieces.retain(|piece| piece.is_wanted);
    wanted
}

/// Rotary position embedding: value `k` of a head is turned together with `k + half`.
struct Turn {
    head_size: usize,
    /// Angle from one position to the next, for each pair. In f32, like the angles: the published
    /// model was trained with what that rounds to.
    steps: Vec<f32>,
}

impl Turn {
    fn new(head_size: usize, theta: f64) -> Self {
        let pairs = (0..head_size).step_by(2);
        let power = |index: usize| (theta as f32).powf(index as f32 / head_size as f32);
        Self {
            head_size,
            steps: pairs.map(|index| 1.0 / power(index)).collect(),
        }
    }

    fn all(&self, rows: &mut Rows, pieces: &[Piece]) {
        let positions = pieces.iter().flat_map(|of| of.start..of.start + of.n);
        for (position, row) in positions.zip(rows.iter_mut()) {
            let angles: Vec<(f32, f32)> = self
                .steps
                .iter()
                .map(|step| (position as f32 * step).sin_cos())
                .collect();
            for head in row.chunks_exact_mut(self.head_size) {
                let (first, second) = head.split_at_mut(angles.len());
                for ((first, second), (sin, cos)) in first.iter_mut().zip(second).zip(&angles) {
                    (*first, *second) =
                        (*first * cos - *second * sin, *second * cos + *first * sin);
                }
            }
        }
    }
}

const _: () = assert!(QUERIES <= PAGE, "a task's queries lie in two pages at most");
