//! Opens an entry: a plain document is one `FoundDocument`, a container gives one for each member.
//!
//! Reading and unpacking block, so they run on a blocking thread of the runtime; documents come
//! through a channel that holds one, so that a slow reader stops a fast container. Dropping the
//! receiver stops the thread at its next document.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use quire_core::{Stage, Trouble, TroubleCode};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::container::packed::Budget;
use crate::container::{Place, open_object};
use crate::entry::Entry;
use crate::limits::Limits;
use crate::object::Object;
use crate::stores::Stores;

/// Media type of what could not be looked at.
pub(crate) const UNKNOWN: &str = "application/octet-stream";

/// Which documents of an entry to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Every one, in the order of the container.
    All,
    /// These members (`None`: the entry itself). Each gives exactly one `FoundDocument`, those
    /// that are not there a failed one; reading stops when the last is found.
    Members(HashSet<Option<String>>),
}

/// A document of an entry, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDocument {
    /// Name inside the container, unique and stable; `None` for the entry itself.
    pub member: Option<String>,
    /// By content; `application/octet-stream` if it could not be looked at.
    pub media_type: String,
    pub content: Result<Bytes, Trouble>,
    /// Where the document lies in the entry, if it lies there as it is.
    pub offset: Option<u64>,
    /// Bytes from `offset` on.
    pub length: Option<u64>,
}

/// Reads the wanted documents of `entry`. Must be called inside a tokio runtime.
///
/// Trouble with the entry as a whole (it is gone, it has changed since it was listed, the
/// container is damaged) is one failed document with the member `None`, after the members that
/// could be read. A panic of a decoder is such a trouble, too.
pub fn documents(
    stores: &Stores,
    entry: &Entry,
    wanted: Wanted,
    limits: &Limits,
) -> mpsc::Receiver<FoundDocument> {
    let (stores, entry) = (stores.clone(), entry.clone());
    read_with(wanted, limits, move |runtime| {
        Object::open(&stores, &entry, runtime)
    })
}

/// As [`documents`], from a copy of the entry's object in a local file. Whoever made the copy
/// has compared the object with what was listed.
pub fn documents_of_copy(
    copy: &Path,
    wanted: Wanted,
    limits: &Limits,
) -> mpsc::Receiver<FoundDocument> {
    let copy = copy.to_owned();
    read_with(wanted, limits, move |_| Object::open_file(&copy, None))
}

fn read_with(
    wanted: Wanted,
    limits: &Limits,
    open: impl FnOnce(&Handle) -> Result<Object, Trouble> + Send + 'static,
) -> mpsc::Receiver<FoundDocument> {
    let (sender, receiver) = mpsc::channel(1);
    let runtime = Handle::current();
    let limits = limits.clone();
    // The thread ends with the container or with the receiver, so nobody needs its handle.
    drop(runtime.clone().spawn_blocking(move || {
        let mut sink = Sink::new(sender, wanted);
        let read = || read_object(open(&runtime), &limits, &mut sink);
        let stopped = match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(())) => false,
            Ok(Err(Stop)) => true,
            Err(_) => {
                let message = "a decoder panicked";
                let trouble = Trouble::new(Stage::Unpack, TroubleCode::Crash, message);
                sink.fail(&None, UNKNOWN, trouble).is_err()
            }
        };
        if !stopped {
            sink.finish();
        }
    }));
    receiver
}

fn read_object(
    opened: Result<Object, Trouble>,
    limits: &Limits,
    sink: &mut Sink,
) -> Result<(), Stop> {
    match opened {
        Ok(object) => {
            let budget = Budget::of(&object, limits);
            open_object(
                &mut Session {
                    sink,
                    limits,
                    budget,
                },
                &object,
                &Place::entry(),
            )
        }
        Err(trouble) => sink.fail(&None, UNKNOWN, trouble),
    }
}

/// Nobody wants more: everything wanted was found, or the receiver is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop;

/// One run over an entry.
pub(crate) struct Session<'a> {
    pub(crate) sink: &'a mut Sink,
    pub(crate) limits: &'a Limits,
    /// What the entry may unpack to altogether.
    pub(crate) budget: Budget,
}

/// Where documents go, and which of them are still wanted.
pub(crate) struct Sink {
    sender: mpsc::Sender<FoundDocument>,
    /// `None`: all.
    missing: Option<HashSet<Option<String>>>,
    /// Members that hold wanted members of their own.
    holders: HashSet<String>,
    /// Why containers could not be read to their end: the reason for what stays missing.
    failed: HashMap<Option<String>, Trouble>,
    /// The entry itself has its document; a second one would have the same identifier.
    sent_entry: bool,
}

impl Sink {
    fn new(sender: mpsc::Sender<FoundDocument>, wanted: Wanted) -> Self {
        let missing = match wanted {
            Wanted::All => None,
            Wanted::Members(members) => Some(members),
        };
        let holder = |member: &Option<String>| {
            let (holder, _) = member.as_deref()?.split_once(Place::NESTED)?;
            Some(holder.to_owned())
        };
        let holders = missing.iter().flatten().filter_map(holder).collect();
        Self {
            sender,
            missing,
            holders,
            failed: HashMap::new(),
            sent_entry: false,
        }
    }

    /// Whether this member has to be read: for itself or for what it holds.
    pub(crate) fn wants(&self, member: &Option<String>) -> bool {
        let Some(missing) = &self.missing else {
            return true;
        };
        missing.contains(member)
            || member
                .as_ref()
                .is_some_and(|member| self.holders.contains(member))
    }

    /// Hands a document on, if it is wanted.
    pub(crate) fn send(&mut self, document: FoundDocument) -> Result<(), Stop> {
        if let Some(missing) = &mut self.missing
            && !missing.remove(&document.member)
        {
            return Ok(());
        }
        if document.member.is_none() && std::mem::replace(&mut self.sent_entry, true) {
            return Ok(());
        }
        self.sender.blocking_send(document).map_err(|_| Stop)?;
        match &self.missing {
            Some(missing) if missing.is_empty() => Err(Stop),
            _ => Ok(()),
        }
    }

    /// Reports why `member` cannot be read, or why no more of the container can.
    pub(crate) fn fail(
        &mut self,
        member: &Option<String>,
        media_type: &str,
        trouble: Trouble,
    ) -> Result<(), Stop> {
        if member
            .as_ref()
            .is_none_or(|member| self.holders.contains(member))
        {
            self.failed.insert(member.clone(), trouble.clone());
        }
        self.send(FoundDocument {
            member: member.clone(),
            media_type: media_type.to_owned(),
            content: Err(trouble),
            offset: None,
            length: None,
        })
    }

    /// Accounts for wanted members that did not turn up.
    fn finish(&mut self) {
        let mut missing: Vec<_> = self.missing.take().into_iter().flatten().collect();
        missing.sort();
        let gone = || {
            let message = "the entry holds no such member";
            Trouble::new(Stage::Unpack, TroubleCode::NotFound, message)
        };
        for member in missing {
            let holder = member
                .as_deref()
                .and_then(|member| member.split_once(Place::NESTED));
            let holder = holder.map(|(holder, _)| holder.to_owned());
            let reason = self.failed.get(&holder).or(self.failed.get(&None));
            let trouble = reason.cloned().unwrap_or_else(gone);
            if self.fail(&member, UNKNOWN, trouble).is_err() {
                return;
            }
        }
    }
}
