//! Who is who: components of dense cells, tick by tick, become clusters that keep their name.
//!
//! Differential names a component after its least cell, which may change with any session. A cluster keeps its id as
//! long as most of its sessions stay together: of the components that hold its cells, the one with most of them is it.
//! On worker 0 alone. Invariant: a function of the ticks; every `+1` row that is not withdrawn by a `-1` is a cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use undercurrent_schemas::ids::{Micros, Tick, stable_hash};
use undercurrent_schemas::rows::{ClusterChange, ClusterRow, SessionRow, Source};

use super::Cell;
use super::words::reason;
use crate::model::{Model, name_hash};

/// A cluster is told of again when it has grown or shrunk by this part of what was told.
const TOLD_AGAIN_PART: u64 = 4;

/// Name of a component: its least cell.
type Label = Cell;

/// The clusters of the last tick.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Clusters {
    cells: BTreeMap<Cell, DenseCell>,
    members: BTreeMap<Label, BTreeSet<Cell>>,
    clusters: BTreeMap<Label, Cluster>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DenseCell {
    label: Label,
    sessions: u64,
    /// The session that ended last in it.
    exemplar: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Cluster {
    id: u64,
    /// Sessions by cell when it opened: what drift is measured against.
    opened: BTreeMap<Cell, u64>,
    told: Option<ClusterRow>,
}

/// What one tick did to cells.
#[derive(Debug, Default)]
pub(crate) struct CellChanges {
    /// (cell, its component), and by how much.
    pub(crate) labels: Vec<((Cell, Label), isize)>,
    /// New totals of sessions by cell, dense or not.
    pub(crate) totals: Vec<(Cell, u64)>,
    /// Sessions that were forgotten.
    pub(crate) forgotten: Vec<String>,
}

impl Clusters {
    /// Takes one tick's changes; names the cluster of each session that ended in it, and says what became of clusters.
    pub(crate) fn take(
        &mut self,
        tick: Tick,
        ts: Micros,
        changes: CellChanges,
        model: &Model,
        ended: &mut [SessionRow],
    ) -> Vec<ClusterRow> {
        let mut rows = Vec::new();
        let moved = self.relabel(changes.labels, tick, ts, &mut rows);
        let mut grown = BTreeSet::new();
        for (cell, sessions) in changes.totals {
            if let Some(dense) = self.cells.get_mut(&cell) {
                dense.sessions = sessions;
                grown.insert(dense.label);
            }
        }
        self.forget(&changes.forgotten);
        for row in ended.iter_mut() {
            let Some(at) = row.cell else { continue };
            let Some(dense) = self.cells.get_mut(&Cell { scope: name_hash(&[&row.server]), at }) else { continue };
            dense.exemplar = Some(row.session_id.to_string());
            row.cluster = self.clusters.get(&dense.label).map_or_else(String::new, |cluster| id_text(cluster.id));
        }
        for (label, (change, related)) in &moved {
            self.tell(*label, ts, *change, *related, &mut rows);
        }
        for label in grown.into_iter().filter(|label| !moved.contains_key(label)) {
            self.tell_if_grown(label, ts, &mut rows);
        }
        self.explain(model, ended);
        rows
    }

    /// Adds to the reasons of scored sessions what their cluster says, before those that are left over.
    fn explain(&self, model: &Model, ended: &mut [SessionRow]) {
        for row in ended {
            let cell = row.cell.map(|at| Cell { scope: name_hash(&[&row.server]), at });
            let cluster = cell.and_then(|cell| self.clusters.get(&self.cells.get(&cell)?.label));
            let reason = reason(model, row, cluster.and_then(|cluster| cluster.told.as_ref()));
            if let (Some(known), Some(reason)) = (&mut row.assessment, reason) {
                known.reasons.insert(known.reasons.len().saturating_sub(1), reason);
            }
        }
    }

    /// Moves cells between components; which clusters that changed, how, and which other had to do with it.
    fn relabel(
        &mut self,
        mut labels: Vec<((Cell, Label), isize)>,
        tick: Tick,
        ts: Micros,
        rows: &mut Vec<ClusterRow>,
    ) -> BTreeMap<Label, (ClusterChange, Option<u64>)> {
        if labels.is_empty() {
            return BTreeMap::new();
        }
        // What leaves goes before what comes.
        labels.sort_unstable_by_key(|(pair, diff)| (*diff, *pair));
        let touched: BTreeSet<Label> = labels.iter().map(|((_, label), _)| *label).collect();
        let before = self.ids_before(&touched);
        for ((cell, label), diff) in labels {
            if diff < 0 {
                if let Some(members) = self.members.get_mut(&label) {
                    members.remove(&cell);
                }
            } else {
                self.members.entry(label).or_default().insert(cell);
                let dense = self.cells.entry(cell).or_insert(DenseCell { label, sessions: 0, exemplar: None });
                dense.label = label;
            }
        }
        let mut old: BTreeMap<u64, Cluster> = BTreeMap::new();
        for label in &touched {
            old.extend(self.clusters.remove(label).map(|cluster| (cluster.id, cluster)));
        }
        self.members.retain(|label, members| !members.is_empty() || !touched.contains(label));
        for cell in before.keys() {
            let is_gone = self
                .cells
                .get(cell)
                .is_some_and(|dense| self.members.get(&dense.label).is_none_or(|members| !members.contains(cell)));
            if is_gone {
                self.cells.remove(cell);
            }
        }
        let heirs = self.heirs(&touched, &before);
        let mut moved = BTreeMap::new();
        for label in touched.iter().filter(|label| self.members.contains_key(label)) {
            let heritage = heirs.get(label);
            let (change, related, cluster) = match heritage {
                Some(Heritage { id, is_it: true }) => {
                    let Some(cluster) = old.remove(id) else { continue };
                    (ClusterChange::Moved, None, cluster)
                }
                from => {
                    let from = from.map(|heritage| heritage.id);
                    let change = if from.is_some() { ClusterChange::Split } else { ClusterChange::Opened };
                    (change, from, Cluster { id: new_id(label, tick), opened: BTreeMap::new(), told: None })
                }
            };
            moved.insert(*label, (change, related));
            self.clusters.insert(*label, cluster);
        }
        self.withdraw(old, &before, ts, rows);
        moved
    }

    /// Of every cell of these components: the cluster that it was in, and with how many sessions.
    fn ids_before(&self, touched: &BTreeSet<Label>) -> BTreeMap<Cell, (u64, u64)> {
        let mut before = BTreeMap::new();
        for label in touched {
            let (Some(members), Some(cluster)) = (self.members.get(label), self.clusters.get(label)) else { continue };
            for cell in members {
                let sessions = self.cells.get(cell).map_or(0, |dense| dense.sessions);
                before.insert(*cell, (cluster.id, sessions));
            }
        }
        before
    }

    /// Which cluster most of a component's sessions come from, and whether it is that cluster.
    fn heirs(&self, touched: &BTreeSet<Label>, before: &BTreeMap<Cell, (u64, u64)>) -> BTreeMap<Label, Heritage> {
        let mut shares: BTreeMap<(Label, u64), u64> = BTreeMap::new();
        for label in touched {
            for cell in self.members.get(label).into_iter().flatten() {
                if let Some((id, sessions)) = before.get(cell) {
                    *shares.entry((*label, *id)).or_default() += sessions;
                }
            }
        }
        let mut claims: Vec<_> = shares.into_iter().collect();
        claims.sort_by_key(|((label, id), sessions)| (std::cmp::Reverse(*sessions), *id, *label));
        let (mut heirs, mut taken) = (BTreeMap::new(), BTreeSet::new());
        for ((label, id), _) in &claims {
            let has_one = matches!(heirs.get(label), Some(Heritage { is_it: true, .. }));
            if !has_one && taken.insert(*id) {
                heirs.insert(*label, Heritage { id: *id, is_it: true });
            } else {
                heirs.entry(*label).or_insert(Heritage { id: *id, is_it: false });
            }
        }
        heirs
    }

    /// Clusters that are no more: their cells went to others, or are dense no longer.
    fn withdraw(
        &self,
        gone: BTreeMap<u64, Cluster>,
        before: &BTreeMap<Cell, (u64, u64)>,
        ts: Micros,
        rows: &mut Vec<ClusterRow>,
    ) {
        for (id, cluster) in gone {
            let Some(told) = cluster.told else { continue };
            let mut cells: Vec<_> = before.iter().filter(|(_, (of, _))| *of == id).collect();
            cells.sort_by_key(|(_, (_, sessions))| std::cmp::Reverse(*sessions));
            let into = cells.into_iter().find_map(|(cell, _)| self.clusters.get(&self.cells.get(cell)?.label));
            let change = if into.is_some() { ClusterChange::Merged } else { ClusterChange::Closed };
            let related = into.map_or_else(String::new, |into| id_text(into.id));
            rows.push(ClusterRow { ts, diff: -1, change, related, ..told });
        }
    }

    fn forget(&mut self, forgotten: &[String]) {
        if forgotten.is_empty() {
            return;
        }
        for dense in self.cells.values_mut() {
            dense.exemplar.take_if(|exemplar| forgotten.contains(exemplar));
        }
        for cluster in self.clusters.values_mut() {
            let told = cluster.told.as_mut().filter(|told| forgotten.contains(&told.exemplar));
            told.into_iter().for_each(|told| told.exemplar.clear());
        }
    }

    fn tell_if_grown(&mut self, label: Label, ts: Micros, rows: &mut Vec<ClusterRow>) {
        let sessions = self.sessions(label);
        let told = self.clusters.get(&label).and_then(|cluster| cluster.told.as_ref()).map_or(0, |told| told.sessions);
        if sessions.abs_diff(told) * TOLD_AGAIN_PART >= told.max(1) {
            self.tell(label, ts, ClusterChange::Grew, None, rows);
        }
    }

    fn sessions(&self, label: Label) -> u64 {
        let members = self.members.get(&label).into_iter().flatten();
        members.filter_map(|cell| self.cells.get(cell)).map(|dense| dense.sessions).sum()
    }

    /// Withdraws what was told of a cluster, and tells what it is now.
    fn tell(
        &mut self,
        label: Label,
        ts: Micros,
        change: ClusterChange,
        related: Option<u64>,
        rows: &mut Vec<ClusterRow>,
    ) {
        let Some(members) = self.members.get(&label) else { return };
        let dense: Vec<(Cell, &DenseCell)> =
            members.iter().filter_map(|cell| Some((*cell, self.cells.get(cell)?))).collect();
        let now: BTreeMap<Cell, u64> = dense.iter().map(|(cell, dense)| (*cell, dense.sessions)).collect();
        let densest = dense.iter().filter(|(_, dense)| dense.exemplar.is_some()).max_by_key(|(_, of)| of.sessions);
        let exemplar = densest.and_then(|(_, dense)| dense.exemplar.clone()).unwrap_or_default();
        let Some(cluster) = self.clusters.get_mut(&label) else { return };
        if cluster.opened.is_empty() {
            cluster.opened.clone_from(&now);
        }
        let row = ClusterRow {
            source: Source::default(),
            ts,
            diff: 1,
            change,
            cluster: id_text(cluster.id),
            related: related.map_or_else(String::new, id_text),
            scope: label.scope,
            server: String::new(),
            sessions: now.values().sum(),
            cells: now.len() as u64,
            exemplar,
            drift: distance(&cluster.opened, &now),
        };
        if let Some(told) = cluster.told.replace(row.clone()) {
            rows.push(ClusterRow { ts, diff: -1, change, related: row.related.clone(), ..told });
        }
        rows.push(row);
    }
}

/// Where most of a component's sessions were before.
#[derive(Clone, Copy, Debug)]
struct Heritage {
    id: u64,
    /// It goes on as that cluster.
    is_it: bool,
}

/// Total variation between two distributions over cells: 0 = the same mix, 1 = nothing in common.
fn distance(then: &BTreeMap<Cell, u64>, now: &BTreeMap<Cell, u64>) -> f64 {
    let (all_then, all_now) = (then.values().sum::<u64>().max(1) as f64, now.values().sum::<u64>().max(1) as f64);
    let share = |of: &BTreeMap<Cell, u64>, cell: &Cell, all: f64| of.get(cell).map_or(0.0, |n| *n as f64 / all);
    let cells: BTreeSet<&Cell> = then.keys().chain(now.keys()).collect();
    cells.into_iter().map(|cell| (share(then, cell, all_then) - share(now, cell, all_now)).abs()).sum::<f64>() / 2.0
}

fn new_id(label: &Label, tick: Tick) -> u64 {
    stable_hash(&[&label.scope.to_le_bytes(), &label.at.to_le_bytes(), &tick.0.to_le_bytes()])
}

fn id_text(id: u64) -> String {
    format!("{id:016x}")
}
