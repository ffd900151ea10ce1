//! What keeping clusters costs: 100,000 sessions in cells of one grid, of which 1,000 a tick move to another cell.
//! Prints the time of a move, from the counts to the components. The aim is 20 µs.

#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::hint::black_box;
use std::time::Instant;

use differential_dataflow::input::Input as _;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::{Inspect as _, Probe as _};
use undercurrent_dataflows::clusters::{Cell, ClusterSettings};
use undercurrent_dataflows::graph::cell_components;

const SESSIONS: u64 = 100_000;
const MOVES: u64 = 1_000;
const TICKS: u64 = 50;

/// Where the nth session is before and after it moves: most in few cells, some anywhere, as sessions are.
fn cell(session: u64, moved: bool) -> Cell {
    let mut bits = (session ^ if moved { 0x5555_0000 } else { 0 }).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 29;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let spread = if bits & 7 == 0 { 5 } else { 2 };
    let at: [u8; 8] = std::array::from_fn(|line| ((bits >> (8 + 7 * line)) % spread) as u8);
    Cell { scope: bits & 3, at: u64::from_le_bytes(at) }
}

fn main() {
    // `cargo test --benches` only wants to see it start.
    let ticks = if std::env::args().any(|argument| argument == "--bench") { TICKS } else { 1 };
    timely::execute_directly(move |worker| {
        let probe = ProbeHandle::new();
        let mut sessions = worker.dataflow(|scope| {
            let (input, sessions) = scope.new_collection::<Cell, isize>();
            let components = cell_components(sessions.inner, ClusterSettings::default());
            components.inner.inspect(|change| _ = black_box(change)).probe_with(&probe);
            input
        });
        let mut step = |sessions: &mut differential_dataflow::input::InputSession<u64, Cell, isize>, tick: u64| {
            sessions.advance_to(tick);
            sessions.flush();
            worker.step_or_park_while(None, || probe.less_than(&tick));
        };
        let started = Instant::now();
        (0..SESSIONS).for_each(|session| sessions.insert(cell(session, false)));
        step(&mut sessions, 1);
        println!("load {SESSIONS} sessions: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
        let mut took: Vec<f64> = (0..ticks)
            .map(|tick| {
                let started = Instant::now();
                for session in tick * MOVES..(tick + 1) * MOVES {
                    sessions.remove(cell(session, false));
                    sessions.insert(cell(session, true));
                }
                step(&mut sessions, tick + 2);
                started.elapsed().as_secs_f64() * 1e6 / MOVES as f64
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!("a move, {MOVES} a tick: median {:.1} µs, worst {:.1} µs", took[took.len() / 2], took[took.len() - 1]);
    });
}
