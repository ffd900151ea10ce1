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
