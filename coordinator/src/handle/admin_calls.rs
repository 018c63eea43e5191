//! The calls of those who keep a fleet running.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use quire_core::{EngineInfo, SessionId};
use quire_proto::v1;
use quire_proto::{AdminCalls, CallError};

use super::CoordinatorHandle;
use super::timed::timed;
use crate::caller::Role;
use crate::error::{Error, Result};
use crate::job::SessionState;
use crate::store::{JobQuery, LeaseRecord, LeaseStage, NodeRecord, NodeStanding, SessionRecord};

/// More unfinished jobs than this are not expected.
const MAX_JOBS: u32 = 1000;

#[async_trait]
impl AdminCalls for CoordinatorHandle {
    async fn list_workers(
        &self,
        _request: v1::ListWorkersRequest,
    ) -> Result<v1::ListWorkersResponse, CallError> {
        timed("list_workers", async {
            self.caller.require(Role::Admin)?;
            let workers = self.workers().await?;
            Ok(v1::ListWorkersResponse { workers })
        })
        .await
    }

    async fn cordon(&self, request: v1::CordonRequest) -> Result<v1::CordonResponse, CallError> {
        timed("cordon", async {
            self.caller.require(Role::Admin)?;
            let standing = match request.uncordon {
                true => NodeStanding::Open,
                false => NodeStanding::Cordoned,
            };
            self.stand(&request.node, standing, request.reason).await?;
            Ok(v1::CordonResponse {})
        })
        .await
    }

    async fn drain(&self, request: v1::DrainRequest) -> Result<v1::DrainResponse, CallError> {
        timed("drain", async {
            self.caller.require(Role::Admin)?;
            self.stand(&request.node, NodeStanding::Draining, request.reason)
                .await?;
            let sessions = self.shared.store.sessions().await?;
            let on_node = sessions
                .iter()
                .filter(|session| session.node == request.node);
            Ok(v1::DrainResponse {
                workers: u32::try_from(on_node.count()).unwrap_or(u32::MAX),
            })
        })
        .await
    }

    async fn set_tenant(
        &self,
        request: v1::SetTenantRequest,
    ) -> Result<v1::SetTenantResponse, CallError> {
        timed("set_tenant", async {
            self.caller.require(Role::Admin)?;
            if request.tenant.is_empty() {
                return Err(Error::Malformed { what: "the tenant" }.into());
            }
            if !(request.weight.is_finite() && request.weight > 0.0) {
                let what = "a weight that is more than 0";
                return Err(Error::Malformed { what }.into());
            }
            let (tenant, weight) = (&request.tenant, request.weight);
            self.shared.store.set_tenant(tenant, weight).await?;
            self.shared.views.outdated();
            tracing::info!(tenant, weight, "tenant has another weight");
            Ok(v1::SetTenantResponse {})
        })
        .await
    }

    async fn list_tenants(
        &self,
        _request: v1::ListTenantsRequest,
    ) -> Result<v1::ListTenantsResponse, CallError> {
        timed("list_tenants", async {
            self.caller.require(Role::Admin)?;
            let jobs = self.unfinished().await?;
            let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
            for job in &jobs {
                *waiting.entry(&job.tenant).or_default() += job.rows_waiting();
            }
            let tenants = self.shared.store.tenants().await?;
            let tenants = tenants.into_iter().map(|tenant| v1::Tenant {
                rows_waiting: waiting.get(tenant.tenant.as_str()).copied().unwrap_or(0),
                tenant: tenant.tenant,
                weight: tenant.weight,
                used_rows: tenant.used_rows,
            });
            Ok(v1::ListTenantsResponse {
                tenants: tenants.collect(),
            })
        })
        .await
    }

    async fn probe_storage(
        &self,
        request: v1::ProbeStorageRequest,
    ) -> Result<v1::ProbeStorageResponse, CallError> {
        timed("probe_storage", async {
            self.caller.require(Role::Admin)?;
            if request.out.is_empty() {
                return Err(Error::Malformed { what: "the output" }.into());
            }
            let report = self.shared.probe(&request.out).await?;
            let ok = report.is_fit();
            let checks = report.checks.into_iter().map(|check| {
                let (ok, message) = match check.result {
                    Ok(seen) => (true, seen),
                    Err(wrong) => (false, wrong),
                };
                v1::ProbeCheck {
                    name: check.name.to_owned(),
                    ok,
                    message,
                }
            });
            Ok(v1::ProbeStorageResponse {
                ok,
                checks: checks.collect(),
            })
        })
        .await
    }
}

impl CoordinatorHandle {
    async fn unfinished(&self) -> Result<Vec<crate::store::JobRecord>> {
        let query = JobQuery {
            unfinished: true,
            before: None,
            limit: MAX_JOBS,
        };
        self.shared.store.jobs(&query).await
    }

    async fn stand(&self, node: &str, standing: NodeStanding, reason: String) -> Result<()> {
        if node.is_empty() {
            return Err(Error::Malformed { what: "the node" });
        }
        let record = NodeRecord {
            node: node.to_owned(),
            standing,
            reason,
            is_automatic: false,
            since_ms: 0,
        };
        self.shared.store.set_node(&record).await?;
        tracing::info!(
            node,
            standing = standing.as_str(),
            reason = record.reason,
            "node set"
        );
        if standing == NodeStanding::Open {
            self.shared.work_waits().await;
        }
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<v1::Worker>> {
        let store = &self.shared.store;
        let sessions = store.sessions().await?;
        let nodes = store.nodes().await?;
        let nodes: HashMap<&str, &NodeRecord> = nodes
            .iter()
            .map(|node| (node.node.as_str(), node))
            .collect();
        let mut held: HashMap<SessionId, Vec<v1::HeldLease>> = HashMap::new();
        for job in self.unfinished().await? {
            let leases = store.leases_of_job(&job.job_id).await?;
            for lease in &leases {
                let is_copy = leases
                    .iter()
                    .any(|other| other.shard_idx == lease.shard_idx && other.epoch < lease.epoch);
                let watches = &self.shared.watches;
                let n_rows = watches.rows_of(&self.shared, &lease.lease_id).await?;
                held.entry(lease.session_id.clone())
                    .or_default()
                    .push(lease_message(lease, n_rows.unwrap_or(0), is_copy));
            }
        }
        let worker = |session: SessionRecord| {
            let node = nodes.get(session.node.as_str()).copied();
            let leases = held.remove(&session.session_id).unwrap_or_default();
            worker_message(session, node, leases)
        };
        Ok(sessions.into_iter().map(worker).collect())
    }
}

fn worker_message(
    session: SessionRecord,
    node: Option<&NodeRecord>,
    mut leases: Vec<v1::HeldLease>,
) -> v1::Worker {
    let engines: Vec<EngineInfo> = serde_json::from_str(&session.engines_json).unwrap_or_default();
    let state = match session.state {
        SessionState::Draining | SessionState::Gone => v1::WorkerState::Draining,
        SessionState::Live if session.is_unhealthy => v1::WorkerState::Unhealthy,
        SessionState::Live => v1::WorkerState::Ready,
    };
    leases.sort_by(|a, b| (a.granted_at_ms, &a.lease_id).cmp(&(b.granted_at_ms, &b.lease_id)));
    let standing = node.map_or(NodeStanding::Open, |node| node.standing);
    let reason = node
        .filter(|node| node.standing != NodeStanding::Open)
        .map(|node| node.reason.clone());
    v1::Worker {
        session_id: session.session_id.to_string(),
        worker_name: session.worker_name,
        node: session.node,
        version: session.version,
        devices: session.devices,
        engines: engines.into_iter().map(|engine| engine.name).collect(),
        state: state.into(),
        node_standing: v1::NodeStanding::from(standing).into(),
        node_reason: reason.unwrap_or_default(),
        expires_at_ms: session.expires_at_ms,
        leases,
    }
}

fn lease_message(lease: &LeaseRecord, n_rows: u32, is_copy: bool) -> v1::HeldLease {
    let stage = match lease.stage {
        LeaseStage::Queued => v1::LeaseStage::Queued,
        LeaseStage::Reading => v1::LeaseStage::Reading,
        LeaseStage::Uploading => v1::LeaseStage::Uploading,
    };
    v1::HeldLease {
        lease_id: lease.lease_id.to_string(),
        job_id: lease.job_id.to_string(),
        shard_idx: lease.shard_idx,
        epoch: lease.epoch,
        stage: stage.into(),
        rows_done: lease.rows_done,
        rows_failed: lease.rows_failed,
        n_rows,
        granted_at_ms: lease.granted_at_ms,
        is_copy,
    }
}
