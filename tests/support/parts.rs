//! Where the parts are that `tests/parts/install.sh` installed, and the commands made of them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::command::Words;
use super::process::Process;
use super::raw::read_all;
use super::wait::{free_address, wait_for_listener};

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary under test.
pub(crate) fn undercurrent() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_undercurrent"))
}

/// The demo's binary, of the same build.
pub(crate) fn demo() -> PathBuf {
    let path = undercurrent().with_file_name(format!("undercurrent-demo{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: run cargo build -p undercurrent-demo", path.display());
    path
}

/// A part by its path below `target/parts`.
#[track_caller]
pub(crate) fn part(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the tests' directory is in target");
    let part = target.join("parts").join(path);
    assert!(part.exists(), "{} is missing: run tests/parts/install.sh", part.display());
    part
}

#[track_caller]
pub(crate) fn python() -> PathBuf {
    part("python/bin/python")
}

#[track_caller]
fn node() -> PathBuf {
    part("bin/node")
}

/// A script of ours beside the node modules that it imports.
#[track_caller]
pub(crate) fn node_script(name: &str) -> Words {
    // The script is a link into the tree: its imports are found beside the link.
    Words::new(node()).and("--preserve-symlinks").and("--preserve-symlinks-main").and(part(&format!("node/{name}")))
}

/// A script of ours for the Python environment.
#[track_caller]
pub(crate) fn python_script(name: &str) -> Words {
    Words::new(python()).and(root().join("tests/parts/python").join(name))
}

/// What a script of ours says to `input`.
#[track_caller]
pub(crate) fn python_answer(name: &str, arguments: &[&str], input: &str) -> String {
    let mut command = python_script(name).and_all(arguments).command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::start(name, command);
    let output = read_all(process.take_stdout());
    process.take_stdin().write_all(input.as_bytes()).expect("the script reads its input");
    assert!(process.wait().success(), "{}", process.stderr());
    output.join().expect("the reader does not panic")
}

/// npm's server-filesystem on standard input and output, allowed to see `directory`.
#[track_caller]
pub(crate) fn server_filesystem(directory: &Path) -> Words {
    let script = part("node/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js");
    Words::new(node()).and(script).and(directory)
}

/// PyPI's mcp-server-time on standard input and output: both eras.
#[track_caller]
pub(crate) fn server_time() -> Words {
    Words::new(python()).and("-m").and("mcp_server_time").and("--local-timezone").and("UTC")
}

/// npm's server-everything on standard input and output.
#[track_caller]
pub(crate) fn server_everything() -> Words {
    Words::new(node()).and(everything_script()).and("stdio")
}

/// An official server with the tools of `sdk_flows`, by the language of its SDK; both eras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowsServer {
    Python,
    TypeScript,
}

impl FlowsServer {
    /// On standard input and output.
    #[track_caller]
    pub(crate) fn words(self) -> Words {
        match self {
            Self::Python => python_script("flows_server.py"),
            Self::TypeScript => node_script("flows_server.mjs"),
        }
    }

    /// Over Streamable HTTP, with sessions and an event store for the legacy era.
    #[track_caller]
    pub(crate) fn listening(self) -> HttpServer {
        let address = free_address();
        let command = self.words().and("--port").and(address.port().to_string()).command();
        HttpServer::listening(&format!("{self:?} flows server"), address, command)
    }
}

/// The project's own demo server on standard input and output.
pub(crate) fn server_demo() -> Words {
    Words::new(demo()).and("server").and("--stdio")
}

#[track_caller]
fn everything_script() -> PathBuf {
    part("node/node_modules/@modelcontextprotocol/server-everything/dist/index.js")
}

/// An MCP server that listens.
#[derive(Debug)]
pub(crate) struct HttpServer {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl HttpServer {
    /// npm's server-everything over Streamable HTTP.
    #[track_caller]
    pub(crate) fn everything() -> Self {
        let address = free_address();
        let mut command = Words::new(node()).and(everything_script()).and("streamableHttp").command();
        command.env("PORT", address.port().to_string());
        Self::listening("server-everything", address, command)
    }

    /// npm's server-everything over HTTP+SSE, the transport of 2024-11-05.
    #[track_caller]
    pub(crate) fn everything_sse() -> Self {
        let address = free_address();
        let mut command = Words::new(node()).and(everything_script()).and("sse").command();
        command.env("PORT", address.port().to_string());
        Self::listening("server-everything over SSE", address, command)
    }

    /// The project's own demo server over Streamable HTTP.
    #[track_caller]
    pub(crate) fn demo() -> Self {
        let address = free_address();
        let command = Words::new(demo()).and("server").and("--listen").and(address.to_string()).command();
        Self::listening("undercurrent-demo", address, command)
    }

    /// Its endpoint.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    #[track_caller]
    pub(crate) fn listening(name: &str, address: SocketAddr, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = Process::start(name, command);
        wait_for_listener(name, address);
        Self { process, address }
    }
}
