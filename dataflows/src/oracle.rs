//! The naive twins: what the dataflow must come to, computed from all events at once with plain loops.
//!
//! Slow, and without ticks, watermarks, workers or differences, so that it is plainly right. Not used by the product;
//! tests hold the dataflow against it, and whoever adds a fact or a feature adds its twin here first.
//! It knows the events of a log up to some watermark; at the end of time whatever was open has ended. It takes event time
//! at its word, so it equals the dataflow where nothing came later than the lateness allows. What a gate decided and what
//! was scored is given to it, as what was recorded.
//! Not modelled: the bound on open calls, the end of a session's memory, and what depends on the model of the moment
//! (scores and the histograms of terms).

mod alerts;
mod clusters;
mod facts;
mod features;
mod sessions;

pub use alerts::{Open, open_alerts};
pub use clusters::{cell_at, components};
pub use facts::{labelled_counts, taught_counts, weighed_counts};
pub use features::{feature_rows, forecast};
pub use sessions::{Call, Part, parts, parts_at};
