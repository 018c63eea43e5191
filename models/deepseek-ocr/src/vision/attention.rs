//! Softmax attention with a bound on the memory that its weights take.

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Tensor};

/// Bytes of products of queries with keys that exist at once, in f32. All of a view of 1024 in
/// SAM's global blocks would be 805 MB, and as much again for their softmax.
const SCORE_BYTES: usize = 128 << 20;

/// Lets every query look at the keys and gives what it finds in the values.
///
/// # Shapes
/// - `queries`: `[b, h, n, d]`, scaled already
/// - `keys`: `[b, h, m, d]`
/// - `values`: `[b, h, m, e]`
/// - `bias`, added before the softmax: `[1, 1, n, m]`, in f32
/// - output: `[b, h, n, e]`
pub(super) fn attend(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    bias: Option<Tensor<4>>,
) -> Tensor<4> {
    attend_within(SCORE_BYTES, queries, keys, values, bias)
}

fn attend_within(
    bytes: usize,
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    bias: Option<Tensor<4>>,
) -> Tensor<4> {
    let [b, h, n, _] = queries.dims();
    let [_, _, m, _] = keys.dims();
    let keys = keys.swap_dims(2, 3);
    let at_once = rows_at_once(b * h, n, m, bytes);
    let piece = |first: usize| {
        let rows = first..n.min(first + at_once);
        let queries = queries.clone().slice_dim(2, rows.clone());
        let bias = bias.clone().map(|bias| bias.slice_dim(2, rows));
        weigh(queries, keys.clone(), bias).matmul(values.clone())
    };
    if at_once == n {
        return piece(0);
    }
    Tensor::cat((0..n).step_by(at_once).map(piece).collect(), 2)
}

/// Weights of the keys for each query. The softmax is in f32 whatever the type of the products.
fn weigh(queries: Tensor<4>, turned_keys: Tensor<4>, bias: Option<Tensor<4>>) -> Tensor<4> {
    let dtype = queries.dtype();
    let scores = queries.matmul(turned_keys).cast(DType::F32);
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    softmax(scores, 3).cast(dtype)
}

/// Rows of queries whose products with all keys fit into `bytes`; at least one.
fn rows_at_once(n_heads: usize, n_queries: usize, n_keys: usize, bytes: usize) -> usize {
    let row = n_heads * n_keys * size_of::<f32>();
    (bytes / row.max(1)).clamp(1, n_queries.max(1))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn noise(dims: [usize; 4], seed: usize) -> Tensor<4> {
        let len: usize = dims.iter().product();
        let values: Vec<f32> = (0..len)
            .map(|index| ((index + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0)
            .collect();
        Tensor::from_data(TensorData::new(values, dims), &Device::flex())
    }

    #[test]
    fn global_blocks_of_a_large_view_are_bounded() {
        let rows = rows_at_once(12, 64 * 64, 64 * 64, SCORE_BYTES);
        assert!((1..4096).contains(&rows));
        assert!(rows * 12 * 4096 * 4 <= SCORE_BYTES);
        assert_eq!(rows_at_once(1 << 20, 10, 1 << 20, SCORE_BYTES), 1);
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let [n, m] = [7, 9];
        let (queries, keys) = (noise([2, 3, n, 4], 1), noise([2, 3, m, 4], 2));
        let (values, bias) = (noise([2, 3, m, 5], 3), noise([1, 1, n, m], 4));
        let attended = |bytes| {
            let (queries, keys) = (queries.clone(), keys.clone());
            let (values, bias) = (values.clone(), bias.clone());
            attend_within(bytes, queries, keys, values, Some(bias)).into_data()
        };
        let whole = attended(SCORE_BYTES);
        // Rows one by one, and rows in threes.
        for bytes in [0, 3 * 2 * 3 * m * 4] {
            let pieces = attended(bytes);
            let pairs = whole.as_slice::<f32>().unwrap().iter();
            for (whole, piece) in pairs.zip(pieces.as_slice::<f32>().unwrap()) {
                assert!((whole - piece).abs() < 1e-5);
            }
        }
    }
}
