//! Clusters are what touches, at every tick; they keep their names while they can, and say when they cannot.

use std::collections::BTreeMap;

use proptest::prelude::*;
use undercurrent_dataflows::clusters::Cell;
use undercurrent_dataflows::graph::TickOutput;
use undercurrent_dataflows::model::{Part, name_hash};
use undercurrent_dataflows::oracle;
use undercurrent_schemas::rows::{ClusterChange, ClusterRow};
use undercurrent_schemas::v1::{self, event::Body};

use crate::cases;
use crate::run::{run, settings};
use crate::traffic::{SECOND, any_plans, any_sizes, events, ticks};

/// What rows say that there is, by cluster.
#[derive(Default)]
struct Told(BTreeMap<String, ClusterRow>);

impl Told {
    fn take(&mut self, output: &TickOutput) {
        for row in &output.clusters {
            if row.diff < 0 {
                let told = self.0.remove(&row.cluster).expect("only what was told is withdrawn");
                assert_eq!((told.sessions, told.cells), (row.sessions, row.cells));
            } else {
                assert!(self.0.insert(row.cluster.clone(), row.clone()).is_none(), "told twice");
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// At every tick the clusters that rows tell of are the twin's components of the counts of cells, and each session
    /// is in the cluster of its cell.
    #[test]
    fn rows_are_the_components_at_every_tick(plans in any_plans(), sizes in any_sizes(), workers in 1..3_usize) {
        let run = run(&settings(), workers, &ticks(&events(&plans), &sizes));
        let (mut cells, mut told) = (BTreeMap::new(), Told::default());
        for output in &run.outputs {
            for (entry, total) in output.change.totals.iter().filter(|(entry, _)| entry.part == Part::Cell) {
                cells.insert(Cell { scope: entry.scope, at: entry.key }, *total);
            }
            told.take(output);
            let of_cells = oracle::components(&cells, 2);
            let mut expect: BTreeMap<Cell, (u64, u64)> = BTreeMap::new();
            for (cell, least) in &of_cells {
                let (sessions, count) = expect.entry(*least).or_default();
                (*sessions, *count) = (*sessions + cells[cell], *count + 1);
            }
            let mut expect: Vec<_> = expect.iter().map(|(least, (sessions, cells))| (least.scope, *sessions, *cells)).collect();
            let mut got: Vec<_> = told.0.values().map(|row| (row.scope, row.sessions, row.cells)).collect();
            expect.sort_unstable();
            got.sort_unstable();
            // Few sessions: any more is a fourth of what was told.
            prop_assert_eq!(got, expect);
            for row in &output.sessions {
                let cell = row.cell.map(|at| Cell { scope: name_hash(&[&row.server]), at });
                let in_one = cell.is_some_and(|cell| of_cells.contains_key(&cell));
                prop_assert_eq!(in_one, told.0.contains_key(&row.cluster), "{:?}", row.cluster);
            }
        }
    }
}

/// A session that calls these tools, one a second, and ends.
fn session(number: u64, tools: &[&str]) -> Vec<v1::Event> {
    let start = 1_700_000_000 * SECOND + number as i64 * 20 * SECOND;
    let event = |sequence: u64, body: Body| v1::Event {
        id: Some(v1::EventId { gateway: 9, epoch: 1, sequence: number * 100 + sequence }),
        ts_us: start + sequence as i64 * SECOND,
        session_id: format!("session-{number}"),
        server: "server".to_owned(),
        body: Some(body),
        ..v1::Event::default()
    };
    let calls = (1..).zip(tools).map(|(sequence, tool)| {
        let mut request = v1::Message {
            method: "tools/call".to_owned(),
            target: (*tool).to_owned(),
            jsonrpc_id: sequence.to_string(),
            call: Some(v1::CallFacts::default()),
            ..v1::Message::default()
        };
        request.set_direction(v1::Direction::ClientToServer);
        request.set_kind(v1::Kind::Request);
        event(sequence, Body::Message(request.into()))
    });
    calls.chain([event(90, Body::SessionEnd(v1::SessionEnd {}))]).collect()
}

fn forget(number: u64, at: u64) -> v1::Event {
    let mut event = session(at, &[]).remove(0);
    event.session_id = format!("session-{number}");
    event.body = Some(Body::Forget(v1::Forget::default()));
    event
}

/// Tools whose sessions are in cells in a row: the second touches the first and the third, which do not touch.
fn row_of_three() -> [Vec<&'static str>; 3] {
    let names = ["read", "send", "list", "find", "open", "save", "copy", "move"];
    let mut all: BTreeMap<u64, Vec<&'static str>> = BTreeMap::new();
    for first in names {
        for second in names {
            for third in names {
                let tools = vec![first, second, third];
                all.entry(oracle::cell_at(&tools)).or_insert(tools);
            }
        }
    }
    let cell = |at: u64| Cell { scope: 0, at };
    for (middle, tools) in &all {
        let beside: Vec<u64> =
            cell(*middle).neighbours().map(|cell| cell.at).filter(|at| all.contains_key(at)).collect();
        for left in &beside {
            let apart = |right: &&u64| *right != left && cell(*left).neighbours().all(|cell| cell.at != **right);
            if let Some(right) = beside.iter().find(apart) {
                return [all[left].clone(), tools.clone(), all[right].clone()];
            }
        }
    }
    panic!("no three cells are in a row");
}

#[test]
fn a_cluster_keeps_its_name_and_splits_and_merges_are_told() {
    let [left, middle, right] = row_of_three();
    let sessions = [&left, &left, &left, &right, &right, &middle, &middle];
    let mut all: Vec<v1::Event> = (0..).zip(sessions).flat_map(|(number, tools)| session(number, tools)).collect();
    all.push(forget(5, 20));
    let run = run(&settings(), 2, &ticks(&all, &[1]));
    let rows: Vec<_> = run.outputs.iter().flat_map(|output| &output.clusters).collect();
    let told: Vec<_> = rows.iter().map(|row| (row.diff, row.change, row.sessions)).collect();
    use ClusterChange::{Grew, Merged, Moved, Opened, Split};
    let expect = [
        (1, Opened, 2),
        (-1, Grew, 2),
        (1, Grew, 3),
        (1, Opened, 2),
        // The middle becomes dense: what is larger takes in the other.
        (-1, Merged, 2),
        (-1, Moved, 3),
        (1, Moved, 7),
        // One of the middle is forgotten: the larger part is still the same.
        (-1, Moved, 7),
        (1, Moved, 3),
        (1, Split, 2),
    ];
    let sorted = |mut told: Vec<(i64, ClusterChange, u64)>| {
        told[5..].sort_unstable();
        told
    };
    assert_eq!(sorted(told), sorted(expect.to_vec()));
    let first = &rows[0].cluster;
    assert!(rows.iter().filter(|row| row.change == Moved).all(|row| row.cluster == *first));
    assert!(rows.iter().filter(|row| matches!(row.change, Split | Merged)).all(|row| row.related == *first));
    assert!(rows.iter().all(|row| row.server == "server" && row.exemplar.starts_with("session-")));
    let drifted: Vec<bool> = rows.iter().filter(|row| row.diff > 0).map(|row| row.drift > 0.0).collect();
    assert!(!drifted[0] && drifted[3], "who takes others in is another mix than at first");
}

#[test]
fn a_session_like_no_cluster_is_told_so_and_one_of_a_cluster_is_not() {
    let usual = ["list", "read", "read"];
    let mut all: Vec<v1::Event> = (0..60).flat_map(|number| session(number, &usual)).collect();
    all.extend(session(60, &["find", "delete", "upload", "send"]));
    all.extend(session(61, &usual));
    let run = run(&settings(), 2, &ticks(&all, &[1]));
    let told = |number: u64| {
        let row = run
            .outputs
            .iter()
            .flat_map(|output| &output.sessions)
            .find(|row| row.session_id == format!("session-{number}"));
        let known = row.expect("it ended").assessment.clone().expect("it was scored");
        let of_clusters = known.reasons.iter().filter(|reason| reason.kind() == v1::TermKind::Cluster);
        of_clusters.map(|reason| (reason.text.clone(), reason.weight)).collect::<Vec<_>>()
    };
    let expect = "it works like no cluster of sessions here: 0 of about 60 earlier ones were alike";
    assert_eq!(told(60), [(expect.to_owned(), 0.0)]);
    assert_eq!(told(61), []);
    assert_eq!(told(1), [], "at first all are new");
}
