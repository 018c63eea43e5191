//! Tags, attributes and entities of HTML, as far as tables need them.

/// Columns or rows that a cell may cover.
const MAX_SPAN: usize = 100;
/// Longest tag, in bytes; more is no tag.
const MAX_TAG: usize = 500;
/// Tags that are kept inside a cell.
pub(super) const KEPT: [&str; 6] = ["sup", "sub", "b", "i", "u", "br"];
/// Tags whose words are kept, but not they.
const DROPPED: [&str; 14] = [
    "table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption", "colgroup", "col", "p", "div",
    "span", "center",
];
const ENTITIES: [(&str, &str); 16] = [
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("times", "×"),
    ("minus", "−"),
    ("plusmn", "±"),
    ("deg", "°"),
    ("le", "≤"),
    ("ge", "≥"),
    ("ndash", "–"),
    ("mdash", "—"),
    ("middot", "·"),
    ("hellip", "…"),
];

/// A tag that is known.
#[derive(Debug)]
pub(super) struct Tag<'a> {
    pub(super) name: &'static str,
    pub(super) is_end: bool,
    pub(super) attributes: &'a str,
}

/// The tag at the start of a text and its bytes; `None` where it is text.
pub(super) fn tag(text: &str) -> Option<(Tag<'_>, usize)> {
    let inner = text.strip_prefix('<')?;
    let (is_end, inner) = match inner.strip_prefix('/') {
        Some(inner) => (true, inner),
        None => (false, inner),
    };
    let n_name = inner
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(inner.len());
    let (written, behind) = inner.split_at(n_name);
    let name = match written.to_ascii_lowercase().as_str() {
        "strong" => "b",
        "em" => "i",
        name => KEPT
            .into_iter()
            .chain(DROPPED)
            .find(|known| *known == name)?,
    };
    if !behind.starts_with(|c: char| c.is_whitespace() || c == '/' || c == '>') {
        return None;
    }
    let end = behind.find(['<', '>']).filter(|&end| end <= MAX_TAG)?;
    if !behind[end..].starts_with('>') {
        return None;
    }
    let attributes = &behind[..end];
    let len = text.len() - behind.len() + end + 1;
    Some((
        Tag {
            name,
            is_end,
            attributes,
        },
        len,
    ))
}

/// Whether a text is a tag of a table that the end of the answer cut.
pub(super) fn is_cut_tag(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('<').filter(|_| text.len() <= MAX_TAG) else {
        return false;
    };
    let inner = inner
        .strip_prefix('/')
        .unwrap_or(inner)
        .to_ascii_lowercase();
    let name = inner.split(' ').next().unwrap_or_default();
    let is_start = |tag: &&str| tag.starts_with(&inner) || *tag == name;
    !inner.contains('>') && ["table", "tr", "td", "th"].iter().any(is_start)
}

/// How many columns or rows an attribute asks for, at least 1.
pub(super) fn span(attributes: &str, name: &str) -> usize {
    let lower = attributes.to_ascii_lowercase();
    let value = lower
        .split_once(name)
        .and_then(|(_, behind)| behind.trim_start().strip_prefix('='))
        .map(|value| value.trim_start().trim_start_matches(['"', '\'']))
        .unwrap_or_default();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    value[..digits].parse().unwrap_or(1).clamp(1, MAX_SPAN)
}

/// Text with its entities as characters; unknown ones stay.
pub(super) fn decoded(text: &str) -> String {
    const LONGEST: usize = 10;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let end = behind.find(';').filter(|&end| end <= LONGEST);
        match end.and_then(|end| entity(&behind[..end]).map(|text| (text, end))) {
            Some((text, end)) => {
                out.push_str(&text);
                rest = &behind[end + 1..];
            }
            None => {
                out.push('&');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

fn entity(name: &str) -> Option<String> {
    let code = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        },
        None => {
            let (_, text) = ENTITIES.iter().find(|(known, _)| *known == name)?;
            return Some((*text).to_owned());
        }
    };
    let c = char::from_u32(code)?;
    (!c.is_control()).then(|| c.to_string())
}

pub(super) fn open(html: &mut String, name: &str) {
    html.push('<');
    html.push_str(name);
    html.push('>');
}

pub(super) fn close(html: &mut String, name: &str) {
    html.push_str("</");
    html.push_str(name);
    html.push('>');
}

pub(super) fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
}
