//! A server that is killed again and again under a crowd, in numbers: how soon it serves again, how
//! soon the crowd is back, and what of the acknowledged is missing.
//!
//! Times come in as arguments; who kills and who comes back is the caller's.

use serde::Serialize;
use serde_json::{Value, json};

use super::ledger::Verdict;
use super::report::Report;
use super::spread::Spread;
use crate::dice::Dice;

/// One kill and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fall {
    /// Seconds since the measurement began.
    pub at_s: f64,
    /// Seconds from the kill until the server said that it serves again.
    pub serving_s: f64,
    /// Clients that were inside when it was killed.
    pub clients: u32,
    /// Clients that came back to the stay they were in.
    pub resumed: u32,
    /// Clients that came back and had to begin anew.
    pub anew: u32,
    /// Seconds from its serving until half of those inside were back; nothing if they never were.
    pub half_back_s: Option<f64>,
    /// The same for 95 of 100.
    pub back_95_s: Option<f64>,
    /// The same for everybody.
    pub all_back_s: Option<f64>,
    /// Clients whose things and lendings were held against what they had been told.
    pub looked_at: u64,
    /// Acts acknowledged and not there.
    pub acts_lost: u64,
    /// Acts there more than once.
    pub acts_doubled: u64,
}

/// Every kill of a run.
#[derive(Clone, Debug, Default)]
pub struct Falls {
    falls: Vec<Fall>,
    /// Seconds until somebody was back, of all clients and kills.
    back_s: Spread,
    acknowledged: u64,
}

impl Fall {
    /// Notes when each of those who came back did, on the same clock as `serving_us`, in any order.
    pub fn came_back(&mut self, serving_us: u64, mut back_us: Vec<u64>) {
        back_us.sort_unstable();
        let clients = self.clients as usize;
        let after_s = |permille: usize| {
            let rank = (clients * permille).div_ceil(1_000).max(1);
            let at_us = back_us.get(rank - 1)?;
            Some(at_us.saturating_sub(serving_us) as f64 / 1e6)
        };
        self.half_back_s = after_s(500);
        self.back_95_s = after_s(950);
        self.all_back_s = after_s(1_000);
    }

    /// Notes what a look at everybody found.
    pub const fn found(&mut self, verdict: Verdict) {
        self.looked_at = verdict.looked_at;
        self.acts_lost = verdict.lost;
        self.acts_doubled = verdict.doubled;
    }
}

impl Falls {
    /// Adds a kill; `back_us` says when each of those who came back did.
    pub fn add(&mut self, fall: Fall, serving_us: u64, back_us: &[u64]) {
        for &at_us in back_us {
            self.back_s.add(at_us.saturating_sub(serving_us) as f64 / 1e6);
        }
        self.falls.push(fall);
    }

    /// Notes how many acts were acknowledged in all.
    pub const fn acknowledged(&mut self, acts: u64) {
        self.acknowledged = acts;
    }

    /// Returns how many kills there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.falls.len()
    }

    /// Writes everything into a report, and why the run does not count if somebody was not looked at.
    pub fn fill(&self, report: &mut Report) {
        let falls = &self.falls;
        let sum = |of: fn(&Fall) -> u64| falls.iter().map(of).sum::<u64>() as f64;
        // One who never came back makes it unknown, not good.
        let greatest = |of: fn(&Fall) -> Option<f64>| {
            let all: Option<Vec<f64>> = falls.iter().map(of).collect();
            all.and_then(|all| all.into_iter().reduce(f64::max))
        };
        report.set("kills", Some(falls.len() as f64));
        report.set("serving_again_s_max", greatest(|fall| Some(fall.serving_s)));
        report.set("back_95_s_max", greatest(|fall| fall.back_95_s));
        report.set("acts_lost", Some(sum(|fall| fall.acts_lost)));
        report.set("writes_lost", Some(sum(|fall| fall.acts_lost)));
        report.set("acts_doubled", Some(sum(|fall| fall.acts_doubled)));
        let more = &mut report.more;
        more.insert("acts_acknowledged".into(), json!(self.acknowledged));
        more.insert("back_s_p50".into(), json!(self.back_s.percentile(50)));
        more.insert("back_s_p95".into(), json!(self.back_s.percentile(95)));
        more.insert("back_s_max".into(), json!(self.back_s.max()));
        more.insert("resumed".into(), json!(sum(|fall| u64::from(fall.resumed))));
        more.insert("begun_anew".into(), json!(sum(|fall| u64::from(fall.anew))));
        more.insert("kills_each".into(), falls.iter().map(|fall| json!(fall)).collect::<Value>());
        if falls.is_empty() {
            report.invalid.push("the server was never killed".to_owned());
        }
        let missing = sum(|fall| u64::from(fall.clients).saturating_sub(fall.looked_at));
        if missing > 0.0 {
            report.invalid.push(format!("{missing} clients were not looked at after a kill"));
        }
        if self.acknowledged == 0 {
            report.invalid.push("nothing was acknowledged".to_owned());
        }
    }
}

/// Returns at which second of its turn of `every_s` seconds each kill comes: a random moment of the
/// turn's first quarter.
pub fn moments(every_s: f64, seed: u64) -> impl Iterator<Item = f64> {
    let mut dice = Dice::of_part(seed, 0xFA11);
    (0_u32..).map(move |turn| {
        let part = dice.below(1 << 20) as f64 / f64::from(1 << 20);
        (f64::from(turn) + part / 4.0) * every_s
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_back_are_counted_of_those_inside() {
        let mut fall = Fall { clients: 20, ..Fall::default() };
        fall.came_back(1_000_000, (1..=19).rev().map(|at| at * 1_000_000).collect());
        assert_eq!((fall.half_back_s, fall.back_95_s), (Some(9.0), Some(18.0)));
        assert_eq!(fall.all_back_s, None, "one stayed away");
    }

    #[test]
    fn a_run_counts_only_if_everybody_was_looked_at() {
        let check = |falls: &Falls, expected: usize| {
            let mut report = Report::default();
            falls.fill(&mut report);
            assert_eq!(report.invalid.len(), expected, "{:?}", report.invalid);
            report
        };
        let mut falls = Falls::default();
        check(&falls, 2);
        falls.acknowledged(9);
        let mut fall = Fall { clients: 2, serving_s: 0.5, ..Fall::default() };
        fall.came_back(0, vec![1_000_000, 2_000_000]);
        fall.found(Verdict { looked_at: 2, lost: 1, doubled: 0 });
        falls.add(fall.clone(), 0, &[1_000_000, 2_000_000]);
        let report = check(&falls, 0);
        let number = |key| report.number(key);
        assert_eq!((number("kills"), number("acts_lost")), (Some(1.0), Some(1.0)));
        assert_eq!((number("back_95_s_max"), number("acts_doubled")), (Some(2.0), Some(0.0)));
        fall.back_95_s = None;
        fall.looked_at = 1;
        falls.add(fall, 0, &[]);
        assert_eq!(check(&falls, 1).number("back_95_s_max"), None);
    }

    #[test]
    fn kills_come_in_turn_at_moments_that_follow_from_the_seed() {
        let take = |seed| moments(12.0, seed).take(50).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        for (turn, at_s) in take(3).into_iter().enumerate() {
            assert!((0.0..=3.0).contains(&(at_s - turn as f64 * 12.0)), "{turn}: {at_s}");
        }
    }
}
