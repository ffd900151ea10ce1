//! Transparency, as a comparison of what two tees saw: one before the gateway, one behind it.

use super::http::Message;

/// A request and its response, if there was one.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Message,
    pub(crate) response: Option<Message>,
}

/// Headers that belong to one hop, or that the gateway must set itself: `host`, and `accept-encoding`, since it can
/// learn only from answers that are not compressed.
const PER_HOP: [&str; 7] =
    ["accept-encoding", "connection", "content-length", "host", "keep-alive", "te", "transfer-encoding"];

/// Asserts that each exchange of the client took place with the upstream, byte for byte, and that no other did.
///
/// A stream that the client left has no end: there, what the client got must be a beginning of what was sent.
#[track_caller]
pub(crate) fn assert_same(client: &[Exchange], upstream: &[Exchange]) {
    let mut left: Vec<&Exchange> = upstream.iter().collect();
    // Those that are complete match in one way only; the others take what remains.
    let (complete, cut): (Vec<_>, Vec<_>) = client.iter().partition(|exchange| is_complete(exchange));
    for seen in complete.into_iter().chain(cut) {
        let Some(at) = left.iter().position(|sent| same(seen, sent)) else {
            panic!("the client saw what the upstream did not:\n{}\nupstream:\n{}", show(seen), show_all(&left));
        };
        let sent = left.swap_remove(at);
        assert_headers("request", &seen.request, &sent.request);
        if let (Some(sent), Some(seen)) = (&sent.response, &seen.response) {
            assert_headers("response", sent, seen);
        }
    }
    assert!(left.is_empty(), "the upstream saw what no client sent:\n{}", show_all(&left));
}

fn is_complete(exchange: &Exchange) -> bool {
    exchange.response.as_ref().is_some_and(|response| response.complete)
}

fn same(client: &Exchange, upstream: &Exchange) -> bool {
    let (mine, theirs) = (&client.request, &upstream.request);
    let requests = mine.method() == theirs.method() && mine.body == theirs.body && session(mine) == session(theirs);
    let responses = match (&client.response, &upstream.response) {
        (Some(seen), Some(sent)) if seen.complete => {
            sent.complete && seen.status() == sent.status() && seen.body == sent.body
        }
        (Some(seen), Some(sent)) => seen.status() == sent.status() && sent.body.starts_with(&seen.body),
        (None, _) => true,
        (Some(_), None) => false,
    };
    requests && responses
}

/// Two sessions may send the same bytes; they must not be taken for each other.
fn session(request: &Message) -> Option<&str> {
    request.header("mcp-session-id")
}

/// Whatever one side sent, the other got; the gateway may add, never change or drop.
#[track_caller]
fn assert_headers(what: &str, sent: &Message, arrived: &Message) {
    for (name, value) in sent.headers.iter().filter(|(name, _)| !PER_HOP.contains(&name.as_str())) {
        let found = arrived.headers.iter().any(|(key, other)| key == name && other == value);
        assert!(found, "{what} header {name}: {value} did not arrive: {:?}", arrived.headers);
    }
}

fn show_all(exchanges: &[&Exchange]) -> String {
    exchanges.iter().map(|exchange| show(exchange)).collect::<Vec<_>>().join("\n")
}

fn show(exchange: &Exchange) -> String {
    let response = exchange.response.as_ref().map_or_else(String::new, |response| {
        format!("{} (complete: {}) {}", response.start, response.complete, response.text())
    });
    format!("  {} {}\n    → {response}", exchange.request.start, exchange.request.text())
}
