//! The host that a value points to, if it is a link or holds one.

use super::value::find_scheme;

/// Longest name that the DNS allows; what is longer is no host.
const HOST_BYTES_MAX: usize = 253;

/// Host of the first URL in a text (`scheme://host`, or a text that begins with `www.`), in lower case, without user,
/// port and final point. A backslash ends it, as in browsers: `https://evil.example\@good.example` goes to the first.
pub(super) fn url_host(text: &str) -> Option<String> {
    let text = text.trim();
    let authority = match find_scheme(text) {
        Some(at) if text[..at].ends_with(|last: char| last.is_ascii_alphanumeric()) => &text[at + 3..],
        _ if text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("www.")) => text,
        _ => return None,
    };
    let ends = |character: char| character.is_whitespace() || "/?#\\\"'<>)}|,;".contains(character);
    let authority = &authority[..authority.find(ends).unwrap_or(authority.len())];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let host = host.trim_end_matches('.');
    (!host.is_empty() && host.len() <= HOST_BYTES_MAX).then(|| host.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::url_host;

    fn check(text: &str, expect: &str) {
        assert_eq!(url_host(text).unwrap_or_default(), expect, "{text}");
    }

    #[test]
    fn hosts() {
        check("https://Example.COM:8443/a?b#c", "example.com");
        check("see http://user:secret@a.example., thanks", "a.example");
        check("www.eve-blog.example/x", "www.eve-blog.example");
        check("https://evil.example\\@good.example", "evil.example");
        check("http://[2001:db8::1]:80/", "2001:db8::1");
        check("![x](https://img.example/?q=1)", "img.example");
        check("mailto:a@b.example", "");
        check("://nothing", "");
        check("wwwéé", "");
        check("", "");
    }
}
