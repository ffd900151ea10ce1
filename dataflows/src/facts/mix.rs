//! A fast 64-bit hash for what stays inside: word digests and key paths. Its seed is derived from the secret key;
//! what leaves the process goes through [`super::DigestKey::digest`].

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes bytes.
pub(super) fn mix(bytes: &[u8], seed: u64) -> u64 {
    mixed(bytes, seed, |chunk| chunk)
}

/// Hashes letters and digits so that ASCII letters of either case are the same.
pub(super) fn mix_caseless(bytes: &[u8], seed: u64) -> u64 {
    // Sets bit 5 of every ASCII byte: lower case for letters, no change for digits.
    mixed(bytes, seed, |chunk| chunk | ((!chunk & 0x8080_8080_8080_8080) >> 2))
}

/// Both halves of the product, folded into one.
pub(super) fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline(always)]
fn mixed(bytes: &[u8], seed: u64, map: impl Fn(u64) -> u64) -> u64 {
    let mut state = seed ^ bytes.len() as u64;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        state = folded(state ^ map(u64::from_le_bytes(*chunk)), MULTIPLIER);
    }
    if !rest.is_empty() {
        let number = rest.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte));
        state = folded(state ^ map(number), MULTIPLIER);
    }
    folded(state, seed | 1)
}
