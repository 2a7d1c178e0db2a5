//! What a client says.

use super::common::{Appearance, Audience, Capability, Lending};
use super::{bodies, messages};
use crate::ids::{ChunkId, EntityId, PersonId, WorldId};
use crate::rules::Act;
use crate::utterance::Utterance;

messages! {
    /// Everything a client says on the control stream.
    ClientMessage {
        /// The first message: who asks to come in.
        Hello = 0x8001,
        /// Does something in the world.
        Do = 0x8002,
        /// Stops what was begun.
        Cancel = 0x0003,
        /// Speaks.
        Say = 0x8004,
        /// Enters or leaves a channel.
        Tune = 0x0005,
        /// Changes how one's avatar looks.
        Wear = 0x0006,
        /// Stops hearing or seeing somebody.
        Ignore = 0x0007,
        /// Lets somebody drive one's avatar.
        Lend = 0x8008,
        /// Ends a lending at once.
        Recall = 0x8009,
        /// Names the ground that is wanted.
        Want = 0x000A,
        /// Leaves the world in good order.
        Leave = 0x000B,
    }
}

bodies! {
    /// The first message: who asks to come in, and what they can do.
    struct Hello {
        /// The newest minor version the client speaks.
        pub minor: u16,
        /// Bits of [`features`](super::common::features) the client wants.
        pub features: u64,
        /// The world asked for; nothing takes whichever is hosted.
        pub world: Option<WorldId>,
        /// The name to show to others.
        pub name: String,
        /// Name and version of the client's software.
        pub software: String,
        /// Proof of an identity key; nothing comes as a passing guest.
        pub identity: Option<IdentityProof>,
        /// An operator's token.
        pub token: Option<Vec<u8>>,
        /// The ticket of a session to continue.
        pub resume: Option<Vec<u8>>,
        /// An avatar of somebody else's, to be driven under a lending.
        pub drive: Option<EntityId>,
        /// What the client can do, an offer that the welcome answers.
        pub capabilities: Vec<Capability>,
    }

    /// Proof that the client holds an Ed25519 key.
    ///
    /// The signature covers `"ecumene/1 hello\0"`, the server's identity key (32 bytes) and the
    /// greeting's nonce (32 bytes), so that no other server can pass it on.
    struct IdentityProof {
        /// The public key.
        pub key: [u8; 32],
        /// The signature.
        #[serde(serialize_with = "shown_bytes")]
        pub signature: [u8; 64],
    }

    /// Does something in the world; answered by `Done` or `Refused`.
    struct Do {
        /// The client's number for this request; later than all it sent before.
        pub request: u32,
        /// What to do.
        pub act: Act,
    }

    /// Stops an act that takes time, or withdraws an offer.
    struct Cancel {
        /// The number of the request to stop.
        pub request: u32,
    }

    /// Speaks; answered by `Done` or `Refused`.
    struct Say {
        /// The client's number for this request.
        pub request: u32,
        /// To whom.
        pub to: Audience,
        /// What is said, and how.
        pub utterance: Utterance,
    }

    /// Enters or leaves a channel.
    struct Tune {
        /// The channel's name.
        pub channel: String,
        /// Whether to be in it.
        pub joined: bool,
    }

    /// Changes how one's avatar looks.
    struct Wear {
        /// The new looks.
        pub appearance: Appearance,
    }

    /// Sets what a person wants to perceive of another.
    struct Ignore {
        /// The other person.
        pub person: PersonId,
        /// How far.
        pub degree: Degree,
    }

    /// How far another person is ignored.
    #[derive(Eq, Copy, serde::Deserialize)]
    enum Degree {
        /// Not at all.
        None,
        /// Not heard.
        Mute,
        /// Neither heard nor seen, and they do not see us.
        Block,
    }

    /// Lets somebody drive one's avatar until a moment; refused unless the world allows it.
    struct Lend {
        /// The client's number for this request.
        pub request: u32,
        /// Which avatar, to whom, until when.
        pub lending: Lending,
    }

    /// Ends every lending of an avatar to a person at once.
    struct Recall {
        /// The client's number for this request.
        pub request: u32,
        /// The avatar.
        pub avatar: EntityId,
        /// Whose right ends.
        pub to: PersonId,
    }

    /// Names the ground that is wanted, most urgent first; it replaces the list before it, and
    /// what is on neither list any more is cancelled.
    struct Want {
        /// The chunks.
        pub chunks: Vec<ChunkId>,
    }

    /// Leaves in good order: the avatar goes at once and is kept.
    struct Leave {
        /// Whether the avatar may stay asleep in the world instead of going.
        pub sleep: bool,
    }
}

/// Shows bytes as a list, which serde does for short arrays only.
fn shown_bytes<S: serde::Serializer>(bytes: &[u8; 64], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(bytes)
}

impl IdentityProof {
    /// Returns the bytes that the signature covers.
    #[must_use]
    pub fn covered(server_key: &[u8; 32], nonce: &[u8; 32]) -> Vec<u8> {
        [b"ecumene/1 hello\0".as_slice(), server_key, nonce].concat()
    }
}
