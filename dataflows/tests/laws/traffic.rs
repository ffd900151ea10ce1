//! Traffic as proptest makes it: plans of sessions, the events they lead to, and ticks cut from those.

use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use undercurrent_dataflows::model::name_hash;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Tick, partition_of};
use undercurrent_schemas::log::{CommittedTick, LogBatch};
use undercurrent_schemas::v1::{self, event::Body};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const PARTITIONS: u32 = 5;
/// Of `Settings` in these tests.
pub(crate) const IDLE_S: i64 = 60;
pub(crate) const LATENESS_S: i64 = 30;
pub(crate) const TIMEOUT_S: i64 = 20;

/// The path of arguments that hold a secret.
const SECRET: u8 = 2;

/// What happens after a request.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Result { after_ms: i64, bytes: u16 },
    ToolError { after_ms: i64 },
    RpcError { after_ms: i64 },
    Silence,
}

#[derive(Clone, Debug)]
pub(crate) struct Argument {
    path: u8,
    value: u64,
    source: Option<u8>,
    place: u8,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Call {
        tool: u8,
        arguments: Vec<Argument>,
        fate: Fate,
        score: Option<u8>,
    },
    /// A request that is no call, and its answer.
    List,
    Notification,
}

/// What a session does without a longer rest.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    rest_s: i64,
    steps: Vec<(i64, Step)>,
    /// It says that it is over, so long after its last step.
    end_ms: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    server: u8,
    principal: u8,
    starts_ms: i64,
    /// JSON-RPC ids start again from 0 after so many.
    ids: u32,
    activities: Vec<Activity>,
}

fn fate() -> impl Strategy<Value = Fate> {
    // Some answers come after the timeout.
    let after_ms = || prop_oneof![9 => 0..3_000_i64, 1 => 15_000..40_000_i64];
    prop_oneof![
        6 => (after_ms(), any::<u16>()).prop_map(|(after_ms, bytes)| Fate::Result { after_ms, bytes }),
        1 => after_ms().prop_map(|after_ms| Fate::ToolError { after_ms }),
        1 => after_ms().prop_map(|after_ms| Fate::RpcError { after_ms }),
        1 => Just(Fate::Silence),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let argument = (0..3_u8, 0..4_u64, prop::option::of(0..3_u8), 0..8_u8)
        .prop_map(|(path, value, source, place)| Argument { path, value: value << 48 | value, source, place });
    let call = (0..4_u8, prop::collection::vec(argument, 0..3), fate(), prop::option::weighted(0.2, 0..40_u8))
        .prop_map(|(tool, arguments, fate, score)| Step::Call { tool, arguments, fate, score });
    prop_oneof![8 => call, 1 => Just(Step::List), 1 => Just(Step::Notification)]
}

fn plan(
    rest_s: BoxedStrategy<i64>,
    gap_ms: BoxedStrategy<i64>,
    end_ms: BoxedStrategy<Option<i64>>,
    ids: BoxedStrategy<u32>,
) -> BoxedStrategy<Plan> {
    let activity = (rest_s, prop::collection::vec((gap_ms, step()), 1..6), end_ms)
        .prop_map(|(rest_s, steps, end_ms)| Activity { rest_s, steps, end_ms });
    (0..2_u8, 0..2_u8, 0..120_000_i64, ids, prop::collection::vec(activity, 1..4))
        .prop_map(|(server, principal, starts_ms, ids, activities)| Plan {
            server,
            principal,
            starts_ms,
            ids,
            activities,
        })
        .boxed()
}

/// Sessions that do anything: end and go on, fall asleep, take ids again.
pub(crate) fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
    let gap_ms = prop_oneof![9 => 0..5_000_i64, 1 => 0..200_000_i64].boxed();
    prop::collection::vec(
        plan(
            (0..200_i64).boxed(),
            gap_ms,
            prop::option::of(1..2_000_i64).boxed(),
            prop_oneof![Just(2), Just(99)].boxed(),
        ),
        1..9,
    )
}

/// Sessions that go on for a while, with rests.
pub(crate) fn long_plans() -> impl Strategy<Value = Vec<Plan>> {
    let gap_ms = prop_oneof![2 => 0..5_000_i64, 3 => 0..400_000_i64].boxed();
    let end_ms = prop::option::of(1..2_000_i64).boxed();
    prop::collection::vec(plan((0..600_i64).boxed(), gap_ms, end_ms, Just(99).boxed()), 1..7)
}

/// Sessions that end by being idle, and for so long that there is no doubt: of those the order of arrival is free.
pub(crate) fn calm_plans() -> impl Strategy<Value = Vec<Plan>> {
    let rest_s = (IDLE_S + LATENESS_S + 5..300_i64).boxed();
    prop::collection::vec(plan(rest_s, (0..15_000_i64).boxed(), Just(None).boxed(), Just(99).boxed()), 1..9)
}

/// The events of all sessions in order of time. Event time starts at an odd hour, so that windows are cut anywhere.
pub(crate) fn events(plans: &[Plan]) -> Vec<v1::Event> {
    let mut events: Vec<v1::Event> = plans.iter().enumerate().flat_map(|(index, plan)| plan.events(index)).collect();
    events.sort_by_key(|event| event.ts_us);
    for (sequence, event) in (1..).zip(&mut events) {
        event.id = Some(v1::EventId { gateway: 7, epoch: 1, sequence });
    }
    events
}

impl Plan {
    fn events(&self, index: usize) -> Vec<v1::Event> {
        let mut events = Vec::new();
        let mut now_ms = 1_700_000_003_217 + self.starts_ms;
        let mut next_id = 0;
        let mut earlier_tools = Vec::new();
        for activity in &self.activities {
            now_ms += activity.rest_s * 1_000;
            let mut last_ms = now_ms;
            for (gap_ms, step) in &activity.steps {
                now_ms += gap_ms;
                let id = (next_id % self.ids).to_string();
                next_id += 1;
                for (after_ms, message) in step.messages(&id, &earlier_tools) {
                    last_ms = last_ms.max(now_ms + after_ms);
                    events.push((now_ms + after_ms, Body::Message(message.into())));
                }
                if let Step::Call { tool, .. } = step {
                    let name = name_hash(&[&format!("tool-{tool}")]);
                    earlier_tools.extend((!earlier_tools.contains(&name)).then_some(name));
                }
            }
            if let Some(end_ms) = activity.end_ms {
                now_ms += end_ms;
                events.push((now_ms, Body::SessionEnd(v1::SessionEnd {})));
            } else {
                now_ms = last_ms;
            }
        }
        // No two events of a session have one time: which came first is never in doubt.
        let event = |(at, (ms, body)): (usize, (i64, Body))| v1::Event {
            ts_us: ms * 1_000 + at as i64,
            tenant: "default".to_owned(),
            principal: format!("agent-{}", self.principal),
            session_id: format!("session-{index}"),
            server: format!("server-{}", self.server),
            body: Some(body),
            ..v1::Event::default()
        };
        events.into_iter().enumerate().map(event).collect()
    }
}

impl Step {
    fn messages(&self, id: &str, earlier_tools: &[u64]) -> Vec<(i64, v1::Message)> {
        let mut request = v1::Message { jsonrpc_id: id.to_owned(), size_bytes: 80, ..v1::Message::default() };
        request.set_direction(v1::Direction::ClientToServer);
        request.set_kind(v1::Kind::Request);
        let mut answer = request.clone();
        answer.set_direction(v1::Direction::ServerToClient);
        answer.set_kind(v1::Kind::Result);
        match self {
            Self::Notification => {
                request.set_kind(v1::Kind::Notification);
                request.jsonrpc_id.clear();
                request.method = "notifications/progress".to_owned();
                vec![(0, request)]
            }
            Self::List => {
                // A string: never the id of a call.
                request.jsonrpc_id = format!("\"list-{id}\"");
                request.method = "tools/list".to_owned();
                answer.jsonrpc_id.clone_from(&request.jsonrpc_id);
                answer.method.clone_from(&request.method);
                // Two sessions may be told different things under one name.
                let description = id.len();
                let definition = format!(r#"{{"name": "tool-{}", "description": "{description}"}}"#, id.len() % 2);
                answer.tool_definitions = vec![definition.into_bytes()];
                vec![(0, request), (40, answer)]
            }
            Self::Call { tool, arguments, fate, score } => {
                request.method = "tools/call".to_owned();
                request.target = format!("tool-{tool}");
                request.size_bytes += 10 * u64::from(*tool);
                request.call = Some(call_facts(*tool, arguments, earlier_tools));
                request.verdict = score.map(verdict);
                let answered = fate.answer(&mut answer);
                std::iter::once((0, request)).chain(answered.map(|after_ms| (after_ms, answer))).collect()
            }
        }
    }
}

fn call_facts(tool: u8, arguments: &[Argument], earlier_tools: &[u64]) -> v1::CallFacts {
    let leaf = |argument: &Argument| v1::Leaf {
        path: if argument.path == SECRET { "password".to_owned() } else { format!("path-{}", argument.path) },
        value: argument.value,
        source: argument.source.map_or_else(String::new, |tool| format!("tool-{tool}")),
        place: i32::from(argument.place % 4),
        place_of_part: argument.place >= 4,
        r#type: if argument.path == 0 { v1::LeafType::Number } else { v1::LeafType::String }.into(),
        entropy_millibits: 3_217 * u32::from(argument.path != 0) + (argument.value & 0xff) as u32,
        host: argument.value & 3,
        host_known: argument.place.is_multiple_of(2),
        ..v1::Leaf::default()
    };
    v1::CallFacts {
        // Digests differ everywhere; of some calls nobody looked at the arguments.
        shape: if tool == 3 { 0 } else { (arguments.len() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) },
        earlier_tools: earlier_tools.to_vec(),
        fingerprint: arguments.first().map_or(0, |argument| argument.value),
        arguments_bytes: 20 * arguments.len() as u64 + u64::from(tool),
        leaves: arguments.iter().map(leaf).collect(),
        ..v1::CallFacts::default()
    }
}

fn verdict(score: u8) -> v1::Verdict {
    let term = |kind: v1::TermKind, value| v1::Term { kind: kind.into(), value, ..v1::Term::default() };
    let said = f64::from(score) / 3.0;
    let terms = vec![term(v1::TermKind::ShapeBits, said), term(v1::TermKind::FreshBits, said * 7.0)];
    let assessment = v1::Assessment { score: f64::from(score), p_value: 0.5, terms, ..v1::Assessment::default() };
    v1::Verdict { assessment: Some(assessment), ..v1::Verdict::default() }
}

impl Fate {
    /// Makes an answer out of `answer`; `None` = there is none.
    fn answer(&self, answer: &mut v1::Message) -> Option<i64> {
        let error = |is_error, error_type: &str| {
            Some(v1::ResultFacts { is_error, error_type: error_type.to_owned(), ..v1::ResultFacts::default() })
        };
        match self {
            Self::Result { after_ms, bytes } => {
                answer.size_bytes = u64::from(*bytes);
                Some(*after_ms)
            }
            Self::ToolError { after_ms } => {
                answer.result = error(true, "tool_error");
                Some(*after_ms)
            }
            Self::RpcError { after_ms } => {
                answer.set_kind(v1::Kind::Error);
                answer.result = error(false, "-32602");
                Some(*after_ms)
            }
            Self::Silence => None,
        }
    }
}

/// The events as they arrive when each is held up by up to the lateness.
pub(crate) fn arrived(events: &[v1::Event], delays_ms: &[i64]) -> Vec<v1::Event> {
    let delays = delays_ms.iter().cycle();
    let mut arriving: Vec<_> = events.iter().zip(delays).map(|(event, ms)| (event.ts_us + ms * 1_000, event)).collect();
    arriving.sort_by_key(|(at, _)| *at);
    arriving.into_iter().map(|(_, event)| event.clone()).collect()
}

/// Cuts a log into ticks of these sizes, over and over. The watermark is the largest stamp so far, as in a replay; the
/// last tick ends time.
pub(crate) fn ticks(events: &[v1::Event], sizes: &[usize]) -> Vec<Arc<CommittedTick>> {
    let mut sizes = sizes.iter().cycle();
    let mut offsets = [0; PARTITIONS as usize];
    let mut watermark = Micros(i64::MIN);
    let (mut ticks, mut rest) = (Vec::new(), events);
    while !rest.is_empty() {
        let size = (*sizes.next().expect("sizes are not empty")).clamp(1, rest.len());
        let (now, later) = rest.split_at(size);
        rest = later;
        let mut records = vec![Vec::new(); PARTITIONS as usize];
        for event in now {
            watermark = watermark.max(Micros(event.ts_us));
            records[partition_of(&event.session_id, PARTITIONS).0 as usize].push(event.encode_to_vec());
        }
        let batch = |(partition, records): (usize, Vec<Vec<u8>>)| {
            let first_offset = Offset(offsets[partition]);
            offsets[partition] += records.len() as u64;
            LogBatch { partition: Partition(partition as u32), first_offset, records }
        };
        let batches = records.into_iter().enumerate().filter(|(_, records)| !records.is_empty()).map(batch).collect();
        ticks.push(Arc::new(CommittedTick { tick: Tick(ticks.len() as u64 + 1), watermark, batches }));
    }
    let tick = Tick(ticks.len() as u64 + 1);
    ticks.push(Arc::new(CommittedTick { tick, watermark: Micros(i64::MAX), batches: Vec::new() }));
    ticks
}

/// Sizes of ticks.
pub(crate) fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![prop::collection::vec(1..12_usize, 1..8), Just(vec![1]), Just(vec![usize::MAX])]
}
