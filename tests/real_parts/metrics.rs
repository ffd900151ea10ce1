//! A real Prometheus scrapes the gateway with the project's configuration, and answers every query of the dashboards.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::sources::rust_below;
use crate::support::gateway::Serve;
use crate::support::http::get;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, root};
use crate::support::prometheus::{Prometheus, complaints};
use crate::support::wait::wait_until;

#[test]
fn prometheus_scrapes_and_answers_every_panel() {
    let directory = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let gateway = Serve::new(&directory.path().join("data")).upstream("demo", &server.url()).start();
    Load::bounded(gateway.listen, "/mcp/demo", 2, 50).join();
    gateway.settle();

    let scrape = get(gateway.admin, "/metrics");
    assert!(scrape.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{scrape:?}");
    assert_eq!(complaints(&scrape.text()), "", "promtool check metrics");

    let prometheus = Prometheus::scraping(gateway.admin, directory.path());
    let up = || prometheus.query("up").expect("a plain query");
    wait_until("a scrape succeeded", || up().iter().any(|series| series["value"][1] == "1"));

    let queries = panel_queries();
    assert!(!queries.is_empty(), "the dashboards have panels");
    for (panel, query) in queries {
        if let Err(error) = prometheus.query(&query) {
            panic!("{panel}: {error}: {query}");
        }
    }
}

/// Every metric that a panel asks for is one that the gateway has: a renamed metric must not leave a dashboard empty.
#[test]
fn panels_ask_for_metrics_that_there_are() {
    let directory = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let gateway = Serve::new(&directory.path().join("data")).upstream("demo", &server.url()).start();
    Load::bounded(gateway.listen, "/mcp/demo", 1, 5).join();
    gateway.settle();
    let scrape = get(gateway.admin, "/metrics").text();
    let known: Vec<&str> = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    for (panel, query) in panel_queries() {
        for word in query.split(|letter| !is_name(letter)) {
            let ours = ["undercurrent_", "mcp_server_", "mcp_client_"].iter().any(|prefix| word.starts_with(prefix));
            let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| word.strip_suffix(suffix));
            // A counter with labels shows once it has counted.
            let exists =
                [Some(word), base].into_iter().flatten().any(|name| known.contains(&name) || is_declared(name));
            assert!(!ours || exists, "{panel} asks for {word}, which the gateway does not have");
        }
    }
}

/// A metric of ours that this gateway has had no occasion to count: its name, or what follows the gateway's own prefix,
/// stands in the sources.
fn is_declared(name: &str) -> bool {
    let names = [name, name.strip_prefix("undercurrent_gateway_").unwrap_or(name)].map(|name| format!("\"{name}\""));
    rust_below("src").iter().any(|source| names.iter().any(|name| source.text.contains(name)))
}

/// Panel title and expression, for every target of every dashboard.
fn panel_queries() -> Vec<(String, String)> {
    dashboards().iter().flat_map(|dashboard| targets(&dashboard["panels"])).collect()
}

fn targets(panels: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in panels.as_array().into_iter().flatten() {
        let title = panel["title"].as_str().unwrap_or("untitled");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap_or_else(|| panic!("{title}: a target without a query"));
            found.push((title.to_owned(), without_variables(expression)));
        }
        // Rows hold panels.
        found.extend(targets(&panel["panels"]));
    }
    found
}

/// Grafana fills in its variables before it asks.
fn without_variables(expression: &str) -> String {
    let durations = ["$__rate_interval", "$__interval", "$__range"];
    let mut query = durations.iter().fold(expression.to_owned(), |query, name| query.replace(name, "1m"));
    while let Some(start) = query.find('$') {
        let name = query[start + 1..].trim_start_matches('{');
        let rest = name.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter));
        let end = query.len() - rest.trim_start_matches('}').len();
        query.replace_range(start..end, ".*");
    }
    query
}

fn dashboards() -> Vec<Value> {
    let directory: PathBuf = root().join("config/grafana/dashboards");
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let files = entries.map(|entry| entry.expect("an entry").path());
    let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    json.map(|path| {
        let text = fs::read_to_string(&path).expect("a dashboard is text");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
    .collect()
}
