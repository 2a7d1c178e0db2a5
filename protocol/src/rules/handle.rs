//! Using, opening, locking, reading and writing.

use super::View;
use super::draft::Draft;
use super::effect::{Change, Effect, Pose};
use super::event::{Detail, Happening};
use super::kind::{Kind, KindId, Lot, Uses};
use super::limits::TEXT_CHARS_MAX;
use super::thing::{Holder, Note, Thing};
use super::verb::Args;
use super::why::Why;
use crate::ids::EntityId;

/// How far a bell is heard, in cm: all over a village.
const BELL_CM: u32 = 15_000;

pub fn use_it<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    no_args(draft)?;
    let id = draft.target()?;
    let (thing, kind) = in_hand_or_reach(draft, id)?;
    match &kind.uses {
        None => Err(Why::NotPossible),
        Some(Uses::Fill(pairs)) => fill(draft, id, pairs),
        Some(Uses::Eat(leaves)) => eat(draft, &thing, *leaves),
        Some(Uses::Light) => {
            let lit = !thing.state.lit;
            draft.set(id, Change::Lit(lit))?;
            draft.happen(Some(id), Detail::Switched(lit));
            Ok(())
        }
        Some(Uses::Sit) => {
            thing.place().ok_or(Why::NotPossible)?;
            draft.push(Effect::Pose { actor: draft.id, pose: Pose::Sit })?;
            draft.happen(Some(id), Detail::None);
            Ok(())
        }
        Some(Uses::Ring) => {
            draft.happen_far(Some(id), BELL_CM);
            Ok(())
        }
    }
}

fn fill<V: View + ?Sized>(
    draft: &mut Draft<'_, V>,
    id: EntityId,
    pairs: &[(KindId, KindId)],
) -> Result<(), Why> {
    let holds = |pair: &&(KindId, KindId)| 0 < draft.count_of(draft.id, pair.0);
    let Some(&(empty, full)) = pairs.iter().find(holds) else {
        let first = pairs.first().ok_or(Why::NotPossible)?;
        return Err(Why::Missing { kind: first.0, count: 1 });
    };
    let filled = Lot { kind: full, count: 1 };
    draft.spend(Lot { kind: empty, count: 1 })?;
    draft.create(filled, draft.id)?;
    draft.check_room(draft.id)?;
    draft.happen(Some(id), Detail::Lot(filled));
    Ok(())
}

fn eat<V: View + ?Sized>(
    draft: &mut Draft<'_, V>,
    thing: &Thing,
    leaves: Option<KindId>,
) -> Result<(), Why> {
    if thing.owner.is_some_and(|owner| owner != draft.id) {
        return Err(Why::NotYours);
    }
    draft.push(Effect::Consume { thing: thing.id, count: 1 })?;
    if let Some(kind) = leaves {
        draft.create(Lot { kind, count: 1 }, draft.id)?;
        draft.check_room(draft.id)?;
    }
    draft.happen(Some(thing.id), Detail::Lot(Lot { kind: thing.kind, count: 1 }));
    Ok(())
}

/// Returns a thing one holds or that stands in reach, and its kind.
fn in_hand_or_reach<'a, V: View + ?Sized>(
    draft: &mut Draft<'a, V>,
    id: EntityId,
) -> Result<(Thing, &'a Kind), Why> {
    let thing = draft.thing(id)?;
    match thing.holder {
        Holder::Held(_) => draft.held(id),
        Holder::Placed { .. } => draft.standing(id),
        Holder::Inside(_) => Err(Why::NotThere),
    }
}

pub fn open<V: View + ?Sized>(draft: &mut Draft<'_, V>, open: bool) -> Result<(), Why> {
    no_args(draft)?;
    let id = draft.target()?;
    let (thing, kind) = draft.standing(id)?;
    if !kind.opens {
        return Err(Why::NotPossible);
    }
    if thing.state.open == open {
        return Err(Why::Already);
    }
    // The owner has the key.
    if thing.state.locked && thing.owner != Some(draft.id) {
        return Err(Why::Locked);
    }
    draft.set(id, Change::Open(open))?;
    draft.happen(Some(id), Detail::None);
    Ok(())
}

pub fn lock<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    no_args(draft)?;
    let id = draft.target()?;
    let (thing, kind) = draft.standing(id)?;
    if !kind.opens {
        return Err(Why::NotPossible);
    }
    if thing.owner != Some(draft.id) {
        return Err(Why::NotYours);
    }
    let locked = !thing.state.locked;
    draft.set(id, Change::Locked(locked))?;
    draft.happen(Some(id), Detail::Switched(locked));
    Ok(())
}

pub fn read<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    no_args(draft)?;
    let id = draft.target()?;
    let (thing, kind) = in_hand_or_reach(draft, id)?;
    if kind.notes == 0 {
        return Err(Why::NotPossible);
    }
    let text = thing.text().unwrap_or_default();
    draft.push(Effect::Tell { actor: draft.id, thing: id, text })?;
    draft.happen(Some(id), Detail::None);
    Ok(())
}

pub fn write<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let id = draft.target()?;
    let Args::Text(text) = &draft.act.args else { return Err(Why::BadArgs) };
    if draft.actor.muted {
        return Err(Why::Muted);
    }
    let (thing, kind) = in_hand_or_reach(draft, id)?;
    if kind.notes == 0 {
        return Err(Why::NotPossible);
    }
    if !kind.public && thing.owner != Some(draft.id) {
        return Err(Why::NotYours);
    }
    check_text(text)?;
    let note = Note { by: Some(draft.id), tick: draft.now(), text: text.clone() };
    draft.set(id, Change::Note { note, keep: kind.notes })?;
    draft.happen(Some(id), Detail::Wrote(text.clone()));
    Ok(())
}

fn check_text(text: &str) -> Result<(), Why> {
    let chars = text.chars().count();
    if TEXT_CHARS_MAX < chars {
        return Err(Why::TextTooLong { chars: u32::try_from(chars).unwrap_or(u32::MAX) });
    }
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(Why::BadText);
    }
    Ok(())
}

fn no_args<V: View + ?Sized>(draft: &Draft<'_, V>) -> Result<(), Why> {
    if draft.act.args == Args::None { Ok(()) } else { Err(Why::BadArgs) }
}

impl<V: View + ?Sized> Draft<'_, V> {
    /// Says what happened, to everyone within `reach_cm`.
    fn happen_far(&mut self, target: Option<EntityId>, reach_cm: u32) {
        let happening = super::happening(self.id, &self.actor, self.act.verb, target);
        self.announce(Happening { reach_cm, ..happening });
    }
}
