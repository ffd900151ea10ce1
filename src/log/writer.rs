//! Turns drained events into a tick: partitions, offsets, hashes, watermark and marks.
//!
//! Not here: I/O and clocks. Invariant: a prepared tick is final, however often its commit has to be tried; ticks and
//! the watermark only grow.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use undercurrent_schemas::ids::{Micros, Offset, Partition, Sequence, Tick, stable_hash};
use undercurrent_schemas::log::{CommittedTick, LogBatch};
use undercurrent_schemas::v1;

use super::encoded::Encoded;
use super::queue::{Drained, GatewayLife, Room};

/// A gateway that was silent for this many ticks no longer holds the watermark back.
const HEARD_TICKS: u64 = 100;

/// Lives that are remembered for dropping duplicates; the one heard longest ago goes first.
const MARKS_MAX: usize = 65_536;

/// One tick, ready to be written.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) tick: Arc<CommittedTick>,
    pub(super) binding: v1::Binding,
    /// The block of each of the tick's batches.
    pub(super) blocks: Vec<Vec<u8>>,
    pub(super) marks: Vec<v1::GatewayMark>,
    pub(super) forgotten: Vec<GatewayLife>,
    pub(super) room: Room,
}

/// How far the log has come, as of the last prepared tick.
#[derive(Debug)]
pub(super) struct Writer {
    ends: Vec<Offset>,
    last: Option<Tick>,
    watermark: Micros,
    marks: BTreeMap<GatewayLife, v1::GatewayMark>,
    /// Largest stamp and last tick of each gateway heard of late.
    heard: BTreeMap<u64, (Micros, Tick)>,
    /// A tick whose commit has failed so far.
    pub(super) pending: Option<Prepared>,
}

impl Writer {
    pub(super) fn new(partitions: u32, binding: Option<&v1::Binding>, marks: Vec<v1::GatewayMark>) -> Self {
        let mut writer = Self {
            ends: vec![Offset(0); partitions as usize],
            last: binding.map(|binding| Tick(binding.tick)),
            watermark: Micros(binding.map_or(0, |binding| binding.watermark_us)),
            marks: BTreeMap::new(),
            heard: BTreeMap::new(),
            pending: None,
        };
        for partition in binding.iter().flat_map(|binding| &binding.partitions) {
            writer.ends[partition.partition as usize] = Offset(partition.end_offset);
        }
        for mark in marks {
            writer.hear(mark.gateway, Micros(mark.stamp_us), Tick(mark.tick));
            writer.marks.insert(GatewayLife { gateway: mark.gateway, epoch: mark.epoch }, mark);
        }
        writer
    }

    /// The records before these offsets are gone: what comes next starts there.
    pub(super) fn skip_to(&mut self, firsts: &[Offset]) {
        for (end, first) in self.ends.iter_mut().zip(firsts) {
            *end = (*end).max(*first);
        }
    }

    /// Steps over a tick whose records are gone.
    pub(super) fn skip(&mut self, binding: &v1::Binding) {
        let ends: Vec<_> = binding.partitions.iter().map(|bound| Offset(bound.end_offset)).collect();
        self.skip_to(&ends);
        self.last = self.last.max(Some(Tick(binding.tick)));
        self.watermark = self.watermark.max(Micros(binding.watermark_us));
    }

    /// Who holds the watermark back at present: largest stamp and last tick of each gateway heard of late.
    pub(super) fn heard(&self) -> Vec<v1::GatewayMark> {
        let mark = |(gateway, (stamp, tick)): (&u64, &(Micros, Tick))| v1::GatewayMark {
            gateway: *gateway,
            stamp_us: stamp.0,
            tick: tick.0,
            ..Default::default()
        };
        self.heard.iter().map(mark).collect()
    }

    pub(super) const fn last(&self) -> Option<Tick> {
        self.last
    }

    pub(super) const fn watermark(&self) -> Micros {
        self.watermark
    }

    pub(super) fn ends(&self) -> &[Offset] {
        &self.ends
    }

    /// The highest sequence of each life.
    pub(super) fn sequences(&self) -> HashMap<GatewayLife, Sequence> {
        self.marks.iter().map(|(life, mark)| (*life, Sequence(mark.sequence))).collect()
    }

    /// The largest stamp of one gateway, over all of its lives.
    pub(super) fn last_stamp(&self, gateway: u64) -> Micros {
        let own = self.marks.values().filter(|mark| mark.gateway == gateway);
        Micros(own.map(|mark| mark.stamp_us).max().unwrap_or(0))
    }

    /// The next tick where the wall clock decides.
    pub(super) fn next_tick(&self, now: Micros, tick_us: u64) -> Tick {
        let wall = u64::try_from(now.0).unwrap_or(0) / tick_us;
        Tick(self.last.map_or(wall, |last| wall.max(last.0 + 1)))
    }

    /// Binds the drained events to a tick that is greater than the last one.
    pub(super) fn prepare(&mut self, drained: Drained<Encoded>, tick: Tick, watermark: Option<Micros>) -> Prepared {
        let heard: Vec<_> = drained.events.iter().map(|event| (event.id, event.stamp)).collect();
        let mut records: Vec<Vec<Vec<u8>>> = vec![Vec::new(); self.ends.len()];
        for event in drained.events {
            records[event.partition(self.ends.len() as u32).0 as usize].push(event.record);
        }
        Prepared { room: drained.room, ..self.bind(&heard, records, tick, watermark) }
    }

    /// Binds records, by partition, to a tick that is greater than the last one. `heard`: who had stamped them when.
    pub(super) fn bind(
        &mut self,
        heard: &[(v1::EventId, Micros)],
        records: Vec<Vec<Vec<u8>>>,
        tick: Tick,
        watermark: Option<Micros>,
    ) -> Prepared {
        assert!(self.last < Some(tick), "ticks grow");
        let marks = self.mark(heard, tick);
        self.watermark = self.watermark.max(watermark.unwrap_or_else(|| self.heard_watermark(tick)));
        self.last = Some(tick);

        let first = self.ends.clone();
        let mut batches = Vec::new();
        let mut blocks = Vec::new();
        let mut binding = v1::Binding { tick: tick.0, watermark_us: self.watermark.0, ..Default::default() };
        for ((partition, first_offset), records) in (0..).zip(first).zip(records) {
            let end = Offset(first_offset.0 + records.len() as u64);
            self.ends[partition as usize] = end;
            let mut hash = 0;
            if !records.is_empty() {
                let block = encode_block(&records);
                hash = block_hash(&block);
                blocks.push(block);
                batches.push(LogBatch { partition: Partition(partition), first_offset, records });
            }
            binding.partitions.push(v1::PartitionBinding { partition, end_offset: end.0, hash });
        }
        let tick = Arc::new(CommittedTick { tick, watermark: self.watermark, batches });
        Prepared { tick, binding, blocks, marks, forgotten: self.forget(), room: Room::default() }
    }

    /// Notes how far each life has come with these events; returns the marks that changed.
    fn mark(&mut self, heard: &[(v1::EventId, Micros)], tick: Tick) -> Vec<v1::GatewayMark> {
        let mut changed: BTreeMap<GatewayLife, (u64, i64)> = BTreeMap::new();
        for (id, stamped) in heard {
            let (sequence, stamp) = changed.entry(GatewayLife::of(id)).or_default();
            *sequence = id.sequence.max(*sequence);
            *stamp = stamped.0.max(*stamp);
        }
        let mut marks = Vec::with_capacity(changed.len());
        for (life, (sequence, stamp)) in changed {
            let GatewayLife { gateway, epoch } = life;
            let mark = self.marks.entry(life).or_insert(v1::GatewayMark { gateway, epoch, ..Default::default() });
            mark.sequence = mark.sequence.max(sequence);
            mark.stamp_us = mark.stamp_us.max(stamp);
            mark.tick = tick.0;
            marks.push(*mark);
            let stamp = Micros(mark.stamp_us);
            self.hear(gateway, stamp, tick);
        }
        marks
    }

    fn hear(&mut self, gateway: u64, stamp: Micros, tick: Tick) {
        let heard = self.heard.entry(gateway).or_default();
        *heard = (heard.0.max(stamp), heard.1.max(tick));
    }

    /// The time that every gateway heard of late has passed.
    fn heard_watermark(&mut self, tick: Tick) -> Micros {
        self.heard.retain(|_, (_, heard)| heard.0 + HEARD_TICKS > tick.0);
        self.heard.values().map(|(stamp, _)| *stamp).min().unwrap_or_default()
    }

    fn forget(&mut self) -> Vec<GatewayLife> {
        if self.marks.len() <= MARKS_MAX {
            return Vec::new();
        }
        let mut lives: Vec<_> = self.marks.iter().map(|(life, mark)| (mark.tick, *life)).collect();
        lives.sort_unstable();
        lives.truncate(self.marks.len() - MARKS_MAX);
        let forgotten: Vec<_> = lives.into_iter().map(|(_, life)| life).collect();
        for life in &forgotten {
            self.marks.remove(life);
        }
        forgotten
    }
}

/// The records of one partition in one tick, each after its length (u32, little endian).
pub(super) fn encode_block(records: &[Vec<u8>]) -> Vec<u8> {
    let mut block = Vec::with_capacity(records.iter().map(|record| record.len() + 4).sum());
    for record in records {
        block.extend_from_slice(&(record.len() as u32).to_le_bytes());
        block.extend_from_slice(record);
    }
    block
}

/// The records of a block; `None` where the lengths do not add up.
pub(super) fn decode_block(mut block: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    while !block.is_empty() {
        let (length, rest) = block.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        records.push(record.to_vec());
        block = rest;
    }
    Some(records)
}

/// The hash of a block, never 0: that says that there is none.
pub(super) fn block_hash(block: &[u8]) -> u64 {
    stable_hash(&[block]).max(1)
}

#[cfg(test)]
mod tests {
    use undercurrent_schemas::ids::partition_of;

    use super::*;

    fn event(gateway: u64, sequence: u64, ts_us: i64) -> v1::Event {
        let id = Some(v1::EventId { gateway, epoch: 1, sequence });
        v1::Event { id, ts_us, session_id: format!("s{gateway}"), ..Default::default() }
    }

    fn drained(events: Vec<v1::Event>) -> Drained<Encoded> {
        Drained { events: events.into_iter().map(Encoded::from).collect(), room: Room::default() }
    }

    #[test]
    fn the_watermark_is_that_of_the_slowest_gateway_heard_of_late() {
        let mut writer = Writer::new(2, None, Vec::new());
        let mut watermark = |tick, events| writer.prepare(drained(events), Tick(tick), None).tick.watermark.0;
        assert_eq!(watermark(1, vec![event(1, 1, 500)]), 500);
        assert_eq!(watermark(2, vec![event(2, 1, 100)]), 500, "never goes back");
        assert_eq!(watermark(3, vec![event(1, 2, 900)]), 500);
        assert_eq!(watermark(4, vec![event(2, 2, 700)]), 700);
        assert_eq!(watermark(103, vec![event(1, 3, 5_000)]), 700, "heard 99 ticks ago");
        assert_eq!(watermark(104, vec![event(1, 4, 6_000)]), 6_000, "100 ticks of silence");
    }

    #[test]
    fn every_partition_is_bound_and_offsets_have_no_holes() {
        let mut writer = Writer::new(4, None, Vec::new());
        writer.prepare(drained(vec![event(1, 1, 1), event(1, 2, 2)]), Tick(1), None);
        let prepared = writer.prepare(drained(vec![event(1, 3, 3)]), Tick(2), None);
        let partition = partition_of("s1", 4);
        assert_eq!(prepared.binding.partitions.len(), 4);
        assert_eq!(prepared.tick.batches.len(), 1);
        assert_eq!(prepared.tick.batches[0].first_offset, Offset(2));
        for bound in &prepared.binding.partitions {
            let expect = if bound.partition == partition.0 { (3, false) } else { (0, true) };
            assert_eq!((bound.end_offset, bound.hash == 0), expect);
        }
    }

    #[test]
    fn blocks_survive_the_round_trip_and_refuse_nonsense() {
        let records = vec![b"one".to_vec(), Vec::new(), vec![0; 300]];
        let block = encode_block(&records);
        assert_eq!(decode_block(&block), Some(records));
        assert_eq!(decode_block(&block[..block.len() - 1]), None);
    }

    #[test]
    fn a_writer_goes_on_where_the_log_ends() {
        let mut first = Writer::new(2, None, Vec::new());
        let prepared = first.prepare(drained(vec![event(1, 1, 500), event(9, 4, 800)]), Tick(7), None);
        let next = Writer::new(2, Some(&prepared.binding), prepared.marks);
        assert_eq!((next.last(), next.ends(), next.watermark()), (first.last(), first.ends(), first.watermark()));
        assert_eq!(next.sequences(), first.sequences());
        assert_eq!(next.last_stamp(9), Micros(800));
    }
}
