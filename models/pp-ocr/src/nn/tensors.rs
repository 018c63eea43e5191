//! The walk over burn tensors, for any device. This is the definition of every operation.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::module::{
    adaptive_avg_pool2d, avg_pool2d, conv_transpose2d, conv2d, interpolate, layer_norm, max_pool2d,
};
use burn::tensor::ops::{
    AvgPoolOptions, ConvOptions, ConvTransposeOptions, InterpolateMode, InterpolateOptions,
    MaxPoolOptions,
};
use burn::tensor::{Tensor, s};

use super::activation::activate;
use super::{Convolution, Depthwise, FeatureMap, LayerNorm, Mixer, Squeeze, Transposed};

/// Repeats every pixel until the map is of this height and width.
fn repeated(map: &Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    if map.dims()[2..] == size {
        return map.clone();
    }
    let options = InterpolateOptions::new(InterpolateMode::Nearest).with_output_size(size);
    interpolate(map.clone(), options)
}

fn some_lines(map: Tensor<4>, lines: Range<usize>) -> Tensor<4> {
    match lines == (0..map.dims()[2]) {
        true => map,
        false => map.slice_dim(2, lines),
    }
}

impl FeatureMap for Tensor<4> {
    fn dims(&self) -> [usize; 4] {
        Tensor::dims(self)
    }

    fn into_rows(self) -> Tensor<2> {
        let [batch, channels, height, width] = self.dims();
        self.permute([0, 2, 3, 1])
            .reshape([batch * height * width, channels])
    }

    fn convolve(&self, layer: &Convolution) -> Self {
        let config = &layer.config;
        let bias = layer.bias.as_ref().map(|bias| bias.val());
        let options = ConvOptions::new_with_padding(config.stride, config.padding, [1, 1], 1);
        let output = conv2d(self.clone(), layer.weight.val(), bias, options);
        activate(config.activation, output)
    }

    fn convolve_lines(&self, layer: &Convolution, lines: Range<usize>) -> Self {
        some_lines(self.convolve(layer), lines)
    }

    fn depthwise(&self, layer: &Depthwise) -> Self {
        let config = &layer.config;
        let options = ConvOptions::new(config.stride, config.padding(), [1, 1], config.channels);
        let output = conv2d(
            self.clone(),
            layer.weight.val(),
            Some(layer.bias.val()),
            options,
        );
        activate(config.activation, output)
    }

    fn grow(&self, layer: &Transposed) -> Self {
        let options = ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1);
        let output = conv_transpose2d(
            self.clone(),
            layer.weight.val(),
            Some(layer.bias.val()),
            options,
        );
        activate(layer.config.activation, output)
    }

    fn squeeze(self, layer: &Squeeze) -> Self {
        let gate = FeatureMap::mean(&self)
            .convolve(&layer.reduce)
            .convolve(&layer.expand);
        let scaled = self.clone() * gate;
        match layer.is_residual {
            true => self + scaled,
            false => scaled,
        }
    }

    fn level(&self, layer: &Convolution, squeeze: &Squeeze, above: Option<&Self>) -> Self {
        let map = FeatureMap::squeeze(self.convolve(layer), squeeze);
        let [_, _, height, width] = map.dims();
        match above {
            Some(above) => map + repeated(above, [height, width]),
            None => map,
        }
    }

    fn mix(&self, layer: &Mixer) -> Self {
        let mixed = FeatureMap::depthwise(self, &layer.depthwise);
        let mixed = match &layer.squeeze {
            Some(squeeze) => FeatureMap::squeeze(mixed, squeeze),
            None => mixed,
        };
        let output = mixed.convolve(&layer.expand).convolve(&layer.project);
        match layer.is_residual {
            true => mixed + output,
            false => output,
        }
    }

    fn dilate_and_join(&self, other: &Self) -> Self {
        let mut options = MaxPoolOptions::new([2, 2]);
        options.stride = [1, 1];
        options.padding = [(0, 1), (0, 1)];
        Tensor::cat(vec![max_pool2d(self.clone(), options), other.clone()], 1)
    }

    fn max_pool(&self) -> Self {
        let mut options = MaxPoolOptions::new([2, 2]);
        options.stride = [2, 2];
        max_pool2d(self.clone(), options)
    }

    fn mean_pool(&self, window: [usize; 2]) -> Self {
        let mut options = AvgPoolOptions::new(window);
        options.stride = window;
        avg_pool2d(self.clone(), options)
    }

    fn mean(&self) -> Self {
        adaptive_avg_pool2d(self.clone(), [1, 1])
    }

    fn concat_lines(parts: &[Self], lines: Range<usize>) -> Self {
        let sizes = parts.iter().map(|part| part.dims()[2..].to_vec());
        let largest = sizes.max().unwrap_or_default();
        let repeated = parts
            .iter()
            .map(|part| repeated(part, [largest[0], largest[1]]));
        some_lines(Tensor::cat(repeated.collect(), 1), lines)
    }

    fn stack(parts: impl Iterator<Item = Self>, _n_lines: usize) -> Self {
        Tensor::cat(parts.collect(), 2)
    }

    fn add(self, other: &Self) -> Self {
        self + other.clone()
    }

    fn normalize(&self, layer: &LayerNorm) -> Self {
        let channels_last = self.clone().permute([0, 2, 3, 1]);
        let bias = Some(layer.bias.val());
        layer_norm(channels_last, layer.weight.val(), bias, layer.epsilon).permute([0, 3, 1, 2])
    }

    fn attend(&self, n_heads: usize) -> Self {
        let [batch, channels, _, steps] = self.dims();
        let width = channels / 3 / n_heads;
        // [batch, 3 * n_heads, steps, width]
        let heads = self
            .clone()
            .reshape([batch, 3 * n_heads, width, steps])
            .swap_dims(2, 3);
        let part = |index: usize| {
            heads
                .clone()
                .slice(s![.., index * n_heads..(index + 1) * n_heads, .., ..])
        };
        let queries = part(0) / (width as f64).sqrt();
        let attention = softmax(queries.matmul(part(1).swap_dims(2, 3)), 3);
        attention
            .matmul(part(2))
            .swap_dims(2, 3)
            .reshape([batch, channels / 3, 1, steps])
    }

    fn likeliest(&self, layer: &Convolution) -> Vec<(usize, f32)> {
        let logits = self.convolve(layer).into_rows();
        let (greatest, classes) = logits.clone().max_dim_with_indices(1);
        let sums = (logits - greatest).exp().sum_dim(1);
        let classes = classes.into_data().convert::<i64>();
        let sums = sums.into_data().convert::<f32>();
        let (Ok(classes), Ok(sums)) = (classes.as_slice::<i64>(), sums.as_slice::<f32>()) else {
            unreachable!("the values were just converted");
        };
        classes
            .iter()
            .zip(sums)
            .map(|(class, sum)| (*class as usize, 1.0 / sum))
            .collect()
    }
}
