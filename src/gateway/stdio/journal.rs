//! What a session's streams have carried, for a client that lost one and comes back with `Last-Event-ID`.
//!
//! Every event of a legacy session has an id: its stream (0 is the GET stream, others belong to one POST each) and its
//! number in the session. Not here: who gets what (`session`). Invariant: bounded; the oldest events go first. An event
//! that is larger than the whole journal stays only if nobody was there for it, and until the next one; of an answer
//! that had to go it is known that it is lost.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::polling::Polling;
use super::replies::{Kind, Reply};
use crate::gateway::envelope::RequestIds;
use crate::gateway::rescue::Refusal;
use crate::gateway::ties::Ties;

/// The stream of what belongs to no request.
pub(super) const LISTENER: u64 = 0;

/// The id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) stream: u64,
    number: u64,
}

/// The last events of one session.
#[derive(Debug)]
pub(super) struct Journal {
    polling: Arc<Polling>,
    events: VecDeque<(EventId, Reply)>,
    bytes: usize,
    /// Which requests they answered: the latest of the answers that had to go.
    lost: VecDeque<(EventId, String)>,
    streams: u64,
    numbers: u64,
}

impl Journal {
    pub(super) fn new(polling: Arc<Polling>) -> Self {
        Self { polling, events: VecDeque::new(), bytes: 0, lost: VecDeque::new(), streams: 0, numbers: 0 }
    }

    /// A stream that is not the GET stream.
    pub(super) const fn stream(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    /// An id that stands before all events of a stream that are to come.
    pub(super) const fn opening(&mut self, stream: u64) -> EventId {
        self.numbers += 1;
        EventId { stream, number: self.numbers }
    }

    /// Keeps an event, and gives it its id. `away`: nobody is there for it.
    pub(super) fn keep(&mut self, stream: u64, reply: Reply, away: bool) -> Reply {
        let id = self.opening(stream);
        let reply = reply.at(id);
        self.count(reply.text.len());
        self.events.push_back((id, reply.clone()));
        let settings = self.polling.settings;
        while self.events.len() > settings.kept_events_max
            || (self.bytes > settings.kept_bytes_max && self.events.len() > usize::from(away))
        {
            let Some((id, oldest)) = self.events.pop_front() else { break };
            self.forget(id, &oldest);
        }
        reply
    }

    /// The events of the same stream that came later; an answer that had to go is an error.
    pub(super) fn after(&self, last: EventId) -> Vec<Reply> {
        let later = |id: &EventId| id.stream == last.stream && id.number > last.number;
        let lost = self.lost.iter().filter(|(id, _)| later(id)).map(|(id, request)| {
            self.polling.lost.inc();
            let error = Refusal::EventForgotten.message(&RequestIds::One(request.clone()));
            Reply::answer(error.into()).at(*id)
        });
        lost.chain(self.events.iter().filter(|(id, _)| later(id)).map(|(_, reply)| reply.clone())).collect()
    }

    fn forget(&mut self, id: EventId, reply: &Reply) {
        self.bytes -= reply.text.len();
        self.polling.kept_bytes.sub(reply.text.len() as i64);
        let answers = Some(reply).filter(|reply| reply.kind == Kind::Answer);
        let request = answers.and_then(|answer| Ties::read(&answer.text)?.id.map(|id| id.get().to_owned()));
        if let Some(request) = request {
            self.lost.push_back((id, request));
            if self.lost.len() > self.polling.settings.kept_events_max {
                self.lost.pop_front();
            }
        }
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.polling.kept_bytes.add(bytes as i64);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.polling.kept_bytes.sub(self.bytes as i64);
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream, self.number)
    }
}

/// It is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let number = |text: &str| text.parse().map_err(|_| NotAnEventId);
        let (stream, rest) = text.split_once('-').ok_or(NotAnEventId)?;
        Ok(Self { stream: number(stream)?, number: number(rest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Stdio;
    use bytes::Bytes;

    fn journal(kept_events_max: usize, kept_bytes_max: usize) -> Journal {
        Journal::new(Arc::new(Polling::for_tests(Stdio { kept_events_max, kept_bytes_max, ..Stdio::default() })))
    }

    #[test]
    fn a_stream_is_had_again_from_any_event_on() {
        let mut journal = journal(256, 1 << 20);
        let (one, two) = (journal.stream(), journal.stream());
        let opening = journal.opening(one);
        let first = journal.keep(one, Reply::message(Bytes::from_static(b"a")), false);
        journal.keep(two, Reply::message(Bytes::from_static(b"x")), false);
        let last = journal.keep(one, Reply::answer(Bytes::from_static(b"b")), false);
        assert_eq!(journal.after(opening), [first.clone(), last.clone()]);
        let id: EventId = first.event.unwrap().to_string().parse().unwrap();
        assert_eq!(journal.after(id), [last]);
        assert_eq!("1".parse::<EventId>(), Err(NotAnEventId));
    }

    #[test]
    fn the_oldest_events_go_first() {
        let mut journal = journal(4, 100);
        let opening = journal.opening(LISTENER);
        for _ in 0..7 {
            journal.keep(LISTENER, Reply::message(Bytes::from_static(b"a")), false);
        }
        assert_eq!(journal.after(opening).len(), 4);
        journal.keep(LISTENER, Reply::message(Bytes::from(vec![0; 101])), false);
        assert_eq!((journal.after(opening).len(), journal.bytes), (0, 0));
    }

    #[test]
    fn what_nobody_was_there_for_stays_until_the_next_event() {
        let mut journal = journal(4, 100);
        let polling = Arc::clone(&journal.polling);
        let opening = journal.opening(1);
        let large = format!(r#"{{"id":"q","result":"{}"}}"#, "x".repeat(200));
        let answer = journal.keep(1, Reply::answer(large.into()), true);
        assert_eq!(journal.after(opening), [answer]);
        journal.keep(2, Reply::message(Bytes::from_static(b"a")), true);
        let lost = journal.after(opening);
        assert!(lost[0].text.starts_with(br#"{"jsonrpc":"2.0","id":"q","error":{"code":1033"#), "{lost:?}");
        assert_eq!((lost.len(), polling.lost.get(), polling.kept_bytes.get()), (1, 1, 1));
        drop(journal);
        assert_eq!(polling.kept_bytes.get(), 0);
    }
}
