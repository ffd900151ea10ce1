//! An event as the queue holds it: encoded where it was made, so that one buffer changes threads and not its parts.

use prost::Message as _;
use undercurrent_schemas::ids::{Micros, Partition, partition_of};
use undercurrent_schemas::v1;

use super::queue::Queued;

/// A record to be, and what its commit has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(super) record: Vec<u8>,
    pub(super) id: v1::EventId,
    pub(super) stamp: Micros,
    /// Empty where an event belongs to no session.
    session_id: Box<str>,
}

/// Room for the id that is given later.
const ID_BYTES: usize = 40;

impl Encoded {
    pub(super) fn of(event: &v1::Event) -> Self {
        let mut record = Vec::with_capacity(event.encoded_len() + ID_BYTES);
        event.encode(&mut record).expect("a vector has room");
        let (id, stamp) = (event.id.unwrap_or_default(), Micros(event.ts_us));
        Self { record, id, stamp, session_id: event.session_id.as_str().into() }
    }

    /// A record that was encoded before; `None` where it is no event.
    pub(super) fn of_record(record: Vec<u8>) -> Option<Self> {
        let head = v1::EventHead::decode(record.as_slice()).ok()?;
        let (id, stamp) = (head.id.unwrap_or_default(), Micros(head.ts_us));
        Some(Self { record, id, stamp, session_id: head.session_id.into() })
    }

    /// The key of its record on topics: empty where the event belongs to no session.
    pub(super) fn key(&self) -> &str {
        &self.session_id
    }

    pub(super) fn partition(&self, partitions: u32) -> Partition {
        if self.session_id.is_empty() { Partition(0) } else { partition_of(&self.session_id, partitions) }
    }
}

impl From<v1::Event> for Encoded {
    fn from(event: v1::Event) -> Self {
        Self::of(&event)
    }
}

impl Queued for Encoded {
    fn bytes(&self) -> usize {
        self.record.len()
    }

    /// Fields of a message may come in any order (protobuf encoding, "Field order").
    fn set_id(&mut self, id: v1::EventId) {
        self.id = id;
        let only = v1::Event { id: Some(id), ..v1::Event::default() };
        only.encode(&mut self.record).expect("a vector has room");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_given_later_is_the_record_s() {
        let event = v1::Event { ts_us: 5, session_id: "s".to_owned(), ..v1::Event::default() };
        let mut encoded = Encoded::of(&event);
        let id = v1::EventId { gateway: u64::MAX, epoch: 2, sequence: u64::MAX };
        encoded.set_id(id);
        assert!(encoded.record.capacity() <= event.encoded_len() + ID_BYTES, "it did not grow");
        assert_eq!(v1::Event::decode(&encoded.record[..]), Ok(v1::Event { id: Some(id), ..event }));
        assert_eq!(encoded.partition(8), partition_of("s", 8));
        assert_eq!(Encoded::of_record(encoded.record.clone()), Some(encoded), "a head is enough to know it again");
    }
}
