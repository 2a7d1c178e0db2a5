//! What a server says.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]

use super::common::{Appearance, Audience, Capability};
use super::{bodies, messages};
use crate::ids::{ChunkId, ContentHash, EntityId, PersonId, SessionId, WorldId};
use crate::motion::MotionRules;
use crate::rules::{Event, KindId, Offer, OfferEnd, OfferId, Thing, Why};
use crate::units::{Position, Tick, Yaw};
use crate::utterance::Utterance;

messages! {
    /// Everything a server says on the control stream, and the header of a chunk's own stream.
    ServerMessage {
        /// The first message on a connection, before the client said anything.
        Greeting = 0x8100,
        /// The client is in.
        Welcome = 0x8101,
        /// The client is not let in, or is put out.
        Farewell = 0x8102,
        /// Who and what comes into view, and what leaves it.
        Announce = 0x8103,
        /// A request was carried out and is kept.
        Done = 0x8104,
        /// A request was not carried out.
        Refused = 0x8105,
        /// A request takes time.
        Begun = 0x0106,
        /// Things that happened nearby.
        Happened = 0x0107,
        /// Somebody spoke.
        Heard = 0x0108,
        /// What one holds.
        Holding = 0x8109,
        /// Somebody offers an exchange.
        Offered = 0x010A,
        /// An exchange is no longer on offer.
        OfferEnded = 0x010B,
        /// Word from the operator.
        Notice = 0x010C,
        /// The server will stop.
        Stopping = 0x010D,
        /// World time changes its pace.
        Pace = 0x810E,
        /// The session goes on elsewhere.
        Redirect = 0x810F,
        /// The next ticket to resume with.
        Ticket = 0x0110,
        /// Ground, at the head of a stream of its own.
        Chunk = 0x0111,
    }
}

bodies! {
    /// The first message: what a client must know before it says who it is.
    struct Greeting {
        /// The newest minor version the server speaks.
        pub minor: u16,
        /// Bits of [`features`](super::common::features) the server offers.
        pub features: u64,
        /// Random bytes, new for every connection, that a proof of identity must cover.
        pub nonce: [u8; 32],
        /// The worlds hosted here.
        pub worlds: Vec<WorldName>,
        /// Name and version of the server's software.
        pub software: String,
    }

    /// A world, by id and by name.
    #[derive(Eq)]
    struct WorldName {
        /// Its id.
        pub id: WorldId,
        /// Its name.
        pub name: String,
        /// Whom it is meant for, such as `everyone` or `mature`.
        pub rating: String,
    }

    /// The client is in.
    struct Welcome {
        /// The stay that begins or goes on.
        pub session: SessionId,
        /// Whether an earlier session goes on.
        pub resumed: bool,
        /// Who the client is.
        pub person: PersonId,
        /// The avatar it drives.
        pub avatar: EntityId,
        /// What it may do: `visitor`, `member`, `moderator`, `admin`.
        pub role: String,
        /// The world.
        pub world: WorldName,
        /// Hash of the world's table of kinds and recipes.
        pub rules: ContentHash,
        /// Bits of [`features`](super::common::features) in use.
        pub features: u64,
        /// The tick now.
        pub tick: Tick,
        /// Ticks per second at full pace.
        pub hz: u16,
        /// Pace of world time in thousandths.
        pub pace_permille: u16,
        /// How bodies move here.
        pub motion: MotionRules,
        /// Where the avatar stands.
        pub position: Position,
        /// Where it looks.
        pub yaw: Yaw,
        /// How it looks.
        pub appearance: Appearance,
        /// The ticket to resume with.
        pub ticket: Vec<u8>,
        /// The capabilities in use, out of those offered.
        pub capabilities: Vec<Capability>,
    }

    /// The client is not let in, or is put out; the connection closes with the same code.
    struct Farewell {
        /// See [`CloseCode`](crate::close::CloseCode).
        pub code: u32,
        /// Why, for people.
        pub why: String,
        /// Seconds to wait before trying again; nothing where trying again is in vain.
        pub retry_after_s: Option<u32>,
    }

    /// Changes of what is in view, in force from `since`.
    struct Announce {
        /// Frames of earlier ticks mean the handles' former bearers.
        pub since: Tick,
        /// Handles whose bearers leave view.
        pub vanish: Vec<u16>,
        /// What comes into view.
        pub appear: Vec<Appear>,
    }

    /// Something comes into view, or changes its name or looks.
    struct Appear {
        /// What frames call it.
        pub handle: u16,
        /// What it is called for good.
        pub entity: EntityId,
        /// What it is.
        pub being: Being,
        /// Where it stood at the announcement's tick.
        pub position: Position,
        /// Where it looked.
        pub yaw: Yaw,
        /// Bits of [`flags`](crate::state::flags).
        pub flags: u8,
    }

    /// What comes into view.
    enum Being {
        /// Somebody.
        Avatar {
            /// The person behind it.
            person: PersonId,
            /// Their name.
            name: String,
            /// Their looks.
            appearance: Appearance,
        },
        /// Something.
        Thing {
            /// Its number in the table of kinds.
            kind: KindId,
            /// How many.
            count: u32,
            /// What is written on it.
            text: Option<String>,
        },
    }

    /// A request was carried out, and what it changed is on disk.
    #[derive(Eq)]
    struct Done {
        /// The request.
        pub request: u32,
        /// When it took effect.
        pub tick: Tick,
        /// What was read, or learned, by it.
        pub text: Option<String>,
    }

    /// A request was not carried out, and changed nothing.
    #[derive(Eq)]
    struct Refused {
        /// The request.
        pub request: u32,
        /// Why.
        pub why: Why,
    }

    /// A request takes time.
    #[derive(Eq)]
    struct Begun {
        /// The request.
        pub request: u32,
        /// When it will be done if nothing interrupts it.
        pub until: Tick,
    }

    /// Things that happened nearby, in order.
    struct Happened {
        /// The events.
        pub events: Vec<Event>,
    }

    /// Somebody spoke.
    struct Heard {
        /// When.
        pub tick: Tick,
        /// Who.
        pub person: PersonId,
        /// The avatar that spoke, where it is in the world.
        pub avatar: Option<EntityId>,
        /// Their name.
        pub name: String,
        /// To whom.
        pub to: Audience,
        /// What.
        pub utterance: Utterance,
    }

    /// Everything one holds, whenever it changes.
    struct Holding {
        /// As of when.
        pub tick: Tick,
        /// The things.
        pub things: Vec<Thing>,
    }

    /// Somebody offers an exchange.
    struct Offered {
        /// The offer.
        pub offer: Offer,
    }

    /// An exchange is no longer on offer.
    #[derive(Eq)]
    struct OfferEnded {
        /// Which.
        pub offer: OfferId,
        /// How it ended.
        pub end: OfferEnd,
    }

    /// Word from the operator, or about the session.
    #[derive(Eq)]
    struct Notice {
        /// The words.
        pub text: String,
    }

    /// The server will stop; everyone may come back after it.
    #[derive(Eq)]
    struct Stopping {
        /// Milliseconds until then.
        pub in_ms: u32,
        /// Why, for people.
        pub why: String,
    }

    /// World time changes its pace.
    #[derive(Eq)]
    struct Pace {
        /// Pace in thousandths: 500 runs the world at half speed.
        pub permille: u16,
        /// The first tick at that pace.
        pub from: Tick,
    }

    /// The session goes on elsewhere.
    #[derive(Eq)]
    struct Redirect {
        /// `host:port`.
        pub address: String,
        /// The ticket to resume with.
        pub ticket: Vec<u8>,
    }

    /// The next ticket to resume with; the one before is void.
    #[derive(Eq)]
    struct Ticket {
        /// The ticket.
        pub ticket: Vec<u8>,
    }

    /// Ground; its encoded bytes follow on the same stream up to its end.
    #[derive(Eq)]
    struct Chunk {
        /// Which.
        pub id: ChunkId,
        /// The hash of the bytes that follow.
        pub hash: ContentHash,
        /// How many bytes follow.
        pub length: u32,
    }
}
