//! Listens to the drawing events of a page: glyphs with their Unicode and place, and pictures.
//! Nothing is drawn and no picture is decoded.

use std::panic::resume_unwind;

use hayro::hayro_interpret::font::{Glyph as PdfGlyph, GlyphRun};
use hayro::hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro::hayro_interpret::hayro_syntax::page::Page;
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps,
    InterpreterCache, InterpreterSettings, Paint, SoftMask, TransformExt, interpret_page,
};
use hayro::hayro_syntax::Pdf;
use hayro::kurbo::{Affine, BezPath, Point, Rect, Shape};
use quire_core::{Stage, Trouble, TroubleCode};

use super::TextLayer;
use super::cid::CidFonts;
use super::lines;

/// Drawing events of one page. The busiest real pages, maps, have a few million; forms that
/// draw forms have as many as they like.
const MAX_EVENTS: u64 = 10_000_000;
/// Glyphs of one page that are kept.
const MAX_GLYPHS: usize = 500_000;
/// Pictures and boxes of one page that are asked whether they cover text.
const MAX_COVERS: u32 = 4_000;
/// How many glyphs back a fake-bold double may lie.
const DOUBLES_WITHIN: usize = 64;
/// Cells across and down of the grid on which the area under pictures is counted.
const GRID: usize = 64;

/// Reads the text of pages of one document.
pub(crate) struct PageText<'a> {
    cache: InterpreterCache<'a>,
    cid_fonts: CidFonts<'a>,
}

/// What was found on a page.
pub(crate) struct Extracted {
    /// Size of the upright page in its own units.
    pub(super) size: (f64, f64),
    pub(super) glyphs: Vec<Glyph>,
    pub(super) n_outside: u32,
    pub(crate) image_coverage: f32,
    /// Pixels across and down of the largest picture.
    pub(crate) largest_picture: (u32, u32),
}

/// A glyph in page units of the upright page, y down.
#[derive(Debug, Clone)]
pub(super) struct Glyph {
    pub(super) meaning: Meaning,
    /// On the baseline, where the glyph starts and ends.
    pub(super) start: Point,
    pub(super) end: Point,
    /// Height of an em.
    pub(super) size: f64,
    pub(super) bounds: Rect,
    pub(super) is_visible: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    Char(char),
    Text(String),
    Unknown,
}

impl Meaning {
    pub(super) fn is_space(&self) -> bool {
        match self {
            Self::Char(c) => c.is_whitespace(),
            Self::Text(text) => text.chars().all(char::is_whitespace),
            Self::Unknown => false,
        }
    }
}

impl<'a> PageText<'a> {
    pub(crate) fn new(pdf: &'a Pdf) -> Self {
        Self {
            cache: InterpreterCache::new(),
            cid_fonts: CidFonts::new(pdf),
        }
    }

    /// Forgets fonts and colors of earlier pages.
    pub(crate) fn forget(&mut self) {
        self.cache = InterpreterCache::new();
    }

    /// Walks the page. Unwinds with a [`Trouble`] if it has no end in sight.
    pub(crate) fn extract(&self, page: &Page<'a>, settings: InterpreterSettings) -> Extracted {
        let (width, height) = page.render_dimensions();
        let size = (f64::from(width), f64::from(height));
        let bounds = Rect::new(0.0, 0.0, size.0, size.1);
        let to_page = page.initial_transform(true).to_kurbo();
        let mut context = Context::new(to_page, bounds, &self.cache, page.xref(), settings);
        let mut listener = Listener::new(bounds, &self.cid_fonts);
        interpret_page(page, &mut context, &mut listener);
        listener.finish(size)
    }
}

impl Extracted {
    /// Glyphs that leave ink.
    pub(crate) fn n_visible(&self) -> usize {
        self.glyphs
            .iter()
            .filter(|glyph| glyph.is_visible && !glyph.meaning.is_space())
            .count()
    }

    /// Groups the glyphs into lines.
    pub(crate) fn text_layer(&self) -> TextLayer {
        let inked = || self.glyphs.iter().filter(|glyph| !glyph.meaning.is_space());
        let count = |test: &dyn Fn(&Glyph) -> bool| {
            u32::try_from(inked().filter(|glyph| test(glyph)).count()).unwrap_or(u32::MAX)
        };
        let lines = lines::group(&self.glyphs, self.size, true);
        let visible_text = lines
            .iter()
            .map(|line| line.text.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        TextLayer {
            n_glyphs: count(&|_| true),
            n_invisible: count(&|glyph| !glyph.is_visible),
            n_unknown_unicode: count(&|glyph| glyph.meaning == Meaning::Unknown),
            n_odd: count(&|glyph| is_odd(&glyph.meaning)),
            n_outside: self.n_outside,
            image_coverage: self.image_coverage,
            hidden_lines: lines::group(&self.glyphs, self.size, false),
            lines,
            visible_text,
        }
    }
}

/// Whether a glyph means something that no text has.
fn is_odd(meaning: &Meaning) -> bool {
    let is_odd_char = |c: char| {
        c.is_control()
            || c == char::REPLACEMENT_CHARACTER
            || matches!(u32::from(c), 0xe000..=0xf8ff | 0xf0000..=0x10_ffff | 0xfff0..=0xffff)
    };
    match meaning {
        Meaning::Char(c) => is_odd_char(*c),
        Meaning::Text(text) => text.chars().any(is_odd_char),
        Meaning::Unknown => false,
    }
}

struct Listener<'l, 'a> {
    cid_fonts: &'l CidFonts<'a>,
    page: Rect,
    glyphs: Vec<Glyph>,
    n_outside: u32,
    n_events: u64,
    n_covers: u32,
    largest_picture: (u32, u32),
    /// What is drawn is cut to the last of these.
    clips: Vec<Rect>,
    /// For each open group, whether what is drawn in it lets the page shine through.
    groups: Vec<bool>,
    grid: Vec<bool>,
}

impl<'l, 'a> Listener<'l, 'a> {
    fn new(page: Rect, cid_fonts: &'l CidFonts<'a>) -> Self {
        Self {
            cid_fonts,
            page,
            glyphs: Vec::new(),
            n_outside: 0,
            n_events: 0,
            n_covers: 0,
            largest_picture: (0, 0),
            clips: Vec::new(),
            groups: Vec::new(),
            grid: vec![false; GRID * GRID],
        }
    }

    fn finish(self, size: (f64, f64)) -> Extracted {
        let covered = self.grid.iter().filter(|&&is_covered| is_covered).count();
        Extracted {
            size,
            glyphs: self.glyphs,
            n_outside: self.n_outside,
            image_coverage: covered as f32 / (GRID * GRID) as f32,
            largest_picture: self.largest_picture,
        }
    }

    fn count_event(&mut self) {
        self.n_events += 1;
        if self.n_events > MAX_EVENTS {
            let message = format!("the page draws more than {MAX_EVENTS} things");
            let trouble = Trouble::new(Stage::Render, TroubleCode::Bomb, message);
            resume_unwind(Box::new(trouble));
        }
    }

    fn clip(&self) -> Rect {
        self.clips.last().copied().unwrap_or(self.page)
    }

    fn is_see_through(&self) -> bool {
        self.groups.iter().any(|&is_see_through| is_see_through)
    }

    /// Takes a glyph in unless it is outside the page or a double.
    fn add(&mut self, mut glyph: Glyph) {
        let center = glyph.bounds.center();
        if !center.is_finite() || !self.page.contains(center) {
            self.n_outside += u32::from(!glyph.meaning.is_space());
            return;
        }
        // A glyph that is cut away leaves no ink. The box of its em says so only roughly: leave
        // half an em of doubt.
        let doubt = glyph.size / 2.0;
        glyph.is_visible &= self.clip().inflate(doubt, doubt).contains(center);
        let near = |a: Point, b: Point| (a - b).hypot() < 0.1 * glyph.size;
        let is_double = self
            .glyphs
            .iter()
            .rev()
            .take(DOUBLES_WITHIN)
            .any(|earlier| {
                earlier.meaning == glyph.meaning
                    && earlier.is_visible == glyph.is_visible
                    && near(earlier.start, glyph.start)
                    && near(earlier.end, glyph.end)
            });
        if !is_double && self.glyphs.len() < MAX_GLYPHS {
            self.glyphs.push(glyph);
        }
    }

    /// Something opaque was drawn over `shape`: text below it is not seen any more.
    fn cover(&mut self, shape: Rect) {
        if self.is_see_through() || self.glyphs.is_empty() || self.n_covers >= MAX_COVERS {
            return;
        }
        self.n_covers += 1;
        let shape = shape.intersect(self.clip());
        for glyph in &mut self.glyphs {
            if shape.contains(glyph.bounds.center()) {
                glyph.is_visible = false;
            }
        }
    }

    /// Counts the cells of the page under a picture that `to_page` puts there.
    fn count_picture(&mut self, width: f64, height: f64, to_page: Affine) {
        let picture = to_page.transform_rect_bbox(Rect::new(0.0, 0.0, width, height));
        let visible = picture.intersect(self.clip()).intersect(self.page);
        if to_page.determinant().abs() < 1e-12 || visible.is_zero_area() {
            return;
        }
        let back = to_page.inverse();
        let (cell_w, cell_h) = (
            self.page.width() / GRID as f64,
            self.page.height() / GRID as f64,
        );
        for row in 0..GRID {
            for column in 0..GRID {
                let center =
                    Point::new((column as f64 + 0.5) * cell_w, (row as f64 + 0.5) * cell_h);
                let pixel = back * center;
                let is_inside = (0.0..=width).contains(&pixel.x)
                    && (0.0..=height).contains(&pixel.y)
                    && visible.contains(center);
                self.grid[row * GRID + column] |= is_inside;
            }
        }
    }
}

impl<'a> Device<'a> for Listener<'_, 'a> {
    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {
        self.count_event();
    }

    fn draw_rect(&mut self, rect: &Rect, props: DrawProps<'a>, mode: &DrawMode) {
        self.count_event();
        let is_filled = matches!(mode, DrawMode::Fill(_) | DrawMode::FillAndStroke(..));
        let is_opaque = props.blend_mode == BlendMode::Normal
            && props.soft_mask.is_none()
            && opacity(&props.paint) > 0.95;
        if is_filled && is_opaque {
            self.cover(props.transform.transform_rect_bbox(*rect));
        }
    }

    fn push_clip_path(&mut self, clip: &ClipPath) {
        self.count_event();
        self.clips
            .push(self.clip().intersect(clip.path.bounding_box()));
    }

    fn push_clip_rect(&mut self, rect: &Rect) {
        self.count_event();
        self.clips.push(self.clip().intersect(*rect));
    }

    fn pop_clip(&mut self) {
        self.clips.pop();
    }

    fn push_transparency_group(
        &mut self,
        opacity: f32,
        mask: Option<SoftMask<'a>>,
        blend_mode: BlendMode,
    ) {
        self.count_event();
        self.groups
            .push(opacity < 0.95 || mask.is_some() || blend_mode != BlendMode::Normal);
    }

    fn pop_transparency_group(&mut self) {
        self.groups.pop();
    }

    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, mode: &DrawMode) {
        let is_visible = !matches!(mode, DrawMode::Invisible) && opacity(&props.paint) > 0.02;
        let is_vertical = run.writing_mode() == WritingMode::Vertical;
        for glyph in run.glyphs() {
            self.count_event();
            let to_page = props.transform * glyph.transform();
            let meaning = match glyph.as_unicode().or_else(|| self.cid_fonts.unicode(glyph)) {
                Some(BfString::Char(c)) => Meaning::Char(c),
                Some(BfString::String(text)) => Meaning::Text(text),
                None => Meaning::Unknown,
            };
            self.add(placed(glyph, meaning, to_page, is_vertical, is_visible));
        }
    }

    fn draw_image(&mut self, image: Image<'a, '_>, props: ImageDrawProps<'a>) {
        self.count_event();
        let (width, height) = (image.width(), image.height());
        let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
        if area((width, height)) > area(self.largest_picture) {
            self.largest_picture = (width, height);
        }
        let (width, height) = (f64::from(width), f64::from(height));
        self.count_picture(width, height, props.transform);
        // A stencil paints where its bits say, and a mask leaves holes: neither surely covers.
        let is_opaque = match &image {
            Image::Stencil(_) => false,
            Image::Raster(raster) => {
                let has = |key: &[u8]| raster.stream().dict().contains_key(key);
                !has(b"SMask") && !has(b"Mask") && !has(b"SMaskInData")
            }
        };
        if is_opaque && props.blend_mode == BlendMode::Normal {
            let shape = Rect::new(0.0, 0.0, width, height);
            self.cover(props.transform.transform_rect_bbox(shape));
        }
    }
}

/// 0 to 1; patterns count as opaque.
fn opacity(paint: &Paint<'_>) -> f32 {
    match paint {
        Paint::Color(color) => color.to_rgba().components()[3],
        Paint::Pattern(_) => 1.0,
    }
}

/// A glyph with its place. Glyph space has 1000 units an em.
fn placed(
    glyph: &PdfGlyph<'_>,
    meaning: Meaning,
    to_page: Affine,
    is_vertical: bool,
    is_visible: bool,
) -> Glyph {
    let advance = match glyph {
        PdfGlyph::Outline(outline) => outline.advance_width(),
        PdfGlyph::Type3(drawn) => drawn.advance_width(),
    };
    let advance = f64::from(advance.unwrap_or(500.0));
    let is_wide = is_vertical
        || match &meaning {
            Meaning::Char(c) => lines::is_cjk(*c),
            Meaning::Text(text) => text.chars().any(lines::is_cjk),
            Meaning::Unknown => false,
        };
    // The box of an em: ideographs sit lower and higher than letters do.
    let (bottom, top) = if is_wide {
        (-120.0, 880.0)
    } else {
        (-210.0, 790.0)
    };
    let (shape, start, end) = if is_vertical {
        let shape = Rect::new(0.0, bottom, 1000.0, top);
        (shape, Point::new(500.0, top), Point::new(500.0, bottom))
    } else {
        let shape = Rect::new(0.0, bottom, advance, top).abs();
        (shape, Point::ORIGIN, Point::new(advance, 0.0))
    };
    let em = to_page * Point::new(0.0, 1000.0) - to_page * Point::ORIGIN;
    Glyph {
        meaning,
        start: to_page * start,
        end: to_page * end,
        size: em.hypot(),
        bounds: to_page.transform_rect_bbox(shape),
        is_visible,
    }
}
