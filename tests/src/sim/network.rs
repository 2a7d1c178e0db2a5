//! The way between one client and the server: it delays, loses, doubles and cuts.
//!
//! Datagrams come in any order, once, twice or never. The control stream keeps its order: what it
//! loses comes later, and everything behind it waits. What is carried is not looked at.

use crate::dice::Dice;

/// How long a lost piece of the control stream takes to be sent again, beside the way itself.
const AGAIN_US: u64 = 60_000;

/// Losses of one piece in a row that are made up for: more is an outage, and outages are planned.
const LOSSES_MAX: u32 = 6;

/// How good a way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// One way at best.
    pub delay_us: u64,
    /// More than that, at most.
    pub jitter_us: u64,
    /// Losses in a thousand.
    pub loss_permille: u64,
    /// Datagrams in a thousand that come twice.
    pub double_permille: u64,
}

impl Quality {
    /// Returns a way of a third of all clients that loses nothing and always takes as long.
    #[must_use]
    pub const fn even(delay_us: u64) -> Self {
        Self { delay_us, jitter_us: 0, loss_permille: 0, double_permille: 0 }
    }

    /// Draws a way: one in three is even, the others are as bad as a crowded cafe.
    pub const fn draw(chance: &mut Dice) -> Self {
        let delay_us = chance.between(2_000, 90_000);
        if chance.one_in(3) {
            return Self::even(delay_us);
        }
        Self {
            delay_us,
            jitter_us: chance.between(1_000, 60_000),
            loss_permille: chance.below(80),
            double_permille: chance.below(30),
        }
    }

    /// Returns whether nothing is lost and everything takes as long.
    #[must_use]
    pub const fn is_even(&self) -> bool {
        self.jitter_us == 0 && self.loss_permille == 0
    }

    /// Returns the longest that the control stream takes, in microseconds, outages aside.
    #[must_use]
    pub const fn control_us_max(&self) -> u64 {
        let once = self.delay_us + self.jitter_us;
        if self.loss_permille == 0 { once } else { once + 3 * (2 * self.delay_us + AGAIN_US) }
    }
}

/// One direction of a way.
#[derive(Clone, Debug)]
pub struct Way {
    /// How good it is.
    pub quality: Quality,
    /// Until when nothing gets through.
    pub cut_until_us: u64,
    last_control_us: u64,
}

impl Way {
    /// Returns an unused way.
    #[must_use]
    pub const fn new(quality: Quality) -> Self {
        Self { quality, cut_until_us: 0, last_control_us: 0 }
    }

    /// Returns when a datagram arrives: never, once or twice.
    pub fn datagram(&mut self, now_us: u64, chance: &mut Dice) -> Vec<u64> {
        if now_us < self.cut_until_us || chance.below(1_000) < self.quality.loss_permille {
            return Vec::new();
        }
        let times = if chance.below(1_000) < self.quality.double_permille { 2 } else { 1 };
        (0..times).map(|_| now_us + self.once(chance)).collect()
    }

    /// Returns when the next piece of the control stream arrives.
    pub fn control(&mut self, now_us: u64, chance: &mut Dice) -> u64 {
        let mut at_us = now_us.max(self.cut_until_us) + self.once(chance);
        for _ in 0..LOSSES_MAX {
            if self.quality.loss_permille <= chance.below(1_000) {
                break;
            }
            at_us += 2 * self.quality.delay_us + AGAIN_US;
        }
        self.last_control_us = self.last_control_us.max(at_us);
        self.last_control_us
    }

    const fn once(&self, chance: &mut Dice) -> u64 {
        self.quality.delay_us + chance.below(self.quality.jitter_us + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_stream_keeps_its_order_over_losses_and_cuts() {
        let mut chance = Dice(1);
        let quality =
            Quality { delay_us: 20_000, jitter_us: 50_000, loss_permille: 300, double_permille: 0 };
        let mut way = Way::new(quality);
        way.cut_until_us = 500_000;
        let arrivals: Vec<u64> =
            (0..200).map(|piece| way.control(piece * 5_000, &mut chance)).collect();
        assert!(arrivals.is_sorted());
        assert!(500_000 < arrivals[0]);
    }

    #[test]
    fn an_even_way_loses_and_delays_nothing() {
        let mut way = Way::new(Quality::even(30_000));
        let mut chance = Dice(1);
        assert!((0..100).all(|at| way.datagram(at, &mut chance) == [at + 30_000]));
    }
}
