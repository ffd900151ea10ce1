//! The README's snippets: each parsed in the format that its client documents, and what it names started.
//!
//! The desktop clients themselves do not run here; what they would read does.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::command::Words;
use crate::support::gateway::Serve;
use crate::support::parts::{
    HttpServer, root, server_demo, server_everything, server_filesystem, server_time, undercurrent,
};
use crate::support::raw::{HttpSession, StdioPeer};

/// A client and what its documents say of its file.
struct Format {
    client: &'static str,
    /// The key of the object that holds the servers.
    servers: &'static str,
    /// Whether a server may be given by URL, and what must stand beside the URL.
    url: Url,
}

enum Url {
    /// The client reads commands alone from its file.
    Never,
    Plain,
    /// `"type": "http"` is required.
    Typed,
}

const FORMATS: [Format; 4] = [
    Format { client: "Claude Desktop", servers: "mcpServers", url: Url::Never },
    Format { client: "Cursor", servers: "mcpServers", url: Url::Plain },
    Format { client: "VS Code", servers: "servers", url: Url::Typed },
    Format { client: "Claude Code", servers: "mcpServers", url: Url::Typed },
];

#[test]
fn claude_desktop() {
    check("Claude Desktop");
}

#[test]
fn cursor() {
    check("Cursor");
}

#[test]
fn vs_code() {
    check("VS Code");
}

#[test]
fn claude_code() {
    check("Claude Code");
}

fn check(client: &str) {
    let format = FORMATS.iter().find(|format| format.client == client).expect("a client with a format");
    let readme = fs::read_to_string(root().join("README.md")).expect("read README.md");
    let snippets = snippets(&readme, client);
    assert!(!snippets.is_empty(), "README.md has no ```json snippet for {client}");
    for snippet in snippets {
        let file: Value = serde_json::from_str(&snippet).unwrap_or_else(|error| panic!("{client}: {error}: {snippet}"));
        let servers =
            file[format.servers].as_object().unwrap_or_else(|| panic!("{client}: no {}: {file}", format.servers));
        assert_eq!(file.as_object().map(Map::len), Some(1), "{client}: nothing beside {}: {file}", format.servers);
        for server in servers.values() {
            check_server(format, server.as_object().unwrap_or_else(|| panic!("{client}: {server}")));
        }
    }
}

/// The JSON blocks that belong to a client: those under the last line before them that names any client.
fn snippets(readme: &str, client: &str) -> Vec<String> {
    let mut snippets = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    let mut block: Option<String> = None;
    for line in readme.lines() {
        match &mut block {
            Some(_) if line.trim() == "```" => snippets.extend(block.take().filter(|_| named.contains(&client))),
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
            None if line.trim_start().starts_with("```json") => block = Some(String::new()),
            None => {
                let here: Vec<&str> =
                    FORMATS.iter().map(|format| format.client).filter(|client| line.contains(client)).collect();
                if !here.is_empty() {
                    named = here;
                }
            }
        }
    }
    snippets
}

fn check_server(format: &Format, server: &Map<String, Value>) {
    let client = format.client;
    if let Some(url) = server.get("url") {
        match format.url {
            Url::Never => panic!("{client} reads no URL from its file: {server:?}"),
            Url::Plain => {}
            Url::Typed => assert_eq!(server.get("type"), Some(&json!("http")), "{client}: {server:?}"),
        }
        return check_url(url.as_str().expect("a URL is a string"));
    }
    assert!(server.get("type").is_none_or(|kind| kind == "stdio"), "{client}: {server:?}");
    let command = server.get("command").and_then(Value::as_str).unwrap_or_else(|| panic!("{client}: {server:?}"));
    let arguments = server.get("args").and_then(Value::as_array).cloned().unwrap_or_default();
    let arguments: Vec<String> =
        arguments.iter().map(|word| word.as_str().expect("arguments are strings").to_owned()).collect();
    assert_eq!(command, "undercurrent", "{client}: the command is ours");
    check_wrap(&arguments);
}

/// A gateway on the port of the snippet would be the reader's own: the test's has another, and the same path.
fn check_url(url: &str) {
    let path = url.strip_prefix("http://127.0.0.1:8808").unwrap_or_else(|| panic!("not the default address: {url}"));
    let upstream = path.strip_prefix("/mcp/").unwrap_or_else(|| panic!("not an endpoint: {url}"));
    let data = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let gateway = Serve::new(data.path()).upstream(upstream, &server.url()).start();
    HttpSession::connect(gateway.listen, path).call(1, "get_balance", &json!({}));
}

fn check_wrap(arguments: &[String]) {
    let at = arguments.iter().position(|word| word == "--").unwrap_or_else(|| panic!("no --: {arguments:?}"));
    let (ours, server) = (&arguments[..at], &arguments[at + 1..]);
    assert!(ours.first().is_some_and(|word| word == "wrap"), "{arguments:?}");
    let directory = TempDir::new().expect("a temporary directory");
    let files = crate::clients_http::office_files(directory.path());
    let words = Words::new("env")
        .and(format!("UNDERCURRENT_DATA={}", directory.path().join("data").display()))
        .and(undercurrent())
        .and_all(ours)
        .and("--")
        .running(&installed(server, &files));
    let mut peer = StdioPeer::connect("the snippet's command", &words);
    let answer = peer.ask(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    assert!(answer["result"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{answer}");
    peer.finish();
}

/// The pinned copy of a server that the snippet would have a package runner fetch.
fn installed(server: &[String], files: &Path) -> Words {
    let named = |name: &str| server.iter().any(|word| word.contains(name));
    if named("server-filesystem") {
        server_filesystem(files)
    } else if named("server-everything") {
        server_everything()
    } else if named("mcp-server-time") {
        server_time()
    } else if named("undercurrent-demo") {
        server_demo()
    } else {
        panic!("the snippet runs {server:?}, which tests/parts does not install")
    }
}
