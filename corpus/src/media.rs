//! What bytes are, by content and never by name.

/// Bytes from the start of an object that [`media_type`] wants to see, if there are as many.
pub const HEAD_BYTES: usize = 64 << 10;

/// How far into a file readers of PDF look for its header.
const PDF_HEADER_WITHIN: usize = 1024;
/// How far we look when the bytes before the header are no text: mail and printer wrappers.
const PDF_HEADER_WITHIN_BINARY: usize = 8192;

/// Media type of the document or container that starts with `head`;
/// `application/octet-stream` if nothing fits.
pub fn media_type(head: &[u8]) -> &'static str {
    if head.is_empty() {
        return "application/x-empty";
    }
    by_signature(head)
        .or_else(|| zip_based(head))
        .or_else(|| is_tar(head).then_some("application/x-tar"))
        .or_else(|| by_text(head))
        .or_else(|| has_pdf_header(head, PDF_HEADER_WITHIN_BINARY).then_some("application/pdf"))
        .unwrap_or("application/octet-stream")
}

/// Whether documents of this media type have pages that are read.
pub fn is_page_document(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/pdf"
            | "image/png"
            | "image/jpeg"
            | "image/tiff"
            | "image/webp"
            | "image/gif"
            | "image/bmp"
    )
}

/// Signatures at a fixed place; what is specific stands before what is short.
fn by_signature(head: &[u8]) -> Option<&'static str> {
    let starts = |signature: &[u8]| head.starts_with(signature);
    let at = |offset: usize, signature: &[u8]| {
        head.get(offset..)
            .is_some_and(|tail| tail.starts_with(signature))
    };
    let signatures: &[(&[u8], &str)] = &[
        // Damaged headers lack the dash; readers bear it.
        (b"%PDF", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"II+\0", "image/tiff"),
        (b"MM\0+", "image/tiff"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"\x1f\x8b", "application/gzip"),
        (b"\x28\xb5\x2f\xfd", "application/zstd"),
        (b"WARC/", "application/warc"),
        (b"PAR1", "application/vnd.apache.parquet"),
        (b"BZh", "application/x-bzip2"),
        (b"\xfd7zXZ\0", "application/x-xz"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (b"Rar!\x1a\x07", "application/vnd.rar"),
        (b"\x04\x22\x4d\x18", "application/x-lz4"),
        (b"ARROW1\0\0", "application/vnd.apache.arrow.file"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "application/x-ole-storage",
        ),
        (b"{\\rtf", "application/rtf"),
        (b"%!PS", "application/postscript"),
        (b"\xc5\xd0\xd3\xc6", "application/postscript"),
        (b"AT&TFORM", "image/vnd.djvu"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
        (b"\xff\x0a", "image/jxl"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
        (b"\xff\x4f\xff\x51", "image/x-jp2-codestream"),
        (b"\x97JB2\r\n\x1a\n", "image/x-jbig2"),
        (b"8BPS", "image/vnd.adobe.photoshop"),
        (b"\0\0\x01\0", "image/vnd.microsoft.icon"),
        (b"\x1aE\xdf\xa3", "video/x-matroska"),
        (b"OggS", "audio/ogg"),
        (b"ID3", "audio/mpeg"),
        (b"\x7fELF", "application/x-elf"),
        (b"SQLite format 3\0", "application/vnd.sqlite3"),
        (b"\x93NUMPY", "application/x-npy"),
        (b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    ];
    if starts(b"%!PS")
        && head
            .get(..64.min(head.len()))
            .is_some_and(|h| contains(h, b" PDF-"))
    {
        return Some("application/pdf");
    }
    if let Some((_, media)) = signatures.iter().find(|(signature, _)| starts(signature)) {
        return Some(media);
    }
    if starts(b"RIFF") {
        return match head.get(8..12) {
            Some(b"WEBP") => Some("image/webp"),
            Some(b"WAVE") => Some("audio/wav"),
            Some(b"AVI ") => Some("video/x-msvideo"),
            _ => None,
        };
    }
    if at(4, b"ftyp") {
        return Some(match head.get(8..12) {
            Some(b"avif" | b"avis") => "image/avif",
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => "image/heic",
            Some(b"crx ") => "image/x-canon-cr3",
            Some(b"qt  ") => "video/quicktime",
            _ => "video/mp4",
        });
    }
    if starts(b"BM") && is_bmp(head) {
        return Some("image/bmp");
    }
    // Two letters that text may start with, too: only with the program header they point at.
    if starts(b"MZ") && !is_text(head) {
        return Some("application/vnd.microsoft.portable-executable");
    }
    None
}

/// The header's sizes must make sense, since "BM" alone starts many a text.
fn is_bmp(head: &[u8]) -> bool {
    let word = |at: usize| {
        let bytes = head.get(at..at + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let (Some(data_at), Some(header)) = (word(10), word(14)) else {
        return false;
    };
    matches!(header, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124) && data_at >= 14 + header
}

/// Zip, or the office and book formats made of it, by the names of its first members.
fn zip_based(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"PK\x05\x06") || head.starts_with(b"PK\x07\x08PK\x03\x04") {
        return Some("application/zip");
    }
    if !head.starts_with(b"PK\x03\x04") {
        return None;
    }
    let name_len = usize::from(u16::from_le_bytes([*head.get(26)?, *head.get(27)?]));
    let extra_len = usize::from(u16::from_le_bytes([*head.get(28)?, *head.get(29)?]));
    let name = head.get(30..30 + name_len).unwrap_or_default();
    if name == b"mimetype" {
        let content = head.get(30 + name_len + extra_len..).unwrap_or_default();
        return Some(declared_zip_type(content));
    }
    Some(office_type(|part| contains(head, part)).unwrap_or("application/zip"))
}

/// Media type that the `mimetype` member of a book or OpenDocument file declares.
pub(crate) fn declared_zip_type(content: &[u8]) -> &'static str {
    let known = [
        "application/epub+zip",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
        "application/vnd.oasis.opendocument.graphics",
    ];
    known
        .into_iter()
        .find(|media| content.starts_with(media.as_bytes()))
        .unwrap_or("application/zip")
}

/// Media type of an Office file, if `has` finds the parts that such a file is made of.
pub(crate) fn office_type(has: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
    if !has(b"[Content_Types].xml") {
        return None;
    }
    let kinds: [(&[u8], &str); 5] = [
        (
            b"word/",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        (
            b"xl/",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
        (
            b"ppt/",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ),
        (b"visio/", "application/vnd.ms-visio.drawing"),
        (b"FixedDocSeq.fdseq", "application/oxps"),
    ];
    kinds
        .into_iter()
        .find(|(part, _)| has(part))
        .map(|(_, media)| media)
}

/// Whether `head` starts with a tar header: the magic of newer ones, or a checksum that fits.
fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else {
        return false;
    };
    crate::container::tar::has_valid_checksum(header)
}

/// Text and its dialects; `None` for bytes that are no text.
fn by_text(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Some("text/plain");
    }
    let is_pdf = has_pdf_header(head, PDF_HEADER_WITHIN) || starts_with_pdf_object(head);
    if is_pdf && !starts_as_markup(head) {
        return Some("application/pdf");
    }
    if !is_text(head) {
        return None;
    }
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let start: String = text
        .chars()
        .take(512)
        .collect::<String>()
        .to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return Some("text/html");
    }
    if start.starts_with("<?xml") || start.starts_with("<svg") || start.starts_with("<!--") {
        return Some(if start.contains("<svg") {
            "image/svg+xml"
        } else if start.contains("<html") || start.contains("xhtml") {
            "text/html"
        } else {
            "application/xml"
        });
    }
    if ["<head", "<body", "<script", "<table", "<div"]
        .iter()
        .any(|tag| start.starts_with(tag))
    {
        return Some("text/html");
    }
    if text.starts_with('{') || text.starts_with('[') {
        return Some(json_type(text));
    }
    if start.starts_with("return-path:") || start.starts_with("received:") {
        return Some("message/rfc822");
    }
    Some("text/plain")
}

/// JSON lines have a whole object on the first line and the start of another one after it.
fn json_type(text: &str) -> &'static str {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let whole =
        first.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(first).is_ok();
    if whole && lines.next().is_some_and(|line| line.starts_with('{')) {
        return "application/x-ndjson";
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => "application/json",
        // Longer than the head.
        Err(e) if e.is_eof() => "application/json",
        Err(_) => "text/plain",
    }
}

/// A PDF that lost its header starts with an object, `5 0 obj <<`; readers find the rest.
fn starts_with_pdf_object(head: &[u8]) -> bool {
    let mut words = head
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let mut number = || {
        words
            .next()
            .is_some_and(|word| word.len() < 11 && word.iter().all(u8::is_ascii_digit))
    };
    let has_numbers = number() && number();
    has_numbers
        && words
            .next()
            .is_some_and(|word| word == b"obj" || word.starts_with(b"obj<<"))
}

fn starts_as_markup(head: &[u8]) -> bool {
    let start: Vec<u8> = head
        .iter()
        .skip_while(|byte| byte.is_ascii_whitespace())
        .take(14)
        .map(u8::to_ascii_lowercase)
        .collect();
    start.starts_with(b"<!doctype html") || start.starts_with(b"<html")
}

/// Valid UTF-8 (a cut last character aside) without control characters, or nearly so.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none() && e.valid_up_to() > 0,
    };
    let controls = head
        .iter()
        .filter(|&&byte| byte < 0x20 && !b"\t\n\r\x0c\x1b\x08".contains(&byte))
        .count();
    if valid {
        return controls * 100 <= head.len();
    }
    // Older encodings (Latin, GBK, Shift JIS): bytes above 0x7f, yet no control characters.
    controls == 0 && head.iter().filter(|byte| byte.is_ascii()).count() * 2 > head.len()
}

fn has_pdf_header(head: &[u8], within: usize) -> bool {
    contains(&head[..head.len().min(within)], b"%PDF-")
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::media_type;

    #[test]
    fn contents_decide() {
        let check = |head: &[u8], wanted: &str| {
            assert_eq!(
                media_type(head),
                wanted,
                "{:?}",
                String::from_utf8_lossy(head)
            );
        };
        check(b"", "application/x-empty");
        check(b"%PDF-1.7\n", "application/pdf");
        check(b"junk\nmore junk\n%PDF-1.4\n", "application/pdf");
        check(b"\x1b%-12345X@PJL\r\n%PDF-1.4\n", "application/pdf");
        check(b"%!PS-Adobe-3.0 PDF-1.4\n", "application/pdf");
        check(b"%PDF\n1 0 obj", "application/pdf");
        check(b"  \n5 0 obj <</Type/XRef", "application/pdf");
        check(b"5 0 objections", "text/plain");
        check(b"%!PS-Adobe-3.0\n", "application/postscript");
        check(b"<!DOCTYPE html><p>about %PDF-1.4 files", "text/html");
        check(b"<?xml version=\"1.0\"?><svg>", "image/svg+xml");
        check(b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp");
        check(b"\0\0\0\x20ftypheic", "image/heic");
        check(b"\0\0\0\x20ftypavif", "image/avif");
        check(b"\0\0\0\x20ftypisom", "video/mp4");
        check(b"BMW builds cars", "text/plain");
        check(b"MZ is a name", "text/plain");
        check(b"{\"a\": 1}\n{\"a\": 2}\n", "application/x-ndjson");
        check(b"{\"a\": 1}\n", "application/json");
        check(b"{\n \"a\": 1\n}\n", "application/json");
        check("发票号码".as_bytes(), "text/plain");
        check(b"caf\xe9 au lait, s'il vous pla\xeet", "text/plain");
        check(b"\xff\xfeh\0i\0", "text/plain");
        check(b"\x00\x01\x02\x03", "application/octet-stream");
        check(b"PK\x05\x06", "application/zip");
    }

    #[test]
    fn pdf_header_far_into_binary_junk_is_found() {
        let mut head = [0_u8, 200, 3, 7].repeat(600);
        head.extend_from_slice(b"%PDF-1.4");
        assert_eq!(media_type(&head), "application/pdf");
    }
}
