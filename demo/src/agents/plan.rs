//! Who calls when, as what, and to which end: a pure function of the settings, so a seed can be run again.
//!
//! The first part of a run is benign, so that a model is live before the first attack.

use std::time::Duration;

use crate::random::Random;
use crate::truth::Truth;

/// What an agent does all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Reads mail, looks at the calendar, answers.
    Assistant,
    /// Checks invoices and pays vendors on the accounts it knows.
    Bookkeeper,
    /// Searches, reads, follows links, writes a summary.
    Researcher,
    /// Reads agendas and invites people.
    Planner,
    /// Lists a folder, reads it, writes an index.
    Archivist,
    /// Looks tickets up and answers them.
    Support,
}

impl Habit {
    pub const ALL: [Self; 6] =
        [Self::Assistant, Self::Bookkeeper, Self::Researcher, Self::Planner, Self::Archivist, Self::Support];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assistant => "assistant",
            Self::Bookkeeper => "bookkeeper",
            Self::Researcher => "researcher",
            Self::Planner => "planner",
            Self::Archivist => "archivist",
            Self::Support => "support",
        }
    }
}

/// How a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// `initialize`, a session id, DELETE at the end.
    Legacy,
    /// `server/discover`, every request for itself, a `traceparent` in common.
    Stateless,
}

/// How large and how wild a population is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    pub agents: usize,
    pub sessions: usize,
    /// From the first session's start to the last one's.
    pub duration: Duration,
    /// Share of the sessions after the warm-up that are hijacked or loop.
    pub attack_rate: f64,
    /// Share of the run without any attack.
    pub warm_up: f64,
    /// Share of the sessions that speak the stateless protocol.
    pub stateless: f64,
}

/// One session to come.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPlan {
    pub number: usize,
    pub agent: usize,
    pub habit: Habit,
    pub era: Era,
    pub intent: Truth,
    pub start: Duration,
    /// Of the session's own choices.
    pub seed: u64,
}

/// All sessions, in the order of their starts.
#[must_use]
pub fn plan(settings: &Settings) -> Vec<SessionPlan> {
    let mut random = Random::new(settings.seed);
    let mut intents = intents(settings, &mut random);
    let count = settings.sessions.max(1) as f64;
    intents.reverse();
    (0..settings.sessions)
        .map(|number| {
            let agent = random.below(settings.agents.max(1));
            // Evenly spread with some jitter: arrivals stay in order and never bunch up beyond two.
            let at = (number as f64 + random.unit()) / count;
            SessionPlan {
                number,
                agent,
                habit: Habit::ALL[agent % Habit::ALL.len()],
                era: if random.chance(settings.stateless) { Era::Stateless } else { Era::Legacy },
                intent: intents.pop().unwrap_or(Truth::Benign),
                start: settings.duration.mul_f64(at),
                seed: random.next(),
            }
        })
        .collect()
}

/// Exactly the asked share of attacks, spread over what follows the warm-up; half as many that were met and refused.
fn intents(settings: &Settings, random: &mut Random) -> Vec<Truth> {
    let mut intents = vec![Truth::Benign; settings.sessions];
    let first = (settings.sessions as f64 * settings.warm_up.clamp(0.0, 1.0)) as usize;
    let open: Vec<usize> = (first..settings.sessions).collect();
    let attacks = (open.len() as f64 * settings.attack_rate.clamp(0.0, 0.5)).round() as usize;
    let chosen = random.sample(&open, attacks + attacks.div_ceil(2));
    for (position, number) in chosen.into_iter().enumerate() {
        intents[number] = match position {
            _ if position >= attacks => Truth::Refused,
            _ if position % 3 == 2 => Truth::Loop,
            _ => Truth::Hijacked,
        };
    }
    intents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(seed: u64) -> Settings {
        Settings {
            seed,
            agents: 12,
            sessions: 200,
            duration: Duration::from_secs(60),
            attack_rate: 0.05,
            warm_up: 0.4,
            stateless: 0.3,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        assert_eq!(plan(&settings(7)), plan(&settings(7)));
        assert_ne!(plan(&settings(7)), plan(&settings(8)));
    }

    #[test]
    fn attacks_wait_for_the_warm_up_and_keep_their_share() {
        let sessions = plan(&settings(7));
        assert!(sessions[..80].iter().all(|session| session.intent == Truth::Benign));
        assert_eq!(sessions.iter().filter(|session| session.intent.is_attack()).count(), 6);
        assert_eq!(sessions.iter().filter(|session| session.intent == Truth::Refused).count(), 3);
        assert!(sessions.is_sorted_by_key(|session| session.start));
    }

    #[test]
    fn no_attacks_where_none_are_asked_for() {
        let calm = Settings { attack_rate: 0.0, ..settings(7) };
        assert!(plan(&calm).iter().all(|session| session.intent == Truth::Benign));
    }

    #[test]
    fn both_eras_are_spoken() {
        let sessions = plan(&settings(7));
        let stateless = sessions.iter().filter(|session| session.era == Era::Stateless).count();
        assert!((30..90).contains(&stateless), "{stateless}");
    }
}
