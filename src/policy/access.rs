//! Who may call which tool: rules in order, of which the first that matches decides.
//!
//! Not here: who somebody is (`gateway::auth`), and what was learned: access holds in every mode, and without a model.

use wildmatch::WildMatch;

/// The rules of a deployment; without one that matches, a call is allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access(Vec<AccessRule>);

/// Whom, where and what a rule is about, as patterns with `*` and `?`, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRule {
    pub principals: Vec<WildMatch>,
    pub upstreams: Vec<WildMatch>,
    pub tools: Vec<WildMatch>,
    pub allow: bool,
}

impl Access {
    #[must_use]
    pub const fn new(rules: Vec<AccessRule>) -> Self {
        Self(rules)
    }

    #[must_use]
    pub fn allows(&self, principal: &str, upstream: &str, tool: &str) -> bool {
        let mut matching =
            self.0.iter().filter(|rule| rule.is_about(principal, upstream) && matches(&rule.tools, tool));
        matching.next().is_none_or(|rule| rule.allow)
    }

    /// Whether there may be a tool that this principal may not call: then its lists of tools have to be looked at.
    #[must_use]
    pub fn restricts(&self, principal: &str, upstream: &str) -> bool {
        self.0.iter().any(|rule| !rule.allow && rule.is_about(principal, upstream))
    }

    /// As many rules as there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AccessRule {
    fn is_about(&self, principal: &str, upstream: &str) -> bool {
        matches(&self.principals, principal) && matches(&self.upstreams, upstream)
    }
}

fn matches(patterns: &[WildMatch], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(principals: &str, upstreams: &str, tools: &[&str], allow: bool) -> AccessRule {
        let patterns = |texts: &[&str]| texts.iter().map(|text| WildMatch::new(text)).collect();
        AccessRule {
            principals: patterns(&[principals]),
            upstreams: patterns(&[upstreams]),
            tools: patterns(tools),
            allow,
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let access = Access::new(vec![
            rule("alice*", "*", &["*"], true),
            rule("*", "mail", &["send_*", "delete"], false),
            rule("bob", "files", &["read_?"], true),
            rule("bob", "files", &["*"], false),
        ]);
        let table = [
            ("alice", "mail", "send_mail", true),
            ("alice/agent", "mail", "delete", true),
            ("bob", "mail", "send_mail", false),
            ("bob", "mail", "list", true),
            ("bob", "files", "read_1", true),
            ("bob", "files", "read_10", false),
            ("carol", "files", "anything", true),
        ];
        for (principal, upstream, tool, expect) in table {
            assert_eq!(access.allows(principal, upstream, tool), expect, "{principal} {upstream} {tool}");
        }
        assert!(access.restricts("bob", "files") && access.restricts("carol", "mail"));
        assert!(!access.restricts("carol", "files"));
        assert!(Access::default().allows("anyone", "any", "tool"));
    }
}
