//! What a person reads who has just started `serve`: one screen.

use std::net::SocketAddr;

use crate::admin::UpstreamStatus;
use crate::data_dir::DataDir;
use crate::policy::Mode;

/// Says where to connect, what is being learned, and where the history is.
#[expect(clippy::print_stdout, reason = "this is what a person who starts `serve` came for")]
pub(super) fn welcome(
    upstreams: &[UpstreamStatus],
    one: Option<String>,
    admin: SocketAddr,
    data: &DataDir,
    mode: Mode,
) {
    let width = upstreams.iter().map(|upstream| upstream.endpoint.len()).max().unwrap_or(0);
    println!("Undercurrent {}: the learning gateway for MCP\n", env!("CARGO_PKG_VERSION"));
    println!("Connect MCP clients to");
    for upstream in upstreams {
        println!("    {:width$}    relayed to {}", upstream.endpoint, upstream.target);
    }
    if let Some(one) = one {
        println!("    {one:width$}    all of them as one server");
    }
    println!("\nLearning, per server: which tool follows which, where arguments come from, what values, shapes and");
    println!("sizes are usual. A session teaches when it ends; the first scores come with the second session.");
    println!(
        "{}\n",
        match mode {
            Mode::Observe =>
                "Mode: observe. What stands out is flagged, with reasons; nothing is held back because of it.",
            Mode::Enforce => "Mode: enforce. What stands out is flagged, delayed, held or blocked as the policy says.",
        }
    );
    println!("    console    http://{admin}/");
    println!("    metrics    http://{admin}/metrics");
    println!("    status     http://{admin}/status");
    println!("    history    {}  (Parquet; new files every minute)", data.history_dir().display());
    println!("\nStop with Ctrl-C: nothing is lost.");
}
