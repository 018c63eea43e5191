//! Tokens before experts: which rows each product has, without the host knowing who chose what.
//!
//! Three ways, by how many tokens there are (numbers of the published model: 64 experts, six for
//! each token):
//!
//! - **copied**, for up to three tokens: the matrices of each chosen expert are copied out, one row
//!   for each. Reading, writing and reading again eighteen experts costs less than reading 64.
//! - **whole**, for up to as many tokens as experts: every token is a row of every expert, where
//!   the matrices lie. Sixteen tokens already touch fifty of the experts, so all matrices are read
//!   anyway, once; that bounds the time, and the products that nobody looks at ride along.
//! - **grouped**, beyond: tokens are grouped by expert in blocks of a fixed number of rows, at
//!   least as many as an expert gets on average. However tokens choose, they fit in twice as many
//!   blocks as there are experts; each block's matrices are copied out. Rows computed for nothing
//!   are at most twice those wanted, where every token through every expert would be ten times.
//!
//! The alternative for grouping, asking the device how many tokens each expert has, gives exact
//! products but stops the device in each of eleven layers.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor};

use super::count;

/// How tokens are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Copied,
    Whole,
    Grouped { rows: usize },
}

impl Way {
    /// The best for so many tokens.
    pub(super) fn of(n: usize, per_token: usize, n_experts: usize) -> Self {
        // A copy is read, written and read again.
        if 3 * n * per_token <= n_experts {
            return Self::Copied;
        }
        if n <= n_experts {
            return Self::Whole;
        }
        let of_an_expert = (n.min(super::TOKENS) * per_token).div_ceil(n_experts);
        Self::Grouped {
            rows: of_an_expert.next_power_of_two(),
        }
    }
}

/// Rows for products, and where each token's outputs will be among theirs.
#[derive(Debug)]
pub(super) struct Arrangement {
    rows: Rows,
    /// `[blocks]`, the expert of each block; none where block and expert are the same.
    pub(super) experts: Option<Tensor<1, Int>>,
    /// `[n * per token]`, rows of the outputs, token by token.
    pub(super) places: Tensor<1, Int>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
enum Rows {
    /// All tokens in every block.
    All { n_blocks: usize },
    /// `[blocks * rows]`, a token each.
    Tokens {
        tokens: Tensor<1, Int>,
        n_blocks: usize,
    },
}

impl Arrangement {
    /// Arranges tokens by the experts they chose, `[n, per token]`.
    pub(super) fn new(way: Way, experts: &Tensor<2, Int>, n_experts: usize) -> Self {
        match way {
            Way::Copied => Self::copied(experts),
            Way::Whole => Self::whole(experts, n_experts),
            Way::Grouped { rows } => Self::grouped(experts, n_experts, rows),
        }
    }

    /// Tokens as rows of their blocks.
    ///
    /// # Shapes
    /// - `input`: `[n, hidden]`
    /// - output: `[blocks, rows, hidden]`
    pub(super) fn rows(&self, input: Tensor<2>) -> Tensor<3> {
        let [n, hidden] = input.dims();
        match &self.rows {
            Rows::All { n_blocks } => input.unsqueeze::<3>().expand([*n_blocks, n, hidden]),
            Rows::Tokens { tokens, n_blocks } => {
                let n_rows = tokens.dims()[0] / n_blocks;
                let rows = input.select(0, tokens.clone());
                rows.reshape([*n_blocks, n_rows, hidden])
            }
        }
    }

    fn copied(experts: &Tensor<2, Int>) -> Self {
        let [n, per_token] = experts.dims();
        let n_blocks = n * per_token;
        Self {
            rows: Rows::Tokens {
                tokens: owners(n, per_token, &experts.device()),
                n_blocks,
            },
            experts: Some(experts.clone().reshape([n_blocks])),
            places: Tensor::arange(0..n_blocks as i64, &experts.device()),
        }
    }

    fn whole(experts: &Tensor<2, Int>, n_experts: usize) -> Self {
        let [n, per_token] = experts.dims();
        let chosen = experts.clone().reshape([n * per_token]);
        Self {
            rows: Rows::All {
                n_blocks: n_experts,
            },
            experts: None,
            places: chosen * (n as i32) + owners(n, per_token, &experts.device()),
        }
    }

    /// Counting is done in f32: sums and products that every device has, exact far beyond the
    /// numbers here.
    fn grouped(experts: &Tensor<2, Int>, n_experts: usize, n_rows: usize) -> Self {
        let [n, per_token] = experts.dims();
        let device = experts.device();
        let choices = choices(experts, n_experts);
        // For each token and expert, how many tokens before it chose the same.
        let earlier = Tensor::<2>::ones([n, n], (&device, DType::F32)).tril(-1);
        let earlier = earlier.matmul(choices.clone());
        // For each expert, how many blocks it needs, and where they end.
        let sizes = choices.sum_dim(0);
        let blocks = ((sizes + (n_rows - 1) as f32) / n_rows as f32).floor();
        let up_to = Tensor::<2>::ones([n_experts, n_experts], (&device, DType::F32)).triu(0);
        let ends = blocks.clone().matmul(up_to);
        let starts = ends.clone() - blocks;
        let places = (earlier + starts * n_rows as f32)
            .gather(1, experts.clone())
            .int()
            .reshape([n * per_token]);
        let n_blocks = most_blocks(n * per_token, n_experts, n_rows);
        Self {
            rows: Rows::Tokens {
                tokens: residents(&places, n, per_token, n_blocks * n_rows),
                n_blocks,
            },
            experts: Some(experts_of_blocks(ends, n_blocks)),
            places,
        }
    }
}

/// In how many blocks so many rows fit, however they are spread over experts.
fn most_blocks(n_chosen: usize, n_experts: usize, n_rows: usize) -> usize {
    (n_chosen / n_rows + n_experts).min(n_chosen)
}

/// The token behind each of its choices: `0, 0, 1, 1, ...`.
fn owners(n: usize, per_token: usize, device: &Device) -> Tensor<1, Int> {
    let tokens = Tensor::<1, Int>::arange(0..n as i64, device);
    tokens
        .unsqueeze_dim::<2>(1)
        .repeat_dim(1, per_token)
        .reshape([n * per_token])
}

/// `[n, experts]`, one where a token chose an expert.
fn choices(experts: &Tensor<2, Int>, n_experts: usize) -> Tensor<2> {
    let [n, per_token] = experts.dims();
    let shape = [n, per_token, n_experts];
    let all = Tensor::<1, Int>::arange(0..n_experts as i64, &experts.device());
    let all = all.reshape([1, 1, n_experts]).expand(shape);
    let chosen = experts.clone().unsqueeze_dim::<3>(2).expand(shape);
    let hits = chosen.equal(all).float().cast(DType::F32);
    hits.sum_dim(1).reshape([n, n_experts])
}

/// The token in each row of the blocks; the first in rows that nobody needs.
fn residents(places: &Tensor<1, Int>, n: usize, per_token: usize, n_rows: usize) -> Tensor<1, Int> {
    let device = places.device();
    let tokens = owners(n, per_token, &device).float().cast(DType::F32);
    Tensor::<1>::zeros([n_rows], (&device, DType::F32))
        .scatter_nd::<2, 1>(
            places.clone().unsqueeze_dim(1),
            tokens,
            IndexingUpdateOp::Assign,
        )
        .int()
}

/// The expert of each block, from where each expert's blocks end, `[1, experts]`; any for blocks
/// past the last end.
fn experts_of_blocks(ends: Tensor<2>, n_blocks: usize) -> Tensor<1, Int> {
    let [_, n_experts] = ends.dims();
    let shape = [n_blocks, n_experts];
    let blocks = count(n_blocks, &ends.device())
        .unsqueeze_dim::<2>(1)
        .expand(shape);
    // A block belongs to the expert after all those whose blocks end before it.
    let ended = blocks.greater_equal(ends.expand(shape)).float();
    ended
        .cast(DType::F32)
        .sum_dim(1)
        .clamp_max((n_experts - 1) as f32)
        .int()
        .reshape([n_blocks])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn way_follows_the_number_of_tokens() {
        assert_eq!(Way::of(1, 6, 64), Way::Copied);
        assert_eq!(Way::of(3, 6, 64), Way::Copied);
        assert_eq!(Way::of(4, 6, 64), Way::Whole);
        assert_eq!(Way::of(64, 6, 64), Way::Whole);
        assert_eq!(Way::of(65, 6, 64), Way::Grouped { rows: 8 });
        assert_eq!(Way::of(1000, 6, 64), Way::Grouped { rows: 128 });
        assert_eq!(Way::of(8000, 6, 64), Way::Grouped { rows: 128 });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn grouped_token_stands_in_a_row_of_its_own_before_its_expert(
            first in proptest::collection::vec(0usize..7, 1..40),
            apart in 1usize..7,
            rows in 0u32..5,
        ) {
            // Two different experts for each token.
            let n_experts = 7;
            let n_rows = 1 << rows;
            let chosen: Vec<i32> = first
                .iter()
                .flat_map(|&expert| [expert as i32, ((expert + apart) % n_experts) as i32])
                .collect();
            let n = first.len();
            let device = Device::flex();
            let experts = Tensor::<1, Int>::from_ints(chosen.as_slice(), &device);
            let arranged = Arrangement::grouped(&experts.reshape([n, 2]), n_experts, n_rows);
            let numbers = |tensor: &Tensor<1, Int>| {
                tensor.to_data_as::<i64>().try_into_vec::<i64>().unwrap()
            };
            let Rows::Tokens { tokens, n_blocks } = &arranged.rows else {
                panic!("rows hold tokens");
            };
            let (tokens, places) = (numbers(tokens), numbers(&arranged.places));
            let of_blocks = numbers(arranged.experts.as_ref().unwrap());
            prop_assert_eq!(tokens.len(), n_blocks * n_rows);
            prop_assert_eq!(of_blocks.len(), *n_blocks);
            let mut seen = std::collections::BTreeSet::new();
            for (choice, &place) in places.iter().enumerate() {
                let place = usize::try_from(place).unwrap();
                prop_assert!(seen.insert(place), "a row was given twice");
                prop_assert_eq!(tokens[place] as usize, choice / 2);
                prop_assert_eq!(of_blocks[place / n_rows] as i32, chosen[choice]);
            }
        }
    }
}
