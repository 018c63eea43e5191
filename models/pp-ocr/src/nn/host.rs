//! The walk over maps in host memory, for the CPU.
//!
//! A map is kept channels-last: the channels of a pixel stand together. A 1x1 convolution is then
//! a product of a tall matrix with a small one, a depthwise convolution works on whole vectors of
//! channels, and a backbone block can go from one end to the other on a tile of pixels, so that
//! its middle, which is twice as wide as its ends, never leaves the cache.
//!
//! The loops themselves are those of `quire_kernels`. Everything here runs on the calling thread:
//! pages, and parts of them, are what is computed side by side.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use quire_kernels::{
    Buffer, DepthwiseKernel, Ending, PackedMatrix, Passed, RowView, Vectors, activate, add,
    add_repeated, attend_sequence, copy_rows, dilate_line, mean_rows, normalize_rows, scale_rows,
};

use super::{
    Activation, Convolution, ConvolutionConfig, Depthwise, FeatureMap, LayerNorm, Mixer, Squeeze,
    Transposed,
};

/// Values of a tile of pixels and of the wide middle of its block: 256 KiB, which leaves most of a
/// second-level cache to the weights.
const TILE_VALUES: usize = 64 * 1024;
/// Bounds of the pixels of a tile; a multiple of the rows that a product takes at once.
const TILE_PIXELS: [usize; 2] = [24, 192];

const PACKED: &str = "layers on the host are packed when they are loaded";

/// Brings planes of an image side by side, pixel by pixel.
fn interleave(planes: &[f32], channels: usize, image: &mut [f32]) {
    let n_pixels = planes.len() / channels;
    if channels == 3 {
        let (pixels, _) = image.as_chunks_mut::<3>();
        let (first, others) = planes.split_at(n_pixels);
        let (second, third) = others.split_at(n_pixels);
        for (pixel, ((a, b), c)) in pixels.iter_mut().zip(first.iter().zip(second).zip(third)) {
            *pixel = [*a, *b, *c];
        }
        return;
    }
    for (channel, plane) in planes.chunks_exact(n_pixels).enumerate() {
        for (pixel, value) in image.chunks_exact_mut(channels).zip(plane) {
            pixel[channel] = *value;
        }
    }
}

/// Whether maps of this device can be walked in host memory.
pub(super) fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

/// A batch of maps, `[batch, height, width, channels]`. A clone shares the values.
#[derive(Debug, Clone)]
pub(crate) struct HostMap {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    values: Arc<Buffer>,
}

impl HostMap {
    /// Takes a batch of images, `[n, c, h, w]`, if its device keeps it in host memory.
    pub(crate) fn take(images: &Tensor<4>) -> Option<Self> {
        if !is_host(&images.device()) {
            return None;
        }
        let [batch, channels, height, width] = images.dims();
        let data = images.to_data().convert::<f32>();
        let planes = data.as_slice::<f32>().ok()?;
        let mut map = Self::new([batch, channels, height, width]);
        let pixels = height * width;
        let values = map.values_mut();
        for (image, planes) in values
            .chunks_exact_mut(pixels * channels)
            .zip(planes.chunks_exact(pixels * channels))
        {
            interleave(planes, channels, image);
        }
        Some(map)
    }

    /// A map of values that stand pixel by pixel.
    ///
    /// # Panics
    /// When there are not as many as dimensions say.
    pub(crate) fn of([batch, channels, height, width]: [usize; 4], values: Buffer) -> Self {
        assert_eq!(
            values.len(),
            batch * channels * height * width,
            "a value for each channel of each pixel"
        );
        Self {
            batch,
            channels,
            height,
            width,
            values: Arc::new(values),
        }
    }

    /// A map whose values are yet to be written.
    fn new(dims: [usize; 4]) -> Self {
        Self::of(dims, Buffer::take(dims.iter().product()))
    }

    /// One row for each pixel.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values[..self.batch * self.channels * self.height * self.width]
    }

    /// The values to change; copied first if another map shares them.
    fn values_mut(&mut self) -> &mut [f32] {
        let used = self.batch * self.channels * self.height * self.width;
        &mut Arc::make_mut(&mut self.values)[..used]
    }

    fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Calls `work` with the image, some lines and their room for all of an output whose lines are
    /// those of a depthwise convolution of this map, so few at once that `values` for each of their
    /// pixels stay in the cache.
    fn in_blocks(
        &self,
        output: &mut Self,
        values: usize,
        mut work: impl FnMut(&[f32], Range<usize>, &mut [f32]),
    ) {
        let n_lines = block_lines(output.width, values);
        let line_values = output.width * output.channels;
        let out_values = output.height * line_values;
        let images = self.values().chunks_exact(self.pixels() * self.channels);
        let outs = output.values_mut().chunks_exact_mut(out_values);
        for (image, out) in images.zip(outs) {
            for (index, out) in out.chunks_mut(n_lines * line_values).enumerate() {
                let first = index * n_lines;
                work(image, first..first + out.len() / line_values, out);
            }
        }
    }

    /// A depthwise convolution and its activation for some lines of an image of this size.
    fn filter(&self, layer: &Depthwise, image: &[f32], lines: Range<usize>, out: &mut [f32]) {
        let size = [self.height, self.width];
        filter_of(layer).apply(image, size, lines, out);
        activate(Vectors::chosen(), layer.config.activation, out);
    }

    /// Applies a 1x1 convolution of stride 1.
    fn convolve_pixels(&self, layer: &Convolution) -> Self {
        let config = &layer.config;
        let mut output = Self::new([self.batch, config.channels_out, self.height, self.width]);
        let rows = RowView::whole(self.values(), self.channels);
        let matrix = packed(layer);
        let n_rows = self.batch * self.pixels();
        let tile = tile_pixels(self.channels + config.channels_out);
        for first in (0..n_rows).step_by(tile) {
            let last = n_rows.min(first + tile);
            let out = &mut output.values_mut()[first * config.channels_out..];
            let out = &mut out[..(last - first) * config.channels_out];
            matrix.multiply(
                rows.from(first),
                last - first,
                config.activation.into(),
                out,
            );
        }
        output
    }

    /// Applies any other convolution for some lines of its output, line by line. What the kernel
    /// sees of the image at a pixel is a row of a matrix: inside the image it is read where it lies,
    /// at the border it is copied out with zeros around.
    fn convolve_windows(&self, layer: &Convolution, lines: Range<usize>) -> Self {
        let config = &layer.config;
        let [all_lines, width] = self.size_of(config);
        assert!(lines.end <= all_lines, "lines of the output");
        let height = lines.len();
        let mut output = Self::new([self.batch, config.channels_out, height, width]);
        let channels_out = config.channels_out;
        let matrix = packed(layer);
        let ending = Ending::from(config.activation);
        let window = config.kernel[0] * config.kernel[1] * self.channels;
        let mut windows = Buffer::take(width * window);
        let inside = self.columns_inside(config, width);
        let outs = output.values_mut().chunks_exact_mut(width * channels_out);
        for (index, out) in outs.enumerate() {
            let image = &self.values()[index / height * self.pixels() * self.channels..];
            let image = &image[..self.pixels() * self.channels];
            let y = lines.start + index % height;
            let top = (y * config.stride[0]).checked_sub(config.padding[0].0);
            let top = top.filter(|top| top + config.kernel[0] <= self.height);
            let inside = if top.is_some() { inside.clone() } else { 0..0 };
            for border in [0..inside.start, inside.end..width] {
                let windows = &mut windows[..border.len() * window];
                for (x, window) in border.clone().zip(windows.chunks_exact_mut(window)) {
                    self.copy_window(image, layer, [y, x], window);
                }
                let out = &mut out[border.start * channels_out..border.end * channels_out];
                let rows = RowView::whole(windows, window);
                matrix.multiply(rows, border.len(), ending, out);
            }
            if let Some(top) = top {
                let left = inside.start * config.stride[1] - config.padding[1].0;
                let first = (top * self.width + left) * self.channels;
                let rows = RowView::whole(&image[first..], config.stride[1] * self.channels)
                    .in_pieces(config.kernel[0], self.width * self.channels);
                let out = &mut out[inside.start * channels_out..inside.end * channels_out];
                matrix.multiply(rows, inside.len(), ending, out);
            }
        }
        output
    }

    /// Height and width of the output of a convolution.
    fn size_of(&self, config: &ConvolutionConfig) -> [usize; 2] {
        let size = |axis: usize, size: usize| {
            let (before, after) = config.padding[axis];
            (size + before + after - config.kernel[axis]) / config.stride[axis] + 1
        };
        [size(0, self.height), size(1, self.width)]
    }

    /// Output columns, of `width`, where the kernel lies inside the image.
    fn columns_inside(&self, config: &ConvolutionConfig, width: usize) -> Range<usize> {
        let (before, stride) = (config.padding[1].0, config.stride[1]);
        let last = (self.width + before).saturating_sub(config.kernel[1]) / stride;
        let first = before.div_ceil(stride);
        first..(last + 1).clamp(first, width.max(first))
    }

    /// Copies what the kernel sees of an image at an output pixel, zeros where it sees nothing.
    fn copy_window(&self, image: &[f32], layer: &Convolution, at: [usize; 2], window: &mut [f32]) {
        let config = &layer.config;
        let channels = self.channels;
        let top = at[0] * config.stride[0];
        let left = at[1] * config.stride[1];
        let (above, before) = (config.padding[0].0, config.padding[1].0);
        // Columns of the kernel that lie inside the image.
        let first = before.saturating_sub(left).min(config.kernel[1]);
        let last = (self.width + before)
            .saturating_sub(left)
            .clamp(first, config.kernel[1]);
        for (dy, line) in window
            .chunks_exact_mut(config.kernel[1] * channels)
            .enumerate()
        {
            let y = (top + dy).wrapping_sub(above);
            if y >= self.height || first == last {
                line.fill(0.0);
                continue;
            }
            let from = (y * self.width + left + first - before) * channels;
            line[..first * channels].fill(0.0);
            line[first * channels..last * channels]
                .copy_from_slice(&image[from..from + (last - first) * channels]);
            line[last * channels..].fill(0.0);
        }
    }

    /// What each channel of each image is scaled by, `[batch, channels]`.
    fn gates(&self, layer: &Squeeze) -> Buffer {
        self.mean().gates_of_mean(layer)
    }

    /// As [`Self::gates`] of a map whose mean this is.
    fn gates_of_mean(&self, layer: &Squeeze) -> Buffer {
        let opened = self.convolve(&layer.reduce).convolve(&layer.expand);
        let mut gates = Buffer::take(self.batch * self.channels);
        let residual = if layer.is_residual { 1.0 } else { 0.0 };
        for (gate, value) in gates.iter_mut().zip(opened.values()) {
            *gate = value + residual;
        }
        gates
    }
}

impl FeatureMap for HostMap {
    fn dims(&self) -> [usize; 4] {
        [self.batch, self.channels, self.height, self.width]
    }

    fn into_rows(self) -> Tensor<2> {
        let rows = self.batch * self.pixels();
        let data = TensorData::new(self.values().to_vec(), [rows, self.channels]);
        Tensor::from_data(data, &Device::flex())
    }

    fn convolve(&self, layer: &Convolution) -> Self {
        assert_eq!(
            self.channels, layer.config.channels_in,
            "channels fit the layer"
        );
        match layer.config.kernel == [1, 1] && layer.config.stride == [1, 1] {
            true => self.convolve_pixels(layer),
            false => {
                let [height, _] = self.size_of(&layer.config);
                self.convolve_windows(layer, 0..height)
            }
        }
    }

    fn is_made_in_bands(&self) -> bool {
        self.batch == 1
    }

    fn convolve_lines(&self, layer: &Convolution, lines: Range<usize>) -> Self {
        assert_eq!(
            self.channels, layer.config.channels_in,
            "channels fit the layer"
        );
        self.convolve_windows(layer, lines)
    }

    fn level(&self, layer: &Convolution, squeeze: &Squeeze, above: Option<&Self>) -> Self {
        let config = &layer.config;
        assert!(
            !config.has_bias && config.activation == Activation::Identity,
            "the mean of the output is that of the input, convolved"
        );
        let gates = self.mean().convolve(layer).gates_of_mean(squeeze);
        let channels = config.channels_out;
        let mut output = Self::new([self.batch, channels, self.height, self.width]);
        let smaller = above.map(|above| {
            let half = [self.height / 2, self.width / 2];
            let dims = [self.batch, channels, half[0], half[1]];
            assert_eq!(above.dims(), dims, "the level above has half the size");
            (above.values(), half[1] * channels)
        });
        let lines = self.values().chunks_exact(self.width * self.channels);
        let outs = output.values_mut().chunks_exact_mut(self.width * channels);
        for (index, (line, out)) in lines.zip(outs).enumerate() {
            let rows = RowView::whole(line, self.channels);
            packed(layer).multiply(rows, self.width, Ending::PLAIN, out);
            let gate = &gates[index / self.height * channels..][..channels];
            scale_rows(Vectors::chosen(), out, gate);
            if let Some((values, line_values)) = smaller {
                let above = &values[index / 2 * line_values..][..line_values];
                add_repeated(Vectors::chosen(), out, above, channels);
            }
        }
        output
    }

    fn depthwise(&self, layer: &Depthwise) -> Self {
        let [height, width] = filter_of(layer)
            .shape()
            .output_size([self.height, self.width]);
        let mut output = Self::new([self.batch, self.channels, height, width]);
        self.in_blocks(&mut output, 2 * self.channels, |image, lines, out| {
            self.filter(layer, image, lines, out);
        });
        output
    }

    fn separate(&self, depthwise: &Depthwise, dense: &Convolution) -> Self {
        let config = &dense.config;
        assert!(
            config.kernel == [1, 1] && config.stride == [1, 1],
            "the dense layer mixes channels only"
        );
        let [height, width] = filter_of(depthwise)
            .shape()
            .output_size([self.height, self.width]);
        let mut output = Self::new([self.batch, config.channels_out, height, width]);
        let values = self.channels + config.channels_out;
        let block = block_lines(width, values).min(height) * width;
        let mut filtered = Buffer::take(block * self.channels);
        self.in_blocks(&mut output, values, |image, lines, out| {
            let n_pixels = lines.len() * width;
            let filtered = &mut filtered[..n_pixels * self.channels];
            self.filter(depthwise, image, lines, filtered);
            let rows = RowView::whole(filtered, self.channels);
            packed(dense).multiply(rows, n_pixels, config.activation.into(), out);
        });
        output
    }

    fn grow(&self, layer: &Transposed) -> Self {
        let config = &layer.config;
        let dims = [2 * self.height, 2 * self.width];
        let mut output = Self::new([self.batch, config.channels_out, dims[0], dims[1]]);
        let matrices = layer.packed.as_deref().expect(PACKED);
        let line_values = dims[1] * config.channels_out;
        let out = output.values_mut().chunks_exact_mut(line_values);
        for (index, out) in out.enumerate() {
            let line = index / 2 * self.width * self.channels;
            let rows = RowView::whole(&self.values()[line..], self.channels);
            matrices[index % 2].multiply(rows, self.width, config.activation.into(), out);
        }
        output
    }

    fn squeeze(mut self, layer: &Squeeze) -> Self {
        let gates = self.gates(layer);
        let channels = self.channels;
        let image_values = self.pixels() * channels;
        for (image, gate) in self
            .values_mut()
            .chunks_exact_mut(image_values)
            .zip(gates.chunks_exact(channels))
        {
            scale_rows(Vectors::chosen(), image, gate);
        }
        self
    }

    fn mix(&self, layer: &Mixer) -> Self {
        match &layer.squeeze {
            Some(squeeze) => {
                let mixed = FeatureMap::depthwise(self, &layer.depthwise);
                let gates = mixed.gates(squeeze);
                mixed.mix_channels(layer, &gates)
            }
            None => self.mix_pixels_and_channels(layer),
        }
    }

    fn dilate_and_join(&self, other: &Self) -> Self {
        assert_eq!(self.dims(), other.dims(), "joined maps are of one size");
        let channels = 2 * self.channels;
        let mut output = Self::new([self.batch, channels, self.height, self.width]);
        let line_values = self.width * self.channels;
        let mut dilated = Buffer::take(line_values);
        let lines = self.values().chunks_exact(line_values);
        let others = other.values().chunks_exact(line_values);
        let out = output.values_mut().chunks_exact_mut(2 * line_values);
        for (index, (out, (upper, other))) in out.zip(lines.zip(others)).enumerate() {
            let lower = match (index + 1) % self.height {
                0 => upper,
                _ => &self.values()[(index + 1) * line_values..][..line_values],
            };
            let vectors = Vectors::chosen();
            dilate_line(vectors, upper, lower, self.channels, &mut dilated);
            for (part, line) in [&dilated, other].into_iter().enumerate() {
                let out = &mut out[part * self.channels..];
                copy_rows(vectors, line, out, self.channels, channels, 1);
            }
        }
        output
    }

    fn max_pool(&self) -> Self {
        let (height, width) = (self.height / 2, self.width / 2);
        let mut output = Self::new([self.batch, self.channels, height, width]);
        let channels = self.channels;
        let source = self.values();
        for (index, out) in output.values_mut().chunks_exact_mut(channels).enumerate() {
            let (x, y) = (index % width, index / width % height);
            let image = index / (width * height) * self.pixels();
            let pixel = |dy, dx| {
                let at = image + (2 * y + dy) * self.width + 2 * x + dx;
                &source[at * channels..][..channels]
            };
            let corners = [pixel(0, 0), pixel(0, 1), pixel(1, 0), pixel(1, 1)];
            for (channel, out) in out.iter_mut().enumerate() {
                *out = corners
                    .iter()
                    .map(|corner| corner[channel])
                    .fold(f32::MIN, f32::max);
            }
        }
        output
    }

    fn mean_pool(&self, window: [usize; 2]) -> Self {
        let (height, width) = (self.height / window[0], self.width / window[1]);
        let mut output = Self::new([self.batch, self.channels, height, width]);
        let channels = self.channels;
        let source = self.values();
        let scale = 1.0 / (window[0] * window[1]) as f32;
        for (index, out) in output.values_mut().chunks_exact_mut(channels).enumerate() {
            let (x, y) = (index % width, index / width % height);
            let image = index / (width * height) * self.pixels();
            out.fill(0.0);
            for dy in 0..window[0] {
                for dx in 0..window[1] {
                    let at = image + (window[0] * y + dy) * self.width + window[1] * x + dx;
                    add(Vectors::chosen(), out, &source[at * channels..][..channels]);
                }
            }
            out.iter_mut().for_each(|value| *value *= scale);
        }
        output
    }

    fn mean(&self) -> Self {
        let mut output = Self::new([self.batch, self.channels, 1, 1]);
        let out = output.values_mut();
        for (image, out) in self
            .values()
            .chunks_exact(self.pixels() * self.channels)
            .zip(out.chunks_exact_mut(self.channels))
        {
            mean_rows(Vectors::chosen(), image, out);
        }
        output
    }

    fn concat_lines(parts: &[Self], lines: Range<usize>) -> Self {
        let Some(largest) = parts.iter().max_by_key(|part| part.height) else {
            unreachable!("nothing is joined of nothing");
        };
        let Self {
            batch,
            height,
            width,
            ..
        } = *largest;
        let channels = parts.iter().map(|part| part.channels).sum();
        let mut output = Self::new([batch, channels, lines.len(), width]);
        let outs = output.values_mut().chunks_exact_mut(width * channels);
        for (index, out) in outs.enumerate() {
            let (image, y) = (index / lines.len(), lines.start + index % lines.len());
            let mut first = 0;
            for part in parts {
                let times = height / part.height;
                let size = [times * part.height, times * part.width];
                assert!(
                    part.batch == batch && size == [height, width],
                    "joined maps are of one size when they are repeated"
                );
                let line_values = part.width * part.channels;
                let line = (image * part.height + y / times) * line_values;
                let line = &part.values()[line..][..line_values];
                let out = &mut out[first..];
                copy_rows(Vectors::chosen(), line, out, part.channels, channels, times);
                first += part.channels;
            }
        }
        output
    }

    fn stack(mut parts: impl Iterator<Item = Self>, n_lines: usize) -> Self {
        let Some(first) = parts.next() else {
            unreachable!("nothing is stacked of nothing");
        };
        let [_, channels, _, width] = first.dims();
        let mut output = Self::new([1, channels, n_lines, width]);
        let mut out = output.values_mut();
        // Each part as soon as it is made, while it is in the cache.
        for part in std::iter::once(first).chain(parts) {
            assert_eq!(
                [part.batch, part.channels, part.width],
                [1, channels, width],
                "stacked maps are of one width"
            );
            let (here, rest) = out.split_at_mut(part.values().len());
            here.copy_from_slice(part.values());
            out = rest;
        }
        assert!(out.is_empty(), "as many lines as were promised");
        output
    }

    fn add(mut self, other: &Self) -> Self {
        assert_eq!(self.dims(), other.dims(), "added maps are of one size");
        add(Vectors::chosen(), self.values_mut(), other.values());
        self
    }

    fn normalize(&self, layer: &LayerNorm) -> Self {
        let mut output = self.clone();
        let weight = layer.weight.val().into_data();
        let bias = layer.bias.val().into_data();
        let (Ok(weight), Ok(bias)) = (weight.as_slice::<f32>(), bias.as_slice::<f32>()) else {
            unreachable!("weights on the host are f32");
        };
        normalize_rows(
            Vectors::chosen(),
            output.values_mut(),
            weight,
            bias,
            layer.epsilon as f32,
        );
        output
    }

    fn attend(&self, n_heads: usize) -> Self {
        let mut output = Self::new([self.batch, self.channels / 3, 1, self.width]);
        let sequences = self.values().chunks_exact(self.width * self.channels);
        let out = output
            .values_mut()
            .chunks_exact_mut(self.width * self.channels / 3);
        for (sequence, out) in sequences.zip(out) {
            attend_sequence(Vectors::chosen(), sequence, self.width, n_heads, out);
        }
        output
    }

    fn likeliest(&self, layer: &Convolution) -> Vec<(usize, f32)> {
        let rows = RowView::whole(self.values(), self.channels);
        packed(layer).likeliest(rows, self.batch * self.pixels())
    }
}

impl HostMap {
    /// The second half of a block: channels are scaled by `gates` and mixed.
    fn mix_channels(mut self, layer: &Mixer, gates: &[f32]) -> Self {
        let channels = self.channels;
        let tile = tile_pixels(channels + layer.expand.config.channels_out);
        let image_values = self.pixels() * channels;
        let is_residual = layer.is_residual;
        assert!(is_residual, "a block that squeezes keeps its channels");
        for (image, gate) in self
            .values_mut()
            .chunks_exact_mut(image_values)
            .zip(gates.chunks_exact(channels))
        {
            for pixels in image.chunks_mut(tile * channels) {
                scale_rows(Vectors::chosen(), pixels, gate);
                let wide = expand(layer, pixels);
                project(layer, &wide, pixels);
            }
        }
        self
    }

    /// A whole block without a squeeze, tile by tile.
    fn mix_pixels_and_channels(&self, layer: &Mixer) -> Self {
        let [height, width] = filter_of(&layer.depthwise)
            .shape()
            .output_size([self.height, self.width]);
        let channels_out = layer.project.config.channels_out;
        let mut output = Self::new([self.batch, channels_out, height, width]);
        let channels = self.channels;
        let values = 2 * channels;
        let block = block_lines(width, values).min(height) * width;
        let n_wide = layer.expand.config.channels_out;
        let tile = tile_pixels(channels + n_wide);
        let mut narrow = Buffer::take(if layer.is_residual {
            0
        } else {
            block * channels
        });
        self.in_blocks(&mut output, values, |image, lines, out| {
            if layer.is_residual {
                self.filter(&layer.depthwise, image, lines, out);
                for pixels in out.chunks_mut(tile * channels) {
                    let wide = expand(layer, pixels);
                    project(layer, &wide, pixels);
                }
                return;
            }
            let narrow = &mut narrow[..lines.len() * width * channels];
            self.filter(&layer.depthwise, image, lines, narrow);
            let tiles = narrow.chunks(tile * channels);
            for (pixels, out) in tiles.zip(out.chunks_mut(tile * channels_out)) {
                let wide = expand(layer, pixels);
                project(layer, &wide, out);
            }
        });
        output
    }
}

/// The wide middle of a block for some pixels.
fn expand(layer: &Mixer, pixels: &[f32]) -> Passed {
    let config = &layer.expand.config;
    let n_pixels = pixels.len() / config.channels_in;
    let rows = RowView::whole(pixels, config.channels_in);
    let next = packed(&layer.project);
    packed(&layer.expand).pass(rows, n_pixels, config.activation, next)
}

/// From the wide middle to the output, which holds what is added if the block is residual.
fn project(layer: &Mixer, wide: &Passed, out: &mut [f32]) {
    let ending = match layer.is_residual {
        true => Ending::ADDED,
        false => Ending::PLAIN,
    };
    packed(&layer.project).multiply_passed(wide, ending, out);
}

fn filter_of(layer: &Depthwise) -> &DepthwiseKernel {
    layer.packed.as_deref().expect(PACKED)
}

fn packed(layer: &Convolution) -> &PackedMatrix {
    layer.packed.as_deref().expect(PACKED)
}

/// Lines of a block when each pixel needs so many values; an even number, as is best for depthwise
/// convolutions.
fn block_lines(width: usize, values: usize) -> usize {
    (TILE_VALUES / (width * values).max(1) / 2 * 2).max(2)
}

/// Pixels of a tile when each needs so many values.
fn tile_pixels(values: usize) -> usize {
    let [least, most] = TILE_PIXELS;
    (TILE_VALUES / values / least * least).clamp(least, most)
}
