//! The server's clock as seen from here: when ticks arrive at best, and which one to show.
//!
//! Owns the estimate of the fastest arrival, of how late frames come, and the display delay made
//! of both. It is never asked what the frames say.

use crate::units::Tick;

/// Frames over which the fastest arrival is looked for: 1.6 s at 20 Hz, so a path or a server
/// that became slower is followed within 3 s.
const WINDOW_FRAMES: u32 = 32;

/// The part of frames, in thousandths, that shall be there when their moment is shown.
const IN_TIME_PERMILLE: i64 = 950;

/// How far one frame moves the estimate of lateness, for a quantile of one half.
const LATENESS_STEP_US: i64 = 8_000;

/// Lateness beyond this is an outage, not jitter: nothing waits for it.
const LATENESS_US_MAX: i64 = 400_000;

/// Ticks a frame may lie after the one before: more is an outage.
const GAP_TICKS_MAX: u64 = 8;

/// The display delay changes by at most this part of the time that passes: nobody sees 5 %.
const SLEW_PART: i64 = 20;

/// A delay further off than this is set at once.
const SNAP_US: i64 = 500_000;

/// Microseconds of a second.
const SECOND_US: u64 = 1_000_000;

/// Estimates when ticks happen, from when their frames arrive.
#[derive(Clone, Debug)]
pub struct FrameClock {
    hz: u16,
    tick_us: u64,
    /// A tick and when it would have arrived at `floor_us` zero.
    anchor: Option<(Tick, u64)>,
    /// The least offset from the anchor's pace: the window before, and this one.
    floors_us: [i64; 2],
    counted: u32,
    newest: Tick,
    /// How late frames are against the fastest, at the wanted quantile, losses included.
    lateness_us: i64,
    /// How far the display is behind the fastest arrival.
    delay_us: i64,
    slewed_us: u64,
}

impl FrameClock {
    /// Returns the clock of a world of `hz` ticks a second running at `pace_permille`.
    #[must_use]
    pub fn new(hz: u16, pace_permille: u16, newest: Tick) -> Self {
        let hz = hz.max(1);
        let tick_us = tick_us(hz, pace_permille);
        Self {
            hz,
            tick_us,
            anchor: None,
            floors_us: [i64::MAX; 2],
            counted: 0,
            newest,
            lateness_us: signed(tick_us) / 2,
            delay_us: signed(tick_us) * 3 / 2,
            slewed_us: 0,
        }
    }

    /// Returns how long a tick takes at the present pace.
    #[must_use]
    pub const fn tick_us(&self) -> u64 {
        self.tick_us
    }

    /// Returns the newest tick a frame came of.
    #[must_use]
    pub const fn newest(&self) -> Tick {
        self.newest
    }

    /// Returns how late frames are against the fastest, at the quantile the display waits for.
    #[must_use]
    pub const fn lateness_us(&self) -> i64 {
        self.lateness_us
    }

    /// Returns how far the display is behind the fastest frame's arrival.
    #[must_use]
    pub const fn delay_us(&self) -> i64 {
        self.delay_us
    }

    /// Notes that the frame of `tick` arrived at `now_us`.
    pub fn frame(&mut self, tick: Tick, now_us: u64) {
        if self.anchor.is_none() {
            self.anchor = Some((tick, now_us));
            self.newest = tick;
            self.slewed_us = now_us;
        }
        let offset = self.offset_us(tick, now_us);
        let before = self.floor_us().unwrap_or(offset);
        self.count(offset);
        let floor = self.floor_us().unwrap_or(offset);
        // The shown moment stays where it is while the estimate of the fastest path moves.
        self.lateness_us = (self.lateness_us + before - floor).clamp(0, LATENESS_US_MAX);
        self.delay_us += before - floor;
        if tick <= self.newest {
            return;
        }
        let gap = (tick.since(self.newest) - 1).min(GAP_TICKS_MAX);
        self.newest = tick;
        let late = offset - floor + signed(gap * self.tick_us);
        let step =
            if self.lateness_us < late { IN_TIME_PERMILLE } else { IN_TIME_PERMILLE - 1_000 };
        let moved = self.lateness_us + LATENESS_STEP_US * step / 1_000;
        self.lateness_us = moved.clamp(0, LATENESS_US_MAX);
    }

    /// Follows a change of the world's pace from tick `from` on.
    pub fn pace(&mut self, permille: u16, from: Tick) {
        if let Some((tick, at_us)) = self.anchor {
            let ticks = signed(from.0) - signed(tick.0);
            let moved = signed(at_us) + ticks.saturating_mul(signed(self.tick_us));
            self.anchor = Some((from, u64::try_from(moved).unwrap_or(0)));
        }
        self.tick_us = tick_us(self.hz, permille);
    }

    /// Returns when the frame of `tick` arrives on the fastest path, nothing before the first.
    #[must_use]
    pub fn arrival_us(&self, tick: Tick) -> Option<i64> {
        let (anchor, at_us) = self.anchor?;
        let ticks = signed(tick.0) - signed(anchor.0);
        let floor = self.floor_us().unwrap_or(0);
        Some(signed(at_us) + floor + ticks.saturating_mul(signed(self.tick_us)))
    }

    /// Returns the moment to show at `now_us`, in ticks with their fraction: never earlier than
    /// what was returned before. Nothing before the first frame.
    pub fn display(&mut self, now_us: u64) -> Option<f64> {
        self.slew(now_us);
        self.shown(now_us)
    }

    /// Returns the moment that is shown at `now_us` with the present delay.
    #[must_use]
    pub fn shown(&self, now_us: u64) -> Option<f64> {
        let (anchor, _) = self.anchor?;
        let elapsed_us = signed(now_us) - self.arrival_us(anchor)? - self.delay_us;
        Some(anchor.0 as f64 + elapsed_us as f64 / self.tick_us as f64)
    }

    /// Moves the delay towards what is wanted, slowly enough that time never runs backwards.
    fn slew(&mut self, now_us: u64) {
        let wanted = signed(self.tick_us) + self.lateness_us;
        let most = signed(now_us.saturating_sub(self.slewed_us)) / SLEW_PART;
        self.slewed_us = self.slewed_us.max(now_us);
        let by = wanted - self.delay_us;
        self.delay_us += if SNAP_US < by.abs() { by } else { by.clamp(-most, most) };
    }

    fn offset_us(&self, tick: Tick, now_us: u64) -> i64 {
        let Some((anchor, at_us)) = self.anchor else { return 0 };
        let ticks = signed(tick.0) - signed(anchor.0);
        signed(now_us) - signed(at_us) - ticks.saturating_mul(signed(self.tick_us))
    }

    fn floor_us(&self) -> Option<i64> {
        let [before, present] = self.floors_us;
        let floor = before.min(present);
        (floor != i64::MAX).then_some(floor)
    }

    fn count(&mut self, offset: i64) {
        if WINDOW_FRAMES <= self.counted {
            self.floors_us = [self.floors_us[1], i64::MAX];
            self.counted = 0;
        }
        self.counted += 1;
        self.floors_us[1] = self.floors_us[1].min(offset);
    }
}

fn tick_us(hz: u16, pace_permille: u16) -> u64 {
    SECOND_US * 1_000 / (u64::from(hz.max(1)) * u64::from(pace_permille.max(1)))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_US: u64 = 50_000;

    fn after(lateness_us: impl Fn(u64) -> Option<u64>, ticks: u64) -> (FrameClock, u64) {
        let mut clock = FrameClock::new(20, 1_000, Tick(100));
        for tick in 100..100 + ticks {
            let Some(late) = lateness_us(tick) else { continue };
            clock.frame(Tick(tick), 7_000_000 + (tick - 100) * TICK_US + late);
            clock.display(7_000_000 + (tick - 100) * TICK_US + late);
        }
        (clock, 7_000_000 + (ticks - 1) * TICK_US)
    }

    #[test]
    fn an_even_path_is_shown_one_tick_late() {
        let (clock, now) = after(|_| Some(0), 400);
        let behind = 499.0 - clock.shown(now).expect("running");
        assert!((1.0..1.2).contains(&behind), "{behind}");
    }

    #[test]
    fn jitter_widens_the_delay_by_what_it_takes() {
        let (clock, now) = after(|tick| Some(tick * 7_919 % 40_000), 2_000);
        let behind = 2_099.0 - clock.shown(now).expect("running");
        assert!((1.6..2.1).contains(&behind), "{behind}");
    }

    #[test]
    fn rare_losses_cost_less_than_a_tick() {
        let (clock, now) = after(|tick| (tick % 40 != 0).then_some(0), 2_000);
        let behind = 2_099.0 - clock.shown(now).expect("running");
        assert!((1.0..2.0).contains(&behind), "{behind}");
    }

    #[test]
    fn a_slower_path_is_followed_without_going_back() {
        let mut clock = FrameClock::new(20, 1_000, Tick(0));
        let mut last = f64::NEG_INFINITY;
        for tick in 0..400_u64 {
            let late = if tick < 200 { 0 } else { 120_000 };
            clock.frame(Tick(tick), 1_000_000 + tick * TICK_US + late);
            for part in 0..3 {
                let now = 1_000_000 + tick * TICK_US + late + part * 10_000;
                let shown = clock.display(now).expect("running");
                assert!(last <= shown || late == 120_000 && tick == 200, "{tick}: {last} {shown}");
                last = shown;
            }
        }
        let behind = 399.0 - clock.shown(1_000_000 + 399 * TICK_US + 120_000).expect("running");
        assert!((0.9..1.5).contains(&behind), "{behind}");
    }

    #[test]
    fn half_the_pace_doubles_the_tick() {
        let (mut clock, _) = after(|_| Some(0), 40);
        let before = clock.arrival_us(Tick(139));
        clock.pace(500, Tick(139));
        assert_eq!(clock.arrival_us(Tick(139)), before);
        assert_eq!(clock.tick_us(), 100_000);
        assert_eq!(clock.arrival_us(Tick(141)), before.map(|at| at + 200_000));
    }
}
