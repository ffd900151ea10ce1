//! What holds for any input.

use super::*;

/// Any JSON value of modest size.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1e6..1e6_f64).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[a-c@./: \n\"\\\\]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-e.\\[\\]\u{e9}\"]{0,3}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same value written with other white space, key order and escapes.
fn rewritten(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> =
                members.iter().rev().map(|(key, value)| format!(" {} :\t{}", escaped(key), rewritten(value))).collect();
            format!("{{{}\n}}", members.join(" ,"))
        }
        Value::Array(items) => format!("[ {} ]", items.iter().map(rewritten).collect::<Vec<_>>().join(" ,\r\n")),
        Value::String(text) => escaped(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn escaped(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

proptest! {
    /// Never a panic, and always one message for what is no batch.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), client in any::<bool>()) {
        let direction = if client { Direction::ClientToServer } else { Direction::ServerToClient };
        let messages = SessionFacts::new(Limits::default()).observe(direction, &bytes, &KEY);
        prop_assert_eq!(messages.len(), 1);
    }

    #[test]
    fn any_json_in_any_place(value in any_json(), other in any_json(), depth_max in 0..9_usize) {
        let mut facts = SessionFacts::new(Limits { depth_max: depth_max * 16, leaves_max: 4, index_values_max: 8, index_bytes_max: 64, open_requests_max: 1, looks_inside: true });
        for text in [
            value.to_string(),
            json!([value, other]).to_string(),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": value, "arguments": other, "_meta": value}}).to_string(),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": value}).to_string(),
        ] {
            facts.observe(Direction::ClientToServer, text.as_bytes(), &KEY);
        }
        for text in [
            json!({"jsonrpc": "2.0", "id": 1, "result": {"content": value, "structuredContent": other, "tools": value}}).to_string(),
            json!({"jsonrpc": "2.0", "id": 1, "result": value}).to_string(),
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": value, "message": other}}).to_string(),
        ] {
            facts.observe(Direction::ServerToClient, text.as_bytes(), &KEY);
        }
        prop_assert!(facts.held_bytes() < 16 * 1024);
    }

    /// The law of facts: how JSON is written changes nothing that is learned.
    #[test]
    fn formatting_changes_no_fact(value in any_json()) {
        let facts = |text: &str| {
            let call = Session::new().call("t", text).call.unwrap();
            let mut leaves: Vec<_> = call.leaves.iter().map(|leaf| (leaf.path.clone(), leaf.r#type, leaf.value)).collect();
            leaves.sort();
            (call.shape, call.fingerprint, leaves)
        };
        prop_assert_eq!(facts(&value.to_string()), facts(&rewritten(&value)));
    }

    /// Different arguments are different calls.
    #[test]
    fn fingerprints_tell_values_apart(a in any_json(), b in any_json()) {
        let print = |value: &Value| Session::new().call("t", &value.to_string()).call.unwrap().fingerprint;
        let empty = |value: &Value| value.is_null() || value == &json!({}) || value == &json!([]);
        prop_assert_eq!(print(&a) == print(&b), a == b || (empty(&a) && empty(&b)), "{} {}", a, b);
    }

    /// A value of some substance that a result held is found, whatever its case and the punctuation around it.
    #[test]
    fn held_values_are_found(words in prop::collection::vec("[a-zA-Z0-9é]{1,9}", 1..5), before in "[ -~é]{0,30}", upper in any::<bool>()) {
        let value = words.join(" ");
        prop_assume!(value.chars().filter(|c| *c != ' ').count() >= 3);
        let mut session = Session::new();
        session.read("read", &format!("{before} \"{}\"; and so on", words.join("-")));
        let value = if upper { value.to_uppercase() } else { value.to_lowercase() };
        prop_assert_eq!(session.source(json!(format!(" ({value}) "))), "read");
    }

    /// What no result held has no source.
    #[test]
    fn other_values_are_not_found(text in "[a-m ]{0,60}", value in "[n-z]{3,9}") {
        let mut session = Session::new();
        session.read("read", &text);
        prop_assert_eq!(session.source(json!(value)), "");
    }

    /// The ring and its chains agree with a plain search through what it still holds.
    #[test]
    fn the_index_finds_what_a_search_finds(texts in prop::collection::vec(prop::collection::vec(0..6_u8, 1..12), 1..60), sought in prop::collection::vec(0..6_u8, 1..3)) {
        let name = |word: &u8| format!("word{word}");
        let text = |words: &[u8]| words.iter().map(name).collect::<Vec<_>>().join(" ");
        let mut session = Session::new();
        let mut expect = String::new();
        for (index, words) in texts.iter().enumerate() {
            session.read(&format!("tool{index}"), &text(words));
            if words.windows(sought.len()).any(|window| window == sought) {
                expect = format!("tool{index}");
            }
        }
        let source = session.source(json!(text(&sought)));
        // A longer text may also be known by one of its words; the last of them never stands before the whole.
        prop_assert!(source == expect || (expect.is_empty() && sought.len() > 1));
    }
}
