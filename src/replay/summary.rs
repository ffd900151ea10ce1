//! What came of a replay, in a few lines.

use std::collections::BTreeMap;
use std::fmt;

use undercurrent_dataflows::graph::TickOutput;
use undercurrent_dataflows::sessions::Counters;

/// Reasons shown.
const REASONS: usize = 5;

/// Totals of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub counters: Counters,
    pub model_version: u64,
    /// How often each term was the largest reason of a flagged session.
    pub reasons: BTreeMap<String, u64>,
}

impl Summary {
    /// Adds one tick.
    pub(super) fn add(&mut self, output: &TickOutput) {
        self.counters.add(&output.counters);
        self.model_version = self.model_version.max(output.change.version.0);
        for row in output.sessions.iter().filter(|row| row.flagged == Some(true)) {
            let first = row.assessment.as_ref().and_then(|assessment| assessment.reasons.first());
            if let Some(reason) = first {
                *self.reasons.entry(reason.kind().name().to_owned()).or_default() += 1;
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { messages, calls, unanswered, sessions, scored, flagged, taught, quarantined, .. } =
            self.counters;
        writeln!(f, "messages   {messages}")?;
        writeln!(f, "calls      {calls} ({unanswered} unanswered)")?;
        writeln!(
            f,
            "sessions   {sessions}: {scored} scored, {flagged} flagged, {taught} taught, {quarantined} doubtful"
        )?;
        writeln!(f, "model      version {}", self.model_version)?;
        let Counters { duplicates, corrupt, gap_events, late, too_late_for_windows, .. } = self.counters;
        if duplicates + corrupt + gap_events + late + too_late_for_windows > 0 {
            writeln!(
                f,
                "left out   {duplicates} duplicates, {corrupt} corrupt, {gap_events} lost, {late} late ({too_late_for_windows} in no window)"
            )?;
        }
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let reasons: Vec<_> = reasons.iter().take(REASONS).map(|(term, times)| format!("{term} ({times})")).collect();
        if !reasons.is_empty() {
            writeln!(f, "flagged by {}", reasons.join(", "))?;
        }
        Ok(())
    }
}
