//! What happened: the only source of what characters perceive, of progress and of the audit trail.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]

use serde::{Deserialize, Serialize};

use super::emote::Emote;
use super::kind::{Lot, RecipeId};
use super::offer::OfferId;
use super::verb::Verb;
use crate::ids::EntityId;
use crate::units::{Position, Tick};
use crate::utterance::Utterance;

/// How far an act has come. Numbers are stable.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Phase {
    /// It is done.
    Done = 0,
    /// It has begun and takes time.
    Began = 1,
    /// It was stopped, or came to nothing.
    Stopped = 2,
}

/// What more there is to say. Numbers are stable (the order here); new ones come at the end.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// Nothing.
    None,
    /// What was moved, gathered, used or given.
    Lot(Lot),
    /// What was made, of what.
    Made {
        /// By which recipe.
        recipe: RecipeId,
        /// What came of it.
        output: Lot,
    },
    /// An offer was made.
    Offered(OfferId),
    /// An exchange took place.
    Traded {
        /// The offer.
        offer: OfferId,
        /// What its maker gave.
        gave: Vec<Lot>,
        /// What its maker got.
        got: Vec<Lot>,
    },
    /// What was written.
    Wrote(String),
    /// A gesture.
    Emote(Emote),
    /// What was said.
    Said(Utterance),
    /// Whether it is now lit or locked.
    Switched(bool),
}

/// An event before it is numbered.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Happening {
    /// Where.
    pub place: Position,
    /// Who did it.
    pub actor: EntityId,
    /// What.
    pub verb: Verb,
    /// How far it has come.
    pub phase: Phase,
    /// To what or whom.
    pub target: Option<EntityId>,
    /// How far away it is perceived, in cm.
    pub reach_cm: u32,
    /// What more there is to say.
    pub detail: Detail,
}

impl Happening {
    /// Returns the event numbered `id` at `tick`.
    #[must_use]
    pub fn numbered(self, id: u64, tick: Tick) -> Event {
        let Self { place, actor, verb, phase, target, reach_cm, detail } = self;
        Event { id, tick, place, actor, verb, phase, target, reach_cm, detail }
    }
}

/// Something that happened in the world.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Event {
    /// Its number: events of one shard count up without a gap.
    pub id: u64,
    /// When.
    pub tick: Tick,
    /// Where.
    pub place: Position,
    /// Who did it.
    pub actor: EntityId,
    /// What.
    pub verb: Verb,
    /// How far it has come.
    pub phase: Phase,
    /// To what or whom.
    pub target: Option<EntityId>,
    /// How far away it is perceived, in cm.
    pub reach_cm: u32,
    /// What more there is to say.
    pub detail: Detail,
}

impl Event {
    /// Returns whether somebody at `position` perceives it.
    #[must_use]
    pub fn is_noticed_at(&self, position: Position) -> bool {
        self.place.is_within(position, self.reach_cm)
    }
}
