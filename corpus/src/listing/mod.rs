//! From inputs as people type them to entries in a stable order.
//!
//! An input is a folder (walked whole), a file, a pattern, a prefix of a store, or `@FILE`: a list
//! of one address a line. A JSON-lines file whose rows name addresses stands for what it names. A
//! web address is one object.
//! The rules:
//! - Entries are sorted by canonical URI, whatever the order of the inputs; one object reached
//!   twice, through links too, is one entry.
//! - Hidden files and folders (name starts with a dot) are skipped unless an input names them.
//! - What is there but cannot be read (no permission, broken link, pipe, socket, device) is a
//!   `Listed::Trouble`; pipes and devices are never opened.
//! - An input that matches nothing is an error, since it is most likely a slip.
//!
//! Next: `documents` opens what is listed here.

mod lists;
mod local;
mod remote;
mod web;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::PathBuf;

use quire_core::{Stage, Trouble, TroubleCode};
use tokio::runtime::Handle;

use crate::address::Address;
use crate::entry::{Entry, Listed};
use crate::error::{Error, Result, scrub};
use crate::stores::Stores;

/// Lists `inputs`; see the module for the rules.
pub async fn list(stores: &Stores, inputs: &[String]) -> Result<Vec<Listed>> {
    list_except(stores, inputs, &[]).await
}

/// Lists `inputs` without what lies at or below the addresses `excluded`, such as an output
/// folder inside an input folder.
pub async fn list_except(
    stores: &Stores,
    inputs: &[String],
    excluded: &[String],
) -> Result<Vec<Listed>> {
    let excluded: Vec<Address> = excluded
        .iter()
        .map(|text| Address::parse(text))
        .collect::<Result<_>>()?;
    let mut found = Findings::default();
    for input in inputs {
        let before = found.len();
        let reason = list_input(stores, input, &excluded, &mut found).await?;
        if found.len() == before {
            return Err(Error::NothingFound {
                input: scrub(input),
                reason: reason.to_owned(),
            });
        }
    }
    lists::expand(stores, &mut found, &excluded).await?;
    Ok(found.into_listed())
}

/// Checks that an input can be understood and holds no credential, before anybody writes it down.
/// Nothing is asked whether it exists.
pub fn check_input(input: &str) -> Result<()> {
    Address::parse(input.strip_prefix('@').unwrap_or(input)).map(drop)
}

/// Lists one input; the answer says what it means if nothing was found.
async fn list_input(
    stores: &Stores,
    input: &str,
    excluded: &[Address],
    found: &mut Findings,
) -> Result<&'static str> {
    if let Some(list) = input.strip_prefix('@') {
        let address = Address::parse(list)?;
        return lists::read_plain_list(stores, &address, excluded, found).await;
    }
    match Address::parse(input)? {
        Address::Local(path) => {
            let (input, excluded) = (input.to_owned(), local_paths(excluded));
            let (fresh, reason) = blocking(move || local::find(&input, path, &excluded)).await??;
            found.append(fresh);
            Ok(reason)
        }
        remote @ Address::Remote { .. } => remote::find(stores, &remote, excluded, found).await,
        Address::Web(url) => web::find(stores, &url, found).await,
    }
}

/// Runs `work` where it may block; a panic in it becomes an error.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    Handle::current()
        .spawn_blocking(work)
        .await
        .map_err(|e| Error::Lost {
            reason: e.to_string(),
        })
}

fn local_paths(addresses: &[Address]) -> Vec<PathBuf> {
    let local = |address: &Address| match address {
        Address::Local(path) => Some(path.clone()),
        Address::Remote { .. } | Address::Web(_) => None,
    };
    addresses.iter().filter_map(local).collect()
}

/// An object that was found, before duplicates are taken out.
#[derive(Debug)]
struct Candidate {
    address: Address,
    /// The file behind a path that leads through links.
    real: Option<PathBuf>,
    bytes: u64,
    etag: Option<String>,
    license: Option<String>,
    /// Whether it may be a list of addresses: by its name, or since an input names it.
    may_be_list: bool,
}

/// Everything found so far.
#[derive(Debug, Default)]
struct Findings {
    candidates: Vec<Candidate>,
    troubles: Vec<(String, Trouble)>,
}

impl Findings {
    fn len(&self) -> usize {
        self.candidates.len() + self.troubles.len()
    }

    fn append(&mut self, mut other: Self) {
        self.candidates.append(&mut other.candidates);
        self.troubles.append(&mut other.troubles);
    }

    fn trouble(&mut self, address: &Address, code: TroubleCode, message: impl Into<String>) {
        self.troubles
            .push((address.uri(), Trouble::new(Stage::Fetch, code, message)));
    }

    /// Takes out duplicates and sorts.
    fn into_listed(self) -> Vec<Listed> {
        let mut kept: HashMap<Address, Candidate> = HashMap::new();
        for candidate in self.candidates {
            let identity = match &candidate.real {
                Some(real) => Address::Local(real.clone()),
                None => candidate.address.clone(),
            };
            match kept.entry(identity) {
                Slot::Vacant(slot) => {
                    slot.insert(candidate);
                }
                Slot::Occupied(mut slot) => {
                    let license = slot.get().license.clone().or(candidate.license.clone());
                    // The object's own path is the better name than one through a link.
                    let rank = |c: &Candidate| (c.real.is_some(), c.address.uri());
                    if rank(&candidate) < rank(slot.get()) {
                        slot.insert(candidate);
                    }
                    slot.get_mut().license = license;
                }
            }
        }
        let mut listed: Vec<Listed> = kept
            .into_values()
            .map(|candidate| {
                Listed::Entry(Entry {
                    uri: candidate.address.uri(),
                    bytes: candidate.bytes,
                    etag: candidate.etag,
                    license: candidate.license,
                })
            })
            .collect();
        let troubles = self.troubles.into_iter();
        listed.extend(troubles.map(|(uri, trouble)| Listed::Trouble { uri, trouble }));
        // Entries come before troubles of the same URI, so that the entry is the one kept.
        listed.sort_by(|a, b| {
            let rank = |listed: &Listed| matches!(listed, Listed::Trouble { .. });
            (a.uri(), rank(a)).cmp(&(b.uri(), rank(b)))
        });
        listed.dedup_by(|later, earlier| later.uri() == earlier.uri());
        listed
    }
}
