//! One entity as it is shown: the last states received, and the moment between or after them.
//!
//! Owns interpolation, bounded extrapolation and the smoothing of what turned out otherwise. Which
//! moment is shown, and who is in view, is decided elsewhere.

use std::collections::VecDeque;

use crate::ids::EntityId;
use crate::message::server::Being;
use crate::state::{EntityState, VELOCITY_STEP_CM_S};
use crate::units::{Tick, Yaw};

/// States kept of one entity: half a second at 20 Hz, the longest the display waits.
const SAMPLES_MAX: usize = 12;

/// How far a state is continued, in seconds: far entities come five times a second, and one of
/// those may be lost.
const EXTRAPOLATED_S_MAX: f64 = 0.5;

/// Ticks before a state in which it came about: what was not told earlier had not changed.
const BRIDGED_TICKS_MAX: u64 = 4;

/// Farther than this in one go, in centimetres beyond its speed, is a jump and shown as one.
const JUMP_CM: f64 = 500.0;

/// The greatest speed of a body, in cm/s.
const SPEED_CM_S_MAX: f64 = 5_000.0;

/// Seconds in which what was shown wrongly shrinks to a third.
const SMOOTHED_S: f64 = 0.1;

/// An entity at the shown moment. Centimetres, as everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// East, up and south in centimetres.
    pub at_cm: [f64; 3],
    /// Where it looks.
    pub yaw: Yaw,
    /// See [`Animation`](crate::state::Animation).
    pub animation: u8,
    /// Bits of [`flags`](crate::state::flags).
    pub flags: u8,
}

/// Somebody or something in view.
#[derive(Clone, Debug)]
pub struct Entity {
    /// What it is called for good.
    pub id: EntityId,
    /// What it is.
    pub being: Being,
    /// The tick it came into view.
    pub since: Tick,
    /// The tick it left view, if it did.
    pub until: Option<Tick>,
    /// By rising tick.
    samples: VecDeque<(Tick, EntityState)>,
    /// What was shown wrongly at a moment, in centimetres.
    error: Option<(f64, [f64; 3])>,
}

impl Entity {
    /// Returns an entity that comes into view in `state`.
    #[must_use]
    pub fn new(id: EntityId, being: Being, since: Tick, state: EntityState) -> Self {
        let samples = VecDeque::from([(since, state)]);
        Self { id, being, since, until: None, samples, error: None }
    }

    /// Returns the newest state and its tick.
    #[must_use]
    pub fn newest(&self) -> (Tick, EntityState) {
        self.samples.back().copied().unwrap_or_else(|| (self.since, EntityState::default()))
    }

    /// Takes in the state of `tick` while the moment `shown` is on display.
    pub fn push(&mut self, tick: Tick, state: EntityState, shown: Option<f64>, hz: u16) {
        let newest = self.newest().0;
        // Only what is on display and was guessed can turn out otherwise.
        let guessed = shown.filter(|&shown| (newest.0 as f64) < shown);
        let before = guessed.and_then(|shown| Some((shown, self.at(shown, hz)?.at_cm)));
        self.insert(tick, state);
        let after = before.and_then(|(shown, at)| Some((shown, at, self.true_at(shown, hz)?)));
        if let Some((shown, before, after)) = after {
            let off = difference(before, after.at_cm);
            self.error = (length(off) < JUMP_CM).then_some((shown, off));
        }
        while let (Some(shown), Some(&(second, _))) = (shown, self.samples.get(1)) {
            if shown <= second.0 as f64 && self.samples.len() <= SAMPLES_MAX {
                break;
            }
            self.samples.pop_front();
        }
        while SAMPLES_MAX < self.samples.len() {
            self.samples.pop_front();
        }
    }

    /// Keeps this state alone, for pictures that nobody looks at.
    pub fn replace(&mut self, tick: Tick, state: EntityState) {
        if self.newest().0 <= tick {
            self.samples.clear();
            self.samples.push_back((tick, state));
        }
    }

    /// Returns how it is shown at a moment, nothing while it is not in view.
    #[must_use]
    pub fn at(&self, moment: f64, hz: u16) -> Option<Shown> {
        let is_in_view =
            self.since.0 as f64 <= moment && self.until.is_none_or(|until| moment < until.0 as f64);
        if !is_in_view {
            return None;
        }
        let mut shown = self.true_at(moment, hz)?;
        if let Some((since, off)) = self.error {
            let left = libm::exp(-(moment - since).max(0.0) / f64::from(hz.max(1)) / SMOOTHED_S);
            for (at, off) in shown.at_cm.iter_mut().zip(off) {
                *at += off * left;
            }
        }
        Some(shown)
    }

    fn insert(&mut self, tick: Tick, state: EntityState) {
        let index = self.samples.partition_point(|&(at, _)| at < tick);
        match self.samples.get_mut(index) {
            Some(sample) if sample.0 == tick => sample.1 = state,
            Some(_) | None => self.samples.insert(index, (tick, state)),
        }
    }

    /// What the states say about a moment, without smoothing.
    fn true_at(&self, moment: f64, hz: u16) -> Option<Shown> {
        let index = self.samples.partition_point(|&(at, _)| at.0 as f64 <= moment);
        let after = self.samples.get(index);
        let Some(&(tick, state)) = index.checked_sub(1).and_then(|before| self.samples.get(before))
        else {
            return after.map(|&(_, state)| shown(&state, position(&state)));
        };
        Some(match after {
            Some(&(later, next)) => between((tick, &state), (later, &next), moment, hz),
            None => continued((tick, &state), moment, hz),
        })
    }
}

/// The state after `ticks`, standing where its velocity has led it.
fn continued((tick, state): (Tick, &EntityState), moment: f64, hz: u16) -> Shown {
    let seconds = ((moment - tick.0 as f64) / f64::from(hz.max(1))).min(EXTRAPOLATED_S_MAX);
    let mut at = position(state);
    for (at, speed) in at.iter_mut().zip(velocity_cm_s(state)) {
        *at += speed * seconds;
    }
    shown(state, at)
}

/// The moment between two states: along the curve that leaves and arrives at their velocities.
fn between(
    (tick, from): (Tick, &EntityState),
    (later, to): (Tick, &EntityState),
    moment: f64,
    hz: u16,
) -> Shown {
    // A state that holds on is not told again, so what is new began shortly before it was told.
    let start = tick.0.max(later.0.saturating_sub(BRIDGED_TICKS_MAX));
    if moment < start as f64 {
        return continued((tick, from), moment, hz);
    }
    let origin = continued((tick, from), start as f64, hz).at_cm;
    let goal = position(to);
    let ticks = (later.0 - start).max(1) as f64;
    let seconds = ticks / f64::from(hz.max(1));
    if JUMP_CM + SPEED_CM_S_MAX * seconds < length(difference(goal, origin)) {
        return shown(from, origin);
    }
    let part = ((moment - start as f64) / ticks).clamp(0.0, 1.0);
    let leaving = velocity_cm_s(from).map(|speed| speed * seconds);
    let arriving = velocity_cm_s(to).map(|speed| speed * seconds);
    let axes = origin.into_iter().zip(goal).zip(leaving.into_iter().zip(arriving));
    let mut at = [0.0; 3];
    for (at, ((origin, goal), (leaving, arriving))) in at.iter_mut().zip(axes) {
        *at = hermite(origin, goal, leaving, arriving, part);
    }
    let looks = if part < 0.5 { from } else { to };
    Shown { yaw: turned(from, to, part), ..shown(looks, at) }
}

/// The cubic from `a` to `b` that starts with slope `u` and ends with slope `v`.
fn hermite(a: f64, b: f64, u: f64, v: f64, t: f64) -> f64 {
    let (t2, t3) = (t * t, t * t * t);
    a * (2.0 * t3 - 3.0 * t2 + 1.0)
        + u * (t3 - 2.0 * t2 + t)
        + b * (3.0 * t2 - 2.0 * t3)
        + v * (t3 - t2)
}

/// The heading part of the way from one to the other, the short way round.
#[expect(clippy::cast_possible_truncation, reason = "a part of a turn fits in 16 bits")]
fn turned(from: &EntityState, to: &EntityState, part: f64) -> Yaw {
    let (from, to) = (from.heading().0, to.heading().0);
    let turn = f64::from(to.wrapping_sub(from).cast_signed()) * part;
    Yaw(from.wrapping_add_signed(turn as i16))
}

fn shown(state: &EntityState, at_cm: [f64; 3]) -> Shown {
    Shown { at_cm, yaw: state.heading(), animation: state.animation, flags: state.flags }
}

fn position(state: &EntityState) -> [f64; 3] {
    [state.position.x, state.position.y, state.position.z].map(f64::from)
}

fn velocity_cm_s(state: &EntityState) -> [f64; 3] {
    state.velocity.map(|steps| f64::from(i32::from(steps) * VELOCITY_STEP_CM_S))
}

/// Returns `a` less `b`.
pub(super) fn difference(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    let ([ax, ay, az], [bx, by, bz]) = (a, b);
    [ax - bx, ay - by, az - bz]
}

/// Returns the length of a vector.
pub(super) fn length([x, y, z]: [f64; 3]) -> f64 {
    libm::sqrt(x * x + y * y + z * z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Position;

    const HZ: u16 = 20;

    fn state(x: i32, speed_steps: i16) -> EntityState {
        EntityState {
            position: Position::new(x, 0, 0),
            velocity: [speed_steps, 0, 0],
            ..EntityState::default()
        }
    }

    fn entity(states: &[(u64, EntityState)]) -> Entity {
        let (tick, first) = states[0];
        let being = Being::Thing { kind: crate::rules::KindId(1), count: 1, text: None };
        let mut entity = Entity::new(EntityId(1), being, Tick(tick), first);
        states[1..].iter().for_each(|&(tick, state)| entity.push(Tick(tick), state, None, HZ));
        entity
    }

    fn x(entity: &Entity, moment: f64) -> f64 {
        entity.at(moment, HZ).expect("in view").at_cm[0]
    }

    #[test]
    fn an_even_walk_is_a_line() {
        // 200 cm/s is 10 cm a tick.
        let walk = entity(&[(10, state(0, 50)), (12, state(20, 50)), (13, state(30, 50))]);
        for (moment, expected) in [(10.0, 0.0), (11.0, 10.0), (12.5, 25.0), (14.0, 40.0)] {
            assert!((x(&walk, moment) - expected).abs() < 0.01, "{moment}");
        }
    }

    #[test]
    fn a_state_goes_on_for_half_a_second_only() {
        let walk = entity(&[(10, state(0, 50))]);
        assert!((x(&walk, 20.0) - 100.0).abs() < 0.01);
        assert!((x(&walk, 900.0) - 100.0).abs() < 0.01);
    }

    #[test]
    fn one_who_rested_long_starts_late_instead_of_creeping() {
        let start = entity(&[(10, state(0, 0)), (110, state(10, 50))]);
        assert!(x(&start, 105.0).abs() < 0.01);
        assert!((x(&start, 110.0) - 10.0).abs() < 0.01);
    }

    #[test]
    fn a_jump_is_not_a_flight() {
        let jump = entity(&[(10, state(0, 0)), (11, state(100_000, 0))]);
        assert!(x(&jump, 10.9).abs() < 0.01);
        assert!((x(&jump, 11.0) - 100_000.0).abs() < 0.01);
    }

    #[test]
    fn what_was_guessed_wrongly_is_made_good_smoothly() {
        let mut walk = entity(&[(10, state(0, 50))]);
        let before = x(&walk, 14.0);
        walk.push(Tick(13), state(20, 0), Some(14.0), HZ);
        assert!((x(&walk, 14.0) - before).abs() < 0.01, "no jump at the moment itself");
        assert!((x(&walk, 30.0) - 20.0).abs() < 0.1, "gone soon after");
    }

    #[test]
    fn nobody_is_seen_before_coming_or_after_going() {
        let mut short = entity(&[(10, state(0, 0))]);
        short.until = Some(Tick(15));
        assert!(short.at(9.9, HZ).is_none());
        assert!(short.at(14.9, HZ).is_some());
        assert!(short.at(15.0, HZ).is_none());
    }

    #[test]
    fn a_turn_takes_the_short_way() {
        let looking = |yaw| EntityState { yaw, ..EntityState::default() };
        assert_eq!(turned(&looking(250), &looking(6), 0.5), Yaw::from_coarse(0));
        assert_eq!(turned(&looking(10), &looking(20), 0.5), Yaw::from_coarse(15));
    }

    #[test]
    fn states_are_bounded_and_in_order() {
        let mut walk = entity(&[(10, state(0, 0))]);
        for tick in (11..100).rev() {
            walk.push(Tick(tick), state(0, 0), Some(5.0), HZ);
        }
        assert!(walk.samples.len() <= SAMPLES_MAX);
        assert!(walk.samples.iter().zip(walk.samples.iter().skip(1)).all(|(a, b)| a.0 < b.0));
    }
}
