//! Pictures of one page: PNG, JPEG, WebP, GIF (its first frame) and BMP.

use std::io::Cursor;

use image::error::{LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use quire_core::{PageImage, RenderSpec, Rotation, Stage, Trouble, TroubleCode};

use super::frame::{Frame, fit};
use super::metadata;
use super::shrink::Shrink;
use crate::pipeline::render::wire::OpenedInfo;

/// A picture whose header was read and whose size is bearable.
pub(super) struct ImageDocument {
    format: ImageFormat,
    bytes: Vec<u8>,
    memory: u64,
}

impl ImageDocument {
    /// Reads the header.
    pub(super) fn open(
        media_type: &str,
        bytes: Vec<u8>,
        memory_limit_bytes: u64,
    ) -> Result<(Self, OpenedInfo), Trouble> {
        let format = match media_type {
            "image/png" => ImageFormat::Png,
            "image/jpeg" => ImageFormat::Jpeg,
            "image/webp" => ImageFormat::WebP,
            "image/gif" => ImageFormat::Gif,
            "image/bmp" => ImageFormat::Bmp,
            other => {
                let message = format!("{other} is not drawn");
                return Err(Trouble::new(Stage::Open, TroubleCode::Unsupported, message));
            }
        };
        let document = Self {
            format,
            bytes,
            memory: picture_bytes(memory_limit_bytes),
        };
        let decoder = document.decoder(Stage::Open)?;
        let (width, height) = decoder.dimensions();
        check_size(
            decoder.total_bytes(),
            document.memory,
            document.bytes.len(),
            (width, height),
        )?;
        drop(decoder);
        Ok((
            document,
            OpenedInfo {
                n_pages: 1,
                ..OpenedInfo::default()
            },
        ))
    }

    fn decoder(&self, stage: Stage) -> Result<impl ImageDecoder + '_, Trouble> {
        let mut reader = ImageReader::with_format(Cursor::new(self.bytes.as_slice()), self.format);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(self.memory);
        reader.limits(limits);
        reader
            .into_decoder()
            .map_err(|error| trouble_of(stage, &error))
    }

    /// Decodes the picture, upright, on white.
    pub(super) fn page(&self, page_idx: u32, spec: &RenderSpec) -> Result<Frame, Trouble> {
        if page_idx != 0 {
            let message = format!("a picture has no page {}", page_idx + 1);
            return Err(Trouble::new(Stage::Render, TroubleCode::Other, message));
        }
        let mut decoder = self.decoder(Stage::Render)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let picture = DynamicImage::from_decoder(decoder)
            .map_err(|error| trouble_of(Stage::Render, &error))?;
        let source = (picture.width(), picture.height());
        let target = fit(f64::from(source.0), f64::from(source.1), 1.0, spec);
        let mut shrink = Shrink::new(source, target);
        push_rows(&picture, &mut shrink)?;
        drop(picture);
        let mut image = shrink.finish();
        if self.format == ImageFormat::Jpeg && ends_early(&self.bytes, &image) {
            let message = "the JPEG ends before its picture does";
            return Err(Trouble::new(Stage::Render, TroubleCode::Truncated, message));
        }
        image.dpi = metadata::plausible_dpi(metadata::resolution(self.format, &self.bytes), source)
            .map(|dpi| dpi * target.0 as f32 / source.0 as f32);
        Ok(upright(image, orientation))
    }
}

/// Bytes that a picture may take while it is decoded: what is left holds the file, the page made
/// from it and the decoder's own tables.
pub(super) fn picture_bytes(memory_limit_bytes: u64) -> u64 {
    memory_limit_bytes / 20 * 7
}

/// Refuses pictures that unpack to more than `limit` bytes.
pub(super) fn check_size(
    unpacked: u64,
    limit: u64,
    file_bytes: usize,
    (width, height): (u32, u32),
) -> Result<(), Trouble> {
    if unpacked <= limit {
        return Ok(());
    }
    // No compression of real pictures goes much beyond this.
    let is_bomb = unpacked / 500 > file_bytes as u64;
    let code = if is_bomb {
        TroubleCode::Bomb
    } else {
        TroubleCode::TooLarge
    };
    let message = format!(
        "{width} x {height} pixels need {unpacked} bytes in memory, from a file of {file_bytes}"
    );
    Err(Trouble::new(Stage::Open, code, message))
}

fn trouble_of(stage: Stage, error: &ImageError) -> Trouble {
    let code = match error {
        ImageError::Unsupported(_) => TroubleCode::Unsupported,
        ImageError::Limits(limit) if is_memory(limit) => TroubleCode::TooLarge,
        ImageError::Limits(_) => TroubleCode::TooLarge,
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            TroubleCode::Truncated
        }
        _ => TroubleCode::Damaged,
    };
    Trouble::new(stage, code, error.to_string())
}

fn is_memory(limit: &LimitError) -> bool {
    matches!(limit.kind(), LimitErrorKind::InsufficientMemory)
}

/// Puts a picture on its feet, and says how it was turned if it was only turned.
pub(super) fn upright(image: PageImage, orientation: Orientation) -> Frame {
    let (turn, is_mirrored) = match orientation {
        Orientation::NoTransforms => (Rotation::None, false),
        Orientation::Rotate90 => (Rotation::Quarter, false),
        Orientation::Rotate180 => (Rotation::Half, false),
        Orientation::Rotate270 => (Rotation::ThreeQuarters, false),
        Orientation::FlipHorizontal => (Rotation::None, true),
        Orientation::FlipVertical => (Rotation::Half, true),
        Orientation::Rotate90FlipH => (Rotation::Quarter, true),
        Orientation::Rotate270FlipH => (Rotation::ThreeQuarters, true),
    };
    let mut image = if turn == Rotation::None {
        image
    } else {
        image.rotated(turn)
    };
    if !is_mirrored {
        return Frame::of_picture(image, turn);
    }
    for row in image.rgb.chunks_exact_mut(image.width as usize * 3) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
    let warnings = vec!["the file says that the picture is mirrored; it was mirrored back".into()];
    Frame::of_picture(image, Rotation::None).with_warnings(warnings)
}

/// Whether a JPEG stops in the middle: without the marker of its end, and with the grey that the
/// decoder leaves where nothing came in the last rows. Files that merely lack the marker are
/// common and whole.
fn ends_early(bytes: &[u8], image: &PageImage) -> bool {
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    if bytes
        .windows(2)
        .rev()
        .take(4096)
        .any(|pair| pair == END_OF_IMAGE)
    {
        return false;
    }
    let row = image.width as usize * 3;
    let Some(last) = image.rgb.last_chunk::<3>() else {
        return false;
    };
    let n_rows = (image.height as usize).min(8);
    let bottom = &image.rgb[image.rgb.len() - row * n_rows..];
    let is_flat = bottom.chunks_exact(3).all(|pixel| pixel == last);
    is_flat && last.iter().all(|&value| value < 250)
}

/// Gives every row of `picture` as RGB on white.
fn push_rows(picture: &DynamicImage, shrink: &mut Shrink) -> Result<(), Trouble> {
    let width = picture.width() as usize;
    match picture {
        DynamicImage::ImageLuma8(p) => each_row(p.as_raw(), width, shrink, |[v]: &[u8; 1]| [*v; 3]),
        DynamicImage::ImageLumaA8(p) => {
            each_row(p.as_raw(), width, shrink, |[v, a]: &[u8; 2]| {
                [on_white(*v, *a); 3]
            });
        }
        DynamicImage::ImageRgb8(p) => {
            p.as_raw()
                .chunks_exact(width * 3)
                .for_each(|row| shrink.push(row));
        }
        DynamicImage::ImageRgba8(p) => {
            each_row(p.as_raw(), width, shrink, |[r, g, b, a]: &[u8; 4]| {
                [on_white(*r, *a), on_white(*g, *a), on_white(*b, *a)]
            });
        }
        DynamicImage::ImageLuma16(p) => {
            each_row(p.as_raw(), width, shrink, |[v]: &[u16; 1]| {
                [to_8_bit(*v); 3]
            });
        }
        DynamicImage::ImageLumaA16(p) => {
            each_row(p.as_raw(), width, shrink, |[v, a]: &[u16; 2]| {
                [on_white(to_8_bit(*v), to_8_bit(*a)); 3]
            });
        }
        DynamicImage::ImageRgb16(p) => {
            each_row(p.as_raw(), width, shrink, |pixel: &[u16; 3]| {
                pixel.map(to_8_bit)
            });
        }
        DynamicImage::ImageRgba16(p) => {
            each_row(p.as_raw(), width, shrink, |pixel: &[u16; 4]| {
                let [r, g, b, a] = pixel.map(to_8_bit);
                [on_white(r, a), on_white(g, a), on_white(b, a)]
            });
        }
        other => {
            let message = format!("pixels of kind {:?} are not drawn", other.color());
            return Err(Trouble::new(
                Stage::Render,
                TroubleCode::Unsupported,
                message,
            ));
        }
    }
    Ok(())
}

fn each_row<T, const N: usize>(
    samples: &[T],
    width: usize,
    shrink: &mut Shrink,
    to_rgb: impl Fn(&[T; N]) -> [u8; 3],
) {
    let mut rgb = Vec::with_capacity(width * 3);
    for row in samples.chunks_exact(width * N) {
        let (pixels, _) = row.as_chunks::<N>();
        rgb.clear();
        rgb.extend(pixels.iter().flat_map(&to_rgb));
        shrink.push(&rgb);
    }
}

/// `value` with opacity `alpha` over white.
pub(super) fn on_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// The upper half of a 16-bit sample, rounded.
pub(super) fn to_8_bit(value: u16) -> u8 {
    ((u32::from(value) * 255 + 32_767) / 65_535) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparency_shows_white() {
        assert_eq!(on_white(0, 0), 255);
        assert_eq!(on_white(0, 255), 0);
        assert_eq!(on_white(0, 128), 127);
        assert_eq!(
            (to_8_bit(0), to_8_bit(65_535), to_8_bit(32_896)),
            (0, 255, 128)
        );
    }

    #[test]
    fn bomb_is_told_from_a_large_picture() {
        let code = |file_bytes| {
            check_size(1 << 32, 1 << 30, file_bytes, (1, 1))
                .unwrap_err()
                .code
        };
        assert_eq!(code(1000), TroubleCode::Bomb);
        assert_eq!(code(100 << 20), TroubleCode::TooLarge);
        assert!(check_size(1, 1, 1, (1, 1)).is_ok());
    }

    #[test]
    fn mirrored_pictures_are_mirrored_back() {
        let image = PageImage {
            width: 2,
            height: 1,
            rgb: vec![1, 1, 1, 2, 2, 2],
            dpi: None,
        };
        let frame = upright(image.clone(), Orientation::FlipHorizontal);
        assert_eq!(frame.rgb, [2, 2, 2, 1, 1, 1]);
        assert_eq!(frame.head.rotation, Rotation::None);
        let frame = upright(image, Orientation::Rotate90);
        assert_eq!((frame.head.width, frame.head.height), (1, 2));
        assert_eq!(frame.head.rotation, Rotation::Quarter);
    }
}
