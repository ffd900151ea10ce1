//! Return addresses: a request that an upstream sends to the client carries its sender in its id, so that the client's
//! answer finds the way back.
//!
//! Nothing is remembered: the id *is* the address, `"UPSTREAM~ID"`, and ID is JSON as the upstream wrote it. Invariant: all
//! but ids and progress tokens stays as it was. Whoever makes an address up reaches its own session at that upstream,
//! which it could reach anyway.

use serde_json::value::RawValue;

use crate::edge::splice;
use crate::gateway::ties::Ties;

/// Not part of any upstream's name.
const BEHIND_NAME: char = '~';

/// A message of `upstream` as the client gets it; `None`: as it is.
pub(super) fn addressed(message: &[u8], upstream: &str) -> Option<Vec<u8>> {
    let ties = Ties::read(message)?;
    let method = ties.method.as_deref()?;
    let values = match ties.id {
        Some(id) => [Some(id), ties.token],
        None if method == "notifications/cancelled" => [ties.request, None],
        // What else they say is about the client's own requests.
        None => return None,
    };
    let texts = values.map(|value| value.map_or_else(String::new, |value| address(upstream, value)));
    let edits: Vec<_> = values.into_iter().zip(texts.iter().map(String::as_str)).collect();
    Some(splice(message, &edits))
}

/// Whom a client's answer, or what it says about an upstream's request, goes to, and the message as it goes there.
pub(super) fn returned(message: &[u8]) -> Option<(String, Vec<u8>)> {
    let ties = Ties::read(message)?;
    let value = if ties.method.is_none() { ties.id? } else { ties.token? };
    let text: String = serde_json::from_str(value.get()).ok()?;
    let (upstream, id) = text.split_once(BEHIND_NAME)?;
    let is_id = matches!(serde_json::from_str(id), Ok(serde_json::Value::String(_) | serde_json::Value::Number(_)));
    is_id.then(|| (upstream.to_owned(), splice(message, &[(Some(value), id)])))
}

fn address(upstream: &str, id: &RawValue) -> String {
    serde_json::Value::from(format!("{upstream}{BEHIND_NAME}{}", id.get())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(message: &str) -> String {
        String::from_utf8(addressed(message.as_bytes(), "up.1").unwrap_or_else(|| message.into())).unwrap()
    }

    fn back(message: &str) -> Option<(String, String)> {
        returned(message.as_bytes()).map(|(to, message)| (to, String::from_utf8(message).unwrap()))
    }

    #[test]
    fn requests_are_addressed_and_the_rest_is_not() {
        let check = |message: &str, expect: &str| assert_eq!(there(message), expect);
        check(
            r#"{"id": 7 ,"method":"roots/list","params":{"_meta":{"progressToken":"t"},"id":7}}"#,
            r#"{"id": "up.1~7" ,"method":"roots/list","params":{"_meta":{"progressToken":"up.1~\"t\""},"id":7}}"#,
        );
        check(
            r#"{"method":"notifications/cancelled","params":{"requestId":"a"}}"#,
            r#"{"method":"notifications/cancelled","params":{"requestId":"up.1~\"a\""}}"#,
        );
        for as_it_is in [
            r#"{"id":7,"result":{}}"#,
            r#"{"method":"notifications/progress","params":{"progressToken":7}}"#,
            "[]",
            "nonsense",
        ] {
            check(as_it_is, as_it_is);
        }
    }

    #[test]
    fn an_answer_finds_the_way_back() {
        let expect = |message: &str| Some(("up.1".to_owned(), message.to_owned()));
        assert_eq!(back(r#"{"id":"up.1~1.50","result":{"x": 1}}"#), expect(r#"{"id":1.50,"result":{"x": 1}}"#));
        assert_eq!(back(r#"{"id":"up.1~\"a~b\"","error":{}}"#), expect(r#"{"id":"a~b","error":{}}"#));
        let progress = r#"{"method":"notifications/progress","params":{"progressToken":"up.1~2","progress":1}}"#;
        assert_eq!(back(progress), expect(&progress.replace(r#""up.1~2""#, "2")));
        for nowhere in [r#"{"id":7,"result":{}}"#, r#"{"id":"x","result":{}}"#, r#"{"id":"up~{}","result":{}}"#] {
            assert_eq!(back(nowhere), None);
        }
    }
}
