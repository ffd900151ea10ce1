//! What a session's streams have carried, for a client that lost one and comes back with `Last-Event-ID`.
//!
//! Every event of a legacy session has an id: its stream (0 is the GET stream, others belong to one POST each) and its
//! number in the session. Not here: who gets what (`session`). Invariant: bounded; the oldest events go first, and an
//! event that is larger than the whole journal cannot be had again.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use super::replies::Reply;

const EVENTS_MAX: usize = 256;
const BYTES_MAX: usize = 1 << 20;

/// The stream of what belongs to no request.
pub(super) const LISTENER: u64 = 0;

/// The id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) stream: u64,
    number: u64,
}

/// The last events of one session.
#[derive(Debug, Default)]
pub(super) struct Journal {
    events: VecDeque<(EventId, Reply)>,
    bytes: usize,
    streams: u64,
    numbers: u64,
}

impl Journal {
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

    /// Keeps an event, and gives it its id.
    pub(super) fn keep(&mut self, stream: u64, reply: Reply) -> Reply {
        let id = self.opening(stream);
        let reply = reply.at(id);
        self.bytes += reply.text.len();
        self.events.push_back((id, reply.clone()));
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.events.pop_front() else { break };
            self.bytes -= oldest.text.len();
        }
        reply
    }

    /// The events of the same stream that came later.
    pub(super) fn after(&self, last: EventId) -> Vec<Reply> {
        let later = |id: &EventId| id.stream == last.stream && id.number > last.number;
        self.events.iter().filter(|(id, _)| later(id)).map(|(_, reply)| reply.clone()).collect()
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
    use bytes::Bytes;

    #[test]
    fn a_stream_is_had_again_from_any_event_on() {
        let mut journal = Journal::default();
        let (one, two) = (journal.stream(), journal.stream());
        let opening = journal.opening(one);
        let first = journal.keep(one, Reply::message(Bytes::from_static(b"a")));
        journal.keep(two, Reply::message(Bytes::from_static(b"x")));
        let last = journal.keep(one, Reply::answer(Bytes::from_static(b"b")));
        assert_eq!(journal.after(opening), [first.clone(), last.clone()]);
        let id: EventId = first.event.unwrap().to_string().parse().unwrap();
        assert_eq!(journal.after(id), [last]);
        assert_eq!("1".parse::<EventId>(), Err(NotAnEventId));
    }

    #[test]
    fn the_oldest_events_go_first() {
        let mut journal = Journal::default();
        let opening = journal.opening(LISTENER);
        for _ in 0..EVENTS_MAX + 7 {
            journal.keep(LISTENER, Reply::message(Bytes::from_static(b"a")));
        }
        assert_eq!(journal.after(opening).len(), EVENTS_MAX);
        journal.keep(LISTENER, Reply::message(Bytes::from(vec![0; BYTES_MAX + 1])));
        assert_eq!((journal.after(opening).len(), journal.bytes), (0, 0));
    }
}
