//! `quire workers`: who is there and what they do; and nodes that are to take nothing more.

use quire_proto::AdminCalls;
use quire_proto::v1::{CordonRequest, DrainRequest, ListWorkersRequest, NodeStanding, Worker};
use serde_json::json;

use crate::args::{NodeAction, NodeArgs, WorkersArgs};
use crate::context::Context;
use crate::failure::Outcome;
use crate::fleet::{Fleet, stage_name, worker_json, worker_state};
use crate::output::{self, counted, grouped};

/// Lists workers, or changes what a node is given.
pub(crate) async fn execute(context: &Context, args: WorkersArgs) -> Outcome<()> {
    let fleet = Fleet::connect(context).await?;
    match args.action {
        None => list(context, &fleet).await,
        Some(NodeAction::Drain(node)) => drain(context, &fleet, node).await,
        Some(NodeAction::Cordon(node)) => cordon(context, &fleet, node, false).await,
        Some(NodeAction::Uncordon(node)) => cordon(context, &fleet, node, true).await,
    }
}

async fn list(context: &Context, fleet: &Fleet) -> Outcome<()> {
    let response = fleet.client.list_workers(ListWorkersRequest {}).await;
    let workers = response.map_err(|error| fleet.refused(error))?.workers;
    if context.json {
        for worker in &workers {
            output::print_json(&worker_json(worker))?;
        }
        return Ok(());
    }
    output::print(&table(&workers))
}

async fn drain(context: &Context, fleet: &Fleet, args: NodeArgs) -> Outcome<()> {
    let request = DrainRequest {
        node: args.node.clone(),
        reason: args
            .reason
            .unwrap_or_else(|| "drained by an admin".to_owned()),
    };
    let response = fleet.client.drain(request).await;
    let workers = response.map_err(|error| fleet.refused(error))?.workers;
    if context.json {
        let done = json!({ "node": args.node, "done": "draining", "workers": workers });
        return output::print_json(&done);
    }
    let told = match workers {
        0 => "no worker of it is known".to_owned(),
        workers => format!(
            "{} told to finish and leave",
            counted(u64::from(workers), "worker is", "workers are")
        ),
    };
    let node = &args.node;
    output::print(&format!(
        "Node {node} is draining: {told}. It is given nothing until `quire workers uncordon {node}`.\n"
    ))
}

async fn cordon(context: &Context, fleet: &Fleet, args: NodeArgs, uncordon: bool) -> Outcome<()> {
    let request = CordonRequest {
        node: args.node.clone(),
        reason: args
            .reason
            .unwrap_or_else(|| "cordoned by an admin".to_owned()),
        uncordon,
    };
    let response = fleet.client.cordon(request).await;
    response.map_err(|error| fleet.refused(error))?;
    let node = &args.node;
    if context.json {
        let done = if uncordon { "open" } else { "cordoned" };
        return output::print_json(&json!({ "node": node, "done": done }));
    }
    output::print(&match uncordon {
        true => format!("Node {node} is given shards again.\n"),
        false => format!(
            "Node {node} is given nothing more; what its workers hold goes on. \
             `quire workers uncordon {node}` opens it again.\n"
        ),
    })
}

/// One line for each shard that a worker holds.
fn table(workers: &[Worker]) -> String {
    if workers.is_empty() {
        return "No worker is there. `quire worker` starts one.\n".to_owned();
    }
    let mut rows =
        vec![["NODE", "WORKER", "VERSION", "DEVICES", "STATE", "DOES"].map(str::to_owned)];
    for worker in workers {
        let who = [
            worker.node.clone(),
            worker.worker_name.clone(),
            worker.version.clone(),
            worker.devices.join(","),
            worker_state(worker).to_owned(),
        ];
        let mut does: Vec<String> = worker.leases.iter().map(does).collect();
        if does.is_empty() {
            does.push("idle".to_owned());
        }
        for (at, does) in does.into_iter().enumerate() {
            let [node, name, version, devices, state] = match at {
                0 => who.clone(),
                _ => Default::default(),
            };
            rows.push([node, name, version, devices, state, does]);
        }
    }
    let mut text = String::new();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: Vec<usize> = (0..6).map(|at| width(at).unwrap_or(0)).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text.push_str(&closed_nodes(workers));
    text
}

fn does(lease: &quire_proto::v1::HeldLease) -> String {
    format!(
        "{} shard {} of {}, {}/{} pages{}",
        stage_name(lease.stage()),
        lease.shard_idx,
        lease.job_id,
        grouped(u64::from(lease.rows_done)),
        grouped(u64::from(lease.n_rows)),
        if lease.is_copy { ", a copy" } else { "" },
    )
}

/// Why nodes are given nothing, once a node.
fn closed_nodes(workers: &[Worker]) -> String {
    let mut text = String::new();
    let mut last = None;
    for worker in workers {
        let is_closed = matches!(
            worker.node_standing(),
            NodeStanding::Cordoned | NodeStanding::Draining
        );
        if is_closed && last != Some(&worker.node) {
            text.push_str(&format!(
                "{} is given nothing: {}\n",
                worker.node, worker.node_reason
            ));
            last = Some(&worker.node);
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::examples;

    #[test]
    fn workers_are_listed_with_what_they_do_and_nodes_with_why_they_are_closed() {
        let mut workers = examples::look().workers.unwrap();
        workers[1].leases.clear();
        let expected = "\
NODE    WORKER       VERSION  DEVICES  STATE     DOES
node-1  node-1-4021  0.1.0    cuda:0   ready     reading shard 3801 of j-5f0c1d2e3a4b, 1,204/2,000 pages
                                                 reading shard 3802 of j-5f0c1d2e3a4b, 388/2,000 pages
                                                 queued shard 3811 of j-5f0c1d2e3a4b, 0/2,000 pages
node-1  node-1-4022  0.1.0    cuda:0   ready     idle
node-2  node-2-811   0.1.0    cuda:0   draining  uploading shard 3807 of j-5f0c1d2e3a4b, 2,000/2,000 pages

node-2 is given nothing: new kernel
";
        let found = table(&workers);
        assert_eq!(found, expected, "\n{found}");
    }
}
