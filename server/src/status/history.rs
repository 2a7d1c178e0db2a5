//! How long the last ticks took: a ring that the tick thread writes without ever waiting.
//!
//! Numbers only; it neither measures time nor decides what is too slow.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Ticks kept: 12 seconds at 20 Hz, the width of the page's plot.
pub const TICKS_KEPT: usize = 240;

/// The spread of the kept ticks, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TickMs {
    /// Half of the ticks took at most this.
    pub p50: f32,
    /// 99 of 100 ticks took at most this.
    pub p99: f32,
    /// The longest.
    pub max: f32,
}

impl TickMs {
    /// Returns the spread of `ticks_ms` (nearest rank), zero for none.
    #[must_use]
    pub fn of(ticks_ms: &[f32]) -> Self {
        let mut sorted = ticks_ms.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        Self {
            p50: percentile(&sorted, 50),
            p99: percentile(&sorted, 99),
            max: percentile(&sorted, 100),
        }
    }
}

/// Returns the value at or below which `percent` of the sorted values lie (nearest rank).
fn percentile(sorted: &[f32], percent: usize) -> f32 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// The last [`TICKS_KEPT`] ticks. One thread writes, any thread reads.
#[derive(Debug)]
pub struct TickHistory {
    micros: [AtomicU32; TICKS_KEPT],
    /// Ticks ever recorded; the next one goes to this number modulo the ring.
    recorded: AtomicU64,
}

impl Default for TickHistory {
    fn default() -> Self {
        Self { micros: [const { AtomicU32::new(0) }; TICKS_KEPT], recorded: AtomicU64::new(0) }
    }
}

impl TickHistory {
    /// Notes that one tick took `step`.
    pub fn record(&self, step: Duration) {
        let recorded = self.recorded.load(Ordering::Relaxed);
        let micros = u32::try_from(step.as_micros()).unwrap_or(u32::MAX);
        self.micros[slot(recorded)].store(micros, Ordering::Relaxed);
        self.recorded.store(recorded + 1, Ordering::Release);
    }

    /// Returns the kept ticks in milliseconds, oldest first.
    ///
    /// A tick that ends during the call may stand in for the oldest one.
    #[must_use]
    pub fn ms(&self) -> Vec<f32> {
        let recorded = self.recorded.load(Ordering::Acquire);
        let oldest = recorded.saturating_sub(TICKS_KEPT as u64);
        (oldest..recorded)
            .map(|index| self.micros[slot(index)].load(Ordering::Relaxed))
            // Hundredths are finer than a clock on a busy machine, and short in JSON.
            .map(|micros| (f64::from(micros) / 10.0).round() as f32 / 100.0)
            .collect()
    }
}

/// Returns the place of the tick of this number in the ring.
const fn slot(index: u64) -> usize {
    (index % TICKS_KEPT as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ticks_ms: &[f32], expected: [f32; 3]) {
        let TickMs { p50, p99, max } = TickMs::of(ticks_ms);
        assert_eq!([p50, p99, max], expected, "{ticks_ms:?}");
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        check(&[], [0.0, 0.0, 0.0]);
        check(&[7.0], [7.0, 7.0, 7.0]);
        check(&[4.0, 1.0, 3.0, 2.0], [2.0, 4.0, 4.0]);
        let hundred: Vec<f32> = (1..=100_u16).rev().map(f32::from).collect();
        check(&hundred, [50.0, 99.0, 100.0]);
        let two_hundred: Vec<f32> = (1..=200_u16).map(f32::from).collect();
        check(&two_hundred, [100.0, 198.0, 200.0]);
    }

    #[test]
    fn the_ring_keeps_the_newest_in_order() {
        let history = TickHistory::default();
        assert!(history.ms().is_empty());
        for ms in 0..1_000 {
            history.record(Duration::from_millis(ms));
        }
        let expected: Vec<f32> = (760..1_000_u16).map(f32::from).collect();
        assert_eq!(history.ms(), expected);
    }

    #[test]
    fn an_endless_tick_is_a_long_one() {
        let history = TickHistory::default();
        history.record(Duration::MAX);
        history.record(Duration::from_micros(1_234));
        assert_eq!(history.ms()[1], 1.23);
        assert!(history.ms()[0] > 4_000_000.0);
    }
}
