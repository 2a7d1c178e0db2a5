//! The spread of a measured quantity in bounded memory: counts in buckets 1 % wide.
//!
//! What the numbers mean and which unit they have is the caller's.

use serde_json::{Value, json};

/// Buckets: 1 % each from a thousandth to over ten million.
const BUCKETS: usize = 2_400;

/// The smallest value told apart from zero.
const LEAST: f64 = 0.001;

/// A bucket's upper bound over its lower one.
const GROWTH: f64 = 1.01;

/// How a quantity spreads.
#[derive(Clone, Debug)]
pub struct Spread {
    buckets: Vec<u64>,
    count: u64,
    max: f64,
    sum: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0.0, sum: 0.0 }
    }
}

impl Spread {
    /// Counts one value; what is negative or no number counts as zero.
    pub fn add(&mut self, value: f64) {
        let value = if value > 0.0 { value } else { 0.0 };
        self.buckets[bucket(value)] += 1;
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    /// Adds everything that another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Returns it for a report: the buckets that are not empty, by number.
    #[must_use]
    pub fn json(&self) -> Value {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        let buckets: Vec<(usize, u64)> = filled.map(|(at, &count)| (at, count)).collect();
        // An infinite value has no number in JSON; it lies in the last bucket.
        let finite = |value: f64| if value.is_finite() { value } else { f64::MAX };
        json!({ "buckets": buckets, "max": finite(self.max), "sum": finite(self.sum) })
    }

    /// Returns what a report carries; nothing if that is no spread.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let mut spread =
            Self { max: value["max"].as_f64()?, sum: value["sum"].as_f64()?, ..Self::default() };
        for bucket in value["buckets"].as_array()? {
            let (at, count) = (bucket[0].as_u64()?, bucket[1].as_u64()?);
            *spread.buckets.get_mut(usize::try_from(at).ok()?)? += count;
            spread.count += count;
        }
        Some(spread)
    }

    /// Returns how many values were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the greatest value, nothing without any.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }

    /// Returns the mean, nothing without any value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Returns the value that `percent` of all lie at or below (nearest rank, 1 % too high at
    /// most), nothing without any.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<f64> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut below = 0;
        for (index, &count) in self.buckets.iter().enumerate() {
            below += count;
            if rank <= below {
                return Some(upper(index).min(self.max));
            }
        }
        None
    }
}

fn bucket(value: f64) -> usize {
    if value < LEAST {
        return 0;
    }
    let index = (value / LEAST).ln() / GROWTH.ln();
    (index as usize).saturating_add(1).min(BUCKETS - 1)
}

fn upper(index: usize) -> f64 {
    if index == 0 { 0.0 } else { LEAST * GROWTH.powi(i32::try_from(index).unwrap_or(i32::MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_one_percent() {
        let mut spread = Spread::default();
        (1..=1_000).for_each(|value| spread.add(f64::from(value)));
        for (percent, expected) in [(5, 50.0), (50, 500.0), (99, 990.0), (100, 1_000.0)] {
            let got = spread.percentile(percent).expect("there are values");
            assert!((got / expected - 1.0).abs() <= 0.011, "{percent}: {got}");
        }
        assert_eq!((spread.count(), spread.max()), (1_000, Some(1_000.0)));
        assert_eq!(spread.mean(), Some(500.5));
    }

    #[test]
    fn two_that_a_report_carried_are_as_one() {
        let (mut all, mut low, mut high) =
            (Spread::default(), Spread::default(), Spread::default());
        for value in 1..=1_000 {
            all.add(f64::from(value));
            if value % 3 == 0 { low.add(f64::from(value)) } else { high.add(f64::from(value)) }
        }
        let carried = |spread: &Spread| Spread::from_json(&spread.json()).expect("a spread");
        let mut merged = carried(&low);
        merged.merge(&carried(&high));
        for percent in [1, 50, 95, 99, 100] {
            assert_eq!(merged.percentile(percent), all.percentile(percent), "{percent}");
        }
        assert_eq!((merged.count(), merged.mean()), (all.count(), all.mean()));
        assert!(Spread::from_json(&json!({"buckets": [[1]], "max": 1.0, "sum": 1.0})).is_none());
    }

    #[test]
    fn nothing_and_nonsense_are_no_trouble() {
        assert_eq!(Spread::default().percentile(50), None);
        assert_eq!(Spread::default().max(), None);
        let mut spread = Spread::default();
        [f64::NAN, -3.0, 0.0, f64::INFINITY].into_iter().for_each(|value| spread.add(value));
        assert_eq!(spread.percentile(50), Some(0.0));
        assert_eq!(spread.count(), 4);
    }
}
