//! The two secrets of a DATA: the key of its digests, and the token that lets someone write through the admin listener.

use std::fmt::{self, Write};
use std::io;
use std::path::Path;

use subtle::ConstantTimeEq as _;
use undercurrent_dataflows::facts::DigestKey;

use super::{DataDirError, failed, private_file};

/// What a request that changes anything must present.
#[derive(Clone)]
pub struct AdminToken(String);

impl AdminToken {
    /// Compares in a time that does not tell how much was right.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// As it is presented.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

/// Reads the token, making one at the first start: 32 random bytes in hex.
pub(super) fn admin_token(path: &Path) -> Result<AdminToken, DataDirError> {
    let text = secret_file(path, || Ok(hex(&random::<32>()?) + "\n"))?;
    match from_hex::<32>(text.trim()) {
        Some(_) => Ok(AdminToken(text.trim().to_owned())),
        None => Err(DataDirError::Damaged { path: path.to_owned() }),
    }
}

/// Reads the keys, making one at the first start. A line per key: its id, and 16 random bytes in hex; a rotation
/// appends one. Ids are random too, so that events of two deployments can be told apart when they meet.
pub(super) fn digest_keys(path: &Path) -> Result<Vec<DigestKey>, DataDirError> {
    let text = secret_file(path, new_digest_key)?;
    let keys: Option<Vec<DigestKey>> = text.lines().filter(|line| !line.trim().is_empty()).map(digest_key).collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(|| DataDirError::Damaged { path: path.to_owned() })
}

/// Appends a key: the one of new digests from the next start on.
pub(super) fn rotate_digest_key(path: &Path) -> Result<(), DataDirError> {
    let mut text = secret_file(path, new_digest_key)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text += &new_digest_key().map_err(failed("make a key for", path))?;
    private_file::replace(path, &text).map_err(failed("write", path))
}

fn new_digest_key() -> io::Result<String> {
    Ok(format!("{} {}\n", u32::from_le_bytes(random()?).max(1), hex(&random::<16>()?)))
}

fn digest_key(line: &str) -> Option<DigestKey> {
    let (id, secret) = line.trim().split_once(' ')?;
    let id = id.parse().ok().filter(|id| *id != DigestKey::REPLAY.id)?;
    Some(DigestKey { id, secret: from_hex(secret)? })
}

fn secret_file(path: &Path, make: impl FnOnce() -> io::Result<String>) -> Result<String, DataDirError> {
    let text = private_file::read_or_create(path, make).map_err(failed("read or create", path))?;
    match private_file::is_exposed(path).map_err(failed("read mode of", path))? {
        true => Err(DataDirError::Exposed { path: path.to_owned() }),
        false => Ok(text),
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
