//! The walk that computes nothing and counts what would be multiplied and added.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use burn::tensor::Tensor;

use super::{Convolution, Depthwise, FeatureMap, LayerNorm, Mixer, Squeeze, Transposed};

/// The size of a map, and what was done to come to it.
#[derive(Debug, Clone)]
pub(crate) struct WorkMap {
    dims: [usize; 4],
    /// Multiply-adds of all maps of a walk.
    done: Rc<Cell<u64>>,
}

impl WorkMap {
    /// Multiply-adds of a walk over images of this size.
    pub(crate) fn count<T>(dims: [usize; 4], walk: impl FnOnce(&Self) -> T) -> u64 {
        let images = Self {
            dims,
            done: Rc::default(),
        };
        walk(&images);
        images.done.get()
    }

    /// A map of another size that took so many multiply-adds a value.
    fn made(&self, dims: [usize; 4], a_value: usize) -> Self {
        let n_values: usize = dims.iter().product();
        self.done.set(self.done.get() + (n_values * a_value) as u64);
        Self {
            dims,
            done: self.done.clone(),
        }
    }

    fn resized(&self, height: usize, width: usize) -> Self {
        let [batch, channels, _, _] = self.dims;
        self.made([batch, channels, height, width], 0)
    }
}

impl FeatureMap for WorkMap {
    fn dims(&self) -> [usize; 4] {
        self.dims
    }

    fn into_rows(self) -> Tensor<2> {
        unreachable!("work has no values")
    }

    fn convolve(&self, layer: &Convolution) -> Self {
        let [batch, _, height, width] = self.dims;
        let config = &layer.config;
        let size = |axis: usize, size: usize| {
            let (before, after) = config.padding[axis];
            (size + before + after - config.kernel[axis]) / config.stride[axis] + 1
        };
        let dims = [batch, config.channels_out, size(0, height), size(1, width)];
        self.made(
            dims,
            config.channels_in * config.kernel[0] * config.kernel[1],
        )
    }

    fn convolve_lines(&self, layer: &Convolution, lines: Range<usize>) -> Self {
        let all = self.convolve(layer);
        all.resized(lines.len(), all.dims[3])
    }

    fn depthwise(&self, layer: &Depthwise) -> Self {
        let [batch, channels, height, width] = self.dims;
        let config = &layer.config;
        let padding = config.padding();
        let size = |axis: usize, size: usize| {
            (size + 2 * padding[axis] - config.kernel[axis]) / config.stride[axis] + 1
        };
        let dims = [batch, channels, size(0, height), size(1, width)];
        self.made(dims, config.kernel[0] * config.kernel[1])
    }

    fn grow(&self, layer: &Transposed) -> Self {
        let [batch, _, height, width] = self.dims;
        let config = &layer.config;
        let dims = [batch, config.channels_out, 2 * height, 2 * width];
        self.made(dims, config.channels_in)
    }

    fn squeeze(self, layer: &Squeeze) -> Self {
        self.mean().convolve(&layer.reduce).convolve(&layer.expand);
        self
    }

    fn level(&self, layer: &Convolution, squeeze: &Squeeze, _above: Option<&Self>) -> Self {
        self.convolve(layer).squeeze(squeeze)
    }

    fn mix(&self, layer: &Mixer) -> Self {
        let mixed = self.depthwise(&layer.depthwise);
        let mixed = match &layer.squeeze {
            Some(squeeze) => mixed.squeeze(squeeze),
            None => mixed,
        };
        mixed.convolve(&layer.expand).convolve(&layer.project)
    }

    fn dilate_and_join(&self, other: &Self) -> Self {
        joined([self, other].into_iter().cloned(), 1)
    }

    fn max_pool(&self) -> Self {
        self.resized(self.dims[2] / 2, self.dims[3] / 2)
    }

    fn mean_pool(&self, window: [usize; 2]) -> Self {
        self.resized(self.dims[2] / window[0], self.dims[3] / window[1])
    }

    fn mean(&self) -> Self {
        self.resized(1, 1)
    }

    fn concat_lines(parts: &[Self], lines: Range<usize>) -> Self {
        let width = parts.iter().map(|part| part.dims[3]).max();
        joined(parts.iter().cloned(), 1).resized(lines.len(), width.unwrap_or(0))
    }

    fn stack(parts: impl Iterator<Item = Self>, _n_lines: usize) -> Self {
        joined(parts, 2)
    }

    fn add(self, _other: &Self) -> Self {
        self
    }

    fn normalize(&self, _layer: &LayerNorm) -> Self {
        self.clone()
    }

    fn attend(&self, _n_heads: usize) -> Self {
        let [batch, channels, height, steps] = self.dims;
        self.made([batch, channels / 3, height, steps], 2 * steps)
    }

    fn likeliest(&self, layer: &Convolution) -> Vec<(usize, f32)> {
        self.convolve(layer);
        Vec::new()
    }
}

fn joined(mut parts: impl Iterator<Item = WorkMap>, axis: usize) -> WorkMap {
    let Some(mut joined) = parts.next() else {
        unreachable!("nothing is joined of nothing");
    };
    for part in parts {
        joined.dims[axis] += part.dims[axis];
    }
    joined
}
