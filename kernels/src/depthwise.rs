//! Depthwise convolutions over vectors of channels.

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
use std::hint::black_box;
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

    /// Computes some lines of the output from an image of the given height and width; an even
    /// number of them is best.
    ///
    /// # Panics
    /// When shapes do not fit.
    pub fn apply(&self, image: &[f32], size: [usize; 2], lines: Range<usize>, out: &mut [f32]) {
        let shape = &self.shape;
        assert_eq!(
            image.len(),
            size[0] * size[1] * shape.channels,
            "the image is of its size"
        );
        let [height, width] = shape.output_size(size);
        assert!(lines.end <= height, "lines of the output");
        assert_eq!(
            out.len(),
            lines.len() * width * shape.channels,
            "room for the lines"
        );
        let work = Work {
            kernel: self,
            image,
            size,
            lines,
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
    lines: Range<usize>,
    out: &'a mut [f32],
}

/// A kernel of height `H` and width `W`, at stride `S` along the width.
struct Sized<'a, const H: usize, const W: usize, const S: usize>(Work<'a>);

impl<const H: usize, const W: usize, const S: usize> WithSimd for Sized<'_, H, W, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) {
        let Work { kernel, size, .. } = &self.0;
        let has_runs = kernel.shape.output_size(*size)[1] >= RUN;
        match kernel.shape.channels.is_multiple_of(V::F32_LANES) && has_runs {
            true => self.0.whole_vectors::<V, H, W, S>(simd),
            false => self.0.any_size(),
        }
    }
}

impl Work<'_> {
    #[inline(always)]
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
        let sees_all = |y: usize| {
            let top = y * shape.stride[0];
            top >= above && top + H <= height + above
        };
        let lines = Lines {
            simd,
            vectors,
            width,
            out_width,
            before,
            bias,
        };
        let mut y = self.lines.start;
        while y < self.lines.end {
            let top = y * shape.stride[0];
            // Neighbors share all rows that they see but two.
            let is_pair =
                shape.stride[0] == 1 && y + 1 < self.lines.end && sees_all(y) && sees_all(y + 1);
            let n_lines = if is_pair { 2 } else { 1 };
            let (now, later) = out.split_at_mut(n_lines * out_width * vectors);
            if is_pair {
                let seen = &image[(top - above) * width * vectors..];
                // As the compiler does not know it: it would lay out all rows one after the other,
                // with more places than it has registers for.
                let n = black_box(H);
                lines.two::<W, S>(Rows { seen, weights, n }, now);
            } else {
                // Rows of the kernel that lie inside the image.
                let rows = above.saturating_sub(top)..H.min(height + above - top);
                let seen = &image[(top + rows.start - above) * width * vectors..];
                let weights = &weights[rows.start * W * vectors..];
                let n = rows.len();
                lines.one::<W, S>(Rows { seen, weights, n }, now);
            }
            out = later;
            y += n_lines;
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
        let range = self.lines.start * out_width..self.lines.end * out_width;
        for (at, out) in range.zip(self.out.chunks_exact_mut(channels)) {
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

/// Lines of the output, where channels are whole vectors.
struct Lines<'a, V: Simd> {
    simd: V,
    /// Vectors of a pixel.
    vectors: usize,
    /// Pixels of a line of the image, and of the output.
    width: usize,
    out_width: usize,
    /// Columns of zeros before a line.
    before: usize,
    bias: &'a [V::f32s],
}

/// [`RUN`] pixels of a line of the output, side by side.
struct Run {
    /// The first one.
    x: usize,
    /// Values from the first vector of a line of the image to what the first pixel sees first, which
    /// may lie before it.
    left: isize,
    /// Columns that the pixels see together, counted from the first, which lie inside the image.
    inside: Range<usize>,
    /// Whether all of them do.
    sees_all: bool,
}

/// Rows of the kernel: the image from the line on that the first one sees, and weights.
#[derive(Clone, Copy)]
struct Rows<'a, V: Simd> {
    seen: &'a [V::f32s],
    weights: &'a [V::f32s],
    n: usize,
}

impl<V: Simd> Lines<'_, V> {
    /// A line of the output that sees these rows of the kernel.
    #[inline(always)]
    fn one<const W: usize, const S: usize>(&self, rows: Rows<'_, V>, out: &mut [V::f32s]) {
        self.check(out.len());
        let mut next = 0;
        while let Some(run) = self.run::<W, S>(&mut next) {
            match run.sees_all {
                true => self.run_of_one::<W, S, true>(&run, rows, out),
                false => self.run_of_one::<W, S, false>(&run, rows, out),
            }
        }
    }

    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "checks at each load take up to a third of the time"
    )]
    fn run_of_one<const W: usize, const S: usize, const ALL: bool>(
        &self,
        run: &Run,
        rows: Rows<'_, V>,
        out: &mut [V::f32s],
    ) {
        let vectors = self.vectors;
        let line = self.width * vectors;
        let n = rows.n;
        assert!(rows.seen.len() >= n * line, "all rows that are seen");
        assert!(rows.weights.len() >= n * W * vectors, "their weights");
        for vector in 0..vectors {
            let mut sums = [self.bias[vector]; RUN];
            let mut at = rows.seen.as_ptr().wrapping_add(vector);
            at = at.wrapping_offset(run.left);
            let mut weight = rows.weights.as_ptr().wrapping_add(vector);
            for _ in 0..n {
                // SAFETY: the columns inside of each of `n` rows are there, and their weights.
                unsafe { self.add_row::<W, S, ALL>(&mut sums, at, weight, &run.inside) };
                at = at.wrapping_add(line);
                weight = weight.wrapping_add(W * vectors);
            }
            for (pixel, sum) in sums.into_iter().enumerate() {
                out[(run.x + pixel) * vectors + vector] = sum;
            }
        }
    }

    /// Two lines of the output that follow each other in an image that is walked line by line, and
    /// see all rows of the kernel.
    #[inline(always)]
    fn two<const W: usize, const S: usize>(&self, rows: Rows<'_, V>, out: &mut [V::f32s]) {
        let (upper, lower) = out.split_at_mut(self.out_width * self.vectors);
        self.check(upper.len().min(lower.len()));
        let mut next = 0;
        while let Some(run) = self.run::<W, S>(&mut next) {
            match run.sees_all {
                true => self.run_of_two::<W, S, true>(&run, rows, [upper, lower]),
                false => self.run_of_two::<W, S, false>(&run, rows, [upper, lower]),
            }
        }
    }

    #[inline(always)]
    #[allow(
        unsafe_code,
        reason = "checks at each load take up to a third of the time"
    )]
    fn run_of_two<const W: usize, const S: usize, const ALL: bool>(
        &self,
        run: &Run,
        rows: Rows<'_, V>,
        [upper_out, lower_out]: [&mut [V::f32s]; 2],
    ) {
        let vectors = self.vectors;
        let line = self.width * vectors;
        let inside = &run.inside;
        let n = rows.n;
        assert!(rows.seen.len() >= (n + 1) * line, "all rows that are seen");
        assert!(rows.weights.len() >= n * W * vectors, "their weights");
        for vector in 0..vectors {
            let mut upper = [self.bias[vector]; RUN];
            let mut lower = upper;
            let mut at = rows.seen.as_ptr().wrapping_add(vector);
            at = at.wrapping_offset(run.left);
            let mut weight = rows.weights.as_ptr().wrapping_add(vector);
            // SAFETY: the columns inside of each of `n + 1` rows are there: the upper line sees all
            // but the last, the lower all but the first. There are weights for `n` rows.
            unsafe {
                self.add_row::<W, S, ALL>(&mut upper, at, weight, inside);
                for _ in 1..n {
                    at = at.wrapping_add(line);
                    let below = weight.wrapping_add(W * vectors);
                    let sums = [&mut upper, &mut lower];
                    self.add_rows::<W, S, ALL>(sums, at, [below, weight], inside);
                    weight = below;
                }
                at = at.wrapping_add(line);
                self.add_row::<W, S, ALL>(&mut lower, at, weight, inside);
            }
            for pixel in 0..RUN {
                upper_out[(run.x + pixel) * vectors + vector] = upper[pixel];
                lower_out[(run.x + pixel) * vectors + vector] = lower[pixel];
            }
        }
    }

    /// The run from `next` on, which becomes the one after it; the last one ends with the line and
    /// may compute some pixels once more.
    #[inline(always)]
    fn run<const W: usize, const S: usize>(&self, next: &mut usize) -> Option<Run> {
        if *next >= self.out_width {
            return None;
        }
        let x = (*next).min(self.out_width - RUN);
        *next = x + RUN;
        let seen = x * S;
        let first = self.before.saturating_sub(seen);
        let n_columns = (RUN - 1) * S + W;
        let last = (self.width + self.before - seen).min(n_columns);
        Some(Run {
            x,
            left: (seen as isize - self.before as isize) * self.vectors as isize,
            inside: first..last,
            sees_all: first == 0 && last == n_columns,
        })
    }

    /// Panics unless there is room for a line.
    #[inline(always)]
    fn check(&self, n_out: usize) {
        assert!(
            n_out >= self.out_width * self.vectors
                && self.out_width >= RUN
                && self.bias.len() >= self.vectors,
            "room for a line"
        );
    }

    /// Adds what a row gives; of the columns inside, which are `ALL` of them or not.
    ///
    /// # Safety
    /// Vectors, each a pixel from the last, stand at the image's place where columns are inside, and
    /// `W` at that of weights.
    #[inline(always)]
    #[allow(unsafe_code, reason = "as of its callers")]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    unsafe fn add_row<const W: usize, const S: usize, const ALL: bool>(
        &self,
        sums: &mut [V::f32s; RUN],
        at: *const V::f32s,
        weights: *const V::f32s,
        inside: &Range<usize>,
    ) {
        // SAFETY: as of this function.
        let weights = unsafe { self.load::<W>(weights) };
        let mut at = opaque(at);
        for column in 0..(RUN - 1) * S + W {
            if ALL || inside.contains(&column) {
                // SAFETY: as of this function.
                let value = unsafe { *at };
                for pixel in 0..RUN {
                    if column >= pixel * S && column - pixel * S < W {
                        let weight = weights[column - pixel * S];
                        sums[pixel] = self.simd.mul_add_e_f32s(value, weight, sums[pixel]);
                    }
                }
            }
            at = at.wrapping_add(self.vectors);
        }
    }

    /// Adds what a row gives to pixels of two lines, each with weights of its own.
    ///
    /// # Safety
    /// As of [`Self::add_row`], for the weights of both.
    #[inline(always)]
    #[allow(unsafe_code, reason = "as of its callers")]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    unsafe fn add_rows<const W: usize, const S: usize, const ALL: bool>(
        &self,
        [upper, lower]: [&mut [V::f32s; RUN]; 2],
        at: *const V::f32s,
        weights: [*const V::f32s; 2],
        inside: &Range<usize>,
    ) {
        // SAFETY: as of this function.
        let [of_upper, of_lower] = weights.map(|weights| unsafe { self.load::<W>(weights) });
        let mut at = opaque(at);
        for column in 0..(RUN - 1) * S + W {
            if ALL || inside.contains(&column) {
                // SAFETY: as of this function.
                let value = unsafe { *at };
                for pixel in 0..RUN {
                    if column >= pixel * S && column - pixel * S < W {
                        let tap = column - pixel * S;
                        let (above, below) = (of_upper[tap], of_lower[tap]);
                        upper[pixel] = self.simd.mul_add_e_f32s(value, above, upper[pixel]);
                        lower[pixel] = self.simd.mul_add_e_f32s(value, below, lower[pixel]);
                    }
                }
            }
            at = at.wrapping_add(self.vectors);
        }
    }

    /// The weights of a row.
    ///
    /// # Safety
    /// `W` vectors are there, each a pixel from the last.
    #[inline(always)]
    #[allow(unsafe_code, reason = "as of its callers")]
    unsafe fn load<const W: usize>(&self, mut at: *const V::f32s) -> [V::f32s; W] {
        at = opaque(at);
        let mut weights = [self.simd.splat_f32s(0.0); W];
        for weight in &mut weights {
            // SAFETY: as of this function.
            *weight = unsafe { *at };
            at = at.wrapping_add(self.vectors);
        }
        weights
    }
}

/// The same place, of which the compiler does not know that: it would keep each place of a row in a
/// register of its own, of which there are not enough, instead of adding them up as they are needed.
#[inline(always)]
fn opaque<T>(at: *const T) -> *const T {
    #[cfg(target_arch = "x86_64")]
    {
        let mut at = at;
        #[allow(unsafe_code, reason = "nothing else hides a value and costs nothing")]
        #[allow(
            clippy::pointers_in_nomem_asm_block,
            reason = "what is there is not looked at"
        )]
        // SAFETY: there is no instruction in it.
        unsafe {
            asm!(
                "/* {at} */",
                at = inout(reg) at,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        at
    }
    #[cfg(not(target_arch = "x86_64"))]
    at
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
            cut in (0usize..14, 0usize..14),
        ) {
            let channels = if channels > 20 { (channels - 20) * 8 } else { channels };
            let shape = DepthwiseShape { channels, kernel, stride: [stride.0, stride.1] };
            let size = [size.0, size.1];
            let taps = kernel[0] * kernel[1];
            let weights: Vec<f32> = (0..taps * channels).map(value).collect();
            let bias: Vec<f32> = (0..channels).map(value).collect();
            let image: Vec<f32> = (0..size[0] * size[1] * channels).map(value).collect();
            let [height, width] = shape.output_size(size);
            let lines = cut.0.min(height)..height.saturating_sub(cut.1).max(cut.0.min(height));
            for vectors in Vectors::all() {
                let layer = DepthwiseKernel::new(vectors, shape, &weights, &bias);
                let mut out = vec![f32::NAN; lines.len() * width * channels];
                layer.apply(&image, size, lines.clone(), &mut out);
                for (index, found) in out.iter().enumerate() {
                    let (at, channel) = (lines.start * width + index / channels, index % channels);
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
