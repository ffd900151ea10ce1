//! The listener: connections in, requests to the gateway, until told to stop.
//!
//! Invariant: the number of connections is bounded; more wait in the listener's backlog. On shutdown open exchanges
//! get a while to finish, then they are cut.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Gateway;
use super::after_write::{AfterWrite, FlushedIo};
use super::call::Client;
use super::metrics::Counted;
use super::strict::{self, Reached};

/// Runs on the current runtime, best a current-thread one of its own: a call then stays on one thread from client to
/// upstream and back (`benches/http.rs` has both).
///
/// Serves until `shutdown` is ready, then stops accepting, lets exchanges finish and ends all children.
pub async fn serve(listener: TcpListener, gateway: Gateway, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let slots = Arc::new(Semaphore::new(gateway.shared.config.limits.connections_max));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (gateway, stopped) = (gateway.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(stream, peer, gateway, stopped).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop((listener, stop));
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(gateway.shared.config.timeouts.shutdown, all).await.is_err() {
        tracing::info!("cutting the exchanges that are still open");
        connections.shutdown().await;
    }
    gateway.close().await;
}

async fn connection(stream: TcpStream, peer: SocketAddr, gateway: Gateway, mut stopped: watch::Receiver<()>) {
    let _counted = Counted::new(&gateway.shared.metrics.connections);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "set TCP_NODELAY");
    }
    let Ok(reached) = stream.local_addr() else { return };
    let reached = reached.ip().to_canonical();
    let after_write = AfterWrite::default();
    let peer = peer.ip().to_canonical();
    let mut client = Client::new(peer, after_write.clone());
    let tls = gateway.live.load().tls.clone();
    let Some(tls) = tls else {
        let arrived = Reached { client: client.clone(), at: reached };
        if let Some(stream) = strict::serve(stream, &gateway, arrived, &mut stopped).await {
            general(stream, &gateway, reached, client, stopped).await;
        }
        return;
    };
    client.tls = true;
    // Whoever does not finish the handshake has said nothing yet, as with a head.
    match tokio::time::timeout(gateway.shared.config.timeouts.head, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => general(stream, &gateway, reached, client, stopped).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake with a client"),
        Err(_) => tracing::debug!("TLS handshake with a client took too long"),
    }
}

/// Any connection, over hyper.
async fn general(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    gateway: &Gateway,
    reached: IpAddr,
    client: Client,
    mut stopped: watch::Receiver<()>,
) {
    let after_write = client.after_write.clone();
    let limits = &gateway.shared.config.limits;
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.shared.config.timeouts.head)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.head_bytes_max.max(8192));
    let service = service_fn(|request| {
        let (gateway, client) = (gateway.clone(), client.clone());
        async move { Ok::<_, Infallible>(gateway.answer(request, reached, client).await) }
    });
    let mut connection = pin!(server.serve_connection(FlushedIo::new(TokioIo::new(stream), after_write), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended early");
    }
}
