//! What clients see, held against what is so.
//!
//! What the viewer's own shard steps is shown to the centimetre. What a neighbour steps is shown as
//! a state that was, moved on by its own velocity. Whoever is near is seen soon, whoever is far is
//! seen no more soon.

use std::collections::BTreeMap;

use protocol::ids::EntityId;
use protocol::message::server::Being;
use protocol::state::EntityState;
use protocol::units::{Position, Tick};
use server::region::RegionIndex;

use super::host::HZ;
use super::scene::VIEW_CM;
use super::truth::{Check, Seat, Truth};
use super::walker::Walker;

/// Whoever stays this near must be seen.
const NEAR_CM: u32 = 3_000;

/// Whoever stays this far off must not be seen.
const FAR_CM: u32 = VIEW_CM as u32 + 700;

/// Ticks in which somebody who comes near must be seen, beside the way there.
const NOTICE_TICKS: u32 = 12;

/// Ticks that a ghost may be behind while everything is in time.
const BEHIND_TICKS: u64 = 4;

/// Ticks that a third shard may show somebody who crossed borders and left the world at once, back
/// again or not: six for each shard until it says so, and the way there.
const GONE_TICKS: u64 = 20;

/// Ticks that a ghost may be behind while a region is late or begins anew.
const BEHIND_TICKS_MAX: u64 = 60;

/// Ticks that a ghost moves on by its velocity: eight that its batch is late, and five until the next.
const CARRIED_TICKS_MAX: u64 = 13;

/// How far a body gets in a tick: an announcement tells a place and no velocity.
const STEP_CM: u64 = 40;

/// Ticks after a disturbance in which ghosts may still show it.
const HAUNTED_TICKS: u64 = 24;

/// Places of somebody that are told of a violation: as many as tell which way they went.
const SEATS_TOLD: usize = 16;

/// Things in view from which on not all of them are shown: 64 are tracked, with some room.
const CROWD: usize = 56;

/// What there is to be seen at one tick, and where.
#[derive(Debug)]
pub struct Sights(BTreeMap<EntityId, Position>);

impl Sights {
    /// Returns everyone and everything in the world at `tick`.
    #[must_use]
    pub fn of(truth: &Truth, tick: Tick) -> Self {
        let placed = truth.keeping.placed().filter_map(|thing| Some((thing.id, thing.place()?)));
        let everyone = truth.everyone(tick).map(|(id, seat)| (id, seat.position));
        Self(everyone.filter(|(id, _)| truth.is_in(*id)).chain(placed).collect())
    }
}

/// How long somebody has been near, or far, for one client.
#[derive(Debug, Default)]
pub struct Eyes {
    near: BTreeMap<EntityId, u32>,
    far: BTreeMap<EntityId, u32>,
}

impl Eyes {
    /// Forgets how long anybody was near or far: what disturbs the line excuses what was not seen.
    pub fn blink(&mut self) {
        self.near.clear();
        self.far.clear();
    }

    /// Checks what is in view of a client at `here` against all that there is, every tick.
    ///
    /// # Errors
    /// Who is not seen, or seen though far away.
    pub fn look(
        &mut self,
        walker: &Walker,
        here: Position,
        Sights(all): &Sights,
        way_ticks: u32,
    ) -> Check {
        let (Some(own), Some(replica)) = (walker.avatar, &walker.replica) else { return Ok(()) };
        let others = || all.iter().filter(|(id, _)| **id != own);
        let in_view = others().filter(|(_, at)| here.is_within(**at, FAR_CM)).count();
        let patience = NOTICE_TICKS + way_ticks;
        let mut near = BTreeMap::new();
        for (&id, &at) in others() {
            if here.is_within(at, NEAR_CM) && in_view < CROWD {
                let ticks = self.near.get(&id).map_or(1, |ticks| ticks + 1);
                near.insert(id, ticks);
                if patience < ticks && replica.entity(id).is_none() {
                    return Err(format!(
                        "{} at {here:?} does not see {id} at {at:?}",
                        walker.name()
                    ));
                }
            }
        }
        let mut far = BTreeMap::new();
        for entity in replica.entities() {
            let at = all.get(&entity.id).filter(|_| entity.id != own);
            if at.is_some_and(|at| here.is_within(*at, FAR_CM)) {
                continue;
            }
            let ticks = self.far.get(&entity.id).map_or(1, |ticks| ticks + 1);
            far.insert(entity.id, ticks);
            if patience < ticks {
                let id = entity.id;
                return Err(format!(
                    "{} at {here:?} still sees {id}, which is at {at:?}",
                    walker.name()
                ));
            }
        }
        (self.near, self.far) = (near, far);
        Ok(())
    }
}

/// Checks every state that a frame of `tick` brought.
///
/// # Errors
/// What never was.
pub fn check_frame(walker: &Walker, truth: &Truth, tick: Tick) -> Check {
    let (Some(own), Some(replica)) = (walker.avatar, &walker.replica) else { return Ok(()) };
    // What is as old as that is remembered by nobody.
    let Some(viewer) = truth.at(tick, own) else { return Ok(()) };
    for entity in replica.entities() {
        let (at, state) = entity.newest();
        if at != tick {
            continue;
        }
        let is_so = match entity.being {
            Being::Thing { .. } => truth.was_placed(entity.id, state.position),
            Being::Avatar { .. } => {
                let step_cm = if entity.since == tick { STEP_CM } else { 1 };
                is_avatar_so(truth, (viewer.region, tick), entity.id, &state, step_cm)
            }
        };
        if !is_so {
            let then = |ago: u64| Tick(tick.0.saturating_sub(ago));
            let seats = (0..=BEHIND_TICKS_MAX).map(then).filter_map(|tick| {
                let Seat { position, region, .. } = truth.at(tick, entity.id)?;
                Some(format!("{} {} in {} at {}", position.x, position.z, region.0, tick.0))
            });
            let last: Vec<String> = seats.take(SEATS_TOLD).collect();
            return Err(format!(
                "{} of region {} sees {} in a state that never was: {state:?} at tick {}; \
                 it was, newest first: {}",
                walker.name(),
                viewer.region.0,
                entity.id,
                tick.0,
                if last.is_empty() { "long gone".into() } else { last.join(", ") }
            ));
        }
    }
    Ok(())
}

fn is_avatar_so(
    truth: &Truth,
    (region, tick): (RegionIndex, Tick),
    avatar: EntityId,
    state: &EntityState,
    step_cm: u64,
) -> bool {
    let now = truth.at(tick, avatar);
    if let Some(seat) = now.filter(|seat| seat.region == region) {
        return seat.position == state.position && seat.yaw.coarse() == state.yaw;
    }
    // While their region is lost, and its successor waits for the disk, they stand where they were.
    if now.is_none()
        && truth.last_place(avatar, tick).is_some_and(|at| {
            (0..=CARRIED_TICKS_MAX).any(|ago| is_moved_on(at, state, ago, step_cm))
        })
    {
        return true;
    }
    // Who comes from a region that is late is late as well, wherever they are seen.
    let mut before = (0..=BEHIND_TICKS_MAX.min(tick.0)).map(|ago| Tick(tick.0 - ago));
    let last = before.find_map(|then| truth.at(then, avatar)).map_or(region, |seat| seat.region);
    let is_calm = [region, last].iter().all(|&region| truth.is_calm(region, tick, HAUNTED_TICKS));
    let was = |behind: u64| {
        (0..=behind.min(tick.0)).any(|ago| {
            let Some(then) = truth.at(Tick(tick.0 - ago), avatar) else { return false };
            // Whoever begins anew begins where they were before others saw them walk on.
            let carried_max = if is_calm { ago.min(CARRIED_TICKS_MAX) } else { CARRIED_TICKS_MAX };
            (0..=carried_max).any(|ticks| is_moved_on(then.position, state, ticks, step_cm))
        })
    };
    if !is_calm {
        return was(BEHIND_TICKS_MAX);
    }
    was(BEHIND_TICKS) || !truth.was_in(avatar, tick, GONE_TICKS) && was(GONE_TICKS)
}

/// Returns whether a state is one from `from` moved on by its velocity for some ticks, each of
/// which may be `step_cm` off.
fn is_moved_on(from: Position, state: &EntityState, ticks: u64, step_cm: u64) -> bool {
    let still = EntityState { position: from, ..*state };
    let moved = still.extrapolate(u32::try_from(ticks).unwrap_or(0), HZ);
    let off = |a: i32, b: i32| u64::from(a.abs_diff(b)) <= ticks * step_cm;
    off(moved.x, state.position.x) && off(moved.z, state.position.z)
}
