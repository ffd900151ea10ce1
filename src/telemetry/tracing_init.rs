//! Logs go to standard error only: standard output belongs to the MCP traffic of `wrap`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    #[error("log filter `{filter}`: {problem}; give a level such as `info`, or `undercurrent::log=debug,info`")]
    Filter { filter: String, problem: String },
    #[error("start logging: {0}")]
    Init(#[from] TryInitError),
}

/// Starts logging; once per process.
pub fn init_tracing(filter: &str, format: LogFormat) -> Result<(), TracingError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// What the storage says of itself at `info` is not what people ask for; `fjall=info` brings it back.
const QUIET: &str = "fjall=warn,lsm_tree=warn";

fn parse_filter(filter: &str) -> Result<EnvFilter, TracingError> {
    let wrong = |problem: String| TracingError::Filter { filter: filter.to_owned(), problem };
    // A lone word is a target to `EnvFilter`: a misspelt level would silence everything.
    if !filter.contains('=') {
        for level in filter.split(',') {
            level.trim().parse::<tracing::level_filters::LevelFilter>().map_err(|_| wrong("unknown level".into()))?;
        }
    }
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for right in ["info", "debug", "off", "undercurrent::log=debug,info"] {
            assert!(parse_filter(right).is_ok(), "{right}");
        }
        for wrong in ["inof", "undercurrent=loud", "info,lots"] {
            let message = parse_filter(wrong).unwrap_err().to_string();
            assert!(message.starts_with(&format!("log filter `{wrong}`")), "{message}");
        }
    }
}
