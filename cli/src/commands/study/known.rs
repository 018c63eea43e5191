//! Pages whose text is known: of PDFs with a text layer that passes every trust test, and of
//! images with a text file of the same name beside them.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use quire_core::{PageImage, RenderSpec};
use quire_corpus::{Entry, FoundDocument, Limits, Listed, Place, Stores, Wanted, documents, list};
use quire_worker::pipeline::render::{OpenDocument, RenderPool};
use quire_worker::pipeline::text_layer::trust;
use tokio::sync::mpsc::Receiver;

use super::precision::plain;
use crate::commands::run::inputs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;

/// Files beside an image that hold its text, the first that is there.
const TEXT_EXTENSIONS: [&str; 2] = ["txt", "md"];
/// Largest text of a page.
const MOST_TEXT_BYTES: u64 = 4 << 20;

/// A page and what stands on it.
#[derive(Debug, Clone)]
pub(super) struct KnownPage {
    /// Source, member and page number.
    pub name: String,
    pub image: Arc<PageImage>,
    pub truth: String,
}

/// All pages of the inputs whose text is known, one after another.
pub(super) struct Known {
    stores: Stores,
    limits: Limits,
    spec: RenderSpec,
    renderer: RenderPool,
    entries: VecDeque<Listed>,
    /// Documents of the entry that is being opened.
    documents: Option<(Entry, Receiver<FoundDocument>)>,
    /// The document that is being read.
    open: Option<Open>,
    left_out: BTreeMap<String, u64>,
}

struct Open {
    name: String,
    document: OpenDocument,
    next: u32,
    /// Of an image; a PDF brings its own.
    truth: Option<String>,
}

impl Known {
    pub(super) async fn open(
        context: &Context,
        settings: &Settings,
        renderer: RenderPool,
        named: &[String],
    ) -> Outcome<Self> {
        let named = inputs::canonical(named)?;
        let entries = list(&context.stores, &named).await.map_err(Failure::of)?;
        Ok(Self {
            stores: context.stores.clone(),
            limits: settings.input.limits(),
            spec: settings.render.spec(),
            renderer,
            entries: entries.into(),
            documents: None,
            open: None,
            left_out: BTreeMap::new(),
        })
    }

    /// Counts a page or document that is left out.
    pub(super) fn leave_out(&mut self, why: &str) {
        *self.left_out.entry(why.to_owned()).or_default() += 1;
    }

    /// Pages and documents that were left out, by reason.
    pub(super) fn left_out(&self) -> BTreeMap<String, u64> {
        self.left_out.clone()
    }

    /// The next page; `None` after the last.
    pub(super) async fn next(&mut self) -> Outcome<Option<KnownPage>> {
        loop {
            if let Some(mut open) = self.open.take() {
                if open.next >= open.document.info().n_pages {
                    continue;
                }
                let page = self.page(&mut open).await;
                self.open = Some(open);
                match page {
                    Ok(page) => return Ok(Some(page)),
                    Err(why) => self.leave_out(&why),
                }
                continue;
            }
            if let Some((entry, mut waiting)) = self.documents.take() {
                if let Some(found) = waiting.recv().await {
                    let opened = self.open_document(&entry, found).await;
                    self.documents = Some((entry, waiting));
                    match opened {
                        Ok(open) => self.open = open,
                        Err(why) => self.leave_out(&why),
                    }
                }
                continue;
            }
            match self.entries.pop_front() {
                None => return Ok(None),
                Some(Listed::Entry(entry)) if is_text(&entry.uri) => {}
                Some(Listed::Entry(entry)) => {
                    let found = documents(&self.stores, &entry, Wanted::All, &self.limits);
                    self.documents = Some((entry, found));
                }
                Some(Listed::Trouble { trouble, .. }) => {
                    self.leave_out(&format!("not readable ({})", trouble.code));
                }
            }
        }
    }

    /// Draws the next page of a document; `Err` says why its text is not known.
    async fn page(&self, open: &mut Open) -> Result<KnownPage, String> {
        let page_idx = open.next;
        open.next += 1;
        let wants_layer = open.truth.is_none();
        let drawn = open.document.page(page_idx, &self.spec, wants_layer).await;
        let drawn = drawn.map_err(|trouble| format!("not readable ({})", trouble.code))?;
        let truth = match (&open.truth, drawn.text_layer) {
            (Some(truth), _) => truth.clone(),
            (None, Some(layer)) => match trust(&layer) {
                Ok(()) => layer.visible_text,
                Err(why) => return Err(format!("with a distrusted text layer ({})", why.as_str())),
            },
            (None, None) => return Err("without known text".to_owned()),
        };
        Ok(KnownPage {
            name: format!("{} page {}", open.name, page_idx + 1),
            image: Arc::new(drawn.image),
            truth,
        })
    }

    async fn open_document(
        &self,
        entry: &Entry,
        found: FoundDocument,
    ) -> Result<Option<Open>, String> {
        let not_readable = |code| format!("not readable ({code})");
        let content: Bytes = found
            .content
            .map_err(|trouble| not_readable(trouble.code))?;
        let is_pdf = found.media_type == "application/pdf";
        let beside = match (is_pdf, &found.member) {
            (false, None) => self.text_beside(&entry.uri).await?,
            _ => None,
        };
        if !is_pdf && beside.is_none() {
            return Err("without known text".to_owned());
        }
        let opened = self.renderer.open(content, &found.media_type).await;
        let document = opened.map_err(|trouble| not_readable(trouble.code))?;
        // Whose text is it, when there are several pages?
        if !is_pdf && document.info().n_pages != 1 {
            return Err("of several pages with one text".to_owned());
        }
        let name = match found.member {
            Some(member) => format!("{} > {member}", entry.uri),
            None => entry.uri.clone(),
        };
        Ok(Some(Open {
            name,
            document,
            next: 0,
            truth: beside,
        }))
    }

    /// The text file beside an image.
    async fn text_beside(&self, uri: &str) -> Result<Option<String>, String> {
        for extension in TEXT_EXTENSIONS {
            let Some(beside) = with_extension(uri, extension) else {
                return Ok(None);
            };
            let Ok(location) = self.stores.resolve(&beside) else {
                return Ok(None);
            };
            let bytes = match location.place {
                Place::Local(path) => read_small(&path)?,
                Place::Remote { store, path } => match store.head(&path).await {
                    Err(object_store::Error::NotFound { .. }) => None,
                    Ok(found) if found.size > MOST_TEXT_BYTES => return Err(too_large()),
                    Ok(_) | Err(_) => {
                        let got = store.get(&path).await;
                        let got = got.map_err(|error| format!("whose text is away ({error})"))?;
                        let bytes = got.bytes().await;
                        let bytes = bytes.map_err(|error| format!("whose text is away ({error})"));
                        Some(bytes?.to_vec())
                    }
                },
            };
            if let Some(bytes) = bytes {
                let text = String::from_utf8(bytes);
                return match text {
                    Ok(text) => Ok(Some(text)),
                    Err(_) => Err("whose text is not UTF-8".to_owned()),
                };
            }
        }
        Ok(None)
    }
}

fn read_small(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let Ok(found) = std::fs::metadata(path) else {
        return Ok(None);
    };
    if !found.is_file() {
        return Ok(None);
    }
    if found.len() > MOST_TEXT_BYTES {
        return Err(too_large());
    }
    let bytes = std::fs::read(path);
    bytes
        .map(Some)
        .map_err(|error| format!("whose text cannot be read ({error})"))
}

fn too_large() -> String {
    "whose text is too large".to_owned()
}

fn is_text(uri: &str) -> bool {
    let extension = uri
        .rsplit('/')
        .next()
        .and_then(|name| name.rsplit_once('.'));
    extension.is_some_and(|(_, extension)| {
        TEXT_EXTENSIONS
            .iter()
            .any(|text| extension.eq_ignore_ascii_case(text))
    })
}

/// The URI of the file of the same name with another extension.
fn with_extension(uri: &str, extension: &str) -> Option<String> {
    let (folder, name) = uri.rsplit_once('/')?;
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    (!stem.is_empty()).then(|| format!("{folder}/{stem}.{extension}"))
}

/// Counts tokens of text.
pub(super) enum TokenCounter {
    /// The tokenizer of a model.
    #[cfg(feature = "deepseek-ocr")]
    Model(Box<deepseek_ocr::tokenizer::TextTokenizer>),
    /// By characters, where no model is named.
    Estimate,
}

impl TokenCounter {
    /// That of the model in the settings, whoever reads; without a model an estimate.
    #[cfg(feature = "deepseek-ocr")]
    pub(super) fn of(folder: Option<&Path>) -> Outcome<Self> {
        let Some(folder) = folder else {
            return Ok(Self::Estimate);
        };
        let file = folder.join("config.json");
        let config = std::fs::read_to_string(&file).map_err(|error| {
            Failure::from(error).context(format!("cannot read {}", file.display()))
        })?;
        let config = deepseek_ocr::config::ModelConfig::parse(&config)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        let file = folder.join("tokenizer.json");
        let tokenizer = deepseek_ocr::tokenizer::TextTokenizer::open(&file, &config);
        Ok(Self::Model(Box::new(tokenizer.map_err(Failure::of)?)))
    }

    /// Without the engine that has a tokenizer, an estimate.
    #[cfg(not(feature = "deepseek-ocr"))]
    pub(super) fn of(_: Option<&Path>) -> Outcome<Self> {
        Ok(Self::Estimate)
    }

    /// For people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            #[cfg(feature = "deepseek-ocr")]
            Self::Model(_) => "the model's tokenizer",
            Self::Estimate => "an estimate from its characters",
        }
    }

    /// Tokens of a text as it would be read: without marks.
    pub(super) fn count(&self, text: &str) -> u32 {
        let text = plain(text);
        let text = text.trim();
        match self {
            #[cfg(feature = "deepseek-ocr")]
            Self::Model(tokenizer) => match tokenizer.encode(text) {
                Ok(tokens) => u32::try_from(tokens.len()).unwrap_or(u32::MAX),
                Err(_) => estimate(text),
            },
            Self::Estimate => estimate(text),
        }
    }
}

/// About as many tokens as a vocabulary of 128,000 makes of a text: one for each word of up to
/// six letters, further ones for longer words, one for each ideograph, kana or sign.
fn estimate(text: &str) -> u32 {
    let mut tokens = 0_u32;
    let mut run = 0_u32;
    let mut end = |run: &mut u32| {
        tokens = tokens.saturating_add(run.div_ceil(6));
        *run = 0;
    };
    for letter in text.chars() {
        let is_wide = matches!(letter, '\u{2E80}'..='\u{D7AF}' | '\u{F900}'..='\u{FAFF}');
        if letter.is_alphanumeric() && !is_wide {
            run += 1;
            continue;
        }
        end(&mut run);
        if !letter.is_whitespace() {
            end(&mut 1);
        }
    }
    end(&mut run);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_beside_an_image_has_its_name() {
        let beside = |uri| with_extension(uri, "txt");
        let expected = Some("file:///a/b.c/d.txt".to_owned());
        assert_eq!(beside("file:///a/b.c/d.png"), expected);
        assert_eq!(beside("file:///a/b.c/d"), expected);
        assert_eq!(beside("file:///a/.png"), None);
        assert!(is_text("s3://b/x.TXT") && is_text("s3://b/x.md") && !is_text("s3://b.md/x.png"));
    }

    #[test]
    fn estimate_counts_words_signs_and_ideographs() {
        for (text, tokens) in [
            ("", 0),
            ("a short line.", 4),
            ("extraordinary", 3),
            ("第一章 Introduction", 5),
        ] {
            assert_eq!(estimate(text), tokens, "{text}");
        }
    }
}
