//! Kinds of things and recipes: what a thing can be, and what can be made of it.
//!
//! Everything here is resolved and within bounds; `book` reads it from text and checks it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ground::Pillar;
use crate::state::flags;
use crate::units::Position;

/// The number of a kind of thing, stable within a rule book's life.
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
    Default,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct KindId(pub u16);

/// The number of a recipe, stable within a rule book's life.
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
    Default,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct RecipeId(pub u16);

impl fmt::Display for KindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kind {}", self.0)
    }
}

/// Some things of one kind.
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
pub struct Lot {
    /// Of what kind.
    pub kind: KindId,
    /// How many.
    pub count: u32,
}

/// What a thing can be.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Kind {
    /// Its number.
    pub id: KindId,
    /// What one is called.
    pub name: String,
    /// What several are called.
    pub plural: String,
    /// What it looks like in the world: a name that renderers know.
    pub look: String,
    /// What it is good for, for people and planners.
    pub about: String,
    /// How many make a full stack; 1 for things with a state of their own.
    pub stack: u32,
    /// Whether it can be carried.
    pub portable: bool,
    /// The space it blocks where it stands.
    pub solid: Option<Solid>,
    /// What it yields when gathered from.
    pub gather: Option<Gather>,
    /// Whether it opens, closes and locks.
    pub opens: bool,
    /// Stacks it holds, 0 if it is no container.
    pub holds: u8,
    /// Notes that can be written on it, 0 if none; one is kept as the newest.
    pub notes: u8,
    /// Whether anybody may write on it, and not only its owner.
    pub public: bool,
    /// Whether recipes are made at it.
    pub station: bool,
    /// What using it does.
    pub uses: Option<Uses>,
}

impl Kind {
    /// Returns whether each thing of this kind has a state of its own, so that none stack.
    #[must_use]
    pub const fn is_singular(&self) -> bool {
        self.opens
            || 0 < self.holds
            || 0 < self.notes
            || self.gather.is_some()
            || matches!(self.uses, Some(Uses::Light))
    }

    /// Returns whether it is a door: it opens, and nothing is kept in it.
    #[must_use]
    pub const fn is_door(&self) -> bool {
        self.opens && self.holds == 0
    }

    /// Returns what a thing of this kind blocks that stands at `at` and shows `flags`, if it does:
    /// the one answer for the server's movement and a client's prediction of it.
    #[must_use]
    pub fn pillar(&self, at: Position, flags: u8) -> Option<Pillar> {
        let solid = self.solid.filter(|_| !self.is_door() || is_shut(flags))?;
        Some(Pillar {
            x: at.x,
            z: at.z,
            radius: i32::from(solid.radius_cm),
            top: at.y.saturating_add(i32::from(solid.height_cm)),
        })
    }

    /// Returns the name that goes with `count`.
    #[must_use]
    pub fn name_of(&self, count: u32) -> &str {
        if count == 1 { &self.name } else { &self.plural }
    }
}

/// Returns whether a door that shows `flags` is shut.
#[must_use]
pub const fn is_shut(flags: u8) -> bool {
    flags & flags::OPEN == 0
}

/// The upright cylinder a thing blocks.
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
#[serde(deny_unknown_fields)]
pub struct Solid {
    /// Its radius in cm.
    pub radius_cm: u16,
    /// Its height in cm.
    pub height_cm: u16,
}

/// How a thing is gathered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Gather {
    /// What one gets each time.
    pub yields: Lot,
    /// How often until nothing is left.
    pub times: u32,
    /// How long until there is more, in milliseconds.
    pub regrow_ms: u32,
    /// What one must hold for it.
    pub tool: Option<KindId>,
    /// How long it takes, in milliseconds.
    pub ms: u32,
}

/// What using a thing does.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Uses {
    /// Fills the first vessel one holds: pairs of empty and filled kind.
    Fill(Vec<(KindId, KindId)>),
    /// Eats or drinks it; what is left in hand, if anything.
    Eat(Option<KindId>),
    /// Lights it, or puts it out.
    Light,
    /// Sits down on it.
    Sit,
    /// Rings it, far and wide.
    Ring,
}

/// How a thing is made of others.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Recipe {
    /// Its number.
    pub id: RecipeId,
    /// What it is called.
    pub name: String,
    /// What comes of it.
    pub output: Lot,
    /// What is used up.
    pub inputs: Vec<Lot>,
    /// At what kind of station it is made, by hand if none.
    pub station: Option<KindId>,
    /// What one must hold for it.
    pub tool: Option<KindId>,
    /// How long it takes, in milliseconds.
    pub ms: u32,
    /// Whether the product is built where it shall stand (`build`) and not put in the maker's
    /// hands (`make`).
    pub built: bool,
}
