//! How fast world time runs: at full pace, or slower for as long as the machine is too slow.
//!
//! One factor for the whole world. It falls as soon as ticks take up their time, rises again in
//! small steps, and is announced before it holds, so that every client changes with the server.

use std::time::Duration;

use protocol::units::Tick;

/// World time at full pace, in thousandths.
pub const FULL: u16 = 1_000;

/// The slowest pace: a tenth; below it nobody plays.
const SLOWEST: u16 = 100;

/// Share of its time that a tick may take before the world slows down, in thousandths.
const BUSY: u32 = 900;

/// Share that ticks aim for at a slower pace: room for what comes next.
const AIM: u32 = 750;

/// Share below which the world may run faster again.
const IDLE: u32 = 600;

/// How much faster at a time.
const RISE: u16 = 50;

/// Ticks that are looked at before anything changes: one second at 20 Hz.
const WINDOW: u32 = 20;

/// Ticks between the announcement of a pace and its beginning: 500 ms at 20 Hz.
const NOTICE_TICKS: u64 = 10;

/// A pace that is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// World time in thousandths of full pace.
    pub permille: u16,
    /// The first tick at that pace.
    pub from: Tick,
}

/// Decides about the pace of one world.
#[derive(Debug)]
pub struct Dilation {
    period: Duration,
    permille: u16,
    coming: Option<Change>,
    took: Duration,
    seen: u32,
}

impl Dilation {
    /// Returns full pace in a world whose ticks are `period` apart then.
    #[must_use]
    pub const fn new(period: Duration) -> Self {
        Self { period, permille: FULL, coming: None, took: Duration::ZERO, seen: 0 }
    }

    /// Returns the pace in force, in thousandths.
    #[must_use]
    pub const fn permille(&self) -> u16 {
        self.permille
    }

    /// Returns the change that is announced and not in force yet.
    #[must_use]
    pub const fn coming(&self) -> Option<Change> {
        self.coming
    }

    /// Returns the time from one tick to the next at the pace in force.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period * u32::from(FULL) / u32::from(self.permille)
    }

    /// Begins `tick`; returns whether another pace holds from it on.
    pub fn begin(&mut self, tick: Tick) -> bool {
        let Some(coming) = self.coming.filter(|coming| coming.from <= tick) else { return false };
        self.coming = None;
        self.permille = coming.permille;
        true
    }

    /// Takes note that `tick` took so long; returns a change to announce.
    pub fn note(&mut self, tick: Tick, took: Duration) -> Option<Change> {
        self.took += took;
        self.seen += 1;
        if self.seen < WINDOW {
            return None;
        }
        let mean = self.took / self.seen;
        (self.took, self.seen) = (Duration::ZERO, 0);
        if self.coming.is_some() {
            return None;
        }
        let permille = self.wanted(mean);
        if permille == self.permille {
            return None;
        }
        let change = Change { permille, from: tick.after(NOTICE_TICKS) };
        self.coming = Some(change);
        Some(change)
    }

    fn wanted(&self, mean: Duration) -> u16 {
        let share = |period: Duration| {
            let share = mean.as_nanos() * 1_000 / period.as_nanos().max(1);
            u32::try_from(share).unwrap_or(u32::MAX)
        };
        if share(self.period()) > BUSY {
            let fitting = u32::from(FULL) * AIM / share(self.period).max(1);
            return u16::try_from(fitting).unwrap_or(FULL).clamp(SLOWEST, self.permille);
        }
        let faster = (self.permille + RISE).min(FULL);
        let faster_period = self.period * u32::from(FULL) / u32::from(faster);
        if share(faster_period) < IDLE { faster } else { self.permille }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(50);

    /// Runs ticks that take `ms` each; returns the pace in force after each window.
    fn run(dilation: &mut Dilation, tick: &mut u64, ms: u64, windows: usize) -> Vec<u16> {
        let window = |_| {
            for _ in 0..WINDOW {
                *tick += 1;
                dilation.begin(Tick(*tick));
                dilation.note(Tick(*tick), Duration::from_millis(ms));
            }
            dilation.permille()
        };
        (0..windows).map(window).collect()
    }

    #[test]
    fn a_world_that_keeps_up_runs_at_full_pace() {
        let mut dilation = Dilation::new(PERIOD);
        assert_eq!(run(&mut dilation, &mut 0, 40, 5), [FULL; 5]);
    }

    #[test]
    fn an_overloaded_world_slows_down_and_recovers() {
        let mut dilation = Dilation::new(PERIOD);
        let mut tick = 0;
        let slowed = run(&mut dilation, &mut tick, 100, 4);
        assert_eq!(slowed.last(), Some(&375), "{slowed:?}");
        let period = dilation.period();
        assert!(period > Duration::from_millis(120), "ticks of 100 ms fit into {period:?}");
        let recovered = run(&mut dilation, &mut tick, 5, 40);
        assert!(recovered.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(recovered.last(), Some(&FULL));
    }

    #[test]
    fn a_change_is_announced_before_it_holds() {
        let mut dilation = Dilation::new(PERIOD);
        let change = (1..=20).find_map(|n| dilation.note(Tick(n), Duration::from_millis(80)));
        let change = change.expect("80 ms are too long");
        assert_eq!(change.from, Tick(30));
        assert!(!dilation.begin(Tick(29)));
        assert_eq!(dilation.permille(), FULL);
        assert!(dilation.begin(Tick(30)));
        assert_eq!(dilation.permille(), change.permille);
    }

    #[test]
    fn the_pace_never_stops() {
        let mut dilation = Dilation::new(PERIOD);
        let slowed = run(&mut dilation, &mut 0, 60_000, 6);
        assert_eq!(slowed.last(), Some(&SLOWEST));
    }
}
