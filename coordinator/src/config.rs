//! How a coordinator behaves: times, limits and policies. None of it changes what a job's
//! dataset holds, except which rows are given up after they killed their workers.

use std::path::PathBuf;
use std::time::Duration;

use quire_corpus::Limits;

use crate::error::{Error, Result};
use crate::version::Version;

/// How a coordinator behaves.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// How often workers report.
    pub heartbeat_period: Duration,
    /// A worker that is silent for this long is taken for dead.
    pub session_ttl: Duration,
    /// A lease without a further page for this long ends even if its worker reports.
    pub progress_timeout: Duration,
    /// How often expired sessions and stalled leases are looked for.
    pub reap_period: Duration,
    /// How often accepted parts are published, if there are any.
    pub publish_period: Duration,
    /// Shards a worker may hold beyond the ones it works on.
    pub max_prefetch: u32,
    /// When rows are halved out and given up.
    pub deaths: DeathPolicy,
    /// When a job pauses because too much was given up.
    pub quarantine_pause: QuarantinePause,
    /// Entries opened at once while planning.
    pub survey_entries: usize,
    /// What one entry may cost.
    pub limits: Limits,
    /// How long the service goes on against something outside that fails; `None`: for ever.
    pub patience: Option<Duration>,
    /// What a version says besides its rows.
    pub seal: SealSettings,
    /// No other coordinator uses the store: nothing has to be agreed upon.
    pub is_alone: bool,
    /// The workers live in this process: sessions from before this start are dead. Otherwise
    /// they may be alive and cut off, and get one session's time to show up.
    pub hosts_workers: bool,
    /// Workers whose code is older are refused, such as `0.1.0`; `None` takes any.
    pub oldest_worker: Option<String>,
    /// Refuse jobs whose output lies in a store that breaks the promises of the commit log.
    pub probe_outputs: bool,
    /// Ask the stores of a job's inputs and output whether they are there before it is taken.
    pub reach_stores: bool,
    /// When a second copy of a shard is given out; `None`: never.
    pub stragglers: Option<StragglerPolicy>,
    /// When a node is cordoned because its workers die on what others finish; `None`: never.
    pub sick_nodes: Option<SickNodePolicy>,
    /// What a tenant used counts half after this long.
    pub use_half_life: Duration,
    /// How often objects that nothing refers to are looked for while a job lives; `None`: only
    /// at its end.
    pub sweep_period: Option<Duration>,
    /// Such objects are kept for this long: somebody may be about to refer to them.
    pub orphan_age: Duration,
}

/// When a second copy of a shard is given to another node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StragglerPolicy {
    /// So many times longer than the job's median shard of this size.
    pub slowdown: f64,
    /// Copies take at most this share of the job's time.
    pub fleet_share: f64,
}

/// When a node is cordoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SickNodePolicy {
    /// Shards that it died on and that others finished...
    pub deaths: u32,
    /// ...within this time.
    pub within: Duration,
}

/// What a version says besides its rows, and where it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealSettings {
    /// Name of the dataset on its card.
    pub title: Option<String>,
    /// License of the dataset as a whole.
    pub license: Option<String>,
    /// Who draws the pages, with version.
    pub renderer: String,
    pub renderer_version: String,
    /// Folder of this machine for files on their way to an object store.
    pub scratch: PathBuf,
}

/// When a shard that kills its workers is halved, and its last row given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeathPolicy {
    /// Deaths after which a shard of several rows is halved.
    pub to_halve: u32,
    /// Deaths after which a shard of one row is given up.
    pub to_quarantine: u32,
    /// On so many nodes at least: a bad node must not condemn good rows.
    pub min_nodes: u32,
}

/// When a job pauses because too many rows were given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuarantinePause {
    /// Share of the planned rows.
    pub fraction: f64,
    /// And at least so many: one row of a small job is no pattern.
    pub min_rows: u64,
}

impl CoordinatorConfig {
    /// One process that is coordinator and worker: calls cost nothing, and whoever held a lease
    /// before this start is dead.
    pub fn one_machine(seal: SealSettings) -> Self {
        Self {
            heartbeat_period: Duration::from_secs(1),
            session_ttl: Duration::from_secs(60),
            progress_timeout: Duration::from_secs(300),
            reap_period: Duration::from_secs(5),
            publish_period: Duration::from_secs(5),
            max_prefetch: 1,
            // Documents are opened in child processes, so a page hardly ever ends this one;
            // people, batch systems and power cuts do, many times if need be, and look the
            // same. Halving helps against both: what is small is committed sooner. Giving a row
            // up takes far more evidence than in a fleet.
            deaths: DeathPolicy {
                to_halve: 3,
                to_quarantine: 20,
                min_nodes: 1,
            },
            // Somebody waits, and the same command goes on later.
            patience: Some(Duration::from_secs(120)),
            is_alone: true,
            hosts_workers: true,
            probe_outputs: false,
            stragglers: None,
            sick_nodes: None,
            sweep_period: None,
            ..Self::fleet(seal)
        }
    }

    /// Coordinator and workers on machines of their own.
    pub fn fleet(seal: SealSettings) -> Self {
        Self {
            heartbeat_period: Duration::from_secs(10),
            session_ttl: Duration::from_secs(45),
            progress_timeout: Duration::from_secs(300),
            reap_period: Duration::from_secs(5),
            publish_period: Duration::from_secs(30),
            max_prefetch: 2,
            deaths: DeathPolicy {
                to_halve: 3,
                to_quarantine: 3,
                min_nodes: 2,
            },
            quarantine_pause: QuarantinePause {
                fraction: 0.001,
                min_rows: 100,
            },
            survey_entries: 4,
            patience: None,
            limits: Limits::default(),
            seal,
            is_alone: false,
            hosts_workers: false,
            oldest_worker: None,
            probe_outputs: true,
            reach_stores: true,
            stragglers: Some(StragglerPolicy {
                slowdown: 3.0,
                fleet_share: 0.02,
            }),
            sick_nodes: Some(SickNodePolicy {
                deaths: 3,
                within: Duration::from_secs(3600),
            }),
            use_half_life: Duration::from_secs(3600),
            sweep_period: Some(Duration::from_secs(3600)),
            orphan_age: Duration::from_secs(24 * 3600),
        }
    }

    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// Names the setting that does not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key, message: &str| {
            Err(Error::Setting {
                key,
                message: message.to_owned(),
            })
        };
        if self.heartbeat_period.is_zero() {
            return refuse("coordinator.heartbeat_period", "must not be zero");
        }
        if self.session_ttl < self.heartbeat_period * 3 {
            let message = "must be three heartbeat periods at least, or a late one ends a session";
            return refuse("coordinator.session_ttl", message);
        }
        if self.deaths.to_halve == 0 || self.deaths.to_quarantine == 0 {
            return refuse("coordinator.deaths", "must not be zero");
        }
        if !(0.0..=1.0).contains(&self.quarantine_pause.fraction) {
            return refuse(
                "coordinator.quarantine_pause",
                "must be a share from 0 to 1",
            );
        }
        if let Some(policy) = &self.stragglers
            && !(policy.slowdown > 1.0 && (0.0..=1.0).contains(&policy.fleet_share))
        {
            let message = "must be more than once slower, with a share from 0 to 1";
            return refuse("coordinator.stragglers", message);
        }
        if self.sick_nodes.is_some_and(|policy| policy.deaths == 0) {
            return refuse("coordinator.sick_nodes", "must not be zero");
        }
        if let Some(oldest) = &self.oldest_worker
            && Version::parse(oldest).is_none()
        {
            return refuse("coordinator.oldest_worker", "is no version such as 0.1.0");
        }
        if self.use_half_life.is_zero() {
            return refuse("coordinator.use_half_life", "must not be zero");
        }
        if self.survey_entries == 0 {
            return refuse("coordinator.survey_entries", "must not be zero");
        }
        Ok(())
    }
}
