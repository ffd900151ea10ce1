//! Settings that change while the gateway serves: taken as a whole, or refused as a whole, and nobody is cut off.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::support::fake::{respond, upstream};
use crate::support::gateway::{Gateway, Serve};
use crate::support::http::{get, request};
use crate::support::parts::{server_demo, undercurrent};
use crate::support::raw::{HttpSession, POST_HEADERS};
use crate::support::wait::wait_until;

const RELOADS: &str = "undercurrent_config_reloads_total";
const PING: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Writes the settings, and waits until the gateway has had a look: the outcome is counted.
fn set(gateway: &Gateway, file: &Path, settings: &str, outcome: &str) {
    let series = format!("{RELOADS}{{outcome=\"{outcome}\"}}");
    let before = gateway.metrics().sum(&series);
    std::fs::write(file, settings).expect("write the settings");
    gateway.process.signal("HUP");
    wait_until("the settings are looked at", || gateway.metrics().sum(&series) > before);
}

fn status(gateway: &Gateway, path: &str, authorization: Option<&str>) -> u16 {
    let mut headers = POST_HEADERS.to_vec();
    headers.extend(authorization.map(|value| ("Authorization", value)));
    request(gateway.listen, "POST", path, &headers, PING).status()
}

#[test]
fn settings_change_while_it_serves() {
    let data = TempDir::new().expect("a temporary directory");
    let file = data.path().join("undercurrent.toml");
    let fake = upstream(|_, socket| respond(socket, "200 OK", "", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    let demo = server_demo();
    let stdio = format!("[upstreams.demo]\ncommand = {}\n", json!(demo.line().split(' ').next()));
    let arguments = json!(demo.line().split(' ').skip(1).collect::<Vec<_>>());
    let stdio = format!("{stdio}args = {arguments}\n");
    let with = |more: &str| format!("{stdio}[upstreams.fake]\nurl = \"http://{fake}/mcp\"\n{more}");
    std::fs::write(&file, with("")).expect("write the settings");
    let config = file.to_str().expect("a path in UTF-8");
    let gateway = Serve::new(&data.path().join("data")).with("--config", config).start();
    let session = HttpSession::connect(gateway.listen, "/mcp/demo");
    assert_eq!(status(&gateway, "/mcp/fake", None), 200);

    // A new name, and the old ones stay; the session's child is the one that it had.
    set(&gateway, &file, &with(&format!("[upstreams.second]\nurl = \"http://{fake}/mcp\"\n")), "taken");
    assert_eq!(status(&gateway, "/mcp/second", None), 200);
    assert!(get(gateway.admin, "/status").text().contains("/mcp/second"));
    session.call(2, "list_emails", &json!({}));

    // What is wrong, or needs a restart, changes nothing at all.
    set(&gateway, &file, &with("[upstreams.third]\nurl = 7\n"), "refused");
    set(&gateway, &file, &(with("[log]\npartitions = 3\n")), "refused");
    wait_until("the reason is said", || gateway.process.stderr().contains("need a restart: log"));
    assert_eq!(status(&gateway, "/mcp/second", None), 200);
    assert_eq!(gateway.metrics().sum("undercurrent_config_current"), 0.0);

    // A key as the command makes it.
    let made = Command::new(undercurrent()).args(["key", "alice"]).stdin(Stdio::null()).output().expect("make a key");
    let (key, said) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    let line = said.lines().last().expect("the line for the settings").trim();
    set(&gateway, &file, &with(&format!("[auth]\n{line}\n")), "taken");
    assert_eq!(gateway.metrics().sum("undercurrent_config_current"), 1.0);
    assert_eq!(status(&gateway, "/mcp/fake", None), 401);
    assert_eq!(status(&gateway, "/mcp/fake", Some("Bearer uck_wrong")), 401);
    assert_eq!(status(&gateway, "/mcp/fake", Some(&format!("Bearer {}", key.trim()))), 200);
    assert!(!gateway.process.stderr().contains(key.trim()), "a key is never logged");
    gateway.stop();
}
