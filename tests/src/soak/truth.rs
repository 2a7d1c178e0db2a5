//! Where every driven body was at every tick, as its own client was told in full precision, and
//! what the other clients were told of it, held against that.
//!
//! A claim is judged some ticks later, when the own client's frame has surely come or is lost.

use std::collections::{BTreeMap, VecDeque};

use protocol::ids::EntityId;
use protocol::units::{Position, Tick};

use super::picture::Own;
use super::spread::Spread;

/// Ticks remembered: the longest window judged and the wait before it is.
const TICKS_KEPT: u64 = 128;

/// Ticks after which a claim is judged: one second at 20 Hz.
const JUDGED_TICKS: u64 = 20;

/// Claims that may wait: a thousand checking clients, 30 entries each for a second.
const CLAIMS_MAX: usize = 600_000;

/// Ticks of one window in which updates are counted: two seconds at 20 Hz.
pub const WINDOW_TICKS: u64 = 40;

/// Ticks after which it is not known any more where somebody is.
const NEAR_TICKS: u64 = 2;

/// Ticks of movement in a window from which on its updates tell a rate.
const MOVED_TICKS_MIN: u64 = 20;

/// Something that a client was told or shows about a body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Claim {
    /// It was at this place at the tick; told at this time.
    Told { at: Position, at_us: u64 },
    /// It is shown here at this moment, in ticks and centimetres.
    Shown { moment: f64, at_cm: [f64; 3] },
    /// The newest that is known of it, at the claim's tick, is of this tick.
    Known { of: Tick },
    /// It was in view during a window that ended with the tick, and updated so often.
    Updated { times: u32, is_near: bool },
}

/// What the judging found.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    /// States held against the truth.
    pub checks: u64,
    /// States that differ from it by a centimetre or more.
    pub mismatches: u64,
    /// Greatest difference in centimetres.
    pub error_cm: Spread,
    /// States whose truth never came, by loss of the own client's frame.
    pub unknown: u64,
    /// Milliseconds from sending an input until somebody else has the state it led to.
    pub input_to_seen_ms: Spread,
    /// Metres between where a body is shown and where it was at the shown moment.
    pub position_error_m: Spread,
    /// Milliseconds since the newest known state was still true.
    pub known_age_ms: Spread,
    /// Updates a second of a moving body that was among the 16 nearest all the time.
    pub near_hz: Spread,
    /// The same of any in view.
    pub in_view_hz: Spread,
}

/// The truth about all bodies.
#[derive(Debug)]
pub struct Truth {
    hz: f64,
    bodies: BTreeMap<EntityId, usize>,
    /// By client, tick modulo [`TICKS_KEPT`].
    owns: Vec<Vec<Option<(Tick, Own)>>>,
    /// By client, which body it drives, and where it was when.
    newests: Vec<Option<(EntityId, Tick, Position)>>,
    claims: VecDeque<(Tick, usize, Claim)>,
    newest: Tick,
    verdicts: Verdicts,
}

impl Truth {
    /// Returns the truth about `clients`, of whom nothing is known, at `hz` ticks a second.
    #[must_use]
    pub fn new(clients: usize, hz: u16) -> Self {
        Self {
            hz: f64::from(hz.max(1)),
            bodies: BTreeMap::new(),
            owns: vec![vec![None; TICKS_KEPT as usize]; clients],
            newests: vec![None; clients],
            claims: VecDeque::new(),
            newest: Tick(0),
            verdicts: Verdicts::default(),
        }
    }

    /// Notes which body a client drives.
    pub fn drives(&mut self, client: usize, body: EntityId) {
        self.bodies.insert(body, client);
        if let Some(newest) = self.newests.get_mut(client) {
            *newest = Some((body, Tick(0), Position::default()));
        }
    }

    /// Returns who drives a body, if one of the clients does.
    #[must_use]
    pub fn driver(&self, body: EntityId) -> Option<usize> {
        self.bodies.get(&body).copied()
    }

    /// Notes where a client was told that its own body is.
    pub fn own(&mut self, client: usize, tick: Tick, own: Own) {
        self.newest = self.newest.max(tick);
        if let Some(ring) = self.owns.get_mut(client) {
            ring[slot(tick)] = Some((tick, own));
        }
        if let Some(Some((_, newest, at))) = self.newests.get_mut(client)
            && *newest < tick
        {
            (*newest, *at) = (tick, own.at);
        }
    }

    /// Returns the bodies within `reach_cm` of a client's own, the nearest so many, by the newest
    /// that is known of each: that is of `tick`, at which the client is, or of one just before.
    #[must_use]
    pub fn near(&self, client: usize, tick: Tick, reach_cm: u32, count: usize) -> Vec<EntityId> {
        let Some(&Some((own, _, here))) = self.newests.get(client) else { return Vec::new() };
        let reach = u64::from(reach_cm).pow(2);
        let mut near: Vec<(u64, EntityId)> = Vec::new();
        for &(body, of, at) in self.newests.iter().flatten() {
            let squared = here.ground_distance_squared(at);
            if squared <= reach && body != own && tick.since(of) <= NEAR_TICKS {
                near.push((squared, body));
            }
        }
        near.sort_unstable();
        near.into_iter().take(count).map(|(_, body)| body).collect()
    }

    /// Notes that a client was told where another's body was.
    pub fn told(&mut self, driver: usize, tick: Tick, at: Position, at_us: u64) {
        self.claim(tick, driver, Claim::Told { at, at_us });
    }

    /// Notes where another's body is shown at a moment.
    pub fn shown(&mut self, driver: usize, moment: f64, at_cm: [f64; 3]) {
        self.claim(self.newest, driver, Claim::Shown { moment, at_cm });
    }

    /// Notes of which tick the newest known state of another's body is.
    pub fn known(&mut self, driver: usize, now: Tick, of: Tick) {
        self.claim(now, driver, Claim::Known { of });
    }

    /// Notes how often another's body was updated in the window that ends with `tick`, and
    /// whether it was near all the time.
    pub fn updated(&mut self, driver: usize, tick: Tick, times: u32, is_near: bool) {
        self.claim(tick, driver, Claim::Updated { times, is_near });
    }

    /// Returns what was found so far.
    #[must_use]
    pub const fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Forgets the verdicts, when the measurement begins.
    pub fn begin(&mut self) {
        self.verdicts = Verdicts::default();
        self.claims.clear();
    }

    /// Judges every claim that is old enough.
    pub fn judge(&mut self) {
        while let Some(&(tick, driver, claim)) = self.claims.front() {
            if self.newest.since(tick) < JUDGED_TICKS {
                return;
            }
            self.claims.pop_front();
            match claim {
                Claim::Told { at, at_us } => self.judge_told(driver, tick, at, at_us),
                Claim::Shown { moment, at_cm } => self.judge_shown(driver, moment, at_cm),
                Claim::Known { of } => self.judge_known(driver, tick, of),
                Claim::Updated { times, is_near } => {
                    self.judge_updated(driver, tick, times, is_near);
                }
            }
        }
    }

    fn claim(&mut self, tick: Tick, driver: usize, claim: Claim) {
        if self.claims.len() < CLAIMS_MAX {
            self.claims.push_back((tick, driver, claim));
        }
    }

    fn at(&self, client: usize, tick: Tick) -> Option<Own> {
        let (of, own) = self.owns.get(client)?.get(slot(tick)).copied()??;
        (of == tick).then_some(own)
    }

    fn judge_told(&mut self, driver: usize, tick: Tick, at: Position, at_us: u64) {
        let Some(own) = self.at(driver, tick) else {
            self.verdicts.unknown += 1;
            return;
        };
        let error_cm = distance_cm(floats(at), floats(own.at));
        self.verdicts.checks += 1;
        self.verdicts.mismatches += u64::from(own.at != at);
        self.verdicts.error_cm.add(error_cm);
        if let Some(sent_us) = own.sent_us {
            let ms = at_us.saturating_sub(sent_us) as f64 / 1_000.0;
            self.verdicts.input_to_seen_ms.add(ms);
        }
    }

    fn judge_shown(&mut self, driver: usize, moment: f64, at_cm: [f64; 3]) {
        let before = Tick(moment.max(0.0) as u64);
        let (Some(from), Some(to)) = (self.at(driver, before), self.at(driver, before.next()))
        else {
            return;
        };
        let part = moment - before.0 as f64;
        let (from, to) = (floats(from.at), floats(to.at));
        let mut truth = from;
        for (truth, to) in truth.iter_mut().zip(to) {
            *truth += (to - *truth) * part;
        }
        self.verdicts.position_error_m.add(distance_cm(truth, at_cm) / 100.0);
    }

    fn judge_known(&mut self, driver: usize, now: Tick, of: Tick) {
        let (Some(then), Some(truth)) = (self.at(driver, of), self.at(driver, now)) else { return };
        let ticks = if then.at == truth.at { 0 } else { now.since(of) };
        self.verdicts.known_age_ms.add(ticks as f64 * 1_000.0 / self.hz);
    }

    fn judge_updated(&mut self, driver: usize, tick: Tick, times: u32, is_near: bool) {
        let window = (0..WINDOW_TICKS).map(|ago| Tick(tick.0.saturating_sub(ago)));
        let moved = window.filter(|&tick| {
            let before = self.at(driver, Tick(tick.0.saturating_sub(1)));
            let after = self.at(driver, tick);
            matches!((before, after), (Some(before), Some(after)) if before.at != after.at)
        });
        let moved = moved.count() as u64;
        if moved < MOVED_TICKS_MIN {
            return;
        }
        let rate = (f64::from(times) * self.hz / moved as f64).min(self.hz);
        if is_near {
            self.verdicts.near_hz.add(rate);
        }
        self.verdicts.in_view_hz.add(rate);
    }
}

const fn slot(tick: Tick) -> usize {
    (tick.0 % TICKS_KEPT) as usize
}

fn floats(at: Position) -> [f64; 3] {
    [at.x, at.y, at.z].map(f64::from)
}

fn distance_cm([ax, ay, az]: [f64; 3], [bx, by, bz]: [f64; 3]) -> f64 {
    ((ax - bx) * (ax - bx) + (ay - by) * (ay - by) + (az - bz) * (az - bz)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A truth in which client 0 walks east 10 cm a tick.
    fn walked(ticks: u64) -> Truth {
        let mut truth = Truth::new(2, 20);
        for tick in 0..ticks {
            let x = i32::try_from(tick).expect("few") * 10;
            let own = Own { at: Position::new(x, 0, 0), sent_us: Some(tick * 1_000) };
            truth.own(0, Tick(tick), own);
            truth.own(1, Tick(tick), Own { at: Position::new(0, 0, 300), sent_us: None });
        }
        truth
    }

    #[test]
    fn a_true_state_passes_and_a_wrong_one_is_found() {
        let mut truth = walked(60);
        truth.told(0, Tick(30), Position::new(300, 0, 0), 80_000);
        truth.told(0, Tick(31), Position::new(300, 0, 0), 80_000);
        truth.judge();
        let verdicts = truth.verdicts();
        assert_eq!((verdicts.checks, verdicts.mismatches), (2, 1));
        assert_eq!(verdicts.error_cm.max(), Some(10.0));
        assert_eq!(verdicts.input_to_seen_ms.max(), Some(50.0));
    }

    #[test]
    fn nothing_is_judged_before_its_truth_can_be_there() {
        let mut truth = walked(60);
        truth.told(0, Tick(59), Position::new(590, 0, 0), 0);
        truth.judge();
        assert_eq!(truth.verdicts().checks, 0);
        truth.own(1, Tick(80), Own { at: Position::default(), sent_us: None });
        truth.judge();
        assert_eq!(truth.verdicts().checks, 1);
    }

    #[test]
    fn what_nobody_was_told_is_unknown() {
        let mut truth = walked(60);
        truth.told(1, Tick(500), Position::default(), 0);
        truth.own(0, Tick(600), Own { at: Position::default(), sent_us: None });
        truth.judge();
        assert_eq!((truth.verdicts().checks, truth.verdicts().unknown), (0, 1));
    }

    #[test]
    fn those_near_are_the_nearest_of_whom_something_is_known() {
        let mut truth = Truth::new(4, 20);
        for (client, x) in [0, 900, 300, 1_100].into_iter().enumerate() {
            truth.drives(client, EntityId(10 + client as u64));
            let own = Own { at: Position::new(x, 0, 0), sent_us: None };
            truth.own(client, Tick(5), own);
        }
        assert_eq!(truth.near(0, Tick(6), 1_000, 9), [EntityId(12), EntityId(11)]);
        assert_eq!(truth.near(0, Tick(6), 1_000, 1), [EntityId(12)]);
        assert_eq!(truth.near(0, Tick(9), 1_000, 9), [], "they may have left");
    }

    #[test]
    fn the_shown_moment_lies_between_two_ticks() {
        let mut truth = walked(40);
        truth.shown(0, 12.5, [125.0, 0.0, 100.0]);
        truth.own(1, Tick(60), Own { at: Position::default(), sent_us: None });
        truth.judge();
        assert_eq!(truth.verdicts().position_error_m.max(), Some(1.0));
    }

    #[test]
    fn ages_count_only_while_the_truth_differs() {
        let mut truth = walked(60);
        truth.known(0, Tick(30), Tick(28));
        truth.known(1, Tick(30), Tick(2));
        truth.judge();
        assert_eq!(truth.verdicts().known_age_ms.max(), Some(100.0));
        assert_eq!(truth.verdicts().known_age_ms.percentile(50), Some(0.0));
    }

    #[test]
    fn rates_are_those_of_moving_bodies() {
        let mut truth = walked(90);
        truth.updated(0, Tick(60), 20, true);
        truth.updated(1, Tick(60), 1, false);
        truth.judge();
        assert_eq!((truth.verdicts().near_hz.count(), truth.verdicts().in_view_hz.count()), (1, 1));
        let rate = truth.verdicts().near_hz.percentile(50).expect("one rate");
        assert!((9.9..=10.2).contains(&rate), "{rate}");
    }
}
