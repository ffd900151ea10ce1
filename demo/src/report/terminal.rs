//! The report as text: what was learned, a sparkline of scores over time, and the sessions worth a look.

use std::fmt::Write as _;

use super::{Report, reasons, second};
use crate::judgement::Judged;
use crate::truth::Truth;

const WIDTH: usize = 76;
const ROWS_MAX: usize = 20;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Terminal styles; plain where the output is not a terminal.
#[derive(Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
}

struct Page {
    text: String,
    colour: bool,
}

pub(super) fn render(report: &Report, colour: bool) -> String {
    let mut page = Page { text: String::new(), colour };
    page.learned(report);
    page.sparkline(report);
    page.table(report);
    page.figures(report);
    page.text
}

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str("  ");
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Red => 31,
            Style::Yellow => 33,
            Style::Green => 32,
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn heading(&mut self, text: &str) {
        let text = self.styled(Style::Bold, text);
        self.text.push('\n');
        self.line(&text);
    }

    fn learned(&mut self, report: &Report) {
        let found = report.sessions.iter().filter(|one| one.row.is_some()).count();
        let scored = report.sessions.iter().filter(|one| one.score().is_some()).count();
        let version = report.model_version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        self.heading("What was learned");
        self.line(&format!(
            "sessions  {found} of {} driven are in the history, {scored} were scored",
            report.sessions.len()
        ));
        self.line(&format!("calls     {}, {} assessed on the request path", report.calls.calls, report.calls.assessed));
        self.line(&format!("tools     {}", tools(report)));
        self.line(&format!("model     version {version}"));
        let failed: Vec<&Judged> = report.sessions.iter().filter(|one| one.truth.failure.is_some()).collect();
        if let Some(first) = failed.first() {
            let reason = first.truth.failure.as_deref().unwrap_or_default();
            self.line(&self.styled(Style::Red, &format!("{} sessions broke off; the first: {reason}", failed.len())));
        }
    }

    fn sparkline(&mut self, report: &Report) {
        let end = report.sessions.iter().map(|one| second(report, one.truth.started_at_us)).fold(1e-9, f64::max);
        let top = report.sessions.iter().filter_map(Judged::score).fold(0.0, f64::max);
        self.heading("Scores over time");
        if top <= 0.0 {
            return self.line("no session was scored");
        }
        let (mut heights, mut marks) = (vec![None::<f64>; WIDTH], vec![' '; WIDTH]);
        for one in &report.sessions {
            let at = ((second(report, one.truth.started_at_us) / end) * (WIDTH - 1) as f64) as usize;
            if let Some(score) = one.score() {
                heights[at] = Some(heights[at].unwrap_or(0.0).max(score));
            }
            match one.truth.truth {
                Truth::Hijacked => marks[at] = '▲',
                Truth::Loop if marks[at] == ' ' => marks[at] = '↻',
                Truth::Loop | Truth::Refused | Truth::Benign => {}
            }
        }
        let bar = |height: &Option<f64>| height.map_or('·', |height| BARS[((height / top) * 7.0).round() as usize]);
        self.line(&heights.iter().map(bar).collect::<String>());
        let marks: String = marks.into_iter().collect();
        self.line(&self.styled(Style::Red, marks.trim_end()));
        let right = format!("{end:.0} s");
        let legend = "highest score at a time; · none scored; ▲ hijacked; ↻ loop";
        let gap = WIDTH.saturating_sub(legend.chars().count() + right.len());
        self.line(&self.styled(Style::Dim, &format!("{legend}{}{right}", " ".repeat(gap))));
    }

    fn table(&mut self, report: &Report) {
        self.heading("Flagged, and what should have been");
        let notable = report.notable();
        if notable.is_empty() {
            return self.line("nothing was flagged, and there was nothing to flag");
        }
        let head = format!(
            "{:>6} {:>7} {:>8}  {:<14} {:<9} {:<11} reasons",
            "second", "score", "p", "agent", "truth", "verdict"
        );
        self.line(&self.styled(Style::Dim, &head));
        for one in notable.iter().take(ROWS_MAX) {
            let row = self.table_row(report, one);
            self.line(&row);
        }
        if notable.len() > ROWS_MAX {
            self.line(&format!("… and {} more", notable.len() - ROWS_MAX));
        }
    }

    fn table_row(&self, report: &Report, one: &Judged) -> String {
        let score = one.score().map_or_else(|| "-".to_owned(), |score| format!("{score:.2}"));
        let p_value =
            one.row.as_ref().and_then(|row| row.p_value).map_or_else(|| "-".to_owned(), |p| format!("{p:.4}"));
        let verdict = format!("{:<11}", one.verdict());
        let style = match one.verdict() {
            "hit" => Style::Green,
            "false alarm" => Style::Yellow,
            _ => Style::Red,
        };
        let row = format!(
            "{:>6.1} {score:>7} {p_value:>8}  {:<14} {:<9} {} {}",
            second(report, one.truth.started_at_us),
            one.truth.agent,
            one.truth.truth.as_str(),
            self.styled(style, &verdict),
            reasons(one, 2),
        );
        row.trim_end().to_owned()
    }

    fn figures(&mut self, report: &Report) {
        let figures = &report.figures;
        self.heading("Against the truth (scored sessions)");
        let kinds: Vec<String> =
            Truth::ALL.iter().map(|kind| format!("{} {}", report.count(*kind), kind.as_str())).collect();
        self.line(&format!("driven    {}", kinds.join(", ")));
        self.line(&format!("recall    {}", share(figures.hits, figures.attacks, "attacks flagged")));
        self.line(&format!("alarms    {}", share(figures.false_alarms, figures.others, "other sessions flagged")));
        let ranking = figures.roc_auc.map_or_else(|| "-".to_owned(), |auc| format!("{auc:.3}"));
        self.line(&format!("ranking   {ranking} ROC AUC of the scores, whatever the threshold"));
        self.text.push('\n');
    }
}

fn tools(report: &Report) -> String {
    let mut tools: Vec<(&String, &usize)> = report.calls.by_tool.iter().collect();
    tools.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut text = format!("{}:", tools.len());
    for (tool, calls) in tools.iter().take(5) {
        let _ = write!(text, " {tool} {calls},");
    }
    let shown = text.trim_end_matches([',', ':']).to_owned();
    if tools.len() > 5 { format!("{shown}, …") } else { shown }
}

fn share(part: usize, whole: usize, what: &str) -> String {
    if whole == 0 {
        return format!("- (of {what}: none was scored)");
    }
    format!("{:.1} % ({part} of {whole} {what})", 100.0 * part as f64 / whole as f64)
}
