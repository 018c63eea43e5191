//! Files of the local disk: one path, a folder walked whole, or a pattern.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use glob::MatchOptions;
use quire_core::{Stage, TroubleCode};

use super::{Candidate, Findings};
use crate::address::{Address, split_scheme};
use crate::error::{Error, Result};
use crate::listing::lists::has_list_name;
use crate::object::local_etag;
use crate::unreadable::trouble_of_io;

/// Finds what `input` (which stands for `path`) means. The text says why nothing was found.
pub(super) fn find(
    input: &str,
    path: PathBuf,
    excluded: &[PathBuf],
) -> Result<(Findings, &'static str)> {
    let mut walk = Walk::new(excluded);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let is_pattern = split_scheme(input).is_none() && input.contains(['*', '?', '[']);
            if !is_pattern {
                return Ok((walk.found, "there is no such file or folder"));
            }
            walk.pattern(input)?;
            return Ok((walk.found, "no file has a name of this pattern"));
        }
        Err(source) => return Err(Error::Local { path, source }),
    };
    if metadata.is_dir() {
        // A folder that is an input and cannot be read is a slip, not a row among many.
        fs::read_dir(&path).map_err(|source| Error::Local {
            path: path.clone(),
            source,
        })?;
        walk.folder(path);
        return Ok((
            walk.found,
            "the folder holds no file (hidden ones are skipped)",
        ));
    }
    if metadata.is_file() {
        walk.file(path, true);
        return Ok((walk.found, "the file is excluded"));
    }
    Ok((walk.found, "it is a pipe, socket or device"))
}

/// Adds the file or folder that a line of a list names; what cannot be read becomes a trouble.
pub(super) fn add_listed(path: PathBuf, license: Option<String>, excluded: &[PathBuf]) -> Findings {
    let mut walk = Walk::new(excluded);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => walk.folder(path),
        _ => walk.file(path, false),
    }
    for candidate in &mut walk.found.candidates {
        candidate.license.clone_from(&license);
        candidate.may_be_list = false;
    }
    walk.found
}

struct Walk<'a> {
    excluded: &'a [PathBuf],
    found: Findings,
    /// Real folders walked so far, by device and inode: links cannot lead in circles.
    walked: HashSet<(u64, u64)>,
    /// Links to folders, kept for when all real folders are done: a folder is listed under its
    /// own path where that is part of the input. Ordered, so that the result is stable.
    links: BTreeSet<PathBuf>,
}

impl<'a> Walk<'a> {
    fn new(excluded: &'a [PathBuf]) -> Self {
        Self {
            excluded,
            found: Findings::default(),
            walked: HashSet::new(),
            links: BTreeSet::new(),
        }
    }

    fn pattern(&mut self, input: &str) -> Result<()> {
        let wrong = |reason: String| Error::Address {
            address: input.to_owned(),
            reason,
        };
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let matches = glob::glob_with(input, options).map_err(|e| wrong(e.to_string()))?;
        for path in matches {
            match path {
                Ok(path) => match Address::local(&path)? {
                    Address::Local(path) if path.is_dir() => self.folder(path),
                    Address::Local(path) => self.file(path, false),
                    Address::Remote { .. } | Address::Web(_) => {}
                },
                Err(e) => {
                    if let Ok(address) = Address::local(e.path()) {
                        self.io_trouble(&address, e.error());
                    }
                }
            }
        }
        Ok(())
    }

    /// Walks a folder and everything below it, real folders first, then what links add.
    fn folder(&mut self, root: PathBuf) {
        self.real_folders(root);
        while let Some(link) = self.links.pop_first() {
            self.real_folders(link);
        }
    }

    fn real_folders(&mut self, root: PathBuf) {
        let mut waiting = vec![root];
        while let Some(folder) = waiting.pop() {
            if let Err(e) = self.one_folder(&folder, &mut waiting) {
                self.io_trouble(&Address::Local(folder), &e);
            }
        }
    }

    fn one_folder(&mut self, folder: &Path, waiting: &mut Vec<PathBuf>) -> io::Result<()> {
        let real = fs::canonicalize(folder)?;
        let metadata = fs::metadata(&real)?;
        if self.is_excluded(folder, &real) || !self.walked.insert((metadata.dev(), metadata.ino()))
        {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let path = folder.join(&name);
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(e) => {
                    self.io_trouble(&Address::Local(path), &e);
                    continue;
                }
            };
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_symlink() {
                self.link(path);
            } else {
                let real_path = real.join(&name);
                let metadata = entry.metadata();
                self.found_file(path, real_path, metadata, kind, false);
            }
        }
        Ok(())
    }

    fn link(&mut self, path: PathBuf) {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                self.links.insert(path);
            }
            Ok(_) => self.file(path, false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let address = Address::Local(path);
                self.found
                    .trouble(&address, TroubleCode::NotFound, "the link leads nowhere");
            }
            Err(e) => self.io_trouble(&Address::Local(path), &e),
        }
    }

    /// Adds one file by its path, which may be a link.
    fn file(&mut self, path: PathBuf, is_input: bool) {
        let found = fs::canonicalize(&path)
            .and_then(|real| fs::metadata(&real).map(|metadata| (real, metadata)));
        match found {
            Ok((real, metadata)) => {
                let kind = metadata.file_type();
                self.found_file(path, real, Ok(metadata), kind, is_input);
            }
            Err(e) => self.io_trouble(&Address::Local(path), &e),
        }
    }

    fn found_file(
        &mut self,
        path: PathBuf,
        real: PathBuf,
        metadata: io::Result<Metadata>,
        kind: FileType,
        is_input: bool,
    ) {
        if self.is_excluded(&path, &real) {
            return;
        }
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(e) => return self.io_trouble(&Address::Local(path), &e),
        };
        if !kind.is_file() {
            let message = format!("is {}, not a file", special_name(kind));
            return self
                .found
                .trouble(&Address::Local(path), TroubleCode::Unsupported, message);
        }
        let may_be_list = is_input || has_list_name(path.as_os_str().as_bytes());
        self.found.candidates.push(Candidate {
            real: (real != path).then_some(real),
            address: Address::Local(path),
            bytes: metadata.len(),
            etag: Some(local_etag(&metadata)),
            license: None,
            may_be_list,
        });
    }

    fn is_excluded(&self, path: &Path, real: &Path) -> bool {
        self.excluded
            .iter()
            .any(|out| path.starts_with(out) || real.starts_with(out))
    }

    fn io_trouble(&mut self, address: &Address, error: &io::Error) {
        let trouble = trouble_of_io(error, Stage::Fetch);
        self.found.troubles.push((address.uri(), trouble));
    }
}

fn special_name(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a folder"
    } else {
        "a device"
    }
}
