//! What an explainer makes of a session, and of damage to it.

use proptest::prelude::*;
use protocol::capture;
use protocol::input::{self, Input, InputHead};
use protocol::message::client::Hello;
use protocol::message::server::{Notice, Ticket};

use super::*;

fn said(from_client: bool, channel: Channel, bytes: &[u8]) -> Record<'_> {
    Record { from_client, channel, stream: 0, at_us: 1_500_000, bytes }
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        minor: 0,
        features: 1,
        world: None,
        name: "Ada".into(),
        software: "test".into(),
        identity: None,
        token: Some(vec![7; 40]),
        resume: None,
        drive: None,
        capabilities: Vec::new(),
    };
    let mut bytes = Vec::new();
    ClientMessage::from(hello).write(&mut bytes);
    bytes
}

fn notice(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    ServerMessage::from(Notice { text: text.into() }).write(&mut bytes);
    bytes
}

#[test]
fn a_message_cut_in_two_is_told_when_it_is_whole() {
    let mut explainer = Explainer::new();
    let bytes = notice("Welcome to the fair");
    let (first, second) = bytes.split_at(9);
    assert_eq!(explainer.explain(&said(false, Channel::Control, first)), []);
    let lines = explainer.explain(&said(false, Channel::Control, second));
    let texts: Vec<String> = lines.iter().map(Line::text).collect();
    assert_eq!(texts, ["   1.500000 <- Notice 0x010c, 27 B {text: \"Welcome to the fair\"}"]);
}

#[test]
fn secrets_are_shown_only_on_demand() {
    let bytes = hello();
    let record = said(true, Channel::Control, &bytes);
    let [line] = Explainer::new().explain(&record).try_into().unwrap();
    assert_eq!(line.fields["token"], "40 bytes, not shown");
    assert_eq!(line.fields["name"], "Ada");
    let [line] = Explainer::with_secrets().explain(&record).try_into().unwrap();
    assert_eq!(line.fields["token"], "07".repeat(40));
    let mut ticket = Vec::new();
    ServerMessage::from(Ticket { ticket: vec![1, 2] }).write(&mut ticket);
    let [line] =
        Explainer::new().explain(&said(false, Channel::Control, &ticket)).try_into().unwrap();
    assert_eq!(line.fields["ticket"], "2 bytes, not shown");
}

#[test]
fn inputs_and_notes_are_told() {
    let mut bytes = Vec::new();
    let head = InputHead { newest: 3, ..InputHead::default() };
    input::encode(&head, &[Input { forward: 127, ..Input::default() }], &[], &mut bytes);
    let mut explainer = Explainer::new();
    let [line] = explainer.explain(&said(true, Channel::Datagram, &bytes)).try_into().unwrap();
    assert_eq!((line.name.as_str(), &line.fields["newest"]), ("input", &json!(3)));
    assert_eq!(line.json()["fields"]["inputs"][0]["forward"], 127);
    let [line] = explainer.explain(&said(false, Channel::Note, b"left")).try_into().unwrap();
    assert_eq!(line.text(), "   1.500000 <- note, 4 B {text: \"left\"}");
}

#[test]
fn damage_is_explained_and_ends_with_the_connection() {
    let mut explainer = Explainer::new();
    let told = |explainer: &mut Explainer, channel, bytes: &[u8]| {
        let lines = explainer.explain(&said(false, channel, bytes));
        lines.into_iter().map(|line| line.problem.unwrap_or_default()).collect::<Vec<_>>()
    };
    let [frame] = told(&mut explainer, Channel::Datagram, &[1, 2, 3]).try_into().unwrap();
    assert_eq!(frame, "no welcome said how to read it");
    let [chunk] = told(&mut explainer, Channel::Ground, &notice("x")).try_into().unwrap();
    assert_eq!(chunk, "another message in place of the head");
    let [body] = told(&mut explainer, Channel::Control, &[0x0C, 1, 1, 9]).try_into().unwrap();
    assert!(body.contains("malformed body"), "{body}");
    let [length] = told(&mut explainer, Channel::Control, &[0x0C, 1, 0xFF, 0xFF, 0xFF, 0x7F])
        .try_into()
        .unwrap();
    assert!(length.contains("at most 65536"), "{length}");
    let [after] = told(&mut explainer, Channel::Control, &notice("x")).try_into().unwrap();
    assert_eq!(after, "follows what broke the stream");
    assert_eq!(told(&mut explainer, Channel::Note, b"lost"), [""]);
    assert_eq!(told(&mut explainer, Channel::Control, &notice("x")), [""]);
    let [unknown] =
        explainer.explain(&said(false, Channel::Control, &[9, 9, 0])).try_into().unwrap();
    assert_eq!(unknown.name, "unknown 0x0909, skipped");
}

proptest! {
    #[test]
    fn rubbish_never_panics(
        records in prop::collection::vec(
            (any::<bool>(), 0..4_usize, prop::collection::vec(any::<u8>(), 0..80)), 0..12
        ),
    ) {
        let mut explainer = Explainer::new();
        for (from_client, channel, bytes) in &records {
            let record = said(*from_client, Channel::ALL[*channel], bytes);
            for line in explainer.explain(&record) {
                prop_assert!(line.text().len() < 4_096);
                prop_assert!(line.json().is_object());
            }
            let mut file = Vec::new();
            capture::write(&record, &mut file);
            prop_assert_eq!(capture::split(&file), Ok(Some((record, file.len()))));
        }
    }
}
