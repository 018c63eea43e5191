//! Undoes the compression of one band of a TIFF frame: a strip, or tiles side by side.

use std::io::Read;

use hayro_ccitt::{DecodeSettings, Decoder, DecoderContext, EncodingMode};
use quire_core::{Stage, Trouble, TroubleCode};
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::directory::TagReader;
use super::layout::{Color, Layout, Packing};
use super::pixels::Band;

fn damaged(message: impl Into<String>) -> Trouble {
    Trouble::new(Stage::Render, TroubleCode::Damaged, message)
}

/// The unpacked rows of band `band`, as far as they came, and what stopped them.
pub(super) fn band(
    reader: &TagReader<'_>,
    layout: &Layout,
    band: u32,
) -> Result<(Band, Option<Trouble>), Trouble> {
    let mut planes = Vec::new();
    let mut broken = None;
    for plane in 0..layout.n_planes() {
        let first = (plane * layout.n_bands() + band) * layout.cells_across();
        let mut joined: Option<Vec<u8>> = None;
        for nth in 0..layout.cells_across() {
            let (bytes, stop) = cell(reader, layout, (first + nth) as usize, band)?;
            broken = broken.or(stop);
            if layout.cells_across() == 1 {
                joined = Some(bytes);
            } else {
                let whole = layout.band_row_bytes() as usize * layout.cell.1 as usize;
                place_tile(
                    layout,
                    nth,
                    &bytes,
                    joined.get_or_insert_with(|| vec![0; whole]),
                );
            }
        }
        planes.push(joined.unwrap_or_default());
    }
    Ok((Band::new(planes), broken))
}

/// Copies a tile into the rows that run over all tiles. Rows that did not come stay black, which
/// nobody takes for paper.
fn place_tile(layout: &Layout, nth: u32, tile: &[u8], joined: &mut [u8]) {
    let (tile_row, band_row) = (
        layout.cell_row_bytes() as usize,
        layout.band_row_bytes() as usize,
    );
    let at = nth as usize * tile_row;
    for (from, to) in tile
        .chunks_exact(tile_row)
        .zip(joined.chunks_exact_mut(band_row))
    {
        to[at..at + tile_row].copy_from_slice(from);
    }
}

fn cell(
    reader: &TagReader<'_>,
    layout: &Layout,
    nth: usize,
    band: u32,
) -> Result<(Vec<u8>, Option<Trouble>), Trouble> {
    let (offset, length) = *layout
        .cells
        .get(nth)
        .ok_or_else(|| damaged("a strip is missing"))?;
    let packed = reader.slice_up_to(offset, length);
    let reversed: Vec<u8>;
    let packed = if layout.is_reversed {
        reversed = packed.iter().map(|byte| byte.reverse_bits()).collect();
        &reversed
    } else {
        packed
    };
    let rows = if layout.is_tiled {
        layout.cell.1
    } else {
        layout.band_rows(band)
    };
    let expected = expected_bytes(layout, rows);
    let (mut bytes, broken) = match layout.packing {
        Packing::None => (packed[..packed.len().min(expected)].to_vec(), None),
        Packing::PackBits => (pack_bits(packed, expected), None),
        Packing::Lzw => lzw(packed, expected),
        Packing::Deflate => deflate(packed, expected),
        Packing::Jpeg => jpeg(packed, layout, rows)?,
        Packing::FaxRle => fax(packed, layout, rows, EncodingMode::Group3_1D, true),
        Packing::FaxGroup3 {
            is_two_dimensional: false,
        } => fax(packed, layout, rows, EncodingMode::Group3_1D, false),
        Packing::FaxGroup3 {
            is_two_dimensional: true,
        } => fax(packed, layout, rows, EncodingMode::Group3_2D, false),
        Packing::FaxGroup4 => fax(packed, layout, rows, EncodingMode::Group4, false),
    };
    if layout.bits == 16 && reader.is_little_endian {
        // From here on samples have their high byte first.
        bytes
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .for_each(|pair| pair.swap(0, 1));
    }
    if layout.is_differenced {
        undo_differences(layout, &mut bytes);
    }
    if let Color::YCbCr { across, down } = layout.color {
        bytes = super::pixels::from_ycbcr(&bytes, layout.cell.0, rows, across, down);
    }
    Ok((bytes, broken))
}

fn expected_bytes(layout: &Layout, rows: u32) -> usize {
    match layout.color {
        Color::YCbCr { across, down } if layout.packing != Packing::Jpeg => {
            let units = u64::from(layout.cell.0.div_ceil(across)) * u64::from(rows.div_ceil(down));
            (units * u64::from(across * down + 2)) as usize
        }
        _ => (layout.cell_row_bytes() * u64::from(rows)) as usize,
    }
}

fn pack_bits(packed: &[u8], expected: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(expected);
    let mut rest = packed;
    while let Some((&count, after)) = rest.split_first()
        && bytes.len() < expected
    {
        rest = after;
        match count as i8 {
            -128 => {}
            count @ 0.. => {
                let (literal, after) = rest.split_at((count as usize + 1).min(rest.len()));
                bytes.extend_from_slice(literal);
                rest = after;
            }
            count => {
                let Some((&value, after)) = rest.split_first() else {
                    break;
                };
                bytes.resize(bytes.len() + 1 + usize::from(count.unsigned_abs()), value);
                rest = after;
            }
        }
    }
    bytes.truncate(expected);
    bytes
}

fn lzw(packed: &[u8], expected: usize) -> (Vec<u8>, Option<Trouble>) {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let mut bytes = vec![0; expected];
    let mut done = 0;
    let mut rest = packed;
    while done < expected {
        let step = decoder.decode_bytes(rest, &mut bytes[done..]);
        done += step.consumed_out;
        rest = &rest[step.consumed_in..];
        match step.status {
            Ok(weezl::LzwStatus::Ok) => {}
            Ok(weezl::LzwStatus::NoProgress | weezl::LzwStatus::Done) => break,
            Err(error) => {
                bytes.truncate(done);
                return (bytes, Some(damaged(format!("LZW: {error}"))));
            }
        }
    }
    bytes.truncate(done);
    (bytes, None)
}

fn deflate(packed: &[u8], expected: usize) -> (Vec<u8>, Option<Trouble>) {
    let mut bytes = Vec::with_capacity(expected);
    let decoder = flate2::read::ZlibDecoder::new(packed);
    // What came before an error has been given.
    let broken = decoder.take(expected as u64).read_to_end(&mut bytes).err();
    (
        bytes,
        broken.map(|error| damaged(format!("deflate: {error}"))),
    )
}

fn jpeg(packed: &[u8], layout: &Layout, rows: u32) -> Result<(Vec<u8>, Option<Trouble>), Trouble> {
    let wrong = |error: &dyn std::fmt::Display| damaged(format!("JPEG inside TIFF: {error}"));
    let stream = match &layout.jpeg_tables {
        // Tables and picture each start and end as a JPEG does; one of each pair must go.
        Some(tables) if tables.len() > 4 && packed.len() > 2 => {
            [&tables[..tables.len() - 2], &packed[2..]].concat()
        }
        _ => packed.to_vec(),
    };
    let options = DecoderOptions::default().set_strict_mode(false);
    let options = options.set_max_width(1 << 20).set_max_height(1 << 20);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(&stream), options);
    decoder.decode_headers().map_err(|e| wrong(&e))?;
    let stored = decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr);
    let n_components = stored.num_components();
    if n_components as u32 != layout.samples_together() {
        return Err(damaged("JPEG inside TIFF has another number of colors"));
    }
    // Whether the colors were turned into YCbCr is for the TIFF to say, not for the JPEG; the
    // layout calls both RGB.
    let is_ycbcr = layout.color == Color::Rgb && stored == ColorSpace::YCbCr;
    let wanted = if is_ycbcr { ColorSpace::RGB } else { stored };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let pixels = decoder.decode().map_err(|e| wrong(&e))?;
    let (width, height) = decoder.dimensions().unwrap_or((0, 0));
    let (from_row, to_row) = (width * n_components, layout.cell_row_bytes() as usize);
    if width < layout.cell.0.min(layout.width) as usize || from_row == 0 {
        return Err(damaged("JPEG inside TIFF is narrower than its strip"));
    }
    let mut bytes = Vec::with_capacity(to_row * rows as usize);
    for row in pixels
        .chunks_exact(from_row)
        .take(height.min(rows as usize))
    {
        bytes.extend_from_slice(&row[..from_row.min(to_row)]);
        bytes.resize(bytes.len().next_multiple_of(to_row), 255);
    }
    Ok((bytes, None))
}

/// Rows of bits, black ones set, as the fax standards have it.
struct BitRows {
    bytes: Vec<u8>,
    row_bytes: usize,
    width: u32,
}

impl Decoder for BitRows {
    fn push_row(&mut self, changes: &[u32]) {
        let start = self.bytes.len();
        self.bytes.resize(start + self.row_bytes, 0);
        let row = &mut self.bytes[start..];
        for span in changes.chunks(2) {
            let from = span[0];
            let to = span.get(1).copied().unwrap_or(self.width).min(self.width);
            fill_bits(row, from as usize, to as usize);
        }
    }
}

fn fill_bits(row: &mut [u8], from: usize, to: usize) {
    if from >= to {
        return;
    }
    let (first, last) = (from / 8, (to - 1) / 8);
    let first_mask = 0xff_u8 >> (from % 8);
    let last_mask = 0xff_u8 << (7 - (to - 1) % 8);
    if first == last {
        row[first] |= first_mask & last_mask;
        return;
    }
    row[first] |= first_mask;
    row[first + 1..last].fill(0xff);
    row[last] |= last_mask;
}

fn fax(
    packed: &[u8],
    layout: &Layout,
    rows: u32,
    encoding: EncodingMode,
    rows_are_byte_aligned: bool,
) -> (Vec<u8>, Option<Trouble>) {
    let row_bytes = layout.cell_row_bytes() as usize;
    let bytes = Vec::with_capacity(row_bytes * rows as usize);
    let mut sink = BitRows {
        bytes,
        row_bytes,
        width: layout.cell.0,
    };
    let mut context = DecoderContext::new(DecodeSettings {
        columns: layout.cell.0,
        rows,
        end_of_block: true,
        end_of_line: false,
        rows_are_byte_aligned,
        encoding,
        strict: false,
    });
    let result = hayro_ccitt::decode(packed, &mut sink, &mut context);
    (
        sink.bytes,
        result
            .err()
            .map(|error| damaged(format!("fax compression: {error:?}"))),
    )
}

fn undo_differences(layout: &Layout, bytes: &mut [u8]) {
    let samples = layout.samples_together() as usize;
    for row in bytes.chunks_exact_mut(layout.cell_row_bytes() as usize) {
        if layout.bits == 8 {
            for at in samples..row.len() {
                row[at] = row[at].wrapping_add(row[at - samples]);
            }
        } else if layout.bits == 16 {
            let (row, _) = row.as_chunks_mut::<2>();
            for at in samples..row.len() {
                let sum =
                    u16::from_be_bytes(row[at]).wrapping_add(u16::from_be_bytes(row[at - samples]));
                row[at] = sum.to_be_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_bits_mixes_runs_and_literals() {
        assert_eq!(
            pack_bits(&[2, 1, 2, 3, 0xfe, 9, 0x80], 6),
            [1, 2, 3, 9, 9, 9]
        );
        assert_eq!(pack_bits(&[0x81, 5], 4), [5; 4]);
        assert_eq!(pack_bits(&[5, 1], 10), [1]);
    }

    #[test]
    fn bits_are_filled_across_bytes() {
        let mut row = [0; 3];
        fill_bits(&mut row, 6, 18);
        assert_eq!(row, [0b0000_0011, 0xff, 0b1100_0000]);
        let mut row = [0; 1];
        fill_bits(&mut row, 2, 4);
        assert_eq!(row, [0b0011_0000]);
    }
}
