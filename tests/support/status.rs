//! `/status` as values: how far the log and the learning are.

use std::net::SocketAddr;

use serde_json::Value;

use super::http::get;

/// One look at a running gateway.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) partitions: Vec<PartitionStatus>,
    pub(crate) queued_events: u64,
    /// `None` = no model is live.
    pub(crate) model_version: Option<u64>,
}

/// How far one partition is: the first offset that is not yet so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionStatus {
    pub(crate) partition: u64,
    pub(crate) durable: u64,
    pub(crate) bound: u64,
    pub(crate) learned: u64,
}

impl Status {
    #[track_caller]
    pub(crate) fn ask(admin: SocketAddr) -> Self {
        let answer = get(admin, "/status");
        assert_eq!(answer.status(), 200, "/status: {answer:?}");
        let json: Value = serde_json::from_slice(&answer.body).expect("/status is JSON");
        let partitions = json["partitions"].as_array().unwrap_or_else(|| panic!("no partitions: {json}"));
        Self {
            partitions: partitions.iter().map(PartitionStatus::of).collect(),
            queued_events: json["queued_events"].as_u64().unwrap_or_else(|| panic!("no queued_events: {json}")),
            model_version: json["model"]["version"].as_u64(),
        }
    }

    /// Of all partitions together.
    pub(crate) fn durable_events(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.durable).sum()
    }

    /// Each partition that had events at `earlier` has had more since, and some of those are learned.
    pub(crate) fn has_gone_on(&self, earlier: &Self) -> bool {
        earlier.partitions.iter().filter(|before| before.durable > 0).all(|before| {
            let now = self.partitions.iter().find(|now| now.partition == before.partition);
            now.is_some_and(|now| now.learned > before.durable)
        })
    }

    /// Everything that was durable at `earlier` has been learned by now.
    pub(crate) fn has_learned(&self, earlier: &Self) -> bool {
        earlier.partitions.iter().all(|before| {
            let now = self.partitions.iter().find(|now| now.partition == before.partition);
            now.is_some_and(|now| now.learned >= before.durable)
        })
    }
}

impl PartitionStatus {
    fn of(json: &Value) -> Self {
        let offset = |name: &str| json[name].as_u64().unwrap_or_else(|| panic!("no {name}: {json}"));
        Self {
            partition: offset("partition"),
            durable: offset("durable"),
            bound: offset("bound"),
            learned: offset("learned"),
        }
    }
}
