//! The listing of everything that is archived on the wire.
//!
//! The compiler holds it to the definitions: a new field or variant stops the build here.

use protocol::ids::{ChunkId, ContentHash, EntityId, PersonId, SessionId, WorldId};
use protocol::message::Body;
use protocol::message::asset::*;
use protocol::message::client::*;
use protocol::message::common::*;
use protocol::message::server::*;
use protocol::motion::MotionRules;
use protocol::rules::*;
use protocol::units::{Position, Tick, Yaw};
use protocol::utterance::{Clause, Emotion, Gaze, Utterance};
use rkyv::Archived;

use crate::schema::{
    Enum, Row, Scalar, Struct, Wire, any, behind_the_tag, bytes_of, enums, scalars, structs,
};

scalars! {
    EntityId = u64,
    PersonId = u64,
    SessionId = u64,
    WorldId = u64,
    OfferId = u64,
    KindId = u16,
    RecipeId = u16,
    Tick = u64,
    Yaw = u16,
    ContentHash = [u8; 32],
}

structs! {
    Hello = Hello::KIND; {
        minor: u16, features: u64, world: Option<WorldId>, name: String, software: String,
        identity: Option<IdentityProof>, token: Option<Vec<u8>>, resume: Option<Vec<u8>>,
        drive: Option<EntityId>, capabilities: Vec<Capability>,
    }
    Do = Do::KIND; { request: u32, act: Act }
    Cancel = Cancel::KIND; { request: u32 }
    Say = Say::KIND; { request: u32, to: Audience, utterance: Utterance }
    Tune = Tune::KIND; { channel: String, joined: bool }
    Wear = Wear::KIND; { appearance: Appearance }
    Ignore = Ignore::KIND; { person: PersonId, degree: Degree }
    Lend = Lend::KIND; { request: u32, lending: Lending }
    Recall = Recall::KIND; { request: u32, avatar: EntityId, to: PersonId }
    Want = Want::KIND; { chunks: Vec<ChunkId> }
    Leave = Leave::KIND; { sleep: bool }

    Greeting = Greeting::KIND; {
        minor: u16, features: u64, nonce: [u8; 32], worlds: Vec<WorldName>, software: String,
    }
    Welcome = Welcome::KIND; {
        session: SessionId, resumed: bool, person: PersonId, avatar: EntityId, role: String,
        world: WorldName, rules: ContentHash, features: u64, tick: Tick, hz: u16,
        pace_permille: u16, motion: MotionRules, position: Position, yaw: Yaw,
        appearance: Appearance, ticket: Vec<u8>, capabilities: Vec<Capability>,
    }
    Farewell = Farewell::KIND; { code: u32, why: String, retry_after_s: Option<u32> }
    Announce = Announce::KIND; { since: Tick, vanish: Vec<u16>, appear: Vec<Appear> }
    Done = Done::KIND; { request: u32, tick: Tick, text: Option<String> }
    Refused = Refused::KIND; { request: u32, why: Why }
    Begun = Begun::KIND; { request: u32, until: Tick }
    Happened = Happened::KIND; { events: Vec<Event> }
    Heard = Heard::KIND; {
        tick: Tick, person: PersonId, avatar: Option<EntityId>, name: String, to: Audience,
        utterance: Utterance,
    }
    Holding = Holding::KIND; { tick: Tick, things: Vec<Thing> }
    Offered = Offered::KIND; { offer: Offer }
    OfferEnded = OfferEnded::KIND; { offer: OfferId, end: OfferEnd }
    Notice = Notice::KIND; { text: String }
    Stopping = Stopping::KIND; { in_ms: u32, why: String }
    Pace = Pace::KIND; { permille: u16, from: Tick }
    Redirect = Redirect::KIND; { address: String, ticket: Vec<u8> }
    Ticket = Ticket::KIND; { ticket: Vec<u8> }
    Chunk = Chunk::KIND; { id: ChunkId, hash: ContentHash, length: u32 }

    OfferAsset = OfferAsset::KIND; {
        hash: ContentHash, length: u64, media: String, name: String, audience: AssetAudience,
        keep_s: u32,
    }
    FetchAsset = FetchAsset::KIND; { hash: ContentHash, offset: u64 }
    WithdrawAsset = WithdrawAsset::KIND; { hash: ContentHash }
    AssetWanted = AssetWanted::KIND; { from: u64 }
    AssetKept = AssetKept::KIND; { until: u64 }
    AssetRefused = AssetRefused::KIND; { why: AssetWhy }
    AssetFound = AssetFound::KIND; {
        length: u64, media: String, name: String, until: Option<u64>,
    }
    AssetWithheld = AssetWithheld::KIND; { hash: ContentHash }

    Act; { verb: Verb, target: Option<EntityId>, args: Args }
    Appear; {
        handle: u16, entity: EntityId, being: Being, position: Position, yaw: Yaw, flags: u8,
    }
    Appearance; {
        model: Option<ContentHash>, height_cm: u8, build: u8, colours: [[u8; 3]; 5],
        recipe: Vec<u8>,
    }
    Capability; { name: String, value: String }
    ChunkId; { level: u8, x: i32, z: i32 }
    Clause; {
        text: String, emotion: Emotion, intensity: u8, gesture: Option<Emote>, gaze: Gaze,
        start_ms: u32, duration_ms: u32,
    }
    Event; {
        id: u64, tick: Tick, place: Position, actor: EntityId, verb: Verb, phase: Phase,
        target: Option<EntityId>, reach_cm: u32, detail: Detail,
    }
    IdentityProof; { key: [u8; 32], signature: [u8; 64] }
    Lending; { avatar: EntityId, to: PersonId, ends_at: u64 }
    Lot; { kind: KindId, count: u32 }
    MotionRules; {
        hz: u16, walk_cm_s: u16, run_cm_s: u16, swim_cm_s: u16, fly_cm_s: u16, jump_cm_s: u16,
        gravity_cm_s2: u16, acceleration_cm_s2: u16, air_acceleration_cm_s2: u16,
        slope_permille: u16, step_cm: u16, sea_level_cm: i32, fly: bool, half_width_cm: i32,
        ceiling_cm: i32,
    }
    Note; { by: Option<EntityId>, tick: Tick, text: String }
    Offer; {
        id: OfferId, from: EntityId, to: EntityId, give: Vec<Portion>, give_lots: Vec<Lot>,
        want: Vec<Lot>, until: Tick,
    }
    Portion; { thing: EntityId, count: u32 }
    Position; { x: i32, y: i32, z: i32 }
    State; { open: bool, locked: bool, lit: bool, gathered: u32, ready_at: Tick, notes: Vec<Note> }
    Thing; {
        id: EntityId, kind: KindId, count: u32, holder: Holder, owner: Option<EntityId>,
        state: State,
    }
    Utterance; { clauses: Vec<Clause> }
    WorldName; { id: WorldId, name: String, rating: String }
}

enums! {
    Args {
        None,
        Count(u32),
        Spot { count: u32, at: Position, yaw: Yaw },
        Moved { thing: EntityId, count: u32 },
        Deal { give: Vec<Portion>, want: Vec<Lot> },
        Offer(OfferId),
        Recipe(RecipeId),
        Site { recipe: RecipeId, at: Position, yaw: Yaw },
        Text(String),
        Emote(Emote),
        Say(Utterance),
    }
    AssetAudience { Owner, Persons(Vec<PersonId>), Everyone }
    AssetWhy {
        Forbidden,
        Muted,
        Length { max: u64 },
        Media,
        Name,
        Audience,
        Quota { bytes_left: u64, assets_left: u32 },
        Full,
        TooMany { retry_ms: u32 },
        Corrupt,
        Short { got: u64 },
        Offset { length: u64 },
        Store,
    }
    Audience { Nearby, Whisper, Person(PersonId), Channel(String) }
    Being {
        Avatar { person: PersonId, name: String, appearance: Appearance },
        Thing { kind: KindId, count: u32, text: Option<String> },
    }
    Degree { None, Mute, Block }
    Detail {
        None,
        Lot(Lot),
        Made { recipe: RecipeId, output: Lot },
        Offered(OfferId),
        Traded { offer: OfferId, gave: Vec<Lot>, got: Vec<Lot> },
        Wrote(String),
        Emote(Emote),
        Said(Utterance),
        Switched(bool),
    }
    Emote {
        Wave, Bow, Nod, Shake, Point, Clap, Dance, Sit, Shrug, Laugh, Cry, Salute, Beckon, Think,
    }
    Emotion { Neutral, Happy, Sad, Angry, Afraid, Surprised, Disgusted, Warm, Unsure }
    Gaze { Listener, Away, At(EntityId) }
    Holder { Held(EntityId), Inside(EntityId), Placed { at: Position, yaw: Yaw } }
    OfferEnd { Accepted, Declined, Withdrawn, Expired }
    Phase { Done, Began, Stopped }
    Verb {
        Take, Drop, Put, Give, Offer, Accept, Decline, Withdraw, Use, Open, Close, Lock, Gather,
        Make, Build, Read, Write, Greet, Emote, Say, Stop,
    }
    Why {
        TooFar { cm: u32, reach_cm: u32 },
        NotThere,
        NoTarget,
        BadArgs,
        NotPossible,
        NotHolding { held: u32 },
        Full { stacks_max: u32 },
        NoRoom,
        Busy { until: Tick },
        Locked,
        Closed,
        Already,
        Spent { until: Tick },
        NoSuchRecipe,
        NeedsStation { station: KindId },
        Missing { kind: KindId, count: u32 },
        TheyLack { kind: KindId, count: u32 },
        NotYours,
        NotPortable,
        NoSuchOffer,
        TooManyOffers { max: u32 },
        TooMuchBuilt { max: u32 },
        Muted,
        OutOfOrder,
        TextTooLong { chars: u32 },
        BadText,
        BadUtterance,
        Idle,
        Forbidden,
        TooMany { retry_ms: u32 },
        Interrupted,
    }
}
