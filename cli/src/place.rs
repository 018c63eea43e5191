//! Whether OUT may hold the dataset of these inputs: it must not lie among them, and must be
//! empty, absent, or a dataset already.

use std::path::{Path, PathBuf};

use quire_corpus::Address;

use crate::failure::{Failure, Outcome};

/// What lies at a local OUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or an empty folder.
    Nothing,
    /// A dataset of Quire, finished or begun.
    Dataset,
}

/// Looks at a local OUT; what is neither empty nor a dataset is refused.
pub fn look_at_local(folder: &Path) -> Outcome<Found> {
    let kind = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(if area_of(folder).is_dir() { Found::Dataset } else { Found::Nothing });
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
    name.push(".quire");
    folder.with_file_name(name)
}

/// Refuses an OUT that lies among the inputs, where the next run would read its own output, and
/// inputs that lie in OUT.
pub fn keep_apart(out: &str, inputs: &[String]) -> Outcome<()> {
    let out_uri = folder_uri(&canonical(out)?);
    let area = folder_uri(&format!("{}.quire", out_uri.trim_end_matches('/')));
    for input in inputs {
        // What cannot be understood is refused by the listing, which says why.
        let Ok(fixed) = canonical(fixed_part(input)) else { continue };
        let fixed = folder_uri(&fixed);
        if out_uri.starts_with(&fixed) && may_cover(input, &fixed, &out_uri) {
            let what = format!("OUT ({out}) lies inside the input {input}");
            return Err(Failure::usage(what).hint("a later run would read its own output: choose \
                                                  an OUT outside of the inputs"));
        }
        if fixed.starts_with(&out_uri) || fixed.starts_with(&area) {
            return Err(Failure::usage(format!("the input {input} lies inside OUT ({out})")));
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
    let Some(wild) = input.find(['*', '?', '[']) else { return input };
    match input[..wild].rfind('/') {
        Some(0) => "/",
        Some(slash) => &input[..slash],
        None => ".",
    }
}

/// Whether an input whose fixed part holds OUT may also match OUT or one of its folders.
fn may_cover(input: &str, fixed: &str, out: &str) -> bool {
    let wild = match input.find(['*', '?', '[']) {
        None => return true,
        Some(at) => input[..at].rfind('/').map_or(0, |slash| slash + 1),
    };
    let Ok(pattern) = glob::Pattern::new(&input[wild..]) else { return true };
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let below = out[fixed.len().min(out.len())..].trim_end_matches('/');
    let parts: Vec<&str> = below.split('/').collect();
    let covers_folder =
        (1..=parts.len()).any(|n| pattern.matches_with(&parts[..n].join("/"), options));
    // The files of a dataset lie up to four folders deep.
    let inside = format!("{below}/data/v000001/pages/train/x.parquet");
    covers_folder || pattern.matches_with(&inside, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_among_the_inputs_is_refused() {
        for (out, input, fine) in [
            ("/data/out", "/data/scans", true),
            ("/data/scans/out", "/data/scans", false),
            ("/data/scans", "/data/scans", false),
            ("/data/scans-out", "/data/scans", true),
            ("/data/scans", "/data/scans/a.pdf", false),
            ("/data/scans", "/data/scans.quire/jobs", false),
            ("/data/scans/out", "/data/scans/*.pdf", true),
            ("/data/scans/out", "/data/scans/*", false),
            ("/data/scans/out", "/data/scans/**/*.pdf", true),
            ("/data/scans/out", "/data/scans/**/*", false),
            ("/data/scans/deep/out", "/data/scans/de*", false),
            ("s3://bucket/scans/out", "s3://bucket/scans", false),
            ("s3://bucket/out", "s3://bucket/scans", true),
            ("s3://other/scans/out", "s3://bucket/scans", true),
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
            assert_eq!(look_at_local(&at(refused)).unwrap_err().exit_code, 2, "{refused}");
        }
    }
}
