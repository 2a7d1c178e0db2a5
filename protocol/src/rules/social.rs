//! Greeting, gestures, speaking, and stopping.

use super::View;
use super::draft::Draft;
use super::effect::{Effect, Pose};
use super::emote::Emote;
use super::event::Detail;
use super::verb::Args;
use super::why::Why;

pub fn greet<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    if draft.act.args != Args::None {
        return Err(Why::BadArgs);
    }
    let to = draft.target()?;
    draft.other(to)?;
    draft.happen(Some(to), Detail::None);
    Ok(())
}

pub fn emote<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let Args::Emote(emote) = draft.act.args else { return Err(Why::BadArgs) };
    check_listener(draft)?;
    if emote == Emote::Sit {
        draft.push(Effect::Pose { actor: draft.id, pose: Pose::Sit })?;
    }
    draft.happen(draft.act.target, Detail::Emote(emote));
    Ok(())
}

pub fn say<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let Args::Say(utterance) = &draft.act.args else { return Err(Why::BadArgs) };
    if draft.actor.muted {
        return Err(Why::Muted);
    }
    utterance.check().map_err(|_| Why::BadUtterance)?;
    check_listener(draft)?;
    draft.happen(draft.act.target, Detail::Said(utterance.clone()));
    Ok(())
}

/// Fails if a target is named that is neither a thing nor a person in reach.
fn check_listener<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let Some(target) = draft.act.target else { return Ok(()) };
    if draft.view.actor(target).is_some() {
        return draft.other(target).map(|_| ());
    }
    draft.standing(target).map(|_| ())
}

pub fn stop<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let actor = draft.id;
    if draft.view.things().work(actor).is_some() {
        draft.push(Effect::EndWork { actor })?;
    }
    draft.push(Effect::Pose { actor, pose: Pose::Free })?;
    draft.happen(None, Detail::None);
    Ok(())
}
