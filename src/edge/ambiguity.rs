//! Messages that two readers would understand differently: the same key twice, or in another case (some parsers do not
//! tell `name` from `Name`, some take the first of two and others the last).
//!
//! Only where rules decide who may call what does this matter: there such a message could be read as one call here and as
//! another one by the server. Invariant: what is not ambiguous names one method and one tool to every reader.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The keys that say what a message asks, by where they stand.
const OUTER: [&str; 4] = ["jsonrpc", "id", "method", "params"];
const INNER: [&str; 3] = ["name", "arguments", "_meta"];

/// Whether a body, one message or a batch, says something twice. What is no JSON says nothing.
pub(super) fn is_ambiguous(body: &[u8]) -> bool {
    let mut found = false;
    let mut json = serde_json::Deserializer::from_slice(body);
    let _ = Level { keys: &OUTER, found: &mut found }.deserialize(&mut json);
    found
}

struct Level<'a> {
    keys: &'static [&'static str],
    found: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = [false; OUTER.len()];
        while let Some(key) = map.next_key::<String>()? {
            let known = self.keys.iter().position(|known| known.eq_ignore_ascii_case(&key));
            if let Some(at) = known {
                // A key in another case is another key to some readers, and this one to others.
                *self.found |= std::mem::replace(&mut seen[at], true) || self.keys[at] != key;
            }
            match known.map(|at| self.keys[at]) {
                Some("params") => map.next_value_seed(Level { keys: &INNER, found: &mut *self.found })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Level { keys: self.keys, found: &mut *self.found })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_ambiguous() {
        for body in [
            r#"{"method":"tools/call","method":"ping"}"#,
            r#"{"method":"tools/call","Method":"ping"}"#,
            r#"{"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
            r#"{"method":"tools/call","params":{"NAME":"a"}}"#,
            r#"{"method":"x","params":{},"Params":{"name":"b"}}"#,
            r#"[{"method":"x"},{"params":{"name":"a","Name":"b"}}]"#,
        ] {
            assert!(is_ambiguous(body.as_bytes()), "{body}");
        }
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"name":1,"Name":2}}}"#,
            r#"{"id":1,"result":{"name":1,"NAME":2}}"#,
            r#"{"method":"x","params":[1,"a",null,true,1.5,{"x":1}]}"#,
            "nonsense",
            "",
        ] {
            assert!(!is_ambiguous(body.as_bytes()), "{body}");
        }
    }
}
