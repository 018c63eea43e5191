//! How a frame lies in a TIFF: its size, its samples, and the strips or tiles it is cut into.

use quire_core::{Stage, Trouble, TroubleCode};

use super::directory::{Directory, TagReader, tag};

/// What the samples of a pixel mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Color {
    /// One sample; 0 is white or black.
    Gray {
        zero_is_white: bool,
    },
    Rgb,
    /// Index into a map of RGB.
    Palette(Vec<[u8; 3]>),
    /// Cyan, magenta, yellow, black.
    Cmyk,
    /// Not inside JPEG, which undoes it by itself. One pair of color samples covers this many
    /// pixels across and down.
    YCbCr {
        across: u32,
        down: u32,
    },
}

/// How strips and tiles are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    /// Modified Huffman, rows on byte boundaries.
    FaxRle,
    FaxGroup3 {
        is_two_dimensional: bool,
    },
    FaxGroup4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
}

/// A frame, ready to be unpacked.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1, 2, 4, 8 or 16, the same for each sample.
    pub(super) bits: u32,
    /// Samples of a pixel, with extra ones.
    pub(super) samples: u32,
    /// Position of an opacity sample, and whether colors are multiplied by it already.
    pub(super) alpha: Option<(u32, bool)>,
    pub(super) color: Color,
    pub(super) packing: Packing,
    /// Samples are differences to the pixel on the left.
    pub(super) is_differenced: bool,
    /// Bits of each byte come lowest first.
    pub(super) is_reversed: bool,
    /// Each sample has planes of its own.
    pub(super) is_planar: bool,
    pub(super) is_tiled: bool,
    /// Size of one strip or tile; the last strip may be lower.
    pub(super) cell: (u32, u32),
    /// Offset and length of each strip or tile, row by row, plane after plane.
    pub(super) cells: Vec<(u64, u64)>,
    /// What JPEG strips share.
    pub(super) jpeg_tables: Option<Vec<u8>>,
}

fn damaged(message: &str) -> Trouble {
    Trouble::new(Stage::Render, TroubleCode::Damaged, message)
}

fn unsupported(message: String) -> Trouble {
    Trouble::new(Stage::Render, TroubleCode::Unsupported, message)
}

impl Layout {
    /// Reads the tags of a frame.
    pub(super) fn read(reader: &TagReader<'_>, frame: &Directory) -> Result<Self, Trouble> {
        let number = |tag, otherwise| reader.number(frame, tag).unwrap_or(otherwise);
        let edge = |tag| {
            let edge = reader
                .number(frame, tag)
                .and_then(|n| u32::try_from(n).ok());
            edge.filter(|n| (1..=1 << 20).contains(n))
                .ok_or_else(|| damaged("the frame states no size"))
        };
        let (width, height) = (edge(tag::WIDTH)?, edge(tag::HEIGHT)?);
        let packing = packing(reader, frame)?;
        let bits = bits(reader, frame)?;
        let samples = number(tag::SAMPLES_PER_PIXEL, 1).clamp(1, 64) as u32;
        let color = color(reader, frame, bits, packing)?;
        let n_colors = match color {
            Color::Gray { .. } | Color::Palette(_) => 1,
            Color::Rgb | Color::YCbCr { .. } => 3,
            Color::Cmyk => 4,
        };
        if samples < n_colors {
            return Err(damaged("fewer samples than colors"));
        }
        let mut layout = Self {
            width,
            height,
            bits,
            samples,
            alpha: alpha(reader, frame, n_colors, samples),
            color,
            packing,
            is_differenced: false,
            is_reversed: number(tag::FILL_ORDER, 1) == 2 && packing != Packing::Jpeg,
            is_planar: number(tag::PLANAR_CONFIGURATION, 1) == 2 && samples > 1,
            is_tiled: false,
            cell: (width, height),
            cells: Vec::new(),
            jpeg_tables: reader.raw(frame, tag::JPEG_TABLES).map(<[u8]>::to_vec),
        };
        let may_be_differenced = matches!(packing, Packing::Lzw | Packing::Deflate);
        match number(tag::PREDICTOR, 1) {
            2 if may_be_differenced && bits >= 8 => layout.is_differenced = true,
            3 if may_be_differenced => return Err(unsupported("floating-point samples".into())),
            _ => {}
        }
        layout.read_cells(reader, frame)?;
        layout.check()?;
        Ok(layout)
    }

    fn read_cells(&mut self, reader: &TagReader<'_>, frame: &Directory) -> Result<(), Trouble> {
        self.is_tiled = reader.has(frame, tag::TILE_OFFSETS);
        let (offsets, counts) = if self.is_tiled {
            let edge = |tag| {
                let edge = reader
                    .number(frame, tag)
                    .and_then(|n| u32::try_from(n).ok());
                edge.filter(|n| (1..=1 << 16).contains(n))
                    .ok_or_else(|| damaged("tiles have no size"))
            };
            self.cell = (edge(tag::TILE_WIDTH)?, edge(tag::TILE_LENGTH)?);
            (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS)
        } else {
            let rows = reader
                .number(frame, tag::ROWS_PER_STRIP)
                .unwrap_or(u64::from(self.height));
            self.cell.1 = (rows.clamp(1, u64::from(self.height))) as u32;
            (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
        };
        let offsets = reader
            .numbers(frame, offsets)
            .ok_or_else(|| damaged("the frame has no strips"))?;
        // Old writers left the lengths out; whatever follows then belongs to the strip.
        let counts = reader.numbers(frame, counts).unwrap_or_default();
        let n_cells = (self.n_bands() * self.cells_across() * self.n_planes()) as usize;
        if offsets.len() < n_cells {
            return Err(damaged("the frame has fewer strips than its height needs"));
        }
        let lengths = counts
            .into_iter()
            .map(|n| if n == 0 { u64::MAX } else { n });
        let lengths = lengths.chain(std::iter::repeat(u64::MAX));
        self.cells = offsets.into_iter().take(n_cells).zip(lengths).collect();
        Ok(())
    }

    fn check(&self) -> Result<(), Trouble> {
        let is_fax = matches!(
            self.packing,
            Packing::FaxRle | Packing::FaxGroup3 { .. } | Packing::FaxGroup4
        );
        if is_fax && (self.bits != 1 || self.samples != 1) {
            return Err(damaged(
                "fax compression of something that is not black and white",
            ));
        }
        let needs_bytes = matches!(self.color, Color::Cmyk | Color::YCbCr { .. })
            || self.packing == Packing::Jpeg;
        if needs_bytes && self.bits != 8 && !(self.color == Color::Cmyk && self.bits == 16) {
            return Err(unsupported(format!(
                "{} bits a sample in this color space",
                self.bits
            )));
        }
        if matches!(self.color, Color::YCbCr { .. }) && (self.samples != 3 || self.is_planar) {
            return Err(unsupported("YCbCr in planes or with extra samples".into()));
        }
        Ok(())
    }

    /// Rows of cells.
    pub(super) fn n_bands(&self) -> u32 {
        self.height.div_ceil(self.cell.1)
    }

    /// Cells side by side.
    pub(super) fn cells_across(&self) -> u32 {
        self.width.div_ceil(self.cell.0)
    }

    /// Times that the cells are repeated, once a sample or once at all.
    pub(super) fn n_planes(&self) -> u32 {
        if self.is_planar { self.samples } else { 1 }
    }

    /// Samples of a pixel that lie side by side.
    pub(super) fn samples_together(&self) -> u32 {
        if self.is_planar { 1 } else { self.samples }
    }

    /// Rows of the picture in band number `band`.
    pub(super) fn band_rows(&self, band: u32) -> u32 {
        self.cell.1.min(self.height - band * self.cell.1)
    }

    /// Bytes of a row of one unpacked cell.
    pub(super) fn cell_row_bytes(&self) -> u64 {
        (u64::from(self.cell.0) * u64::from(self.samples_together()) * u64::from(self.bits))
            .div_ceil(8)
    }

    /// Bytes of a row of one plane over the whole width, as tiles join to it.
    pub(super) fn band_row_bytes(&self) -> u64 {
        self.cell_row_bytes() * u64::from(self.cells_across())
    }

    /// Bytes that unpacking needs at one time.
    pub(super) fn unpacked_bytes_at_once(&self) -> u64 {
        let planes = u64::from(self.n_planes());
        let rows = u64::from(self.cell.1.min(self.height.max(if self.is_tiled {
            self.cell.1
        } else {
            1
        })));
        self.band_row_bytes()
            .saturating_mul(rows)
            .saturating_mul(planes)
    }
}

fn packing(reader: &TagReader<'_>, frame: &Directory) -> Result<Packing, Trouble> {
    Ok(match reader.number(frame, tag::COMPRESSION).unwrap_or(1) {
        1 => Packing::None,
        2 => Packing::FaxRle,
        3 => {
            let options = reader.number(frame, tag::T4_OPTIONS).unwrap_or(0);
            Packing::FaxGroup3 {
                is_two_dimensional: options & 1 == 1,
            }
        }
        4 => Packing::FaxGroup4,
        5 => Packing::Lzw,
        6 => return Err(unsupported("JPEG as TIFF 6.0 first had it".into())),
        7 => Packing::Jpeg,
        8 | 32_946 => Packing::Deflate,
        32_773 => Packing::PackBits,
        other => return Err(unsupported(format!("TIFF compression {other}"))),
    })
}

fn bits(reader: &TagReader<'_>, frame: &Directory) -> Result<u32, Trouble> {
    let bits = reader
        .numbers(frame, tag::BITS_PER_SAMPLE)
        .unwrap_or_else(|| vec![1]);
    let first = bits.first().copied().unwrap_or(1);
    let is_uniform = bits.iter().all(|&n| n == first);
    if !is_uniform || !matches!(first, 1 | 2 | 4 | 8 | 16) {
        let shown = &bits[..bits.len().min(5)];
        return Err(unsupported(format!("samples of {shown:?} bits")));
    }
    match reader.number(frame, tag::SAMPLE_FORMAT).unwrap_or(1) {
        1 | 4 => Ok(first as u32),
        other => Err(unsupported(format!("samples of format {other}"))),
    }
}

fn color(
    reader: &TagReader<'_>,
    frame: &Directory,
    bits: u32,
    packing: Packing,
) -> Result<Color, Trouble> {
    // Fax writers leave it out now and then; white is what their zero means.
    Ok(match reader.number(frame, tag::PHOTOMETRIC).unwrap_or(0) {
        0 => Color::Gray {
            zero_is_white: true,
        },
        1 => Color::Gray {
            zero_is_white: false,
        },
        2 => Color::Rgb,
        3 => Color::Palette(palette(reader, frame, bits)?),
        5 => Color::Cmyk,
        // The JPEG decoder gives RGB.
        6 if packing == Packing::Jpeg => Color::Rgb,
        6 => {
            let parts = reader
                .numbers(frame, tag::YCBCR_SUBSAMPLING)
                .unwrap_or_else(|| vec![2, 2]);
            match parts.as_slice() {
                &[across @ (1 | 2 | 4), down @ (1 | 2 | 4)] => Color::YCbCr {
                    across: across as u32,
                    down: down as u32,
                },
                _ => return Err(damaged("impossible color subsampling")),
            }
        }
        8..=10 => return Err(unsupported("Lab colors".into())),
        other => return Err(unsupported(format!("color space {other}"))),
    })
}

/// All red values come first, then green, then blue; 16 bits each, or 8 from writers that read
/// the standard too fast.
fn palette(reader: &TagReader<'_>, frame: &Directory, bits: u32) -> Result<Vec<[u8; 3]>, Trouble> {
    let values = reader.numbers(frame, tag::COLOR_MAP).unwrap_or_default();
    let n_colors = 1 << bits;
    if bits > 8 || values.len() < 3 * n_colors {
        return Err(damaged("the color map is too short"));
    }
    let shift = if values.iter().all(|&value| value < 256) {
        0
    } else {
        8
    };
    let value = |at: usize| (values[at] >> shift) as u8;
    Ok((0..n_colors)
        .map(|at| [value(at), value(at + n_colors), value(at + 2 * n_colors)])
        .collect())
}

fn alpha(
    reader: &TagReader<'_>,
    frame: &Directory,
    n_colors: u32,
    samples: u32,
) -> Option<(u32, bool)> {
    let kinds = reader.numbers(frame, tag::EXTRA_SAMPLES)?;
    let nth = kinds.iter().position(|&kind| kind == 1 || kind == 2)?;
    let at = n_colors + nth as u32;
    (at < samples).then_some((at, kinds[nth] == 1))
}
