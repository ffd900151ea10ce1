//! Tools and a prompt that need more than one round: they answer with what they need, and the client comes back.
//!
//! What the server remembers between rounds is here under a random handle, and the handle is the client's
//! `requestState`: one that was tampered with names nothing. Invariant: the memory is bounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::ErrorData;
use rmcp::model::{ClientCapabilities, InputRequiredResult, InputResponses};
use serde_json::{Value, json};

use crate::values::parsed;

/// Handles that are remembered; the oldest are forgotten.
const STATES_MAX: usize = 1024;

/// What was begun, by handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Arc<Mutex<BTreeMap<String, u32>>>);

/// What a client brings to a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brought<'a> {
    pub(crate) responses: Option<&'a InputResponses>,
    pub(crate) state: Option<&'a str>,
}

/// How a round ends.
#[derive(Debug)]
pub(crate) enum Round {
    Done(String),
    More(InputRequiredResult),
}

impl Brought<'_> {
    /// A response that has the shape of one.
    fn response(&self, key: &str) -> Option<&Value> {
        self.responses?.get(key).filter(|response| response.is_object())
    }
}

impl Rounds {
    fn seal(&self, round: u32) -> Result<String, ErrorData> {
        let random = || getrandom::u64().map_err(|error| ErrorData::internal_error(error.to_string(), None));
        let handle = format!("{:016x}{:016x}", random()?, random()?);
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= STATES_MAX {
            states.pop_first();
        }
        states.insert(handle.clone(), round);
        Ok(handle)
    }

    fn open(&self, handle: &str) -> Result<u32, ErrorData> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(handle).copied().ok_or_else(|| ErrorData::invalid_params("requestState is not ours", None))
    }

    /// One round of a tool or prompt.
    pub(crate) fn step(
        &self,
        name: &str,
        brought: Brought<'_>,
        capabilities: &ClientCapabilities,
    ) -> Result<Round, ErrorData> {
        let round = brought.state.map(|handle| self.open(handle)).transpose()?;
        let done = |text: &str| Ok(Round::Done(text.to_owned()));
        let name_form = || form("What is your name?", "name", "string");
        match name {
            "test_input_required_result_elicitation" => Ok(match brought.response("user_name") {
                Some(response) => Round::Done(format!("Hello, {}!", plain(&response["content"]["name"]))),
                None => more(json!({ "user_name": name_form() }), None),
            }),
            "test_input_required_result_sampling" => Ok(match brought.response("capital_question") {
                Some(response) => Round::Done(format!("The model says: {}", plain(&response["content"]["text"]))),
                None => more(json!({ "capital_question": question("What is the capital of France?") }), None),
            }),
            "test_input_required_result_list_roots" => Ok(match brought.response("client_roots") {
                Some(response) => Round::Done(format!("Client roots: {}", response["roots"])),
                None => more(json!({ "client_roots": roots() }), None),
            }),
            "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => match round {
                Some(_) => done("Confirmed: state-ok"),
                None => Ok(more(json!({ "confirm": form("Please confirm", "ok", "boolean") }), Some(self.seal(1)?))),
            },
            "test_input_required_result_multiple_inputs" => {
                let all = ["user_name", "greeting", "client_roots"];
                if round.is_some() && all.iter().all(|key| brought.response(key).is_some()) {
                    return done("All inputs received");
                }
                let greeting = question("Generate a greeting");
                let requests = json!({ "user_name": name_form(), "greeting": greeting, "client_roots": roots() });
                Ok(more(requests, Some(self.seal(1)?)))
            }
            "test_input_required_result_multi_round" => match round {
                None => Ok(more(json!({ "step1": name_form() }), Some(self.seal(1)?))),
                Some(1) => {
                    let colour = form("What is your favorite color?", "color", "string");
                    Ok(more(json!({ "step2": colour }), Some(self.seal(2)?)))
                }
                Some(_) => done("All rounds are done"),
            },
            "test_input_required_result_capabilities" => Ok(by_capability(brought, capabilities)),
            "test_streaming_elicitation" => {
                Ok(more(json!({ "value": form("Provide a value", "value", "string") }), None))
            }
            "test_input_required_result_prompt" => Ok(match brought.response("user_context") {
                Some(response) => Round::Done(format!("In this context: {}", plain(&response["content"]["context"]))),
                None => more(json!({ "user_context": form("Which context?", "context", "string") }), None),
            }),
            _ => Err(ErrorData::invalid_params(format!("unknown: {name}"), None)),
        }
    }
}

/// Asks only for what the client has said that it can do.
fn by_capability(brought: Brought<'_>, capabilities: &ClientCapabilities) -> Round {
    let mut requests = serde_json::Map::new();
    if capabilities.elicitation.is_some() {
        requests.insert("user_name".to_owned(), form("What is your name?", "name", "string"));
    }
    if capabilities.sampling.is_some() {
        requests.insert("greeting".to_owned(), question("Generate a greeting"));
    }
    if capabilities.roots.is_some() {
        requests.insert("client_roots".to_owned(), roots());
    }
    if brought.responses.is_some() || requests.is_empty() {
        return Round::Done("Nothing more is needed".to_owned());
    }
    more(Value::Object(requests), None)
}

fn more(requests: Value, state: Option<String>) -> Round {
    Round::More(InputRequiredResult::new(Some(parsed(requests)), state))
}

/// A form with one required field.
pub(crate) fn form(message: &str, field: &str, kind: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { field: { "type": kind } }, "required": [field] });
    json!({
        "method": "elicitation/create",
        "params": { "mode": "form", "message": message, "requestedSchema": schema }
    })
}

fn question(text: &str) -> Value {
    let message = json!({ "role": "user", "content": { "type": "text", "text": text } });
    json!({ "method": "sampling/createMessage", "params": { "messages": [message], "maxTokens": 100 } })
}

fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
