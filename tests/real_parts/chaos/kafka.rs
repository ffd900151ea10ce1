//! `serve` with its log on Kafka, under load: after a spell it goes on, and another machine that has nothing but the
//! topics comes to the same rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use undercurrent::faults::Life;

use super::System;
use super::compare::{SETTINGS, digests, first_of_last_life};
use super::fault::{Ended, Fault, Plan, ended};
use super::pressure::{Durable, Pressure};
use crate::support::gateway::Serve;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::support::parts::HttpServer;
use crate::support::wait::wait_until;

pub(super) struct OnKafka {
    directory: TempDir,
    server: HttpServer,
    kafka: Option<Arc<Kafka>>,
    prefix: String,
    plan: Plan,
    durable: Vec<(u64, u64)>,
}

impl OnKafka {
    pub(super) fn new(seed: u64) -> Self {
        let plan = Plan::of(Life::Kafka, seed, 300);
        let plan = plan.often(&["produce-half", "bind-begun", "bind-half", "bind-done", "publish-change"], 60);
        let directory = TempDir::new().expect("a temporary directory");
        let (kafka, server, prefix) = (None, HttpServer::demo(), topic_prefix("chaos"));
        Self { directory, server, kafka, prefix, plan, durable: Vec::new() }
    }

    fn serve(&mut self, data: &Path) -> Serve {
        let kafka = self.kafka.get_or_insert_with(Kafka::shared);
        let serve = Serve::new(data)
            .upstream("demo", &self.server.url())
            .setting("LOG__BACKEND", "kafka")
            .setting("KAFKA__BOOTSTRAP_SERVERS", kafka.servers())
            .setting("KAFKA__TOPIC_PREFIX", &self.prefix);
        SETTINGS.iter().fold(serve, |serve, (key, value)| serve.setting(key, value))
    }
}

impl System for OnKafka {
    fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    fn kill(&mut self, fault: Fault) -> Ended {
        let data = self.directory.path().join("data");
        let mut serve = self.serve(&data);
        if let Some(armed) = fault.armed() {
            serve = serve.variable("FAILPOINTS", &armed);
        }
        if matches!(fault, Fault::Point("spill-pushed", _)) {
            // No broker answers so soon: everything goes by way of the spill.
            serve = serve.setting("KAFKA__SPILL_AFTER_MS", "10");
        }
        let mut gateway = serve.spawn();
        wait_until("it is ready, or gone already", || !gateway.process.is_running() || gateway.answers());
        let durable = Durable::watch(gateway.admin);
        let load = Pressure::start(gateway.listen);
        let ended = match fault {
            Fault::Point(..) => ended(&mut gateway.process),
            Fault::Full(_, answers) | Fault::ClockBack(answers) | Fault::Random(answers) => {
                load.advance(answers);
                gateway.process.kill();
                Ended::AsTold
            }
        };
        load.stop();
        let said = durable.stop();
        if !said.is_empty() {
            self.durable = said;
        }
        ended
    }

    fn compare(&mut self) {
        let data = self.directory.path().join("data");
        let gateway = self.serve(&data).start();
        let durable = std::mem::take(&mut self.durable);
        wait_until("all that was durable is on the brokers", || {
            let ends: BTreeMap<_, _> = gateway.status().partitions.iter().map(|at| (at.partition, at.bound)).collect();
            durable.iter().all(|(partition, offset)| ends[partition] >= *offset)
        });
        gateway.settle();
        let ends = gateway.status().partitions;
        let left = gateway.stop();
        let bound = first_of_last_life(&left);
        let other = self.directory.path().join("other");
        let gateway = self.serve(&other).start();
        wait_until("it has read what there was", || {
            let now = gateway.status().partitions;
            ends.iter().all(|end| now.iter().any(|now| now.partition == end.partition && now.learned >= end.learned))
        });
        let right = gateway.stop();
        let doubles =
            "SELECT count(*) FROM (SELECT gateway, epoch, sequence FROM messages GROUP BY ALL HAVING count(*) > 1)";
        assert_eq!(left.number(doubles), 0, "an event is recorded once");
        let (left, right) = (digests(&left, bound), digests(&right, bound));
        assert!(left == right, "what went on differs from what the topics give: {left:?} {right:?}");
        for name in ["data", "other"] {
            std::fs::remove_dir_all(self.directory.path().join(name)).expect("remove a copy");
        }
        self.prefix = topic_prefix("chaos");
    }
}
