//! Unicode of composite fonts that are embedded without saying it.
//!
//! Much Chinese LaTeX output embeds a font by the character identifiers of an Adobe collection and
//! leaves `ToUnicode` out. The collection itself says what each identifier means, so the missing
//! map follows from the font's dictionary, which is found again by the font's name.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use hayro::hayro_interpret::font::Glyph;
use hayro::hayro_interpret::hayro_cmap::{BfString, CMap, CMapName, CidFamily, load_embedded};
use hayro::hayro_interpret::hayro_syntax::object::{
    Array, Dict, Name, Object, String as PdfString,
};
use hayro::hayro_syntax::Pdf;

/// The composite fonts of a document that lack `ToUnicode` and name a known collection.
pub(super) struct CidFonts<'a> {
    pdf: &'a Pdf,
    /// By PostScript name without subset prefix; `None` where two fonts of one name disagree.
    /// Filled when the first glyph without Unicode comes: most documents have none.
    fonts: OnceCell<HashMap<String, Option<CidFont>>>,
}

struct CidFont {
    /// What both fonts of a name must share.
    identity: (Vec<u8>, &'static str),
    /// Character code to identifier.
    encoding: CMap,
    /// Identifier to Unicode.
    meaning: Rc<CMap>,
}

impl<'a> CidFonts<'a> {
    pub(super) fn new(pdf: &'a Pdf) -> Self {
        Self {
            pdf,
            fonts: OnceCell::new(),
        }
    }

    /// What a glyph means by its font's collection.
    pub(super) fn unicode(&self, glyph: &Glyph<'_>) -> Option<BfString> {
        let Glyph::Outline(outline) = glyph else {
            return None;
        };
        let fonts = self.fonts.get_or_init(|| find(self.pdf));
        if fonts.is_empty() {
            return None;
        }
        let name = outline.font_data()?.postscript_name?;
        let font = fonts.get(&name)?.as_ref()?;
        let code = glyph.char_code();
        let cid = (1..=4).find_map(|n_bytes| font.encoding.lookup_cid_code(code, n_bytes))?;
        font.meaning.lookup_bf_string(cid)
    }
}

fn find(pdf: &Pdf) -> HashMap<String, Option<CidFont>> {
    let mut fonts: HashMap<String, Option<CidFont>> = HashMap::new();
    let mut meanings = HashMap::new();
    for object in pdf.objects() {
        let Object::Dict(dict) = object else { continue };
        let Some((name, font)) = cid_font(&dict, &mut meanings) else {
            continue;
        };
        fonts
            .entry(name)
            .and_modify(|known| {
                if known
                    .as_ref()
                    .is_some_and(|known| known.identity != font.identity)
                {
                    *known = None;
                }
            })
            .or_insert(Some(font));
    }
    fonts
}

fn cid_font(
    dict: &Dict<'_>,
    meanings: &mut HashMap<&'static str, Option<Rc<CMap>>>,
) -> Option<(String, CidFont)> {
    let subtype = dict.get::<Name<'_>>(b"Subtype")?;
    if subtype.as_ref() != b"Type0" || dict.contains_key(b"ToUnicode") {
        return None;
    }
    let name = dict.get::<Name<'_>>(b"BaseFont")?;
    let descendant = dict
        .get::<Array<'_>>(b"DescendantFonts")?
        .iter::<Dict<'_>>()
        .next()?;
    let system = descendant.get::<Dict<'_>>(b"CIDSystemInfo")?;
    let registry = system.get::<PdfString<'_>>(b"Registry")?;
    let ordering = system.get::<PdfString<'_>>(b"Ordering")?;
    let family = CidFamily::from_registry_ordering(registry.as_bytes(), ordering.as_bytes());
    let collection = match family {
        CidFamily::AdobeGB1 => "GB1",
        CidFamily::AdobeCNS1 => "CNS1",
        CidFamily::AdobeJapan1 => "Japan1",
        CidFamily::AdobeKorea1 => "Korea1",
        CidFamily::AdobeIdentity | CidFamily::Custom { .. } => return None,
    };
    let load = || {
        Some(Rc::new(CMap::parse(
            load_embedded(family.ucs2_cmap()?)?,
            load_embedded,
        )?))
    };
    let meaning = meanings.entry(collection).or_insert_with(load).clone()?;
    let (encoding, encoding_name) = match dict.get::<Object<'_>>(b"Encoding")? {
        Object::Name(name) => (named_encoding(name.as_ref())?, name.as_ref().to_vec()),
        Object::Stream(stream) => {
            let bytes = stream.decoded_data().ok()?;
            (CMap::parse(&bytes, load_embedded)?, bytes.into_owned())
        }
        _ => return None,
    };
    let font = CidFont {
        identity: (encoding_name, collection),
        encoding,
        meaning,
    };
    Some((without_subset_prefix(name.as_str()).to_owned(), font))
}

fn named_encoding(name: &[u8]) -> Option<CMap> {
    match CMapName::from_bytes(name) {
        CMapName::IdentityH => Some(CMap::identity_h()),
        CMapName::IdentityV => Some(CMap::identity_v()),
        known => CMap::parse(load_embedded(known)?, load_embedded),
    }
}

/// `ABCDEF+Name` is how a subset of `Name` is called.
fn without_subset_prefix(name: &str) -> &str {
    match name.split_once('+') {
        Some((prefix, rest)) if prefix.len() == 6 => rest,
        _ => name,
    }
}
