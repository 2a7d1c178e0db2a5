//! One thing: what it is, where it is, whose it is, and what it is like.
//!
//! A thing is plain data; who changes it, and whether they may, is decided elsewhere.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]

use serde::{Deserialize, Serialize};

use super::effect::Change;
use super::kind::{Kind, KindId};
use crate::ids::EntityId;
use crate::state::flags;
use crate::units::{Position, Tick, Yaw};

/// Where a thing is. Numbers are stable (the order here).
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
pub enum Holder {
    /// In somebody's hands or pockets.
    Held(EntityId),
    /// In a container.
    Inside(EntityId),
    /// In the world.
    Placed {
        /// Where.
        at: Position,
        /// Which way it faces.
        yaw: Yaw,
    },
}

impl Holder {
    pub(super) const fn of(self) -> Option<EntityId> {
        match self {
            Self::Held(id) | Self::Inside(id) => Some(id),
            Self::Placed { .. } => None,
        }
    }
}

/// Something written.
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
pub struct Note {
    /// Who wrote it; nobody, if the world did.
    pub by: Option<EntityId>,
    /// When.
    pub tick: Tick,
    /// What.
    pub text: String,
}

/// What a thing is like beyond its kind.
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
pub struct State {
    /// Stands open.
    pub open: bool,
    /// Is locked.
    pub locked: bool,
    /// Burns.
    pub lit: bool,
    /// How often it was gathered from since it was full.
    pub gathered: u32,
    /// When it is full again, once nothing is left.
    pub ready_at: Tick,
    /// What is written on it, oldest first.
    pub notes: Vec<Note>,
}

/// A thing, or a stack of equal things.
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
pub struct Thing {
    /// What it is called for good.
    pub id: EntityId,
    /// What it is.
    pub kind: KindId,
    /// How many; at least 1.
    pub count: u32,
    /// Where it is.
    pub holder: Holder,
    /// Whose it is; nobody's, if anybody may take it.
    pub owner: Option<EntityId>,
    /// What it is like.
    pub state: State,
}

impl Thing {
    /// Returns `count` new things of `kind`, nobody's and without a history.
    #[must_use]
    pub fn new(id: EntityId, kind: KindId, count: u32, holder: Holder) -> Self {
        Self { id, kind, count, holder, owner: None, state: State::default() }
    }

    /// Returns whether it is like any other of its kind, so that it can join their stack.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.owner.is_none() && self.state == State::default()
    }

    /// Returns how often it can still be gathered from.
    #[must_use]
    pub fn left(&self, kind: &Kind, now: Tick) -> u32 {
        let Some(gather) = &kind.gather else { return 0 };
        if gather.times <= self.state.gathered && self.state.ready_at <= now {
            return gather.times;
        }
        gather.times.saturating_sub(self.state.gathered)
    }

    /// Returns its bits of [`flags`] at `now`.
    #[must_use]
    pub fn flags(&self, kind: &Kind, now: Tick) -> u8 {
        let open = if self.state.open || self.state.lit { flags::OPEN } else { 0 };
        let is_spent = kind.gather.is_some() && self.left(kind, now) == 0;
        open | if is_spent { flags::SPENT } else { 0 }
    }

    /// Returns where it stands, if it does.
    #[must_use]
    pub const fn place(&self) -> Option<Position> {
        match self.holder {
            Holder::Placed { at, .. } => Some(at),
            Holder::Held(_) | Holder::Inside(_) => None,
        }
    }

    /// Returns what is written on it, newest last, one note to a line; nothing without notes.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let texts: Vec<&str> = self.state.notes.iter().map(|note| note.text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    }

    /// Applies a change of its state.
    pub(super) fn set(&mut self, change: &Change) {
        let state = &mut self.state;
        match change {
            Change::Open(open) => state.open = *open,
            Change::Locked(locked) => state.locked = *locked,
            Change::Lit(lit) => state.lit = *lit,
            Change::Gathered { times, ready_at } => {
                (state.gathered, state.ready_at) = (*times, *ready_at);
            }
            Change::Note { note, keep } => {
                state.notes.push(note.clone());
                let surplus = state.notes.len().saturating_sub(usize::from(*keep));
                state.notes.drain(..surplus);
            }
            Change::Owner(owner) => self.owner = *owner,
        }
    }
}
