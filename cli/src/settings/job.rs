//! A job's own file, `JOB.toml`: what is read, where to, and how. It goes over the settings and
//! under the flags, and holds nothing that only concerns the machine it is typed on.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::merge::edit_distance;
use super::{Loaded, Origin, Settings, SettingsError, check, read_file};

/// What a job's file says beside settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobFile {
    pub inputs: Vec<String>,
    pub out: Option<String>,
    pub priority: Option<i32>,
}

/// Settings that decide what a dataset holds; the others belong to machines.
const READING: &[&str] = &[
    "render.dpi",
    "render.max_edge_px",
    "render.max_area_px",
    "text_layer.mode",
    "image.mode",
    "split.validation_fraction",
    "split.salt",
    "engine.name",
    "engine.mode",
    "deepseek_ocr.mode",
    "deepseek_ocr.max_tiles",
    "deepseek_ocr.task",
    "deepseek_ocr.deep_parsing",
    "job.shard_pages",
    "job.shuffle_seed",
];

const OWN: &[&str] = &["inputs", "out", "priority"];

/// Whether this input is a job's file: files of that kind are no documents.
pub(crate) fn is_job_file(input: &str) -> bool {
    !input.contains("://")
        && Path::new(input)
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}

impl JobFile {
    /// Reads a job's file, and gives the settings that are in force for this job.
    pub(crate) fn read(path: &Path, loaded: &Loaded) -> Result<(Self, Settings), SettingsError> {
        let mut table = read_file(path)?;
        let job = Self::take_own(path, &mut table)?;
        let origin = Origin::File(path.to_owned());
        for key in keys(&table) {
            if !READING.contains(&key.as_str()) {
                return Err(refused(key, path, loaded));
            }
        }
        let mut merged = loaded.merged.clone();
        merged.lay_table(table, &origin)?;
        merged.lay_flags(&loaded.flags)?;
        Ok((job, check(&merged)?))
    }

    fn take_own(path: &Path, table: &mut Table) -> Result<Self, SettingsError> {
        let kind = |key: &str, expected, found: &Value| SettingsError::Kind {
            key: key.to_owned(),
            expected,
            found: super::merge::kind_name(found),
            origin: path.display().to_string(),
        };
        let inputs = match table.remove("inputs") {
            Some(Value::Array(values)) => values
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Ok(beside(path, text)),
                    other => Err(kind("inputs", "a list of texts", &other)),
                })
                .collect::<Result<Vec<_>, _>>()?,
            Some(Value::String(text)) => vec![beside(path, text)],
            Some(other) => return Err(kind("inputs", "a list of texts", &other)),
            None => Vec::new(),
        };
        let out = match table.remove("out") {
            Some(Value::String(text)) => Some(beside(path, text)),
            Some(other) => return Err(kind("out", "text", &other)),
            None => None,
        };
        let priority = match table.remove("priority") {
            Some(Value::Integer(number)) => Some(i32::try_from(number).map_err(|_| {
                SettingsError::Value(format!(
                    "`priority` must be between -2147483648 and 2147483647 (from {})",
                    path.display()
                ))
            })?),
            Some(other) => return Err(kind("priority", "a whole number", &other)),
            None => None,
        };
        Ok(Self {
            inputs,
            out,
            priority,
        })
    }
}

/// A relative path in a file means what lies beside the file, wherever the command is typed.
fn beside(file: &Path, text: String) -> String {
    let (lead, path) = match text.strip_prefix('@') {
        Some(list) => ("@", list),
        None => ("", text.as_str()),
    };
    if path.is_empty() || path.contains("://") || Path::new(path).is_absolute() {
        return text;
    }
    match file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        Some(folder) => format!("{lead}{}", PathBuf::from(folder).join(path).display()),
        None => text,
    }
}

/// Dotted names of all values.
fn keys(table: &Table) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                found.extend(keys(inner).into_iter().map(|key| format!("{name}.{key}")));
            }
            _ => found.push(name.clone()),
        }
    }
    found
}

fn refused(key: String, path: &Path, loaded: &Loaded) -> SettingsError {
    let is_setting = keys(&loaded.merged.table).contains(&key);
    let known = READING.iter().chain(OWN);
    let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let near = known
        .map(|known| {
            let by_name = edit_distance(&name(known), &name(&key)) + 1;
            (edit_distance(known, &key).min(by_name), *known)
        })
        .min()
        .filter(|(distance, _)| *distance <= 1 + key.len() / 6);
    SettingsError::NotOfJob {
        path: path.to_owned(),
        suggestion: near.map(|(_, key)| key.to_owned()).filter(|_| !is_setting),
        is_setting,
        key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{FlagValue, merge_layers};

    fn read(text: &str, flags: Vec<FlagValue>) -> Result<(JobFile, Settings), SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        std::fs::write(&path, text).unwrap();
        let loaded = merge_layers(None, Vec::new(), flags).unwrap();
        JobFile::read(&path, &loaded)
    }

    #[test]
    fn job_file_goes_over_the_settings_and_under_the_flags() {
        let flag = FlagValue {
            key: "render.dpi",
            value: Value::Float(300.0),
            flag: "--dpi",
        };
        let text = "inputs = [\"s3://scans/2024\", \"/data/a.pdf\"]\nout = \"s3://sets/a\"\n\
                    priority = -3\n[render]\ndpi = 100\nmax_edge_px = 5000\n";
        let (job, settings) = read(text, vec![flag]).unwrap();
        assert_eq!(job.inputs, ["s3://scans/2024", "/data/a.pdf"]);
        assert_eq!(job.out.as_deref(), Some("s3://sets/a"));
        assert_eq!(job.priority, Some(-3));
        assert_eq!(settings.render.dpi, 300.0);
        assert_eq!(settings.render.max_edge_px, 5000);
    }

    #[test]
    fn relative_paths_lie_beside_the_file() {
        for (text, expected) in [
            ("scans", "jobs/scans"),
            ("@list.txt", "@jobs/list.txt"),
            ("/data", "/data"),
            ("s3://bucket/x", "s3://bucket/x"),
        ] {
            assert_eq!(beside(Path::new("jobs/a.toml"), text.into()), expected);
            let here = beside(Path::new("a.toml"), text.into());
            assert_eq!(here, text);
        }
    }

    #[test]
    fn key_that_no_job_has_is_named_with_a_hint() {
        for (text, key, hint) in [
            ("input = [\"a\"]", "input", "did you mean `inputs`?"),
            (
                "[render]\ndpy = 3",
                "render.dpy",
                "did you mean `render.dpi`?",
            ),
            (
                "[render]\nmemory_limit = \"1 GiB\"",
                "render.memory_limit",
                "setting of machines",
            ),
            ("[worker]\nslots = 3", "worker.slots", "setting of machines"),
            (
                "[zzzzzzzzzzz]\nqqqqqq = 3",
                "zzzzzzzzzzz.qqqqqq",
                "holds `inputs`",
            ),
        ] {
            let error = read(text, Vec::new()).unwrap_err();
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        }
    }

    #[test]
    fn value_of_another_kind_is_refused_with_its_key() {
        for (text, message) in [
            (
                "inputs = 3",
                "`inputs` must be a list of texts, not a number",
            ),
            (
                "inputs = [3]",
                "`inputs` must be a list of texts, not a number",
            ),
            ("out = true", "`out` must be text"),
            ("priority = \"high\"", "`priority` must be a whole number"),
            ("priority = 9999999999", "`priority` must be between"),
            ("[render]\ndpi = \"many\"", "`render.dpi` must be a number"),
            ("[render]\ndpi = 3", "`render.dpi` must be between"),
        ] {
            let error = read(text, Vec::new()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
