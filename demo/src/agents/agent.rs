//! One agent in one session: it thinks, calls, remembers what it met, and may be taken over by what it reads.
//!
//! Habits say what to do; this file says how every habit calls, reads and chooses.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::client::{Client, Reply};
use crate::office::poison::{self, Order};
use crate::random::Random;
use crate::truth::Truth;

const CALLS_MAX: usize = 200;

/// The state of one walk.
#[derive(Debug)]
pub(super) struct Agent {
    client: Client,
    pub(super) random: Random,
    intent: Truth,
    /// Mean time between an answer and the next call.
    think: Duration,
    pub(super) calls: usize,
    pub(super) first_bad_call: Option<usize>,
    pub(super) met_order: bool,
    pub(super) obeyed: bool,
}

impl Agent {
    #[must_use]
    pub(super) const fn new(client: Client, seed: u64, intent: Truth, think: Duration) -> Self {
        let random = Random::new(seed);
        Self { client, random, intent, think, calls: 0, first_bad_call: None, met_order: false, obeyed: false }
    }

    /// What the session turned out to be.
    #[must_use]
    pub(super) const fn truth(&self) -> Truth {
        match self.intent {
            Truth::Loop => Truth::Loop,
            Truth::Benign | Truth::Refused | Truth::Hijacked if self.obeyed => Truth::Hijacked,
            Truth::Benign | Truth::Refused | Truth::Hijacked if self.met_order => Truth::Refused,
            Truth::Benign | Truth::Refused | Truth::Hijacked => Truth::Benign,
        }
    }

    #[must_use]
    pub(super) const fn loops(&self) -> bool {
        matches!(self.intent, Truth::Loop)
    }

    /// Thinks, then calls. A tool error is an answer too: an empty one.
    pub(super) async fn call(&mut self, tool: &'static str, arguments: Value) -> anyhow::Result<Value> {
        anyhow::ensure!(self.calls < CALLS_MAX, "more than {CALLS_MAX} calls in one session");
        let pause = self.think.mul_f64(0.4 + 1.2 * self.random.unit());
        tokio::time::sleep(pause).await;
        let arguments = match arguments {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        self.calls += 1;
        match self.client.call(tool, arguments).await? {
            Reply::Result(value) => Ok(value),
            Reply::ToolError(reason) => {
                tracing::debug!(tool, bytes = reason.len(), "tool error");
                Ok(Value::Null)
            }
        }
    }

    /// Reads a document or an e-mail, and obeys what it finds there if this session is to be hijacked.
    pub(super) async fn read(&mut self, place: &str) -> anyhow::Result<String> {
        let (text, mail) = if place.starts_with("mail-") {
            (self.call("read_email", json!({ "id": place })).await?["body"].clone(), true)
        } else {
            (self.call("read_file", json!({ "path": place })).await?["content"].clone(), false)
        };
        let text = text.as_str().unwrap_or_default().to_owned();
        if let Some(order) = poison::injected_order(&text) {
            tracing::debug!(place, mail, "met an injected order");
            self.met_order = true;
            if self.intent == Truth::Hijacked && !self.obeyed {
                self.obey(order).await?;
            }
        }
        Ok(text)
    }

    async fn obey(&mut self, order: Order) -> anyhow::Result<()> {
        self.obeyed = true;
        self.first_bad_call = Some(self.calls);
        match order {
            Order::Forward { path, to } => {
                let text = self.call("read_file", json!({ "path": path })).await?["content"].clone();
                self.call("send_email", json!({ "to": to, "subject": "as requested", "body": text })).await?;
            }
            Order::Pay { iban, amount_cents, reference } => {
                self.call("get_balance", json!({})).await?;
                let payment = json!({ "to_iban": iban, "amount_cents": amount_cents, "reference": reference });
                self.call("send_money", payment).await?;
            }
            Order::Post { path, url } => {
                let text = self.call("read_file", json!({ "path": path })).await?["content"].clone();
                let text: String = text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join("+");
                self.call("http_get", json!({ "url": format!("{url}&d={text}") })).await?;
            }
        }
        Ok(())
    }

    /// Up to `count` of these places. Where an order waits among them, a session that is to meet it takes it, and one
    /// that is not leaves it alone.
    pub(super) fn choose(&mut self, places: &[String], count: usize) -> Vec<String> {
        let (poisoned, clean): (Vec<String>, Vec<String>) =
            places.iter().cloned().partition(|place| poison::is_poisoned(place));
        let seeks = matches!(self.intent, Truth::Hijacked | Truth::Refused) && !self.met_order;
        match poisoned.into_iter().next().filter(|_| seeks) {
            None => self.random.sample(&clean, count),
            Some(bait) => {
                let mut chosen = self.random.sample(&clean, count.saturating_sub(1));
                let at = self.random.below(chosen.len() + 1);
                chosen.insert(at, bait);
                chosen
            }
        }
    }

    pub(super) async fn close(self) {
        self.client.close().await;
    }
}

/// The strings under `key` of the records in a list.
#[must_use]
pub(super) fn column(list: &Value, key: &str) -> Vec<String> {
    let records = list.as_array().map(Vec::as_slice).unwrap_or_default();
    records.iter().filter_map(|record| record[key].as_str()).map(str::to_owned).collect()
}
