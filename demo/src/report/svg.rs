//! The report as one self-contained SVG: a dot for each session, scores over time, colour by truth, a ring for a flag.
//!
//! Hovering a dot tells the session's story. No script, no outside font or style.

use std::fmt::Write as _;

use super::{Report, reasons, second};
use crate::judgement::Judged;
use crate::truth::Truth;

const WIDTH: f64 = 1100.0;
const HEIGHT: f64 = 620.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 1068.0;
const TOP: f64 = 190.0;
const BOTTOM: f64 = 530.0;
/// Where sessions without a score lie.
const UNSCORED: f64 = 548.0;

const STYLE: &str = "text{font-family:ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1c2733}\
.t{font-size:24px;font-weight:650}.s{font-size:13px;fill:#5b6b7b}.n{font-size:25px;font-weight:650}\
.l{font-size:12px;fill:#5b6b7b}.g{stroke:#e4e9ee;stroke-width:1}.c{fill:#fff;stroke:#e4e9ee}\
circle{cursor:default}circle:hover{stroke:#1c2733;stroke-width:2}";

/// From data to places on the picture.
struct Scale {
    seconds: f64,
    top: f64,
}

impl Scale {
    fn x(&self, second: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * second / self.seconds
    }

    /// Square roots spread the many low scores and still show the few high ones.
    fn y(&self, score: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (score.max(0.0) / self.top).sqrt()
    }
}

pub(super) fn render(report: &Report) -> String {
    let last = report.sessions.last().map_or(0.0, |one| second(report, one.truth.started_at_us));
    let top = report.sessions.iter().filter_map(Judged::score).fold(1.0, f64::max);
    let scale = Scale { seconds: last.max(1.0) * 1.02, top: top * 1.08 };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\" aria-label=\"Session scores over time\"><style>{STYLE}</style>\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#f6f8fa\"/>\
         <text class=\"t\" x=\"32\" y=\"44\">Undercurrent: what the traffic taught, and what stood out</text>"
    );
    cards(&mut svg, report);
    axes(&mut svg, &scale);
    learning(&mut svg, report, &scale);
    dots(&mut svg, report, &scale);
    legend(&mut svg);
    svg.push_str("</svg>\n");
    svg
}

fn cards(svg: &mut String, report: &Report) {
    let figures = &report.figures;
    let share = |part: usize, whole: usize| {
        if whole == 0 { "–".to_owned() } else { format!("{:.0} %", 100.0 * part as f64 / whole as f64) }
    };
    let cards = [
        (report.sessions.len().to_string(), format!("sessions, {} calls", report.calls.calls)),
        (report.calls.by_tool.len().to_string(), "tools learned".to_owned()),
        (report.model_version.map_or_else(|| "–".to_owned(), |v| v.to_string()), "model version".to_owned()),
        (share(figures.hits, figures.attacks), format!("of {} attacks flagged", figures.attacks)),
        (share(figures.false_alarms, figures.others), format!("false alarms in {}", figures.others)),
        (figures.roc_auc.map_or_else(|| "–".to_owned(), |auc| format!("{auc:.3}")), "ROC AUC".to_owned()),
    ];
    for (place, (number, label)) in cards.iter().enumerate() {
        let x = 32.0 + place as f64 * 174.0;
        let _ = write!(
            svg,
            "<rect class=\"c\" x=\"{x}\" y=\"64\" width=\"162\" height=\"72\" rx=\"8\"/>\
             <text class=\"n\" x=\"{}\" y=\"98\">{number}</text><text class=\"l\" x=\"{}\" y=\"121\">{label}</text>",
            x + 14.0,
            x + 14.0
        );
    }
}

fn axes(svg: &mut String, scale: &Scale) {
    let _ = write!(
        svg,
        "<rect class=\"c\" x=\"{LEFT}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"4\"/>",
        TOP - 14.0,
        RIGHT - LEFT,
        UNSCORED - TOP + 28.0
    );
    for step in 0..=4 {
        // Evenly spaced on the picture, so the labels follow the root.
        let score = scale.top * (f64::from(step) / 4.0).powi(2);
        let y = scale.y(score);
        let _ = write!(
            svg,
            "<line class=\"g\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
             <text class=\"l\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{score:.1}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    for step in 0..=6 {
        let at = scale.seconds * f64::from(step) / 6.0;
        let x = scale.x(at);
        let _ = write!(svg, "<text class=\"l\" x=\"{x:.1}\" y=\"582\" text-anchor=\"middle\">{at:.0} s</text>");
    }
    let _ = write!(
        svg,
        "<text class=\"s\" x=\"32\" y=\"166\">session score (higher = more unusual) by time of start</text>"
    );
}

/// Shades the time in which nothing could be scored because no model was live.
fn learning(svg: &mut String, report: &Report, scale: &Scale) {
    let first = report.sessions.iter().find(|one| one.score().is_some());
    let until = first.map_or(scale.seconds, |one| second(report, one.truth.started_at_us));
    let width = scale.x(until) - LEFT;
    if width > 4.0 {
        let _ = write!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" fill=\"#dfe7ee\" opacity=\".55\">\
             <title>no model live yet: sessions teach, none is scored</title></rect>",
            TOP - 14.0,
            UNSCORED - TOP + 28.0
        );
    }
}

fn dots(svg: &mut String, report: &Report, scale: &Scale) {
    // Attacks last, so that they lie on top.
    let (attacks, others): (Vec<&Judged>, Vec<&Judged>) =
        report.sessions.iter().partition(|one| one.truth.truth.is_attack());
    for one in others.into_iter().chain(attacks) {
        let x = scale.x(second(report, one.truth.started_at_us));
        let y = one.score().map_or(UNSCORED, |score| scale.y(score));
        let radius = if one.truth.truth.is_attack() { 6.0 } else { 3.6 };
        let opacity = if one.score().is_some() { 0.85 } else { 0.35 };
        if one.flagged() {
            let _ = write!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{}\" fill=\"none\" stroke=\"#1c2733\" stroke-width=\"1.6\"/>",
                radius + 4.0
            );
        }
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\" opacity=\"{opacity}\"><title>{}</title></circle>",
            colour(one.truth.truth),
            escape(&story(one))
        );
    }
}

fn story(one: &Judged) -> String {
    let mut story =
        format!("{}: {} ({})\n{} calls", one.truth.agent, one.truth.truth.as_str(), one.verdict(), one.truth.calls);
    if let Some(row) = &one.row {
        let _ = match (row.score, row.p_value) {
            (Some(score), Some(p)) => write!(story, ", score {score:.2}, p {p:.4}"),
            (Some(score), None) => write!(story, ", score {score:.2}"),
            (None, _) => write!(story, ", not scored"),
        };
        let _ = write!(story, "\nsession {}", row.session_id);
    }
    let reasons = reasons(one, 4);
    if !reasons.is_empty() {
        let _ = write!(story, "\n{}", reasons.replace("; ", "\n"));
    }
    story
}

fn legend(svg: &mut String) {
    let labels = ["benign", "refused an injected order", "hijacked", "loop"];
    let mut x = LEFT + 6.0;
    for (truth, label) in Truth::ALL.into_iter().zip(labels) {
        let _ = write!(
            svg,
            "<circle cx=\"{x}\" cy=\"604\" r=\"5\" fill=\"{}\"/><text class=\"l\" x=\"{}\" y=\"608\">{label}</text>",
            colour(truth),
            x + 11.0
        );
        x += 34.0 + 6.6 * label.len() as f64;
    }
    let _ = write!(
        svg,
        "<circle cx=\"{x}\" cy=\"604\" r=\"7\" fill=\"none\" stroke=\"#1c2733\" stroke-width=\"1.6\"/>\
         <text class=\"l\" x=\"{}\" y=\"608\">flagged</text><rect x=\"{}\" y=\"598\" width=\"14\" height=\"12\" fill=\"#dfe7ee\"/>\
         <text class=\"l\" x=\"{}\" y=\"608\">learning, no score yet</text>",
        x + 13.0,
        x + 78.0,
        x + 98.0
    );
}

const fn colour(truth: Truth) -> &'static str {
    match truth {
        Truth::Benign => "#4f8fc0",
        Truth::Refused => "#e0a526",
        Truth::Hijacked => "#d1344b",
        Truth::Loop => "#8b4fc4",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
