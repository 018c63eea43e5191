//! TIFF: every frame a page.
//!
//! Fax machines, scanners and archives have written TIFF in more ways than one library reads, so
//! the parts stand here by themselves: `directory` finds tags, `layout` says how a frame lies in
//! the file, `unpack` undoes compression, `pixels` makes RGB rows. Rows go straight into
//! [`Shrink`], so a scan of any length needs the memory of one strip.

pub(super) mod directory;
mod layout;
mod pixels;
mod unpack;

use image::metadata::Orientation;
use quire_core::{PageImage, RenderSpec, Stage, Trouble, TroubleCode};

use self::directory::{Directory, TagReader, tag};
use self::layout::Layout;
use super::frame::{Frame, fit};
use super::image::{check_size, picture_bytes, upright};
use super::metadata;
use super::shrink::Shrink;
use crate::pipeline::render::wire::OpenedInfo;

/// Bits of NewSubfileType that say "a smaller copy" and "a mask": not pages.
const NOT_A_PAGE: u64 = 0b101;

/// Part of the rows that may be missing before a frame counts as cut off: the last strip of many
/// faxes ends a little early.
const MISSING_ROWS_ALLOWANCE: f64 = 0.02;

/// A TIFF whose directories were read.
pub(super) struct TiffDocument {
    bytes: Vec<u8>,
    frames: Vec<Directory>,
    is_chain_whole: bool,
}

impl TiffDocument {
    /// Reads the directories.
    pub(super) fn open(bytes: Vec<u8>) -> Result<(Self, OpenedInfo), Trouble> {
        let damaged = |message: &str| Trouble::new(Stage::Open, TroubleCode::Damaged, message);
        let reader = TagReader::new(&bytes).ok_or_else(|| damaged("this is not a TIFF"))?;
        let (mut frames, is_chain_whole) = reader.chain();
        let is_page = |frame: &Directory| {
            reader.number(frame, tag::NEW_SUBFILE_TYPE).unwrap_or(0) & NOT_A_PAGE == 0
        };
        if frames.iter().any(is_page) {
            frames.retain(is_page);
        }
        let n_pages = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        if n_pages == 0 {
            // Most writers put the directory behind the picture.
            let is_cut = reader
                .first_directory()
                .is_none_or(|at| at >= bytes.len() as u64);
            let code = if is_cut {
                TroubleCode::Truncated
            } else {
                TroubleCode::Damaged
            };
            let message = "no frame of this TIFF can be found";
            return Err(Trouble::new(Stage::Open, code, message));
        }
        let document = Self {
            bytes,
            frames,
            is_chain_whole,
        };
        Ok((
            document,
            OpenedInfo {
                n_pages,
                ..OpenedInfo::default()
            },
        ))
    }

    /// Decodes a frame, upright.
    pub(super) fn page(
        &self,
        page_idx: u32,
        spec: &RenderSpec,
        memory_limit_bytes: u64,
    ) -> Result<Frame, Trouble> {
        let damaged = |message: String| Trouble::new(Stage::Render, TroubleCode::Damaged, message);
        let reader = TagReader::new(&self.bytes).ok_or_else(|| damaged("not a TIFF".into()))?;
        let frame = self.frames.get(page_idx as usize);
        let frame = frame.ok_or_else(|| damaged(format!("there is no frame {}", page_idx + 1)))?;
        let layout = Layout::read(&reader, frame)?;
        let limit = picture_bytes(memory_limit_bytes);
        let size = (layout.width, layout.height);
        check_size(
            layout.unpacked_bytes_at_once(),
            limit,
            self.bytes.len(),
            size,
        )?;

        let target = fit(f64::from(size.0), f64::from(size.1), 1.0, spec);
        let mut shrink = Shrink::new(size, target);
        let broken = decode(&reader, &layout, &mut shrink).err();
        let mut warnings = Vec::new();
        if let Some(trouble) = broken {
            let missing = layout.height - shrink.n_rows().min(layout.height);
            if f64::from(missing) > MISSING_ROWS_ALLOWANCE * f64::from(layout.height) {
                return Err(trouble);
            }
            warnings.push(format!(
                "the last {missing} rows are missing: {}",
                trouble.message
            ));
        }
        if !self.is_chain_whole && page_idx as usize + 1 == self.frames.len() {
            warnings.push("the file names further frames that are not in it".into());
        }
        let mut image: PageImage = shrink.finish();
        image.dpi = metadata::plausible_dpi(metadata::of_directory(&reader, frame), size)
            .map(|dpi| dpi * target.0 as f32 / size.0 as f32);
        let orientation = reader.number(frame, tag::ORIENTATION).unwrap_or(1) as u8;
        let mut page = upright(
            image,
            Orientation::from_exif(orientation).unwrap_or(Orientation::NoTransforms),
        );
        page.head.warnings.append(&mut warnings);
        Ok(page)
    }
}

/// Gives the frame's rows from the top; on error those before it have been given.
fn decode(reader: &TagReader<'_>, layout: &Layout, shrink: &mut Shrink) -> Result<(), Trouble> {
    let mut rgb = vec![0; layout.width as usize * 3];
    for band in 0..layout.n_bands() {
        let n_rows = layout.band_rows(band);
        let (rows, broken) = unpack::band(reader, layout, band)?;
        for y in 0..n_rows {
            if !rows.row_to_rgb(layout, y, &mut rgb) {
                let message = "the picture ends early";
                return Err(broken.unwrap_or_else(|| {
                    Trouble::new(Stage::Render, TroubleCode::Truncated, message)
                }));
            }
            shrink.push(&rgb);
        }
    }
    Ok(())
}
