use super::*;

const LINE: &str = "undercurrent";

fn edited(text: &str, servers: &Location, action: &Action<'_>) -> (String, Vec<ServerReport>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcp.json");
    std::fs::write(&path, text).unwrap();
    let location = Location { path: path.clone(), ..servers.clone() };
    let mut report = FileReport {
        client: location.client,
        path: path.clone(),
        shared: false,
        servers: Vec::new(),
        change: None,
        error: None,
    };
    let around = Surroundings { os: Os::Linux, env: BTreeMap::new(), project: "/".into() };
    let action = match action {
        Action::Install(install) => Action::Install(Install {
            program: install.program.clone(),
            shared_program: install.shared_program.clone(),
            data: install.data.clone(),
            gateway: None,
        }),
        Action::Uninstall => Action::Uninstall,
    };
    let options = Options { clients: Vec::new(), names: Vec::new(), dry_run: false, surroundings: around, action };
    one_file(&options, &location, &mut report).unwrap();
    (std::fs::read_to_string(&path).unwrap(), report.servers)
}

fn location(client: Client) -> Location {
    let env = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
    let around = Surroundings { os: Os::Linux, env, project: "/".into() };
    locations(&[client], &around).remove(0)
}

fn install() -> Action<'static> {
    Action::Install(Install { program: LINE.into(), shared_program: LINE.into(), data: None, gateway: None })
}

/// Installs, checks the result, installs again and uninstalls.
fn check(text: &str, expect: &str) {
    let cursor = location(Client::Cursor);
    let (installed, _) = edited(text, &cursor, &install());
    assert_eq!(installed, expect);
    assert_eq!(edited(&installed, &cursor, &install()).0, installed, "a second time");
    assert_eq!(edited(&installed, &cursor, &Action::Uninstall).0, text, "and back");
}

#[test]
fn arguments_grow_at_their_beginning_and_all_else_stays() {
    check(
        "{ // ours\n\t\"mcpServers\": {\n\t\t\"files\": { \"command\" : \"npx\", /* why */ \"args\": [ // first\n\t\t\t\"-y\",\n\t\t\t\"a b\",\n\t\t], \"env\": {\"A\": \"b\"} },\n\t},\n}\r\n",
        "{ // ours\n\t\"mcpServers\": {\n\t\t\"files\": { \"command\" : \"undercurrent\", /* why */ \"args\": [ // first\n\t\t\t\"wrap\", \"--name\", \"files\", \"--\", \"npx\", \"-y\",\n\t\t\t\"a b\",\n\t\t], \"env\": {\"A\": \"b\"} },\n\t},\n}\r\n",
    );
}

#[test]
fn an_entry_without_arguments_gets_and_loses_them() {
    check(
        "{\"mcpServers\":{\"My Srv\":{\"command\":\"C:\\\\srv.exe\",\"env\":{}}}}",
        "{\"mcpServers\":{\"My Srv\":{\"command\":\"undercurrent\", \"args\": [\"wrap\", \"--name=my-srv\", \"--\", \"C:\\\\srv.exe\"],\"env\":{}}}}",
    );
    check(
        "{\"mcpServers\": {\n  \"a\": {\n    \"command\": \"a\"\n  }\n}}",
        "{\"mcpServers\": {\n  \"a\": {\n    \"command\": \"undercurrent\",\n    \"args\": [\"wrap\", \"--name=a\", \"--\", \"a\"]\n  }\n}}",
    );
    check(
        "{\"mcpServers\": {\"a\": {\"args\": [ ], \"command\": \"a\"}}}",
        "{\"mcpServers\": {\"a\": {\"args\": [\"wrap\", \"--name\", \"a\", \"--\", \"a\" ], \"command\": \"undercurrent\"}}}",
    );
}

#[test]
fn servers_of_projects_are_found_and_those_of_other_keys_are_not() {
    let text = r#"{"mcpServers":{"a":{"command":"a"}},"projects":{"/p":{"mcpServers":{"b":{"command":"b","args":[]}}}},"other":{"mcpServers":{"c":{"command":"c"}}}}"#;
    let (installed, servers) = edited(text, &location(Client::ClaudeCode), &install());
    assert_eq!(servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(installed.contains(r#""c":{"command":"c"}"#), "{installed}");
    assert_eq!(edited(&installed, &location(Client::ClaudeCode), &Action::Uninstall).0, text);
}

#[test]
fn what_cannot_be_wrapped_is_left_with_a_reason() {
    let check = |entry: &str, reason: &str| {
        let text = format!("{{\"mcpServers\":{{\"a\":{entry}}}}}");
        let (after, servers) = edited(&text, &location(Client::Cursor), &install());
        assert_eq!(after, text);
        assert!(matches!(&servers[0].outcome, Outcome::Left(why) if why.contains(reason)), "{servers:?}");
    };
    check("3", "no object");
    check("{}", "neither a command nor a URL");
    check(r#"{"command":"npx -y server"}"#, "line for a shell");
    check(r#"{"command":"npx","args":["-y",1]}"#, "not a list of texts");
    check(r#"{"command":"npx","args":"-y"}"#, "not a list of texts");
    check(r#"{"url":"https://a/mcp"}"#, "--gateway URL");
    check(r#"{"type":"sse","url":"https://a/sse"}"#, "HTTP+SSE");
}

#[test]
fn two_names_that_become_one_are_told_apart() {
    let text = r#"{"mcpServers":{"A b":{"command":"x"},"a-b":{"command":"y"}}}"#;
    let (_, servers) = edited(text, &location(Client::Cursor), &install());
    assert!(matches!(servers[0].outcome, Outcome::Changed(_)));
    assert!(matches!(&servers[1].outcome, Outcome::Left(why) if why.contains("`A b`")), "{servers:?}");
}

#[test]
fn an_entry_that_was_wrapped_by_hand_is_unwrapped() {
    let text = r#"{"mcpServers":{"a":{"command":"/usr/bin/undercurrent","args":["wrap","--data","/d","--name","a","--","npx","-y","s","more"]}}}"#;
    let expect = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","s","more"]}}}"#;
    assert_eq!(edited(text, &location(Client::Cursor), &Action::Uninstall).0, expect);
}
