//! Calls that wait for a person: tickets, and the answers to them.
//!
//! A ticket names a call of a principal, not a connection: who comes back with the same call finds its answer, once.
//! Invariant: bounded in number and time, in memory alone; a restart forgets all, and everything held is then refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::policy::{BlockReason, Ticket};
use crate::telemetry::HoldMetrics;

/// Tickets at once, answered ones included.
const TICKETS_MAX: usize = 1000;
/// What is shown of a call's message to whoever has to answer.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// All tickets of a process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Holds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tickets: Mutex<HashMap<String, Held>>,
    metrics: Arc<HoldMetrics>,
}

/// A call as a person sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldCall {
    pub principal: String,
    pub server: String,
    pub tool: String,
    pub p_value: Option<f64>,
    pub reasons: Vec<String>,
    /// The message, up to a bound: it is shown, not logged.
    pub message: String,
}

/// A ticket that has no answer yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenTicket {
    pub ticket: String,
    pub call: HeldCall,
    pub waited: Duration,
    /// Somebody is connected and waits.
    pub is_waited_for: bool,
}

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Approve,
    Deny,
}

/// Why an answer reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such ticket is waiting; it was answered, given up or has expired")]
pub struct UnknownTicket;

#[derive(Debug)]
struct Held {
    call: HeldCall,
    since: Instant,
    patience: Duration,
    expires: Instant,
    answer: watch::Sender<Option<Answer>>,
}

/// A call that has to wait; nothing happens before somebody does wait.
#[derive(Debug)]
pub struct Hold {
    pub(super) holds: Holds,
    pub(super) ticket: Ticket,
    pub(super) call: HeldCall,
    pub(super) patience: Duration,
}

/// Gives the ticket up if nobody waits any longer.
struct Leaving<'a> {
    holds: &'a Holds,
    ticket: &'a str,
    receiver: watch::Receiver<Option<Answer>>,
    /// Leaving is not giving up: an answer will be good for the retry.
    keep: bool,
}

impl Hold {
    /// Waits for the answer. `keep`: a client that leaves may come back for it; else leaving takes the call back.
    pub async fn answered(self, keep: bool) -> Result<(), BlockReason> {
        let Self { holds, ticket: Ticket(ticket), call, patience } = self;
        let mut leaving = {
            let Some(receiver) = holds.wait(&ticket, call, patience) else {
                return Err(blocked("too_many_holds", "too many calls wait for a person already".to_owned()));
            };
            Leaving { holds: &holds, ticket: &ticket, receiver, keep }
        };
        let answer = tokio::time::timeout(patience, leaving.receiver.wait_for(Option::is_some)).await;
        let answer = answer.ok().and_then(|answer| *answer.ok()?);
        leaving.keep = true;
        let outcome = match answer {
            Some(Answer::Approve) => "approved",
            Some(Answer::Deny) => "denied",
            None => "timeout",
        };
        holds.0.metrics.answered(outcome);
        match answer {
            Some(Answer::Approve) => {
                let approved = holds.tickets().remove(&ticket).is_some();
                holds.report();
                // Of two equal calls that waited together, one is approved.
                let used = || blocked("hold_used", "an equal call has used the approval; call again".to_owned());
                approved.then_some(()).ok_or_else(used)
            }
            Some(Answer::Deny) => {
                Err(blocked("hold_denied", format!("a person has refused this call (ticket {ticket})")))
            }
            None => {
                let text = format!(
                    "this call has to be approved by a person, and nobody has answered yet (ticket {ticket}); \
                     once it is approved, call again"
                );
                Err(blocked("hold_timeout", text))
            }
        }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let mut tickets = self.holds.tickets();
        // This receiver is the last one, unless the same call came twice.
        if tickets.get(self.ticket).is_some_and(|held| held.answer.receiver_count() == 1) {
            tickets.remove(self.ticket);
            drop(tickets);
            self.holds.0.metrics.answered("given_up");
            self.holds.report();
        }
    }
}

impl Holds {
    pub fn new(metrics: Arc<HoldMetrics>) -> Self {
        Self(Arc::new(Inner { tickets: Mutex::default(), metrics }))
    }

    /// Tickets without an answer, oldest first.
    #[must_use]
    pub fn open(&self) -> Vec<OpenTicket> {
        let now = Instant::now();
        let mut open: Vec<OpenTicket> = self
            .tickets()
            .iter()
            .filter(|(_, held)| held.answer.borrow().is_none() && held.expires > now)
            .map(|(ticket, held)| OpenTicket {
                ticket: ticket.clone(),
                call: held.call.clone(),
                waited: now.duration_since(held.since),
                is_waited_for: held.answer.receiver_count() > 0,
            })
            .collect();
        open.sort_by_key(|ticket| std::cmp::Reverse(ticket.waited));
        open
    }

    /// Answers a ticket. What nobody waits for right now is kept for the retry.
    pub fn answer(&self, ticket: &str, answer: Answer) -> Result<(), UnknownTicket> {
        let mut tickets = self.tickets();
        let held = tickets.get_mut(ticket).filter(|held| held.expires > Instant::now()).ok_or(UnknownTicket)?;
        if held.answer.borrow().is_some() {
            return Err(UnknownTicket);
        }
        held.expires = Instant::now() + held.patience;
        held.answer.send_replace(Some(answer));
        drop(tickets);
        self.report();
        Ok(())
    }

    /// A receiver of the answer; `None` where there is no room.
    fn wait(&self, ticket: &str, mut call: HeldCall, patience: Duration) -> Option<watch::Receiver<Option<Answer>>> {
        let now = Instant::now();
        let mut tickets = self.tickets();
        tickets.retain(|_, held| held.expires > now || held.answer.receiver_count() > 0);
        if let Some(held) = tickets.get_mut(ticket) {
            held.expires = held.expires.max(now + patience);
            return Some(held.answer.subscribe());
        }
        if tickets.len() >= TICKETS_MAX {
            return None;
        }
        if let Some((end, _)) = call.message.char_indices().find(|(at, _)| *at >= MESSAGE_BYTES_MAX) {
            call.message.truncate(end);
        }
        tracing::info!(
            ticket,
            principal = call.principal,
            server = call.server,
            tool = call.tool,
            "a call waits for a person"
        );
        let (answer, receiver) = watch::channel(None);
        // An answer may come as long after the client has given up as it waited.
        let held = Held { call, since: now, patience, expires: now + patience * 2, answer };
        tickets.insert(ticket.to_owned(), held);
        drop(tickets);
        self.report();
        Some(receiver)
    }

    fn report(&self) {
        let open = self.tickets().values().filter(|held| held.answer.borrow().is_none()).count();
        self.0.metrics.open(open);
    }

    fn tickets(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn blocked(code: &'static str, text: String) -> BlockReason {
    BlockReason { code, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn holds() -> Holds {
        Holds::new(Arc::new(HoldMetrics::register(&prometheus::Registry::new()).unwrap()))
    }

    fn hold(holds: &Holds) -> Hold {
        let call = HeldCall {
            principal: "alice".into(),
            server: "bank".into(),
            tool: "transfer".into(),
            p_value: Some(0.001),
            reasons: vec!["never before".into()],
            message: "{}".into(),
        };
        Hold { holds: holds.clone(), ticket: Ticket("t".into()), call, patience: PATIENCE }
    }

    async fn waited_for(holds: &Holds) {
        while !holds.open().iter().any(|ticket| ticket.is_waited_for) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_waits_gets_the_answer() {
        for (answer, expect) in [(Answer::Approve, None), (Answer::Deny, Some("hold_denied"))] {
            let holds = holds();
            let waiting = tokio::spawn(hold(&holds).answered(true));
            waited_for(&holds).await;
            holds.answer("t", answer).unwrap();
            assert_eq!(waiting.await.unwrap().err().map(|reason| reason.code), expect);
            assert!(holds.open().is_empty());
            assert_eq!(holds.answer("t", answer), Err(UnknownTicket));
        }
    }

    #[tokio::test]
    async fn an_approval_after_the_client_left_is_good_for_one_retry() {
        let holds = holds();
        let impatient = || Hold { patience: Duration::from_millis(300), ..hold(&holds) };
        assert_eq!(impatient().answered(true).await.unwrap_err().code, "hold_timeout");
        holds.answer("t", Answer::Approve).unwrap();
        assert_eq!(impatient().answered(true).await, Ok(()));
        assert_eq!(impatient().answered(true).await.unwrap_err().code, "hold_timeout");
    }

    #[tokio::test]
    async fn leaving_takes_a_call_back_where_it_cancels() {
        let holds = holds();
        for (keep, left) in [(false, 0), (true, 1)] {
            let waiting = tokio::spawn(hold(&holds).answered(keep));
            waited_for(&holds).await;
            waiting.abort();
            assert!(waiting.await.unwrap_err().is_cancelled());
            assert_eq!(holds.open().len(), left);
        }
    }

    #[tokio::test]
    async fn there_is_room_for_so_many() {
        let holds = holds();
        for number in 0..TICKETS_MAX {
            assert!(holds.wait(&number.to_string(), hold(&holds).call, PATIENCE).is_some());
        }
        assert_eq!(hold(&holds).answered(false).await.unwrap_err().code, "too_many_holds");
    }
}
