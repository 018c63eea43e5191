//! Fonts for PDFs that name a font without holding it.
//!
//! Latin text of such PDFs is drawn with the standard fonts that the renderer embeds, the same on
//! every machine. Chinese, Japanese and Korean text would be left out: for it the settings may
//! name a folder. The pool indexes the folder once; a child opens the files before its sandbox
//! closes and reads one only when a document asks for it.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hayro::hayro_interpret::font::{FallbackFontQuery, FontData, FontQuery};
use hayro::hayro_interpret::hayro_cmap::CidFamily;
use serde::{Deserialize, Serialize};
use skrifa::string::StringId;
use skrifa::{FontRef, MetadataProvider};

use super::settings::RenderError;

/// Faces of a folder beyond this are not looked at: each costs every child an open file.
const MAX_FACES: usize = 256;
/// A font file larger than this is not a font that anybody draws text with.
const MAX_FONT_BYTES: u64 = 128 << 20;
const MAX_FOLDER_DEPTH: usize = 4;

/// One face of the font folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FontFace {
    pub path: PathBuf,
    /// Position in a collection; 0 in other files.
    pub index: u32,
    pub post_script_name: String,
    /// Scripts the face has characters of.
    pub scripts: Vec<Script>,
    /// The script the face is made for, where its name says so; Han characters look different
    /// in each.
    pub made_for: Option<Script>,
    pub is_serif: bool,
    pub is_bold: bool,
}

/// A script that the embedded standard fonts lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Script {
    SimplifiedChinese,
    TraditionalChinese,
    Japanese,
    Korean,
}

impl Script {
    const ALL: [Self; 4] = [
        Self::SimplifiedChinese,
        Self::TraditionalChinese,
        Self::Japanese,
        Self::Korean,
    ];

    /// Characters that fonts for other scripts rarely have.
    fn sample(self) -> [char; 2] {
        match self {
            Self::SimplifiedChinese => ['们', '这'],
            Self::TraditionalChinese => ['們', '這'],
            Self::Japanese => ['の', '込'],
            Self::Korean => ['가', '글'],
        }
    }

    fn of_family(family: &CidFamily) -> Option<Self> {
        match family {
            CidFamily::AdobeGB1 => Some(Self::SimplifiedChinese),
            CidFamily::AdobeCNS1 => Some(Self::TraditionalChinese),
            CidFamily::AdobeJapan1 => Some(Self::Japanese),
            CidFamily::AdobeKorea1 => Some(Self::Korean),
            CidFamily::AdobeIdentity | CidFamily::Custom { .. } => None,
        }
    }

    /// The script that a font's name speaks of, as far as common names go.
    fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace([' ', '-', '_', ','], "");
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if has(&[
            "cjksc", "sanssc", "serifsc", "simsun", "simhei", "fangsong", "kaiti", "stsong",
        ]) || has(&[
            "stheiti",
            "yahei",
            "dengxian",
            "songti",
            "wqy",
            "wenquanyi",
            "fandol",
        ]) || has(&[
            "uminggb",
            "umingcn",
            "stkaiti",
            "stfang",
            "heitisc",
            "pingfangsc",
        ]) {
            Some(Self::SimplifiedChinese)
        } else if has(&[
            "cjktc", "cjkhk", "sanstc", "seriftc", "mingliu", "dfkai", "jhenghei",
        ]) || has(&[
            "umingtw",
            "uminghk",
            "pingfangtc",
            "heititc",
            "mhei",
            "msung",
        ]) {
            Some(Self::TraditionalChinese)
        } else if has(&[
            "cjkjp", "sansjp", "serifjp", "mincho", "gothic", "ryumin", "hiragino",
        ]) || has(&["meiryo", "kozmin", "kozgo", "ipaex", "takao"])
        {
            Some(Self::Japanese)
        } else if has(&[
            "cjkkr", "sanskr", "serifkr", "batang", "gulim", "dotum", "malgun",
        ]) || has(&["hysmyeongjo", "hygothic", "nanum", "applemyungjo"])
        {
            Some(Self::Korean)
        } else {
            None
        }
    }
}

/// The faces of a folder, in the order of their paths.
pub(super) async fn index(folder: Option<&Path>) -> Result<Vec<FontFace>, RenderError> {
    let Some(folder) = folder.map(Path::to_owned) else {
        return Ok(Vec::new());
    };
    let work = tokio::task::spawn_blocking(move || {
        let mut files = Vec::new();
        collect_files(&folder, 0, &mut files).map_err(|source| RenderError::Fonts {
            folder: folder.clone(),
            source,
        })?;
        files.sort();
        let faces = files.iter().flat_map(|file| faces_of(file)).take(MAX_FACES);
        Ok(faces.collect())
    });
    work.await.expect("reading fonts does not panic")
}

fn collect_files(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && depth < MAX_FOLDER_DEPTH {
            collect_files(&path, depth + 1, files)?;
            continue;
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if ["ttf", "otf", "ttc", "otc"]
            .iter()
            .any(|known| extension == *known)
        {
            files.push(path);
        }
    }
    Ok(())
}

fn faces_of(path: &Path) -> Vec<FontFace> {
    let is_small = path
        .metadata()
        .is_ok_and(|metadata| metadata.len() <= MAX_FONT_BYTES);
    let Some(bytes) = is_small.then(|| std::fs::read(path).ok()).flatten() else {
        tracing::warn!(path = %path.display(), "this font cannot be read and is left out");
        return Vec::new();
    };
    let faces = FontRef::fonts(&bytes).enumerate();
    faces
        .filter_map(|(index, font)| face(path, index as u32, &font.ok()?))
        .collect()
}

fn face(path: &Path, index: u32, font: &FontRef<'_>) -> Option<FontFace> {
    let name = |id| {
        font.localized_strings(id)
            .english_or_first()
            .map(|s| s.to_string())
    };
    let post_script_name = name(StringId::POSTSCRIPT_NAME)?;
    let characters = font.charmap();
    let has = |script: &Script| script.sample().iter().all(|&c| characters.map(c).is_some());
    let scripts: Vec<Script> = Script::ALL.into_iter().filter(has).collect();
    let family = name(StringId::FAMILY_NAME).unwrap_or_default();
    let looks = format!("{post_script_name} {family}").to_ascii_lowercase();
    let serif_words = [
        "serif", "song", "ming", "mincho", "batang", "myeongjo", "times",
    ];
    let is_serif = serif_words.iter().any(|w| looks.contains(w)) && !looks.contains("sansserif");
    let made_for = Script::of_name(&post_script_name).or_else(|| Script::of_name(&family));
    Some(FontFace {
        path: path.to_owned(),
        index,
        is_bold: looks.contains("bold") || looks.contains("black"),
        post_script_name,
        scripts,
        made_for,
        is_serif,
    })
}

/// The face for a font that is named and not held, or `None` to use an embedded standard font.
pub(super) fn choose<'f>(faces: &'f [FontFace], query: &FallbackFontQuery) -> Option<&'f FontFace> {
    let names = [&query.post_script_name, &query.font_name];
    let by_name = names.into_iter().flatten().find_map(|name| {
        faces
            .iter()
            .find(|face| face.post_script_name.eq_ignore_ascii_case(name))
    });
    if by_name.is_some() {
        return by_name;
    }
    let script = script_of(query)?;
    let wants_serif = query.is_serif || looks_serif(query);
    faces
        .iter()
        .filter(|face| face.scripts.contains(&script))
        .max_by_key(|face| {
            let bold = face.is_bold == (query.is_bold || query.font_weight >= 600);
            // Of equals the last wins; prefer the first in the order of paths.
            (
                face.made_for == Some(script),
                face.is_serif == wants_serif,
                bold,
                std::cmp::Reverse(*face),
            )
        })
}

/// The script that a font which is not held was made for.
pub(super) fn script_of(query: &FallbackFontQuery) -> Option<Script> {
    let family = query
        .character_collection
        .as_ref()
        .map(|collection| &collection.family);
    let by_name = || {
        let names = [
            &query.post_script_name,
            &query.font_name,
            &query.font_family,
        ];
        names
            .into_iter()
            .flatten()
            .find_map(|name| Script::of_name(name))
    };
    // Only composite fonts have a collection; a simple font has no room for these scripts.
    family.and_then(|family| Script::of_family(family).or_else(by_name))
}

fn looks_serif(query: &FallbackFontQuery) -> bool {
    let name = query
        .post_script_name
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    [
        "song", "sun", "ming", "mincho", "batang", "fang", "kai", "serif",
    ]
    .iter()
    .any(|word| name.contains(word))
}

impl PartialOrd for FontFace {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FontFace {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.path, self.index).cmp(&(&other.path, other.index))
    }
}

/// The fonts of a child: files opened before the sandbox closed, read when first asked for.
#[derive(Debug)]
pub(super) struct FontShelf {
    faces: Vec<FontFace>,
    files: Vec<OpenFont>,
    /// Names of fonts that nothing could stand in for, of the page being drawn.
    missing: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct OpenFont {
    path: PathBuf,
    file: Option<File>,
    bytes: OnceLock<Option<Arc<Vec<u8>>>>,
}

impl FontShelf {
    /// Opens the files of `faces`.
    pub(super) fn open(faces: Vec<FontFace>) -> Self {
        let mut files: Vec<OpenFont> = Vec::new();
        for face in &faces {
            if files.last().is_none_or(|last| last.path != face.path) {
                let file = File::open(&face.path).ok();
                files.push(OpenFont {
                    path: face.path.clone(),
                    file,
                    bytes: OnceLock::new(),
                });
            }
        }
        Self {
            faces,
            files,
            missing: Mutex::new(Vec::new()),
        }
    }

    /// Files that stay open.
    pub(super) fn n_files(&self) -> usize {
        self.files.len()
    }

    /// What the renderer draws a font with that a PDF does not hold.
    pub(super) fn resolve(&self, query: &FontQuery) -> Option<(FontData, u32)> {
        let query = match query {
            FontQuery::Standard(font) => return Some(font.get_font_data()),
            FontQuery::Fallback(query) => query,
        };
        if let Some(face) = choose(&self.faces, query)
            && let Some(file) = self.files.iter().find(|file| file.path == face.path)
            && let Some(bytes) = file.bytes.get_or_init(|| file.read())
        {
            return Some((Arc::clone(bytes) as FontData, face.index));
        }
        if script_of(query).is_some() {
            let name = query
                .post_script_name
                .clone()
                .unwrap_or_else(|| "without a name".into());
            self.missing
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(name);
            return None;
        }
        Some(query.pick_standard_font().get_font_data())
    }

    /// Fonts that were missing since the last call.
    pub(super) fn take_missing(&self) -> Vec<String> {
        std::mem::take(&mut *self.missing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OpenFont {
    fn read(&self) -> Option<Arc<Vec<u8>>> {
        let mut file = self.file.as_ref()?;
        let mut bytes = Vec::new();
        file.rewind().ok()?;
        file.take(MAX_FONT_BYTES).read_to_end(&mut bytes).ok()?;
        Some(Arc::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hayro::hayro_interpret::hayro_cmap::CharacterCollection;

    fn face(name: &str, index: u32, scripts: &[Script]) -> FontFace {
        FontFace {
            path: PathBuf::from("fonts/cjk.ttc"),
            index,
            post_script_name: name.to_owned(),
            scripts: scripts.to_vec(),
            made_for: Script::of_name(name),
            is_serif: name.contains("Serif"),
            is_bold: name.contains("Bold"),
        }
    }

    fn query(name: &str, family: CidFamily) -> FallbackFontQuery {
        FallbackFontQuery {
            post_script_name: Some(name.to_owned()),
            character_collection: Some(CharacterCollection {
                family,
                supplement: 2,
            }),
            ..FallbackFontQuery::default()
        }
    }

    #[test]
    fn face_is_chosen_by_name_then_script_then_style() {
        let all = Script::ALL;
        let faces = [
            face("NotoSansCJKjp-Regular", 0, &all),
            face("NotoSansCJKsc-Regular", 2, &all),
            face("NotoSansCJKsc-Bold", 6, &all),
            face("NotoSerifCJKsc-Regular", 2, &all),
        ];
        let check = |name: &str, family: CidFamily, expected: Option<&str>| {
            let chosen = choose(&faces, &query(name, family));
            assert_eq!(
                chosen.map(|face| face.post_script_name.as_str()),
                expected,
                "{name}"
            );
        };
        check("SimHei", CidFamily::AdobeGB1, Some("NotoSansCJKsc-Regular"));
        check(
            "SimSun",
            CidFamily::AdobeGB1,
            Some("NotoSerifCJKsc-Regular"),
        );
        check(
            "Whatever",
            CidFamily::AdobeJapan1,
            Some("NotoSansCJKjp-Regular"),
        );
        check(
            "notosanscjksc-bold",
            CidFamily::AdobeIdentity,
            Some("NotoSansCJKsc-Bold"),
        );
        check(
            "MicrosoftYaHei",
            CidFamily::AdobeIdentity,
            Some("NotoSansCJKsc-Regular"),
        );
        check("ArialMT", CidFamily::AdobeIdentity, None);
    }

    #[test]
    fn missing_script_is_told_and_latin_falls_back() {
        let shelf = FontShelf::open(Vec::new());
        let gb = FontQuery::Fallback(query("SimSun", CidFamily::AdobeGB1));
        assert!(shelf.resolve(&gb).is_none());
        assert_eq!(shelf.take_missing(), ["SimSun"]);
        let latin = FallbackFontQuery {
            character_collection: None,
            ..query("Arial", CidFamily::AdobeGB1)
        };
        assert!(shelf.resolve(&FontQuery::Fallback(latin)).is_some());
        assert!(shelf.take_missing().is_empty());
    }
}
