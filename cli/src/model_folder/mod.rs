//! Checkpoints of models on this machine: a local folder as it is, a prefix of an object store
//! copied once into a folder of this user's cached files.
//!
//! ```text
//! CACHE/checkpoints/{id}/config.json, tokenizer.json, ...   whole files only
//! CACHE/checkpoints/{id}/copied.json                        size, tag and SHA-256 of each
//! CACHE/checkpoints/{id}/{name}.unfinished                  what a copy that was stopped has
//! CACHE/checkpoints/{id}.lock                               held by the process that copies
//! CACHE/digests/, CACHE/finite/                             what was found of files, once
//! ```
//!
//! A file gets its name when all of it is there and on disk. Before a copy is used its files are
//! compared with their digests; those are remembered by size and time of change, so that nothing
//! is read twice for it.

#[cfg(feature = "deepseek-ocr")]
mod copy;

use std::path::{Path, PathBuf};

use quire_corpus::Place;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::settings::set;

/// Where copies of checkpoints are kept, and what was found of files.
pub(crate) fn cache_folder(context: &Context) -> PathBuf {
    match set(&context.settings().deepseek_ocr.cache_folder) {
        Some(folder) => PathBuf::from(folder),
        None => context.loaded.user_cache.clone(),
    }
}

/// The folder of a checkpoint that a path or a URI of a store names; a store's is copied first,
/// unless it was before.
pub(crate) async fn local_folder(context: &Context, model: &str) -> Outcome<PathBuf> {
    let location = context.stores.resolve(model).map_err(Failure::of)?;
    match location.place {
        Place::Local(folder) if folder.is_dir() => Ok(folder),
        Place::Local(folder) => Err(no_folder(&folder)),
        #[cfg(feature = "deepseek-ocr")]
        Place::Remote { store, path } => {
            let source = copy::Source {
                store,
                prefix: path,
                uri: location.uri.trim_end_matches('/').to_owned(),
            };
            copy::copied(&source, &cache_folder(context)).await
        }
        #[cfg(not(feature = "deepseek-ocr"))]
        Place::Remote { .. } => Err(Failure::usage(format!(
            "cannot copy {model}: DeepSeek-OCR was left out when this program was built"
        ))),
    }
}

fn no_folder(folder: &Path) -> Failure {
    let what = format!("there is no checkpoint at {}", folder.display());
    Failure::usage(what)
        .hint("a checkpoint is a folder with config.json, tokenizer.json and *.safetensors")
}
