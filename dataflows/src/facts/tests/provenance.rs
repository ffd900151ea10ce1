//! Which result held a value: found after re-formatting, not found by accident.

use super::*;

/// A text that tool `read` gave, and the source of each value then used.
fn held(text: &str, values: &[(Value, bool)]) {
    let mut session = Session::new();
    session.read("read", text);
    for (value, expect) in values {
        assert_eq!(session.source(value.clone()) == "read", *expect, "{value} in {text}");
    }
}

#[test]
fn values_are_found_after_reformatting() {
    held(
        "- sender: Ana.Lima@Example.org\n  id: '26'\n  amount: 98.70\n  subject: 'Purchase at\n    the  Store'\n  date: 2024-05-17",
        &[
            (json!("ana.lima@example.org"), true),
            (json!("<ana.lima@example.org>"), true),
            (json!("purchase at the store"), true),
            (json!("2024/05/17"), true),
            (json!(98.7), true),
            (json!("98.700"), true),
            (json!(26), true),
            (json!("26"), true),
            (json!("other@example.org"), false),
            (json!("store the"), false),
        ],
    );
    held(
        r#"{"Name":"Zürich HB","city":"東京都港区","path":"C:\\new\\file.txt"}"#,
        &[
            (json!("ZÜRICH hb"), true),
            (json!("港区"), true),
            (json!("C:\\new\\file.txt"), true),
            (json!("Bern"), false),
        ],
    );
}

/// Short values are everywhere; they count only where a unit is nothing else.
#[test]
fn trivial_values_do_not_match_by_accident() {
    held(
        "Tell me on 2024-05-10 at 7, or at 10.5: {'n': 12, 'k': 7, 'who': 'me too'}",
        &[
            (json!("me"), false),
            (json!(10), false),
            (json!(5), false),
            (json!(12), true),
            (json!(7), false),
            (json!(true), false),
            (json!(null), false),
            (json!(""), false),
            (json!("-"), false),
        ],
    );
}

/// Of a longer text its identifying parts count, never its plain words.
#[test]
fn parts_of_a_longer_text() {
    held(
        "password: hunter2secret\nlink www.blog-of-eve.example/post",
        &[
            (json!("Hello, the password is hunter2secret."), true),
            (json!("see http://www.blog-of-eve.example/post for more"), true),
            (json!("Hello, what is the password of my account"), false),
        ],
    );
}

#[test]
fn the_last_result_that_held_it_is_the_source() {
    let mut session = Session::new();
    session.read("first", "id: order-4711");
    session.read("second", "id: order-4711, and order-4712");
    session.read("third", "nothing");
    assert_eq!(session.source(json!("order-4711")), "second");
    assert_eq!(session.source(json!("order-4713")), "");
}

#[test]
fn structured_content_names_and_errors_are_held_and_images_are_not() {
    let mut session = Session::new();
    session.call("rows", "{}");
    session.answer(json!({"structuredContent": {"alpha-key": [{"iban": "GB29NWBK60161331926819", "total": 1234.50}]}}));
    session.call("links", "{}");
    session.answer(json!({"content": [{"type": "resource_link", "uri": "file:///srv/report.pdf"}, {"type": "image", "data": "c2VjcmV0"}]}));
    session.call("fails", "{}");
    let id = session.id;
    session.server(
        &json!({"jsonrpc": "2.0", "id": id, "error": {"code": 1, "message": "try account-77 instead"}}).to_string(),
    );
    for (value, source) in [
        (json!("GB29NWBK60161331926819"), "rows"),
        (json!("1234.5"), "rows"),
        (json!("alpha-key"), "rows"),
        (json!("/srv/report.pdf"), "links"),
        (json!("c2VjcmV0"), ""),
        (json!("account-77"), "fails"),
    ] {
        assert_eq!(session.source(value.clone()), source, "{value}");
    }
}

#[test]
fn words_of_two_texts_are_not_in_a_row() {
    let mut session = Session::new();
    session.call("read", "{}");
    session.answer(json!({"content": [{"type": "text", "text": "one alpha"}, {"type": "text", "text": "beta two"}]}));
    assert_eq!(session.source(json!("alpha beta")), "");
    assert_eq!(session.source(json!("one alpha")), "read");
}

/// Results that hold nothing, or little, are bounded too.
#[test]
fn many_small_results_are_bounded() {
    let mut session = Session::new();
    for _ in 0..3000 {
        session.read("empty", "");
    }
    assert!(session.facts.held_bytes() < 4 * 1024, "{}", session.facts.held_bytes());
    for round in 0..3000 {
        session.read("small", &format!("value-{round}"));
    }
    assert!(session.facts.held_bytes() < 256 * 1024, "{}", session.facts.held_bytes());
    assert_eq!(session.source(json!("value-2999")), "small");
    assert_eq!(session.source(json!("value-1")), "");
}

/// The oldest values leave first, and what is held stays within its bound.
#[test]
fn the_index_is_bounded() {
    let limits = Limits { index_values_max: 512, ..Limits::default() };
    let mut session = Session::within(limits);
    session.read("early", "needle-0001");
    assert_eq!(session.source(json!("needle-0001")), "early");
    let mut held_max = 0;
    for round in 0..200 {
        let words: Vec<_> = (0..20).map(|word| format!("w{round}x{word}")).collect();
        session.read("late", &words.join(" "));
        held_max = held_max.max(session.facts.held_bytes());
    }
    assert_eq!(session.source(json!("needle-0001")), "");
    assert_eq!(session.source(json!("w199x0 w199x1")), "late");
    assert!(held_max < 16 * 1024, "{held_max}");
    session.facts.forget_values();
    assert_eq!(session.source(json!("w199x0 w199x1")), "");
}

#[test]
fn one_result_is_looked_into_up_to_its_bound() {
    let mut session = Session::within(Limits { index_bytes_max: 32, ..Limits::default() });
    session.read("read", &format!("near-0001 {} far-0001", "é".repeat(40)));
    assert_eq!(session.source(json!("near-0001")), "read");
    assert_eq!(session.source(json!("far-0001")), "");
}
