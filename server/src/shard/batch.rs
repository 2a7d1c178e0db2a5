//! What goes into one step of a shard, and what comes out of it.
//!
//! One batch in and one batch out per tick and shard, in this process or over a link: no message
//! per avatar, and nothing a step needs that is not in its batch.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::ids::{ChunkId, EntityId, PersonId};
use protocol::input::InputDatagram;
use protocol::message::ServerMessage;
use protocol::message::common::Appearance;
use protocol::message::server::{Heard, OfferEnded};
use protocol::motion::Body;
use protocol::rules::{Act, Event, Thing, ThingsRecord};
use protocol::units::{Position, Tick, Yaw};
use protocol::utterance::Utterance;
use rkyv::with::AsVec;
use worldgen::chunk::Chunk;

use super::avatar::Avatar;
use super::divide::Redivision;
use super::ghosts::GhostBatch;
use super::pack::AsSamples;
use super::viewer::{ClientKey, Told, Viewer};
use crate::region::{RegionIndex, Regions};
use crate::store::Epoch;

/// What the world outside asks of a shard; applied in order at the start of a step.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Command {
    /// Puts an avatar in, with what it holds.
    Enter(Box<Traveller>),
    /// Takes an avatar out of the world.
    Leave {
        /// Which.
        avatar: EntityId,
    },
    /// Begins to show an avatar's surroundings to a client; an earlier one is shown no more.
    Attach {
        /// Which avatar.
        avatar: EntityId,
        /// To whom.
        client: ClientKey,
        /// Who is not to be shown.
        #[rkyv(with = AsVec)]
        hidden: BTreeSet<EntityId>,
        /// What the client was announced before, by a shard that was lost.
        told: Told,
    },
    /// Stops showing; the avatar stays, away, and stands still.
    Detach {
        /// Which avatar.
        avatar: EntityId,
        /// Whether it also stops what it is at: the driver's right has ended.
        stops: bool,
    },
    /// Does something.
    Do {
        /// Who acts.
        avatar: EntityId,
        /// The client's number for it.
        request: u32,
        /// What.
        act: Act,
    },
    /// Stops something begun.
    Cancel {
        /// Who.
        avatar: EntityId,
        /// The client's number of it.
        request: u32,
    },
    /// Speaks to those near.
    Say {
        /// Through which avatar.
        avatar: EntityId,
        /// Who: the avatar's owner, or who drives it in their stead.
        speaker: Speaker,
        /// The client's number for it.
        request: u32,
        /// Whether only those at arm's length shall hear.
        whisper: bool,
        /// What.
        utterance: Utterance,
    },
    /// Changes an avatar's looks.
    Wear {
        /// Which avatar.
        avatar: EntityId,
        /// The new looks.
        appearance: Appearance,
    },
    /// Hides one entity from an avatar's client, or shows it again.
    Hide {
        /// Whose view.
        avatar: EntityId,
        /// Who is hidden.
        other: EntityId,
        /// Whether to hide.
        hidden: bool,
    },
    /// Puts an avatar somewhere else, as an operator wishes.
    Place {
        /// Which avatar.
        avatar: EntityId,
        /// Where.
        position: Position,
    },
    /// Lays ground.
    Ground(#[rkyv(with = AsSamples)] Arc<Chunk>),
    /// Puts things in that are stored, or that a new world starts with.
    Things(Vec<Thing>),
    /// What a neighbour's side of the border looks like.
    Ghosts(GhostBatch),
    /// The neighbour's shard starts anew: it is told of everything near again.
    TellAnew(RegionIndex),
    /// The world is divided otherwise from now on.
    Redivide(Arc<Redivision>),
    /// Something that happened next door and can be perceived here.
    Ripple(Arc<Ripple>),
    /// Tells a party of an offer that it has ended, wherever the other one ended it.
    EndOffer {
        /// Who is told.
        avatar: EntityId,
        /// What.
        ended: OfferEnded,
    },
}

/// Who speaks, as others are told.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Speaker {
    /// The person.
    pub person: PersonId,
    /// Their name.
    pub name: String,
}

impl Command {
    /// Returns the client's number for what it waits to be answered.
    #[must_use]
    pub const fn request(&self) -> Option<u32> {
        if let Self::Do { request, .. } | Self::Say { request, .. } = self {
            return Some(*request);
        }
        None
    }

    /// Returns the avatar without which the command means nothing.
    #[must_use]
    pub const fn avatar(&self) -> Option<EntityId> {
        match self {
            Self::Leave { avatar }
            | Self::Attach { avatar, .. }
            | Self::Detach { avatar, .. }
            | Self::Do { avatar, .. }
            | Self::Cancel { avatar, .. }
            | Self::Say { avatar, .. }
            | Self::Wear { avatar, .. }
            | Self::Hide { avatar, .. }
            | Self::Place { avatar, .. }
            | Self::EndOffer { avatar, .. } => Some(*avatar),
            Self::Enter(_)
            | Self::Ground(_)
            | Self::Things(_)
            | Self::Ghosts(_)
            | Self::TellAnew(_)
            | Self::Redivide(_)
            | Self::Ripple(_) => None,
        }
    }
}

/// Something perceivable that spreads from a place.
#[derive(Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Ripple {
    /// Where it began.
    pub place: Position,
    /// How far it is perceived, in centimetres.
    pub reach_cm: u32,
    /// Whose doing it is.
    pub actor: EntityId,
    /// What it is.
    pub what: Perceived,
}

/// What can be perceived.
#[derive(Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Perceived {
    /// Somebody did something.
    Event(Event),
    /// Somebody spoke.
    Speech(Heard),
}

/// Somebody on the way from one shard to another, with all they own.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Traveller {
    /// The avatar.
    pub avatar: Avatar,
    /// What it holds, offers and is at.
    pub things: ThingsRecord,
    /// What its client was shown so far.
    pub viewer: Option<Box<Viewer>>,
    /// What it set out to do over there.
    pub errand: Option<(u32, Act)>,
}

/// What goes into one step.
#[derive(Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StepInput {
    /// The tick to step to.
    pub tick: Tick,
    /// As whom the shard makes this step.
    pub epoch: Epoch,
    /// Pace of world time in thousandths.
    pub pace_permille: u16,
    /// Bytes of each client's frame.
    pub frame_bytes_max: usize,
    /// Whether to say where everyone is.
    pub is_survey: bool,
    /// What clients sent, by avatar.
    pub inputs: Vec<(EntityId, InputDatagram)>,
    /// What else is asked.
    pub commands: Vec<Command>,
}

/// What comes out of one step.
#[derive(Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StepOutput {
    /// As whom the shard made it: who goes to a neighbour, what neighbours are shown and what is to
    /// be stored is an earlier owner's, and counts for nothing, once the region has another.
    pub epoch: Epoch,
    /// The frames of this tick, one behind another.
    pub frame_bytes: Vec<u8>,
    /// Whose frames they are, and where each ends in `frame_bytes`.
    pub frames: Vec<(ClientKey, usize)>,
    /// What clients are told reliably, in order.
    pub letters: Vec<Letter>,
    /// What must be stored, in order; each entry is all or nothing.
    pub journal: Vec<Entry>,
    /// Who leaves for another region.
    pub travellers: Vec<(RegionIndex, Box<Traveller>)>,
    /// What was put down in another region.
    pub things: Vec<(RegionIndex, Vec<Thing>)>,
    /// Commands for avatars that are not here: they follow a traveller, go to where its avatar is
    /// by now, or mean nothing any more.
    pub strays: Vec<Command>,
    /// Who has left the world, and where they stood.
    pub departed: Vec<Whereabouts>,
    /// What neighbours are shown.
    pub ghosts: Vec<(RegionIndex, GhostBatch)>,
    /// What neighbours may perceive.
    pub ripples: Vec<(RegionIndex, Arc<Ripple>)>,
    /// Ground that is missing under or around avatars, for which shard, and how many metres off.
    pub wanted: Vec<(RegionIndex, ChunkId, u32)>,
    /// Where everyone is, if that was asked.
    pub whereabouts: Vec<Whereabouts>,
    /// Whether it was.
    pub is_survey: bool,
    /// What the step did, for those who watch.
    pub counts: Counts,
}

/// What a step in another process put out and no shard does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOutput {
    /// A frame ends outside the bytes of all of them, or before it begins.
    #[error("frame {index} ends at byte {end} of {bytes}")]
    Frame {
        /// Which frame.
        index: usize,
        /// Where it should end.
        end: usize,
        /// Bytes of all frames.
        bytes: usize,
    },
    /// It names a region that the world never had.
    #[error("something for region {0}, which is none of this world")]
    Region(u32),
}

impl StepOutput {
    /// Checks what came from another process; what a step of this one puts out always holds.
    ///
    /// # Errors
    /// The first [`BadOutput`]; the other process is at fault.
    pub fn check(&self, regions: &Regions) -> Result<(), BadOutput> {
        let bytes = self.frame_bytes.len();
        let mut start = 0;
        for (index, &(_, end)) in self.frames.iter().enumerate() {
            if end < start || bytes < end {
                return Err(BadOutput::Frame { index, end, bytes });
            }
            start = end;
        }
        let named = (self.travellers.iter().map(|(region, _)| region))
            .chain(self.things.iter().map(|(region, _)| region))
            .chain(self.ghosts.iter().map(|(region, _)| region))
            .chain(self.ripples.iter().map(|(region, _)| region))
            .chain(self.wanted.iter().map(|(region, ..)| region));
        match named.into_iter().find(|region| !regions.has_given(**region)) {
            Some(region) => Err(BadOutput::Region(region.0)),
            None => Ok(()),
        }
    }
}

/// A reliable message to one client.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Letter {
    /// To whom.
    pub to: ClientKey,
    /// What.
    pub message: ServerMessage,
    /// The journal entry of this step that must be durable before it is sent.
    pub after: Option<usize>,
}

/// Changes to stored state that belong together.
#[derive(Clone, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Entry {
    /// The changes.
    pub changes: Vec<Change>,
    /// What happened, for the audit trail.
    pub event: Option<Event>,
}

/// One change to stored state.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Change {
    /// A thing is as given, and kept with its holder: a person, or the world.
    Keep {
        /// The thing.
        thing: Thing,
        /// The person whose avatar holds it.
        holder: Option<PersonId>,
    },
    /// A thing is no longer kept with this holder.
    Drop {
        /// The thing's id.
        thing: EntityId,
        /// The person whose avatar held it.
        holder: Option<PersonId>,
    },
    /// An avatar's looks.
    Looks {
        /// Whose avatar.
        person: PersonId,
        /// The looks.
        appearance: Appearance,
    },
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Counts {
    /// Avatars stepped here.
    pub avatars: usize,
    /// Things of this shard.
    pub things: usize,
    /// Neighbours' entities shown here.
    pub ghosts: usize,
    /// Clients shown something.
    pub clients: usize,
    /// Inputs applied.
    pub inputs_applied: usize,
    /// Inputs repeated because none came in time.
    pub inputs_missed: usize,
}

/// Where an avatar is, for what must be kept of it softly.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Whereabouts {
    /// Which avatar.
    pub avatar: EntityId,
    /// Whose.
    pub person: PersonId,
    /// Where.
    pub position: Position,
    /// Looking where.
    pub yaw: Yaw,
}

impl Whereabouts {
    /// Returns where a body is.
    #[must_use]
    pub fn of(avatar: EntityId, person: PersonId, body: &Body) -> Self {
        Self { avatar, person, position: body.position(), yaw: body.yaw }
    }
}
