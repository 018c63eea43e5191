//! What lies beside the rows: card and checksums must follow from the version, and no file may
//! lie under `data/` that no version lists.

use std::collections::HashSet;

use crate::area::Output;
use crate::card;
use crate::error::Result;
use crate::paths;
use crate::retention;
use crate::seal;
use crate::verify::VerifyReport;
use crate::version::VersionFile;

pub(super) async fn check(
    output: &Output,
    newest: &VersionFile,
    report: &mut VerifyReport,
) -> Result<()> {
    let mut older = Vec::new();
    for number in output.versions().await? {
        if number != newest.version {
            match output.version(number).await {
                Ok(version) => older.push(version),
                Err(error) => report.add(&paths::version(number), None, error.to_string()),
            }
        }
    }
    check_derived(output, newest, &older, report).await?;
    check_strays(output, newest, &older, report).await
}

async fn check_derived(
    output: &Output,
    newest: &VersionFile,
    older: &[VersionFile],
    report: &mut VerifyReport,
) -> Result<()> {
    for (key, expected) in card::derived(newest)? {
        match output.place.find(key).await? {
            Some(found) if found == expected => {}
            // A crash between the commit and these files leaves the older ones, which are whole.
            None => report
                .notes
                .push(format!("{key} is not written yet: `quire seal` does it")),
            Some(found) => {
                let mut told = older.iter().filter_map(|version| {
                    let derived = card::derived(version).ok()?;
                    derived
                        .contains(&(key, found.to_vec()))
                        .then_some(version.version)
                });
                match told.next() {
                    Some(number) => report.notes.push(format!(
                        "{key} is still that of version {number}: `quire seal` writes it again"
                    )),
                    None => report.add(key, None, "does not follow from any version"),
                }
            }
        }
    }
    Ok(())
}

async fn check_strays(
    output: &Output,
    newest: &VersionFile,
    older: &[VersionFile],
    report: &mut VerifyReport,
) -> Result<()> {
    let listed: HashSet<&str> = older
        .iter()
        .chain([newest])
        .flat_map(|version| version.files.iter().map(|file| file.path.as_str()))
        .collect();
    let unfinished = seal::unfinished(output, newest.version).await?;
    let dropped = retention::files_of_dropped(output).await?;
    let (mut n_unfinished, mut n_dropped) = (0, 0);
    for object in output.place.list(paths::DATA).await? {
        if listed.contains(object.key.as_str()) {
            continue;
        }
        if dropped.contains(&object.key) {
            n_dropped += 1;
            continue;
        }
        let version = paths::parse_version_data(&object.key);
        match &unfinished {
            Some((number, _)) if version == Some(*number) => n_unfinished += 1,
            _ => report.add(&object.key, None, "is listed by no version"),
        }
    }
    if n_dropped > 0 {
        report.notes.push(format!(
            "{n_dropped} files of versions that were dropped wait to be removed: `quire prune` does it"
        ));
    }
    if let Some((number, job_id)) = unfinished {
        report.notes.push(format!(
            "version {number} is being sealed by job {job_id}, {n_unfinished} of its files are there"
        ));
    }
    Ok(())
}
