//! A gateway that is asked to stop: what is under way ends well, and nothing new begins.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::fake::{respond, upstream};
use crate::support::gateway::Serve;
use crate::support::http::request;
use crate::support::raw::POST_HEADERS;
use crate::support::wait::wait_until;

const REQUESTS: usize = 20;

#[test]
fn no_request_is_lost_when_it_is_asked_to_stop() {
    let data = TempDir::new().expect("a temporary directory");
    let slow = upstream(|request, socket| {
        let id = &request.json()["id"];
        thread::sleep(Duration::from_millis(700));
        respond(socket, "200 OK", "", &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    });
    let mut gateway = Serve::new(data.path()).upstream("slow", &format!("http://{slow}/mcp")).start();
    let listen = gateway.listen;
    let asked: Vec<_> = (0..REQUESTS)
        .map(|id| {
            thread::spawn(move || {
                let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
                request(listen, "POST", "/mcp/slow", &POST_HEADERS, body.as_bytes())
            })
        })
        .collect();
    wait_until("all requests are under way", || {
        gateway.metrics().sum("undercurrent_gateway_overhead_seconds_count") >= REQUESTS as f64
    });
    let status = gateway.process.terminate();
    assert!(status.success(), "{status}: {}", gateway.process.stderr());
    for (id, asked) in asked.into_iter().enumerate() {
        let answer = asked.join().expect("a request ends");
        assert_eq!((answer.status(), answer.json()["id"].as_u64()), (200, Some(id as u64)), "{answer:?}");
    }
    assert!(TcpStream::connect(listen).is_err(), "nobody listens any more");
}
