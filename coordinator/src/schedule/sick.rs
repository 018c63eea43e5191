//! Which nodes are cordoned. Pure.
//!
//! A worker that dies says nothing about whose fault it was. A shard that kills its workers does
//! so everywhere; a node that is broken kills what others finish.

use std::collections::{BTreeMap, BTreeSet};

use quire_core::{JobId, ShardIdx};

use crate::config::SickNodePolicy;
use crate::store::{DeathRecord, NodeRecord, NodeStanding};

/// Open nodes with too many deaths on shards that others finished, and on how many. `nodes` are
/// those that are known: a node that was opened again starts anew.
pub(crate) fn sick_nodes(
    policy: &SickNodePolicy,
    deaths: &[DeathRecord],
    nodes: &[NodeRecord],
    now_ms: i64,
) -> BTreeMap<String, usize> {
    let known: BTreeMap<&str, &NodeRecord> = nodes
        .iter()
        .map(|node| (node.node.as_str(), node))
        .collect();
    let within = i64::try_from(policy.within.as_millis()).unwrap_or(i64::MAX);
    let mut shards: BTreeMap<&str, BTreeSet<(&JobId, ShardIdx)>> = BTreeMap::new();
    for death in deaths.iter().filter(|death| death.is_finished_elsewhere) {
        let since = match known.get(death.node.as_str()) {
            Some(node) if node.standing != NodeStanding::Open => continue,
            Some(node) => node.since_ms,
            None => i64::MIN,
        };
        if death.ended_at_ms >= since.max(now_ms.saturating_sub(within)) {
            let of_node = shards.entry(&death.node).or_default();
            of_node.insert((&death.job_id, death.shard_idx));
        }
    }
    shards
        .into_iter()
        .filter(|(_, shards)| shards.len() as u64 >= u64::from(policy.deaths))
        .map(|(node, shards)| (node.to_owned(), shards.len()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const POLICY: SickNodePolicy = SickNodePolicy {
        deaths: 3,
        within: Duration::from_millis(100),
    };

    fn death(node: &str, shard_idx: u64, elsewhere: bool, at: i64) -> DeathRecord {
        DeathRecord {
            node: node.into(),
            job_id: JobId::new("j"),
            shard_idx,
            is_finished_elsewhere: elsewhere,
            ended_at_ms: at,
        }
    }

    fn node(standing: NodeStanding, since_ms: i64) -> NodeRecord {
        NodeRecord {
            node: "n".into(),
            standing,
            reason: String::new(),
            is_automatic: true,
            since_ms,
        }
    }

    fn check(deaths: &[(u64, bool, i64)], nodes: &[NodeRecord], expected: Option<usize>) {
        let deaths: Vec<DeathRecord> = deaths
            .iter()
            .map(|&(shard_idx, elsewhere, at)| death("n", shard_idx, elsewhere, at))
            .collect();
        let sick = sick_nodes(&POLICY, &deaths, nodes, 200);
        assert_eq!(sick.get("n").copied(), expected, "{deaths:?}");
    }

    #[test]
    fn three_shards_that_others_finished_make_a_node_sick() {
        check(
            &[(1, true, 150), (2, true, 160), (3, true, 170)],
            &[],
            Some(3),
        );
        check(&[(1, true, 150), (2, true, 160)], &[], None);
        check(&[(1, true, 150), (1, true, 160), (1, true, 170)], &[], None);
        check(
            &[(1, true, 150), (2, false, 160), (3, true, 170)],
            &[],
            None,
        );
        check(&[(1, true, 50), (2, true, 160), (3, true, 170)], &[], None);
    }

    #[test]
    fn node_that_was_opened_again_starts_anew() {
        let deaths = [(1, true, 150), (2, true, 160), (3, true, 170)];
        check(&deaths, &[node(NodeStanding::Open, 155)], None);
        check(&deaths, &[node(NodeStanding::Open, 140)], Some(3));
        check(&deaths, &[node(NodeStanding::Cordoned, 0)], None);
    }

    proptest! {
        /// Deaths on shards that nobody finished never cordon a node: the shard may be to blame.
        #[test]
        fn lethal_shards_cordon_nobody(
            deaths in prop::collection::vec((0_u8..3, 0_u64..9, 0_i64..200), 0..40),
        ) {
            let deaths: Vec<DeathRecord> = deaths
                .into_iter()
                .map(|(node, shard_idx, at)| death(&format!("n-{node}"), shard_idx, false, at))
                .collect();
            prop_assert!(sick_nodes(&POLICY, &deaths, &[], 200).is_empty());
        }
    }
}
