//! Depthwise convolutions over vectors of channels.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::simd;
use crate::nn::DepthwiseConfig;

/// Pixels side by side that share what they load.
const RUN: usize = 4;

/// Weights channels-last.
#[derive(Debug)]
pub(crate) struct DepthwiseKernel {
    config: DepthwiseConfig,
    /// `[height * width, channels]`
    weights: Vec<f32>,
    /// `[channels]`
    bias: Vec<f32>,
}

impl DepthwiseKernel {
    /// Takes weights as `[channels, height, width]`.
    pub(crate) fn new(config: DepthwiseConfig, kernel: &[f32], bias: &[f32]) -> Self {
        let taps = config.kernel[0] * config.kernel[1];
        let weights = (0..taps * config.channels)
            .map(|index| kernel[index % config.channels * taps + index / config.channels])
            .collect();
        Self {
            config,
            weights,
            bias: bias.to_vec(),
        }
    }
}

/// Height and width of the output.
pub(super) fn output_size(config: &DepthwiseConfig, size: [usize; 2]) -> [usize; 2] {
    let padding = config.padding();
    std::array::from_fn(|axis| {
        (size[axis] + 2 * padding[axis] - config.kernel[axis]) / config.stride[axis] + 1
    })
}

/// Computes the output pixels of `range`, counted row by row, from an image of the given height
/// and width.
pub(super) fn apply(
    kernel: &DepthwiseKernel,
    image: &[f32],
    size: [usize; 2],
    range: Range<usize>,
    out: &mut [f32],
) {
    let config = &kernel.config;
    assert_eq!(
        image.len(),
        size[0] * size[1] * config.channels,
        "the image is of its size"
    );
    assert_eq!(
        out.len(),
        range.len() * config.channels,
        "room for the pixels"
    );
    let work = Work {
        kernel,
        image,
        size,
        range,
        out,
    };
    match (config.kernel, config.stride[1]) {
        ([3, 3], 1) => simd::run(Sized::<3, 3, 1>(work)),
        ([3, 3], 2) => simd::run(Sized::<3, 3, 2>(work)),
        ([5, 5], 1) => simd::run(Sized::<5, 5, 1>(work)),
        ([5, 5], 2) => simd::run(Sized::<5, 5, 2>(work)),
        ([7, 7], 1) => simd::run(Sized::<7, 7, 1>(work)),
        ([1, 7], 1) => simd::run(Sized::<1, 7, 1>(work)),
        _ => simd::run_loops(
            #[inline(always)]
            || work.any_size(),
        ),
    }
}

struct Work<'a> {
    kernel: &'a DepthwiseKernel,
    image: &'a [f32],
    size: [usize; 2],
    range: Range<usize>,
    out: &'a mut [f32],
}

/// A kernel of height `H` and width `W`, at stride `S` along the width.
struct Sized<'a, const H: usize, const W: usize, const S: usize>(Work<'a>);

impl<const H: usize, const W: usize, const S: usize> WithSimd for Sized<'_, H, W, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) {
        match self.0.kernel.config.channels.is_multiple_of(V::F32_LANES) {
            true => self.0.whole_vectors::<V, H, W, S>(simd),
            false => self.0.any_size(),
        }
    }
}

impl Work<'_> {
    #[inline(always)]
    fn whole_vectors<V: Simd, const H: usize, const W: usize, const S: usize>(self, simd: V) {
        let config = &self.kernel.config;
        let [height, width] = self.size;
        let [_, out_width] = output_size(config, self.size);
        let [above, before] = config.padding();
        let vectors = config.channels / V::F32_LANES;
        let (image, _) = V::as_simd_f32s(self.image);
        let (weights, _) = V::as_simd_f32s(&self.kernel.weights);
        let (bias, _) = V::as_simd_f32s(&self.kernel.bias);
        let (mut out, _) = V::as_mut_simd_f32s(self.out);
        let mut at = self.range.start;
        while at < self.range.end {
            let (y, x) = (at / out_width, at % out_width);
            let row_end = self.range.end.min((y + 1) * out_width);
            let top = y * config.stride[0];
            // Rows of the kernel that lie inside the image.
            let rows = above.saturating_sub(top)..H.min(height + above - top);
            let left = x * S;
            let is_inside = left >= before && left + (RUN - 1) * S + W <= width + before;
            if is_inside && at + RUN <= row_end {
                let (now, later) = out.split_at_mut(RUN * vectors);
                for vector in 0..vectors {
                    let mut sums = [bias[vector]; RUN];
                    for row in rows.clone() {
                        let line = (top + row - above) * width + left - before;
                        let line = &image[line * vectors + vector..];
                        let line = &line[..((RUN - 1) * S + W - 1) * vectors + 1];
                        let weights = &weights[row * W * vectors + vector..];
                        let weights = &weights[..(W - 1) * vectors + 1];
                        for column in 0..W {
                            let weight = weights[column * vectors];
                            for (pixel, sum) in sums.iter_mut().enumerate() {
                                let value = line[(pixel * S + column) * vectors];
                                *sum = simd.mul_add_f32s(value, weight, *sum);
                            }
                        }
                    }
                    for (pixel, sum) in sums.into_iter().enumerate() {
                        now[pixel * vectors + vector] = sum;
                    }
                }
                out = later;
                at += RUN;
            } else {
                let columns = before.saturating_sub(left)..W.min(width + before - left);
                let (now, later) = out.split_at_mut(vectors);
                for (vector, out) in now.iter_mut().enumerate() {
                    let mut sum = bias[vector];
                    for row in rows.clone() {
                        let line = (top + row - above) * width;
                        for column in columns.clone() {
                            let value = image[(line + left + column - before) * vectors + vector];
                            let weight = weights[(row * W + column) * vectors + vector];
                            sum = simd.mul_add_f32s(value, weight, sum);
                        }
                    }
                    *out = sum;
                }
                out = later;
                at += 1;
            }
        }
    }

    /// Any kernel and any number of channels.
    #[inline(always)]
    fn any_size(self) {
        let config = &self.kernel.config;
        let channels = config.channels;
        let [height, width] = self.size;
        let [_, out_width] = output_size(config, self.size);
        let [above, before] = config.padding();
        for (at, out) in self.range.zip(self.out.chunks_exact_mut(channels)) {
            let top = at / out_width * config.stride[0];
            let left = at % out_width * config.stride[1];
            out.copy_from_slice(&self.kernel.bias);
            for row in above.saturating_sub(top)..config.kernel[0].min(height + above - top) {
                let line = (top + row - above) * width;
                for column in
                    before.saturating_sub(left)..config.kernel[1].min(width + before - left)
                {
                    let pixel = line + left + column - before;
                    let values = &self.image[pixel * channels..][..channels];
                    let tap = row * config.kernel[1] + column;
                    let weights = &self.kernel.weights[tap * channels..][..channels];
                    for ((out, value), weight) in out.iter_mut().zip(values).zip(weights) {
                        *out += value * weight;
                    }
                }
            }
        }
    }
}
