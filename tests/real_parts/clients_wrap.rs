//! Official clients over `wrap`: a pipe tee on either side of it keeps the same bytes, and every call is in `calls`.

use tempfile::TempDir;

use crate::clients_http::office_files;
use crate::support::calls::{assert_recorded, called, merge};
use crate::support::command::Words;
use crate::support::history::History;
use crate::support::parts::{server_demo, server_everything, server_filesystem, server_time, undercurrent};
use crate::support::pipe::PipeTee;
use crate::support::raw::StdioPeer;
use crate::support::scenario::{ALL, Calls, Client, LEGACY, Target, run};

#[test]
fn server_everything_wrapped() {
    wrapped(&server_everything(), &Calls::everything(), &LEGACY);
}

#[test]
fn server_filesystem_wrapped() {
    let directory = TempDir::new().expect("a temporary directory");
    let files = office_files(directory.path());
    wrapped(&server_filesystem(&files), &Calls::filesystem(&files), &LEGACY);
}

#[test]
fn server_time_wrapped() {
    wrapped(&server_time(), &Calls::time(), &ALL);
}

#[test]
fn demo_wrapped() {
    wrapped(&server_demo(), &Calls::demo(), &ALL);
}

/// Standard error and the exit code are the server's, and nothing but the server's is on standard output.
#[test]
fn the_rest_of_a_process_passes_too() {
    let data = TempDir::new().expect("a temporary directory");
    let server = Words::new("sh").and("-c").and("echo said on stderr >&2; read line; echo \"$line\"; exit 7");
    let mut peer = StdioPeer::start("wrap", &wrap("odd", data.path()).running(&server));
    peer.send("not JSON at all");
    assert_eq!(peer.next_line().as_deref(), Ok("not JSON at all"));
    assert!(peer.next_line().is_err(), "the server said no more");
    assert_eq!(peer.process.wait().code(), Some(7));
    assert!(peer.process.stderr().contains("said on stderr\n"));
}

/// `undercurrent wrap --name NAME --data DATA --`, to be followed by a server's command.
pub(crate) fn wrap(name: &str, data: &std::path::Path) -> Words {
    Words::new(undercurrent()).and_all(["wrap", "--name", name, "--data"]).and(data).and("--")
}

fn wrapped(server: &Words, calls: &Calls, clients: &[Client]) {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let mut expected = Default::default();
    for client in clients {
        let outer = PipeTee::new(&directory.path().join(format!("{client:?}-outer")));
        let inner = PipeTee::new(&directory.path().join(format!("{client:?}-inner")));
        let command = outer.around(&wrap("real", &data).running(&inner.around(server)));
        run(*client, &Target::Command(command), calls);
        assert_eq!(outer.kept(), inner.kept(), "{client:?}");
        merge(&mut expected, called("real", outer.lines_in().iter().map(Vec::as_slice)));
    }
    assert_eq!(expected.values().sum::<u64>(), (clients.len() * calls.len()) as u64);
    assert_recorded(&History::of_data(&data), &expected);
}
