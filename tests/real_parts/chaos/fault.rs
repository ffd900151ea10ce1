//! What befalls a life, and in which order: from a seed, the same every time.

use std::fmt;
use std::time::Instant;

use undercurrent::faults::{Life, POINTS};

use crate::support::process::Process;
use crate::support::wait::wait_until;

/// How long a life may take to come by its point, before it is ended by a signal.
const LONG: std::time::Duration = std::time::Duration::from_secs(15);

/// How a process is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends itself at a point, after it has come by it so many times.
    Point(&'static str, u64),
    /// The disk is full at that point for a few times; later a signal.
    Full(&'static str, u64),
    /// The clock steps back by half an hour; later a signal.
    ClockBack(u64),
    /// A signal, at a moment that the number stands for.
    Random(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(name, _) => f.write_str(name),
            Self::Full(name, _) => write!(f, "disk full, {name}"),
            Self::ClockBack(_) => f.write_str("clock stepped back"),
            Self::Random(_) => f.write_str("at random"),
        }
    }
}

impl Fault {
    /// What to arm, for `FAILPOINTS`.
    pub(super) fn armed(self) -> Option<String> {
        match self {
            Self::Point(name, times) => Some(format!("{name}={times}*off->return")),
            Self::Full(name, _) => Some(format!("{name}=3*return(error)")),
            Self::ClockBack(_) | Self::Random(_) => None,
        }
    }
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    AsTold,
    /// It did not come by its point, and was ended by a signal.
    Otherwise,
}

/// Waits until a process has ended itself, or ends it.
pub(super) fn ended(process: &mut Process) -> Ended {
    let began = Instant::now();
    wait_until("it comes by its point", || !process.is_running() || began.elapsed() > LONG);
    let by_itself = !process.is_running();
    process.kill();
    if by_itself { Ended::AsTold } else { Ended::Otherwise }
}

/// Numbers of a seed (SplitMix64).
#[derive(Debug)]
pub(super) struct Seed(pub(super) u64);

impl Seed {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The faults of one system.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: Seed,
    points: Vec<&'static str>,
    /// What was not tried yet, the next one last.
    pending: Vec<Fault>,
    /// Faults that are no points, by what their number stands for.
    others: Vec<fn(u64) -> Fault>,
    moments: u64,
    /// Points that nobody comes by in the first life of a spell.
    later: &'static str,
    /// Points that are passed far more often than others, and how often in a life.
    often: (&'static [&'static str], u64),
}

impl Plan {
    /// All points of a kind of life, and signals at any of so many moments.
    pub(super) fn of(life: Life, seed: u64, moments: u64) -> Self {
        Self::at(POINTS.iter().filter(|point| point.life == life).map(|point| point.name).collect(), seed, moments)
    }

    pub(super) fn at(points: Vec<&'static str>, seed: u64, moments: u64) -> Self {
        let pending = points.iter().rev().map(|name| Fault::Point(name, 0)).collect();
        let others: Vec<fn(u64) -> Fault> = vec![Fault::Random];
        Self { seed: Seed(seed), points, pending, others, moments, later: "compaction", often: (&[], 0) }
    }

    /// Some points are passed so often.
    pub(super) fn often(self, points: &'static [&'static str], times: u64) -> Self {
        Self { often: (points, times), ..self }
    }

    /// There is also another fault.
    pub(super) fn and(mut self, other: fn(u64) -> Fault) -> Self {
        self.others.push(other);
        self.pending.insert(0, other(self.moments / 2));
        self
    }

    /// The next fault, as the kill of this number in its spell.
    pub(super) fn next(&mut self, of_spell: usize) -> Fault {
        let fits = |fault: &Fault| of_spell > 0 || !fault.to_string().starts_with(self.later);
        if let Some(at) = self.pending.iter().rposition(fits) {
            return self.pending.remove(at);
        }
        if self.seed.below(2) == 0 {
            let other = self.others[self.seed.below(self.others.len() as u64) as usize];
            return other(1 + self.seed.below(self.moments));
        }
        let at = self.seed.below(self.points.len() as u64) as usize;
        let name = self.points[at];
        let times = if self.often.0.contains(&name) { self.often.1 } else { 2 };
        Fault::Point(name, self.seed.below(times))
    }
}
