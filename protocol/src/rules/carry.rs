//! Taking, dropping, putting away and giving.

use super::View;
use super::draft::{Draft, count_or_all};
use super::effect::{Change, Effect};
use super::event::Detail;
use super::kind::{Kind, Lot};
use super::limits::{CLUTTER_CM, CLUTTER_MAX};
use super::thing::{Holder, Thing};
use super::verb::Args;
use super::why::Why;
use crate::ids::EntityId;
use crate::units::{Position, Yaw};

/// How far ahead of the body things are dropped, in cm: past the toes.
const AHEAD_CM: i32 = 60;

pub fn take<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let id = draft.target()?;
    let (wanted, None) = count_and_spot(&draft.act.args)? else { return Err(Why::BadArgs) };
    let (thing, kind) = loose(draft, id)?;
    if thing.owner.is_some_and(|owner| owner != draft.id) {
        return Err(Why::NotYours);
    }
    // What somebody has built they may take down, portable or not.
    if !kind.portable && thing.owner.is_none() {
        return Err(Why::NotPortable);
    }
    if draft.view.things().held_by(id).next().is_some() {
        return Err(Why::NotPossible);
    }
    let count = count_or_all(wanted, thing.count)?;
    if thing.owner.is_some() {
        draft.set(id, Change::Owner(None))?;
    }
    draft.transfer(id, count, Holder::Held(draft.id))?;
    draft.check_room(draft.id)?;
    draft.happen(Some(id), Detail::Lot(Lot { kind: thing.kind, count }));
    Ok(())
}

/// Returns how many are meant and where they shall go, as far as `args` say so.
fn count_and_spot(args: &Args) -> Result<(Option<u32>, Option<(Position, Yaw)>), Why> {
    match *args {
        Args::None => Ok((None, None)),
        Args::Count(count) => Ok((Some(count), None)),
        Args::Spot { count, at, yaw } => Ok((Some(count), Some((at, yaw)))),
        Args::Moved { .. }
        | Args::Deal { .. }
        | Args::Offer(_)
        | Args::Recipe(_)
        | Args::Site { .. }
        | Args::Text(_)
        | Args::Emote(_)
        | Args::Say(_) => Err(Why::BadArgs),
    }
}

/// Returns a thing that stands in reach or lies in an open container in reach.
fn loose<'a, V: View + ?Sized>(
    draft: &mut Draft<'a, V>,
    id: EntityId,
) -> Result<(Thing, &'a Kind), Why> {
    let thing = draft.thing(id)?;
    match thing.holder {
        Holder::Placed { .. } => draft.standing(id),
        Holder::Inside(container) => {
            let (chest, chest_kind) = draft.standing(container)?;
            check_open(&chest, chest_kind)?;
            let kind = draft.kind(thing.kind)?;
            Ok((thing, kind))
        }
        Holder::Held(_) => Err(Why::NotThere),
    }
}

fn check_open(thing: &Thing, kind: &Kind) -> Result<(), Why> {
    match (kind.opens, thing.state.open, thing.state.locked) {
        (false, _, _) | (true, true, _) => Ok(()),
        (true, false, true) => Err(Why::Locked),
        (true, false, false) => Err(Why::Closed),
    }
}

pub fn drop_it<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let id = draft.target()?;
    let (thing, kind) = draft.held(id)?;
    let (wanted, spot) = count_and_spot(&draft.act.args)?;
    let count = count_or_all(wanted, thing.count)?;
    let (at, yaw) = spot.unwrap_or_else(|| (ahead(draft), draft.actor.yaw));
    let at = free_spot(draft, at, kind)?;
    let to = Holder::Placed { at, yaw };
    if !kind.portable {
        // What was built and taken down still belongs to who puts it up again.
        draft.set(id, Change::Owner(Some(draft.id)))?;
    }
    draft.transfer(id, count, to)?;
    draft.happen(Some(id), Detail::Lot(Lot { kind: thing.kind, count }));
    Ok(())
}

/// Returns the point just ahead of the body.
fn ahead<V: View + ?Sized>(draft: &Draft<'_, V>) -> Position {
    let (east, south) = draft.actor.yaw.direction();
    let from = draft.actor.position;
    let step = |cm: i32, direction: i32| cm.saturating_add(direction * AHEAD_CM / 32_767);
    Position { x: step(from.x, east), z: step(from.z, south), ..from }
}

/// Returns `at` on the ground if something of `kind` may be put there.
pub fn free_spot<V: View + ?Sized>(
    draft: &Draft<'_, V>,
    at: Position,
    kind: &Kind,
) -> Result<Position, Why> {
    let y = draft.view.ground_cm(at.x, at.z).ok_or(Why::NoRoom)?;
    let at = Position { y, ..at };
    draft.check_reach(at)?;
    let things = draft.view.things();
    if CLUTTER_MAX <= things.near(at, CLUTTER_CM).take(CLUTTER_MAX).count() {
        return Err(Why::NoRoom);
    }
    let Some(solid) = kind.solid else { return Ok(at) };
    /// The radius of the largest solid thing, so that none is overlooked.
    const WIDEST_CM: u32 = 1_000;
    let blocks = |other: &Thing| {
        let radius = draft.view.book().kind(other.kind).and_then(|kind| kind.solid);
        let apart = u32::from(solid.radius_cm) + radius.map_or(0, |it| u32::from(it.radius_cm));
        radius.is_some() && other.place().is_some_and(|place| place.is_within(at, apart))
    };
    let mut near = things.near(at, u32::from(solid.radius_cm) + WIDEST_CM);
    if near.any(blocks) { Err(Why::NoRoom) } else { Ok(at) }
}

pub fn put<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let container = draft.target()?;
    let Args::Moved { thing: id, count } = draft.act.args else { return Err(Why::BadArgs) };
    let (chest, chest_kind) = draft.standing(container)?;
    if chest_kind.holds == 0 {
        return Err(Why::NotPossible);
    }
    check_open(&chest, chest_kind)?;
    let (thing, kind) = draft.held(id)?;
    // No chest in a chest: what is inside is always one step away.
    if !kind.portable || 0 < kind.holds {
        return Err(Why::NotPossible);
    }
    let count = count_or_all(Some(count), thing.count)?;
    draft.transfer(id, count, Holder::Inside(container))?;
    draft.check_container(container, chest_kind)?;
    draft.happen(Some(container), Detail::Lot(Lot { kind: thing.kind, count }));
    Ok(())
}

pub fn give<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let to = draft.target()?;
    let Args::Moved { thing: id, count } = draft.act.args else { return Err(Why::BadArgs) };
    draft.other(to)?;
    let (thing, _) = draft.held(id)?;
    let count = count_or_all(Some(count), thing.count)?;
    draft.transfer(id, count, Holder::Held(to))?;
    draft.check_room(to)?;
    draft.happen(Some(to), Detail::Lot(Lot { kind: thing.kind, count }));
    Ok(())
}

/// Returns the effect that puts a new thing of `kind` up at `at` for its builder.
pub fn raise(id: EntityId, kind: &Kind, at: Position, yaw: Yaw, owner: EntityId) -> Effect {
    let holder = Holder::Placed { at, yaw };
    // A table or a stool is furniture for everybody to use, but only its builder takes it away.
    Effect::Create(Thing { owner: Some(owner), ..Thing::new(id, kind.id, 1, holder) })
}
