//! The values behind the golden vectors: every kind, every variant, short and long strings,
//! empty and full lists.

use protocol::delta::Acks;
use protocol::ids::{ChunkId, ContentHash, EntityId, PersonId, SessionId, WorldId};
use protocol::input::{FLY_UP, Input, InputDatagram, InputHead, JUMP, RUN};
use protocol::message::client::*;
use protocol::message::common::*;
use protocol::message::server::*;
use protocol::message::{ClientMessage, ServerMessage};
use protocol::motion::MotionRules;
use protocol::rules::*;
use protocol::units::{Position, Tick, Yaw};
use protocol::utterance::{Clause, Emotion, Gaze, Utterance};
use serde_json::{Value, json};

/// A vector's name, what it shows, and its value.
type Named<T> = (&'static str, &'static str, T);

fn named<T, M: From<T>>(name: &'static str, about: &'static str, value: T) -> Named<M> {
    (name, about, value.into())
}

/// Everything a client can say.
pub fn client() -> Vec<Named<ClientMessage>> {
    let mut all = hellos();
    all.extend(acts());
    all.extend([
        named("cancel", "stops request 7", Cancel { request: 7 }),
        named("say-nearby", "a short word to everyone near", say(8, Audience::Nearby, "Hello!")),
        named("say-whisper", "a whisper", say(9, Audience::Whisper, "psst, over here")),
        named("say-person", "to somebody anywhere", say(10, Audience::Person(PersonId(77)), "hi")),
        named(
            "say-channel",
            "to a channel with a long name, with everything a clause can have",
            Say { request: 11, to: Audience::Channel("market-day".into()), utterance: ornate() },
        ),
        named("tune-in", "enters a channel", Tune { channel: "trade".into(), joined: true }),
        named("tune-out", "leaves a channel", Tune { channel: "market-day".into(), joined: false }),
        named("wear", "new looks with a model", Wear { appearance: dressed() }),
        named("ignore", "mutes somebody", ignore(Degree::Mute)),
        named("ignore-block", "blocks somebody", ignore(Degree::Block)),
        named("ignore-none", "hears and sees somebody again", ignore(Degree::None)),
        named("lend", "lends an avatar", Lend { request: 12, lending: lending() }),
        named(
            "recall",
            "ends the lending",
            Recall { request: 13, avatar: EntityId(0x0100_0000_0005), to: PersonId(77) },
        ),
        named("want", "three chunks", Want { chunks: chunks() }),
        named("want-nothing", "no more ground", Want { chunks: Vec::new() }),
        named("leave", "goes for good", Leave { sleep: false }),
        named("leave-asleep", "stays asleep in the world", Leave { sleep: true }),
    ]);
    all
}

fn hellos() -> Vec<Named<ClientMessage>> {
    let guest = Hello {
        minor: 0,
        features: features::CHUNKS,
        world: None,
        name: "Ada".into(),
        software: "golden/1".into(),
        identity: None,
        token: None,
        resume: None,
        drive: None,
        capabilities: Vec::new(),
    };
    let key = core::array::from_fn(|index| index as u8);
    let signature = core::array::from_fn(|index| 255 - index as u8);
    let full = Hello {
        minor: 3,
        features: features::ALL,
        world: Some(WorldId(0x1122_3344_5566)),
        name: "Ada Lovelace, 白".into(),
        software: "golden vectors, version 1".into(),
        identity: Some(IdentityProof { key, signature }),
        token: Some((0..200).collect()),
        resume: Some(vec![9; 64]),
        drive: Some(EntityId(5)),
        capabilities: vec![
            Capability { name: "render".into(), value: "text".into() },
            Capability { name: "avatar-format".into(), value: "recipe/1".into() },
        ],
    };
    vec![
        named("hello-guest", "a guest with a short name; everything optional is absent", guest),
        named("hello-full", "an identity, a token, a ticket, a lent avatar, capabilities", full),
    ]
}

fn acts() -> Vec<Named<ClientMessage>> {
    let (thing, at, yaw) = (EntityId(0x0100_0000_0042), Position::new(-150, 90, 2_000), Yaw::WEST);
    let lot = Lot { kind: KindId(3), count: 12 };
    let act = |request, act| Do { request, act };
    vec![
        named("do-take", "a target, no arguments", act(1, Act::on(Verb::Take, thing))),
        named("do-stop", "no target either", act(2, Act::new(Verb::Stop))),
        named("do-take-some", "a count", act(3, Act::on(Verb::Take, thing).with(Args::Count(4)))),
        named(
            "do-drop-there",
            "a spot",
            act(4, Act::on(Verb::Drop, thing).with(Args::Spot { count: 1, at, yaw })),
        ),
        named(
            "do-give",
            "a held thing and a count",
            act(5, Act::on(Verb::Give, EntityId(9)).with(Args::Moved { thing, count: 2 })),
        ),
        named(
            "do-offer",
            "the terms of an exchange",
            act(
                6,
                Act::on(Verb::Offer, EntityId(9)).with(Args::Deal {
                    give: vec![Portion { thing, count: 2 }],
                    want: vec![lot, Lot { kind: KindId(4), count: 1 }],
                }),
            ),
        ),
        named(
            "do-accept",
            "an offer",
            act(7, Act::new(Verb::Accept).with(Args::Offer(OfferId(31)))),
        ),
        named("do-make", "a recipe", act(8, Act::new(Verb::Make).with(Args::Recipe(RecipeId(2))))),
        named(
            "do-build",
            "a recipe and a spot",
            act(9, Act::new(Verb::Build).with(Args::Site { recipe: RecipeId(5), at, yaw })),
        ),
        named(
            "do-write",
            "words",
            act(10, Act::on(Verb::Write, thing).with(Args::Text("Market on Friday".into()))),
        ),
        named(
            "do-emote",
            "a gesture",
            act(11, Act::new(Verb::Emote).with(Args::Emote(Emote::Bow))),
        ),
        named(
            "do-say",
            "an utterance",
            act(12, Act::on(Verb::Say, EntityId(9)).with(Args::Say(Utterance::plain("Hi there")))),
        ),
    ]
}

/// Everything a server can say.
pub fn server() -> Vec<Named<ServerMessage>> {
    let mut all = vec![
        named("greeting", "one world", greeting()),
        named("welcome", "a new member", welcome()),
        named("farewell", "full for now", farewell(9, "the world is full", Some(30))),
        named("farewell-for-good", "banned", farewell(8, "banned", None)),
        named("announce", "two appear, two vanish", announce()),
        named(
            "announce-nothing",
            "empty lists",
            Announce { since: Tick(9), vanish: Vec::new(), appear: Vec::new() },
        ),
        named("done", "carried out", Done { request: 5, tick: Tick(1_234), text: None }),
        named(
            "done-read",
            "a sign was read",
            Done { request: 6, tick: Tick(1_235), text: Some("Fresh bread at the mill".into()) },
        ),
        named("begun", "busy for a while", Begun { request: 7, until: Tick(1_300) }),
        named("happened", "what came of many acts", Happened { events: events() }),
        named("heard", "somebody near spoke", heard(Some(EntityId(9)), Audience::Nearby)),
        named("heard-channel", "on a channel", heard(None, Audience::Channel("trade".into()))),
        named("holding", "a stack and a sign", Holding { tick: Tick(99), things: things() }),
        named("holding-nothing", "empty hands", Holding { tick: Tick(98), things: Vec::new() }),
        named("offered", "an exchange", Offered { offer: offer() }),
        named("notice", "a word from the operator", Notice { text: "Welcome to the fair".into() }),
        named("stopping", "the server stops", Stopping { in_ms: 5_000, why: "update".into() }),
        named("pace", "half speed", Pace { permille: 500, from: Tick(4_000) }),
        named(
            "redirect",
            "the session goes on elsewhere",
            Redirect { address: "play.example:4433".into(), ticket: vec![1, 2, 3] },
        ),
        named("ticket", "the next ticket", Ticket { ticket: (0..64).collect() }),
        named(
            "chunk",
            "the head of a chunk's stream",
            Chunk {
                id: ChunkId { level: 2, x: -3, z: 4 },
                hash: ContentHash::of(b"ground"),
                length: 6,
            },
        ),
    ];
    all.extend(ends().map(|(name, end)| {
        named(name, "an exchange is over", OfferEnded { offer: OfferId(31), end })
    }));
    all.extend(
        (100..).zip(whys()).map(|(request, (name, why))| {
            named(name, "an act is refused", Refused { request, why })
        }),
    );
    all
}

fn ends() -> [(&'static str, OfferEnd); 4] {
    [
        ("offer-accepted", OfferEnd::Accepted),
        ("offer-declined", OfferEnd::Declined),
        ("offer-withdrawn", OfferEnd::Withdrawn),
        ("offer-expired", OfferEnd::Expired),
    ]
}

fn whys() -> Vec<(&'static str, Why)> {
    vec![
        ("refused-too-far", Why::TooFar { cm: 900, reach_cm: 250 }),
        ("refused-not-there", Why::NotThere),
        ("refused-no-target", Why::NoTarget),
        ("refused-bad-args", Why::BadArgs),
        ("refused-not-possible", Why::NotPossible),
        ("refused-not-holding", Why::NotHolding { held: 1 }),
        ("refused-full", Why::Full { stacks_max: 16 }),
        ("refused-no-room", Why::NoRoom),
        ("refused-busy", Why::Busy { until: Tick(1_300) }),
        ("refused-locked", Why::Locked),
        ("refused-closed", Why::Closed),
        ("refused-already", Why::Already),
        ("refused-spent", Why::Spent { until: Tick(9_000) }),
        ("refused-no-such-recipe", Why::NoSuchRecipe),
        ("refused-needs-station", Why::NeedsStation { station: KindId(7) }),
        ("refused-missing", Why::Missing { kind: KindId(3), count: 2 }),
        ("refused-they-lack", Why::TheyLack { kind: KindId(3), count: 5 }),
        ("refused-not-yours", Why::NotYours),
        ("refused-not-portable", Why::NotPortable),
        ("refused-no-such-offer", Why::NoSuchOffer),
        ("refused-too-many-offers", Why::TooManyOffers { max: 4 }),
        ("refused-too-much-built", Why::TooMuchBuilt { max: 200 }),
        ("refused-muted", Why::Muted),
        ("refused-out-of-order", Why::OutOfOrder),
        ("refused-text-too-long", Why::TextTooLong { chars: 281 }),
        ("refused-bad-text", Why::BadText),
        ("refused-bad-utterance", Why::BadUtterance),
        ("refused-idle", Why::Idle),
        ("refused-forbidden", Why::Forbidden),
        ("refused-too-many", Why::TooMany { retry_ms: 250 }),
        ("refused-interrupted", Why::Interrupted),
    ]
}

fn say(request: u32, to: Audience, words: &str) -> Say {
    Say { request, to, utterance: Utterance::plain(words) }
}

fn ornate() -> Utterance {
    let first = Clause {
        text: "Come closer".into(),
        emotion: Emotion::Warm,
        intensity: 200,
        gesture: Some(Emote::Beckon),
        gaze: Gaze::At(EntityId(0x0100_0000_0042)),
        start_ms: 0,
        duration_ms: 900,
    };
    let second = Clause {
        text: "now!".into(),
        emotion: Emotion::Unsure,
        gaze: Gaze::Away,
        start_ms: 1_000,
        ..Clause::default()
    };
    Utterance { clauses: vec![first, second] }
}

fn ignore(degree: Degree) -> Ignore {
    Ignore { person: PersonId(77), degree }
}

fn lending() -> Lending {
    Lending { avatar: EntityId(0x0100_0000_0005), to: PersonId(77), ends_at: 1_900_000_000 }
}

fn plain_looks() -> Appearance {
    let colours = [[224, 172, 105], [60, 40, 20], [20, 60, 200], [40, 40, 40], [10, 10, 10]];
    Appearance { model: None, height_cm: 172, build: 120, colours, recipe: Vec::new() }
}

fn dressed() -> Appearance {
    let model = Some(ContentHash::of(b"a model"));
    Appearance { model, recipe: vec![1, 2, 3, 4, 5], ..plain_looks() }
}

fn chunks() -> Vec<ChunkId> {
    [(0, -1, 2), (0, 0, 0), (6, 7, -8)].map(|(level, x, z)| ChunkId { level, x, z }).into()
}

fn world() -> WorldName {
    WorldName { id: WorldId(0x1122_3344_5566), name: "home".into(), rating: "everyone".into() }
}

fn greeting() -> Greeting {
    let nonce = core::array::from_fn(|index| 3 * index as u8);
    let software = "ecumene 0.1.0".into();
    Greeting { minor: 0, features: features::ALL, nonce, worlds: vec![world()], software }
}

fn welcome() -> Welcome {
    Welcome {
        session: SessionId(0x0100_0000_0001),
        resumed: false,
        person: PersonId(77),
        avatar: EntityId(0x0100_0000_0005),
        role: "member".into(),
        world: world(),
        rules: ContentHash::of(b"rules"),
        features: features::CHUNKS,
        tick: Tick(131_060),
        hz: 20,
        pace_permille: 1_000,
        motion: MotionRules::default(),
        position: Position::new(120, 1_850, -340),
        yaw: Yaw::EAST,
        appearance: dressed(),
        ticket: (0..64).rev().collect(),
        capabilities: vec![Capability { name: "avatar-format".into(), value: "recipe/1".into() }],
    }
}

fn farewell(code: u32, why: &str, retry_after_s: Option<u32>) -> Farewell {
    Farewell { code, why: why.into(), retry_after_s }
}

fn announce() -> Announce {
    let avatar = Being::Avatar {
        person: PersonId(78),
        name: "Grace Hopper".into(),
        appearance: plain_looks(),
    };
    let sign = Being::Thing { kind: KindId(12), count: 1, text: Some("To the mill".into()) };
    let stack = Being::Thing { kind: KindId(3), count: 40, text: None };
    let appear = |handle, entity, being, flags| Appear {
        handle,
        entity: EntityId(entity),
        being,
        position: Position::new(10, 20, 30),
        yaw: Yaw::SOUTH,
        flags,
    };
    Announce {
        since: Tick(131_080),
        vanish: vec![4, 9],
        appear: vec![appear(0, 11, avatar, 1), appear(1, 12, sign, 0), appear(2, 13, stack, 8)],
    }
}

fn events() -> Vec<Event> {
    let lot = Lot { kind: KindId(3), count: 2 };
    let details = [
        (Verb::Close, Phase::Done, Detail::None),
        (Verb::Gather, Phase::Began, Detail::None),
        (Verb::Gather, Phase::Stopped, Detail::None),
        (Verb::Take, Phase::Done, Detail::Lot(lot)),
        (Verb::Make, Phase::Done, Detail::Made { recipe: RecipeId(2), output: lot }),
        (Verb::Offer, Phase::Done, Detail::Offered(OfferId(31))),
        (
            Verb::Accept,
            Phase::Done,
            Detail::Traded { offer: OfferId(31), gave: vec![lot], got: vec![lot, lot] },
        ),
        (Verb::Write, Phase::Done, Detail::Wrote("Market on Friday".into())),
        (Verb::Emote, Phase::Done, Detail::Emote(Emote::Think)),
        (Verb::Say, Phase::Done, Detail::Said(Utterance::plain("Hi there"))),
        (Verb::Lock, Phase::Done, Detail::Switched(true)),
    ];
    let event = |(id, (verb, phase, detail))| Event {
        id,
        tick: Tick(131_100 + id),
        place: Position::new(1, 2, 3),
        actor: EntityId(9),
        verb,
        phase,
        target: Some(EntityId(10)).filter(|_| id % 2 == 0),
        reach_cm: verb.row().noticed_cm,
        detail,
    };
    (1..).zip(details).map(event).collect()
}

fn heard(avatar: Option<EntityId>, to: Audience) -> Heard {
    let name = "Grace Hopper".into();
    Heard { tick: Tick(131_111), person: PersonId(78), avatar, name, to, utterance: ornate() }
}

fn things() -> Vec<Thing> {
    let mine = Holder::Held(EntityId(5));
    let mut sign = Thing::new(EntityId(21), KindId(12), 1, mine);
    sign.owner = Some(EntityId(5));
    sign.state = State {
        open: true,
        locked: false,
        lit: true,
        gathered: 3,
        ready_at: Tick(500),
        notes: vec![Note { by: Some(EntityId(5)), tick: Tick(4), text: "To the mill".into() }],
    };
    let inside = Holder::Inside(EntityId(21));
    let placed = Holder::Placed { at: Position::new(1, 2, 3), yaw: Yaw::NORTH };
    vec![
        Thing::new(EntityId(20), KindId(3), 40, mine),
        sign,
        Thing::new(EntityId(22), KindId(3), 1, inside),
        Thing::new(EntityId(23), KindId(3), 1, placed),
    ]
}

fn offer() -> Offer {
    Offer {
        id: OfferId(31),
        from: EntityId(5),
        to: EntityId(9),
        give: vec![Portion { thing: EntityId(20), count: 2 }],
        give_lots: vec![Lot { kind: KindId(3), count: 2 }],
        want: vec![Lot { kind: KindId(4), count: 1 }],
        until: Tick(132_000),
    }
}

/// Input datagrams: head, inputs and lost handles.
pub fn inputs() -> Vec<(&'static str, &'static str, InputHead, Vec<Input>, Vec<u16>)> {
    let walk = |yaw, buttons| Input { forward: 127, right: 0, yaw: Yaw(yaw), buttons };
    let acks = Some(Acks { newest: 0x1234, before: 0xFFFF_FFFE });
    let head =
        InputHead { newest: 7, acks, announcements: 300, buffer_ticks: 2, ..Default::default() };
    let all = InputHead { newest: 65_535, has_lost_everything: true, ..InputHead::default() };
    let oblique = Input { forward: -50, right: 99, yaw: Yaw(65_535), buttons: JUMP | FLY_UP };
    let back = Input { forward: -127, right: -127, ..Input::default() };
    vec![
        ("idle", "nothing yet", InputHead::default(), Vec::new(), Vec::new()),
        (
            "first",
            "one input, no frame yet",
            InputHead { newest: 1, ..InputHead::default() },
            vec![walk(0x4000, 0)],
            Vec::new(),
        ),
        ("steady", "eight times the same", head, vec![walk(9, RUN); 8], Vec::new()),
        (
            "turning",
            "differences of every field",
            head,
            vec![
                walk(0x4000, RUN),
                walk(0x3FF0, RUN),
                walk(0x3FF0, RUN | JUMP),
                oblique,
                back,
                Input::default(),
            ],
            vec![5, 300],
        ),
        ("lost", "all baselines are lost", all, vec![walk(1, 0)], Vec::new()),
    ]
}

/// An input datagram for readers in any language.
pub fn shown_input(read: &InputDatagram) -> Value {
    let head = &read.head;
    let inputs: Vec<Value> = read
        .inputs()
        .iter()
        .map(|input| {
            let Input { forward, right, yaw, buttons } = input;
            json!({"forward": forward, "right": right, "yaw": yaw.0, "buttons": buttons})
        })
        .collect();
    json!({
        "newest": head.newest,
        "acks": head.acks.map(|acks| json!({"newest": acks.newest, "before": acks.before})),
        "announcements": head.announcements,
        "buffer_ticks": head.buffer_ticks,
        "lost_everything": head.has_lost_everything,
        "inputs": inputs,
        "lost": read.lost(),
    })
}
