//! A day in short: clients come and go while the server behind the gateway is killed, restarted, slowed, struck dumb and
//! forgets its connections, other clients stop in the middle of a word, and the settings change.
//!
//! Each answer is held against its own request. `UNDERCURRENT_SOAK_SECONDS` makes it longer (`make soak`).

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::support::echo::{Echo, Mood};
use crate::support::gateway::Serve;
use crate::support::http::{Message, get};
use crate::support::memory::{MIB, resident};
use crate::support::raw::{initialize, tools_call};
use crate::support::wire::Wire;

/// How long it lasts if nobody says.
const SECONDS: u64 = 60;
/// Between two clients that come.
const ARRIVAL: Duration = Duration::from_millis(500);
/// Calls of a client, and what it rests between them.
const CALLS: u64 = 40;
const REST: Duration = Duration::from_millis(50);
/// How the server does, one after the other, and for how long: each outage is followed by a good time.
const DAY: [(Mood, Duration); 10] = [
    (Mood::Good, Duration::from_secs(3)),
    (Mood::Slow, Duration::from_secs(2)),
    (Mood::Good, Duration::from_secs(2)),
    (Mood::Dead, Duration::from_secs(2)),
    (Mood::Good, Duration::from_secs(2)),
    (Mood::Dumb, Duration::from_secs(2)),
    (Mood::Dead, Duration::from_millis(200)),
    (Mood::Good, Duration::from_secs(2)),
    (Mood::HalfOpen, Duration::from_secs(2)),
    (Mood::Good, Duration::from_secs(2)),
];
/// Between two changes of the settings; every third is refused.
const RELOAD: Duration = Duration::from_secs(3);
/// Clients that stop in the middle of a word and never let go; the oldest is let go for the next.
const STUCK: usize = 64;
/// What the gateway may hold more in the second half than in the first, on average: it learns all the while.
const GROWTH_MAX: u64 = 48 * MIB;

/// What became of calls, by name, in the order of the table.
#[derive(Debug, Default)]
struct Counts(BTreeMap<&'static str, AtomicU64>);

const ANSWERED: &str = "answered";
const REFUSED: &str = "refused, with its reason";
const WRONG: &str = "wrong";
const LOST: &str = "lost";
const CLIENTS: &str = "clients";
const STUCK_CLIENTS: &str = "clients that stop halfway";
const TAKEN: &str = "settings taken";
const NOT_TAKEN: &str = "settings refused";

impl Counts {
    fn new() -> Self {
        let names = [ANSWERED, REFUSED, WRONG, LOST, CLIENTS, STUCK_CLIENTS, TAKEN, NOT_TAKEN];
        Self(names.into_iter().map(|name| (name, AtomicU64::new(0))).collect())
    }

    fn add(&self, name: &str) {
        self.0[name].fetch_add(1, Ordering::Relaxed);
    }

    fn set(&self, name: &str, count: u64) {
        self.0[name].store(count, Ordering::Relaxed);
    }

    fn of(&self, name: &str) -> u64 {
        self.0[name].load(Ordering::Relaxed)
    }
}

#[test]
fn nothing_is_lost_or_wrong_and_memory_is_flat() {
    let seconds = std::env::var("UNDERCURRENT_SOAK_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number"));
    let data = TempDir::new().expect("a temporary directory");
    let echo = Echo::start();
    let file = data.path().join("undercurrent.toml");
    let settings = |change: u64| {
        let also = if change.is_multiple_of(2) { "" } else { "[upstreams.also]\nurl = \"http://127.0.0.1:9/mcp\"\n" };
        let wrong = if change % 3 == 2 { "nonsense = 1\n" } else { "" };
        format!("[upstreams.echo]\nurl = \"{}\"\n{also}{wrong}", echo.url())
    };
    std::fs::write(&file, settings(0)).expect("write the settings");
    let gateway = Serve::new(&data.path().join("data"))
        .with("--config", file.to_str().expect("a path in UTF-8"))
        .impatient()
        .setting("GATEWAY__UPSTREAM_IDLE_TIMEOUT_MS", "1500")
        .setting("HISTORY__ROLL_SECONDS", "5")
        .start();
    let (counts, over) = (Arc::new(Counts::new()), AtomicBool::new(false));
    let mut samples = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for (mood, lasts) in DAY.into_iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    return echo.be(Mood::Good);
                }
                echo.be(mood);
                sleep(lasts);
            }
        });
        scope.spawn(|| {
            let mut clients = Vec::new();
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let (counts, at) = (Arc::clone(&counts), gateway.listen);
                clients.push(thread::spawn(move || client(number, at, &counts)));
                clients.retain(|client| !client.is_finished());
                sleep(ARRIVAL);
            }
            clients.into_iter().for_each(|client| client.join().expect("a client does not panic"));
        });
        scope.spawn(|| {
            for change in 1.. {
                sleep(RELOAD);
                if over.load(Ordering::Relaxed) {
                    break;
                }
                std::fs::write(&file, settings(change)).expect("write the settings");
                gateway.process.signal("HUP");
            }
        });
        scope.spawn(|| {
            let mut stuck = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                let mut socket = TcpStream::connect(gateway.listen).expect("the gateway listens");
                let half: &[u8] = if stuck.len().is_multiple_of(2) {
                    b"POST /mcp/echo HTTP/1.1\r\nHost: loc"
                } else {
                    b"POST /mcp/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"jsonrpc\""
                };
                socket.write_all(half).expect("it reads");
                counts.add(STUCK_CLIENTS);
                stuck.push_back(socket);
                if stuck.len() > STUCK {
                    stuck.pop_front();
                }
                sleep(ARRIVAL);
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            sleep(Duration::from_millis(500));
            samples.push(resident(gateway.process.id()));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(get(gateway.admin, "/healthz").status(), 200);
    let reloads = |outcome: &str| {
        gateway.metrics().sum(&format!("undercurrent_config_reloads_total{{outcome=\"{outcome}\"}}")) as u64
    };
    counts.set(TAKEN, reloads("taken"));
    counts.set(NOT_TAKEN, reloads("refused"));
    // The first quarter is warming up.
    let warm = &samples[samples.len() / 4..];
    let (first, second) = warm.split_at(warm.len() / 2);
    let mean = |samples: &[u64]| samples.iter().sum::<u64>() / samples.len() as u64;
    let (first, second) = (mean(first), mean(second));
    for (name, count) in &counts.0 {
        println!("{name:<28}{:>10}", count.load(Ordering::Relaxed));
    }
    println!("{:<28}{:>10}\n{:<28}{:>10}", "MiB, first half", first / MIB, "MiB, second half", second / MIB);
    assert_eq!((counts.of(WRONG), counts.of(LOST)), (0, 0), "{counts:?}");
    assert!(counts.of(ANSWERED) > counts.of(REFUSED), "good times outweigh bad ones: {counts:?}");
    assert!(counts.of(REFUSED) > 0, "there was no outage: {counts:?}");
    assert!(counts.of(TAKEN) > 0 && counts.of(NOT_TAKEN) > 0, "the settings did not change: {counts:?}");
    assert!(second <= first + GROWTH_MAX, "{} MiB, then {} MiB", first / MIB, second / MIB);
    let history = gateway.stop();
    let answered = history.number("SELECT count(*) FROM calls WHERE outcome = 'result'");
    assert_eq!(answered, counts.of(ANSWERED), "calls that were answered, in the history");
}

/// One client: a session over one connection, and another connection where the first is gone.
fn client(number: u64, gateway: SocketAddr, counts: &Counts) {
    counts.add(CLIENTS);
    let mut wire = None;
    let mut exchange = |method: &str, session: Option<&str>, body: &[u8]| -> io::Result<Message> {
        let mut open = match wire.take() {
            Some(open) => open,
            None => Wire::open(gateway, "/mcp/echo")?,
        };
        let answer = open.exchange(method, session, body)?;
        wire = Some(open);
        Ok(answer)
    };
    let opened = exchange("POST", None, initialize(0).to_string().as_bytes());
    // One that comes during an outage tries no more.
    let Some(session) = opened.ok().and_then(|answer| answer.header("mcp-session-id").map(str::to_owned)) else {
        return;
    };
    for call in 1..=CALLS {
        let text = format!("client {number}, call {call}");
        let body = tools_call(call, "echo", &json!({"text": text})).to_string();
        counts.add(match exchange("POST", Some(&session), body.as_bytes()) {
            Ok(answer) => judge(&answer, call, &text),
            Err(_) => LOST,
        });
        sleep(REST);
    }
    let _ = exchange("DELETE", Some(&session), b"");
}

/// Whether it is the answer to this call, or a clear word that there is none.
fn judge(answer: &Message, id: u64, text: &str) -> &'static str {
    let json = answer.json();
    let reason = json["error"]["data"]["reason"].as_str().unwrap_or_default();
    match answer.status() {
        _ if json["id"] != id => WRONG,
        200 if json["result"]["content"][0]["text"] == text => ANSWERED,
        502 | 504 if reason.starts_with("upstream_") => REFUSED,
        // It has failed too often to be asked again at once.
        503 if reason == "circuit_open" => REFUSED,
        _ => WRONG,
    }
}
