//! What is typed to the commands of a fleet.

use clap::{Args as ClapArgs, Subcommand};
use toml::Value;

use super::{EngineArgs, ReadingArgs};
use crate::settings::FlagValue;

/// Which coordinator is called.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct CoordinatorUrl {
    /// The coordinator to call, or several with commas between [default: `fleet.coordinator`]
    #[arg(long, value_name = "URL")]
    pub coordinator: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CoordinatorArgs {
    /// Where to listen [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// sqlite:PATH, or postgres://user@host/database for several coordinators
    #[arg(long, value_name = "STORE")]
    pub store: Option<String>,
    /// Where /metrics and /healthz are served [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// Listen off this machine without TLS: everybody who reaches the port may do everything
    #[arg(long)]
    pub allow_plaintext: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub url: CoordinatorUrl,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Shards worked on at once [default: one more than pages at the same time]
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
    /// Pages read at the same time [default: one a core]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Name of this worker for people [default: made of node and process]
    #[arg(long)]
    pub name: Option<String>,
    /// Name of this machine [default: its host name]
    #[arg(long)]
    pub node: Option<String>,
    /// Where /metrics and /healthz are served [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// Refuse to work where the kernel offers no sandbox
    #[arg(long)]
    pub require_sandbox: bool,
    /// Call an http:// coordinator off this machine, too
    #[arg(long)]
    pub allow_plaintext: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SubmitArgs {
    /// JOB.toml, or folders, files, patterns or @FILE (a list); paths or URIs of a store
    #[arg(required = true, value_name = "JOB.toml | INPUT")]
    pub inputs: Vec<String>,
    /// Where the dataset goes: a URI of a store, or a folder that all nodes share
    #[arg(long, short, value_name = "OUT")]
    pub out: Option<String>,
    /// Larger goes first among the jobs of one tenant [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// Follow the job to its end
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub url: CoordinatorUrl,
    #[command(flatten)]
    pub reading: SpecArgs,
}

/// Flags that decide what a dataset holds, and nothing of the machine that they are typed on.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct SpecArgs {
    /// What goes into the `image` column
    #[arg(long, value_name = "MODE")]
    pub image_mode: Option<super::ImageModeArg>,
    /// What is done with the text that a PDF carries itself
    #[arg(long, value_name = "MODE")]
    pub text_layer: Option<super::TextLayerArg>,
    /// Dots an inch at which vector pages are drawn [default: 144]
    #[arg(long)]
    pub dpi: Option<f64>,
    /// Pages of a shard, the unit that is given to a worker [default: 32]
    #[arg(long, value_name = "N")]
    pub shard_pages: Option<u32>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StatusArgs {
    /// One job with its details [default: all jobs]
    pub job: Option<String>,
    /// Stay, and show what changes
    #[arg(long, short)]
    pub watch: bool,
    #[command(flatten)]
    pub url: CoordinatorUrl,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct JobArgs {
    /// The job, as `quire submit` printed it
    pub job: String,
    /// Why, for whoever looks at the job
    #[arg(long)]
    pub reason: Option<String>,
    #[command(flatten)]
    pub url: CoordinatorUrl,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ResumeArgs {
    /// The job, as `quire submit` printed it
    pub job: String,
    #[command(flatten)]
    pub url: CoordinatorUrl,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct WorkersArgs {
    #[command(subcommand)]
    pub action: Option<NodeAction>,
    /// The coordinator to call, or several with commas between [default: `fleet.coordinator`]
    #[arg(long, value_name = "URL", global = true)]
    pub coordinator: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeAction {
    /// Tell the workers of a node to finish what they hold and leave
    Drain(NodeArgs),
    /// Give a node nothing more; what its workers hold goes on
    Cordon(NodeArgs),
    /// Give a node shards again
    Uncordon(NodeArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct NodeArgs {
    /// The node, as `quire workers` lists it
    pub node: String,
    /// Why, for whoever looks at the node
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TenantsArgs {
    #[command(subcommand)]
    pub action: Option<TenantAction>,
    /// The coordinator to call, or several with commas between [default: `fleet.coordinator`]
    #[arg(long, value_name = "URL", global = true)]
    pub coordinator: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantAction {
    /// Set the share of a tenant beside the others'
    Set {
        /// The tenant
        tenant: String,
        /// Its share: 2 is twice what a tenant of 1 gets
        #[arg(long, value_name = "N")]
        weight: f64,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RecoverArgs {
    /// The dataset whose jobs the new database must know
    #[arg(long, short, value_name = "OUT", required = true)]
    pub out: String,
    /// The new database [default: `coordinator.store`]
    #[arg(long, value_name = "STORE")]
    pub store: Option<String>,
}

fn text(key: &'static str, value: Option<&String>, flag: &'static str) -> Option<FlagValue> {
    let value = Value::String(value?.clone());
    Some(FlagValue { key, value, flag })
}

fn number(key: &'static str, value: Option<u32>, flag: &'static str) -> Option<FlagValue> {
    let value = Value::Integer(i64::from(value?));
    Some(FlagValue { key, value, flag })
}

fn switch(key: &'static str, is_on: bool, flag: &'static str) -> Option<FlagValue> {
    let value = Value::Boolean(true);
    is_on.then_some(FlagValue { key, value, flag })
}

/// The setting that `--coordinator` sets.
pub(super) fn coordinator_url(url: Option<&String>) -> Vec<FlagValue> {
    let value = text("fleet.coordinator", url, "--coordinator");
    value.into_iter().collect()
}

impl CoordinatorUrl {
    /// Settings that these flags set.
    pub(super) fn flag_values(&self) -> Vec<FlagValue> {
        coordinator_url(self.coordinator.as_ref())
    }
}

impl CoordinatorArgs {
    /// Settings that these flags set.
    pub(super) fn flag_values(&self) -> Vec<FlagValue> {
        let key = "coordinator.metrics_listen";
        let values = [
            text("coordinator.listen", self.listen.as_ref(), "--listen"),
            text("coordinator.store", self.store.as_ref(), "--store"),
            text(key, self.metrics_listen.as_ref(), "--metrics-listen"),
            switch(
                "coordinator.allow_plaintext",
                self.allow_plaintext,
                "--allow-plaintext",
            ),
        ];
        values.into_iter().flatten().collect()
    }
}

impl WorkerArgs {
    /// Settings that these flags set.
    pub(super) fn flag_values(&self) -> Vec<FlagValue> {
        let sandbox = "render.require_sandbox";
        let metrics = "worker.metrics_listen";
        let plaintext = "fleet.allow_plaintext";
        let values = [
            number("worker.slots", self.slots, "--slots"),
            number("run.workers", self.workers, "--workers"),
            text("worker.name", self.name.as_ref(), "--name"),
            text("worker.node", self.node.as_ref(), "--node"),
            text(metrics, self.metrics_listen.as_ref(), "--metrics-listen"),
            switch(sandbox, self.require_sandbox, "--require-sandbox"),
            switch(plaintext, self.allow_plaintext, "--allow-plaintext"),
        ];
        let own = values.into_iter().flatten();
        let own = own.chain(self.engine.flag_values());
        self.url.flag_values().into_iter().chain(own).collect()
    }
}

impl SubmitArgs {
    /// Settings that these flags set.
    pub(super) fn flag_values(&self) -> Vec<FlagValue> {
        let reading = ReadingArgs {
            image_mode: self.reading.image_mode,
            text_layer: self.reading.text_layer,
            dpi: self.reading.dpi,
            engine: self.reading.engine.clone(),
            ..ReadingArgs::default()
        };
        let pages = number("job.shard_pages", self.reading.shard_pages, "--shard-pages");
        let mut values = self.url.flag_values();
        values.extend(reading.flag_values());
        values.extend(pages);
        values
    }
}

impl RecoverArgs {
    /// Settings that these flags set.
    pub(super) fn flag_values(&self) -> Vec<FlagValue> {
        let store = text("coordinator.store", self.store.as_ref(), "--store");
        store.into_iter().collect()
    }
}
