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
/// - `planes`: `[3, 48, room]`, `room` at least `width`; gets blue, green and red from -1 to 1,
///   and what lies beyond the width stays as it is
///
/// # Panics
/// When there is less room.
pub fn cut(image: &PageImage, line: &TextLine, width: usize, planes: &mut [f32], room: usize) {
    assert!(
        width <= room && planes.len() == 3 * LINE_HEIGHT * room,
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
    Vectors::chosen().run_loops(
        #[inline(always)]
        || {
            let (blue, others) = planes.split_at_mut(LINE_HEIGHT * room);
            let (green, red) = others.split_at_mut(LINE_HEIGHT * room);
            for y in 0..LINE_HEIGHT {
                let [blue, green, red] =
                    [&mut *blue, green, red].map(|plane| &mut plane[y * room..][..width]);
                for x in 0..width {
                    let mut sum = [0.0; 8];
                    for sub_y in 0..n_across {
                        let v = (y as f32 + (sub_y as f32 + 0.5) / n_across as f32)
                            / LINE_HEIGHT as f32;
                        for column in &columns[x * n_along..][..n_along] {
                            let at_x = column[0] + v * across[0];
                            let at_y = column[1] + v * across[1];
                            add_sample(image, at_x, at_y, &mut sum);
                        }
                    }
                    red[x] = (sum[0] + sum[3]) * weight - 1.0;
                    green[x] = (sum[1] + sum[4]) * weight - 1.0;
                    blue[x] = (sum[2] + sum[5]) * weight - 1.0;
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

/// Adds the image's value between pixels, interpolated: the color is what both halves sum up to.
#[inline(always)]
fn add_sample(image: &PageImage, x: f32, y: f32, sum: &mut TwoPixels) {
    let (last_x, last_y) = (image.width as usize - 1, image.height as usize - 1);
    let x = x.clamp(0.0, last_x as f32);
    let y = y.clamp(0.0, last_y as f32);
    // By way of the type that takes one instruction.
    let (left, top) = (x as i32 as usize, y as i32 as usize);
    let (fx, fy) = (x - left as i32 as f32, y - top as i32 as f32);
    let (a, b) = (1.0 - fx, fx);
    let of_pixels = [a, a, a, b, b, b, 0.0, 0.0];
    let stride = image.width as usize * 3;
    let upper = top * stride + left * 3;
    let lower = if top < last_y { upper + stride } else { upper };
    let two = [
        image.rgb[upper..].first_chunk(),
        image.rgb[lower..].first_chunk(),
    ];
    if let ([Some(upper), Some(lower)], true) = (two, left < last_x) {
        add_pixels(upper, &of_pixels, 1.0 - fy, sum);
        add_pixels(lower, &of_pixels, fy, sum);
    } else {
        let at_end = [upper, lower].map(|from| pixels_at_end(image, from, left < last_x));
        add_pixels(&at_end[0], &of_pixels, 1.0 - fy, sum);
        add_pixels(&at_end[1], &of_pixels, fy, sum);
    }
}

#[inline(always)]
fn add_pixels(bytes: &[u8; 8], of_pixels: &TwoPixels, of_line: f32, sum: &mut TwoPixels) {
    for ((sum, of_pixel), byte) in sum.iter_mut().zip(of_pixels).zip(bytes) {
        *sum += of_line * of_pixel * f32::from(*byte);
    }
}

/// The pixel that begins here and the next, or itself again where its line ends.
#[cold]
fn pixels_at_end(image: &PageImage, from: usize, has_next: bool) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..3].copy_from_slice(&image.rgb[from..from + 3]);
    let next = if has_next { from + 3 } else { from };
    bytes[3..6].copy_from_slice(&image.rgb[next..next + 3]);
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
        planes: Vec<f32>,
    }

    /// With room to spare, which has to stay as it is.
    fn cut(image: &PageImage, line: &TextLine, width: usize) -> LineImage {
        const SPARE: usize = 3;
        let room = width + SPARE;
        let mut planes = vec![7.0; 3 * LINE_HEIGHT * room];
        super::cut(image, line, width, &mut planes, room);
        let rows = planes.chunks_exact(room);
        assert!(rows.clone().all(|row| row[width..] == [7.0; SPARE]));
        let planes = rows.flat_map(|row| &row[..width]).copied().collect();
        LineImage { width, planes }
    }

    fn value(line: &LineImage, plane: usize, x: usize, y: usize) -> f32 {
        (line.planes[(plane * LINE_HEIGHT + y) * line.width + x] + 1.0) * 127.5
    }

    #[test]
    fn line_is_read_along_its_first_edge() {
        let image = ramps(20, 20);
        let corners = [[2.0, 4.0], [12.0, 4.0], [12.0, 10.0], [2.0, 10.0]];
        let line = cut(&image, &straight(corners), 80);
        // Red grows along the line, blue down the line; planes start with blue.
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
        assert!(one.planes.iter().all(|value| (value - 1.0).abs() < 1e-5));
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
