//! Images between the workers of several processes: an image is dealt from the first process when they start, and brought
//! together there when one is asked for.
//!
//! The first worker asks with a tick; whoever has taken that tick writes what it keeps, and sends it by and by with the
//! ticks that follow. Not here: what is in an image (`resume`).
//! Invariant: all parts of an image are of the same tick, since an ask is everywhere before its tick is over.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;
use undercurrent_schemas::ids::{Micros, Tick};

use super::resume::{Start, place};
use super::{GraphSettings, copies};
use crate::image::{Draft, Image, ImageError, Kind, Run, Section};

/// Bytes of a section that travel at once.
const PIECE_BYTES: usize = 1 << 20;

/// Letters that are sent between two ticks: a few milliseconds.
const LETTERS_AT_ONCE: usize = 2;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Letter {
    to: u64,
    tick: Tick,
    watermark: Micros,
    what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum What {
    /// Of an image that is dealt: there is one. Else: one is asked for.
    Word,
    /// The next bytes of a section.
    Piece { kind: u8, number: u32, bytes: Vec<u8> },
    /// Of an image that was asked for: the sender has sent all of its own.
    End,
}

/// One worker's box.
pub(super) struct Post {
    input: InputHandle<u64, CapacityContainerBuilder<Vec<Letter>>>,
    probe: ProbeHandle<u64>,
    arrived: Rc<RefCell<Vec<Letter>>>,
    worker: u64,
    workers: u64,
    asking: bool,
    /// Pieces of an image of this tick.
    parts: Option<(Tick, Micros, Parts)>,
    /// Workers that have sent all of it.
    ended: u64,
    outbox: Outbox,
}

/// What is to be sent to the first worker.
#[derive(Default)]
enum Outbox {
    #[default]
    Empty,
    /// Its letters are written on a thread of their own: they are as large as the image.
    Writing(JoinHandle<VecDeque<Letter>>),
    Letters(VecDeque<Letter>),
}

/// The pieces of each section as they came: what grew in one place would have to be moved now and then.
type Parts = BTreeMap<(u8, u32), Vec<Vec<u8>>>;

/// An image that came together.
pub(super) type Gathered = (Tick, Micros, Draft);

impl Post {
    pub(super) fn open(worker: &mut Worker) -> Self {
        let (mut input, probe) = (InputHandle::new(), ProbeHandle::new());
        let arrived = Rc::new(RefCell::new(Vec::new()));
        let inbox = Rc::clone(&arrived);
        worker.dataflow_named("Post", |scope| {
            let letters = input.to_stream(scope);
            let to = Exchange::new(|letter: &Letter| letter.to);
            letters
                .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(to, "Letters", move |_, _| {
                    move |input, _| {
                        input.for_each(|_, letters: &mut Vec<Letter>| inbox.borrow_mut().append(letters));
                    }
                })
                .probe_with(&probe);
        });
        let (worker, workers) = (worker.index() as u64, worker.peers() as u64);
        Self { input, probe, arrived, worker, workers, asking: false, parts: None, ended: 0, outbox: Outbox::Empty }
    }

    /// Asks every worker for what it keeps after the next tick. For the first worker.
    pub(super) const fn ask(&mut self) {
        self.asking = true;
    }

    /// A tick begins: what was sent before arrives with it.
    pub(super) fn begin(&mut self, tick: Tick, watermark: Micros) {
        self.input.advance_to(tick.0);
        if std::mem::take(&mut self.asking) {
            (0..self.workers).for_each(|to| self.input.send(Letter { to, tick, watermark, what: What::Word }));
        }
        self.input.advance_to(tick.0 + 1);
    }

    /// Whether something of a tick may still be on its way.
    pub(super) fn is_before(&self, time: u64) -> bool {
        self.probe.less_than(&time)
    }

    /// Takes what has arrived by a tick that is over. Whether an image after it is asked for, and whether one before it has
    /// come together. Others may be further: what they ask for is for the next tick.
    pub(super) fn take(&mut self, at: Tick) -> (Option<(Tick, Micros)>, Option<Gathered>) {
        let mut asked = None;
        let arrived = std::mem::take(&mut *self.arrived.borrow_mut());
        for letter in arrived {
            match letter.what {
                What::Word if letter.tick > at => self.arrived.borrow_mut().push(letter),
                What::Word => asked = Some((letter.tick, letter.watermark)),
                What::Piece { kind, number, bytes } => {
                    let parts = self.parts.get_or_insert_with(|| (letter.tick, letter.watermark, Parts::new()));
                    parts.2.entry((kind, number)).or_default().push(bytes);
                }
                What::End => self.ended += 1,
            }
        }
        (asked, if self.ended == self.workers { self.whole() } else { None })
    }

    /// All that has come.
    fn whole(&mut self) -> Option<Gathered> {
        self.ended = 0;
        let (tick, watermark, parts) = self.parts.take()?;
        Some((tick, watermark, draft(parts)))
    }

    /// Has what this worker kept after a tick sent to the first, by and by.
    pub(super) fn post(&mut self, (tick, watermark): (Tick, Micros), draft: Draft) {
        let letter = move |what| Letter { to: 0, tick, watermark, what };
        let write = move || {
            let sections = draft.sections();
            sections.iter().flat_map(pieces).chain([What::End]).map(letter).collect()
        };
        self.outbox = Outbox::Writing(std::thread::spawn(write));
    }

    /// Sends some more, if there is anything to send.
    pub(super) fn send(&mut self) {
        self.outbox = match std::mem::take(&mut self.outbox) {
            Outbox::Writing(writing) if writing.is_finished() => {
                Outbox::Letters(writing.join().expect("putting bytes together does not panic"))
            }
            other => other,
        };
        let Outbox::Letters(letters) = &mut self.outbox else { return };
        let count = LETTERS_AT_ONCE.min(letters.len());
        letters.drain(..count).for_each(|letter| self.input.send(letter));
        self.input.flush();
        if letters.is_empty() {
            self.outbox = Outbox::Empty;
        }
    }

    fn section(&mut self, to: u64, tick: Tick, watermark: Micros, section: &Section) {
        pieces(section).for_each(|what| self.input.send(Letter { to, tick, watermark, what }));
    }

    /// Deals the first worker's image over all; every worker has to take part.
    fn deal(mut self, worker: &mut Worker, threads: usize, image: Option<Image>) -> Option<Image> {
        if let Some(image) = image.filter(|_| self.worker == 0) {
            let Image { tick, watermark, sections } = image;
            (0..self.workers).for_each(|to| self.input.send(Letter { to, tick, watermark, what: What::Word }));
            for section in sections {
                self.section(place(&section, self.workers as usize) as u64, tick, watermark, &section);
                if section.kind == Kind::Model {
                    let copies = copies::places(self.workers as usize, threads);
                    copies.into_iter().for_each(|to| self.section(to, tick, watermark, &section));
                }
            }
        }
        self.input.advance_to(1);
        worker.step_or_park_while(None, || self.probe.less_than(&1));
        let (dealt, _) = self.take(Tick(u64::MAX));
        let mine = self.whole().map(|(tick, watermark, draft)| draft.image(tick, watermark));
        dealt.map(|(tick, watermark)| mine.unwrap_or_else(|| Image::of(tick, watermark, Vec::new())))
    }
}

/// What this worker, one of `threads` in its process, goes on with, where the first worker of all brings an image.
///
/// # Errors
/// The image is of no form that this program knows.
pub fn dealt(
    worker: &mut Worker,
    settings: &GraphSettings,
    threads: usize,
    image: Option<Image>,
) -> Result<Option<Start>, ImageError> {
    let (index, peers) = (worker.index(), worker.peers());
    let mine = Post::open(worker).deal(worker, threads, image);
    mine.map(|mine| Start::dealt(&mine, settings, index, peers)).transpose()
}

/// A section's bytes; one that is empty is a section, too.
fn pieces(section: &Section) -> impl Iterator<Item = What> {
    let (kind, number) = (section.kind as u8, section.number);
    let pieces = section.bytes.chunks(PIECE_BYTES).chain(section.bytes.is_empty().then_some(&[][..]));
    pieces.map(move |piece| What::Piece { kind, number, bytes: piece.to_vec() })
}

fn draft(parts: Parts) -> Draft {
    let mut draft = Draft::default();
    for ((kind, number), pieces) in parts {
        if let Some(kind) = Kind::from_number(kind) {
            draft.push(kind, number, pieces.into_iter().map(Run::Bytes).collect());
        }
    }
    draft
}
