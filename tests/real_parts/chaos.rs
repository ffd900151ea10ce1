//! `serve` killed at every named point and at random moments, under load; after each kill what is left must lead to what
//! an unbroken life would have.
//!
//! After a kill the data directory is copied twice. One copy goes on from what is there; of the other everything that is
//! derived is taken away first, or its newest checkpoint is damaged where the log alone does not reach back. Both must
//! end with the same rows in every table, and with a checkpoint that the log confirms. `UNDERCURRENT_CHAOS_KILLS` says
//! how many kills, `UNDERCURRENT_CHAOS_SEED` repeats a run (`make chaos`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;
use undercurrent::faults::POINTS;

use crate::support::command::Words;
use crate::support::files::copy;
use crate::support::gateway::Serve;
use crate::support::history::History;
use crate::support::load::Load;
use crate::support::parts::{HttpServer, undercurrent};
use crate::support::process::Process;
use crate::support::status::Status;
use crate::support::wait::wait_until;

/// Kills if nobody says.
const KILLS: usize = 24;
const SESSIONS: usize = 3;
/// Rows of every table that come from ticks before a bound, as a number that does not depend on their order.
const TABLES: [&str; 10] =
    ["messages", "calls", "sessions", "features", "models", "labels", "tools", "alerts", "clusters", "telemetry"];

/// How the process is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// It ends itself at a point, after it has come by it so many times.
    Point(&'static str, u64),
    /// A signal, after each session has had so many more answers.
    Random(u64),
}

/// What there is between two kills.
struct Chaos {
    directory: TempDir,
    server: HttpServer,
    random: u64,
}

#[test]
fn whatever_a_kill_leaves_leads_to_what_an_unbroken_life_gives() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number("UNDERCURRENT_CHAOS_KILLS").map_or(KILLS, |kills| kills as usize);
    let seed = number("UNDERCURRENT_CHAOS_SEED").unwrap_or(20_261_123);
    eprintln!("chaos: UNDERCURRENT_CHAOS_SEED={seed}, {kills} kills");
    let directory = TempDir::new().expect("a temporary directory");
    let mut chaos = Chaos { directory, server: HttpServer::demo(), random: seed };
    let mut outcomes: BTreeMap<&'static str, usize> = BTreeMap::new();
    for kill in 0..kills {
        let fault = chaos.fault(kill);
        eprintln!("chaos: kill {kill}: {fault:?}");
        chaos.kill(fault);
        *outcomes.entry(fault.name()).or_default() += 1;
    }
    eprintln!("{}", table(&outcomes));
}

fn table(outcomes: &BTreeMap<&'static str, usize>) -> String {
    let mut text = String::from("fault                 kills  state, history and durable records as without it\n");
    for (name, kills) in outcomes {
        writeln!(text, "{name:<20} {kills:>6}  {kills}").expect("a string takes text");
    }
    text
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Point(name, _) => name,
            Self::Random(_) => "at random",
        }
    }

    /// The log is cut while it holds, so that it alone does not reach back.
    fn cuts(self) -> bool {
        self.name().starts_with("retention")
    }
}

impl Chaos {
    /// Of a seed, the same numbers every time (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Every point first, then any point and any moment in turn.
    fn fault(&mut self, kill: usize) -> Fault {
        match POINTS.get(kill) {
            Some((name, _)) => Fault::Point(name, 0),
            None if kill.is_multiple_of(2) => Fault::Random(1 + self.below(200)),
            None => {
                let at = self.below(POINTS.len() as u64) as usize;
                let name = POINTS[at].0;
                // A tick comes far more often than a checkpoint.
                let times = if name.starts_with("log") { self.below(60) } else { self.below(3) };
                Fault::Point(name, times)
            }
        }
    }

    fn serve(&self, data: &Path, cuts: bool) -> Serve {
        let retention = if cuts { "1" } else { "0" };
        Serve::new(data)
            .upstream("demo", &self.server.url())
            .setting("ENGINE__CHECKPOINT_INTERVAL_S", "1")
            .setting("ENGINE__SESSION_IDLE_S", "1")
            .setting("ENGINE__LATENESS_S", "0")
            .setting("ENGINE__CLUSTER_SESSIONS_MIN", "1")
            .setting("HISTORY__ROLL_SECONDS", "1")
            .setting("LOG__RETENTION_S", retention)
            .setting("LOG__RETENTION_BYTES", "0")
            .impatient()
    }

    fn kill(&mut self, fault: Fault) {
        // The log of those that cut it is another one: the others compare with the whole of theirs.
        let data = self.directory.path().join(if fault.cuts() { "cut" } else { "whole" });
        let serve = self.serve(&data, fault.cuts());
        let armed = match fault {
            Fault::Point(name, times) => serve.variable("FAILPOINTS", &format!("{name}={times}*off->return")),
            Fault::Random(_) => serve,
        };
        let mut gateway = armed.spawn();
        wait_until("it is ready, or gone already", || !gateway.process.is_running() || gateway.answers());
        let durable = Durable::watch(gateway.admin);
        let load = Pressure::start(gateway.listen);
        match fault {
            Fault::Point(name, _) => wait_until(&format!("it comes by `{name}`"), || !gateway.process.is_running()),
            Fault::Random(answers) => {
                load.advance(answers);
                gateway.process.kill();
            }
        }
        load.stop();
        let durable = durable.stop();
        drop(gateway);
        self.compare(&data, fault, &durable);
    }

    /// Lets two copies go on, and holds them against each other.
    fn compare(&self, data: &Path, fault: Fault, durable: &[(u64, u64)]) {
        let (left, right) = (self.directory.path().join("left"), self.directory.path().join("right"));
        copy(data, &left);
        copy(data, &right);
        if fault.cuts() {
            damage_second_checkpoint(&right);
        } else {
            for derived in ["history", "state"] {
                fs::remove_dir_all(right.join(derived)).expect("remove what is derived");
            }
        }
        let (left_rows, right_rows) = (self.life(&left, durable), self.life(&right, durable));
        let bound = [&left_rows, &right_rows].into_iter().map(first_of_last_life).min().expect("two");
        for table in TABLES {
            let (left, right) = (digest(&left_rows, table, bound), digest(&right_rows, table, bound));
            assert_eq!(left, right, "{table}, {fault:?}: what went on differs from what was derived anew");
        }
        for data in [&left, &right] {
            verify(data);
            fs::remove_dir_all(data).expect("remove a copy");
        }
    }

    /// Starts on what is there, takes it to its end and stops.
    fn life(&self, data: &Path, durable: &[(u64, u64)]) -> History {
        let gateway = self.serve(data, false).start();
        gateway.settle();
        let ends: BTreeMap<_, _> = gateway.status().partitions.iter().map(|at| (at.partition, at.durable)).collect();
        for (partition, offset) in durable {
            assert!(ends[partition] >= *offset, "partition {partition}: {offset} was durable, {} is", ends[partition]);
        }
        let history = gateway.stop();
        let doubles =
            "SELECT count(*) FROM (SELECT partition, \"offset\" FROM messages GROUP BY ALL HAVING count(*) > 1)";
        assert_eq!(history.number(doubles), 0, "a record stands in the history once");
        history
    }
}

/// The first tick of the newest life in the log: what is before it is the same in every copy.
fn first_of_last_life(history: &History) -> u64 {
    history.number("SELECT min(tick) FROM messages WHERE epoch = (SELECT max(epoch) FROM messages)")
}

/// How many rows there are before a tick, and a hash of them.
fn digest(history: &History, table: &str, before: u64) -> Option<String> {
    if !history.has(table) {
        return None;
    }
    let sql = format!(
        "SELECT count(*) AS rows, sum(hash(row)::HUGEINT)::VARCHAR AS hash FROM {table} row WHERE tick < {before} HAVING rows > 0"
    );
    history.rows(&sql).first().map(ToString::to_string)
}

/// The newest checkpoint is the one that the log gives.
fn verify(data: &Path) {
    let settings = [
        ("ENGINE__SESSION_IDLE_S", "1"),
        ("ENGINE__LATENESS_S", "0"),
        ("ENGINE__CALL_TIMEOUT_S", "3"),
        ("ENGINE__CLUSTER_SESSIONS_MIN", "1"),
    ];
    let mut command = Words::new(undercurrent()).and_all(["state", "verify", "--data"]).and(data).command();
    command.envs(settings.map(|(key, value)| (format!("UNDERCURRENT__{key}"), value)));
    command.stdout(std::process::Stdio::piped());
    let mut process = Process::start("undercurrent state verify", command);
    let said = crate::support::raw::read_all(process.take_stdout());
    let status = process.wait();
    let said = said.join().expect("the reader does not panic");
    assert!(status.success(), "{said}{}", process.stderr());
}

/// Makes the second of the checkpoints unreadable, as a failing disk would.
fn damage_second_checkpoint(data: &Path) {
    let dir = data.join("state/checkpoints");
    let manifest = fs::read(dir.join("MANIFEST.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    if let Some(file) = manifest["checkpoints"][1]["file"].as_str() {
        let mut bytes = fs::read(dir.join(file)).expect("a checkpoint");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(dir.join(file), bytes).expect("damaged");
    }
}

/// Load that outlives the gateway.
struct Pressure(JoinHandle<()>, Arc<AtomicBool>, Arc<Mutex<Spells>>);

/// Load comes in spells.
#[derive(Default)]
struct Spells {
    now: Option<Load>,
    /// Answers of those that are over.
    answered: u64,
}

impl Pressure {
    fn start(listen: SocketAddr) -> Self {
        let (stop, load) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Spells::default())));
        let (stopping, shared) = (Arc::clone(&stop), Arc::clone(&load));
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                // Where the gateway has gone before a session began, there is no load.
                let begin = || Load::start(listen, "/mcp/demo", SESSIONS);
                let Ok(begun) = catch_unwind(AssertUnwindSafe(begin)) else { return };
                shared.lock().expect("no panic").now = Some(begun);
                thread::sleep(Duration::from_millis(500));
                let over = {
                    let mut spells = shared.lock().expect("no panic");
                    let over = spells.now.take();
                    spells.answered += over.as_ref().map_or(0, Load::answered);
                    over
                };
                // Sessions end, teach, and others come.
                over.map(Load::stop);
            }
        });
        Self(thread, stop, load)
    }

    /// Waits until there were so many answers, or the load is over.
    fn advance(&self, answers: u64) {
        wait_until("there are answers", || {
            let spells = self.2.lock().expect("no panic");
            spells.answered + spells.now.as_ref().map_or(0, Load::answered) >= answers || self.0.is_finished()
        });
    }

    fn stop(self) {
        self.1.store(true, Ordering::Relaxed);
        self.0.join().expect("the load does not panic");
    }
}

/// The offsets that were said to be durable last.
struct Durable(JoinHandle<()>, Arc<Mutex<Vec<(u64, u64)>>>);

impl Durable {
    fn watch(admin: SocketAddr) -> Self {
        let last = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&last);
        let thread = thread::spawn(move || {
            // Until nobody answers any more.
            while let Ok(status) = catch_unwind(|| Status::ask(admin)) {
                let durable = status.partitions.iter().map(|at| (at.partition, at.durable)).collect();
                *shared.lock().expect("no panic") = durable;
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self(thread, last)
    }

    fn stop(self) -> Vec<(u64, u64)> {
        self.0.join().expect("the watch does not panic");
        self.1.lock().expect("no panic").clone()
    }
}
