//! What a hostile client sends: messages that mean harm, and bytes that were changed, cut, joined
//! or repeated. Drawn from dice alone; whoever sends them opens the sockets.

use protocol::delta::Acks;
use protocol::frame;
use protocol::ids::{ChunkId, ContentHash, EntityId, PersonId};
use protocol::input::{self, Input, InputHead};
use protocol::limits::{MESSAGE_BYTES_MAX, RECIPE_BYTES_MAX};
use protocol::message::asset::{AssetAudience, FetchAsset, OfferAsset, WithdrawAsset};
use protocol::message::client::{
    Cancel, Degree, Do, Ignore, Leave, Lend, Recall, Say, Tune, Want, Wear,
};
use protocol::message::common::{Appearance, Audience, Lending};
use protocol::message::{AssetRequest, ClientMessage};
use protocol::rules::{Act, Args, KindId, Lot, OfferId, Portion, RecipeId, Verb};
use protocol::units::{Position, Yaw};
use protocol::utterance::Utterance;

use super::raw::bytes_of;
use crate::dice::Dice;

/// Bytes of random bodies: beyond every small message, far below the bound.
const RUBBISH_BYTES_MAX: u64 = 600;

/// Bytes changed at once.
const FLIPS_MAX: u64 = 6;

/// What there is in the world, so that some of what is asked is about something.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Avatars and things.
    pub entities: Vec<EntityId>,
    /// People.
    pub people: Vec<PersonId>,
    /// Content that somebody shares with nobody.
    pub hidden: Vec<ContentHash>,
    /// Tickets that were given to others.
    pub tickets: Vec<Vec<u8>>,
}

/// What bytes on a control stream lead to, by the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are a message, or may be skipped: the connection stands.
    Heard,
    /// They break the protocol or end the stay: nothing behind them is heard.
    Ends,
}

/// Says what the bytes of one frame lead to.
#[must_use]
pub fn fate(bytes: &[u8]) -> Fate {
    let Ok(Some((frame, taken))) = frame::split(bytes, MESSAGE_BYTES_MAX) else {
        return Fate::Ends;
    };
    if taken != bytes.len() {
        return Fate::Ends;
    }
    match ClientMessage::read(frame) {
        Ok(Some(ClientMessage::Hello(_) | ClientMessage::Leave(_))) | Err(_) => Fate::Ends,
        Ok(Some(ClientMessage::Wear(wear))) if RECIPE_BYTES_MAX < wear.appearance.recipe.len() => {
            Fate::Ends
        }
        Ok(_) => Fate::Heard,
    }
}

/// Returns one frame for a control stream: a message of ill will, half of the time with changed
/// bytes. `request` is the newest number used.
pub fn control(dice: &mut Dice, known: &Known, request: &mut u32) -> Vec<u8> {
    let bytes = bytes_of(&message(dice, known, request));
    if dice.is(500) { changed(dice, &bytes) } else { bytes }
}

/// Returns a frame with changes: in the body, in the kind, in the length, or all of it.
fn changed(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let Ok(Some((whole, _))) = frame::split(bytes, MESSAGE_BYTES_MAX) else {
        return bytes.to_vec();
    };
    let (mut kind, mut body) = (whole.kind, whole.body.to_vec());
    match dice.below(8) {
        0..=3 => flip(dice, &mut body),
        4 => body.truncate(dice.index(body.len() + 1)),
        5 => {
            let more = dice.below(40) as usize;
            body.extend(dice.bytes(more));
        }
        6 => kind = if dice.is(500) { dice.draw() as u16 } else { kind ^ 1 },
        _ => {
            let length = dice.below(RUBBISH_BYTES_MAX) as usize;
            body = dice.bytes(length);
        }
    }
    let mut out = Vec::new();
    frame::write(kind, &body, &mut out);
    if dice.is(30) {
        // A length that lies.
        flip(dice, &mut out);
    }
    out
}

/// Changes some bytes.
pub fn flip(dice: &mut Dice, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..=dice.below(FLIPS_MAX) {
        let at = dice.index(bytes.len());
        bytes[at] = match dice.below(4) {
            0 => 0,
            1 => 0xFF,
            2 => dice.draw() as u8,
            _ => bytes[at] ^ 1 << dice.below(8),
        };
    }
}

/// Returns a ticket that nobody was given: somebody's with one bit changed, or any bytes.
pub fn ticket(dice: &mut Dice, known: &Known) -> Vec<u8> {
    let mut bytes = match known.tickets.as_slice() {
        some @ [_, ..] if dice.is(700) => some[dice.index(some.len())].clone(),
        _ => {
            let length = 1 + dice.index(200);
            return dice.bytes(length);
        }
    };
    let at = dice.index(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
    bytes
}

fn number(dice: &mut Dice) -> u64 {
    match dice.below(5) {
        0 => 0,
        1 => u64::MAX,
        2 => dice.below(300),
        _ => dice.draw(),
    }
}

fn entity(dice: &mut Dice, known: &Known) -> EntityId {
    match known.entities.as_slice() {
        [] => EntityId(number(dice)),
        some if dice.is(700) => dice.pick(some),
        _ => EntityId(number(dice)),
    }
}

fn person(dice: &mut Dice, known: &Known) -> PersonId {
    match known.people.as_slice() {
        [] => PersonId(number(dice)),
        some if dice.is(700) => dice.pick(some),
        _ => PersonId(number(dice)),
    }
}

fn position(dice: &mut Dice) -> Position {
    let mut axis = || dice.pick(&[0, i32::MAX, i32::MIN, 1_950, -300, 51_200]);
    Position::new(axis(), axis(), axis())
}

fn words(dice: &mut Dice) -> String {
    match dice.below(5) {
        0 => String::new(),
        1 => "x".repeat(dice.below(2_000) as usize),
        2 => "\u{202E}\u{0}\u{1F600}e\u{301}".repeat(dice.below(40) as usize),
        3 => "../../etc/passwd".into(),
        _ => "hello".into(),
    }
}

fn message(dice: &mut Dice, known: &Known, request: &mut u32) -> ClientMessage {
    // One in eight numbers was used before, or is far ahead.
    *request = request.wrapping_add(1);
    let own = *request;
    let request = if dice.is(125) { own.wrapping_sub(dice.below(50) as u32) } else { own };
    match dice.below(100) {
        0..=54 => Do { request, act: act(dice, known) }.into(),
        55..=64 => {
            let to = match dice.below(4) {
                0 => Audience::Nearby,
                1 => Audience::Whisper,
                2 => Audience::Person(person(dice, known)),
                _ => Audience::Channel(words(dice)),
            };
            Say { request, to, utterance: Utterance::plain(words(dice)) }.into()
        }
        65..=69 => Tune { channel: words(dice), joined: dice.is(500) }.into(),
        70..=71 => {
            let length = dice.below(RECIPE_BYTES_MAX as u64 + 40) as usize;
            let (recipe, model) = (dice.bytes(length), Some(ContentHash([dice.draw() as u8; 32])));
            let (height_cm, build) = (dice.draw() as u8, dice.draw() as u8);
            Wear {
                appearance: Appearance { model, height_cm, build, recipe, ..Default::default() },
            }
            .into()
        }
        72..=76 => {
            let degree = dice.pick(&[Degree::None, Degree::Mute, Degree::Block]);
            Ignore { person: PersonId(number(dice)), degree }.into()
        }
        77..=86 => {
            let (avatar, to) = (entity(dice, known), person(dice, known));
            Lend { request, lending: Lending { avatar, to, ends_at: number(dice) } }.into()
        }
        87..=91 => Recall { request, avatar: entity(dice, known), to: person(dice, known) }.into(),
        92..=95 => {
            let chunk = |dice: &mut Dice| {
                let mut axis = || dice.pick(&[0, 1, -1, 9, i32::MAX, i32::MIN]);
                let (x, z) = (axis(), axis());
                ChunkId { level: dice.pick(&[0, 0, 1, 7, 255]), x, z }
            };
            Want { chunks: (0..dice.below(300)).map(|_| chunk(dice)).collect() }.into()
        }
        96..=98 => {
            Cancel { request: dice.pick(&[0, request, request.wrapping_sub(1), u32::MAX]) }.into()
        }
        _ => Leave { sleep: dice.is(500) }.into(),
    }
}

fn act(dice: &mut Dice, known: &Known) -> Act {
    const VERBS: [Verb; 20] = [
        Verb::Take,
        Verb::Drop,
        Verb::Put,
        Verb::Give,
        Verb::Offer,
        Verb::Accept,
        Verb::Decline,
        Verb::Withdraw,
        Verb::Use,
        Verb::Open,
        Verb::Close,
        Verb::Lock,
        Verb::Gather,
        Verb::Make,
        Verb::Build,
        Verb::Read,
        Verb::Write,
        Verb::Greet,
        Verb::Emote,
        Verb::Say,
    ];
    let count = number(dice) as u32;
    let args = match dice.below(9) {
        0 => Args::None,
        1 => Args::Count(count),
        2 => Args::Spot { count, at: position(dice), yaw: Yaw(dice.draw() as u16) },
        3 => Args::Moved { thing: entity(dice, known), count },
        4 => {
            let some = dice.below(70);
            let give = (0..some).map(|_| Portion { thing: entity(dice, known), count }).collect();
            let want = (0..some).map(|_| Lot { kind: KindId(dice.draw() as u16), count }).collect();
            Args::Deal { give, want }
        }
        5 => Args::Offer(OfferId(number(dice))),
        6 => Args::Recipe(RecipeId(dice.below(80) as u16)),
        7 => {
            let (recipe, yaw) = (RecipeId(dice.below(80) as u16), Yaw(dice.draw() as u16));
            Args::Site { recipe, at: position(dice), yaw }
        }
        _ => Args::Text(words(dice)),
    };
    let target = dice.is(800).then(|| entity(dice, known));
    Act { verb: dice.pick(&VERBS), target, args }
}

/// Returns an input datagram: of any numbers, most of the time with changed bytes.
pub fn datagram(dice: &mut Dice) -> Vec<u8> {
    let axis = |dice: &mut Dice| dice.pick(&[0_i8, 127, -127, -128, 5]);
    let inputs: Vec<Input> = (0..dice.below(9))
        .map(|_| Input {
            forward: axis(dice),
            right: axis(dice),
            yaw: Yaw(dice.draw() as u16),
            buttons: dice.draw() as u8,
        })
        .collect();
    let acks =
        dice.is(700).then(|| Acks { newest: dice.draw() as u16, before: dice.draw() as u32 });
    let head = InputHead {
        newest: dice.draw() as u16,
        acks,
        announcements: dice.draw() as u16,
        buffer_ticks: dice.draw() as u8,
        has_lost_everything: dice.is(20),
    };
    let lost: Vec<u16> = (0..dice.below(9)).map(|_| dice.draw() as u16).collect();
    let mut bytes = Vec::new();
    input::encode(&head, &inputs, &lost, &mut bytes);
    match dice.below(10) {
        0..=4 => flip(dice, &mut bytes),
        5 => bytes.truncate(dice.index(bytes.len() + 1)),
        6 => {
            let length = dice.below(1_100) as usize;
            bytes = dice.bytes(length);
        }
        _ => {}
    }
    bytes
}

/// Returns the head of an asset's stream: a request of ill will, often with changed bytes.
pub fn asset(dice: &mut Dice, known: &Known) -> Vec<u8> {
    let hash = match known.hidden.as_slice() {
        some @ [_, ..] if dice.is(500) => dice.pick(some),
        _ => ContentHash([dice.draw() as u8; 32]),
    };
    let request: AssetRequest = match dice.below(3) {
        0 => OfferAsset {
            hash,
            length: dice.pick(&[0, 1, 4_096, 1 << 24, u64::MAX]),
            media: words(dice),
            name: words(dice),
            audience: match dice.below(3) {
                0 => AssetAudience::Owner,
                1 => AssetAudience::Persons(
                    (0..dice.below(80)).map(|_| person(dice, known)).collect(),
                ),
                _ => AssetAudience::Everyone,
            },
            keep_s: dice.draw() as u32,
        }
        .into(),
        1 => FetchAsset { hash, offset: number(dice) }.into(),
        _ => WithdrawAsset { hash }.into(),
    };
    let mut bytes = Vec::new();
    request.write(&mut bytes);
    if dice.is(300) { changed(dice, &bytes) } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_what_is_said_is_heard_and_some_of_everything_is_drawn() {
        let (mut dice, mut request) = (Dice(7), 0);
        let known = Known { entities: vec![EntityId(1)], ..Known::default() };
        let frames: Vec<Vec<u8>> =
            (0..20_000).map(|_| control(&mut dice, &known, &mut request)).collect();
        let heard = frames.iter().filter(|bytes| fate(bytes) == Fate::Heard).count();
        assert!((12_000..19_000).contains(&heard), "{heard} are heard");
        for (kind, name) in ClientMessage::KINDS {
            let is_kind = |bytes: &&Vec<u8>| bytes[..2] == kind.to_le_bytes();
            let some = frames.iter().filter(is_kind).count();
            assert!(*name == "Hello" || 100 < some, "{some} of {name}");
        }
    }

    #[test]
    fn the_same_seed_sends_the_same() {
        let draw = |seed| (0..100).map(|_| datagram(&mut Dice(seed))).collect::<Vec<_>>();
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn the_end_of_a_stay_is_foretold() {
        let leave: ClientMessage = Leave { sleep: false }.into();
        assert_eq!(fate(&bytes_of(&leave)), Fate::Ends);
        let cancel: ClientMessage = Cancel { request: 1 }.into();
        assert_eq!(fate(&bytes_of(&cancel)), Fate::Heard);
        assert_eq!(fate(&[0x03, 0x00, 0xFF]), Fate::Ends, "half a frame");
    }
}
