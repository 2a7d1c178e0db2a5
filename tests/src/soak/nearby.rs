//! How soon a client is told of somebody who is near, and who is near and out of its sight.
//!
//! Who is near follows from the truth ([`super::truth`]): the places that the frames of the crowd's
//! own clients tell. A client looks once a tick while it is its turn, and for as long as it waits
//! for somebody.

use std::collections::BTreeMap;

use protocol::ids::EntityId;
use protocol::units::Tick;

use super::spread::Spread;

/// How near somebody is who must be seen, in centimetres.
pub const NEAR_CM: u32 = 1_000;

/// So many of the nearest must be seen: half of those that a client is told of at most, for it is
/// told of things, too.
pub const NEAREST_MAX: usize = 32;

/// Microseconds after which somebody near who is not seen has vanished.
const VANISHED_US: u64 = 2_000_000;

/// Ticks between two looks that follow each other, with lost frames in between.
const FOLLOWING_TICKS: u64 = 4;

/// Who is near whom in a crowd.
#[derive(Clone, Debug, Default)]
pub struct Nearby {
    /// By client: when it looked last, and who was near.
    looks: Vec<Option<(Tick, Vec<EntityId>)>>,
    /// By client: for whom it waits since when, and whether that counted as vanished.
    waits: Vec<BTreeMap<EntityId, (u64, bool)>>,
    appear_ms: Spread,
    vanished: u64,
}

impl Nearby {
    /// Returns what is known of so many clients before anybody looked.
    #[must_use]
    pub fn new(clients: usize) -> Self {
        Self {
            looks: vec![None; clients],
            waits: vec![BTreeMap::new(); clients],
            ..Self::default()
        }
    }

    /// Returns whether a client waits for somebody near.
    #[must_use]
    pub fn waits(&self, client: usize) -> bool {
        self.waits.get(client).is_some_and(|waits| !waits.is_empty())
    }

    /// Notes who is near a client at `tick`, of which it heard at `at_us`; `sees` says of whom it has
    /// a handle.
    pub fn look(
        &mut self,
        client: usize,
        (tick, at_us): (Tick, u64),
        near: Vec<EntityId>,
        sees: impl Fn(EntityId) -> bool,
    ) {
        let (Some(last), Some(waits)) = (self.looks.get_mut(client), self.waits.get_mut(client))
        else {
            return;
        };
        let before = last.take().filter(|(last, _)| tick.since(*last) <= FOLLOWING_TICKS);
        for &body in &near {
            // Who is near at the first look came near at some time before, which is not known.
            let is_new = before.as_ref().is_some_and(|(_, before)| !before.contains(&body));
            match (waits.get_mut(&body), sees(body)) {
                (Some((since_us, has_vanished)), false) => {
                    if !*has_vanished && VANISHED_US <= at_us.saturating_sub(*since_us) {
                        *has_vanished = true;
                        self.vanished += 1;
                    }
                }
                (None, true) if is_new => self.appear_ms.add(0.0),
                (None, false) => drop(waits.insert(body, (at_us, false))),
                // Of whom it heard while it was far off is noted when it hears.
                (None | Some(_), true) => {}
            }
        }
        // Who went away unseen was not seen for that long.
        waits.retain(|body, (since_us, _)| {
            let is_near = near.contains(body);
            if !is_near {
                self.appear_ms.add(ms(*since_us, at_us));
            }
            is_near
        });
        *last = Some((tick, near));
    }

    /// Notes that a client was told of a body: it has a handle of it, and knows where it is.
    pub fn heard(&mut self, client: usize, body: EntityId, at_us: u64) {
        let waited = self.waits.get_mut(client).and_then(|waits| waits.remove(&body));
        if let Some((since_us, _)) = waited {
            self.appear_ms.add(ms(since_us, at_us));
        }
    }

    /// Notes that a client's stay has ended: it waits for nobody.
    pub fn left(&mut self, client: usize) {
        if let Some(look) = self.looks.get_mut(client) {
            *look = None;
        }
        if let Some(waits) = self.waits.get_mut(client) {
            waits.clear();
        }
    }

    /// Forgets what was found, when the measurement begins.
    pub fn begin(&mut self) {
        (self.appear_ms, self.vanished) = (Spread::default(), 0);
    }

    /// Returns the milliseconds from when somebody was near until they were seen.
    #[must_use]
    pub const fn appear_ms(&self) -> &Spread {
        &self.appear_ms
    }

    /// Returns how many were near somebody and out of sight for two seconds.
    #[must_use]
    pub const fn vanished(&self) -> u64 {
        self.vanished
    }
}

fn ms(since_us: u64, at_us: u64) -> f64 {
    at_us.saturating_sub(since_us) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_US: u64 = 50_000;
    const ADA: EntityId = EntityId(1);
    const BEN: EntityId = EntityId(2);

    /// Client 0 looks at each tick from 1 on: at who is near, and at whom it sees.
    fn looks(ticks: &[(&[EntityId], &[EntityId])]) -> Nearby {
        let mut nearby = Nearby::new(1);
        for (tick, (near, seen)) in (1..).zip(ticks) {
            let at = (Tick(tick), tick * TICK_US);
            nearby.look(0, at, near.to_vec(), |body| seen.contains(&body));
        }
        nearby
    }

    fn check(nearby: &Nearby, count: u64, ms_max: Option<f64>) {
        let found = nearby.appear_ms();
        assert_eq!((found.count(), found.max()), (count, ms_max));
    }

    #[test]
    fn whoever_comes_near_and_is_seen_already_took_no_time() {
        check(&looks(&[(&[], &[]), (&[ADA], &[ADA]), (&[ADA], &[ADA])]), 1, Some(0.0));
    }

    #[test]
    fn who_is_near_from_the_first_look_on_counts_only_if_unseen() {
        check(&looks(&[(&[ADA], &[ADA]), (&[ADA], &[ADA])]), 0, None);
        let mut nearby = looks(&[(&[ADA, BEN], &[ADA]), (&[ADA, BEN], &[ADA])]);
        assert!(nearby.waits(0));
        nearby.heard(0, ADA, 3 * TICK_US);
        nearby.heard(0, BEN, 3 * TICK_US);
        check(&nearby, 1, Some(100.0));
        assert!(!nearby.waits(0));
    }

    #[test]
    fn who_goes_away_unseen_was_unseen_for_that_long() {
        check(&looks(&[(&[], &[]), (&[ADA], &[]), (&[ADA], &[]), (&[], &[])]), 1, Some(100.0));
    }

    #[test]
    fn who_stays_near_and_is_not_seen_any_more_has_vanished() {
        let check_vanished = |unseen: usize, expected: u64| {
            let mut ticks: Vec<(&[EntityId], &[EntityId])> = vec![(&[ADA], &[ADA]); 3];
            ticks.extend(vec![(&[ADA][..], &[][..]); unseen]);
            assert_eq!(looks(&ticks).vanished(), expected, "{unseen}");
        };
        check_vanished(40, 0);
        check_vanished(41, 1);
        check_vanished(90, 1);
    }

    #[test]
    fn looks_far_apart_tell_nothing_new() {
        let mut nearby = looks(&[(&[], &[])]);
        nearby.look(0, (Tick(30), 0), vec![ADA], |_| true);
        check(&nearby, 0, None);
        nearby.look(0, (Tick(31), 0), vec![ADA, BEN], |_| false);
        nearby.left(0);
        assert!(!nearby.waits(0));
        nearby.heard(0, BEN, 1);
        check(&nearby, 0, None);
    }
}
