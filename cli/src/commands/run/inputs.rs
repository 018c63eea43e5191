//! Inputs as a job's specification holds them: absolute, so that the same command means the same
//! job wherever it is typed.

use std::path::Path;

use quire_corpus::Address;

use crate::failure::{Failure, Outcome};

/// Absolute paths and canonical URIs; a pattern stays a pattern, `@FILE` a list.
pub(crate) fn canonical(inputs: &[String]) -> Outcome<Vec<String>> {
    inputs.iter().map(|input| canonical_one(input)).collect()
}

fn canonical_one(input: &str) -> Outcome<String> {
    if let Some(list) = input.strip_prefix('@') {
        return Ok(format!("@{}", uri(list)?));
    }
    if is_pattern(input) {
        let absolute = std::path::absolute(input).map_err(|error| {
            Failure::from(error).context(format!("cannot make {input} absolute"))
        })?;
        // What is not UTF-8 cannot have come from the command line as text.
        return Ok(absolute.to_string_lossy().into_owned());
    }
    uri(input)
}

fn uri(text: &str) -> Outcome<String> {
    Ok(Address::parse(text).map_err(Failure::of)?.uri())
}

/// Whether a local input is a pattern; a file whose name only looks like one is itself.
pub(crate) fn is_pattern(input: &str) -> bool {
    !input.contains("://") && input.contains(['*', '?', '[']) && !Path::new(input).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_become_absolute_and_stay_what_they_are() {
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        let expected = [
            ("scans", format!("file://{here}/scans")),
            ("scans/**/*.pdf", format!("{here}/scans/**/*.pdf")),
            ("@lists/all.txt", format!("@file://{here}/lists/all.txt")),
            ("s3://bucket/2024", "s3://bucket/2024".to_owned()),
            ("/data/a b.pdf", "file:///data/a b.pdf".to_owned()),
        ];
        for (input, canonical) in expected {
            let found = canonical_one(input).unwrap();
            assert_eq!(found.replace("%20", " "), canonical.replace("%20", " "));
        }
        assert_eq!(
            canonical(&["https://me:secret@host/a.pdf".into()])
                .unwrap_err()
                .exit_code,
            2
        );
    }
}
