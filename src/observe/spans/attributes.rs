//! What a span says: every name of OpenTelemetry's conventions for MCP and GenAI that is used here.
//!
//! The conventions are still in development; a renamed attribute is renamed here and nowhere else.
//! <https://opentelemetry.io/docs/specs/semconv/gen-ai/mcp/>

use std::net::SocketAddr;

use opentelemetry::KeyValue;

use crate::observe::Exchange;
use crate::observe::access_log::verdict;

const TOOLS_CALL: &str = "tools/call";
const PROMPTS_GET: &str = "prompts/get";

/// `{mcp.method.name} {target}`, where the target is one of few: a tool or a prompt.
pub(super) fn name(exchange: &Exchange) -> String {
    let method = exchange.method.as_deref().unwrap_or("unknown");
    match (&exchange.target, method) {
        (Some(target), TOOLS_CALL | PROMPTS_GET) => format!("{method} {target}"),
        _ => method.to_owned(),
    }
}

pub(super) fn of(exchange: &Exchange, listen: SocketAddr) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::new("network.transport", "tcp"),
        KeyValue::new("network.protocol.name", "http"),
        KeyValue::new("server.address", listen.ip().to_string()),
        KeyValue::new("server.port", i64::from(listen.port())),
        KeyValue::new("undercurrent.upstream", exchange.server.to_string()),
        KeyValue::new("undercurrent.outcome", exchange.outcome),
    ];
    let mut text = |name: &'static str, value: Option<String>| {
        all.extend(value.filter(|value| !value.is_empty()).map(|value| KeyValue::new(name, value)));
    };
    text("mcp.method.name", exchange.method.clone());
    match exchange.method.as_deref() {
        Some(TOOLS_CALL) => {
            text("gen_ai.operation.name", Some("execute_tool".into()));
            text("gen_ai.tool.name", exchange.target.clone());
        }
        Some(PROMPTS_GET) => text("gen_ai.prompt.name", exchange.target.clone()),
        Some(method) if method.starts_with("resources/") => text("mcp.resource.uri", exchange.target.clone()),
        Some(_) | None => {}
    }
    text("mcp.protocol.version", Some(exchange.protocol_version.clone()));
    // The era without sessions has no such id, and the conventions want none made up.
    let session = exchange.session.as_ref().filter(|_| !exchange.stateless);
    text("mcp.session.id", session.map(ToString::to_string));
    text("client.address", exchange.peer.map(|peer| peer.to_string()));
    text("error.type", exchange.error.map(str::to_owned));
    let is_code = |error: &&str| error.parse::<i32>().is_ok_and(|code| code < 0);
    text("rpc.response.status_code", exchange.error.filter(is_code).map(str::to_owned));
    text("undercurrent.verdict", exchange.verdict.and_then(verdict).map(str::to_owned));
    if let Some(status) = exchange.status {
        all.push(KeyValue::new("http.response.status_code", i64::from(status)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::exchange::tests::called;

    #[test]
    fn a_call_in_the_words_of_the_conventions() {
        let exchange = called("");
        let listen = "127.0.0.1:8808".parse().unwrap();
        let mut told: Vec<String> =
            of(&exchange, listen).iter().map(|one| format!("{} = {}", one.key, one.value)).collect();
        told.sort();
        told.insert(0, name(&exchange));
        insta::assert_snapshot!(told.join("\n"));
    }
}
