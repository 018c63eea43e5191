//! PDF documents, opened and drawn by hayro.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use hayro::hayro_interpret::hayro_cmap;
use hayro::hayro_interpret::hayro_syntax::object::{Array, Dict};
use hayro::hayro_interpret::hayro_syntax::page::{Page, Rotation as PageRotation};
use hayro::hayro_interpret::{InterpreterSettings, InterpreterWarning, RenderContent};
use hayro::hayro_syntax::{DecryptionError, LoadPdfError, Pdf, PdfVersion};
use hayro::kurbo::Affine;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::vello_cpu::{Pixmap, RasterizerSettings, RenderContext, Resources, TargetInit};
use hayro::{RenderCache, RenderSettings, render_into};
use quire_core::{PageImage, RenderSpec, Rotation, Stage, Trouble, TroubleCode};

use super::frame::{Frame, fit};
use crate::pipeline::render::fonts::FontShelf;
use crate::pipeline::render::wire::OpenedInfo;
use crate::pipeline::text_layer::extract::{Extracted, PageText};

/// Pages after which what was kept of fonts and glyphs is thrown away: hayro never does.
const PAGES_A_CACHE: u32 = 48;

/// Unpacked drawing operators of one page. The largest real ones, maps and plots, have tens of
/// megabytes.
const MAX_CONTENT_BYTES: usize = 256 << 20;

/// Titles and producers longer than this are cut.
const MAX_METADATA_CHARS: usize = 512;

/// An open PDF.
pub(super) struct PdfDocument {
    pdf: Pdf,
    fonts: Arc<FontShelf>,
}

/// What is kept from page to page of one document.
pub(super) struct PdfState<'d> {
    cache: RenderCache<'d>,
    text: PageText<'d>,
    n_pages: u32,
}

impl<'d> PdfState<'d> {
    pub(super) fn new(document: &'d PdfDocument) -> Self {
        Self {
            cache: RenderCache::new(),
            text: PageText::new(&document.pdf),
            n_pages: 0,
        }
    }
}

impl PdfDocument {
    /// Opens a PDF, with the empty password first and then each of `passwords`.
    pub(super) fn open(
        bytes: Vec<u8>,
        passwords: &[String],
        fonts: &Arc<FontShelf>,
    ) -> Result<(Self, OpenedInfo), Trouble> {
        let failed = |code, message: &str| Trouble::new(Stage::Open, code, message);
        let names_encryption = names_encryption(&bytes);
        let bytes = Arc::new(bytes);
        let mut opened = Pdf::new(Arc::clone(&bytes));
        let wrong_password = LoadPdfError::Decryption(DecryptionError::PasswordProtected);
        let mut passwords = passwords.iter();
        let mut needed_password = false;
        while opened.as_ref().is_err_and(|error| *error == wrong_password) {
            needed_password = true;
            let Some(password) = passwords.next() else {
                break;
            };
            opened = Pdf::new_with_password(Arc::clone(&bytes), password);
        }
        let pdf = opened.map_err(|error| match error {
            LoadPdfError::Invalid => failed(TroubleCode::Damaged, "no PDF can be made of the file"),
            LoadPdfError::Decryption(DecryptionError::PasswordProtected) => failed(
                TroubleCode::Encrypted,
                "none of the passwords in the settings opens it",
            ),
            LoadPdfError::Decryption(DecryptionError::UnsupportedAlgorithm) => failed(
                TroubleCode::Unsupported,
                "encrypted in a way that is not read",
            ),
            LoadPdfError::Decryption(
                DecryptionError::MissingIDEntry | DecryptionError::InvalidEncryption,
            ) => failed(
                TroubleCode::Damaged,
                "what describes its encryption is damaged",
            ),
        })?;
        let n_pages = u32::try_from(pdf.pages().len()).unwrap_or(u32::MAX);
        if n_pages == 0 {
            return Err(failed(TroubleCode::Damaged, "the PDF has no pages"));
        }
        let info = OpenedInfo {
            n_pages,
            is_encrypted: needed_password || names_encryption,
            is_form: is_form(&pdf),
            pdf_version: Some(version(pdf.version()).into()),
            pdf_producer: pdf.metadata().producer.as_deref().and_then(text_string),
            pdf_title: pdf.metadata().title.as_deref().and_then(text_string),
        };
        Ok((
            Self {
                pdf,
                fonts: Arc::clone(fonts),
            },
            info,
        ))
    }

    /// Draws a page, and takes its text if asked for.
    pub(super) fn page<'d>(
        &'d self,
        state: &mut PdfState<'d>,
        page_idx: u32,
        spec: &RenderSpec,
        with_text: bool,
        memory_limit_bytes: u64,
    ) -> Result<Frame, Trouble> {
        let failed = |code, message: String| Trouble::new(Stage::Render, code, message);
        let page = self.pdf.pages().get(page_idx as usize).ok_or_else(|| {
            failed(
                TroubleCode::Other,
                format!("the PDF has no page {}", page_idx + 1),
            )
        })?;
        state.n_pages += 1;
        if state.n_pages.is_multiple_of(PAGES_A_CACHE) {
            state.cache = RenderCache::new();
            state.text.forget();
        }
        let warnings = Warnings::default();
        let settings = self.interpreter_settings(&warnings);

        if page
            .page_stream()
            .is_some_and(|content| content.len() > MAX_CONTENT_BYTES)
        {
            let message = format!("drawing the page takes more than {MAX_CONTENT_BYTES} bytes");
            return Err(failed(TroubleCode::Bomb, message));
        }
        // A first walk draws nothing: it reads the text, and finds pictures too large to decode.
        let extracted = state.text.extract(page, settings.clone());
        check_pictures(&extracted, memory_limit_bytes)?;
        warnings.clear();

        let (image, size_pt) = draw(page, &state.cache, settings, spec)?;
        let rotation = match page.rotation() {
            PageRotation::None => Rotation::None,
            PageRotation::Horizontal => Rotation::Quarter,
            PageRotation::Flipped => Rotation::Half,
            PageRotation::FlippedHorizontal => Rotation::ThreeQuarters,
        };
        let warnings = warnings.into_messages(self.fonts.take_missing());
        check_loss(&extracted, &warnings)?;
        let text_layer = with_text.then(|| extracted.text_layer());
        Ok(Frame::new(image, rotation, Some(size_pt))
            .with_text(text_layer)
            .with_warnings(warnings))
    }

    fn interpreter_settings(&self, warnings: &Warnings) -> InterpreterSettings {
        let (fonts, warnings) = (Arc::clone(&self.fonts), warnings.clone());
        InterpreterSettings {
            font_resolver: Arc::new(move |query| fonts.resolve(query)),
            cmap_resolver: Arc::new(hayro_cmap::load_embedded),
            warning_sink: Arc::new(move |warning| warnings.add(warning)),
            render_content: RenderContent::all(),
        }
    }
}

/// Refuses a page with a picture that would not fit into memory once decoded.
fn check_pictures(extracted: &Extracted, memory_limit_bytes: u64) -> Result<(), Trouble> {
    let (width, height) = extracted.largest_picture;
    // One byte a pixel at the least, and room for the rest of the page.
    if u64::from(width) * u64::from(height) <= memory_limit_bytes / 4 * 3 {
        return Ok(());
    }
    let message = format!("a picture of {width} x {height} pixels does not fit into memory");
    Err(Trouble::new(Stage::Render, TroubleCode::Bomb, message))
}

/// Refuses a page of which nothing is left but what was left out: blank paper would be a lie.
fn check_loss(extracted: &Extracted, warnings: &[String]) -> Result<(), Trouble> {
    let has_text = extracted.n_visible() >= 20;
    let is_picture = extracted.image_coverage > 0.3;
    let lost_picture = is_picture && warnings.iter().any(|warning| warning == LOST_PICTURE);
    let lost_text = !is_picture
        && warnings
            .iter()
            .any(|warning| warning.starts_with(LOST_TEXT));
    let code = match (has_text, lost_picture, lost_text) {
        (false, true, _) => TroubleCode::Damaged,
        (false, _, true) => TroubleCode::Unsupported,
        _ => return Ok(()),
    };
    Err(Trouble::new(Stage::Render, code, warnings.join("; ")))
}

fn draw<'d>(
    page: &'d Page<'d>,
    cache: &RenderCache<'d>,
    settings: InterpreterSettings,
    spec: &RenderSpec,
) -> Result<(PageImage, (f32, f32)), Trouble> {
    let (width, height) = page.render_dimensions();
    let is_real = |edge: f32| edge.is_finite() && edge > 0.0;
    if !is_real(width) || !is_real(height) {
        let message = format!("a page of {width} x {height} points");
        return Err(Trouble::new(Stage::Render, TroubleCode::Damaged, message));
    }
    // Length of the page's unit in points.
    let unit = page
        .raw()
        .get::<f32>(b"UserUnit")
        .filter(|unit| (0.001..=1e4).contains(unit));
    let unit = unit.unwrap_or(1.0);
    let (wanted_w, wanted_h) = (f64::from(width), f64::from(height));
    let (pixels_w, pixels_h) = fit(
        wanted_w,
        wanted_h,
        f64::from(spec.dpi) / 72.0 * f64::from(unit),
        spec,
    );
    let (x_scale, y_scale) = (
        f64::from(pixels_w) / wanted_w,
        f64::from(pixels_h) / wanted_h,
    );

    // `fit` keeps both edges within 16 bits.
    let mut context = RenderContext::new(pixels_w as u16, pixels_h as u16);
    let to_pixels = Affine::scale_non_uniform(x_scale, y_scale) * to_kurbo(page);
    render_into(
        page,
        cache,
        &settings,
        &RenderSettings::default(),
        &mut context,
        to_pixels,
    );
    context.flush();
    let mut pixmap = Pixmap::new(context.width(), context.height());
    let on_white = RasterizerSettings {
        target_init: TargetInit::Clear(WHITE),
        ..RasterizerSettings::default()
    };
    context.render_with(&mut pixmap, &mut Resources::default(), on_white);
    drop(context);
    let (rgba, _) = pixmap.data_as_u8_slice().as_chunks::<4>();
    let rgb = rgba.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
    let dpi = Some((x_scale.max(y_scale) * 72.0 / f64::from(unit)) as f32);
    let image = PageImage {
        width: pixels_w,
        height: pixels_h,
        rgb,
        dpi,
    };
    Ok((image, (width * unit, height * unit)))
}

/// From the page's coordinates to points of the upright page, origin top left, y down.
pub(crate) fn to_kurbo(page: &Page<'_>) -> Affine {
    use hayro::hayro_interpret::TransformExt;
    page.initial_transform(true).to_kurbo()
}

const LOST_TEXT: &str = "text in ";
const LOST_FONT: &str = "text in a font that cannot be read is missing";
const LOST_PICTURE: &str = "a picture that cannot be decoded is missing";

/// What was left out while a page was walked.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<BTreeSet<&'static str>>>);

impl Warnings {
    fn add(&self, warning: InterpreterWarning) {
        let message = match warning {
            InterpreterWarning::UnsupportedFont => LOST_FONT,
            InterpreterWarning::ImageDecodeFailure => LOST_PICTURE,
            InterpreterWarning::UnresolvedAnnotationAppearance => "an annotation is missing",
            _ => "something is missing",
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(message);
    }

    fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn into_messages(self, missing_fonts: Vec<String>) -> Vec<String> {
        let warnings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut messages: Vec<String> = warnings.iter().map(|&message| message.into()).collect();
        let missing_fonts: BTreeSet<String> = missing_fonts.into_iter().collect();
        messages.extend(missing_fonts.iter().take(8).map(|font| {
            format!("text in {font} is missing: the PDF does not hold the font, and neither does render.font_folder")
        }));
        messages
    }
}

/// Whether the file speaks of encryption at all. An owner's password alone encrypts a file that
/// everybody can open.
fn names_encryption(bytes: &[u8]) -> bool {
    const KEY: &[u8] = b"/Encrypt";
    let mut rest = bytes;
    while let Some(at) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = &rest[at + KEY.len()..];
        // Not `/EncryptMetadata`.
        if rest.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
            return true;
        }
    }
    false
}

fn is_form(pdf: &Pdf) -> bool {
    let catalog = pdf.xref().get::<Dict<'_>>(pdf.xref().root_id());
    let form = catalog.and_then(|catalog| catalog.get::<Dict<'_>>(b"AcroForm"));
    let fields = form.and_then(|form| form.get::<Array<'_>>(b"Fields"));
    fields.is_some_and(|fields| fields.raw_iter().next().is_some())
}

fn version(version: PdfVersion) -> &'static str {
    match version {
        PdfVersion::Pdf10 => "1.0",
        PdfVersion::Pdf11 => "1.1",
        PdfVersion::Pdf12 => "1.2",
        PdfVersion::Pdf13 => "1.3",
        PdfVersion::Pdf14 => "1.4",
        PdfVersion::Pdf15 => "1.5",
        PdfVersion::Pdf16 => "1.6",
        PdfVersion::Pdf17 => "1.7",
        PdfVersion::Pdf20 => "2.0",
    }
}

/// A text string of a PDF (UTF-16, UTF-8 or PDFDocEncoding) without control characters; `None` if
/// nothing is left.
fn text_string(bytes: &[u8]) -> Option<String> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, _) = bytes.as_chunks::<2>();
        String::from_utf16_lossy(&units.iter().map(|&pair| unit(pair)).collect::<Vec<_>>())
    };
    let text = match bytes {
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        // Many writers put UTF-8 without saying so.
        plain => match std::str::from_utf8(plain) {
            Ok(text) => text.to_owned(),
            Err(_) => plain.iter().map(|&byte| pdf_doc_char(byte)).collect(),
        },
    };
    let clean: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_METADATA_CHARS)
        .collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// PDFDocEncoding (ISO 32000-1, annex D.3): Latin-1 but for two stretches.
fn pdf_doc_char(byte: u8) -> char {
    const FROM_18: [char; 8] = ['˘', 'ˇ', 'ˆ', '˙', '˝', '˛', '˚', '˜'];
    const FROM_80: [char; 33] = [
        '•', '†', '‡', '…', '—', '–', 'ƒ', '⁄', '‹', '›', '−', '‰', '„', '“', '”', '‘', '’', '‚',
        '™', 'ﬁ', 'ﬂ', 'Ł', 'Œ', 'Š', 'Ÿ', 'Ž', 'ı', 'ł', 'œ', 'š', 'ž', '\u{fffd}', '€',
    ];
    match byte {
        0x18..=0x1f => FROM_18[usize::from(byte - 0x18)],
        0x80..=0xa0 => FROM_80[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_strings_come_in_three_encodings() {
        let check = |bytes: &[u8], expected: Option<&str>| {
            assert_eq!(text_string(bytes).as_deref(), expected);
        };
        check(b"\xfe\xff\x4e\x2d\x65\x87", Some("中文"));
        check(b"\xff\xfe\x2d\x4e", Some("中"));
        check(b"\xef\xbb\xbfna\xc3\xafve", Some("naïve"));
        check(b"na\xefve \x84 \x93", Some("naïve — ﬁ"));
        check(b"tab\there\0", Some("tabhere"));
        check(b" \0 ", None);
    }

    #[test]
    fn encryption_is_not_its_metadata_flag() {
        assert!(names_encryption(b"trailer << /Encrypt 5 0 R >>"));
        assert!(!names_encryption(b"<< /EncryptMetadata true >>"));
        assert!(!names_encryption(b"/Encrypt"));
    }
}
