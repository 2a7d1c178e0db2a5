//! How often a test repeats what it does, and what comes of many measured values.

/// Returns how often something is to be done: `usual` times, or as often as `ECUMENE_ROUNDS` says.
#[must_use]
pub fn rounds(usual: u32) -> u32 {
    let asked = std::env::var("ECUMENE_ROUNDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(usual)
}

/// Returns the value that so many of a hundred sorted ones do not exceed; NaN if there is none.
#[must_use]
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        for (percent, expected) in [(0, 1.0), (25, 1.0), (26, 2.0), (50, 2.0), (99, 4.0)] {
            assert_eq!(percentile(&sorted, percent), expected, "{percent}");
        }
        assert!(percentile(&[], 50).is_nan());
    }
}
