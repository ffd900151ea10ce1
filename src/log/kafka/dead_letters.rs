//! Records of topic `events` that are no events: told once, in the transaction that binds them.
//!
//! Not here: what becomes of them in the graph, which counts and steps over them.

use prost::Message as _;
use undercurrent_schemas::v1;

use super::events::NO_EVENT;
use crate::log::writer::Prepared;

/// Of one tick; a producer that writes nothing but nonsense must not fill a second topic with it.
const TOLD_MAX: usize = 1_000;
/// Of one record.
const RECORD_BYTES: usize = 64 << 10;

/// What is to be told of a tick.
pub(super) fn of(topic: &str, prepared: &Prepared) -> Vec<v1::DeadRecord> {
    let mut letters = Vec::new();
    for batch in &prepared.tick.batches {
        for (offset, record) in (batch.first_offset.0..).zip(&batch.records) {
            // A hole in the topic is no record of anybody.
            if letters.len() == TOLD_MAX || record == NO_EVENT {
                continue;
            }
            if let Err(error) = v1::Event::decode(record.as_slice()) {
                letters.push(v1::DeadRecord {
                    topic: topic.to_owned(),
                    partition: batch.partition.0,
                    offset,
                    reason: error.to_string(),
                    record: record[..record.len().min(RECORD_BYTES)].to_vec(),
                });
            }
        }
    }
    letters
}

/// The same for the same record, so that one that is told twice is recognised.
pub(super) fn key(letter: &v1::DeadRecord) -> String {
    format!("{}/{}/{}", letter.topic, letter.partition, letter.offset)
}

#[cfg(test)]
mod tests {
    use undercurrent_schemas::ids::Tick;

    use super::*;
    use crate::log::writer::Writer;

    #[test]
    fn what_cannot_be_decoded_is_told_with_its_place() {
        let event = v1::Event { session_id: "s".to_owned(), ..v1::Event::default() }.encode_to_vec();
        let records = vec![vec![event, NO_EVENT.to_vec(), b"nonsense".to_vec()]];
        let prepared = Writer::new(1, None, Vec::new()).bind(&[], records, Tick(1), None);
        let letters = of("events", &prepared);
        assert_eq!(letters.iter().map(key).collect::<Vec<_>>(), ["events/0/2"]);
        assert_eq!(letters[0].record, b"nonsense");
        assert!(!letters[0].reason.is_empty());
    }
}
