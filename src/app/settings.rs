//! From the settings as people write them to what each part takes.

use undercurrent_dataflows::graph::WindowSettings;
use undercurrent_dataflows::sessions::{Gate, Settings, Timing};

use crate::config::Config;
use crate::policy::{Policy, PolicyError};

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn sessions(config: &Config) -> Settings {
    let engine = &config.engine;
    let defaults = Settings::default();
    Settings {
        timing: Timing {
            session_idle_us: micros(engine.session_idle),
            lateness_us: micros(engine.lateness),
            call_timeout_us: micros(engine.call_timeout),
            ..defaults.timing
        },
        gate: Gate { flag_p: engine.alert_budget, learn_p: engine.learning_gate_p },
        ..defaults
    }
}

pub(super) fn windows(config: &Config) -> WindowSettings {
    WindowSettings { lateness_us: micros(config.engine.lateness), ..WindowSettings::default() }
}

pub(super) fn policy(config: &Config) -> Result<Policy, PolicyError> {
    config.policy_file.as_deref().map_or_else(|| Ok(Policy::default()), Policy::read)
}
