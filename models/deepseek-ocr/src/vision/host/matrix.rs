//! Products of many rows with a matrix of weights, which is packed once when it is loaded.

use std::array::from_fn;
use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::loops::run;
use super::product::{accumulate, sizes};
use super::{IN_F32, activation_of};
use crate::vision::layers::Activation;

/// Rows that pass over the matrix together, at most: they and their results stay in the
/// second-level cache, and the matrix is read the less often the more they are.
const MAX_TILE: usize = 96;

/// Tiles for each thread, at least, if there are so many rows: threads should end together.
const TILES_OF_A_THREAD: usize = 3;

/// Weights in the order in which products read them, and a bias.
#[derive(Debug)]
pub(in crate::vision) struct PackedMatrix {
    n_inputs: usize,
    n_outputs: usize,
    /// For each pair of vectors of outputs: for each input the weights of these outputs.
    panels: Vec<f32>,
    /// Zeros without one.
    bias: Vec<f32>,
}

impl PackedMatrix {
    /// Takes `[out, in]` weights.
    pub(in crate::vision) fn new(
        weights: &[f32],
        [n_inputs, n_outputs]: [usize; 2],
        bias: Option<Vec<f32>>,
    ) -> Self {
        let pair = 2 * sizes().lanes;
        let mut panels = vec![0.0; n_inputs * n_outputs.next_multiple_of(pair)];
        panels
            .par_chunks_mut(n_inputs * pair)
            .zip(weights.par_chunks(n_inputs * pair))
            .for_each(|(panel, rows)| {
                for (output, row) in rows.chunks_exact(n_inputs).enumerate() {
                    let places = panel[output..].iter_mut().step_by(pair);
                    places.zip(row).for_each(|(place, weight)| *place = *weight);
                }
            });
        Self {
            n_inputs,
            n_outputs,
            panels,
            bias: bias.unwrap_or_else(|| vec![0.0; n_outputs]),
        }
    }

    pub(in crate::vision) fn bias(&self) -> &[f32] {
        &self.bias
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
        dims[D - 1] = self.n_outputs;
        let empty = vec![0.0f32; dims.iter().product()];
        self.write(input, TensorData::new(empty, dims), |out, rows| {
            self.multiply(rows, activation, out, false);
        })
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
        self.write(input, sum.into_data(), |out, rows| {
            self.multiply(rows, None, out, true);
        })
    }

    fn write<const D: usize>(
        &self,
        input: Tensor<D>,
        mut output: TensorData,
        multiply: impl FnOnce(&mut [f32], &[f32]),
    ) -> Tensor<D> {
        let device = input.device();
        let input = input.into_data();
        let rows = input.as_slice::<f32>().expect(IN_F32);
        let out = output.as_mut_slice::<f32>().expect(IN_F32);
        assert_eq!(
            rows.len() * self.n_outputs,
            out.len() * self.n_inputs,
            "as many rows of inputs as of outputs"
        );
        multiply(out, rows);
        Tensor::from_data(output, (&device, DType::F32))
    }

    fn multiply(&self, rows: &[f32], activation: Option<Activation>, out: &mut [f32], adds: bool) {
        let n_rows = rows.len() / self.n_inputs;
        let group = sizes().rows;
        let tiles = TILES_OF_A_THREAD * rayon::current_num_threads();
        let tile = n_rows
            .div_ceil(tiles)
            .next_multiple_of(group)
            .clamp(group, MAX_TILE);
        let apply = activation.map(activation_of);
        out.par_chunks_mut(tile * self.n_outputs)
            .zip(rows.par_chunks(tile * self.n_inputs))
            .for_each(|(out, rows)| {
                run(Tile {
                    matrix: self,
                    rows,
                    out: &mut *out,
                    adds,
                });
                if let Some(apply) = apply {
                    apply(out);
                }
            });
    }
}

/// Some rows and the whole matrix.
struct Tile<'a> {
    matrix: &'a PackedMatrix,
    rows: &'a [f32],
    out: &'a mut [f32],
    adds: bool,
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let n_inputs = self.matrix.n_inputs;
        let pair = 2 * S::F32_LANES;
        let panels = self.matrix.panels.chunks_exact(n_inputs * pair);
        for (index, panel) in panels.enumerate() {
            let (panel, _) = S::as_simd_f32s(panel);
            let outputs = index * pair..self.matrix.n_outputs.min((index + 1) * pair);
            self.panel(simd, panel, &outputs);
        }
    }
}

impl Tile<'_> {
    /// All rows with one panel, which stays close while they pass.
    #[inline(always)]
    fn panel<S: Simd>(&mut self, simd: S, panel: &[S::f32s], outputs: &Range<usize>) {
        let n_rows = self.rows.len() / self.matrix.n_inputs;
        let mut row = 0;
        if S::REGISTER_COUNT >= 32 {
            while row + 12 <= n_rows {
                self.some_rows::<S, 12>(simd, row, panel, outputs);
                row += 12;
            }
        }
        while row + 6 <= n_rows {
            self.some_rows::<S, 6>(simd, row, panel, outputs);
            row += 6;
        }
        while row < n_rows {
            self.some_rows::<S, 1>(simd, row, panel, outputs);
            row += 1;
        }
    }

    #[inline(always)]
    fn some_rows<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        first: usize,
        panel: &[S::f32s],
        outputs: &Range<usize>,
    ) {
        let PackedMatrix {
            n_inputs,
            n_outputs,
            ..
        } = *self.matrix;
        let rows: [&[f32]; R] = from_fn(|row| &self.rows[(first + row) * n_inputs..][..n_inputs]);
        let mut sums = [[simd.splat_f32s(0.0); 2]; R];
        accumulate(simd, rows, panel, &mut sums);
        let bias = &self.matrix.bias[outputs.clone()];
        for (row, sums) in sums.iter().enumerate() {
            let sums: &[f32] = pulp::bytemuck::cast_slice(sums.as_slice());
            let out = &mut self.out[(first + row) * n_outputs..][..n_outputs];
            let out = out[outputs.clone()].iter_mut().zip(sums).zip(bias);
            match self.adds {
                true => out.for_each(|((out, sum), bias)| *out += sum + bias),
                false => out.for_each(|((out, sum), bias)| *out = sum + bias),
            }
        }
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
        let matrix = PackedMatrix::new(&weights, [n_inputs, n_outputs], Some(bias.clone()));
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
