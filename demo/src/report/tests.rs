use super::*;
use crate::history::fixture;
use crate::judgement::tests::truth;

/// Forty sessions: none scored at first, one attack hit, one missed, one false alarm.
fn report() -> Report {
    let mut truths = Vec::new();
    let mut rows = Vec::new();
    for second in 0..40 {
        let (kind, score) = match second {
            0..10 => (Truth::Benign, None),
            25 => (Truth::Hijacked, Some(18.0)),
            30 => (Truth::Loop, Some(4.0)),
            33 => (Truth::Refused, Some(11.0)),
            _ => (Truth::Benign, Some(f64::from(second as i32 % 7))),
        };
        truths.push(truth(second, kind));
        rows.push(fixture::row(&format!("s{second}<&"), second, score));
    }
    Report::new(
        truths,
        &rows,
        CallCounts { calls: 240, assessed: 180, by_tool: [("read_file".to_owned(), 240)].into() },
    )
}

#[test]
fn the_text_names_hits_misses_and_false_alarms() {
    let text = terminal::render(&report(), false);
    for expected in ["hit", "missed", "false alarm", "50.0 % (1 of 2", "rare next tool (+18.0)", "▲", "↻", "version 4"]
    {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
    assert!(!text.contains('\x1b'));
}

#[test]
fn the_picture_has_a_dot_per_session_and_escapes_its_titles() {
    let svg = svg::render(&report());
    assert_eq!(svg.matches("<title>researcher-2").count(), 40);
    assert!(svg.contains("s25&lt;&amp;"));
    assert!(!svg.contains("<&"));
}

#[test]
fn an_empty_run_can_be_reported() {
    let empty = Report::new(Vec::new(), &[], CallCounts::default());
    assert!(terminal::render(&empty, true).contains("no session was scored"));
    assert!(svg::render(&empty).ends_with("</svg>\n"));
}

#[test]
fn labels_stand_under_the_session_ids_of_the_history() {
    let lines = labels(&report()).unwrap();
    assert_eq!(lines.lines().count(), 40);
    assert_eq!(lines.matches("\"attack_success\"").count(), 2);
}

#[tokio::test]
async fn files_are_written_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), "one", &[fixture::row("a", 1, Some(12.0))]);
    let svg = dir.path().join("report.svg");
    let request =
        Request { history: dir.path().to_owned(), patience: Duration::ZERO, svg: Some(svg.clone()), labels: None };
    let mut out = Vec::new();
    super::report(&request, vec![truth(1, Truth::Hijacked)], &mut out, false).await.unwrap();
    assert!(String::from_utf8(out).unwrap().contains("100.0 % (1 of 1"));
    assert!(svg.exists());
}
