//! A gateway under attack: beside whatever goes on, another session must not notice, and memory must stay in a bound.

use std::cell::Cell;

use serde_json::json;
use tempfile::TempDir;

use super::gateway::{Gateway, Serve};
use super::history::History;
use super::memory::{MIB, resident};
use super::metrics::Metrics;
use super::parts::HttpServer;
use super::raw::HttpSession;

/// What a gateway may hold more at the end than at the beginning: a response or a body of an attack that was held back
/// as a whole would show.
const GROWTH_MAX: u64 = 96 * MIB;

/// The same where the attack is a flood of messages, each of which is learned from: the log, the engine and the history
/// have their bounds too, and reach them.
pub(crate) const GROWTH_OF_MESSAGES_MAX: u64 = 256 * MIB;

/// The gateway, an honest server `demo` behind it, and a session with that.
#[derive(Debug)]
pub(crate) struct Siege {
    data: TempDir,
    _demo: HttpServer,
    pub(crate) gateway: Gateway,
    bystander: HttpSession,
    resident_before: u64,
    growth_max: u64,
    calls: Cell<u64>,
}

impl Siege {
    /// A gateway with what is attacked, or attacks, besides `demo`.
    #[track_caller]
    pub(crate) fn of(with: impl FnOnce(Serve) -> Serve) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let demo = HttpServer::demo();
        let serve = Serve::new(data.path()).upstream("demo", &demo.url()).impatient();
        // What waits for the log and for the history is bounded by settings, to more than a test wants to see.
        let serve = serve.setting("LOG__QUEUE_BYTES_MAX", "4194304").setting("HISTORY__ROLL_ROWS", "4096");
        let gateway = with(serve).start();
        let bystander = HttpSession::connect(gateway.listen, "/mcp/demo");
        let calls = Cell::new(0);
        let mut siege =
            Self { data, _demo: demo, gateway, bystander, resident_before: 0, growth_max: GROWTH_MAX, calls };
        siege.bystander_is_served();
        siege.resident_before = resident(siege.gateway.process.id());
        siege
    }

    /// Memory may grow by so much.
    pub(crate) fn growing_at_most(self, growth_max: u64) -> Self {
        Self { growth_max, ..self }
    }

    /// A call of the bystander.
    #[track_caller]
    pub(crate) fn bystander_is_served(&self) {
        let id = self.calls.get() + 1;
        self.calls.set(id);
        let answer = self.bystander.call(id, "get_balance", &json!({}));
        assert_eq!(answer["id"], id, "{answer}");
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.gateway.metrics()
    }

    /// Asserts that memory has kept its bound.
    #[track_caller]
    pub(crate) fn memory_is_bounded(&self) {
        let (before, now) = (self.resident_before, resident(self.gateway.process.id()));
        let grown = now.saturating_sub(before);
        assert!(grown <= self.growth_max, "{} MiB more than the {} MiB before", grown / MIB, before / MIB);
    }

    /// The end: all of the above, and every call of the bystander in the history, once and with its result. Gives the
    /// history, and the directory that it lives in.
    #[track_caller]
    pub(crate) fn ends(self) -> (TempDir, History) {
        self.bystander_is_served();
        self.memory_is_bounded();
        let said = self.gateway.process.stderr();
        assert!(!said.contains("panicked"), "{said}");
        let calls = self.calls.get();
        let history = self.gateway.stop();
        let answered = "SELECT count(*) FROM calls WHERE server = 'demo' AND outcome = 'result'";
        assert_eq!(history.number(answered), calls, "calls of the bystander");
        (self.data, history)
    }
}
