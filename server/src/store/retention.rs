//! Which backups to make and when, and which to keep: a policy as plain data and plain functions.
//!
//! Times are seconds since 1970. The newest backup of each of the last hours, days and weeks that
//! have one is kept; whoever calls removes the rest.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// How often to back up and how much to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Seconds from one backup to the next; 0 makes none.
    pub every_s: u64,
    /// Hours with a backup to keep.
    pub hourly: usize,
    /// Days with a backup to keep.
    pub daily: usize,
    /// Weeks with a backup to keep.
    pub weekly: usize,
}

impl Default for Schedule {
    /// An hourly backup; a day of hours, a week of days, a month of weeks.
    fn default() -> Self {
        Self { every_s: 3_600, hourly: 24, daily: 7, weekly: 4 }
    }
}

const HOUR_S: u64 = 3_600;
const DAY_S: u64 = 24 * HOUR_S;
const WEEK_S: u64 = 7 * DAY_S;

/// Seconds after which a backup that failed is tried again, the first time.
const RETRY_S_MIN: u64 = 60;

/// Seconds between two tries at most: a disk that was made room on has its backup within the hour.
const RETRY_S_MAX: u64 = HOUR_S;

/// When a backup that failed is tried again: each time after twice as long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    wait_s: u64,
    failed_s: u64,
}

impl Backoff {
    /// Returns whether to try at `now`.
    #[must_use]
    pub const fn may_try(self, now: u64) -> bool {
        // Before the failure: the clock was set back.
        now < self.failed_s || self.failed_s.saturating_add(self.wait_s) <= now
    }

    /// Notes a failure at `now`; returns the seconds until the next try.
    pub fn fail(&mut self, now: u64) -> u64 {
        let wait_s = self.wait_s.saturating_mul(2).clamp(RETRY_S_MIN, RETRY_S_MAX);
        *self = Self { wait_s, failed_s: now };
        wait_s
    }

    /// Notes that nothing is wrong any more.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }
}

impl Schedule {
    /// Returns whether a backup is due at `now` if these were made.
    #[must_use]
    pub fn is_due(&self, made: &[u64], now: u64) -> bool {
        let newest = made.iter().max();
        // A backup from the future is a clock that was set back: a new one does no harm.
        self.every_s != 0
            && newest.is_none_or(|&newest| now < newest || self.every_s <= now - newest)
    }

    /// Returns which of these backups are no longer kept, oldest first. The newest always stays.
    #[must_use]
    pub fn expired(&self, made: &[u64]) -> Vec<u64> {
        let all: BTreeSet<u64> = made.iter().copied().collect();
        let mut kept: BTreeSet<u64> = all.last().into_iter().copied().collect();
        for (width, count) in [(HOUR_S, self.hourly), (DAY_S, self.daily), (WEEK_S, self.weekly)] {
            kept.extend(newest_of_each(&all, width, count));
        }
        all.difference(&kept).copied().collect()
    }
}

fn newest_of_each(all: &BTreeSet<u64>, width: u64, count: usize) -> Vec<u64> {
    let mut newest: Vec<u64> = Vec::new();
    for &time in all.iter().rev() {
        if newest.last().is_none_or(|&later| later / width != time / width) {
            newest.push(time);
        }
    }
    newest.truncate(count);
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Schedule = Schedule { every_s: HOUR_S, hourly: 2, daily: 2, weekly: 1 };

    #[test]
    fn a_backup_is_due_once_the_time_is_over() {
        for (made, now, due) in [
            (&[][..], 5, true),
            (&[100], 100 + HOUR_S - 1, false),
            (&[100], 100 + HOUR_S, true),
            (&[100, 5_000], 100 + HOUR_S, true),
            (&[100, 3_000], 100 + HOUR_S, false),
        ] {
            assert_eq!(KEEP.is_due(made, now), due, "{made:?} at {now}");
        }
        assert!(!Schedule { every_s: 0, ..KEEP }.is_due(&[], 5));
    }

    #[test]
    fn what_fails_is_tried_again_after_twice_as_long_up_to_an_hour() {
        let mut backoff = Backoff::default();
        assert!(backoff.may_try(0));
        let waits = [60, 120, 240, 480, 960, 1_920, 3_600, 3_600];
        assert_eq!(waits.map(|_| backoff.fail(1_000)), waits);
        assert!(!backoff.may_try(1_000) && !backoff.may_try(4_599) && backoff.may_try(4_600));
        assert!(backoff.may_try(999), "the clock was set back");
        backoff.succeed();
        assert!(backoff.may_try(1_000));
        assert_eq!(backoff.fail(1_000), 60);
    }

    #[test]
    fn the_newest_of_each_hour_and_day_stay() {
        let (day, hour) = (DAY_S * 700, HOUR_S);
        let check = |made: &[u64], wanted: &[u64]| assert_eq!(KEEP.expired(made), wanted);
        check(&[], &[]);
        check(&[day], &[]);
        // Two in one hour: the older goes.
        check(&[day, day + 60], &[day]);
        // Three hours of one day: two stay.
        check(&[day, day + hour, day + 2 * hour], &[day]);
        // Yesterday's newest stays beside today's hours, the day before goes.
        check(
            &[day - 2 * DAY_S, day - DAY_S, day, day + hour, day + 2 * hour],
            &[day - 2 * DAY_S, day],
        );
    }

    #[test]
    fn keeping_nothing_still_keeps_the_newest() {
        let none = Schedule { every_s: 1, hourly: 0, daily: 0, weekly: 0 };
        assert_eq!(none.expired(&[3, 1, 2]), [1, 2]);
    }
}
