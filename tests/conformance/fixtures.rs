//! The server under test: the project's own, with the suite's fixtures.

use crate::support::command::Words;
use crate::support::parts::{HttpServer, undercurrent};
use crate::support::wait::free_address;

/// Less than what the call takes that the suite's polling scenario makes, 1.2 s, and more than what its others take.
pub(crate) const STREAM_MAX_MS: u64 = 600;

/// It, on standard input and output.
pub(crate) fn over_stdio() -> Words {
    let path = undercurrent().with_file_name(format!("conformance-server{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: run cargo build --workspace", path.display());
    Words::new(path)
}

/// It, listening.
#[track_caller]
pub(crate) fn over_http() -> HttpServer {
    let address = free_address();
    let command = over_stdio().and("--listen").and(address.to_string()).command();
    HttpServer::listening("conformance-server", address, command)
}
