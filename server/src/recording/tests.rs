//! Tests of recordings: whole, cut anywhere, damaged, full, and of steps that came out otherwise.

use std::sync::Arc;

use protocol::ground::{CHUNK_SAMPLES, HeightGrid};
use protocol::ids::{ChunkId, EntityId, IdMint, PersonId};
use protocol::input::{self, Input, InputDatagram, InputHead};
use protocol::message::common::Appearance;
use protocol::motion::MotionRules;
use protocol::rules::RuleBook;
use protocol::units::{Position, Yaw};
use worldgen::chunk::{Chunk, Surface};

use super::replay::{Report, Stop, replay};
use super::*;
use crate::people::PersonRecord;
use crate::region::Regions;
use crate::shard::batch::Command;
use crate::shard::viewer::{ClientKey, Told};
use crate::shard::{Shard, WorldRules};

const HERE: RegionIndex = RegionIndex(0);
const ADA: EntityId = EntityId(7);

fn rules() -> WorldRules {
    WorldRules {
        regions: Regions::new(1, 6_400),
        motion: MotionRules::default(),
        book: Arc::new(RuleBook::starter()),
        view_cm: 4_000,
        nearby_cm: 2_000,
        whisper_cm: 300,
    }
}

fn head() -> Head {
    Head::new(WorldId(1), WorldTerms::of(&rules(), RuleBook::starter_text()))
}

fn flat(x: i32, z: i32) -> Arc<Chunk> {
    let samples = CHUNK_SAMPLES * CHUNK_SAMPLES;
    let grid = HeightGrid::new(vec![0; samples].into()).expect("as many as needed");
    let surface = vec![Surface::Grass; samples].into();
    Arc::new(Chunk::new(ChunkId { level: 0, x, z }, grid, surface).expect("flat ground"))
}

fn enters() -> Vec<Command> {
    let record = PersonRecord {
        person: PersonId(1),
        name: "Ada".into(),
        avatar: ADA,
        appearance: Appearance::default(),
        position: Position::default(),
        yaw: Yaw::NORTH,
        ignored: Default::default(),
        lendings: Vec::new(),
        is_guest: false,
        seen_s: 0,
    };
    let (client, hidden, told) = (ClientKey(1), Default::default(), Told::default());
    let attach = Command::Attach { avatar: ADA, client, hidden, told };
    let ground = [(0, 0), (-1, 0), (0, -1), (-1, -1)].map(|(x, z)| Command::Ground(flat(x, z)));
    ground.into_iter().chain([record.entrance(Vec::new()), attach]).collect()
}

/// What Ada's client sends at `tick`.
fn datagram(tick: u16, forward: i8) -> InputDatagram {
    let head = InputHead { newest: tick, ..InputHead::default() };
    let mut bytes = Vec::new();
    input::encode(&head, &[Input { forward, ..Input::default() }], &[], &mut bytes);
    InputDatagram::decode(&bytes).expect("an input")
}

/// What goes into the step to `tick`: Ada enters, and walks ever faster.
fn batch(tick: u16) -> StepInput {
    StepInput {
        tick: Tick(u64::from(tick)),
        pace_permille: 1_000,
        frame_bytes_max: 1_000,
        is_survey: true,
        inputs: vec![(ADA, datagram(tick, tick as i8))],
        commands: if tick == 1 { enters() } else { Vec::new() },
        ..StepInput::default()
    }
}

/// Records some ticks of one shard; `spoil` changes what is recorded of a step behind its back.
fn recorded(bytes_max: u64, spoil: impl Fn(&mut StepInput)) -> (Vec<u8>, Result<(), Full>) {
    let region = rules().regions.region(HERE);
    let mut sheet = Sheet::begin(&head(), bytes_max).expect("the head fits");
    let mut fill = || {
        let packed = Shard::new(region.expect("a region"), rules(), IdMint::new(1)).pack();
        sheet.shard(&packed)?;
        let mut shard = packed.unpack(rules()).expect("it was packed");
        for tick in 1..=20 {
            let mut told = batch(tick);
            spoil(&mut told);
            sheet.step(HERE, &told)?;
            let mut output = StepOutput::default();
            shard.step(batch(tick), &mut output);
            sheet.made(HERE, Tick(u64::from(tick)), OutputHash::of(&output).expect("it fits"))?;
        }
        Ok(())
    };
    let filled = fill();
    let mut bytes = sheet.take();
    bytes.extend(end("the test is over"));
    (bytes, filled)
}

fn whole() -> Vec<u8> {
    let (bytes, filled) = recorded(1 << 30, |_| {});
    assert_eq!(filled, Ok(()));
    bytes
}

fn replayed(bytes: &[u8]) -> (Report, Option<String>) {
    let (report, stop) = replay(bytes);
    (report, stop.map(|stop| stop.to_string()))
}

#[test]
fn the_same_batches_give_the_same_hashes() {
    let (report, stop) = replayed(&whole());
    assert_eq!(stop, None);
    assert_eq!((report.steps, report.equal, report.inputs, report.commands), (20, 20, 20, 6));
    assert_eq!(report.ticks, Some((Tick(1), Tick(20))));
    assert_eq!(report.ended.as_deref(), Some("the test is over"));
    let text = report.to_string();
    assert!(text.contains("20 steps gave the hash that was recorded"), "{text}");
}

#[test]
fn a_file_that_is_cut_anywhere_is_replayed_up_to_the_cut() {
    let bytes = whole();
    let (mut steps, mut cuts) = (0, 0);
    for length in (0..bytes.len()).step_by(97) {
        let (report, stop) = replay(&bytes[..length]);
        match stop {
            None => assert_eq!(report.ended, None),
            Some(Stop::Recording(BadRecording::Magic)) => assert!(length < MAGIC.len()),
            Some(Stop::Recording(BadRecording::Cut { at })) => {
                cuts += 1;
                assert!(at < length as u64);
            }
            Some(other) => panic!("cut at {length}: {other}"),
        }
        assert!(steps <= report.steps && report.steps - report.equal <= 1);
        steps = report.steps;
    }
    assert!(18 <= steps && 20 < cuts, "{steps} steps, {cuts} cuts");
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let bytes = whole();
    for at in (0..bytes.len()).step_by(61) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        assert!(replayed(&bytes).1.is_some(), "byte {at} was changed");
    }
}

#[test]
fn an_input_that_was_another_gives_another_hash_at_its_tick() {
    let (bytes, _) = recorded(1 << 30, |input| {
        if input.tick == Tick(9) {
            input.inputs[0].1 = datagram(9, 100);
        }
    });
    let (report, stop) = replayed(&bytes);
    assert_eq!(report.equal, 8);
    let stop = stop.expect("it differs");
    assert!(stop.starts_with("tick 9, region 0: the step gives hash "), "{stop}");
}

#[test]
fn a_recording_ends_where_it_is_as_long_as_it_may_be_and_says_why() {
    // Room is kept for the longest last record, and so the last steps do not fit.
    let max = whole().len() as u64;
    let (bytes, filled) = recorded(max, |_| {});
    assert_eq!(filled, Err(Full::Bytes { max }));
    assert!(bytes.len() as u64 <= max, "{} bytes", bytes.len());
    let (report, stop) = replayed(&bytes);
    assert_eq!((stop, report.ended.as_deref()), (None, Some("the test is over")));
    assert!((1..20).contains(&report.equal), "{report}");
    assert_eq!(Sheet::begin(&head(), 100).map(drop), Err(Full::Bytes { max: 100 }));
    let long = end(&"ä".repeat(5_000));
    assert!(long.len() as u64 <= LAST_BYTES);
}

#[test]
fn what_is_no_recording_of_this_program_is_refused_in_words() {
    let check = |bytes: &[u8], expected: &str| {
        let (_, stop) = replayed(bytes);
        assert_eq!(stop.as_deref(), Some(expected));
    };
    check(b"ECWIRE1\nand so on", "not a recorded world: it must begin with ECSTEP1");
    let older = Head { program: "ecumene 0.0.1".into(), ..head() };
    let bytes = Sheet::begin(&older, 1 << 20).expect("the head fits").take();
    check(
        &bytes,
        &format!(
            "recorded by ecumene 0.0.1, and this is {PROGRAM}: replay it with the program that \
             recorded it"
        ),
    );
    let mut sheet = Sheet::begin(&head(), 1 << 20).expect("the head fits");
    sheet.step(HERE, &batch(1)).expect("it fits");
    check(&sheet.take(), "the records make no sense: a step of region 0, which has no shard");
}
