//! Small documents made by code.

#![allow(dead_code, reason = "each test binary uses some of them")]

use std::io::{Cursor, Write};

use image::{DynamicImage, ImageFormat};

/// Makes PDFs of a few pages.
#[derive(Default)]
pub(crate) struct Pdf {
    media_box: Option<(f32, f32)>,
    /// Objects from number 3 on.
    objects: Vec<Vec<u8>>,
    pages: Vec<usize>,
}

impl Pdf {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Size of the pages that follow, in points.
    pub(crate) fn media_box(mut self, width: f32, height: f32) -> Self {
        self.media_box = Some((width, height));
        self
    }

    /// Operators that show `text` in Helvetica from (x, y) on.
    pub(crate) fn text(x: f32, y: f32, size: f32, text: &str) -> String {
        format!("BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET ")
    }

    pub(crate) fn page(self, content: &str) -> Self {
        self.page_with(content, "")
    }

    /// A page with further entries in its dictionary.
    pub(crate) fn page_with(self, content: &str, entries: &str) -> Self {
        self.add_page(content, entries, "")
    }

    /// A page filled by a picture of so many zero bytes, 3 a pixel.
    pub(crate) fn page_with_picture(mut self, width: u32, height: u32) -> Self {
        let picture = zeros(3 * u64::from(width) * u64::from(height).min(20_000));
        let entries = format!(
            "/Type /XObject /Subtype /Image /Width {width} /Height {height} /BitsPerComponent 8 \
             /ColorSpace /DeviceRGB /Filter /FlateDecode"
        );
        let number = self.add_stream(&entries, &picture);
        let resources = format!("/XObject << /P {number} 0 R >>");
        self.add_page("612 0 0 792 0 0 cm /P Do", "", &resources)
    }

    /// A page filled by a picture that no decoder takes.
    pub(crate) fn page_with_broken_picture(mut self) -> Self {
        let entries = "/Type /XObject /Subtype /Image /Width 100 /Height 100 /BitsPerComponent 8 \
             /ColorSpace /DeviceRGB /Filter /DCTDecode";
        let number = self.add_stream(entries, b"this is no JPEG");
        let resources = format!("/XObject << /P {number} 0 R >>");
        self.add_page("612 0 0 792 0 0 cm /P Do", "", &resources)
    }

    /// A page with a line in a Chinese font that the file names and does not hold.
    pub(crate) fn page_in_song(mut self, text: &str) -> Self {
        let system = "/CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 2 >>";
        let descendant = format!(
            "<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light {system} /DW 1000 \
             /FontDescriptor << /Type /FontDescriptor /FontName /STSong-Light /Flags 6 >> >>"
        );
        let descendant = self.add(descendant.into_bytes());
        let font = format!(
            "<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H \
             /DescendantFonts [{descendant} 0 R] >>"
        );
        let font = self.add(font.into_bytes());
        let codes: String = text
            .encode_utf16()
            .map(|unit| format!("{unit:04X}"))
            .collect();
        let content = format!("BT /Song 24 Tf 72 700 Td <{codes}> Tj ET");
        self.add_page_with_fonts(&content, "", "", &format!("/Song {font} 0 R"))
    }

    /// A page that draws a form, which draws the next one three times, and so on.
    pub(crate) fn page_of_nested_forms(mut self, depth: usize) -> Self {
        let form = "/Type /XObject /Subtype /Form /BBox [0 0 612 792]";
        let mut inner = self.add_stream(form, b"0 0 1 1 re f");
        for _ in 0..depth {
            let entries = format!("{form} /Resources << /XObject << /N {inner} 0 R >> >>");
            inner = self.add_stream(&entries, b"/N Do /N Do /N Do");
        }
        self.add_page("/N Do", "", &format!("/XObject << /N {inner} 0 R >>"))
    }

    fn add_stream(&mut self, entries: &str, bytes: &[u8]) -> usize {
        let mut object = format!("<< {entries} /Length {} >>\nstream\n", bytes.len()).into_bytes();
        object.extend_from_slice(bytes);
        object.extend_from_slice(b"\nendstream");
        self.add(object)
    }

    fn add(&mut self, object: Vec<u8>) -> usize {
        self.objects.push(object);
        self.objects.len() + 2
    }

    fn add_page(self, content: &str, entries: &str, resources: &str) -> Self {
        self.add_page_with_fonts(content, entries, resources, "")
    }

    fn add_page_with_fonts(
        mut self,
        content: &str,
        entries: &str,
        resources: &str,
        fonts: &str,
    ) -> Self {
        let (width, height) = self.media_box.unwrap_or((612.0, 792.0));
        let content = self.add_stream("", content.as_bytes());
        let font = "/F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>";
        let page = format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {content} 0 R \
             /Resources << /Font << {font} {fonts} >> {resources} >> {entries} >>"
        );
        let number = self.add(page.into_bytes());
        self.pages.push(number);
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        let kids: Vec<String> = self
            .pages
            .iter()
            .map(|page| format!("{page} 0 R"))
            .collect();
        let pages = format!(
            "<< /Type /Pages /Count {} /Kids [{}] >>",
            kids.len(),
            kids.join(" ")
        );
        let catalog = b"<< /Type /Catalog /Pages 2 0 R >>".to_vec();
        let objects = [vec![catalog, pages.into_bytes()], self.objects].concat();
        let mut file = b"%PDF-1.7\n".to_vec();
        let mut offsets = Vec::new();
        for (nth, object) in objects.iter().enumerate() {
            offsets.push(file.len());
            file.extend_from_slice(format!("{} 0 obj\n", nth + 1).as_bytes());
            file.extend_from_slice(object);
            file.extend_from_slice(b"\nendobj\n");
        }
        let table = file.len();
        let size = objects.len() + 1;
        file.extend_from_slice(format!("xref\n0 {size}\n0000000000 65535 f \n").as_bytes());
        for offset in offsets {
            file.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
        }
        let trailer = format!("trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF");
        file.extend_from_slice(trailer.as_bytes());
        file
    }
}

/// `n` zero bytes, deflated.
fn zeros(n: u64) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let piece = vec![0; 1 << 20];
    let mut left = n.min(700 << 20);
    while left > 0 {
        let now = left.min(piece.len() as u64);
        encoder.write_all(&piece[..now as usize]).unwrap();
        left -= now;
    }
    encoder.finish().unwrap()
}

/// A picture as a file.
pub(crate) fn encoded(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A JPEG with an EXIF header that states an orientation.
pub(crate) fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = (tiff.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &tiff, &jpeg[2..]].concat()
}

/// A bilevel TIFF, white being 0, with frames of (width, height, every byte).
pub(crate) fn tiff_of_bits(frames: &[(u32, u32, u8)]) -> Vec<u8> {
    let mut file = b"II*\0\0\0\0\0".to_vec();
    let mut link = 4;
    for &(width, height, byte) in frames {
        let bytes = (u64::from(width.div_ceil(8)) * u64::from(height)).min(4096) as usize;
        let strip = file.len() as u32;
        file.extend(vec![byte; bytes.next_multiple_of(2)]);
        let at = (file.len() as u32).to_le_bytes();
        file[link..link + 4].copy_from_slice(&at);
        let entries: [(u16, u32); 8] = [
            (256, width),
            (257, height),
            (258, 1),
            (259, 1),
            (262, 0),
            (273, strip),
            (278, height),
            (279, bytes as u32),
        ];
        file.extend((entries.len() as u16).to_le_bytes());
        for (tag, value) in entries {
            file.extend(tag.to_le_bytes());
            file.extend(4u16.to_le_bytes());
            file.extend(1u32.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        link = file.len();
        file.extend([0; 4]);
    }
    file
}

/// A PNG with a header and next to nothing else.
pub(crate) fn png_that_says_it_is(width: u32, height: u32) -> Vec<u8> {
    let tiny = encoded(DynamicImage::new_luma8(1, 1), ImageFormat::Png);
    let mut file = tiny[..16].to_vec();
    file.extend(width.to_be_bytes());
    file.extend(height.to_be_bytes());
    file.extend(&tiny[24..29]);
    let mut crc = flate2::Crc::new();
    crc.update(&file[12..29]);
    file.extend(crc.sum().to_be_bytes());
    file.extend(&tiny[33..]);
    file
}
