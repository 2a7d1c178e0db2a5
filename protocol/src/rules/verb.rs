//! The verbs: what can be done, how far it reaches, how long it takes, how far it is noticed.
//!
//! One table ([`VERBS`]) that clients, shards, characters and tasks all plan over. What a verb
//! demands and changes is code, in `carry`, `work`, `social` and `trade`.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]

use serde::{Deserialize, Serialize};

use super::emote::Emote;
use super::kind::{Lot, RecipeId};
use super::offer::OfferId;
use crate::ids::EntityId;
use crate::units::{Position, Yaw};
use crate::utterance::Utterance;

/// What can be done. Numbers are stable; new verbs come at the end.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Verb {
    /// Takes a thing from the ground or out of an open container.
    Take = 0,
    /// Puts a held thing on the ground.
    Drop = 1,
    /// Puts a held thing into an open container.
    Put = 2,
    /// Gives a held thing to somebody.
    Give = 3,
    /// Offers somebody an exchange.
    Offer = 4,
    /// Accepts an offer.
    Accept = 5,
    /// Declines an offer.
    Decline = 6,
    /// Takes back one's own offer.
    Withdraw = 7,
    /// Uses a thing the way it is made for: draws water, eats, lights, sits, rings.
    Use = 8,
    /// Opens a door or a chest.
    Open = 9,
    /// Closes it.
    Close = 10,
    /// Locks or unlocks what one owns.
    Lock = 11,
    /// Gathers what a tree, a rock or a patch of flowers yields.
    Gather = 12,
    /// Makes a thing from others, by hand or at a workbench.
    Make = 13,
    /// Builds a thing where it shall stand.
    Build = 14,
    /// Reads a sign or a board.
    Read = 15,
    /// Writes on a sign or a board.
    Write = 16,
    /// Greets somebody.
    Greet = 17,
    /// Makes a gesture.
    Emote = 18,
    /// Says something to whoever is near.
    Say = 19,
    /// Stops what takes time; stands up.
    Stop = 20,
}

/// One row of the table of verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerbRow {
    /// The verb.
    pub verb: Verb,
    /// What a client or a language model calls it.
    pub name: &'static str,
    /// How far away its target may be, in cm.
    pub reach_cm: u32,
    /// How long it takes unless kind or recipe say otherwise, in milliseconds.
    pub ms: u32,
    /// How far away others perceive it, in cm.
    pub noticed_cm: u32,
    /// Whether it can be done while busy with something else.
    pub while_busy: bool,
    /// What the target is and which arguments go with it.
    pub takes: &'static str,
}

/// Every verb, in the order of their numbers.
pub const VERBS: [VerbRow; 21] = [
    row(Verb::Take, "take", 250, 0, 2_000, false, "target: thing; count"),
    row(Verb::Drop, "drop", 250, 0, 2_000, false, "target: held thing; count, or spot"),
    row(Verb::Put, "put", 250, 0, 2_000, false, "target: container; moved: thing, count"),
    row(Verb::Give, "give", 300, 0, 2_000, false, "target: somebody; moved: thing, count"),
    row(Verb::Offer, "offer", 500, 0, 2_000, false, "target: somebody; deal: give, want"),
    row(Verb::Accept, "accept", 500, 0, 2_000, false, "offer"),
    row(Verb::Decline, "decline", 100_000, 0, 2_000, true, "offer"),
    row(Verb::Withdraw, "withdraw", 100_000, 0, 2_000, true, "offer"),
    row(Verb::Use, "use", 250, 0, 2_000, false, "target: thing"),
    row(Verb::Open, "open", 250, 0, 2_000, false, "target: door or container"),
    row(Verb::Close, "close", 250, 0, 2_000, false, "target: door or container"),
    row(Verb::Lock, "lock", 250, 500, 1_000, false, "target: owned door or container"),
    row(Verb::Gather, "gather", 250, 2_000, 3_000, false, "target: what yields something"),
    row(Verb::Make, "make", 250, 3_000, 2_000, false, "target: station, if any; recipe"),
    row(Verb::Build, "build", 400, 4_000, 3_000, false, "recipe and spot"),
    row(Verb::Read, "read", 400, 0, 500, true, "target: sign or board"),
    row(Verb::Write, "write", 250, 0, 1_000, false, "target: sign or board; text"),
    row(Verb::Greet, "greet", 1_000, 0, 2_000, true, "target: somebody"),
    row(Verb::Emote, "emote", 3_000, 0, 3_000, false, "target: somebody, if any; gesture"),
    row(Verb::Say, "say", 2_000, 0, 2_000, true, "target: somebody, if any; utterance"),
    row(Verb::Stop, "stop", 0, 0, 1_000, true, "nothing"),
];

const fn row(
    verb: Verb,
    name: &'static str,
    reach_cm: u32,
    ms: u32,
    noticed_cm: u32,
    while_busy: bool,
    takes: &'static str,
) -> VerbRow {
    VerbRow { verb, name, reach_cm, ms, noticed_cm, while_busy, takes }
}

impl Verb {
    /// Returns this verb's row of the table.
    #[must_use]
    pub fn row(self) -> &'static VerbRow {
        VERBS.get(usize::from(self as u8)).expect("VERBS has a row for every verb, by number")
    }

    /// Returns the verb of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        VERBS.iter().find(|row| row.name == name).map(|row| row.verb)
    }

    /// Returns the verb of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        VERBS.get(usize::from(number)).map(|row| row.verb)
    }
}

/// What somebody asks to do.
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
pub struct Act {
    /// What to do.
    pub verb: Verb,
    /// To what or whom; see the verb's row.
    pub target: Option<EntityId>,
    /// The rest.
    pub args: Args,
}

impl Act {
    /// Returns the act without a target or arguments.
    #[must_use]
    pub const fn new(verb: Verb) -> Self {
        Self { verb, target: None, args: Args::None }
    }

    /// Returns the act on `target`.
    #[must_use]
    pub const fn on(verb: Verb, target: EntityId) -> Self {
        Self { verb, target: Some(target), args: Args::None }
    }

    /// Returns this act with `args`.
    #[must_use]
    pub fn with(self, args: Args) -> Self {
        Self { args, ..self }
    }
}

/// What goes with a verb. Numbers are stable (the order here); new ones come at the end.
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
pub enum Args {
    /// Nothing: the whole stack, where a count is meant.
    None,
    /// How many.
    Count(u32),
    /// How many, and where to put them.
    Spot {
        /// How many.
        count: u32,
        /// Where; the height is the ground's.
        at: Position,
        /// Which way it faces.
        yaw: Yaw,
    },
    /// Which held thing, and how many of it.
    Moved {
        /// The thing.
        thing: EntityId,
        /// How many.
        count: u32,
    },
    /// The terms of an exchange.
    Deal {
        /// What one gives: held things and how many of each.
        give: Vec<Portion>,
        /// What one wants for it.
        want: Vec<Lot>,
    },
    /// Which offer.
    Offer(OfferId),
    /// Which recipe.
    Recipe(RecipeId),
    /// Which recipe, and where its product shall stand.
    Site {
        /// The recipe.
        recipe: RecipeId,
        /// Where; the height is the ground's.
        at: Position,
        /// Which way it faces.
        yaw: Yaw,
    },
    /// What to write, at most 280 characters.
    Text(String),
    /// Which gesture.
    Emote(Emote),
    /// What to say.
    Say(Utterance),
}

/// Some of a stack.
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
pub struct Portion {
    /// The stack.
    pub thing: EntityId,
    /// How many of it.
    pub count: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_numbers() {
        for (number, row) in VERBS.iter().enumerate() {
            assert_eq!(usize::from(row.verb as u8), number);
            assert_eq!(Verb::named(row.name), Some(row.verb));
        }
        assert_eq!(Verb::from_number(21), None);
    }

    #[test]
    fn numbers_on_the_wire_are_those_of_the_table() {
        for row in &VERBS {
            let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&row.verb).unwrap();
            assert_eq!(bytes.as_slice(), [row.verb as u8]);
        }
    }
}
