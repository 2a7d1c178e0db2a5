//! What an act changes, as plain data: applied by the shard, journalled as one record per act.
//!
//! An effect never decides anything: every condition was checked before it was written down.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]

use serde::{Deserialize, Serialize};

use super::event::Happening;
use super::offer::{Offer, OfferEnd, OfferId};
use super::thing::{Holder, Note, Thing};
use super::verb::Act;
use crate::ids::EntityId;
use crate::units::{Position, Tick};

/// How a body holds itself because of an act. Numbers are stable.
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
pub enum Pose {
    /// Free to move.
    Free = 0,
    /// Sits.
    Sit = 1,
    /// Busy.
    Work = 2,
}

/// A change of one thing's state.
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
pub enum Change {
    /// Opens or closes.
    Open(bool),
    /// Locks or unlocks.
    Locked(bool),
    /// Lights or goes out.
    Lit(bool),
    /// Has been gathered from.
    Gathered {
        /// How often since it was full.
        times: u32,
        /// When it is full again, once nothing is left.
        ready_at: Tick,
    },
    /// Gets a note; the oldest beyond `keep` go.
    Note {
        /// The note.
        note: Note,
        /// How many notes it keeps.
        keep: u8,
    },
    /// Belongs to somebody, or to nobody.
    Owner(Option<EntityId>),
}

/// One change. Numbers are stable (the order here); new ones come at the end.
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
pub enum Effect {
    /// A whole stack goes somewhere else.
    Move {
        /// The stack.
        thing: EntityId,
        /// Where it goes.
        to: Holder,
    },
    /// Part of a stack becomes a stack of its own somewhere else.
    Split {
        /// The stack.
        thing: EntityId,
        /// How many leave it; fewer than it has.
        count: u32,
        /// The new stack.
        new: EntityId,
        /// Where the new stack goes.
        to: Holder,
    },
    /// Part of a stack joins another of its kind; an empty stack vanishes.
    Merge {
        /// The stack that shrinks.
        from: EntityId,
        /// How many.
        count: u32,
        /// The stack that grows.
        into: EntityId,
    },
    /// Something comes into being: it was gathered, made, filled or placed by the world.
    Create(Thing),
    /// Some of a stack is used up; an empty stack vanishes.
    Consume {
        /// The stack.
        thing: EntityId,
        /// How many.
        count: u32,
    },
    /// A thing's state changes.
    Set {
        /// The thing.
        thing: EntityId,
        /// How.
        change: Change,
    },
    /// An offer stands.
    Offer(Offer),
    /// An offer ends.
    EndOffer {
        /// Which.
        offer: OfferId,
        /// How.
        end: OfferEnd,
    },
    /// Somebody begins what takes time.
    Begin(Work),
    /// Somebody is done with it, or stops.
    EndWork {
        /// Who.
        actor: EntityId,
    },
    /// A body holds itself differently; things do not change.
    Pose {
        /// Whose.
        actor: EntityId,
        /// How.
        pose: Pose,
    },
    /// Somebody learns what is written; things do not change.
    Tell {
        /// Who.
        actor: EntityId,
        /// On what.
        thing: EntityId,
        /// What.
        text: String,
    },
}

/// What somebody is busy with.
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
pub struct Work {
    /// Who.
    pub actor: EntityId,
    /// With what.
    pub act: Act,
    /// Where they stood when they began.
    pub from: Position,
    /// Since when.
    pub began: Tick,
    /// Until when, unless interrupted.
    pub until: Tick,
}

/// What comes of an act: one record of the journal.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Outcome {
    /// The changes, to be applied in order and all or none.
    pub effects: Vec<Effect>,
    /// What others may notice, to be numbered by the shard.
    pub happenings: Vec<Happening>,
    /// When it will be done, if it takes time.
    pub until: Option<Tick>,
}
