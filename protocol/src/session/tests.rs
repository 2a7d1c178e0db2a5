//! A session against a scripted server: bytes in, events and bytes out.

use super::*;
use crate::frame;
use crate::ids::{ContentHash, SessionId};
use crate::message::server::{Done, Redirect, Refused, Ticket, WorldName};
use crate::motion::MotionRules;
use crate::rules::Verb;
use crate::units::{Position, Yaw};

fn entry() -> Entry {
    Entry { name: "Ada".into(), software: "test/1".into(), ..Entry::default() }
}

fn session(entry: Entry) -> Session {
    Session::new(entry, 0).expect("a good entry")
}

fn bytes(message: impl Into<ServerMessage>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.into().write(&mut bytes);
    bytes
}

fn greeting() -> Greeting {
    let world = |id, name: &str| WorldName {
        id: WorldId(id),
        name: name.into(),
        rating: "everyone".into(),
    };
    Greeting {
        minor: 0,
        features: 0,
        nonce: [7; 32],
        worlds: vec![world(5, "meadow"), world(6, "town")],
        software: "scripted/1".into(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        session: SessionId(1),
        resumed: false,
        person: PersonId(2),
        avatar: EntityId(3),
        role: "visitor".into(),
        world: greeting().worlds.remove(0),
        rules: ContentHash([0; 32]),
        features: features::CHUNKS,
        tick: Tick(100),
        hz: 20,
        pace_permille: 1_000,
        motion: MotionRules::default(),
        position: Position::default(),
        yaw: Yaw::NORTH,
        appearance: Appearance::default(),
        ticket: vec![1],
        capabilities: Vec::new(),
    }
}

fn hello(session: &mut Session) -> Hello {
    let mut out = Vec::new();
    assert!(session.take_output(&mut out), "a hello is sent");
    let (frame, taken) = frame::split(&out, HELLO_BYTES_MAX).expect("a frame").expect("whole");
    assert_eq!(taken, out.len(), "and nothing else");
    let message = ClientMessage::read(frame).expect("read").expect("known");
    let ClientMessage::Hello(hello) = message else { panic!("{message:?}") };
    hello
}

/// A session that is in the world.
fn inside() -> Session {
    let mut session = session(entry());
    session.receive(&bytes(greeting()), 0);
    assert_eq!(session.next_event(), None);
    hello(&mut session);
    session.receive(&bytes(welcome()), 0);
    assert_eq!(session.next_event(), Some(SessionEvent::Welcomed(Box::new(welcome()))));
    session
}

fn ended(session: &mut Session) -> Outcome {
    match session.next_event() {
        Some(SessionEvent::Ended(outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_greeting_is_answered_with_who_we_are() {
    let prover: Arc<dyn Prover> =
        Arc::new(|nonce: &[u8; 32]| IdentityProof { key: *nonce, signature: [9; 64] });
    let entry = Entry {
        world: Some("town".into()),
        prover: Some(prover),
        token: Some(vec![4]),
        resume: Some(vec![5]),
        ..entry()
    };
    let mut session = session(entry);
    // However the bytes are cut.
    for byte in bytes(greeting()) {
        assert_eq!(session.next_event(), None);
        session.receive(&[byte], 0);
    }
    assert_eq!(session.next_event(), None);
    let hello = hello(&mut session);
    assert_eq!(hello.world, Some(WorldId(6)));
    assert_eq!(hello.name, "Ada");
    assert_eq!(hello.identity, Some(IdentityProof { key: [7; 32], signature: [9; 64] }));
    assert_eq!((hello.token, hello.resume), (Some(vec![4]), Some(vec![5])));
    assert!(!session.is_in());
}

#[test]
fn a_world_is_found_by_id_or_refused_with_what_there_is() {
    let mut by_id = session(Entry { world: Some("w-5".into()), ..entry() });
    by_id.receive(&bytes(greeting()), 0);
    assert_eq!(by_id.next_event(), None);
    assert_eq!(hello(&mut by_id).world, Some(WorldId(5)));
    let mut nowhere = session(Entry { world: Some("atlantis".into()), ..entry() });
    nowhere.receive(&bytes(greeting()), 0);
    let why = "no world `atlantis` here; hosted are: meadow, town".to_owned();
    let outcome = Outcome::Refused { code: CloseCode::World, why, retry_after_s: None };
    assert_eq!(ended(&mut nowhere), outcome);
}

#[test]
fn a_bad_entry_is_refused_before_anything_is_sent() {
    let check = |entry: Entry| Session::new(entry, 0).err();
    for name in ["", "  ", "a\nb", &"x".repeat(NAME_CHARS_MAX + 1)] {
        assert_eq!(check(Entry { name: name.into(), ..entry() }), Some(BadEntry::Name));
    }
    assert_eq!(check(Entry { name: "ä".repeat(NAME_CHARS_MAX), ..entry() }), None);
    let long = Entry { token: Some(vec![0; TOKEN_BYTES_MAX + 1]), ..entry() };
    assert_eq!(check(long), Some(BadEntry::Token { got: TOKEN_BYTES_MAX + 1 }));
    let long = Entry { resume: Some(vec![0; TICKET_BYTES_MAX + 1]), ..entry() };
    assert_eq!(check(long), Some(BadEntry::Ticket { got: TICKET_BYTES_MAX + 1 }));
}

#[test]
fn answers_find_their_requests() {
    let mut session = inside();
    let first = session.act(Act::new(Verb::Stop), 10).expect("sent");
    let second = session.say(Audience::Nearby, Utterance::plain("hello"), 20).expect("sent");
    assert!(first < second);
    assert_eq!(session.asked_us(second), Some(20));
    let done = Done { request: second, tick: Tick(7), text: None };
    let refused = Refused { request: first, why: Why::Idle };
    session.receive(&[bytes(done.clone()), bytes(refused), bytes(done)].concat(), 0);
    let answer = Answer::Done { tick: Tick(7), text: None };
    assert_eq!(session.next_event(), Some(SessionEvent::Answered { request: second, answer }));
    let answer = Answer::Refused(Why::Idle);
    assert_eq!(session.next_event(), Some(SessionEvent::Answered { request: first, answer }));
    assert_eq!(session.next_event(), None, "a second answer to one request means nothing");
    assert_eq!(session.unanswered(), 0);
}

#[test]
fn requests_are_bounded() {
    let mut session = inside();
    for _ in 0..REQUESTS_MAX {
        session.act(Act::new(Verb::Stop), 0).expect("sent");
    }
    assert_eq!(session.act(Act::new(Verb::Stop), 0), Err(BadRequest::TooMany));
    let mut outside = Session::new(entry(), 0).expect("a good entry");
    assert_eq!(outside.act(Act::new(Verb::Stop), 0), Err(BadRequest::NotIn));
    let many = vec![ChunkId { level: 0, x: 0, z: 0 }; CHUNKS_WANTED_MAX + 1];
    assert_eq!(session.want(many), Err(BadRequest::Chunks { got: CHUNKS_WANTED_MAX + 1 }));
    assert_eq!(session.tune("", true), Err(BadRequest::Channel));
    let empty = session.say(Audience::Nearby, Utterance::default(), 0);
    assert_eq!(empty, Err(BadRequest::Utterance(BadUtterance::Empty)));
    while session.tune("trade", true).is_ok() {}
    assert_eq!(session.tune("trade", true), Err(BadRequest::Backlog));
    assert!(session.out.len() < OUT_BYTES_MAX + 100);
}

#[test]
fn each_farewell_ends_as_it_should() {
    let check = |code: CloseCode, expected: fn(&Outcome) -> bool, resumes: bool| {
        let mut session = inside();
        let farewell = Farewell { code: code.number(), why: String::new(), retry_after_s: Some(3) };
        session.receive(&bytes(farewell), 0);
        let outcome = ended(&mut session);
        assert!(expected(&outcome), "{outcome:?}");
        assert_eq!(outcome.is_worth_resuming(), resumes, "{outcome:?}");
        assert_eq!(session.next_event(), None, "told once");
    };
    check(CloseCode::Goodbye, |outcome| *outcome == Outcome::Left, false);
    for code in [CloseCode::Stopping, CloseCode::Lost, CloseCode::Internal] {
        check(code, |outcome| matches!(outcome, Outcome::Lost { .. }), true);
    }
    for code in [CloseCode::Banned, CloseCode::Full, CloseCode::Kicked, CloseCode::Replaced] {
        let refused: fn(&Outcome) -> bool =
            |outcome| matches!(outcome, Outcome::Refused { retry_after_s: Some(3), .. });
        check(code, refused, false);
    }
}

#[test]
fn silence_and_slow_admission_are_noticed() {
    let mut session = session(entry());
    session.tick(ADMISSION_US_MAX - 1);
    assert_eq!(session.outcome(), None);
    session.tick(ADMISSION_US_MAX);
    assert!(ended(&mut session).is_worth_resuming());
    let mut session = inside();
    session.heard(5_000_000);
    session.tick(5_000_000 + SILENCE_US_MAX - 1);
    assert_eq!(session.outcome(), None);
    session.tick(5_000_000 + SILENCE_US_MAX);
    assert!(ended(&mut session).is_worth_resuming());
}

#[test]
fn what_has_no_place_breaks_the_protocol() {
    let check = |mut session: Session, message: Vec<u8>| {
        session.receive(&message, 0);
        let outcome = ended(&mut session);
        assert!(matches!(outcome, Outcome::Lost { code: CloseCode::Protocol, .. }), "{outcome:?}");
    };
    check(session(entry()), bytes(welcome()));
    check(inside(), bytes(greeting()));
    let mut unknown = Vec::new();
    frame::write(0xFFFF, &[1, 2, 3], &mut unknown);
    check(inside(), unknown);
    let mut malformed = Vec::new();
    frame::write(0x8104, &[1, 2, 3], &mut malformed);
    check(inside(), malformed);
    check(inside(), vec![0, 0, 0xFF, 0xFF, 0xFF, 0x7F]);
    let mut skipped = Vec::new();
    frame::write(0x0FFF, &[1, 2, 3], &mut skipped);
    let mut session = inside();
    session.receive(&skipped, 0);
    assert_eq!(session.next_event(), None, "unknown but not required");
    assert!(session.is_in());
}

#[test]
fn the_newest_ticket_comes_along_when_it_begins_anew() {
    let mut session = inside();
    let request = session.act(Act::new(Verb::Stop), 0).expect("sent");
    session.receive(&bytes(Ticket { ticket: vec![8] }), 0);
    assert_eq!(session.next_event(), None);
    session.closed(None, "timed out");
    assert!(ended(&mut session).is_worth_resuming());
    assert_eq!(session.give_up(), [request]);
    let mut session = session.successor(1);
    session.receive(&bytes(greeting()), 1);
    assert_eq!(session.next_event(), None);
    assert_eq!(hello(&mut session).resume, Some(vec![8]));
    session.receive(&bytes(Welcome { resumed: true, ..welcome() }), 1);
    assert!(matches!(session.next_event(), Some(SessionEvent::Welcomed(_))));
    let next = session.act(Act::new(Verb::Stop), 0).expect("sent");
    assert!(request < next, "numbers go on");
}

#[test]
fn a_redirect_brings_its_ticket() {
    let mut session = inside();
    let redirect = Redirect { address: "other:7777".into(), ticket: vec![6] };
    session.receive(&bytes(redirect), 0);
    let event = session.next_event();
    assert_eq!(event, Some(SessionEvent::Redirected { address: "other:7777".into() }));
    assert_eq!(session.ticket(), Some([6].as_slice()));
}

#[test]
fn the_transport_closing_ends_it_with_the_code() {
    let mut session = inside();
    session.closed(Some(u64::from(CloseCode::Flooding.number())), "");
    let why = CloseCode::Flooding.to_string();
    let outcome = Outcome::Refused { code: CloseCode::Flooding, why, retry_after_s: None };
    assert_eq!(ended(&mut session), outcome);
}
