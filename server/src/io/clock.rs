//! The clocks: the one place that reads them.
//!
//! [`Clock`] tells wall time, for certificates, tokens and logs. [`Pace`] tells a ticking loop how
//! long to wait; it follows the monotonic clock, so that a wall clock set back or forward moves no
//! tick.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time; tests hand in numbers instead.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Returns a clock whose [`Clock::elapsed`] starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: instant() }
    }

    /// Returns the time since the clock was started; it never runs backwards.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        instant().saturating_duration_since(self.start)
    }

    /// Returns the milliseconds since the clock was started.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Returns the monotonic time of now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is where clocks are read")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Returns seconds since 1970 by the wall clock; 0 if it is set to before that.
#[must_use]
pub fn unix_s() -> u64 {
    since_1970().as_secs()
}

/// Returns milliseconds since 1970 by the wall clock; 0 if it is set to before that.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this file is where clocks are read")]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The beat of a ticking loop.
///
/// Ticks fall on multiples of the period since the start. A late loop goes on at the next boundary
/// and never fires the missed ticks in a burst: the world slows down instead.
#[derive(Clone, Debug)]
pub struct Pace {
    start: Instant,
    period: Duration,
    next: u32,
    skipped: u64,
}

impl Pace {
    /// Returns a beat of `hz` ticks per second (at least one) that starts now.
    #[must_use]
    pub fn new(hz: u32) -> Self {
        Self::starting_at(instant(), Duration::from_secs(1) / hz.max(1))
    }

    /// Returns how long to wait until the next tick, and moves on to it.
    #[must_use]
    pub fn until_next(&mut self) -> Duration {
        self.until_next_from(instant())
    }

    /// Sets the time from one tick to the next, from now on.
    pub fn set_period(&mut self, period: Duration) {
        *self = Self { skipped: self.skipped, ..Self::starting_at(instant(), period) };
    }

    /// Returns how many ticks were never run because the loop came late.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the time from one tick to the next.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    fn starting_at(start: Instant, period: Duration) -> Self {
        Self { start, period, next: 1, skipped: 0 }
    }

    fn until_next_from(&mut self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.start);
        let due = self.period * self.next;
        if due <= elapsed {
            let passed = elapsed.as_nanos() / self.period.as_nanos();
            let boundary = u32::try_from(passed).unwrap_or(u32::MAX - 1) + 1;
            // A tick that is due and not a whole period late is run at once, not skipped.
            let missed = boundary - self.next - 1;
            self.skipped += u64::from(missed);
            self.next = boundary;
            self.rebase();
            return Duration::ZERO;
        }
        self.next += 1;
        self.rebase();
        due - elapsed
    }

    /// Keeps the count small: a year of ticks at 60 Hz is 1.9 billion.
    fn rebase(&mut self) {
        /// 2^20 ticks of the slowest period (200 ms) are two days: no product comes near overflow.
        const TICKS_MAX: u32 = 1 << 20;
        if TICKS_MAX < self.next {
            self.start += self.period * TICKS_MAX;
            self.next -= TICKS_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(50);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_loop_in_time_waits_for_the_next_boundary() {
        let start = instant();
        let mut pace = Pace::starting_at(start, PERIOD);
        assert_eq!(pace.until_next_from(start + ms(3)), ms(47));
        assert_eq!(pace.until_next_from(start + ms(58)), ms(42));
        assert_eq!(pace.skipped(), 0);
    }

    #[test]
    fn a_late_loop_ticks_once_and_counts_what_it_skipped() {
        let start = instant();
        let mut pace = Pace::starting_at(start, PERIOD);
        assert_eq!(pace.until_next_from(start + ms(260)), ms(0));
        assert_eq!(pace.skipped(), 4);
        assert_eq!(pace.until_next_from(start + ms(261)), ms(39));
        assert_eq!(pace.skipped(), 4);
    }

    #[test]
    fn a_loop_that_is_barely_late_skips_nothing() {
        let start = instant();
        let mut pace = Pace::starting_at(start, PERIOD);
        assert_eq!(pace.until_next_from(start + ms(50)), ms(0));
        assert_eq!(pace.skipped(), 0);
        assert_eq!(pace.until_next_from(start + ms(51)), ms(49));
    }

    #[test]
    fn years_of_ticks_stay_on_the_beat() {
        let start = instant();
        let mut pace = Pace::starting_at(start, PERIOD);
        for tick in 0..3_000_000_u64 {
            assert_eq!(pace.until_next_from(start + ms(50 * tick)), PERIOD, "tick {tick}");
        }
        assert_eq!(pace.skipped(), 0);
    }
}
