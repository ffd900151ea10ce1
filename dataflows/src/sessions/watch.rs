//! Rules on one session's calls: loops, streaks of errors, and secrets that are tried one after the other.
//!
//! A rule speaks when its count reaches its threshold, again each time it has doubled, and says when it is over. Not
//! here: what is unusual; a loop is one on any server.

use std::collections::{BTreeMap, BTreeSet};

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::{AlertKind, CallOutcome};

use super::{Dictionary, Identity, Outbox};
use crate::alerts::Signal;
use crate::session::{Answer, CallFact};

/// From how many on a rule speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Equal calls, or rounds of two calls, in a row.
    pub loop_calls: u32,
    /// Errors in a row.
    pub error_streak: u32,
    /// Different values of one secret that failed.
    pub probes: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { loop_calls: 6, error_streak: 6, probes: 5 }
    }
}

/// Secrets that one session may be seen to try; more of them are one more alert about the same.
const SECRETS_MAX: usize = 16;
const VALUES_MAX: usize = 1024;

/// Last parts of the names of arguments that hold secrets.
const SECRET_NAMES: [&str; 10] =
    ["password", "passwd", "passphrase", "pin", "otp", "secret", "token", "apikey", "credential", "credentials"];

/// What the rules remember of one part of a session.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Watch {
    /// Fingerprints of the last two calls, nearest first.
    last: [Option<u64>; 2],
    repeats: Count,
    rounds: Count,
    errors: Count,
    tried: BTreeMap<u64, BTreeSet<u64>>,
    probing: bool,
}

/// How often in a row, and whether that was told.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Count {
    now: u32,
    told: bool,
}

impl Count {
    /// One more, or a new beginning; whether to speak, and whether it is over.
    fn next(&mut self, goes_on: bool, threshold: u32) -> (bool, bool) {
        let was_told = self.told;
        self.now = if goes_on { self.now.saturating_add(1) } else { 0 };
        let speaks =
            self.now >= threshold && self.now.is_multiple_of(threshold) && (self.now / threshold).is_power_of_two();
        self.told = speaks || (was_told && goes_on);
        (speaks, was_told && !goes_on)
    }
}

impl Watch {
    /// A call was asked for.
    pub(super) fn call(
        &mut self,
        ts: Micros,
        tool: &str,
        fingerprint: u64,
        of: &Identity,
        rules: &Rules,
        out: &mut Outbox,
    ) {
        let [last, before] = self.last;
        let repeated = last == Some(fingerprint);
        // A round of A → B → A counts where it comes back to A; a threshold of rounds is two calls each.
        let comes_back = !repeated && before == Some(fingerprint);
        self.last = [Some(fingerprint), last];
        // The first of equal calls is one of them.
        let told = self.repeats.next(repeated, rules.loop_calls.saturating_sub(1).max(1));
        let text = || format!("`{tool}` was called {} times in a row with equal arguments", self.repeats.now + 1);
        tell(told, ts, AlertKind::Loop, of, text, out);
        let told = self.rounds.next(comes_back, rules.loop_calls.saturating_mul(2));
        let text = || format!("`{tool}` and another call took turns {} times, with equal arguments", self.rounds.now);
        tell(told, ts, AlertKind::LoopOfTwo, of, text, out);
    }

    /// A call's fate is known. One that nobody answered says nothing about what answers are like, and when that is known
    /// depends on where ticks were cut.
    pub(super) fn settled(
        &mut self,
        call: &CallFact,
        answer: &Answer,
        of: &Identity,
        dictionary: &Dictionary,
        rules: &Rules,
        out: &mut Outbox,
    ) {
        let Some(latency_us) = answer.latency_us else { return };
        // Of the answer: of two signals the later one is of what came later.
        let ts = call.ts.plus(latency_us);
        let failed = matches!(answer.outcome, CallOutcome::ToolError | CallOutcome::RpcError);
        let told = self.errors.next(failed, rules.error_streak);
        tell(told, ts, AlertKind::ErrorStreak, of, || format!("{} calls in a row failed", self.errors.now), out);
        if !failed {
            return;
        }
        for leaf in &call.leaves {
            let Some(name) = dictionary.text(leaf.parameter).filter(|name| is_secret(name)) else { continue };
            if self.tried.len() >= SECRETS_MAX && !self.tried.contains_key(&leaf.parameter) {
                continue;
            }
            let values = self.tried.entry(leaf.parameter).or_default();
            if values.len() < VALUES_MAX && values.insert(leaf.value) && values.len() == rules.probes as usize {
                self.probing = true;
                let text =
                    format!("{} values of `{}` were tried and failed", values.len(), name.replace(" \u{203a} ", "."));
                out.signals.push(Signal::raised(ts, AlertKind::Probing, &of.server, &of.id, text));
            }
        }
    }

    /// The part ended: so did whatever went on in it.
    pub(super) fn end(&self, ts: Micros, of: &Identity, out: &mut Outbox) {
        for (told, kind) in [
            (self.repeats.told, AlertKind::Loop),
            (self.rounds.told, AlertKind::LoopOfTwo),
            (self.errors.told, AlertKind::ErrorStreak),
            (self.probing, AlertKind::Probing),
        ] {
            tell((false, told), ts, kind, of, String::new, out);
        }
    }
}

fn tell(
    (speaks, is_over): (bool, bool),
    ts: Micros,
    kind: AlertKind,
    of: &Identity,
    text: impl FnOnce() -> String,
    out: &mut Outbox,
) {
    if speaks {
        out.signals.push(Signal::raised(ts, kind, &of.server, &of.id, text()));
    }
    if is_over {
        out.signals.push(Signal::over(ts, kind, &of.server, &of.id));
    }
}

/// Whether the last name of a key path says that it holds a secret: `user.new_password`, `apiKey`.
fn is_secret(path: &str) -> bool {
    let last = path.rsplit(['.', '\u{203a}']).next().unwrap_or(path);
    let plain: String = last.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let word = last.rsplit(|character: char| !character.is_ascii_alphanumeric()).next().unwrap_or(last);
    SECRET_NAMES.iter().any(|name| plain == *name || word.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn secrets_have_names() {
        for name in
            ["login › password", "a › user.new_password", "a › apiKey", "a › API-Token", "x › otp", "a › keys.secret"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["send › recipient", "a › tokens_max", "a › pinned", "login › password.hint", "a › shopping"]
        {
            assert!(!is_secret(name), "{name}");
        }
    }
}
