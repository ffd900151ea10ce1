//! `undercurrent serve` as a process under test, on ports of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::command::Words;
use super::history::History;
use super::http::get;
use super::metrics::Metrics;
use super::names::CALLS_SETTLED;
use super::parts::undercurrent;
use super::process::Process;
use super::status::Status;
use super::wait::{free_address, wait_until};

/// How to start it.
#[derive(Clone, Debug)]
pub(crate) struct Serve {
    command: &'static str,
    data: PathBuf,
    launcher: Option<Words>,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
}

/// A gateway that answers.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    data: PathBuf,
}

impl Serve {
    pub(crate) fn new(data: &Path) -> Self {
        Self { command: "serve", data: data.to_owned(), launcher: None, arguments: Vec::new(), settings: Vec::new() }
    }

    /// The gateway alone.
    pub(crate) fn gateway(mut self) -> Self {
        self.command = "gateway";
        self
    }

    /// The engine alone.
    pub(crate) fn engine(mut self) -> Self {
        self.command = "engine";
        self
    }

    /// Adds an upstream: a URL or a command line.
    pub(crate) fn upstream(self, name: &str, to: &str) -> Self {
        self.with("--upstream", &format!("{name}={to}"))
    }

    /// Adds an option.
    pub(crate) fn with(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
        self
    }

    /// Sets a key of the configuration, as `SECTION__KEY`.
    pub(crate) fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.push((format!("UNDERCURRENT__{key}"), value.to_owned()));
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives calls up soon: for tests in which some are never answered.
    pub(crate) fn impatient(self) -> Self {
        self.setting("ENGINE__CALL_TIMEOUT_S", "3")
    }

    /// Starts it through another command, e.g. one that limits it.
    pub(crate) fn through(mut self, launcher: Words) -> Self {
        self.launcher = Some(launcher);
        self
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(&self) -> Gateway {
        let (listen, admin) = (free_address(), free_address());
        let serve = Words::new(undercurrent())
            .and(self.command)
            .and_all(if self.command == "engine" { vec![] } else { vec!["--listen".to_owned(), listen.to_string()] })
            .and_all(["--admin", &admin.to_string()])
            .and("--data")
            .and(&self.data)
            .and_all(&self.arguments);
        let words = self.launcher.as_ref().map_or(serve.clone(), |launcher| launcher.clone().running(&serve));
        let mut command = words.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).envs(self.settings.iter().cloned());
        Gateway { process: Process::start("undercurrent serve", command), listen, admin, data: self.data.clone() }
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(&self) -> Gateway {
        let mut gateway = self.spawn();
        wait_until("undercurrent serve is ready", || {
            assert!(gateway.process.is_running(), "undercurrent serve ended: {}", gateway.process.stderr());
            gateway.is_ready()
        });
        gateway
    }

    /// Starts it, expects it to refuse, and gives what it said.
    #[track_caller]
    pub(crate) fn refused(&self) -> String {
        let mut gateway = self.spawn();
        let status = gateway.process.wait();
        let said = gateway.process.stderr();
        assert!(!status.success(), "it started all the same: {said}");
        assert!(!said.contains("panicked"), "a refusal is not a panic: {said}");
        said
    }
}

impl Gateway {
    pub(crate) fn is_ready(&self) -> bool {
        std::net::TcpStream::connect(self.admin).is_ok() && get(self.admin, "/readyz").status() == 200
    }

    /// As [`Self::is_ready`], of one that may be gone at any moment.
    pub(crate) fn answers(&self) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.is_ready())).unwrap_or(false)
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        Status::ask(self.admin)
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin)
    }

    /// Waits until all that has been said so far is durable and learned. Under load on Kafka, whose partitions do not wait
    /// for each other: until as much is durable as was said.
    #[track_caller]
    pub(crate) fn settle(&self) {
        // What was said by now waited then, or is durable now; under load the queue is never seen empty.
        let waiting = self.status().queued_events;
        let said = self.status().durable_events() + waiting;
        let mut durable = None;
        wait_until("everything said is learned", || {
            let now = self.status();
            if durable.is_none() && (now.queued_events == 0 || now.durable_events() >= said) {
                durable = Some(now.clone());
            }
            durable.as_ref().is_some_and(|durable| now.has_learned(durable))
        });
    }

    /// Waits until so many calls since the start are settled: an unanswered one is when its timeout has passed.
    #[track_caller]
    pub(crate) fn settle_calls(&self, calls: u64) {
        wait_until(&format!("{calls} calls are settled"), || self.metrics().sum(CALLS_SETTLED) >= calls as f64);
    }

    /// Stops it as a service manager does, and gives the history that it left.
    #[track_caller]
    pub(crate) fn stop(mut self) -> History {
        let status = self.process.terminate();
        assert!(status.success(), "a graceful stop ends with {status}: {}", self.process.stderr());
        self.history()
    }

    /// As [`Self::stop`], for one that writes no history.
    #[track_caller]
    pub(crate) fn stop_without_history(mut self) {
        let status = self.process.terminate();
        assert!(status.success(), "a graceful stop ends with {status}: {}", self.process.stderr());
    }

    /// Kills it without warning.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    pub(crate) fn history(&self) -> History {
        History::of_data(&self.data)
    }
}
