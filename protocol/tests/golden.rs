//! Golden vectors: the bytes in `golden/` are what this code writes, and mean what they say.
//!
//! `ECUMENE_BLESS=1 cargo test --release -p protocol --test golden` adds vectors that are
//! missing. It never changes one: what was once on the wire stays valid, and a changed body is a
//! new kind.

#[path = "golden/assets.rs"]
mod assets;
#[path = "golden/frames.rs"]
mod frames;
#[path = "golden/values.rs"]
mod values;
#[path = "golden/vectors.rs"]
mod vectors;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use protocol::frame::{self, Frame};
use protocol::input::{self, InputDatagram};
use protocol::limits::MESSAGE_BYTES_MAX;
use protocol::message::{AssetReply, AssetRequest, ClientMessage, ServerMessage};
use serde_json::{Value, json};
use vectors::{bytes_of, hex, read_or_add};

/// How long reading one message of the largest size may take on a busy machine; 1 ms is usual.
const READING_TIME_MAX: Duration = Duration::from_millis(500);

#[test]
fn messages_of_clients_are_as_ever() {
    let values = values::client();
    let vectors: Vec<Value> = values
        .iter()
        .map(|(name, about, message)| {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            json!({"name": name, "about": about, "message": message, "hex": hex(&bytes)})
        })
        .collect();
    for vector in read_or_add("client.jsonl", &vectors) {
        let read = ClientMessage::read(whole_frame(&bytes_of(&vector)));
        let read = read.expect("well formed").expect("known");
        assert_eq!(serde_json::to_value(&read).unwrap(), vector["message"], "{}", vector["name"]);
    }
    for (kind, name) in ClientMessage::KINDS {
        assert!(values.iter().any(|(_, _, value)| value.name().1 == *kind), "no vector of {name}");
    }
}

#[test]
fn messages_of_servers_are_as_ever() {
    let values = values::server();
    let vectors: Vec<Value> = values
        .iter()
        .map(|(name, about, message)| {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            json!({"name": name, "about": about, "message": message, "hex": hex(&bytes)})
        })
        .collect();
    for vector in read_or_add("server.jsonl", &vectors) {
        let read = ServerMessage::read(whole_frame(&bytes_of(&vector)));
        let read = read.expect("well formed").expect("known");
        assert_eq!(serde_json::to_value(&read).unwrap(), vector["message"], "{}", vector["name"]);
    }
    for (kind, name) in ServerMessage::KINDS {
        assert!(values.iter().any(|(_, _, value)| value.name().1 == *kind), "no vector of {name}");
    }
}

#[test]
fn messages_about_assets_are_as_ever() {
    let (requests, replies) = (assets::requests(), assets::replies());
    let shown = |(name, about, message, bytes): (&str, &str, Value, Vec<u8>)| json!({"name": name, "about": about, "message": message, "hex": hex(&bytes)});
    let vectors: Vec<Value> = requests
        .iter()
        .map(|(name, about, it)| (*name, *about, json!(it), written(|out| it.write(out))))
        .chain(
            replies
                .iter()
                .map(|(name, about, it)| (*name, *about, json!(it), written(|out| it.write(out)))),
        )
        .map(shown)
        .collect();
    for vector in read_or_add("assets.jsonl", &vectors) {
        let bytes = bytes_of(&vector);
        let frame = whole_frame(&bytes);
        let read = if frame.kind & 0x0100 == 0 {
            json!(AssetRequest::read(frame).expect("well formed").expect("known"))
        } else {
            json!(AssetReply::read(frame).expect("well formed").expect("known"))
        };
        assert_eq!(read, vector["message"], "{}", vector["name"]);
        assert!(frame.body.len() <= protocol::limits::ASSET_FRAME_BYTES_MAX);
    }
    let named: Vec<u16> = requests.iter().map(|(_, _, it)| it.name().1).collect();
    assert!(AssetRequest::KINDS.iter().all(|(kind, _)| named.contains(kind)), "{named:x?}");
    let named: Vec<u16> = replies.iter().map(|(_, _, it)| it.name().1).collect();
    assert!(AssetReply::KINDS.iter().all(|(kind, _)| named.contains(kind)), "{named:x?}");
}

#[test]
fn inputs_are_as_ever() {
    let mut vectors = Vec::new();
    for (name, about, head, inputs, lost) in values::inputs() {
        let mut bytes = Vec::new();
        input::encode(&head, &inputs, &lost, &mut bytes);
        let read = InputDatagram::decode(&bytes).expect("well formed");
        assert_eq!((read.head, read.inputs(), read.lost()), (head, &inputs[..], &lost[..]));
        let shown = values::shown_input(&read);
        vectors.push(json!({"name": name, "about": about, "datagram": shown, "hex": hex(&bytes)}));
    }
    for vector in read_or_add("inputs.jsonl", &vectors) {
        let read = InputDatagram::decode(&bytes_of(&vector)).expect("well formed");
        assert_eq!(values::shown_input(&read), vector["datagram"], "{}", vector["name"]);
    }
}

#[test]
fn frames_are_as_ever() {
    let told = frames::told();
    let stands = vectors::read("frames.jsonl");
    // The encoder may choose other baselines one day; what it once chose must be understood.
    let stands = if stands.is_empty() { read_or_add("frames.jsonl", &told) } else { stands };
    assert!(stands.iter().any(|step| step["own"].is_null() && step["hex"].is_string()));
    assert!(stands.iter().any(|step| step["missing"].as_array().is_some_and(|it| !it.is_empty())));
    assert_eq!(frames::understood(&stands), stands);
}

#[test]
fn damaged_vectors_are_refused_or_read_never_more() {
    for name in ["client.jsonl", "server.jsonl", "assets.jsonl", "inputs.jsonl", "frames.jsonl"] {
        for vector in vectors::read(name).iter().filter(|vector| vector["hex"].is_string()) {
            let bytes = bytes_of(vector);
            (0..bytes.len()).for_each(|end| read_anything(&bytes[..end]));
            for bit in 0..8 * bytes.len() {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                read_anything(&flipped);
            }
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures how long reading takes")]
fn the_largest_hostile_bodies_are_read_in_bounded_time() {
    let mut random = 1_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as u8
    };
    // Lists that claim to reach back over everything, of every kind and with every filling.
    for filling in [0_u8, 1, 0x80, 0xFF] {
        for kind in all_kinds() {
            let mut body = vec![filling; MESSAGE_BYTES_MAX];
            let length = body.len();
            for (index, byte) in body[length - 256..].iter_mut().enumerate() {
                *byte = if index % 8 < 4 { [0x00, 0x01, 0xFF, 0xFF][index % 4] } else { next() };
            }
            let began = Instant::now();
            read_body(kind, &body);
            let took = began.elapsed();
            assert!(took < READING_TIME_MAX, "{kind:#06x} filled with {filling}: {took:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_body_causes_a_panic(
        kind in any::<prop::sample::Index>(),
        body in prop::collection::vec(any::<u8>(), 0..2_048),
    ) {
        let kinds: Vec<u16> = all_kinds();
        read_body(*kind.get(&kinds), &body);
    }

    #[test]
    fn no_mutated_message_causes_a_panic(
        vector in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let messages: Vec<Vec<u8>> = values::client()
            .iter()
            .map(|(_, _, message)| written(|out| message.write(out)))
            .chain(values::server().iter().map(|(_, _, message)| written(|out| message.write(out))))
            .chain(assets::requests().iter().map(|(_, _, it)| written(|out| it.write(out))))
            .chain(assets::replies().iter().map(|(_, _, it)| written(|out| it.write(out))))
            .collect();
        let message = vector.get(&messages);
        let whole = whole_frame(message);
        let mut body = whole.body.to_vec();
        for (at, byte) in changes.iter().filter(|_| !whole.body.is_empty()) {
            body[at.index(whole.body.len())] = *byte;
        }
        if is_cut && !body.is_empty() {
            body.truncate(cut.index(body.len()));
        }
        read_body(whole.kind, &body);
    }
}

fn all_kinds() -> Vec<u16> {
    let assets = AssetRequest::KINDS.iter().chain(AssetReply::KINDS);
    let others = ClientMessage::KINDS.iter().chain(ServerMessage::KINDS);
    others.chain(assets).map(|(kind, _)| *kind).collect()
}

fn written(write: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

fn whole_frame(bytes: &[u8]) -> Frame<'_> {
    let (frame, taken) = frame::split(bytes, MESSAGE_BYTES_MAX).expect("a frame").expect("whole");
    assert_eq!(taken, bytes.len(), "one frame and nothing behind it");
    frame
}

/// Reads a body as both directions would; what is understood can be said again.
fn read_body(kind: u16, body: &[u8]) {
    read_asset_body(kind, body);
    if let Ok(Some(message)) = ClientMessage::read(Frame { kind, body }) {
        assert!(!written(|out| message.write(out)).is_empty());
    }
    if let Ok(Some(message)) = ServerMessage::read(Frame { kind, body }) {
        assert!(!written(|out| message.write(out)).is_empty());
    }
}

/// Reads a body as what is said about assets.
fn read_asset_body(kind: u16, body: &[u8]) {
    if let Ok(Some(message)) = AssetRequest::read(Frame { kind, body }) {
        assert!(!written(|out| message.write(out)).is_empty());
        if let AssetRequest::OfferAsset(offer) = message {
            assert!(offer.check().is_err() || offer.length <= protocol::limits::ASSET_BYTES_MAX);
        }
    }
    if let Ok(Some(message)) = AssetReply::read(Frame { kind, body }) {
        assert!(!written(|out| message.write(out)).is_empty());
    }
}

/// Reads bytes as everything that they could be.
fn read_anything(bytes: &[u8]) {
    if let Ok(Some((frame, _))) = frame::split(bytes, MESSAGE_BYTES_MAX) {
        read_body(frame.kind, frame.body);
    }
    if let Ok(read) = InputDatagram::decode(bytes) {
        assert!(read.inputs().len() <= input::INPUTS_MAX);
    }
    frames::read_alone(bytes);
}
