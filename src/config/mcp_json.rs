//! Upstreams from an MCP client's own configuration: the `mcpServers` of Claude Desktop, Cursor and Claude Code, the
//! `servers` of VS Code.
//!
//! Not everything there can be taken over; what is left out is said in a note, never dropped silently.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::Override;
use super::error::{ConfigError, Place, Problem};
use super::upstream::UpstreamName;

/// What a client's file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct McpJson {
    /// One per server.
    pub upstreams: Vec<Override>,
    /// What could not be taken over, in words. No values.
    pub notes: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(alias = "servers", rename = "mcpServers")]
    servers: BTreeMap<String, Entry>,
}

/// Clients add keys of their own: unknown ones are not ours to refuse.
#[derive(Deserialize)]
struct Entry {
    url: Option<String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    cwd: Option<String>,
    #[serde(default)]
    disabled: bool,
}

/// Reads a client's configuration file; `env` fills in `${NAME}` and `${env:NAME}`.
pub fn read(path: &Path, env: &BTreeMap<String, String>) -> Result<McpJson, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::from(Problem::Read { path: path.to_owned(), source }))?;
    parse(path, &text, env)
}

fn parse(path: &Path, text: &str, env: &BTreeMap<String, String>) -> Result<McpJson, ConfigError> {
    let file: File = serde_json::from_str(&without_comments(text)).map_err(|error| {
        ConfigError::from(Problem::Syntax {
            place: Place::File { path: path.to_owned(), line: error.line(), column: error.column() },
            format: "client configuration (JSON with `mcpServers` or `servers`)",
            problem: error.to_string(),
        })
    })?;
    let mut found = McpJson::default();
    let mut names = BTreeMap::new();
    for (client_name, entry) in file.servers {
        if entry.disabled {
            found.notes.push(format!("server `{client_name}` is disabled there and left out"));
            continue;
        }
        if entry.cwd.is_some() {
            found
                .notes
                .push(format!("server `{client_name}` names a working directory: it starts in that of the gateway"));
        }
        let wrong = |value: &str, problem: String, remedy: &str| {
            ConfigError::from(Problem::Value {
                place: Place::WholeFile(path.to_owned()),
                key: format!("mcpServers.{client_name}"),
                value: value.to_owned(),
                problem,
                remedy: remedy.to_owned(),
            })
        };
        let name = upstream_name(&client_name)
            .ok_or_else(|| wrong("its name", "no letter or digit in it".into(), "rename it"))?;
        if let Some(earlier) = names.insert(name.clone(), client_name.clone()) {
            return Err(wrong("its name", format!("becomes `{name}`, as `{earlier}` does"), "rename one of them"));
        }
        if name != client_name {
            found.notes.push(format!("server `{client_name}` is named `{name}` here"));
        }
        let table = entry.table(env).map_err(|variable| {
            let problem = format!("`{variable}` is not known here");
            wrong("(not shown)", problem, "set that variable, or give the upstream with --upstream")
        })?;
        found.upstreams.push(Override::new(["upstreams", &name], table, Place::WholeFile(path.to_owned())));
    }
    Ok(found)
}

impl Entry {
    fn table(self, env: &BTreeMap<String, String>) -> Result<Table, String> {
        let fill = |text: &String| expand(text, env).map(Value::String);
        let mut table = Table::new();
        for (key, value) in [("url", &self.url), ("command", &self.command)] {
            if let Some(value) = value {
                table.insert(key.into(), fill(value)?);
            }
        }
        if !self.args.is_empty() {
            table.insert("args".into(), Value::Array(self.args.iter().map(fill).collect::<Result<_, _>>()?));
        }
        if !self.env.is_empty() {
            let filled = self.env.iter().map(|(name, value)| Ok((name.clone(), fill(value)?)));
            table.insert("env".into(), Value::Table(filled.collect::<Result<_, String>>()?));
        }
        if !self.headers.is_empty() {
            let filled = self.headers.iter().map(|(name, value)| Ok((name.clone(), fill(value)?)));
            table.insert("headers".into(), Value::Table(filled.collect::<Result<_, String>>()?));
        }
        Ok(table)
    }
}

/// `My Server` → `my-server`; `None` if nothing is left.
fn upstream_name(text: &str) -> Option<String> {
    let legal = |c: char| if matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.') { c } else { '-' };
    let slug: String = text.to_lowercase().chars().map(legal).take(UpstreamName::BYTES_MAX).collect();
    let slug = slug.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    (!slug.is_empty()).then(|| slug.to_owned())
}

/// Fills in `${NAME}`, `${env:NAME}` and `${NAME:-default}`; the error is what could not be filled in.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((variable, after)) = after.split_once('}') else { break };
        let (name, default) = match variable.strip_prefix("env:").unwrap_or(variable).split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (variable.strip_prefix("env:").unwrap_or(variable), None),
        };
        let value = env.get(name).map(String::as_str).or(default).ok_or_else(|| format!("${{{variable}}}"))?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// JSON without `//` and `/* */`, which VS Code permits; they become blanks, so that lines and columns stay.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(_)) if in_string => {
                out.push(c);
                out.extend(chars.next());
            }
            ('"', _) => {
                in_string = !in_string;
                out.push(c);
            }
            ('/', Some('/')) if !in_string => while chars.next_if(|c| *c != '\n').is_some() {},
            ('/', Some('*')) if !in_string => {
                let mut previous = ' ';
                chars.next();
                for c in chars.by_ref() {
                    out.push(if c == '\n' { '\n' } else { ' ' });
                    if previous == '*' && c == '/' {
                        break;
                    }
                    previous = c;
                }
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, &str)]) -> Vec<String> {
        let env = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
        let found = parse(Path::new("mcp.json"), text, &env).unwrap();
        let seen: Vec<_> = found.upstreams.iter().map(|u| (u.path[1].clone(), u.value.to_string())).collect();
        let expect: Vec<_> = expect.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(seen, expect);
        found.notes
    }

    #[test]
    fn files_of_known_clients_become_upstreams() {
        let desktop = r#"{"mcpServers":{"files":{"command":"npx","args":["-y","fs","${HOME}"],"env":{"A":"b"}}},"globalShortcut":""}"#;
        check(desktop, &[("files", r#"{ args = ["-y", "fs", "/home/me"], command = "npx", env = { A = "b" } }"#)]);
        let cursor =
            r#"{"mcpServers":{"web":{"url":"https://x.example/mcp","headers":{"Authorization":"Bearer s3cret"}}}}"#;
        let notes = check(
            cursor,
            &[("web", r#"{ headers = { Authorization = "Bearer s3cret" }, url = "https://x.example/mcp" }"#)],
        );
        assert!(notes.is_empty(), "{notes:?}");
        let vs_code = "{ // ours\n \"servers\": {\"My Srv\": {\"type\":\"http\", /* a */ \"url\":\"http://a//b\"}}}";
        let notes = check(vs_code, &[("my-srv", r#"{ url = "http://a//b" }"#)]);
        assert_eq!(notes, ["server `My Srv` is named `my-srv` here"]);
        let left_out =
            r#"{"mcpServers":{"a":{"url":"http://a/sse","type":"sse"},"b":{"command":"b","disabled":true}}}"#;
        assert_eq!(check(left_out, &[("a", r#"{ url = "http://a/sse" }"#)]).len(), 1);
    }

    #[test]
    fn what_cannot_be_taken_over_is_refused_without_showing_values() {
        let check = |text: &str, expect: &str| {
            let error = parse(Path::new("mcp.json"), text, &BTreeMap::new()).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(r#"{"mcpServers":{"a":{"command":"x","env":{"T":"${input:token}"}}}}"#, "`${input:token}` is not known");
        check(r#"{"mcpServers":{"A b":{"command":"x"},"a-b":{"command":"y"}}}"#, "becomes `a-b`, as `A b` does");
        check(r#"{"mcpServers":{"!":{"command":"x"}}}"#, "no letter or digit");
        check("{}", "missing field `mcpServers`");
        check("{\n  oops", "mcp.json:2:");
    }

    #[test]
    fn variables_are_filled_in_with_their_defaults() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let check = |text: &str, expect: Result<&str, &str>| {
            assert_eq!(expand(text, &env), expect.map(str::to_owned).map_err(str::to_owned), "{text}");
        };
        check("x${A}y${env:A}z", Ok("x1y1z"));
        check("${B:-two}", Ok("two"));
        check("${B}", Err("${B}"));
        check("${workspaceFolder}/a", Err("${workspaceFolder}"));
        check("cost $5 ${", Ok("cost $5 ${"));
    }
}
