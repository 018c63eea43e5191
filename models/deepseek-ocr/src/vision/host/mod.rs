//! What the CPU computes by loops of its own: products with weights, attention and activations, in
//! f32.
//!
//! By burn's operations the weights of attention go through memory several times, and what stands
//! between products is done by a single thread, one value after the other. Here the weights of a
//! few queries stay in the cache, relative positions are where sums begin, products end with their
//! bias, activation or sum, and all threads work. The loops are those of `quire_kernels`. The values are those of the definitions in burn, to the precision of f32.

mod matrix;

use burn::tensor::{DType, Device, Tensor, TensorData};
pub(super) use quire_kernels::RelativeTable;
use quire_kernels::{Heads, Vectors, attend_head};
use rayon::prelude::*;

pub(super) use self::matrix::PackedMatrix;

const IN_F32: &str = "the host's loops are used with f32 only";

/// Whether tensors of this device lie in host memory.
pub(super) fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

/// Windows that a map is cut into.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    pub(super) side: usize,
    /// `[3 * width]`: queries, keys and values of places that are missing to whole windows. They
    /// are seen like others.
    pub(super) outside: &'a [f32],
}

/// Lets all places of each map, or of each of its windows, see each other, with or without relative
/// positions (of rows, then of columns). Nothing is copied to cut windows.
///
/// # Shapes
/// - `mixed`: `[maps, rows, columns, 3 * width]`, queries, keys and values one after the other
/// - output: `[maps, rows, columns, width]`
pub(super) fn attend(
    mixed: Tensor<4>,
    n_heads: usize,
    positions: Option<[RelativeTable; 2]>,
    windows: Option<Windows<'_>>,
) -> Tensor<4> {
    let [maps, rows, columns, width] = mixed.dims();
    let width = width / 3;
    let device = mixed.device();
    let data = mixed.into_data();
    let mixed = data.as_slice::<f32>().expect(IN_F32);
    let heads = Heads {
        map: [rows, columns],
        window: windows
            .as_ref()
            .map_or([rows, columns], |windows| [windows.side; 2]),
        outside: windows.map_or(&[][..], |windows| windows.outside),
        n_heads,
        head: width / n_heads,
        positions,
    };
    let [down, across] = heads.n_windows();
    let per_map = down * across * n_heads;
    let map_len = rows * columns * 3 * width;
    let attended: Vec<Vec<f32>> = (0..maps * per_map)
        .into_par_iter()
        .map(|index| {
            let map = &mixed[index / per_map * map_len..][..map_len];
            let window = index % per_map / n_heads;
            attend_head(
                Vectors::chosen(),
                &heads,
                map,
                [window / across, window % across],
                index % n_heads,
            )
        })
        .collect();
    let mut out = vec![0.0f32; maps * rows * columns * width];
    out.par_chunks_mut(width).enumerate().for_each(|(at, out)| {
        let (map, row, column) = (at / columns / rows, at / columns % rows, at % columns);
        let [height, length] = heads.window;
        let window = (map * down + row / height) * across + column / length;
        let place = row % height * length + column % length;
        for (index, out) in out.chunks_exact_mut(heads.head).enumerate() {
            let attended = &attended[window * n_heads + index];
            out.copy_from_slice(&attended[place * heads.head..][..heads.head]);
        }
    });
    let data = TensorData::new(out, [maps, rows, columns, width]);
    Tensor::from_data(data, (&device, DType::F32))
}

#[cfg(test)]
mod tests {
    use quire_kernels::{Activation, activate};

    use super::*;
    use crate::vision::{attention, layers};

    fn noise<const D: usize>(dims: [usize; D]) -> Tensor<D> {
        let len: usize = dims.iter().product();
        let values: Vec<f32> = (0..len)
            .map(|index| (index * 7919 % 2003) as f32 / 500.0 - 2.0)
            .collect();
        Tensor::from_data(TensorData::new(values, dims), &Device::flex())
    }

    fn assert_close<const D: usize>(found: Tensor<D>, wanted: Tensor<D>) {
        assert_eq!(found.dims(), wanted.dims());
        let (found, wanted) = (found.into_data(), wanted.into_data());
        let pairs = found.as_slice::<f32>().unwrap().iter();
        for (found, wanted) in pairs.zip(wanted.as_slice::<f32>().unwrap()) {
            assert!((found - wanted).abs() < 1e-5, "{found} for {wanted}");
        }
    }

    #[test]
    fn activations_give_what_their_definitions_give() {
        for activation in [Activation::Gelu, Activation::QuickGelu, Activation::Swish] {
            let input = noise([1001]) * 4.0;
            let mut data = input.clone().into_data();
            activate(Vectors::chosen(), activation, data.as_mut_slice().unwrap());
            let found = Tensor::from_data(data, &Device::flex());
            assert_close(found, layers::activate(activation, input));
        }
    }

    /// Attention by burn's operations, with a bias for each map and head.
    fn by_definition(mixed: Tensor<4>, n_heads: usize, tables: Option<[&[f32]; 2]>) -> Tensor<4> {
        let [maps, rows, columns, width] = mixed.dims();
        let (places, width) = (rows * columns, width / 3);
        let head = width / n_heads;
        let parts = mixed
            .reshape([maps, places, 3, n_heads, head])
            .permute([2, 0, 3, 1, 4]);
        let part = |index: usize| -> Tensor<4> {
            parts.clone().slice_dim(0, index..index + 1).squeeze_dim(0)
        };
        let heads = (0..maps * n_heads).map(|index| {
            let one = |part: Tensor<4>| {
                part.reshape([maps * n_heads, 1, places, head])
                    .slice_dim(0, index..index + 1)
            };
            let queries = one(part(0));
            let bias = tables.map(|[of_rows, of_columns]| {
                let data = queries.clone().into_data();
                let values = data.as_slice::<f32>().unwrap();
                let along = |table: &[f32], query: usize, from: usize, to: usize, side: usize| {
                    let row = &table[(from + side - 1 - to) * head..][..head];
                    let query = &values[query * head..][..head];
                    row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>()
                };
                let bias: Vec<f32> = (0..places * places)
                    .map(|index| {
                        let (query, key) = (index / places, index % places);
                        along(of_rows, query, query / columns, key / columns, rows)
                            + along(of_columns, query, query % columns, key % columns, columns)
                    })
                    .collect();
                let data = TensorData::new(bias, [1, 1, places, places]);
                Tensor::from_data(data, &Device::flex())
            });
            let scaled = queries * (1.0 / (head as f64).sqrt());
            attention::attend(scaled, one(part(1)), one(part(2)), bias)
        });
        Tensor::cat(heads.collect(), 0)
            .reshape([maps, n_heads, places, head])
            .swap_dims(1, 2)
            .reshape([maps, rows, columns, width])
    }

    #[test]
    fn attention_without_positions_is_that_of_its_definition() {
        for (places, head) in [(1, 3), (5, 8), (17, 10), (101, 64)] {
            let mixed = noise([2, 1, places, 3 * 2 * head]);
            let wanted = by_definition(mixed.clone(), 2, None);
            assert_close(attend(mixed, 2, None, None), wanted);
        }
    }

    #[test]
    fn attention_with_positions_is_that_of_its_definition() {
        for (side, head) in [(1, 4), (7, 12), (14, 16), (20, 12), (33, 8)] {
            let mixed = noise([2, side, side, 3 * 3 * head]) * 0.5;
            let len = (2 * side - 1) * head;
            let table: Vec<f32> = (0..2 * len)
                .map(|index| (index * 31 % 101) as f32 / 100.0 - 0.5)
                .collect();
            let (of_rows, of_columns) = table.split_at(len);
            let wanted = by_definition(mixed.clone(), 3, Some([of_rows, of_columns]));
            let tables = [of_rows, of_columns].map(|table| RelativeTable::new(table, side));
            assert_close(attend(mixed, 3, Some(tables), None), wanted);
        }
    }
}
