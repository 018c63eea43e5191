//! The page image as it goes into the dataset: an upright JPEG under 2 MB.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use quire_core::PageImage;
use sha2::{Digest, Sha256};

/// Largest image of a row, bytes (the viewer of the Hugging Face hub refuses larger groups).
const MOST_BYTES: usize = 2_000_000;
/// JPEG qualities tried in turn; text stays readable down to the last.
const QUALITIES: [u8; 4] = [88, 75, 60, 40];
/// Longest edge that JPEG can hold.
const MOST_EDGE: u32 = 65_535;

/// An encoded page image.
#[derive(Debug, Clone)]
pub(crate) struct EncodedImage {
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 of `bytes` in hex.
    pub(crate) sha256: String,
}

/// Encodes a page; `Err` says why it cannot be held.
pub(crate) fn encode(image: &PageImage) -> Result<EncodedImage, String> {
    if image.width == 0 || image.height == 0 || image.width.max(image.height) > MOST_EDGE {
        return Err(format!(
            "a page of {} x {} pixels does not fit a JPEG",
            image.width, image.height
        ));
    }
    let mut bytes = Vec::new();
    for quality in QUALITIES {
        bytes.clear();
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .write_image(
                &image.rgb,
                image.width,
                image.height,
                ExtendedColorType::Rgb8,
            )
            .map_err(|error| format!("page image cannot be encoded: {error}"))?;
        if bytes.len() < MOST_BYTES {
            let sha256 = hex::encode(Sha256::digest(&bytes));
            return Ok(EncodedImage { bytes, sha256 });
        }
    }
    Err(format!(
        "page image takes {} bytes even at the lowest quality",
        bytes.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_that_hardly_compresses_still_comes_under_the_limit() {
        let mut image = PageImage::white(1600, 1600);
        let mut state = 1u32;
        for value in &mut image.rgb {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = (state >> 24) as u8;
        }
        let encoded = encode(&image).unwrap();
        assert!(encoded.bytes.len() < MOST_BYTES);
        assert_eq!(
            image::load_from_memory(&encoded.bytes).unwrap().width(),
            1600
        );
    }

    #[test]
    fn an_empty_image_is_refused() {
        assert!(encode(&PageImage::white(0, 10)).is_err());
    }
}
