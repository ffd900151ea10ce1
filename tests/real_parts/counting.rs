//! Under load without overflow nothing is missing: no gap records, and a row for every call that was sent.

use tempfile::TempDir;

use crate::support::gateway::Serve;
use crate::support::load::Load;
use crate::support::names::LOG_EVENTS_DROPPED;
use crate::support::parts::HttpServer;

const SESSIONS: usize = 8;
const CALLS: u64 = 1000;

#[test]
fn every_call_has_a_row_and_there_are_no_gaps() {
    let data = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let gateway = Serve::new(data.path()).upstream("demo", &server.url()).start();
    let sent = Load::bounded(gateway.listen, "/mcp/demo", SESSIONS, CALLS).join();
    assert_eq!(sent, SESSIONS as u64 * CALLS);
    gateway.settle();
    assert_eq!(gateway.metrics().sum(LOG_EVENTS_DROPPED), 0.0);
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls"), sent);
    assert_eq!(history.number("SELECT count(DISTINCT (session_id, jsonrpc_id)) FROM calls"), sent);
    assert_eq!(history.number("SELECT count(*) FROM messages WHERE body = 'gap'"), 0);
    assert_eq!(history.number("SELECT count(*) FROM messages WHERE method = 'tools/call' AND kind = 'request'"), sent);
    assert_eq!(history.number("SELECT count(*) FROM sessions"), SESSIONS as u64);
}
