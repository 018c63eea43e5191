//! A layer of experts: each row goes through a few of many, and all rows through the shared one.

use burn::tensor::TensorData;
use quire_kernels::{Gate, Product, Rows, Vectors, gate, multiply, softmax};
use rayon::prelude::*;

use super::data;
use super::network::{Experts, Gated};
use crate::stages::Stages;

/// One expert of one row.
#[derive(Debug, Clone, Copy)]
struct Choice {
    expert: usize,
    weight: f32,
    /// Which of the expert's rows it is.
    place: usize,
}

/// Rows of one expert.
struct Group<'a> {
    of: &'a Gated,
    /// All rows where none are named.
    rows: Option<&'a [usize]>,
    middle: Rows,
    result: Rows,
}

impl Experts {
    /// Adds what the experts make of `rows` to `hidden` and gives the bytes of weights it took.
    /// Every expert that any row chose is read once.
    ///
    /// # Shapes
    /// - `rows`, `hidden`: `[n, hidden]`
    pub(super) fn add_to(
        &self,
        vectors: Vectors,
        n_chosen: usize,
        rows: &Rows,
        hidden: &mut Rows,
        (name, stages): (&str, &mut Stages),
    ) -> u64 {
        let choices = self.choose(vectors, n_chosen, rows, (name, stages));
        let mut members = vec![Vec::new(); self.routed.len()];
        for (row, choices) in choices.iter().enumerate() {
            for choice in choices {
                members[choice.expert].push(row);
            }
        }
        let groups = self.run(vectors, rows, &members);
        // Results of an expert are found by its number.
        let mut found = vec![None; self.routed.len()];
        let mut with_rows = groups.iter();
        for (expert, members) in members.iter().enumerate() {
            if !members.is_empty() {
                found[expert] = with_rows.next().map(|group| &group.result);
            }
        }
        let shared = with_rows.next().map(|group| &group.result);
        hidden.par_iter_mut().enumerate().for_each(|(row, hidden)| {
            let mut sum = vec![0.0f32; hidden.len()];
            // In the order of choice, so that company changes nothing.
            for choice in &choices[row] {
                let result = found[choice.expert].map_or(&[][..], |of| of.row(choice.place));
                for (sum, value) in sum.iter_mut().zip(result) {
                    *sum += choice.weight * value;
                }
            }
            if let Some(shared) = shared {
                let shared = shared.row(row).iter();
                sum.iter_mut()
                    .zip(shared)
                    .for_each(|(sum, value)| *sum += value);
            }
            hidden
                .iter_mut()
                .zip(sum)
                .for_each(|(hidden, sum)| *hidden += sum);
        });
        let experts = groups.iter().map(|group| group.of.bytes());
        experts.sum::<u64>() + self.router.bytes().len() as u64
    }

    /// The likeliest experts of each row by falling probability, which is their weight as it is:
    /// the published model does not make them sum to one.
    fn choose(
        &self,
        vectors: Vectors,
        n_chosen: usize,
        rows: &Rows,
        (name, stages): (&str, &mut Stages),
    ) -> Vec<Vec<Choice>> {
        let mut scores = Rows::zeros(rows.n(), self.routed.len());
        let product = Product {
            rows,
            chosen: None,
            matrix: &self.router,
            out: &mut scores,
            adds: false,
        };
        multiply(vectors, vec![product]);
        softmax(vectors, &mut scores);
        let mut n_rows = vec![0; self.routed.len()];
        let choices: Vec<Vec<Choice>> = scores
            .iter()
            .map(|scores| {
                let mut order: Vec<usize> = (0..scores.len()).collect();
                order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
                let chosen = order.into_iter().take(n_chosen).map(|expert| {
                    n_rows[expert] += 1;
                    Choice {
                        expert,
                        weight: scores[expert],
                        place: n_rows[expert] - 1,
                    }
                });
                chosen.collect()
            })
            .collect();
        keep(&scores, &choices, name, stages);
        choices
    }

    /// The experts that have rows, by number, then the shared one.
    fn run<'a>(
        &'a self,
        vectors: Vectors,
        rows: &Rows,
        members: &'a [Vec<usize>],
    ) -> Vec<Group<'a>> {
        let routed = self.routed.iter().zip(members);
        let routed = routed.filter(|(_, members)| !members.is_empty());
        let routed = routed.map(|(of, members)| (of, Some(members.as_slice())));
        let shared = self.shared.iter().map(|of| (of, None));
        let mut groups: Vec<Group<'a>> = routed
            .chain(shared)
            .map(|(of, chosen)| {
                let n = chosen.map_or(rows.n(), <[usize]>::len);
                Group {
                    of,
                    rows: chosen,
                    middle: Rows::zeros(n, of.gate.n_rows()),
                    result: Rows::zeros(n, rows.width()),
                }
            })
            .collect();
        let gates = groups.iter_mut().map(|group| Gate {
            rows,
            chosen: group.rows,
            gate: &group.of.gate,
            up: &group.of.up,
            out: &mut group.middle,
        });
        gate(vectors, gates.collect());
        let downs = groups.iter_mut().map(|group| Product {
            rows: &group.middle,
            chosen: None,
            matrix: &group.of.down,
            out: &mut group.result,
            adds: false,
        });
        multiply(vectors, downs.collect());
        groups
    }
}

fn keep(scores: &Rows, choices: &[Vec<Choice>], name: &str, stages: &mut Stages) {
    let shape = [choices.len(), choices.first().map_or(0, Vec::len)];
    stages.keep_data(&format!("{name}.scores"), || data(scores));
    stages.keep_data(&format!("{name}.topk_idx"), || {
        let experts = choices.iter().flatten().map(|of| of.expert as i64);
        TensorData::new(experts.collect::<Vec<_>>(), shape)
    });
    stages.keep_data(&format!("{name}.topk_weight"), || {
        let weights = choices.iter().flatten().map(|of| of.weight);
        TensorData::new(weights.collect::<Vec<_>>(), shape)
    });
}
