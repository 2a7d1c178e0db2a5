//! What is possible in a world: things, verbs, and what comes of them.
//!
//! A client asks for an [`Act`]. [`begin`] checks it against a [`View`] of the world and returns
//! an [`Outcome`]: effects to apply and journal as one record, and happenings to number as
//! events. An act that takes time is begun with [`Effect::Begin`] and worked out again by
//! [`finish`] when it is due, or ended by [`interrupt`]. Everything is a pure function; bodies,
//! clocks, storage and who hears of it are the shard's.
//!
//! Reading order: [`verb`] (the table), [`kind`] and [`book`] (what there is), [`thing`], [`things`]
//! and [`effect`] (how it is kept and changed), [`offer`], [`event`], [`why`], [`starter`].

pub mod book;
pub mod effect;
pub mod emote;
pub mod event;
pub mod kind;
pub mod limits;
pub mod offer;
pub mod starter;
pub mod thing;
pub mod things;
pub mod verb;
pub mod why;

mod carry;
mod draft;
mod handle;
mod social;
mod trade;
mod work;

pub use self::book::{BadBook, RuleBook};
pub use self::effect::{Change, Effect, Outcome, Pose, Work};
pub use self::emote::Emote;
pub use self::event::{Detail, Event, Happening, Phase};
pub use self::kind::{Kind, KindId, Lot, Recipe, RecipeId};
pub use self::offer::{Offer, OfferEnd, OfferId};
pub use self::thing::{Holder, Note, State, Thing};
pub use self::things::{Misfit, Things, ThingsRecord};
pub use self::verb::{Act, Args, Portion, VERBS, Verb, VerbRow};
pub use self::why::Why;

use self::draft::{Draft, happening};
use self::limits::FIDGET_CM;
use crate::ids::{EntityId, IdMint};
use crate::units::{Position, Tick, Yaw};

/// What the rules read of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActorView {
    /// Where they stand.
    pub position: Position,
    /// Where they look.
    pub yaw: Yaw,
    /// Whether they may not speak or write.
    pub muted: bool,
}

/// What the rules read of the world.
pub trait View {
    /// Returns the kinds and recipes.
    fn book(&self) -> &RuleBook;
    /// Returns the things.
    fn things(&self) -> &Things;
    /// Returns the tick now.
    fn now(&self) -> Tick;
    /// Returns the ticks per second.
    fn hz(&self) -> u16;
    /// Returns somebody who is in the world; nothing for things and for who is elsewhere.
    fn actor(&self, id: EntityId) -> Option<ActorView>;
    /// Returns the height of the ground in cm, nothing where it is unknown.
    fn ground_cm(&self, x: i32, z: i32) -> Option<i32>;
}

/// What came of finishing work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What to apply; it ends the work in any case.
    pub outcome: Outcome,
    /// Why nothing came of it, if so: the world has changed meanwhile.
    pub refused: Option<Why>,
}

/// Checks `act` by `id` and returns what comes of it.
///
/// With [`Outcome::until`] set it takes time: apply the outcome, and call [`finish`] for
/// everyone in [`Things::due`]. `mint` gives new stacks and offers their numbers.
///
/// # Errors
/// [`Why`] it cannot be done; nothing changes then.
pub fn begin<V>(id: EntityId, act: &Act, view: &V, mint: &mut IdMint) -> Result<Outcome, Why>
where
    V: View + ?Sized,
{
    let row = act.verb.row();
    let busy = view.things().work(id);
    if let Some(work) = busy.filter(|_| !row.while_busy) {
        return Err(Why::Busy { until: work.until });
    }
    let outcome = work_out(id, act, view, mint)?;
    let ms = duration_ms(act, view);
    if ms == 0 {
        return Ok(outcome);
    }
    let actor = view.actor(id).ok_or(Why::NotThere)?;
    let until = view.now().after(ticks(ms, view.hz()));
    let (from, began) = (actor.position, view.now());
    let work = Work { actor: id, act: act.clone(), from, began, until };
    let begun = happening(id, &actor, act.verb, act.target);
    Ok(Outcome {
        effects: vec![Effect::Begin(work), Effect::Pose { actor: id, pose: Pose::Work }],
        happenings: vec![Happening { phase: Phase::Began, ..begun }],
        until: Some(until),
    })
}

/// Ends the work of somebody who is done, and returns what comes of it; nothing if they are idle.
///
/// Everything is checked again: the world may have changed since it was begun.
pub fn finish<V>(id: EntityId, view: &V, mint: &mut IdMint) -> Option<Finished>
where
    V: View + ?Sized,
{
    let work = view.things().work(id)?;
    match work_out(id, &work.act, view, mint) {
        Ok(mut outcome) => {
            outcome.effects.splice(0..0, end_of_work(id));
            Some(Finished { outcome, refused: None })
        }
        Err(why) => Some(Finished { outcome: interrupt(id, view)?, refused: Some(why) }),
    }
}

/// Ends the work of somebody without result; nothing if they are idle.
pub fn interrupt<V: View + ?Sized>(id: EntityId, view: &V) -> Option<Outcome> {
    let work = view.things().work(id)?;
    // Who has left the world stopped where they began.
    let gone = ActorView { position: work.from, yaw: Yaw::NORTH, muted: false };
    let actor = view.actor(id).unwrap_or(gone);
    let stopped = happening(id, &actor, work.act.verb, work.act.target);
    Some(Outcome {
        effects: end_of_work(id).into(),
        happenings: vec![Happening { phase: Phase::Stopped, ..stopped }],
        until: None,
    })
}

/// Returns whether somebody at `position` has moved too far from where they began `work`.
#[must_use]
pub fn has_moved_away(work: &Work, position: Position) -> bool {
    FIDGET_CM < reach_to(work.from, position)
}

/// Returns how many ticks `ms` are at `hz`, at least one for more than nothing.
#[must_use]
pub fn ticks(ms: u32, hz: u16) -> u64 {
    (u64::from(ms) * u64::from(hz)).div_ceil(1_000)
}

/// Returns the distance between two points in cm, straight through the air.
#[must_use]
pub fn reach_to(from: Position, to: Position) -> u32 {
    let up = u64::from(from.y.abs_diff(to.y));
    let square = from.ground_distance_squared(to).saturating_add(up * up);
    u32::try_from(square.isqrt()).unwrap_or(u32::MAX)
}

/// Returns how long `act` takes in milliseconds; its kind or recipe may say.
fn duration_ms<V: View + ?Sized>(act: &Act, view: &V) -> u32 {
    let book = view.book();
    let of_target = || {
        let thing = view.things().get(act.target?)?;
        book.kind(thing.kind)?.gather.as_ref().map(|gather| gather.ms)
    };
    let specific = match (&act.args, act.verb) {
        (Args::Recipe(recipe) | Args::Site { recipe, .. }, _) => {
            book.recipe(*recipe).map(|recipe| recipe.ms)
        }
        (_, Verb::Gather) => of_target(),
        (_, _) => None,
    };
    specific.unwrap_or_else(|| act.verb.row().ms)
}

fn end_of_work(actor: EntityId) -> [Effect; 2] {
    [Effect::EndWork { actor }, Effect::Pose { actor, pose: Pose::Free }]
}

/// Works out the effects of an act as if it took no time.
fn work_out<V>(id: EntityId, act: &Act, view: &V, mint: &mut IdMint) -> Result<Outcome, Why>
where
    V: View + ?Sized,
{
    let mut draft = Draft::new(view, act, id, mint)?;
    match act.verb {
        Verb::Take => carry::take(&mut draft)?,
        Verb::Drop => carry::drop_it(&mut draft)?,
        Verb::Put => carry::put(&mut draft)?,
        Verb::Give => carry::give(&mut draft)?,
        Verb::Offer => trade::offer(&mut draft)?,
        Verb::Accept => trade::accept(&mut draft)?,
        Verb::Decline => trade::decline(&mut draft)?,
        Verb::Withdraw => trade::withdraw(&mut draft)?,
        Verb::Use => handle::use_it(&mut draft)?,
        Verb::Open => handle::open(&mut draft, true)?,
        Verb::Close => handle::open(&mut draft, false)?,
        Verb::Lock => handle::lock(&mut draft)?,
        Verb::Gather => work::gather(&mut draft)?,
        Verb::Make => work::make(&mut draft)?,
        Verb::Build => work::build(&mut draft)?,
        Verb::Read => handle::read(&mut draft)?,
        Verb::Write => handle::write(&mut draft)?,
        Verb::Greet => social::greet(&mut draft)?,
        Verb::Emote => social::emote(&mut draft)?,
        Verb::Say => social::say(&mut draft)?,
        Verb::Stop => social::stop(&mut draft)?,
    }
    Ok(draft.into_outcome())
}

#[cfg(test)]
mod tests;
