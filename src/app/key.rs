//! `undercurrent key`: a bearer key for one principal, and the line that lets it in.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::cli::KeyArgs;
use crate::config::KeyHash;

/// Tells a reader of logs and a scanner for secrets what it is.
const PREFIX: &str = "uck_";

pub fn key(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("ask the system for random bytes: {error}"))?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let hash = KeyHash(Sha256::digest(&key).into());
    let name = toml::Value::String(args.name.clone());
    // The key alone goes to standard output, so that it can be sent on to where it belongs.
    eprintln!("The key of {name}, shown this once; clients send it as `Authorization: Bearer KEY`:");
    writeln!(std::io::stdout(), "{key}").context("write the key")?;
    eprintln!("Its line in the config file, below [auth] as a part of `keys`:\n  keys = {{ {name} = \"{hash}\" }}");
    Ok(ExitCode::SUCCESS)
}
