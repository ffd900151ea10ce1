//! What a client is shown of a server's message: the second decision.
//!
//! Tools that the principal may not call are taken out of a list; an answer that is too large becomes an error. Not here:
//! what was seen of the message (facts are of what the server said). Invariant: what no rule is about passes byte for
//! byte; of a list that was changed, the rest does.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::splice;
use crate::policy::Policy;

/// For whom, and by which rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience<'a> {
    pub(super) policy: &'a Policy,
    pub(super) principal: &'a str,
    pub(super) server: &'a str,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

/// The parts of a result that rules are about.
#[derive(Deserialize)]
struct ResultParts<'a> {
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    /// Who may keep the list, and for how long (2026-07-28).
    #[serde(borrow, rename = "cacheScope")]
    cache_scope: Option<&'a RawValue>,
    #[serde(borrow, rename = "ttlMs")]
    ttl: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

impl Audience<'_> {
    /// What takes the place of a message; `None`: nothing, it passes as it is.
    pub(super) fn shown(&self, message: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(message).ok()?;
        // A batch of answers, up to 2025-03-26.
        if text.trim_ascii_start().starts_with('[') {
            let all: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let shown: Vec<Option<String>> = all.iter().map(|one| self.one(one.get())).collect();
            if shown.iter().all(Option::is_none) {
                return None;
            }
            let edits: Vec<_> =
                all.iter().zip(&shown).filter_map(|(one, shown)| Some((Some(*one), shown.as_deref()?))).collect();
            return Some(splice(message, &edits));
        }
        self.one(text).map(String::into_bytes)
    }

    fn one(&self, text: &str) -> Option<String> {
        let message: Message<'_> = serde_json::from_str(text).ok()?;
        let (id, result) = (message.id?, message.result?);
        let parts: ResultParts<'_> = serde_json::from_str(result.get()).ok()?;
        if parts.content.is_some() && self.policy.result_bytes_max().is_some_and(|max| text.len() > max) {
            return Some(too_large(id, text.len()));
        }
        let kept = self.kept(parts.tools?)?;
        // What is left depends on who asks, so nobody else may be shown it.
        let edits = [(parts.tools, kept.as_str()), (parts.cache_scope, "\"private\""), (parts.ttl, "0")];
        String::from_utf8(splice(text.as_bytes(), &edits)).ok()
    }

    /// The list without what the principal may not call; `None`: nothing has to go.
    fn kept(&self, tools: &RawValue) -> Option<String> {
        let access = self.policy.access();
        if !access.restricts(self.principal, self.server) {
            return None;
        }
        let tools: Vec<&RawValue> = serde_json::from_str(tools.get()).ok()?;
        // What has no name cannot be called.
        let may = |tool: &&&RawValue| {
            let named = serde_json::from_str::<Tool<'_>>(tool.get());
            named.map_or(true, |named| access.allows(self.principal, self.server, &named.name))
        };
        let kept: Vec<&str> = tools.iter().filter(may).map(|tool| tool.get()).collect();
        (kept.len() < tools.len()).then(|| format!("[{}]", kept.join(",")))
    }
}

/// Above -32000, so that it never looks like the server's own.
fn too_large(id: &RawValue, bytes: usize) -> String {
    let error = serde_json::json!({
        "code": 1025,
        "message": format!("the answer has {bytes} bytes, more than this gateway passes on; ask for less"),
        "data": { "reason": "result_too_large" },
    });
    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.get())
}

#[cfg(test)]
mod tests {
    use wildmatch::WildMatch;

    use super::*;
    use crate::policy::{Access, AccessRule};

    fn policy(result_bytes_max: Option<usize>) -> Policy {
        let all = || vec![WildMatch::new("*")];
        let tools = vec![WildMatch::new("delete_*")];
        let access = Access::new(vec![AccessRule { principals: all(), upstreams: all(), tools, allow: false }]);
        Policy::default().with_access(access).with_result_bytes_max(result_bytes_max)
    }

    fn check(policy: &Policy, message: &str, expect: Option<&str>) {
        let audience = Audience { policy, principal: "p", server: "s" };
        let shown = audience.shown(message.as_bytes()).map(|shown| String::from_utf8(shown).unwrap());
        assert_eq!(shown.as_deref(), expect);
    }

    #[test]
    fn a_list_shows_what_may_be_called_and_keeps_the_rest_as_it_was() {
        let policy = policy(None);
        check(
            &policy,
            r#"{"id": 1.0, "result":{"tools":[ {"name":"read","x":1e3} , {"name":"delet\u0065_all"}],"nextCursor":"c"}}"#,
            Some(r#"{"id": 1.0, "result":{"tools":[{"name":"read","x":1e3}],"nextCursor":"c"}}"#),
        );
        check(
            &policy,
            r#"{"id":1,"result":{"ttlMs":60000,"cacheScope":"public","tools":[{"name":"delete_x"}]}}"#,
            Some(r#"{"id":1,"result":{"ttlMs":0,"cacheScope":"private","tools":[]}}"#),
        );
        check(
            &policy,
            r#"[{"id":1,"result":{}},{"id":2,"result":{"tools":[{"name":"delete_x"}]}}]"#,
            Some(r#"[{"id":1,"result":{}},{"id":2,"result":{"tools":[]}}]"#),
        );
    }

    #[test]
    fn what_no_rule_is_about_passes() {
        let policy = policy(None);
        for message in [
            r#"{"id":1,"result":{"tools":[{"name":"read"}]}}"#,
            r#"{"id":1,"result":{"content":[{"text":"delete_x"}],"tools":1}}"#,
            r#"{"method":"x","params":{"tools":[{"name":"delete_x"}]}}"#,
            r#"{"id":1,"error":{"code":1}}"#,
            "nonsense",
            "[1, 2]",
        ] {
            check(&policy, message, None);
        }
    }

    #[test]
    fn an_answer_that_is_too_large_becomes_an_error() {
        let policy = policy(Some(60));
        check(&policy, r#"{"id":1,"result":{"content":[]}}"#, None);
        let large = format!(r#"{{"id":"a","result":{{"content":["{}"]}}}}"#, "x".repeat(60));
        let audience = Audience { policy: &policy, principal: "p", server: "s" };
        let shown: serde_json::Value = serde_json::from_slice(&audience.shown(large.as_bytes()).unwrap()).unwrap();
        assert_eq!((&shown["id"], &shown["error"]["data"]["reason"]), (&"a".into(), &"result_too_large".into()));
    }
}
