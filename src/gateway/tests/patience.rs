//! How long an answer may take: signs of life extend it, up to an end.

use super::*;

/// An upstream that says something every so often, and never answers; on both ways.
async fn check(silence: u64, call: u64, every: u64, expect_at_least: usize) {
    for extra in ["", "te: trailers\r\n"] {
        let (upstream, _served) = scripted(move |mut peer| async move {
            peer.until(JSON_END).await;
            peer.send(EVENTS).await;
            loop {
                tokio::time::sleep(Duration::from_millis(every)).await;
                let progress = chunk("data: {\"method\":\"notifications/progress\"}\n\n");
                if peer.stream.write_all(progress.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let mut config = config(&format!("up=http://{upstream}/"));
        config.timeouts.response = Duration::from_millis(silence);
        config.timeouts.call = Duration::from_millis(call);
        let gateway = gateway(config).await;
        let mut client = Peer::connect(gateway.address).await;
        client.post("/mcp/up", extra, "{\"id\":1,\"method\":\"tools/call\"}\n").await;
        let all = client.rest().await;
        let heard = all.matches("notifications/progress").count();
        assert!(heard >= expect_at_least && !all.ends_with("0\r\n\r\n"), "{heard}: {all}");
        until(|| gateway.requests("up", "aborted") == 1).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn progress_extends_the_time_and_an_end_comes_all_the_same() {
    check(2_000, 400, 20, 2).await;
}

#[tokio::test]
async fn silence_ends_it() {
    check(100, 60_000, 10_000, 0).await;
}

#[tokio::test]
async fn who_merely_listens_is_not_cut_off() {
    let (upstream, _served) = scripted(|mut peer| async move {
        peer.until("\r\n\r\n").await;
        peer.send(EVENTS).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        peer.send(&(chunk("data: {\"late\":1}\n\n") + "0\r\n\r\n")).await;
    })
    .await;
    let mut config = config(&format!("up=http://{upstream}/"));
    config.timeouts.response = Duration::from_millis(50);
    let gateway = gateway(config).await;
    let mut client = Peer::connect(gateway.address).await;
    client.send("GET /mcp/up HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: s\r\n\r\n").await;
    client.until("{\"late\":1}").await;
    gateway.stop().await;
}

/// The next request that comes to an upstream, on whichever connection.
async fn taken(listener: &TcpListener) -> (Peer, String, String) {
    let mut peer = Peer::new(within(listener.accept()).await.unwrap().0);
    let (head, body) = peer.request().await.unwrap();
    (peer, head, body)
}

/// A legacy upstream that is given up is told, in the same session and by the same sender; on both ways, before its
/// answer and in the middle of one.
#[tokio::test]
async fn a_call_that_is_given_up_is_taken_back() {
    for extra in ["", "te: trailers\r\n"] {
        for begun in [None, Some("data: {\"method\":\"notifications/progress\"}\n\n")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut config = config(&format!("up=http://{}/", listener.local_addr().unwrap()));
            config.timeouts.response = Duration::from_millis(100);
            let gateway = gateway(config).await;
            let mut client = Peer::connect(gateway.address).await;
            let sender = "mcp-session-id: s1\r\nmcp-protocol-version: 2025-06-18\r\nauthorization: Bearer t\r\n";
            client.post("/mcp/up", &format!("{sender}{extra}"), r#"{"id":"a","method":"tools/call"}"#).await;
            let (mut call, ..) = taken(&listener).await;
            if let Some(event) = begun {
                call.send(EVENTS).await;
                call.send(&chunk(event)).await;
            }
            let (_told, head, body) = taken(&listener).await;
            assert!(body.contains(r#""method":"notifications/cancelled","params":{"requestId":"a""#), "{body}");
            for line in sender.lines() {
                assert!(head.contains(line), "{line}: {head}");
            }
            gateway.stop().await;
        }
    }
}

/// Of a stream with ids the client can have the rest, and in the era without sessions the end of the exchange says it all.
#[tokio::test]
async fn what_can_be_had_again_is_not_taken_back() {
    let modern = "mcp-protocol-version: 2026-07-28\r\n";
    for (headers, event) in [("mcp-session-id: s1\r\n", "id: 1\ndata: {}\n\n"), (modern, "data: {}\n\n")] {
        for extra in ["", "te: trailers\r\n"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut config = config(&format!("up=http://{}/", listener.local_addr().unwrap()));
            config.timeouts.response = Duration::from_millis(100);
            let gateway = gateway(config).await;
            let mut client = Peer::connect(gateway.address).await;
            client.post("/mcp/up", &format!("{headers}{extra}"), r#"{"id":"a","method":"tools/call"}"#).await;
            let (mut call, ..) = taken(&listener).await;
            call.send(&(EVENTS.to_owned() + &chunk(event))).await;
            client.rest().await;
            until(|| gateway.requests("up", "aborted") == 1).await;
            let mut next = Peer::connect(gateway.address).await;
            next.post("/mcp/up", headers, r#"{"method":"next"}"#).await;
            let (_, _, body) = taken(&listener).await;
            assert!(body.contains("next"), "{body}");
            gateway.stop().await;
        }
    }
}
