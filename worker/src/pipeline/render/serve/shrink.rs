//! Makes a picture smaller row by row, each pixel the average of the area it covers.
//!
//! Averaging keeps the grey that thin strokes of a bilevel scan need, never rings, and needs one
//! row of sums, so the largest scan costs no more memory than its own rows.

use quire_core::PageImage;

/// Takes RGB rows of a picture from the top and gives a picture that is no larger.
pub(super) struct Shrink {
    source: (u32, u32),
    target: (u32, u32),
    /// Rows taken so far.
    n_rows: u32,
    /// Sums over the target row being made, weighted by covered area in units of
    /// 1 / (target width * target height) of a source pixel.
    sums: Vec<u64>,
    /// Sums of one source row, horizontally.
    row_sums: Vec<u64>,
    rgb: Vec<u8>,
}

impl Shrink {
    /// From `source` to `target`, both width and height; `target` must not be larger.
    pub(super) fn new(source: (u32, u32), target: (u32, u32)) -> Self {
        let target = (target.0.clamp(1, source.0), target.1.clamp(1, source.1));
        let width = target.0 as usize * 3;
        let is_copy = source == target;
        Self {
            source,
            target,
            n_rows: 0,
            sums: if is_copy { Vec::new() } else { vec![0; width] },
            row_sums: if is_copy { Vec::new() } else { vec![0; width] },
            rgb: Vec::with_capacity(width * target.1 as usize),
        }
    }

    /// Takes the next row, `3 * width` bytes; rows beyond the height are ignored.
    pub(super) fn push(&mut self, row: &[u8]) {
        if self.n_rows >= self.source.1 {
            return;
        }
        let y = self.n_rows;
        self.n_rows += 1;
        if self.source == self.target {
            self.rgb.extend_from_slice(row);
            return;
        }
        self.sum_row(row);
        let (source_h, target_h) = (u64::from(self.source.1), u64::from(self.target.1));
        // In units of 1 / target_h of a source row, this row covers target_h units and a target
        // row covers source_h of them.
        let (mut from, to) = (u64::from(y) * target_h, u64::from(y + 1) * target_h);
        while from < to {
            let edge = (from / source_h + 1) * source_h;
            let weight = edge.min(to) - from;
            for (sum, part) in self.sums.iter_mut().zip(&self.row_sums) {
                *sum += part * weight;
            }
            from += weight;
            if from == edge {
                self.finish_row();
            }
        }
    }

    /// Averages a source row into `row_sums`, in units of 1 / target width of a pixel.
    fn sum_row(&mut self, row: &[u8]) {
        let (source_w, target_w) = (u64::from(self.source.0), u64::from(self.target.0));
        self.row_sums.fill(0);
        let mut x = 0;
        let mut edge = source_w;
        let mut from = 0;
        for pixel in row.chunks_exact(3).take(self.source.0 as usize) {
            let to = from + target_w;
            while from < to {
                let weight = edge.min(to) - from;
                for (sum, &value) in self.row_sums[x..x + 3].iter_mut().zip(pixel) {
                    *sum += u64::from(value) * weight;
                }
                from += weight;
                if from == edge {
                    x += 3;
                    edge += source_w;
                }
            }
        }
    }

    fn finish_row(&mut self) {
        let whole = u64::from(self.source.0) * u64::from(self.source.1);
        self.rgb.extend(
            self.sums
                .iter()
                .map(|sum| ((sum + whole / 2) / whole) as u8),
        );
        self.sums.fill(0);
    }

    /// Rows taken so far.
    pub(super) fn n_rows(&self) -> u32 {
        self.n_rows
    }

    /// The picture; what never came is white.
    pub(super) fn finish(mut self) -> PageImage {
        let (width, height) = self.target;
        self.rgb.resize(width as usize * height as usize * 3, 255);
        PageImage {
            width,
            height,
            rgb: self.rgb,
            dpi: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrink(rows: &[&[u8]], source: (u32, u32), target: (u32, u32)) -> Vec<u8> {
        let mut shrink = Shrink::new(source, target);
        for row in rows {
            let rgb: Vec<u8> = row.iter().flat_map(|&v| [v; 3]).collect();
            shrink.push(&rgb);
        }
        shrink
            .finish()
            .rgb
            .chunks(3)
            .map(|pixel| pixel[0])
            .collect()
    }

    #[test]
    fn pixels_become_the_average_of_their_area() {
        assert_eq!(shrink(&[&[0, 255], &[255, 255]], (2, 2), (1, 1)), [191]);
        // Three pixels over two: each takes one and a half.
        assert_eq!(shrink(&[&[0, 90, 180]], (3, 1), (2, 1)), [30, 150]);
        assert_eq!(shrink(&[&[0], &[90], &[180]], (1, 3), (1, 2)), [30, 150]);
    }

    #[test]
    fn same_size_is_a_copy_and_missing_rows_are_white() {
        assert_eq!(shrink(&[&[1, 2], &[3, 4]], (2, 2), (2, 2)), [1, 2, 3, 4]);
        assert_eq!(shrink(&[&[1, 2]], (2, 2), (2, 2)), [1, 2, 255, 255]);
        assert_eq!(
            shrink(&[&[7, 7, 7, 7]], (4, 4), (2, 2)),
            [255, 255, 255, 255]
        );
    }

    #[test]
    fn any_ratio_keeps_a_flat_picture_flat() {
        for (source, target) in [((7, 5), (3, 2)), ((100, 9), (99, 8)), ((5, 5), (5, 1))] {
            let row = vec![77; source.0 as usize];
            let rows: Vec<&[u8]> = (0..source.1).map(|_| row.as_slice()).collect();
            let out = shrink(&rows, source, target);
            assert_eq!(out, vec![77; (target.0 * target.1) as usize]);
        }
    }
}
