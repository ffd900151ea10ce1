//! The `undercurrent` command.

use std::process::ExitCode;

use clap::Parser as _;
use undercurrent::app;
use undercurrent::cli::{Cli, Command};
use undercurrent::telemetry::init_tracing;

#[cfg(not(any(target_env = "msvc", target_os = "windows")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let _armed = undercurrent::faults::armed();
    let Cli { command, log_level, log_format } = Cli::parse();
    let result = init_tracing(&log_level, log_format).map_err(anyhow::Error::from).and_then(|()| match command {
        Command::Serve(args) => app::serve(&args),
        Command::Gateway(args) => app::gateway(&args),
        Command::Engine(args) => app::engine(&args),
        Command::Check(args) => app::check(&args),
        Command::Install(args) => app::install(&args),
        Command::Uninstall(args) => app::uninstall(&args),
        Command::Wrap(args) => app::wrap(&args),
        Command::Replay(args) => app::replay(&args),
        Command::Hold(args) => app::hold(&args),
        Command::Key(args) => app::key(&args),
        Command::Label(args) => app::label(&args),
        Command::Forget(args) => app::forget(&args),
        Command::State(args) => app::state(&args),
        Command::Model(args) => app::model(&args),
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            // What the process has to say when nothing else of it works.
            eprintln!("undercurrent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
