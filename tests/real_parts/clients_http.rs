//! Official clients over HTTP: every byte arrives as it was sent, both ways, and every call is in `calls`.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::calls::{Called, assert_recorded, called, merge};
use crate::support::command::Words;
use crate::support::exchange::{Exchange, assert_same};
use crate::support::gateway::Serve;
use crate::support::parts::{HttpServer, server_demo, server_everything, server_filesystem, server_time};
use crate::support::pipe::PipeTee;
use crate::support::scenario::{ALL, Calls, Client, LEGACY, Target, run};
use crate::support::spliced::{sorted, without_ids};
use crate::support::tee::Tee;

#[test]
fn server_everything_over_http() {
    over_http(&HttpServer::everything(), &Calls::everything(), &LEGACY);
}

#[test]
fn demo_over_http() {
    over_http(&HttpServer::demo(), &Calls::demo(), &ALL);
}

#[test]
fn server_everything_over_stdio() {
    over_stdio(&server_everything(), &Calls::everything(), &LEGACY);
}

#[test]
fn server_filesystem_over_stdio() {
    let directory = TempDir::new().expect("a temporary directory");
    let files = office_files(directory.path());
    over_stdio(&server_filesystem(&files), &Calls::filesystem(&files), &LEGACY);
}

#[test]
fn server_time_over_stdio() {
    over_stdio(&server_time(), &Calls::time(), &ALL);
}

#[test]
fn demo_over_stdio() {
    over_stdio(&server_demo(), &Calls::demo(), &ALL);
}

/// A directory for server-filesystem, by its real name: the server allows no other.
pub(crate) fn office_files(directory: &Path) -> PathBuf {
    let files = fs::canonicalize(directory).expect("the directory is there").join("files");
    fs::create_dir(&files).expect("make a directory");
    fs::write(files.join("note.txt"), "noted\n").expect("write a file");
    files
}

/// Client → tee → gateway → tee → server: the tees see the same.
fn over_http(server: &HttpServer, calls: &Calls, clients: &[Client]) {
    let data = TempDir::new().expect("a temporary directory");
    let behind = Tee::to(server.address);
    let gateway = Serve::new(data.path()).upstream("real", &format!("http://{}/mcp", behind.address())).start();
    let before = Tee::to(gateway.listen);
    for client in clients {
        run(*client, &Target::Url(format!("http://{}/mcp/real", before.address())), calls);
    }
    let history = gateway.stop();
    let seen = before.exchanges();
    assert_same(&seen, &behind.exchanges());
    let expected = calls_of(&seen);
    assert_eq!(expected.values().sum::<u64>(), (clients.len() * calls.len()) as u64);
    assert_recorded(&history, &expected);
}

/// Client → tee → gateway → pipe tee → server: each message arrives as it was sent. Around it, HTTP is the gateway's.
fn over_stdio(server: &Words, calls: &Calls, clients: &[Client]) {
    let directory = TempDir::new().expect("a temporary directory");
    let behind = PipeTee::new(&directory.path().join("pipes"));
    let gateway = Serve::new(&directory.path().join("data")).upstream("real", &behind.around(server).line()).start();
    let before = Tee::to(gateway.listen);
    for client in clients {
        run(*client, &Target::Url(format!("http://{}/mcp/real", before.address())), calls);
    }
    let history = gateway.stop();
    let seen = before.exchanges();
    // A child that several stateless clients share gets ids that are unique there: a splice, and nothing else.
    let sent = seen.iter().filter(|exchange| exchange.request.method() == "POST");
    let sent = sorted(sent.map(|exchange| without_ids(&exchange.request.body)));
    assert_eq!(sent, sorted(behind.lines_in().iter().map(|line| without_ids(line))), "what the server read");
    let received = seen.iter().filter_map(|exchange| exchange.response.as_ref());
    let received = sorted(received.flat_map(|response| response.payloads()).map(|payload| without_ids(&payload)));
    assert_eq!(received, sorted(behind.lines_out().iter().map(|line| without_ids(line))), "what the clients got");
    assert_recorded(&history, &calls_of(&seen));
}

fn calls_of(exchanges: &[Exchange]) -> Called {
    let mut all = Called::new();
    for exchange in exchanges.iter().filter(|exchange| exchange.request.method() == "POST") {
        merge(&mut all, called("real", [exchange.request.body.as_slice()]));
    }
    all
}
