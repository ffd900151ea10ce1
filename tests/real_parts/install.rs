//! `undercurrent install` and `uninstall` in a home directory of their own, and what the installed entries run.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::command::Words;
use crate::support::gateway::Serve;
use crate::support::parts::{HttpServer, server_demo, undercurrent};
use crate::support::raw::{HttpSession, StdioPeer};

/// A user with a project.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().expect("a temporary directory"));
        fs::create_dir(home.path("project")).expect("make a directory");
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("make directories");
        fs::write(path, text).expect("write a file");
    }

    #[track_caller]
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Runs the command as this user, in the project.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(undercurrent());
        command.args(arguments).current_dir(self.path("project"));
        command.env_remove("XDG_CONFIG_HOME").env_remove("CLAUDE_CONFIG_DIR");
        command.env("HOME", self.0.path()).env("UNDERCURRENT_DATA", self.path("data"));
        command.output().expect("run undercurrent")
    }

    /// Runs it and gives what it says.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// Where user and project keep servers, and how: each client's own quirks are in its text.
fn files() -> [(&'static str, String); 6] {
    let demo = server_demo().line();
    let (program, arguments) = demo.split_once(' ').expect("a program with arguments");
    let arguments = json!(arguments.split(' ').collect::<Vec<_>>()).to_string();
    let desktop = format!(
        "{{\n  \"mcpServers\": {{\n    \"Demo\": {{ \"command\": \"{program}\", \"args\": {arguments} }}\n  }},\n  \"theme\":   \"dark\"\n}}\n"
    );
    let code = format!(
        "{{\"numStartups\":3,\"mcpServers\":{{\"demo\":{{\"type\":\"stdio\",\"command\":\"{program}\",\"args\":{arguments},\"env\":{{}}}}}},\
         \"projects\":{{\"/p\":{{\"mcpServers\":{{\"local\":{{\"command\":\"local-server\"}}}}}}}}}}"
    );
    let vscode = "\u{feff}{\r\n\t// mine\r\n\t\"servers\": {\r\n\t\t\"files\": {\r\n\t\t\t\"type\": \"stdio\", // typed\r\n\t\t\t\"command\": \"npx\",\r\n\
                  \t\t\t\"args\": [\r\n\t\t\t\t\"-y\", /* yes */\r\n\t\t\t\t\"${input:package}\",\r\n\t\t\t],\r\n\t\t},\r\n\
                  \t\t\"web\": { \"type\": \"http\", \"url\": \"https://example.com/mcp\" },\r\n\t},\r\n\
                  \t\"inputs\": [ { \"id\": \"package\", \"type\": \"promptString\", \"description\": \"which\" } ],\r\n}\r\n";
    [
        (".config/Claude/claude_desktop_config.json", desktop),
        (".claude.json", code),
        (".cursor/mcp.json", "{\"mcpServers\":{\"a\":{\"command\":\"a\"}}}".to_owned()),
        (".config/Code/User/mcp.json", vscode.to_owned()),
        ("project/.mcp.json", "{\n \"mcpServers\" : { \"b\" : { \"command\":\"b\" , \"args\":[] } }\n}".to_owned()),
        ("project/.vscode/mcp.json", "{ \"servers\": {} }\n".to_owned()),
    ]
}

/// Every entry that runs a command runs through us, and a wrapped one is a server like any other; a second time changes
/// nothing, and taking it back leaves every file as it was, byte for byte.
#[test]
fn servers_are_wrapped_and_unwrapped() {
    let home = Home::new();
    for (path, text) in files() {
        home.write(path, &text);
    }
    fs::set_permissions(home.path(".claude.json"), fs::Permissions::from_mode(0o600)).expect("set a mode");
    // Whoever keeps settings elsewhere has a link here.
    fs::rename(home.path(".cursor/mcp.json"), home.path("kept.json")).expect("move a file");
    symlink("../kept.json", home.path(".cursor/mcp.json")).expect("make a link");

    let diff = home.says(&["install", "--dry-run"]);
    assert!(diff.contains("+      \"command\": ") || diff.contains("\"wrap\", \"--name\", \"files\""), "{diff}");
    for (path, text) in files() {
        assert_eq!(home.read(path), text, "a dry run changes nothing");
    }

    let said = home.says(&["install"]);
    assert!(said.contains("web") && said.contains("--gateway URL"), "{said}");
    let installed: Vec<String> = files().iter().map(|(path, _)| home.read(path)).collect();
    for ((path, before), after) in files().iter().zip(&installed) {
        assert_eq!(before == after, path.ends_with(".vscode/mcp.json"), "{path}: {after}");
        if before != after {
            assert_eq!(
                &home.read(&format!("{path}.before-undercurrent").replace(".cursor/mcp.json", "kept.json")),
                before
            );
        }
    }
    assert_eq!(fs::metadata(home.path(".claude.json")).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(fs::symlink_metadata(home.path(".cursor/mcp.json")).expect("a link").is_symlink());

    let desktop: Value = serde_json::from_str(&installed[0]).expect("JSON");
    runs(&home, &desktop["mcpServers"]["Demo"], "demo");

    let again = home.says(&["install"]);
    assert!(again.contains("Nothing to change."), "{again}");
    home.says(&["uninstall"]);
    for (path, text) in files() {
        assert_eq!(home.read(path), text, "{path}");
    }
}

/// The entry's command is a server, and what passes it is learned under the entry's name.
#[track_caller]
fn runs(home: &Home, entry: &Value, name: &str) {
    let words = entry["args"].as_array().expect("arguments").iter().map(|word| word.as_str().expect("a text"));
    let words = Words::new("env")
        .and(format!("UNDERCURRENT_DATA={}", home.path("data").display()))
        .and(entry["command"].as_str().expect("a command"))
        .and_all(words);
    assert!(words.line().contains(&format!("wrap --name {name} --")), "{words:?}");
    let mut peer = StdioPeer::connect("an installed entry", &words);
    let tools = peer.ask(&json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {}}));
    assert!(tools["result"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{tools}");
}

/// An entry that came later stays, and the first backup is the one that is kept.
#[test]
fn entries_that_came_later_stay() {
    let home = Home::new();
    let first = "{\"mcpServers\":{\"a\":{\"command\":\"a\"}}}";
    home.write(".cursor/mcp.json", first);
    home.says(&["install", "--client", "cursor"]);
    let later =
        home.read(".cursor/mcp.json").replace("\"mcpServers\":{", "\"mcpServers\":{\"b\":{\"command\":\"b\"}, ");
    home.write(".cursor/mcp.json", &later);
    home.says(&["install", "--client", "cursor", "--name", "b"]);
    assert_eq!(home.read(".cursor/mcp.json.before-undercurrent"), first);
    home.says(&["uninstall", "--client", "cursor", "--name", "a"]);
    let now: Value = serde_json::from_str(&home.read(".cursor/mcp.json")).expect("JSON");
    assert_eq!(now["mcpServers"]["a"], json!({"command": "a"}));
    assert_eq!(now["mcpServers"]["b"]["args"][0], "wrap");
    let unknown = home.run(&["install", "--name", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stdout).contains("No file has a server `nobody`"));
}

/// A file that cannot be read is named, with line and column, and stays; the others are done.
#[test]
fn a_broken_file_is_left_alone() {
    let home = Home::new();
    home.write(".cursor/mcp.json", "{\n  \"mcpServers\": oops\n}");
    home.write("project/.mcp.json", "{\"mcpServers\":{\"a\":{\"command\":\"a\"}}}");
    let output = home.run(&["install"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("mcp.json:2:17"), "{said}");
    assert_eq!(home.read(".cursor/mcp.json"), "{\n  \"mcpServers\": oops\n}");
    assert!(home.read("project/.mcp.json").contains("wrap"));
    assert!(!Path::new(&home.path(".cursor/mcp.json.before-undercurrent")).exists());
}

/// An entry with a URL goes to a gateway that serves it, and back to where it went before.
#[test]
fn urls_go_to_a_gateway_that_serves_them() {
    let home = Home::new();
    let server = HttpServer::demo();
    let gateway = Serve::new(&home.path("served")).upstream("web", &server.url()).start();
    let text = format!(
        "{{\"mcpServers\":{{\"web\":{{\"url\": \"{}\"}}, \"other\":{{\"url\":\"https://example.com/mcp\"}}}}}}",
        server.url()
    );
    home.write(".cursor/mcp.json", &text);
    let url = format!("http://{}", gateway.listen);
    let said = home.says(&["install", "--client", "cursor", "--gateway", &url]);
    assert!(said.contains("the gateway does not serve `other`: no upstream `other`"), "{said}");
    let now = home.read(".cursor/mcp.json");
    assert_eq!(now, text.replace(&server.url(), &format!("{url}/mcp/web")));
    assert!(home.says(&["install", "--client", "cursor", "--gateway", &url]).contains("Nothing to change."));
    home.says(&["uninstall"]);
    assert_eq!(home.read(".cursor/mcp.json"), text);
    assert!(!home.path(".cursor/mcp.json.undercurrent-urls.json").exists());
}

/// What clients keep can be served as it is: `serve --mcp-json`, with comments, a server by command and one by URL.
#[test]
fn a_clients_file_is_served() {
    let home = Home::new();
    let server = HttpServer::demo();
    let demo = server_demo().line();
    let (program, arguments) = demo.split_once(' ').expect("a program with arguments");
    let arguments = json!(arguments.split(' ').collect::<Vec<_>>());
    let text = format!(
        "{{ // two servers\n\"servers\": {{ \"My Pipe\": {{ \"type\": \"stdio\", \"command\": \"{program}\", \"args\": {arguments} }},\n\
         \"web\": {{ \"type\": \"http\", \"url\": \"{}\" }}, }}, \"inputs\": [] }}",
        server.url()
    );
    home.write("mcp.json", &text);
    let file = home.path("mcp.json");
    let gateway = Serve::new(&home.path("served")).with("--mcp-json", file.to_str().expect("paths are UTF-8")).start();
    for name in ["my-pipe", "web"] {
        let session = HttpSession::connect(gateway.listen, &format!("/mcp/{name}"));
        let list = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {}});
        let tools = session.post(list.to_string().as_bytes()).json();
        assert!(tools["result"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{name}: {tools}");
    }
    gateway.stop();
}
