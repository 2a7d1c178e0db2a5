//! What both directions speak of: capabilities, appearance, audiences.

use super::bodies;
use crate::ids::{ContentHash, EntityId, PersonId};

/// The protocol's name in the TLS handshake (ALPN); a new major version gets a new name.
pub const ALPN: &[u8] = b"ecumene/1";

/// The minor version: what this code can speak beyond the first of its major version.
///
/// 1 knows `Interrupted` among the reasons of a refusal.
pub const MINOR: u16 = 1;

/// Feature bits that either side may offer; both use the intersection.
pub mod features {
    /// Ground comes as chunks on request.
    pub const CHUNKS: u64 = 1;
    /// Assets can be fetched and offered.
    pub const ASSETS: u64 = 2;
    /// Voice, face and body tracks as datagrams.
    pub const TRACKS: u64 = 4;
    /// Everything this version knows.
    pub const ALL: u64 = CHUNKS | ASSETS;
}

bodies! {
    /// One thing a side can do, such as `avatar-format = vrm/1`.
    #[derive(Eq)]
    struct Capability {
        /// What it is about: `avatar-format`, `avatar-capable`, `avatar-assisted`, `render`, ...
        pub name: String,
        /// The value offered or chosen.
        pub value: String,
    }

    /// How an avatar looks: a model by content, and what to show until it is there.
    #[derive(Eq, Default, serde::Deserialize)]
    struct Appearance {
        /// The full model, where there is one.
        pub model: Option<ContentHash>,
        /// Height in centimetres.
        pub height_cm: u8,
        /// Build: 0 slight to 255 broad.
        pub build: u8,
        /// Colours of skin, hair, top, legs and shoes as red, green, blue.
        pub colours: [[u8; 3]; 5],
        /// Further parameters, as the model's kind defines them.
        pub recipe: Vec<u8>,
    }

    /// Who shall hear something.
    #[derive(Eq)]
    enum Audience {
        /// Everyone within earshot.
        Nearby,
        /// Those within whispering distance.
        Whisper,
        /// One person, anywhere in the world.
        Person(PersonId),
        /// Everyone who joined the channel.
        Channel(String),
    }

    /// The right to drive an avatar, given to somebody for a time.
    #[derive(Eq)]
    struct Lending {
        /// The avatar.
        pub avatar: EntityId,
        /// Who may drive it.
        pub to: PersonId,
        /// Unix time in seconds at which the right ends.
        pub ends_at: u64,
    }
}
