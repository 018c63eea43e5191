//! Whether a store keeps the promises that the commit log rests on: of many writers that create
//! one name at once a single one wins, and what was written is there for every reader at once.
//! Used before a fleet trusts a store, and by `quire doctor`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error as Objects, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

/// How hard a store is tried.
#[derive(Debug, Clone, Copy)]
struct Effort {
    rounds: usize,
    racers: usize,
}

/// For people who ask; stores that let losers of a race wait take a quarter of a minute.
const THOROUGH: Effort = Effort {
    rounds: 10,
    racers: 32,
};
/// Before a job is planned, by each coordinator anew: a store without the promise lets two win in
/// most rounds, so that a few show it.
const BRIEF: Effort = Effort {
    rounds: 4,
    racers: 8,
};
/// Objects of the listing check.
const LISTED: usize = 20;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// One entry for each promise, in the order of checking.
    pub checks: Vec<ProbeCheck>,
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeCheck {
    /// What was checked, for people.
    pub name: &'static str,
    /// What was seen, or what is wrong.
    pub result: Result<String, String>,
    /// The store breaks the promise for certain. What is wrong otherwise may be that it did not
    /// answer, and asking again may end well.
    pub is_broken: bool,
}

impl ProbeReport {
    /// Whether datasets may be written to the store.
    pub fn is_fit(&self) -> bool {
        self.checks.iter().all(|check| check.result.is_ok())
    }
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ProbeCheck { name, result, .. } in &self.checks {
            match result {
                Ok(seen) => writeln!(f, "ok      {name}: {seen}")?,
                Err(wrong) => writeln!(f, "FAILED  {name}: {wrong}")?,
            }
        }
        match self.is_fit() {
            true => write!(f, "The store can hold datasets."),
            false => write!(
                f,
                "The store is refused: rows could be lost or doubled on it."
            ),
        }
    }
}

/// Probes a store with scratch objects below `prefix`, which are removed again.
pub async fn probe(store: Arc<dyn ObjectStore>, prefix: &Path) -> ProbeReport {
    probe_with(store, prefix, THOROUGH).await
}

/// As [`probe`], in the time that the start of a job has.
pub(crate) async fn probe_briefly(store: Arc<dyn ObjectStore>, prefix: &Path) -> ProbeReport {
    probe_with(store, prefix, BRIEF).await
}

async fn probe_with(store: Arc<dyn ObjectStore>, prefix: &Path, effort: Effort) -> ProbeReport {
    let scratch = prefix
        .clone()
        .join(format!("quire-doctor-{}", uuid::Uuid::new_v4()).as_str());
    let probe = Probe {
        store,
        scratch,
        effort,
    };
    let mut checks = Vec::new();
    let mut note = |name, result: Result<String, Wrong>| {
        checks.push(ProbeCheck {
            name,
            is_broken: matches!(result, Err(Wrong::Broken(_))),
            result: result.map_err(Wrong::message),
        });
    };
    let written = probe.read_after_write().await;
    let is_reachable = written.is_ok();
    note("what is written can be read at once", written);
    if is_reachable {
        note(
            "of racing creates a single one wins",
            probe.racing_creates().await,
        );
        note(
            "a listing shows what is written at once",
            probe.list_after_write().await,
        );
        note("what is deleted is gone", probe.delete().await);
        probe.clean().await;
    }
    ProbeReport { checks }
}

struct Probe {
    store: Arc<dyn ObjectStore>,
    scratch: Path,
    effort: Effort,
}

/// What a check did not find as it should be.
enum Wrong {
    /// The store does not keep the promise.
    Broken(String),
    /// The store did not answer as it should, which says nothing of the promise.
    Unclear(String),
}

impl Wrong {
    /// What an error of the store means.
    fn of(action: &str, error: &Objects) -> Self {
        let message = format!("{action}: {error}");
        match error {
            // Of a write: there is no such bucket.
            Objects::NotFound { .. }
            | Objects::PermissionDenied { .. }
            | Objects::Unauthenticated { .. }
            | Objects::NotImplemented { .. }
            | Objects::NotSupported { .. } => Self::Broken(message),
            _ => Self::Unclear(message),
        }
    }

    fn message(self) -> String {
        match self {
            Self::Broken(message) | Self::Unclear(message) => message,
        }
    }
}

/// How one racing create ended.
enum Raced {
    Won,
    Lost,
    Unclear(String),
}

impl Probe {
    fn key(&self, name: &str) -> Path {
        self.scratch.clone().join(name)
    }

    async fn put(&self, key: &Path, content: &str) -> Result<(), Wrong> {
        let payload = PutPayload::from_bytes(Bytes::from(content.to_owned()));
        let put = self.store.put(key, payload).await;
        put.map(drop)
            .map_err(|error| Wrong::of(&format!("cannot write {key}"), &error))
    }

    async fn get(&self, key: &Path) -> Result<Option<String>, Wrong> {
        let read = async { self.store.get(key).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(Objects::NotFound { .. }) => Ok(None),
            Err(error) => Err(Wrong::of(&format!("cannot read {key}"), &error)),
        }
    }

    async fn list(&self) -> Result<Vec<Path>, Wrong> {
        let found = self
            .store
            .list(Some(&self.scratch))
            .map_ok(|meta| meta.location);
        let found: Result<Vec<Path>, _> = found.try_collect().await;
        found.map_err(|error| Wrong::of("cannot list", &error))
    }

    async fn read_after_write(&self) -> Result<String, Wrong> {
        let key = self.key("read");
        for content in ["first", "second, longer"] {
            self.put(&key, content).await?;
            let found = self.get(&key).await?;
            if found.as_deref() != Some(content) {
                return Err(Wrong::Broken(format!(
                    "wrote {content:?} and read {found:?}"
                )));
            }
        }
        Ok("a new object and one written over".into())
    }

    async fn racing_creates(&self) -> Result<String, Wrong> {
        // At once: some stores let losers of a race wait for seconds.
        let Effort { rounds, racers } = self.effort;
        let ended = join_all((0..rounds).map(|round| self.race(round))).await;
        ended.into_iter().collect::<Result<Vec<()>, Wrong>>()?;
        Ok(format!("{rounds} rounds of {racers} writers"))
    }

    async fn race(&self, round: usize) -> Result<(), Wrong> {
        let key = self.key(&format!("race-{round}"));
        let races = (0..self.effort.racers).map(|racer| self.create(&key, racer));
        let ended = join_all(races).await;
        let mut winners = Vec::new();
        let mut unclear = None;
        for (racer, how) in ended.into_iter().enumerate() {
            match how? {
                Raced::Won => winners.push(racer.to_string()),
                Raced::Lost => {}
                Raced::Unclear(why) => unclear = Some(why),
            }
        }
        let kept = self.get(&key).await?;
        match (winners.as_slice(), kept) {
            ([winner], Some(kept)) if *winner == kept => Ok(()),
            ([winner], kept) => Err(Wrong::Broken(format!(
                "in round {round} writer {winner} was told that it had won, and {kept:?} is kept"
            ))),
            // A reply may be lost, or 409 be said to everybody: the log reads back on doubt.
            ([], Some(_)) => Ok(()),
            ([], None) => Err(match unclear {
                Some(why) => Wrong::Unclear(format!("in round {round} nobody won: {why}")),
                None => Wrong::Broken(format!("in round {round} nobody won, and nothing is kept")),
            }),
            (several, _) => Err(Wrong::Broken(format!(
                "in round {round} {} of {} writers were told that they had won",
                several.len(),
                self.effort.racers
            ))),
        }
    }

    async fn create(&self, key: &Path, racer: usize) -> Result<Raced, Wrong> {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let payload = PutPayload::from_bytes(Bytes::from(racer.to_string()));
        match self.store.put_opts(key, payload, options).await {
            Ok(_) => Ok(Raced::Won),
            Err(Objects::AlreadyExists { .. } | Objects::Precondition { .. }) => Ok(Raced::Lost),
            Err(error @ (Objects::NotImplemented { .. } | Objects::NotSupported { .. })) => {
                let action = "the store cannot create an object only if it is absent";
                Err(Wrong::of(action, &error))
            }
            Err(error) => Ok(Raced::Unclear(error.to_string())),
        }
    }

    async fn list_after_write(&self) -> Result<String, Wrong> {
        for at in 0..LISTED {
            let key = self.key(&format!("list-{at}"));
            self.put(&key, "listed").await?;
            if !self.list().await?.contains(&key) {
                return Err(Wrong::Broken(format!(
                    "{key} was written and is not listed"
                )));
            }
        }
        Ok(format!("{LISTED} objects"))
    }

    async fn delete(&self) -> Result<String, Wrong> {
        let key = self.key("delete");
        self.put(&key, "deleted").await?;
        let deleted = self.store.delete(&key).await;
        deleted.map_err(|error| Wrong::of(&format!("cannot delete {key}"), &error))?;
        if self.get(&key).await?.is_some() {
            return Err(Wrong::Broken(format!("{key} was deleted and can be read")));
        }
        if self.list().await?.contains(&key) {
            return Err(Wrong::Broken(format!("{key} was deleted and is listed")));
        }
        Ok("neither read nor listed".into())
    }

    /// Removes what the probe wrote; what cannot be removed is left, and small.
    async fn clean(&self) {
        let keys = self.list().await.unwrap_or_default();
        futures::stream::iter(keys)
            .for_each_concurrent(8, async |key| {
                if let Err(error) = self.store.delete(&key).await {
                    tracing::warn!(%key, %error, "scratch object is left behind");
                }
            })
            .await;
    }
}
