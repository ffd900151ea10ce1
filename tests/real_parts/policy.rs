//! Policy with the built binary: what may not be called, and what waits for a person who uses the command line.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Serve};
use crate::support::parts::{server_demo, undercurrent};
use crate::support::raw::{HttpSession, tools_call};
use crate::support::wait::wait_for;

const POLICY: &str = r#"
mode = "enforce"
[rules]
hold_always = ["send_email"]
[[access]]
upstreams = ["demo"]
tools = ["write_*"]
allow = false
"#;

/// `undercurrent hold …`, beside the gateway.
fn hold(gateway: &Gateway, data: &std::path::Path, words: &[&str]) -> Output {
    let mut command = Command::new(undercurrent());
    command.args(["hold", "--admin", &gateway.admin.to_string(), "--data"]).arg(data).args(words);
    command.stdin(Stdio::null()).output().expect("run undercurrent hold")
}

/// What waits, as the command shows it: the ticket, and all of it.
fn waiting(gateway: &Gateway, data: &std::path::Path) -> (String, String) {
    wait_for("a call waits for a person", || {
        let listed = hold(gateway, data, &["list"]);
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let ticket = text.split_whitespace().next().filter(|word| word.len() == 16)?.to_owned();
        Some((ticket, text))
    })
}

#[test]
fn a_person_is_asked_and_what_is_forbidden_is_not_even_listed() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let policy = directory.path().join("policy.toml");
    std::fs::write(&policy, POLICY).expect("write the policy");
    let gateway = Serve::new(&data)
        .upstream("demo", &server_demo().line())
        .setting("POLICY__FILE", policy.to_str().expect("a path in UTF-8"))
        .start();
    let session = HttpSession::connect(gateway.listen, "/mcp/demo");

    let listed = session.post(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).text();
    assert!(listed.contains("read_file") && !listed.contains("write_file"), "{listed}");
    let ask = |id: u64, tool: &str, arguments: &Value| -> Value {
        session.post(tools_call(id, tool, arguments).to_string().as_bytes()).json()
    };
    let refused = ask(2, "write_file", &json!({"path": "/a", "content": "b"}));
    assert_eq!(refused["error"]["data"]["reason"], "tool_not_allowed", "{refused}");

    let mail = json!({"to": "someone@example.com", "subject": "hello", "body": "world"});
    for (answer, expect) in [("approve", "result"), ("deny", "error")] {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| ask(3, "send_email", &mail));
            let (ticket, text) = waiting(&gateway, &data);
            assert!(text.contains("calls `send_email` of demo") && text.contains("someone@example.com"), "{text}");
            let answered = hold(&gateway, &data, &[answer, &ticket]);
            assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
            let got = asked.join().expect("the call ends");
            assert!(got.get(expect).is_some(), "{answer}: {got}");
        });
    }
    let twice = hold(&gateway, &data, &["approve", "0123456789abcdef"]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("no such ticket"), "{twice:?}");
    // Who is not the owner of the data has no token; who waits is never in the log.
    assert!(!gateway.process.stderr().contains("someone@example.com"));
    gateway.stop();
}
