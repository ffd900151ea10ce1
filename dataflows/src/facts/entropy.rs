//! Shannon entropy of bytes in fixed point: integers only, so it is the same on every machine.

use std::sync::LazyLock;

/// Longer values are judged by their first bytes.
const BYTES_MAX: usize = 16 * 1024;
const TABLE: usize = 1024;

/// `n * log2(n)` in units of 2^-16 for small n, the common case.
static N_LOG_N: LazyLock<[u64; TABLE]> = LazyLock::new(|| std::array::from_fn(|n| n as u64 * log2(n as u64)));

/// Thousandths of a bit per byte.
pub(super) fn entropy_millibits(bytes: &[u8]) -> u32 {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let total = bytes.len() as u64;
    if total < 2 {
        return 0;
    }
    let mut counts = [0_u16; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let n_log_n = |n: u64| N_LOG_N.get(n as usize).copied().unwrap_or_else(|| n * log2(n));
    let mut spent = 0;
    // H = log2(N) - sum(c * log2(c)) / N. A short value takes each of its counts once and does not pay for all 256.
    if bytes.len() < counts.len() {
        for byte in bytes {
            spent += n_log_n(u64::from(std::mem::take(&mut counts[usize::from(*byte)])));
        }
    } else {
        spent = counts.iter().filter(|count| **count > 1).map(|count| n_log_n(u64::from(*count))).sum();
    }
    let bits = n_log_n(total).saturating_sub(spent);
    u32::try_from((bits * 1000 / total) >> 16).unwrap_or(u32::MAX)
}

/// Binary logarithm in units of 2^-16, by repeated squaring; 0 for 0.
fn log2(n: u64) -> u64 {
    if n < 2 {
        return 0;
    }
    let whole = u64::from(n.ilog2());
    // The mantissa in [1, 2) as Q31.
    let mut mantissa = (u128::from(n) << 31) >> whole;
    let mut fraction = 0;
    for _ in 0..16 {
        mantissa = (mantissa * mantissa) >> 31;
        fraction <<= 1;
        if mantissa >> 32 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    (whole << 16) | fraction
}

#[cfg(test)]
mod tests {
    use super::entropy_millibits;

    /// Known values, and nearness to the definition in floating point.
    #[test]
    fn entropy_of_known_texts() {
        for (text, expect) in
            [("", 0), ("a", 0), ("aaaa", 0), ("ab", 1000), ("abcd", 2000), ("abcdefgh", 3000), ("aab", 918)]
        {
            let got = entropy_millibits(text.as_bytes());
            assert!(got.abs_diff(expect) <= 1, "{text}: {got}");
        }
        let every: Vec<u8> = (0..4096_u32).map(|n| (n % 256) as u8).collect();
        assert_eq!(entropy_millibits(&every), 8000);
    }
}
