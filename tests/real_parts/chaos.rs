//! Killed at every named point and at random moments, under load: what is left must lead to what an unbroken life would
//! have.
//!
//! Four systems are killed side by side, each on its own thread: `serve`, `serve` on Kafka, `replay`, and
//! `forget --erase`. A few kills in turn are a *spell*; what a spell leaves is gone on with, and held against what its
//! ground state alone gives. Every point comes first, then any fault at any moment. `UNDERCURRENT_CHAOS_KILLS` says how
//! many kills, `UNDERCURRENT_CHAOS_SEED` which ones (`make chaos`).

mod compare;
mod erase;
mod fault;
mod kafka;
mod pressure;
mod replay;
mod serve;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use fault::{Ended, Fault, Plan};

/// Kills if nobody says.
const KILLS: usize = 200;
/// Kills in turn before what is left is looked at.
const SPELL: usize = 5;

/// Something that is killed again and again.
trait System {
    /// Which faults, and when.
    fn plan(&mut self) -> &mut Plan;

    /// Leads a life up to its end by `fault`.
    fn kill(&mut self, fault: Fault) -> Ended;

    /// Asserts that what the kills left leads to what an unbroken life gives, and begins anew.
    fn compare(&mut self);
}

/// What came of the kills by one fault.
#[derive(Debug, Default)]
struct Outcome {
    kills: usize,
    at_point: usize,
    differing: usize,
}

type Outcomes = BTreeMap<(&'static str, String), Outcome>;

#[test]
fn whatever_a_kill_leaves_leads_to_what_an_unbroken_life_gives() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number("UNDERCURRENT_CHAOS_KILLS").map_or(KILLS, |kills| kills as usize);
    let seed = number("UNDERCURRENT_CHAOS_SEED").unwrap_or(20_261_123);
    eprintln!("chaos: UNDERCURRENT_CHAOS_SEED={seed} UNDERCURRENT_CHAOS_KILLS={kills}");
    let began = Instant::now();
    // Of ten kills, four of serve, four of replay, one of each other.
    let (few, many) = (kills / 10, kills * 4 / 10);
    let runs = [
        thread::spawn(move || run("serve", kills - many - 2 * few, serve::Served::new(seed))),
        thread::spawn(move || run("kafka", few, kafka::OnKafka::new(seed + 1))),
        thread::spawn(move || run("replay", many, replay::Replayed::new(seed + 2))),
        thread::spawn(move || run("erase", few, erase::Erased::new(seed + 3))),
    ];
    let (mut outcomes, mut wrong) = (Outcomes::new(), Vec::new());
    for run in runs {
        let (of_system, failures) = run.join().expect("a run catches what its kills say");
        outcomes.extend(of_system);
        wrong.extend(failures);
    }
    eprintln!("{}{kills} kills in {:.0} s, seed {seed}", table(&outcomes), began.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
}

/// So many kills of one system; what went wrong does not end the others.
fn run(name: &'static str, kills: usize, mut system: impl System) -> (Outcomes, Vec<String>) {
    let (mut outcomes, mut wrong) = (Outcomes::new(), Vec::new());
    let mut spell: Vec<Fault> = Vec::new();
    for kill in 1..=kills {
        let fault = system.plan().next(spell.len());
        eprintln!("chaos: {name} {kill}: {fault}");
        spell.push(fault);
        let looks = spell.len() == SPELL || kill == kills;
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let ended = system.kill(fault);
            if looks {
                system.compare();
            }
            ended
        }));
        let outcome = outcomes.entry((name, fault.to_string())).or_default();
        outcome.kills += 1;
        outcome.at_point += usize::from(matches!(lived, Ok(Ended::AsTold)));
        if let Err(panic) = lived {
            outcome.differing += 1;
            let said = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "see above".to_owned());
            wrong.push(format!("{name}: after {spell:?}: {said}"));
            return (outcomes, wrong);
        }
        if looks {
            spell.clear();
        }
    }
    (outcomes, wrong)
}

fn table(outcomes: &Outcomes) -> String {
    let mut text = format!("\n{:8}{:38}{:>6}{:>10}  left behind\n", "system", "fault", "kills", "in place");
    for ((system, fault), Outcome { kills, at_point, differing }) in outcomes {
        let left = if *differing == 0 { "as without it" } else { "DIFFERS" };
        writeln!(text, "{system:8}{fault:38}{kills:>6}{at_point:>10}  {left}").expect("a string takes text");
    }
    text
}
