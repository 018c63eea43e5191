//! The resolution that picture files state, where it can be believed.

use image::ImageFormat;

use super::tiff::directory::{Directory, TagReader, tag};

/// Horizontal and vertical dots an inch as stated, if they are.
pub(super) fn resolution(format: ImageFormat, bytes: &[u8]) -> Option<(f32, f32)> {
    match format {
        ImageFormat::Png => of_png(bytes),
        ImageFormat::Jpeg => of_jpeg(bytes),
        ImageFormat::Bmp => of_bmp(bytes),
        _ => None,
    }
}

/// The stated resolution if square, in the range of scanners and cameras, and giving a page that
/// somebody could have held. Cameras and web tools write 72 or 96 whatever the picture is: with
/// these the page must be of the size of paper.
pub(super) fn plausible_dpi(
    stated: Option<(f32, f32)>,
    (width, height): (u32, u32),
) -> Option<f32> {
    let (x, y) = stated?;
    let is_square = (x - y).abs() <= 0.02 * x.max(y);
    let long_edge_inches = width.max(height) as f32 / x;
    let is_habit = (71.5..72.5).contains(&x) || (95.5..96.5).contains(&x);
    let longest = if is_habit { 18.0 } else { 50.0 };
    let is_page = (1.0..=longest).contains(&long_edge_inches);
    (is_square && (60.0..=2400.0).contains(&x) && is_page).then_some(x)
}

const INCHES_A_METER: f32 = 39.370_08;

/// Chunk pHYs: pixels a unit, where unit 1 is the meter.
fn of_png(bytes: &[u8]) -> Option<(f32, f32)> {
    let mut rest = bytes.get(8..)?;
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let kind = rest.get(4..8)?;
        let data = rest.get(8..8usize.checked_add(length)?)?;
        match kind {
            b"pHYs" => {
                let x = u32::from_be_bytes(*data.first_chunk()?) as f32;
                let y = u32::from_be_bytes(*data.get(4..)?.first_chunk()?) as f32;
                let is_meter = data.get(8) == Some(&1);
                return is_meter.then_some((x / INCHES_A_METER, y / INCHES_A_METER));
            }
            b"IDAT" | b"IEND" => return None,
            _ => rest = rest.get(length.checked_add(12)?..)?,
        }
    }
}

/// The JFIF header, or else the EXIF one.
fn of_jpeg(bytes: &[u8]) -> Option<(f32, f32)> {
    let mut rest = bytes.get(2..)?;
    let mut exif = None;
    loop {
        let [0xff, marker] = *rest.first_chunk::<2>()? else {
            return exif;
        };
        // Start of scan: headers are over.
        if marker == 0xda {
            return exif;
        }
        let length = u16::from_be_bytes(*rest.get(2..)?.first_chunk()?) as usize;
        let data = rest.get(4..2 + length.max(2))?;
        if marker == 0xe0 && data.starts_with(b"JFIF\0") {
            let x = f32::from(u16::from_be_bytes(*data.get(8..)?.first_chunk()?));
            let y = f32::from(u16::from_be_bytes(*data.get(10..)?.first_chunk()?));
            match data.get(7) {
                Some(1) => return Some((x, y)),
                Some(2) => return Some((x * 2.54, y * 2.54)),
                _ => {}
            }
        }
        if marker == 0xe1 && data.starts_with(b"Exif\0\0") {
            exif = of_tiff_header(&data[6..]);
        }
        rest = rest.get(2 + length.max(2)..)?;
    }
}

fn of_tiff_header(bytes: &[u8]) -> Option<(f32, f32)> {
    let reader = TagReader::new(bytes)?;
    let first = reader.first_directory()?;
    let directory = reader.directory(first)?;
    of_directory(&reader, &directory)
}

/// Tags XResolution, YResolution and ResolutionUnit (1 none, 2 inch, 3 centimeter).
pub(super) fn of_directory(reader: &TagReader<'_>, directory: &Directory) -> Option<(f32, f32)> {
    let x = reader.rational(directory, tag::X_RESOLUTION)?;
    let y = reader.rational(directory, tag::Y_RESOLUTION).unwrap_or(x);
    match reader.number(directory, tag::RESOLUTION_UNIT).unwrap_or(2) {
        2 => Some((x, y)),
        3 => Some((x * 2.54, y * 2.54)),
        _ => None,
    }
}

/// The information header's pixels a meter.
fn of_bmp(bytes: &[u8]) -> Option<(f32, f32)> {
    let header_bytes = u32::from_le_bytes(*bytes.get(14..)?.first_chunk()?);
    if header_bytes < 40 {
        return None;
    }
    let x = i32::from_le_bytes(*bytes.get(38..)?.first_chunk()?) as f32;
    let y = i32::from_le_bytes(*bytes.get(42..)?.first_chunk()?) as f32;
    Some((x / INCHES_A_METER, y / INCHES_A_METER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_resolutions_of_pages_are_believed() {
        let check = |stated, size, expected| {
            assert_eq!(plausible_dpi(stated, size), expected, "{stated:?} {size:?}");
        };
        check(Some((150.0, 150.0)), (1241, 1754), Some(150.0));
        check(Some((204.0, 98.0)), (1728, 1100), None);
        check(Some((72.0, 72.0)), (4032, 3024), None);
        check(Some((72.0, 72.0)), (3264, 2448), None);
        check(Some((72.0, 72.0)), (595, 842), Some(72.0));
        check(Some((0.0, 0.0)), (100, 100), None);
        check(Some((f32::NAN, f32::NAN)), (100, 100), None);
        check(None, (100, 100), None);
    }

    #[test]
    fn headers_cut_anywhere_are_survived() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x09pHYs".to_vec();
        png.extend(5906u32.to_be_bytes());
        png.extend(5906u32.to_be_bytes());
        png.extend([1, 0, 0, 0, 0]);
        let (x, _) = resolution(ImageFormat::Png, &png).unwrap();
        assert!((x - 150.0).abs() < 0.1);
        let jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\x01\0\xc8\0\xc8\0\0\xff\xda";
        assert_eq!(resolution(ImageFormat::Jpeg, jpeg), Some((200.0, 200.0)));
        for end in 0..png.len() {
            resolution(ImageFormat::Png, &png[..end]);
        }
        for end in 0..jpeg.len() {
            resolution(ImageFormat::Jpeg, &jpeg[..end]);
            resolution(ImageFormat::Bmp, &jpeg[..end]);
        }
    }
}
