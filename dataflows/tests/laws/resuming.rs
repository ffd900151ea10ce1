//! The law of recovery: a run that is cut at any tick and goes on from an image, on any number of workers, gives what an
//! unbroken run gives, byte for byte.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use proptest::prelude::*;
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::graph::{Graph, GraphSettings, Start, TickOutput};
use undercurrent_dataflows::image::{Draft, Image};
use undercurrent_dataflows::model::{Model, Publisher};
use undercurrent_schemas::ids::{Micros, Tick};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::v1::{self, event::Body, label::Verdict};

use crate::cases;
use crate::run::{run, settings};
use crate::traffic::{any_plans, events, ticks};

/// What a run gave, and what it keeps at its end.
pub(crate) struct Leg {
    outputs: Vec<TickOutput>,
    model: Option<Model>,
    pub(crate) image: Image,
}

pub(crate) fn leg(
    settings: &GraphSettings,
    workers: usize,
    image: Option<&Image>,
    ticks: &[Arc<CommittedTick>],
) -> Leg {
    let (publisher, slot) = Publisher::new();
    let publisher = Mutex::new(Some(publisher));
    let starts = image.map(|image| Start::deal(image, settings, workers).expect("an image of this program"));
    let starts = starts.into_iter().flatten().map(Some).chain(std::iter::repeat_with(|| None)).take(workers);
    let starts = Mutex::new(starts.collect::<Vec<_>>());
    let (settings, fed, of_workers) = (settings.clone(), ticks.to_vec(), slot.clone());
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let publisher = if worker.index() == 0 { publisher.lock().expect("no worker panicked").take() } else { None };
        let start = starts.lock().expect("no worker panicked")[worker.index()].take();
        let mut graph = Graph::build(worker, &settings, &of_workers, publisher, start);
        fed.iter().for_each(|tick| graph.step(worker, tick));
        (graph.take_outputs(), graph.sections(worker))
    })
    .expect("workers start");
    let (mut outputs, mut sections) = (Vec::new(), Vec::new());
    for of_worker in guards.join() {
        let (mut out, mut kept) = of_worker.expect("no worker panicked");
        outputs.append(&mut out);
        sections.append(&mut kept);
    }
    let last = ticks.last().map(|tick| (tick.tick, tick.watermark));
    let (tick, watermark) = last.or(image.map(|image| (image.tick, image.watermark))).unwrap_or((Tick(0), Micros(0)));
    Leg { outputs, model: slot.load().as_deref().cloned(), image: Image::of(tick, watermark, sections) }
}

/// An image of what is kept after the tick at `cut`, drawn in slices of so many bytes while the others are taken.
fn drawn(settings: &GraphSettings, workers: usize, ticks: &[Arc<CommittedTick>], cut: usize, slice: usize) -> Image {
    let (publisher, slot) = Publisher::new();
    let publisher = Mutex::new(Some(publisher));
    let (settings, fed) = (settings.clone(), ticks.to_vec());
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let publisher = if worker.index() == 0 { publisher.lock().expect("no worker panicked").take() } else { None };
        let mut graph = Graph::build(worker, &settings, &slot, publisher, None);
        for (at, tick) in fed.iter().enumerate() {
            graph.step(worker, tick);
            if at == cut {
                graph.begin_image(worker);
            }
            graph.go_on_with_image(slice);
        }
        graph.finish_image().expect("one was begun")
    })
    .expect("workers start");
    let mut draft = Draft::default();
    guards.join().into_iter().for_each(|of_worker| draft.append(of_worker.expect("no worker panicked")));
    draft.image(ticks[cut].tick, ticks[cut].watermark)
}

/// As [`drawn`], by as many processes of one worker each: the image comes together with ticks after those that there are.
fn gathered(
    settings: &GraphSettings,
    processes: usize,
    ticks: &[Arc<CommittedTick>],
    cut: usize,
    slice: usize,
) -> Image {
    let (settings, fed) = (settings.clone(), ticks.to_vec());
    let (barrier, is_there) = (Arc::new(Barrier::new(processes)), Arc::new(AtomicBool::new(false)));
    let guards = timely::execute(timely::Config::process(processes), move |worker| {
        let (publisher, slot) = Publisher::new();
        let mut graph = Graph::build_among(worker, &settings, &slot, Some(publisher), None, 1);
        for (at, tick) in fed.iter().enumerate() {
            if at == cut && worker.index() == 0 {
                graph.ask();
            }
            graph.step(worker, tick);
            graph.go_on_with_image(slice);
        }
        let last = fed.last().expect("there are ticks");
        for later in 1.. {
            let nothing = CommittedTick { tick: Tick(last.tick.0 + later), watermark: last.watermark, batches: vec![] };
            graph.step(worker, &Arc::new(nothing));
            graph.go_on_with_image(slice);
            let gathered = graph.gathered();
            is_there.fetch_or(gathered.is_some(), Ordering::SeqCst);
            barrier.wait();
            if is_there.load(Ordering::SeqCst) {
                return gathered;
            }
            // Nobody says so before all have looked.
            barrier.wait();
        }
        None
    })
    .expect("workers start");
    let all = guards.join().into_iter().map(|of_worker| of_worker.expect("no worker panicked"));
    let (tick, watermark, draft) = all.flatten().next().expect("the first worker has it");
    draft.image(tick, watermark)
}

/// What somebody says of a session, and after how many events.
fn sayings() -> impl Strategy<Value = Vec<(prop::sample::Index, prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5_u8), 0..6)
}

/// Labels, wishes to be forgotten, definitions of tools, and events that come twice, among the others.
fn with_sayings(
    mut events: Vec<v1::Event>,
    sayings: &[(prop::sample::Index, prop::sample::Index, u8)],
) -> Vec<v1::Event> {
    for (of, at, what) in sayings {
        let said = of.get(&events).clone();
        let at = at.index(events.len() + 1);
        let body = match what {
            0 => Some(Body::Label(v1::Label { verdict: Verdict::Malicious.into() })),
            1 => Some(Body::Label(v1::Label { verdict: Verdict::Benign.into() })),
            2 => Some(Body::Forget(v1::Forget::default())),
            3 => {
                let definition = format!(r#"{{"name":"tool-1","description":"version {at}"}}"#);
                let tool_definitions = vec![definition.into_bytes()];
                Some(Body::Message(Box::new(v1::Message { tool_definitions, ..Default::default() })))
            }
            _ => said.body.clone(),
        };
        // Without an id nothing counts as seen before.
        let id = said.id.filter(|_| *what > 3);
        events.insert(at, v1::Event { body, id, ..said });
    }
    events
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_cut_run_gives_what_an_unbroken_one_gives(
        plans in any_plans(),
        sayings in sayings(),
        cut in any::<prop::sample::Index>(),
        workers in prop::sample::select(vec![(1, 1), (1, 2), (2, 1), (2, 4), (4, 1), (4, 2)]),
    ) {
        let ticks = ticks(&with_sayings(events(&plans), &sayings), &[3, 11, 5]);
        let clusters = ClusterSettings { dense_sessions: 2 };
        let settings = GraphSettings { sessions: gated(), clusters, ..settings() };
        let unbroken = leg(&settings, 1, None, &ticks);
        let cut = cut.index(ticks.len());
        let before = leg(&settings, workers.0, None, &ticks[..=cut]);
        let after = leg(&settings, workers.1, Some(&before.image), &ticks[cut + 1..]);

        let (resumed, later) = after.outputs.split_first().expect("the first output says what is resumed");
        prop_assert_eq!(resumed.tick, ticks[cut].tick);
        prop_assert!(resumed.sessions.is_empty() && resumed.models.is_empty() && resumed.change.is_empty());
        prop_assert_eq!(&before.outputs[..], &unbroken.outputs[..=cut]);
        prop_assert_eq!(later, &unbroken.outputs[cut + 1..]);
        prop_assert_eq!(&after.model, &unbroken.model);
        prop_assert_eq!(after.image.canonical().expect("it was just written"), unbroken.image.canonical().expect("it too"));
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn an_image_is_of_its_tick_however_late_it_is_drawn(
        plans in any_plans(),
        sayings in sayings(),
        cut in any::<prop::sample::Index>(),
        workers in prop::sample::select(vec![1, 2, 4]),
        slice in prop::sample::select(vec![1, 300, 4_000, usize::MAX]),
    ) {
        let ticks = ticks(&with_sayings(events(&plans), &sayings), &[3, 11, 5]);
        let clusters = ClusterSettings { dense_sessions: 2 };
        let settings = GraphSettings { sessions: gated(), clusters, ..settings() };
        let cut = cut.index(ticks.len());
        let at_once = leg(&settings, 1, None, &ticks[..=cut]).image;
        let in_slices = drawn(&settings, workers, &ticks, cut, slice);
        prop_assert_eq!(in_slices.canonical().expect("it was just written"), at_once.canonical().expect("it too"));
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn an_image_that_several_processes_draw_is_of_its_tick(
        plans in any_plans(),
        sayings in sayings(),
        cut in any::<prop::sample::Index>(),
        processes in prop::sample::select(vec![2, 3]),
        slice in prop::sample::select(vec![1, 4_000, usize::MAX]),
    ) {
        let ticks = ticks(&with_sayings(events(&plans), &sayings), &[3, 11, 5]);
        let clusters = ClusterSettings { dense_sessions: 2 };
        let settings = GraphSettings { sessions: gated(), clusters, ..settings() };
        let cut = cut.index(ticks.len());
        let at_once = leg(&settings, 1, None, &ticks[..=cut]).image;
        let together = gathered(&settings, processes, &ticks, cut, slice);
        prop_assert_eq!((together.tick, together.watermark), (at_once.tick, at_once.watermark));
        prop_assert_eq!(together.canonical().expect("it was just written"), at_once.canonical().expect("it too"));
    }
}

/// Some sessions are doubted.
fn gated() -> undercurrent_dataflows::sessions::Settings {
    use undercurrent_dataflows::sessions::Gate;
    undercurrent_dataflows::sessions::Settings {
        gate: Gate { flag_p: 0.2, learn_p: 0.5, doubtful_weight: 1 },
        ..settings().sessions
    }
}

/// An image says what it does not hold: nothing is begun from a part.
#[test]
fn an_image_of_another_log_is_refused() {
    let image = leg(&settings(), 2, None, &[]).image;
    let fewer = GraphSettings { partitions: 3, ..settings() };
    assert!(Start::deal(&image, &fewer, 1).is_err());
    let mut torn = image.clone();
    torn.sections.last_mut().expect("sections").bytes.pop();
    assert!(Start::deal(&torn, &settings(), 1).is_err());
    let mut holed = image;
    holed.sections.retain(|section| section.kind != undercurrent_dataflows::image::Kind::Published);
    assert!(Start::deal(&holed, &settings(), 1).is_err());
    assert_eq!(run(&settings(), 1, &[]).outputs.len(), 0);
}
