//! Values of the protocol, made from the JSON that stands in these sources.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A value of the protocol.
pub(crate) fn parsed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the fixtures are valid MCP")
}

/// A result that is all there is to say; rmcp takes the mark off again for the legacy era.
pub(crate) fn result<T: DeserializeOwned>(mut value: Value) -> T {
    value["resultType"] = json!("complete");
    parsed(value)
}
