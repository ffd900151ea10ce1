//! Several processes, one DATA: the first owns it, every other one sends it events and takes models.
//!
//! `DATA/undercurrent.lock` decides who the owner is: an OS lock, which goes with its process. The owner listens on a
//! local socket ([`Server`]); a member keeps its events until the owner says that they are durable ([`MemberLog`]), and
//! sends them again to the next owner, who drops what the log has already.
//!
//! Not here: opening the log, building models. Invariant: an accepted event is in the log once, whoever owns it.

mod address;
mod frames;
mod lock;
mod member;
mod server;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use lock::{Claim, OwnerLock, claim, is_owned};
pub use member::{MemberLimits, MemberLog};
pub use server::{ModelFeed, Server};

/// Version of what owner and members say to each other.
pub const PROTOCOL: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("lock {}", path.display())]
    Lock { path: PathBuf, source: std::io::Error },

    #[error("listen on {address}")]
    Listen { address: String, source: std::io::Error },

    #[error("socket directory {} belongs to someone else or is open to others; remove it or set XDG_RUNTIME_DIR",
            path.display())]
    Directory { path: PathBuf },

    #[error("connect to the owner of the data directory at {address}")]
    Connect { address: String, source: std::io::Error },

    #[error("talk to the other process")]
    Socket(#[from] std::io::Error),

    #[error("decode a message of the other process")]
    Decode(#[from] prost::DecodeError),

    #[error("expected {expected}, got something else or nothing")]
    Unexpected { expected: &'static str },

    #[error("the owner of the data directory refused this process: {reason}")]
    Refused { reason: String },

    #[error("the other process did not answer in time")]
    Timeout,
}
