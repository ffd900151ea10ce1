//! Fixed bin edges: a value's bin never depends on other values, so that histograms are sums.

/// Bins of a histogram of term values.
pub const TERM_BINS: usize = 512;

/// Bins of a histogram of scores.
pub const SCORE_BINS: usize = 1024;

/// Bins of a histogram of reported values.
pub const REPORTED_BINS: usize = 512;
const REPORTED_PER_E: f64 = 12.0;
/// Shares and seconds are as well told apart as bytes are.
const REPORTED_SCALE: f64 = 1000.0;

/// Logarithmic bins of about 8 % of a thousandth and the value.
#[must_use]
pub fn reported_bin(value: f64) -> u32 {
    log_bin(value * REPORTED_SCALE, REPORTED_PER_E, REPORTED_BINS)
}

/// Where a bin of reported values ends.
#[must_use]
pub fn reported_value(bin: u32) -> f64 {
    (f64::from(bin + 1) / REPORTED_PER_E).exp_m1() / REPORTED_SCALE
}

/// Logarithmic bins of about 4 % of `1 + value`.
#[must_use]
pub fn term_bin(value: f64) -> u32 {
    log_bin(value, 24.0, TERM_BINS)
}

/// A value in the middle of a bin of [`term_bin`].
#[must_use]
pub fn term_value(bin: u32) -> f64 {
    ((f64::from(bin) + 0.5) / 24.0).exp_m1()
}

/// Logarithmic bins of about 0.8 % of `1 + score`.
#[must_use]
pub fn score_bin(score: f64) -> u32 {
    log_bin(score, 128.0, SCORE_BINS)
}

fn log_bin(value: f64, per_e: f64, bins: usize) -> u32 {
    let bin = (per_e * value.max(0.0).ln_1p()).floor();
    (bin as u32).min(bins as u32 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_grow_with_values_and_stay_in_range() {
        assert_eq!(term_bin(0.0), 0);
        assert_eq!(term_bin(-1.0), 0);
        assert_eq!(term_bin(f64::NAN), 0);
        assert_eq!(term_bin(f64::INFINITY), TERM_BINS as u32 - 1);
        assert!((0..1000).map(f64::from).is_sorted_by_key(term_bin));
        assert!(term_bin(3.0) < term_bin(3.3));
    }
}
