//! The official clients, each running the same scripted scenario as a process of its own.

use std::process::Stdio;

use serde_json::{Value, json};

use super::command::Words;
use super::parts::{node_script, python_script};
use super::process::Process;
use super::raw::read_all;

/// Which client, in which protocol era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// npm `@modelcontextprotocol/sdk` 1.x.
    TypeScriptV1,
    /// npm `@modelcontextprotocol/client` 2.x with `initialize`.
    TypeScriptV2Legacy,
    /// npm `@modelcontextprotocol/client` 2.x, stateless.
    TypeScriptV2,
    /// PyPI `mcp` with `initialize`.
    PythonLegacy,
    /// PyPI `mcp`, stateless.
    Python,
}

/// Every client that can talk to a server of the legacy era only.
pub(crate) const LEGACY: [Client; 3] = [Client::TypeScriptV1, Client::TypeScriptV2Legacy, Client::PythonLegacy];

/// Every client, for servers of both eras.
pub(crate) const ALL: [Client; 5] =
    [Client::TypeScriptV1, Client::TypeScriptV2Legacy, Client::TypeScriptV2, Client::PythonLegacy, Client::Python];

impl Client {
    pub(crate) fn is_modern(self) -> bool {
        matches!(self, Self::TypeScriptV2 | Self::Python)
    }

    /// One of the scripts, `NAME_v1.mjs`, `NAME_v2.mjs` and `NAME.py`, which this client is the one of.
    #[track_caller]
    pub(crate) fn words(self, name: &str) -> Words {
        let script = match self {
            Self::TypeScriptV1 => node_script(&format!("{name}_v1.mjs")),
            Self::TypeScriptV2Legacy | Self::TypeScriptV2 => node_script(&format!("{name}_v2.mjs")),
            Self::PythonLegacy | Self::Python => python_script(&format!("{name}.py")),
        };
        script.and("--era").and(if self.is_modern() { "modern" } else { "legacy" })
    }
}

/// What a server is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Calls(Vec<Value>);

impl Calls {
    pub(crate) fn of(calls: impl Into<Vec<Value>>) -> Self {
        Self(calls.into())
    }

    /// For server-everything: plain, structured, with progress, and with an error.
    pub(crate) fn everything() -> Self {
        Self::of([
            json!({"name": "echo", "arguments": {"message": "hi — ünïcode \u{1F30A}"}}),
            json!({"name": "get-sum", "arguments": {"a": 1, "b": 2.5}}),
            json!({"name": "get-structured-content", "arguments": {"location": "New York"}}),
            json!({"name": "trigger-long-running-operation", "arguments": {"duration": 0.2, "steps": 2}, "progress": true}),
            json!({"name": "get-sum", "arguments": {"a": "not a number"}}),
        ])
    }

    /// For server-filesystem, allowed to see `directory` with a file `note.txt`.
    pub(crate) fn filesystem(directory: &std::path::Path) -> Self {
        let note = directory.join("note.txt");
        Self::of([
            json!({"name": "list_directory", "arguments": {"path": directory}}),
            json!({"name": "read_text_file", "arguments": {"path": note}}),
            json!({"name": "write_file", "arguments": {"path": directory.join("new.txt"), "content": "written\n"}}),
            json!({"name": "read_text_file", "arguments": {"path": directory.join("absent.txt")}}),
        ])
    }

    /// For mcp-server-time.
    pub(crate) fn time() -> Self {
        Self::of([
            json!({"name": "get_current_time", "arguments": {"timezone": "UTC"}}),
            json!({"name": "convert_time", "arguments": {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}}),
            json!({"name": "get_current_time", "arguments": {"timezone": "Nowhere/Land"}}),
        ])
    }

    /// For the project's own demo server.
    pub(crate) fn demo() -> Self {
        Self::of([
            json!({"name": "list_files", "arguments": {}}),
            json!({"name": "get_balance", "arguments": {}}),
            json!({"name": "read_file", "arguments": {"path": "no/such/file"}}),
        ])
    }

    /// The same tools as an endpoint of several servers names them.
    pub(crate) fn of_upstream(mut self, upstream: &str) -> Self {
        for call in &mut self.0 {
            call["name"] = format!("{upstream}__{}", call["name"].as_str().unwrap_or_default()).into();
        }
        self
    }

    /// These, and then others.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn with_progress(&self) -> bool {
        self.0.iter().any(|call| call["progress"] == true)
    }
}

/// Where a client finds its server.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Url(String),
    Command(Words),
}

impl Target {
    /// The client's command with where its server is.
    pub(crate) fn behind(&self, client: Words) -> Words {
        match self {
            Self::Url(url) => client.and("--url").and(url),
            Self::Command(server) => client.and("--stdio").running(server),
        }
    }
}

/// What a client received, parsed, and its own account of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) received: Vec<Value>,
    pub(crate) done: Value,
}

/// Runs a client's scenario to its end and asserts that the client was content.
#[track_caller]
pub(crate) fn run(client: Client, target: &Target, calls: &Calls) -> Report {
    let mut words = client.words("client");
    for call in &calls.0 {
        words = words.and("--call").and(call.to_string());
    }
    let report = finish(client, target.behind(words));
    let done = &report.done;
    assert_eq!(done["calls"], calls.len(), "{client:?}: {done}");
    assert_eq!(done["era"], if client.is_modern() { "modern" } else { "legacy" }, "{client:?}: {done}");
    assert!(done["tools"].as_u64() > Some(0), "{client:?} saw no tools: {done}");
    assert!(!calls.with_progress() || done["progress"].as_u64() >= Some(1), "{client:?} saw no progress: {done}");
    report
}

/// Runs a client to its end, and takes its lines apart.
#[track_caller]
pub(crate) fn finish(client: Client, words: Words) -> Report {
    let mut command = words.command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start(&format!("{client:?}"), command);
    let output = read_all(process.take_stdout());
    let status = process.wait();
    let output = output.join().expect("the reader does not panic");
    let mut lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{client:?}: {error}: {line}")))
        .collect();
    let last = lines.pop().unwrap_or_default();
    assert!(status.success() && last.get("done").is_some(), "{client:?} failed: {last}\n{}", process.stderr());
    Report { received: lines.into_iter().map(|mut line| line["received"].take()).collect(), done: last["done"].clone() }
}
