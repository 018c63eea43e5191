//! Depthwise convolutions over vectors of channels.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::vectors::Vectors;

/// Pixels side by side that share what they load.
const RUN: usize = 4;

/// What a depthwise convolution does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthwiseShape {
    pub channels: usize,
    /// Height and width, odd; the padding keeps the size of a map at stride 1.
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
}

impl DepthwiseShape {
    /// Zeros on each side of height and of width.
    pub fn padding(&self) -> [usize; 2] {
        self.kernel.map(|size| size / 2)
    }

    /// Height and width of the output.
    ///
    /// # Panics
    /// When a map is empty.
    pub fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        let padding = self.padding();
        std::array::from_fn(|axis| {
            (size[axis] + 2 * padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
        })
    }
}

/// Weights channels-last.
#[derive(Debug)]
pub struct DepthwiseKernel {
    vectors: Vectors,
    shape: DepthwiseShape,
    /// `[height * width, channels]`
    weights: Vec<f32>,
    /// `[channels]`
    bias: Vec<f32>,
}

impl DepthwiseKernel {
    /// Takes weights as `[channels, height, width]`.
    pub fn new(vectors: Vectors, shape: DepthwiseShape, kernel: &[f32], bias: &[f32]) -> Self {
        let taps = shape.kernel[0] * shape.kernel[1];
        let weights = (0..taps * shape.channels)
            .map(|index| kernel[index % shape.channels * taps + index / shape.channels])
            .collect();
        Self {
            vectors,
            shape,
            weights,
            bias: bias.to_vec(),
        }
    }

    pub fn shape(&self) -> &DepthwiseShape {
        &self.shape
    }

    /// Computes the output pixels of `range`, counted row by row, from an image of the given height
    /// and width.
    ///
    /// # Panics
    /// When shapes do not fit.
    pub fn apply(&self, image: &[f32], size: [usize; 2], range: Range<usize>, out: &mut [f32]) {
        let shape = &self.shape;
        assert_eq!(
            image.len(),
            size[0] * size[1] * shape.channels,
            "the image is of its size"
        );
        assert_eq!(
            out.len(),
            range.len() * shape.channels,
            "room for the pixels"
        );
        let work = Work {
            kernel: self,
            image,
            size,
            range,
            out,
        };
        let vectors = self.vectors;
        match (shape.kernel, shape.stride[1]) {
            ([3, 3], 1) => vectors.run(Sized::<3, 3, 1>(work)),
            ([3, 3], 2) => vectors.run(Sized::<3, 3, 2>(work)),
            ([5, 5], 1) => vectors.run(Sized::<5, 5, 1>(work)),
            ([5, 5], 2) => vectors.run(Sized::<5, 5, 2>(work)),
            ([7, 7], 1) => vectors.run(Sized::<7, 7, 1>(work)),
            ([1, 7], 1) => vectors.run(Sized::<1, 7, 1>(work)),
            _ => vectors.run_loops(
                #[inline(always)]
                || work.any_size(),
            ),
        }
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
        match self.0.kernel.shape.channels.is_multiple_of(V::F32_LANES) {
            true => self.0.whole_vectors::<V, H, W, S>(simd),
            false => self.0.any_size(),
        }
    }
}

impl Work<'_> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    fn whole_vectors<V: Simd, const H: usize, const W: usize, const S: usize>(self, simd: V) {
        let shape = &self.kernel.shape;
        let [height, width] = self.size;
        let [_, out_width] = shape.output_size(self.size);
        let [above, before] = shape.padding();
        let vectors = shape.channels / V::F32_LANES;
        let (image, _) = V::as_simd_f32s(self.image);
        let (weights, _) = V::as_simd_f32s(&self.kernel.weights);
        let (bias, _) = V::as_simd_f32s(&self.kernel.bias);
        let (mut out, _) = V::as_mut_simd_f32s(self.out);
        let mut at = self.range.start;
        while at < self.range.end {
            let (y, x) = (at / out_width, at % out_width);
            let row_end = self.range.end.min((y + 1) * out_width);
            let top = y * shape.stride[0];
            // Rows of the kernel that lie inside the image.
            let rows = above.saturating_sub(top)..H.min(height + above - top);
            let left = x * S;
            let is_inside = left >= before && left + (RUN - 1) * S + W <= width + before;
            if is_inside && at + RUN <= row_end {
                let (now, later) = out.split_at_mut(RUN * vectors);
                let first = ((top + rows.start - above) * width + left - before) * vectors;
                let run = Run {
                    vectors,
                    line: width * vectors,
                    seen: &image[first..],
                    weights: &weights[rows.start * W * vectors..],
                    bias,
                };
                run.compute::<V, W, S>(simd, rows.len(), now);
                out = later;
                at += RUN;
            } else {
                let columns = before.saturating_sub(left)..W.min(width + before - left);
                let (now, later) = out.split_at_mut(vectors);
                for (vector, out) in now.iter_mut().enumerate() {
                    let mut sum = bias[vector];
                    for row in rows.start..rows.end {
                        let line = (top + row - above) * width;
                        for column in columns.start..columns.end {
                            let value = image[(line + left + column - before) * vectors + vector];
                            let weight = weights[(row * W + column) * vectors + vector];
                            sum = simd.mul_add_e_f32s(value, weight, sum);
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
        let shape = &self.kernel.shape;
        let channels = shape.channels;
        let [height, width] = self.size;
        let [_, out_width] = shape.output_size(self.size);
        let [above, before] = shape.padding();
        for (at, out) in self.range.zip(self.out.chunks_exact_mut(channels)) {
            let top = at / out_width * shape.stride[0];
            let left = at % out_width * shape.stride[1];
            out.copy_from_slice(&self.kernel.bias);
            for row in above.saturating_sub(top)..shape.kernel[0].min(height + above - top) {
                let line = (top + row - above) * width;
                for column in
                    before.saturating_sub(left)..shape.kernel[1].min(width + before - left)
                {
                    let pixel = line + left + column - before;
                    let values = &self.image[pixel * channels..][..channels];
                    let tap = row * shape.kernel[1] + column;
                    let weights = &self.kernel.weights[tap * channels..][..channels];
                    for ((out, value), weight) in out.iter_mut().zip(values).zip(weights) {
                        *out += value * weight;
                    }
                }
            }
        }
    }
}

/// [`RUN`] pixels side by side, all columns of whose kernels lie inside the image.
struct Run<'a, T> {
    /// Vectors of a pixel, and of a line of the image.
    vectors: usize,
    line: usize,
    /// The image from the first vector on that is seen.
    seen: &'a [T],
    /// Weights from the first row on that counts.
    weights: &'a [T],
    bias: &'a [T],
}

impl<T: Copy> Run<'_, T> {
    /// Computes the pixels at a stride of `S` from so many rows of the kernel.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    #[allow(
        unsafe_code,
        reason = "checks at each load take up to a third of the time"
    )]
    fn compute<V: Simd<f32s = T>, const W: usize, const S: usize>(
        self,
        simd: V,
        n_rows: usize,
        out: &mut [T],
    ) {
        let Self {
            vectors,
            line,
            seen,
            weights,
            bias,
        } = self;
        assert!(n_rows > 0, "a row inside the image");
        let last = (n_rows - 1) * line + ((RUN - 1) * S + W - 1) * vectors;
        assert!(seen.len() >= last + vectors, "all that is seen");
        assert!(weights.len() >= n_rows * W * vectors, "all weights");
        assert!(
            bias.len() >= vectors && out.len() >= RUN * vectors,
            "all vectors"
        );
        for vector in 0..vectors {
            let mut sums = [bias[vector]; RUN];
            let mut of_line = seen.as_ptr().wrapping_add(vector);
            let mut weight_at = weights.as_ptr().wrapping_add(vector);
            for _ in 0..n_rows {
                let mut of_row = [bias[vector]; W];
                for column in 0..W {
                    // SAFETY: a vector of one of `n_rows` times `W` places: the assertions have
                    // seen that the last is there.
                    of_row[column] = unsafe { *weight_at };
                    weight_at = weight_at.wrapping_add(vectors);
                }
                let mut at = of_line;
                for column in 0..(RUN - 1) * S + W {
                    // SAFETY: a vector of one of the columns that some pixel sees in one of
                    // `n_rows` lines: likewise.
                    let value = unsafe { *at };
                    at = at.wrapping_add(vectors);
                    for pixel in 0..RUN {
                        if column >= pixel * S && column - pixel * S < W {
                            let weight = of_row[column - pixel * S];
                            sums[pixel] = simd.mul_add_e_f32s(value, weight, sums[pixel]);
                        }
                    }
                }
                of_line = of_line.wrapping_add(line);
            }
            for pixel in 0..RUN {
                out[pixel * vectors + vector] = sums[pixel];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(index: usize) -> f32 {
        (index * 7919 % 2003) as f32 / 1001.0 - 1.0
    }

    proptest! {
        #[test]
        fn pixels_are_close_to_exact_ones_on_every_path(
            channels in 1usize..40,
            kernel in prop_oneof![
                Just([3, 3]), Just([5, 5]), Just([7, 7]), Just([1, 7]), Just([5, 3]), Just([1, 1])
            ],
            stride in (1usize..3, 1usize..3),
            size in (1usize..14, 1usize..23),
            cut in (0usize..40, 0usize..40),
        ) {
            let channels = if channels > 20 { (channels - 20) * 8 } else { channels };
            let shape = DepthwiseShape { channels, kernel, stride: [stride.0, stride.1] };
            let size = [size.0, size.1];
            let taps = kernel[0] * kernel[1];
            let weights: Vec<f32> = (0..taps * channels).map(value).collect();
            let bias: Vec<f32> = (0..channels).map(value).collect();
            let image: Vec<f32> = (0..size[0] * size[1] * channels).map(value).collect();
            let [height, width] = shape.output_size(size);
            let pixels = height * width;
            let range = cut.0.min(pixels)..pixels.saturating_sub(cut.1).max(cut.0.min(pixels));
            for vectors in Vectors::all() {
                let layer = DepthwiseKernel::new(vectors, shape, &weights, &bias);
                let mut out = vec![f32::NAN; range.len() * channels];
                layer.apply(&image, size, range.clone(), &mut out);
                for (index, found) in out.iter().enumerate() {
                    let (at, channel) = (range.start + index / channels, index % channels);
                    let [above, before] = shape.padding();
                    let mut exact = f64::from(bias[channel]);
                    for tap in 0..taps {
                        let y = (at / width * stride.0 + tap / kernel[1]).wrapping_sub(above);
                        let x = (at % width * stride.1 + tap % kernel[1]).wrapping_sub(before);
                        if y < size[0] && x < size[1] {
                            let value = image[(y * size[1] + x) * channels + channel];
                            exact += f64::from(value) * f64::from(weights[channel * taps + tap]);
                        }
                    }
                    prop_assert!((f64::from(*found) - exact).abs() < 1e-5);
                }
            }
        }
    }
}
