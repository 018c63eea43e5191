//! Whether OUT may hold the dataset of these inputs: they must not lie in it, and it must be
//! empty, absent, or a dataset already.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use quire_corpus::{Address, sibling};
use quire_dataset::paths::AREA_SUFFIX;

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// What lies at a local OUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or an empty folder.
    Nothing,
    /// A dataset of Quire, finished or begun.
    Dataset,
}

/// Refuses an OUT that may not hold the dataset of these inputs.
pub(crate) async fn check(context: &Context, out: &str, inputs: &[String]) -> Outcome<()> {
    keep_apart(out, inputs)?;
    match context.local_folder(out)? {
        Some(folder) => look_at_local(&folder).map(|_| ()),
        None => look_at_remote(context, out).await,
    }
}

/// Looks at a prefix of an object store as [`look_at_local`] does at a folder.
async fn look_at_remote(context: &Context, out: &str) -> Outcome<()> {
    // A bucket itself has no sibling for unfinished work.
    sibling(out, AREA_SUFFIX).map_err(Failure::of)?;
    let dataset = context.open_dataset(out)?;
    let begun = !dataset
        .output
        .versions()
        .await
        .map_err(Failure::of)?
        .is_empty()
        || !dataset.output.jobs().await.map_err(Failure::of)?.is_empty();
    let location = context.stores.open_output(out).map_err(Failure::of)?;
    let first = location
        .store
        .list(Some(&location.prefix))
        .next()
        .await
        .transpose();
    let first = first.map_err(|error| {
        Failure::from(anyhow::Error::new(error)).context(format!("cannot list {}", location.uri))
    })?;
    if first.is_some() && !begun {
        let what = format!("{} is not empty and is no Quire dataset", location.uri);
        return Err(Failure::usage(what).hint("choose a prefix that holds nothing yet"));
    }
    Ok(())
}

/// Looks at a local OUT; what is neither empty nor a dataset is refused.
pub(crate) fn look_at_local(folder: &Path) -> Outcome<Found> {
    let kind = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(if area_of(folder).is_dir() {
                Found::Dataset
            } else {
                Found::Nothing
            });
        }
        Err(error) => {
            let what = format!("cannot look at {}", folder.display());
            return Err(Failure::from(error).context(what));
        }
    };
    if !kind.is_dir() {
        let what = format!("{} is a file, and OUT must be a folder", folder.display());
        return Err(Failure::usage(what));
    }
    if folder.join("versions").is_dir() || area_of(folder).is_dir() {
        return Ok(Found::Dataset);
    }
    let mut entries = std::fs::read_dir(folder).map_err(|error| {
        Failure::from(error).context(format!("cannot list {}", folder.display()))
    })?;
    match entries.next() {
        None => Ok(Found::Nothing),
        Some(_) => {
            let what = format!("{} is not empty and is no Quire dataset", folder.display());
            Err(Failure::usage(what).hint("choose a folder that is empty or does not exist yet"))
        }
    }
}

/// The sibling folder where unfinished work lies.
fn area_of(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(AREA_SUFFIX);
    folder.with_file_name(name)
}

/// Refuses inputs that lie in OUT or in its unfinished work. An OUT inside an input folder is
/// fine: listing leaves it out.
pub(crate) fn keep_apart(out: &str, inputs: &[String]) -> Outcome<()> {
    let out_uri = canonical(out)?;
    let area = folder_uri(&format!("{}{AREA_SUFFIX}", out_uri.trim_end_matches('/')));
    let out_uri = folder_uri(&out_uri);
    for input in inputs {
        // What cannot be understood is refused by the listing, which says why.
        let Ok(fixed) = canonical(fixed_part(input)) else {
            continue;
        };
        let fixed = folder_uri(&fixed);
        if fixed.starts_with(&out_uri) || fixed.starts_with(&area) {
            let what = format!("the input {input} lies inside OUT ({out})");
            return Err(Failure::usage(what).hint("a dataset is no input: choose another OUT"));
        }
    }
    Ok(())
}

fn canonical(text: &str) -> Outcome<String> {
    Ok(Address::parse(text).map_err(Failure::of)?.uri())
}

fn folder_uri(uri: &str) -> String {
    format!("{}/", uri.trim_end_matches('/'))
}

/// A pattern's folders up to the first one with a wildcard; a plain input whole.
fn fixed_part(input: &str) -> &str {
    let Some(wild) = input.find(['*', '?', '[']) else {
        return input;
    };
    match input[..wild].rfind('/') {
        Some(0) => "/",
        Some(slash) => &input[..slash],
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_inside_out_are_refused_and_out_inside_an_input_is_not() {
        for (out, input, fine) in [
            ("/data/out", "/data/scans", true),
            ("/data/scans/out", "/data/scans", true),
            ("/data/scans/out", "/data/scans/**/*", true),
            ("/data/scans-out", "/data/scans", true),
            ("/data/scans", "/data/scans", false),
            ("/data/scans/", "/data/scans", false),
            ("/data/scans", "/data/scans/a.pdf", false),
            ("/data/scans", "/data/scans/*.pdf", false),
            ("/data/scans", "/data/scans.quire/jobs", false),
            ("s3://bucket/scans", "s3://bucket/scans/2024", false),
            ("s3://bucket/out", "s3://bucket/scans", true),
            ("s3://other/scans", "s3://bucket/scans", true),
        ] {
            let checked = keep_apart(out, &[input.to_owned()]);
            assert_eq!(checked.is_ok(), fine, "{out} and {input}");
            assert!(checked.map_or_else(|failure| failure.exit_code == 2, |()| true));
        }
    }

    #[test]
    fn only_nothing_or_a_dataset_may_lie_at_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(look_at_local(&at("absent")).unwrap(), Found::Nothing);
        std::fs::create_dir(at("empty")).unwrap();
        assert_eq!(look_at_local(&at("empty")).unwrap(), Found::Nothing);
        std::fs::create_dir_all(at("sealed/versions")).unwrap();
        assert_eq!(look_at_local(&at("sealed")).unwrap(), Found::Dataset);
        std::fs::create_dir_all(at("begun.quire")).unwrap();
        assert_eq!(look_at_local(&at("begun")).unwrap(), Found::Dataset);
        std::fs::create_dir_all(at("theirs")).unwrap();
        std::fs::write(at("theirs/thesis.doc"), "x").unwrap();
        for refused in ["theirs", "theirs/thesis.doc"] {
            assert_eq!(
                look_at_local(&at(refused)).unwrap_err().exit_code,
                2,
                "{refused}"
            );
        }
    }
}
