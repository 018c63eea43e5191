//! A line of text cut out of its page, straightened and brought to the height of the recognizer.

use quire_core::PageImage;
use quire_kernels::Vectors;

use crate::geometry::Point;
use crate::line::TextLine;

/// Height that classifier and recognizer want, pixels.
pub const LINE_HEIGHT: usize = 48;

/// Cuts `line` out of `image` and makes it straight and `width` pixels long.
///
/// What lies beyond the page repeats its edge.
///
/// # Shapes
/// - `pixels`: `[48, room, 3]`, `room` at least `width`; gets blue, green and red from -1 to 1,
///   and zeros beyond the width
///
/// # Panics
/// When there is less room.
pub fn cut(image: &PageImage, line: &TextLine, width: usize, pixels: &mut [f32], room: usize) {
    assert!(
        width <= room && pixels.len() == 3 * LINE_HEIGHT * room,
        "room for the line"
    );
    let [origin, right, _, down] = line.rectangle.corners;
    let along = [right[0] - origin[0], right[1] - origin[1]];
    let across = [down[0] - origin[0], down[1] - origin[1]];
    // Where a line shrinks, several samples share a pixel, so that thin strokes stay.
    let n_along = samples(line.width(), width);
    let n_across = samples(line.height(), LINE_HEIGHT);
    let weight = 1.0 / (127.5 * (n_along * n_across) as f32);
    let columns: Vec<Point> = (0..width * n_along)
        .map(|index| {
            let u = (index as f32 + 0.5) / (width * n_along) as f32;
            let v = line.bend_at(u);
            [0, 1].map(|axis| origin[axis] + u * along[axis] + v * across[axis])
        })
        .collect();
    let mut samples = Samples::new(image, columns.len());
    let mut sums = vec![[0.0; 8]; width];
    Vectors::chosen().run_loops(
        #[inline(always)]
        || {
            let lines = pixels.chunks_exact_mut(3 * room.max(1));
            for (y, line) in lines.enumerate() {
                for sub_y in 0..n_across {
                    let v =
                        (y as f32 + (sub_y as f32 + 0.5) / n_across as f32) / LINE_HEIGHT as f32;
                    samples.place(&columns, [v * across[0], v * across[1]]);
                    samples.add(n_along, &mut sums);
                }
                let (line, beyond) = line.split_at_mut(3 * width);
                beyond.fill(0.0);
                let (line, _) = line.as_chunks_mut::<3>();
                for (pixel, sum) in line.iter_mut().zip(&mut sums) {
                    let color = |channel| (sum[channel] + sum[channel + 3]) * weight - 1.0;
                    *pixel = [color(2), color(1), color(0)];
                    *sum = [0.0; 8];
                }
            }
        },
    );
}

fn samples(from: f32, to: usize) -> usize {
    ((from / to as f32).round() as usize).clamp(1, 8)
}

/// Colors of two pixels side by side and two values that are nobody's: sums in whole vectors.
type TwoPixels = [f32; 8];

/// Where an image is sampled along a line.
struct Samples<'a> {
    image: &'a PageImage,
    /// Bytes from a pixel to the one below.
    stride: usize,
    /// For each sample the first byte of the upper left of the four pixels around it, and how far
    /// it lies from there to the right and down, from 0 to 1.
    at: Vec<i32>,
    right: Vec<f32>,
    down: Vec<f32>,
}

impl<'a> Samples<'a> {
    fn new(image: &'a PageImage, n: usize) -> Self {
        let stride = if image.height > 1 { image.width * 3 } else { 0 };
        Self {
            image,
            stride: stride as usize,
            at: vec![0; n],
            right: vec![0.0; n],
            down: vec![0.0; n],
        }
    }

    /// Samples at `points` moved by `by`; beyond the image, at its edge.
    #[inline(always)]
    fn place(&mut self, points: &[Point], by: Point) {
        let (last_x, last_y) = (self.image.width - 1, self.image.height - 1);
        // On the last column or line, a sample lies wholly to the right or down.
        let (last_left, last_top) = (last_x.max(1) - 1, last_y.max(1) - 1);
        let [last_x, last_y] = [last_x, last_y].map(|last| last as f32);
        let [last_left, last_top] = [last_left, last_top].map(|last| last as f32);
        let line = self.image.width as i32;
        let places = self.at.iter_mut().zip(&mut self.right).zip(&mut self.down);
        for (((at, right), down), point) in places.zip(points) {
            let x = (point[0] + by[0]).clamp(0.0, last_x);
            let y = (point[1] + by[1]).clamp(0.0, last_y);
            let (left, top) = (x.floor().min(last_left), y.floor().min(last_top));
            *right = x - left;
            *down = y - top;
            *at = (top as i32 * line + left as i32) * 3;
        }
    }

    /// Adds the image's values at all samples, interpolated, `n` of them to each sum.
    #[inline(always)]
    fn add(&self, n: usize, sums: &mut [TwoPixels]) {
        let places = self.at.chunks_exact(n);
        let offsets = self.right.chunks_exact(n).zip(self.down.chunks_exact(n));
        for ((at, (right, down)), sum) in places.zip(offsets).zip(sums) {
            // A copy, which stays in a register.
            let mut total = *sum;
            for ((at, right), down) in at.iter().zip(right).zip(down) {
                let at = *at as usize;
                let upper = self.pixels(at);
                let lower = self.pixels(at + self.stride);
                let weights = LEFT.iter().zip(&RIGHT);
                let pixels = upper.iter().zip(&lower);
                for ((total, (upper, lower)), (left, rightness)) in
                    total.iter_mut().zip(pixels).zip(weights)
                {
                    let (upper, lower) = (f32::from(*upper), f32::from(*lower));
                    let between = upper + down * (lower - upper);
                    *total += (left + right * rightness) * between;
                }
            }
            *sum = total;
        }
    }

    /// Two pixels from a byte on.
    #[inline(always)]
    fn pixels(&self, from: usize) -> [u8; 8] {
        let rest = &self.image.rgb[from..];
        match rest.first_chunk() {
            Some(pixels) => *pixels,
            None => at_end(rest),
        }
    }
}

/// What the two pixels count for where a sample lies on the left one, and by how much that changes
/// to where it lies on the right one.
const LEFT: TwoPixels = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
const RIGHT: TwoPixels = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 0.0, 0.0];

#[cold]
fn at_end(rest: &[u8]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rectangle;

    fn straight(corners: [Point; 4]) -> TextLine {
        TextLine::straight(Rectangle { corners })
    }

    /// An image whose red is ten times x and whose blue is ten times y.
    fn ramps(width: u32, height: u32) -> PageImage {
        let mut image = PageImage::white(width, height);
        for (index, pixel) in image.rgb.chunks_exact_mut(3).enumerate() {
            let (x, y) = (index % width as usize, index / width as usize);
            pixel.copy_from_slice(&[(10 * x) as u8, 0, (10 * y) as u8]);
        }
        image
    }

    /// What was cut out.
    struct LineImage {
        width: usize,
        pixels: Vec<f32>,
    }

    /// With room to spare, which has to become zeros.
    fn cut(image: &PageImage, line: &TextLine, width: usize) -> LineImage {
        const SPARE: usize = 3;
        let room = width + SPARE;
        let mut pixels = vec![7.0; 3 * LINE_HEIGHT * room];
        super::cut(image, line, width, &mut pixels, room);
        let rows = pixels.chunks_exact(3 * room);
        assert!(rows.clone().all(|row| row[3 * width..] == [0.0; 3 * SPARE]));
        let pixels = rows.flat_map(|row| &row[..3 * width]).copied().collect();
        LineImage { width, pixels }
    }

    fn value(line: &LineImage, channel: usize, x: usize, y: usize) -> f32 {
        (line.pixels[(y * line.width + x) * 3 + channel] + 1.0) * 127.5
    }

    #[test]
    fn line_is_read_along_its_first_edge() {
        let image = ramps(20, 20);
        let corners = [[2.0, 4.0], [12.0, 4.0], [12.0, 10.0], [2.0, 10.0]];
        let line = cut(&image, &straight(corners), 80);
        // Red grows along the line, blue down the line; pixels start with blue.
        assert!((value(&line, 2, 40, 10) - (20.0 + 100.0 * 40.5 / 80.0)).abs() < 0.1);
        assert!((value(&line, 0, 40, 24) - (40.0 + 60.0 * 24.5 / 48.0)).abs() < 0.1);
        let turned = cut(&image, &straight(corners).half_turned(), 80);
        assert!((value(&turned, 2, 39, 0) - value(&line, 2, 40, 47)).abs() < 0.1);
    }

    #[test]
    fn beyond_the_page_its_edge_goes_on() {
        let image = ramps(3, 3);
        let corners = [[-50.0, -50.0], [90.0, -50.0], [90.0, 90.0], [-50.0, 90.0]];
        let line = cut(&image, &straight(corners), 96);
        assert!(value(&line, 2, 0, 0).abs() < 0.1);
        assert!((value(&line, 2, 95, 47) - 20.0).abs() < 0.1);
        let one = cut(&PageImage::white(1, 1), &straight([[0.0; 2]; 4]), 8);
        assert!(one.pixels.iter().all(|value| (value - 1.0).abs() < 1e-5));
    }

    #[test]
    fn bent_line_comes_out_straight() {
        let mut image = PageImage::white(200, 100);
        let middle = |x: usize| 50.0 + 20.0 * (x as f32 / 199.0 * std::f32::consts::PI).sin();
        for x in 0..200 {
            let at = (middle(x) as usize * 200 + x) * 3;
            image.rgb[at..at + 3].fill(0);
        }
        let mut line = straight([[0.0, 30.0], [199.0, 30.0], [199.0, 70.0], [0.0, 70.0]]);
        let points = crate::line::BEND_POINTS - 1;
        line.bend = Some(std::array::from_fn(|index| {
            (middle(199 * index / points) - 50.0) / 40.0
        }));
        let line = cut(&image, &line, 160);
        for x in [5, 40, 80, 120, 155] {
            let dark = (0..LINE_HEIGHT)
                .min_by(|&a, &b| value(&line, 0, x, a).total_cmp(&value(&line, 0, x, b)));
            assert!((22..=26).contains(&dark.unwrap()), "{dark:?} at {x}");
        }
    }
}
