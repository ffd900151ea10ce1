//! The `resource_metadata` parameter of a `WWW-Authenticate` challenge (RFC 9728, 5.1): found and replaced.
//!
//! Invariant: what stands in another parameter's quotes is not a parameter, and all other bytes stay.

use std::ops::Range;

const NAME: &str = "resource_metadata";

/// What the challenge named, and the challenge with `own` in its place; `None` if it names nothing.
pub(super) fn readdressed(challenge: &str, own: &str) -> Option<(String, String)> {
    let value = value(challenge)?;
    let named = challenge[value.clone()].trim_matches('"').to_owned();
    let changed = format!("{}\"{own}\"{}", &challenge[..value.start], &challenge[value.end..]);
    Some((named, changed))
}

/// Where the parameter's value stands, its quotes included.
fn value(challenge: &str) -> Option<Range<usize>> {
    let bytes = challenge.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            at = closed(bytes, at);
        } else if is_token(bytes[at]) {
            let start = at;
            at += bytes[at..].iter().take_while(|byte| is_token(**byte)).count();
            if !challenge[start..at].eq_ignore_ascii_case(NAME) {
                continue;
            }
            let equals = skip_blanks(bytes, at);
            if bytes.get(equals) == Some(&b'=') {
                let start = skip_blanks(bytes, equals + 1);
                let quoted = bytes.get(start) == Some(&b'"');
                let plain = || start + bytes[start..].iter().take_while(|byte| !b" \t,".contains(byte)).count();
                return Some(start..if quoted { closed(bytes, start) } else { plain() });
            }
        } else {
            at += 1;
        }
    }
    None
}

/// Behind the quoted string that opens at `open`.
fn closed(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn skip_blanks(bytes: &[u8], from: usize) -> usize {
    from + bytes.get(from..).unwrap_or_default().iter().take_while(|byte| b" \t".contains(byte)).count()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(challenge: &str, expect: Option<(&str, &str)>) {
        let expect = expect.map(|(named, changed)| (named.to_owned(), changed.to_owned()));
        assert_eq!(readdressed(challenge, "O"), expect, "{challenge}");
    }

    #[test]
    fn the_parameter_alone_is_replaced() {
        check(r#"Bearer resource_metadata="u", error="e""#, Some(("u", r#"Bearer resource_metadata="O", error="e""#)));
        check("Bearer Resource_Metadata = u,error=e", Some(("u", r#"Bearer Resource_Metadata = "O",error=e"#)));
        check(
            r#"Bearer error="\"resource_metadata=x", resource_metadata="u""#,
            Some(("u", r#"Bearer error="\"resource_metadata=x", resource_metadata="O""#)),
        );
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for challenge in
            ["", "Bearer", r#"Bearer error="resource_metadata=u""#, "Bearer my_resource_metadata=u", "\"\\"]
        {
            check(challenge, None);
        }
    }
}
