//! Products of many rows with a matrix of weights, which is packed once when it is loaded.

use burn::tensor::{DType, Tensor, TensorData};
use quire_kernels::{Activation, Ending, RowView, Vectors};
use rayon::prelude::*;

use super::IN_F32;

/// Rows that pass over the matrix together, at most: they and their results stay in the
/// second-level cache, and the matrix is read the less often the more they are.
const MAX_TILE: usize = 96;

/// Rows that pass over it at least: a whole number of those that a product takes at once.
const MIN_TILE: usize = 12;

/// Tiles for each thread, at least, if there are so many rows: threads should end together.
const TILES_OF_A_THREAD: usize = 3;

/// Weights in the order in which products read them, and a bias.
#[derive(Debug)]
pub(in crate::vision) struct PackedMatrix(quire_kernels::PackedMatrix);

impl PackedMatrix {
    /// Takes `[out, in]` weights.
    pub(in crate::vision) fn new(
        weights: &[f32],
        [n_inputs, n_outputs]: [usize; 2],
        bias: Option<&[f32]>,
    ) -> Self {
        let weight = |input: usize, output: usize| weights[output * n_inputs + input];
        let bias = |output: usize| bias.map_or(0.0, |bias| bias[output]);
        let shape = [n_inputs, n_outputs];
        let matrix = quire_kernels::PackedMatrix::new(
            Vectors::chosen(),
            shape,
            weight,
            bias,
            quire_kernels::Rounding::None,
        );
        Self(matrix)
    }

    pub(in crate::vision) fn bias(&self) -> &[f32] {
        self.0.bias()
    }

    /// The product, then an activation.
    ///
    /// # Shapes
    /// - `input`: `[.., in]`
    /// - output: `[.., out]`
    pub(in crate::vision) fn forward<const D: usize>(
        &self,
        input: Tensor<D>,
        activation: Option<Activation>,
    ) -> Tensor<D> {
        let mut dims = input.dims();
        dims[D - 1] = self.0.n_outputs();
        let empty = vec![0.0f32; dims.iter().product()];
        let activation = activation.unwrap_or(Activation::Identity);
        self.write(input, TensorData::new(empty, dims), activation.into())
    }

    /// The product, added to `sum`, in place if nobody else holds it.
    ///
    /// # Shapes
    /// - `input`: `[.., in]`
    /// - `sum` and output: `[.., out]`
    pub(in crate::vision) fn forward_onto<const D: usize>(
        &self,
        sum: Tensor<D>,
        input: Tensor<D>,
    ) -> Tensor<D> {
        self.write(input, sum.into_data(), Ending::ADDED)
    }

    fn write<const D: usize>(
        &self,
        input: Tensor<D>,
        mut output: TensorData,
        ending: Ending,
    ) -> Tensor<D> {
        let device = input.device();
        let input = input.into_data();
        let rows = input.as_slice::<f32>().expect(IN_F32);
        let out = output.as_mut_slice::<f32>().expect(IN_F32);
        self.multiply(rows, ending, out);
        Tensor::from_data(output, (&device, DType::F32))
    }

    fn multiply(&self, rows: &[f32], ending: Ending, out: &mut [f32]) {
        let [n_inputs, n_outputs] = [self.0.n_inputs(), self.0.n_outputs()];
        assert_eq!(
            rows.len() * n_outputs,
            out.len() * n_inputs,
            "as many rows of inputs as of outputs"
        );
        let n_rows = rows.len() / n_inputs;
        let tiles = TILES_OF_A_THREAD * rayon::current_num_threads();
        let tile = n_rows
            .div_ceil(tiles)
            .next_multiple_of(MIN_TILE)
            .clamp(MIN_TILE, MAX_TILE);
        out.par_chunks_mut(tile * n_outputs)
            .zip(rows.par_chunks(tile * n_inputs))
            .for_each(|(out, rows)| {
                let n_rows = rows.len() / n_inputs;
                self.0
                    .multiply(RowView::whole(rows, n_inputs), n_rows, ending, out);
            });
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Values from -1 to 1 that differ from place to place.
    fn value(index: usize) -> f32 {
        (index * 7919 % 2003) as f32 / 1001.0 - 1.0
    }

    fn check(n_rows: usize, n_inputs: usize, n_outputs: usize) {
        let weights: Vec<f32> = (0..n_inputs * n_outputs).map(value).collect();
        let bias: Vec<f32> = (0..n_outputs).map(|index| value(index + 5)).collect();
        let matrix = PackedMatrix::new(&weights, [n_inputs, n_outputs], Some(&bias));
        let rows: Vec<f32> = (0..n_rows * n_inputs)
            .map(|index| value(3 * index))
            .collect();
        let tensor = |values: &[f32], width| -> Tensor<2> {
            let data = TensorData::new(values.to_vec(), [n_rows, width]);
            Tensor::from_data(data, &Device::flex())
        };
        let before: Vec<f32> = (0..n_rows * n_outputs).map(value).collect();
        let sum = tensor(&before, n_outputs);
        let alone = matrix.forward(tensor(&rows, n_inputs), None);
        let added = matrix.forward_onto(sum, tensor(&rows, n_inputs));
        for (found, before) in [(alone, None), (added, Some(&before))] {
            let found = found.into_data();
            let found = found.as_slice::<f32>().unwrap();
            assert_eq!(found.len(), n_rows * n_outputs);
            for (index, found) in found.iter().enumerate() {
                let (row, output) = (index / n_outputs, index % n_outputs);
                let row = &rows[row * n_inputs..][..n_inputs];
                let weights = &weights[output * n_inputs..][..n_inputs];
                let sum: f32 = row.iter().zip(weights).map(|(a, b)| a * b).sum();
                let wanted = sum + bias[output] + before.map_or(0.0, |before| before[index]);
                assert!((found - wanted).abs() < 1e-3, "{found} for {wanted}");
            }
        }
    }

    #[test]
    fn product_is_right_for_sizes_that_fit_no_vector() {
        for n_rows in [1, 5, 13, 31, 200] {
            for (n_inputs, n_outputs) in [(1, 1), (9, 12), (24, 32), (97, 33), (48, 144)] {
                check(n_rows, n_inputs, n_outputs);
            }
        }
    }
}
