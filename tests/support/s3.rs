//! A real S3-compatible server (moto), and a relay before it that can be away.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use super::command::Words;
use super::http::request;
use super::parts::{HttpServer, python, python_script};
use super::process::Process;
use super::raw::read_all;
use super::wait::free_address;

/// A server with one bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    name: String,
    server: HttpServer,
    relay: SocketAddr,
    away: Arc<AtomicBool>,
}

impl Bucket {
    #[track_caller]
    pub(crate) fn start(name: &str) -> Self {
        let address = free_address();
        let moto = Words::new(python()).and_all(["-m", "moto.server", "-H", "127.0.0.1", "-p"]);
        let server = HttpServer::listening("moto", address, moto.and(address.port().to_string()).command());
        let made = request(address, "PUT", &format!("/{name}"), &[], &[]);
        assert_eq!(made.status(), 200, "make a bucket");
        let away = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
        let relay = listener.local_addr().expect("a bound listener has an address");
        let is_away = Arc::clone(&away);
        thread::spawn(move || listener.incoming().flatten().for_each(|client| pass(client, address, &is_away)));
        Self { name: name.to_owned(), server, relay, away }
    }

    /// Whether every connection is refused, those that are open too.
    pub(crate) fn away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// How an S3 client reaches it.
    pub(crate) fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.relay)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }

    /// What pyarrow and Polars make of it.
    #[track_caller]
    pub(crate) fn content(&self, prefix: &str) -> Value {
        let script = python_script("bucket.py").and(self.server.address.to_string()).and(&self.name).and(prefix);
        let mut command = script.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start("bucket.py", command);
        let output = read_all(process.take_stdout());
        assert!(process.wait().success(), "{}", process.stderr());
        serde_json::from_str(&output.join().expect("the reader does not panic")).expect("bucket.py prints JSON")
    }
}

fn pass(client: TcpStream, to: SocketAddr, away: &Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(to) else { return };
    if away.load(Ordering::Relaxed) {
        return;
    }
    let (Ok(client_back), Ok(server_back)) = (client.try_clone(), server.try_clone()) else { return };
    for (from, to) in [(client, server), (server_back, client_back)] {
        let away = Arc::clone(away);
        thread::spawn(move || pump(from, to, &away));
    }
}

/// Moves bytes until either end closes or the server is away.
fn pump(mut from: TcpStream, mut to: TcpStream, away: &AtomicBool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(read @ 1..) = io::Read::read(&mut from, &mut buffer) {
        if away.load(Ordering::Relaxed) || io::Write::write_all(&mut to, &buffer[..read]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
