//! What a run showed: in the terminal, and as one SVG picture.
//!
//! A report is computed from the history and the truth alone, so it can be made again at any later time.

mod svg;
mod terminal;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::history::{self, CallCounts, SessionRow};
use crate::judgement::{self, Figures, Judged};
use crate::truth::{SessionTruth, Truth};

const POLL: Duration = Duration::from_millis(500);

/// Everything that both renderings show.
#[derive(Debug)]
pub struct Report {
    /// In the order of their starts.
    pub sessions: Vec<Judged>,
    pub figures: Figures,
    pub calls: CallCounts,
    pub model_version: Option<i64>,
}

/// What a report is made from, and where its files go.
#[derive(Clone, Debug)]
pub struct Request {
    pub history: PathBuf,
    /// How long to wait for sessions that are not in the history yet.
    pub patience: Duration,
    /// The picture; `None` = none.
    pub svg: Option<PathBuf>,
    /// `{session, label}` lines under the history's session ids; `None` = none.
    pub labels: Option<PathBuf>,
}

/// Makes the report and writes its files; the text goes to `out`.
pub async fn report(
    request: &Request,
    truths: Vec<SessionTruth>,
    out: &mut impl std::io::Write,
    colour: bool,
) -> anyhow::Result<()> {
    let rows = sessions_when_complete(&request.history, &truths, request.patience).await?;
    let report = Report::new(truths, &rows, history::call_counts(&request.history)?);
    out.write_all(terminal::render(&report, colour).as_bytes())?;
    if let Some(path) = &request.svg {
        write(path, &svg::render(&report))?;
        writeln!(out, "  picture   {}", path.display())?;
    }
    if let Some(path) = &request.labels {
        write(path, &labels(&report)?)?;
        writeln!(out, "  labels    {}", path.display())?;
    }
    writeln!(out, "  history   {}\n", request.history.display())?;
    Ok(())
}

impl Report {
    #[must_use]
    pub fn new(truths: Vec<SessionTruth>, rows: &[SessionRow], calls: CallCounts) -> Self {
        let mut sessions = judgement::judge(truths, rows);
        sessions.sort_by_key(|one| one.truth.started_at_us);
        let figures = judgement::figures(&sessions);
        let model_version = rows.iter().filter_map(|row| row.model_version).max();
        Self { sessions, figures, calls, model_version }
    }

    /// Flagged sessions and unflagged attacks, highest score first.
    fn notable(&self) -> Vec<&Judged> {
        let mut notable: Vec<&Judged> =
            self.sessions.iter().filter(|one| one.flagged() || one.truth.truth.is_attack()).collect();
        notable.sort_by(|a, b| b.score().unwrap_or(-1.0).total_cmp(&a.score().unwrap_or(-1.0)));
        notable
    }

    fn count(&self, truth: Truth) -> usize {
        self.sessions.iter().filter(|one| one.truth.truth == truth).count()
    }
}

/// The sessions of the history, read again until every driven session is there or patience ends.
pub async fn sessions_when_complete(
    history: &Path,
    truths: &[SessionTruth],
    patience: Duration,
) -> anyhow::Result<Vec<SessionRow>> {
    let deadline = Instant::now() + patience;
    loop {
        // A file may be renamed away between listing and opening it: the next look finds its successor.
        let rows = history::sessions(history);
        let complete = rows.as_ref().is_ok_and(|rows| {
            judgement::judge(truths.to_vec(), rows).iter().all(|one| one.row.is_some() || one.truth.calls == 0)
        });
        if complete || Instant::now() >= deadline {
            return rows;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Labels as scorers of recorded streams read them.
fn labels(report: &Report) -> anyhow::Result<String> {
    let mut lines = String::new();
    for one in &report.sessions {
        let Some(row) = &one.row else { continue };
        let label = match one.truth.truth {
            Truth::Benign => "benign",
            Truth::Refused => "attack_failed",
            Truth::Hijacked | Truth::Loop => "attack_success",
        };
        let line = serde_json::json!({
            "session": row.session_id,
            "label": label,
            "attack": (one.truth.truth != Truth::Benign).then(|| one.truth.truth.as_str()),
            "first_bad_call": one.truth.first_bad_call,
            "client": row.principal,
            "n_calls": one.truth.calls,
        });
        lines.push_str(&serde_json::to_string(&line)?);
        lines.push('\n');
    }
    Ok(lines)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Largest reasons in words, shortest useful form.
fn reasons(one: &Judged, count: usize) -> String {
    let reasons = one.row.iter().flat_map(|row| &row.reasons).filter(|reason| reason.weight > 0.0).take(count);
    reasons.map(|reason| format!("{} (+{:.1})", reason.text, reason.weight)).collect::<Vec<_>>().join("; ")
}

/// Seconds from the first session's start.
fn second(report: &Report, at_us: i64) -> f64 {
    let origin = report.sessions.first().map_or(at_us, |one| one.truth.started_at_us);
    (at_us - origin) as f64 / 1e6
}

#[cfg(test)]
mod tests;
