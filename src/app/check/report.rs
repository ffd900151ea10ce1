//! A report as a person reads it.

use comfy_table::{ContentArrangement, Table, presets};

use super::{Data, Report, UpstreamReport};

pub(super) fn text(report: &Report) -> String {
    let warned = match report.warnings.len() {
        0 => String::new(),
        1 => ", with a warning".to_owned(),
        n => format!(", with {n} warnings"),
    };
    let mut text = format!("Undercurrent {}: this configuration can be served{warned}.\n", report.version);
    section(&mut text, "Listeners", listeners(report));
    section(&mut text, "Data", data(&report.data));
    section(&mut text, "Upstreams", upstreams(&report.upstreams));
    section(&mut text, "Who may call", lines(&report.access));
    let limits = report.limits.iter().map(|(what, value)| vec![(*what).to_owned(), value.clone()]);
    section(&mut text, "Limits", table(None, limits));
    section(&mut text, "Policy", lines(&report.policy));
    let given = report.given.iter().map(|given| {
        let value = if given.is_default { format!("{} (the default)", given.value) } else { given.value.clone() };
        vec![given.key.clone(), value, given.from.clone()]
    });
    match report.given.is_empty() {
        true => section(&mut text, "Settings", "  all at their defaults\n".to_owned()),
        false => section(&mut text, "Settings that were given; all others are at their defaults", table(None, given)),
    }
    if !report.notes.is_empty() {
        section(&mut text, "Notes", lines(&report.notes));
    }
    if !report.warnings.is_empty() {
        section(&mut text, "Warnings", lines(&report.warnings));
    }
    text
}

fn section(text: &mut String, title: &str, body: String) {
    text.push_str(&format!("\n{title}\n{body}"));
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  - {line}\n")).collect()
}

/// Columns without rules, indented.
fn table(header: Option<Vec<&str>>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(header) = header {
        table.set_header(header);
    }
    table.add_rows(rows);
    table.lines().map(|line| format!("  {}\n", line.trim_end().strip_prefix(' ').unwrap_or(&line).trim_end())).collect()
}

fn listeners(report: &Report) -> String {
    let rows = report.listeners.iter().map(|listener| {
        let what = match listener.role {
            "mcp" => "MCP clients",
            _ => "metrics, status, console",
        };
        let reach = if listener.public { "other machines can connect" } else { "this machine alone" };
        vec![what.to_owned(), listener.address.clone(), reach.to_owned()]
    });
    table(None, rows)
}

fn data(data: &Data) -> String {
    let state = match data.layout {
        None => "is made at the first start".to_owned(),
        Some(layout) => {
            let used = if data.in_use { "; a process has it now, and this one would share it" } else { "" };
            let (log, history) = (bytes(data.log_bytes), bytes(data.history_bytes));
            format!("layout {layout}, log {log}, history {history}{used}")
        }
    };
    table(None, std::iter::once(vec![data.directory.clone(), state]))
}

fn upstreams(upstreams: &[UpstreamReport]) -> String {
    let probed = upstreams.iter().any(|upstream| upstream.probe.is_some());
    let mut header = vec!["NAME", "ENDPOINT", "RELAYED TO", "FROM"];
    header.extend(probed.then_some("PROBE"));
    let rows = upstreams.iter().map(|upstream| {
        let mut row =
            [&upstream.name, &upstream.endpoint, &upstream.target, &upstream.from].map(String::clone).to_vec();
        row.extend(upstream.probe.as_ref().map(ToString::to_string));
        row
    });
    table(Some(header), rows)
}

/// In the largest unit that leaves a number of at least one.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_have_a_unit_that_fits() {
        let check = |bytes, expect: &str| assert_eq!(super::bytes(bytes), expect);
        check(0, "0 B");
        check(1023, "1023 B");
        check(8 << 20, "8.0 MiB");
        check(3 << 39, "1.5 TiB");
    }
}
