//! When the next input goes out: once per tick, a moment after a frame, so that acknowledgements
//! ride along, and early enough that one or two wait at the server.
//!
//! Owns the moments; what an input says and how it is packed is decided elsewhere.

use super::clock::FrameClock;

/// How long after the fastest frame's arrival an input goes out: the peers' acknowledgements are
/// due within 25 ms and leave with it.
pub const INPUT_PHASE_US: u64 = 24_000;

/// The part of a tick by which the rhythm is pulled each tick.
const PULL_PART: u64 = 16;

/// Acknowledged inputs over which the least wait at the server is looked for: one second.
const WINDOW_INPUTS: u32 = 20;

/// Ticks that a sender can be late before it leaves inputs out.
const LATE_TICKS_MAX: u64 = 3;

/// Ticks of excess at which inputs are left out instead of coming slower.
const EXCESS_TICKS_MAX: i64 = 3;

/// The rhythm of inputs.
#[derive(Clone, Debug, Default)]
pub struct Pacing {
    due_us: Option<u64>,
    /// Time by which inputs shall come later than their rhythm says.
    owed_us: u64,
    least_wait_us: Option<i64>,
    counted: u32,
}

impl Pacing {
    /// Returns when the next input is due, nothing before the first frame.
    #[must_use]
    pub const fn due_us(&self) -> Option<u64> {
        self.due_us
    }

    /// Notes the first frame.
    pub const fn start(&mut self, now_us: u64) {
        if self.due_us.is_none() {
            self.due_us = Some(now_us + INPUT_PHASE_US);
        }
    }

    /// Returns whether an input is due at `now_us`, and then plans the next one.
    pub fn is_due(&mut self, now_us: u64, clock: &FrameClock) -> bool {
        let Some(due_us) = self.due_us.filter(|&due_us| due_us <= now_us) else { return false };
        let tick_us = clock.tick_us();
        // A sender that was stopped for a while does not send in a burst what is too late.
        let late = (now_us - due_us) / tick_us.max(1);
        let due_us = if LATE_TICKS_MAX < late { due_us + late * tick_us } else { due_us };
        let pull = tick_us / PULL_PART;
        let next = if self.owed_us == 0 {
            let off = phase_error_us(due_us, clock).clamp(-signed(pull), signed(pull));
            (due_us + tick_us).saturating_add_signed(-off)
        } else {
            let paid = self.owed_us.min(pull);
            self.owed_us -= paid;
            due_us + tick_us + paid
        };
        self.due_us = Some(next);
        true
    }

    /// Notes how long an input took from leaving until its effect came back on the fastest path,
    /// given the network's round trip. What lies between is its wait at the server.
    pub fn acknowledged(&mut self, loop_us: i64, round_trip_us: u64, clock: &FrameClock) {
        let wait = loop_us - signed(round_trip_us);
        self.least_wait_us = Some(self.least_wait_us.map_or(wait, |least| least.min(wait)));
        self.counted += 1;
        if self.counted < WINDOW_INPUTS {
            return;
        }
        self.counted = 0;
        let Some(wait) = self.least_wait_us.take() else { return };
        let tick_us = signed(clock.tick_us());
        // Jitter on the way there is taken to be as on the way back, and one tick in hand lets
        // the next datagram repair a lost one.
        let excess = wait - clock.lateness_us() - tick_us;
        if EXCESS_TICKS_MAX * tick_us < excess {
            let whole = u64::try_from(excess / tick_us).unwrap_or(0);
            self.due_us = self.due_us.map(|due_us| due_us + whole * clock.tick_us());
        } else if tick_us < excess {
            self.owed_us = clock.tick_us();
        }
    }
}

/// How far `due_us` lies after the wanted phase: within half a tick of it.
fn phase_error_us(due_us: u64, clock: &FrameClock) -> i64 {
    let tick_us = signed(clock.tick_us());
    let Some(arrival_us) = clock.arrival_us(clock.newest()) else { return 0 };
    let off = (signed(due_us) - arrival_us - signed(INPUT_PHASE_US)).rem_euclid(tick_us.max(1));
    if tick_us < 2 * off { off - tick_us } else { off }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Tick;

    const TICK_US: u64 = 50_000;

    fn clock(frames: u64) -> FrameClock {
        let mut clock = FrameClock::new(20, 1_000, Tick(0));
        (0..frames).for_each(|tick| clock.frame(Tick(tick), 5_000_000 + tick * TICK_US));
        clock
    }

    /// When inputs leave within so many milliseconds.
    fn leaving(pacing: &mut Pacing, clock: &FrameClock, from_us: u64, ms: u64) -> Vec<u64> {
        let times = (0..ms).map(|ms| from_us + ms * 1_000);
        times.filter(|&now_us| pacing.is_due(now_us, clock)).collect()
    }

    #[test]
    fn inputs_leave_once_a_tick_at_their_phase() {
        let (clock, mut pacing) = (clock(1), Pacing::default());
        // The first comes at a bad moment.
        pacing.start(5_000_000 + 21_000);
        let sent = leaving(&mut pacing, &clock, 5_000_000, 2_000);
        assert!((39..=41).contains(&sent.len()), "{}", sent.len());
        let phase = (sent.last().expect("sent") - 5_000_000) % TICK_US;
        assert!((24_000..=25_000).contains(&phase), "{phase}");
    }

    #[test]
    fn what_waits_too_long_makes_room_slowly() {
        let (clock, mut pacing) = (clock(1), Pacing::default());
        pacing.start(5_000_000);
        let wait = clock.lateness_us() + 150_000;
        (0..WINDOW_INPUTS).for_each(|_| pacing.acknowledged(80_000 + wait, 80_000, &clock));
        let sent = leaving(&mut pacing, &clock, 5_000_000, 2_000);
        assert!((38..=39).contains(&sent.len()), "one less: {}", sent.len());
        let widest = sent.windows(2).map(|pair| pair[1] - pair[0]).max().expect("some");
        assert!(widest <= 54_000, "{widest}");
    }

    #[test]
    fn a_stopped_sender_does_not_send_a_burst() {
        let (clock, mut pacing) = (clock(1), Pacing::default());
        pacing.start(5_000_000);
        let sent = leaving(&mut pacing, &clock, 9_000_000, 40);
        assert!(sent.len() <= 2, "{}", sent.len());
    }
}
