//! A replica at the end of a bad line: a small server, a lossy link, and what is measured there.
//!
//! The server steps bodies with [`motion::step`](crate::motion::step), queues inputs as a real one
//! does and writes frames with the real encoder, so the figures are those of the code that ships.

mod link;
mod server;

use super::*;
use crate::delta::{FRAME_BYTES_MAX, FrameEncoder, FrameHead, FrameScratch, OwnBody};
use crate::ground::Plain;
use crate::ids::{ContentHash, SessionId, WorldId};
use crate::input::{JUMP, RUN};
use crate::message::common::Appearance;
use crate::message::server::{Holding, Notice, OfferEnded, Pace, WorldName};
use crate::rules::{KindId, OfferEnd, OfferId};
use crate::units::Position;
use link::{Link, Weather};
use server::{Server, truth_at};

pub(super) const TICK_US: u64 = 50_000;

/// How often the client's loop turns, as at 60 pictures a second.
const TURN_US: u64 = 16_667;

pub(super) fn rules() -> MotionRules {
    MotionRules { sea_level_cm: -100_000, ..MotionRules::default() }
}

pub(super) fn welcome() -> Welcome {
    Welcome {
        session: SessionId(1),
        resumed: false,
        person: PersonId(2),
        avatar: EntityId(3),
        role: "visitor".into(),
        world: WorldName { id: WorldId(5), name: "meadow".into(), rating: "everyone".into() },
        rules: ContentHash([0; 32]),
        features: 0,
        tick: Tick(1_000),
        hz: 20,
        pace_permille: 1_000,
        motion: rules(),
        position: Position::default(),
        yaw: Yaw::NORTH,
        appearance: Appearance::default(),
        ticket: Vec::new(),
        capabilities: Vec::new(),
    }
}

/// What a run measured, sorted.
struct Measured {
    /// Errors of the others against the truth at the shown moment, in cm.
    errors_cm: Vec<f64>,
    /// How far the shown moment is behind the server's, in ms.
    delays_ms: Vec<f64>,
    /// Corrections of one's own body, in cm.
    corrections_cm: Vec<f64>,
    /// Inputs waiting at the server after each tick.
    waiting: Vec<f64>,
    counts: Counts,
}

fn at(sorted: &[f64], permille: usize) -> f64 {
    sorted[(sorted.len() - 1) * permille / 1_000]
}

fn turning(tick: u64, seed: u64) -> Input {
    // Now walking, now running, now standing, with turns and jumps in between.
    let phase = (tick / 23 + seed * 7) % 6;
    let yaw = Yaw(((tick / 17 + seed * 3) * 9_001 % 65_536) as u16);
    let (forward, buttons) = match phase {
        0 => (0, 0),
        1 | 2 => (127, 0),
        3 => (127, RUN | JUMP),
        _ => (127, RUN),
    };
    Input { forward, right: 0, yaw, buttons }
}

/// Runs a client for `seconds` in this weather; the first three seconds do not count.
fn run(weather: Weather, seconds: u64, detail: Detail) -> Measured {
    let mut server = Server::new(11);
    let mut replica = Replica::new(&welcome(), detail);
    let (mut down, mut up) = (Link::new(weather, 1), Link::new(weather, 2));
    let (mut errors_cm, mut delays_ms) = (Vec::new(), Vec::new());
    let (mut corrections_cm, mut waiting) = (Vec::new(), Vec::new());
    let mut plain = Plain::default();
    let mut out = Vec::new();
    replica.hear(&ServerMessage::Announce(server.announce()));
    replica.round_trip(2 * weather.delay_us);
    for now_us in (0..seconds * 1_000_000).step_by(1_000) {
        let counts = 3_000_000 < now_us;
        up.receive(now_us, |bytes| server.input(bytes));
        if now_us % TICK_US == 0 {
            down.send(now_us, server.tick());
            if counts {
                waiting.push(server.waiting() as f64);
            }
        }
        down.receive(now_us, |bytes| {
            let seen = replica.frame(bytes, now_us, &mut plain).expect("a frame");
            let correction = seen.and_then(|seen| seen.correction);
            corrections_cm.extend(correction.filter(|_| counts).map(|correction| correction.cm));
        });
        out.clear();
        let input = turning(now_us / TICK_US, 99);
        if replica.input(input, now_us, &plain, &mut out).is_some() {
            up.send(now_us, out.clone());
        }
        if now_us % TURN_US < 1_000 && counts {
            replica.advance(now_us);
            let moment = replica.moment().expect("frames came");
            let true_moment = 1_000.0 + now_us as f64 / TICK_US as f64;
            delays_ms.push((true_moment - moment) * 50.0);
            for (entity, shown) in replica.shown() {
                let truth = truth_at(&server, entity.id, moment);
                errors_cm.push(entity::length(entity::difference(shown.at_cm, truth)));
            }
        }
    }
    for list in [&mut errors_cm, &mut delays_ms, &mut corrections_cm, &mut waiting] {
        list.sort_by(f64::total_cmp);
    }
    Measured { errors_cm, delays_ms, corrections_cm, waiting, counts: replica.counts() }
}

#[test]
fn on_a_clean_line_everything_is_close() {
    let measured = run(Weather::clean(), 30, Detail::Full);
    report("clean", &measured);
    assert!(at(&measured.errors_cm, 950) < 15.0);
    assert!(at(&measured.delays_ms, 950) < 130.0);
    assert!(at(&measured.corrections_cm, 990) < 0.01, "prediction is exact");
    assert!(at(&measured.waiting, 950) <= 2.0);
}

#[test]
fn on_a_bad_line_the_goals_are_met() {
    let measured = run(Weather::bad(), 120, Detail::Full);
    report("5 % loss, 100 +- 20 ms each way", &measured);
    assert!(at(&measured.errors_cm, 950) <= 30.0);
    assert!(at(&measured.delays_ms, 950) <= 250.0);
    assert!(at(&measured.corrections_cm, 950) <= 10.0);
    assert!(at(&measured.waiting, 950) <= 4.0);
    assert!(measured.counts.repeated_inputs < 60, "{}", measured.counts.repeated_inputs);
}

#[test]
fn on_a_terrible_line_it_still_works() {
    let measured = run(Weather::terrible(), 60, Detail::Full);
    report("25 % loss, 150 +- 60 ms each way, 5 % twice", &measured);
    assert!(at(&measured.errors_cm, 950) <= 60.0);
    assert!(at(&measured.delays_ms, 950) <= 400.0);
    assert!(at(&measured.corrections_cm, 950) <= 30.0);
    assert!(0 < measured.counts.stale_frames, "some come twice");
}

#[test]
fn a_load_generator_keeps_only_the_newest() {
    let measured = run(Weather::clean(), 10, Detail::Newest);
    assert_eq!(measured.counts.bad_frames, 0);
    assert!(1_000 < measured.counts.states);
}

fn report(name: &str, measured: &Measured) {
    let Measured { errors_cm, delays_ms, corrections_cm, waiting, counts } = measured;
    println!(
        "{name}: error of others cm p50 {:.1} p95 {:.1} p99 {:.1}; delay ms p50 {:.0} p95 {:.0}; \
         own correction cm p95 {:.1} p99 {:.1}; inputs waiting p50 {} p95 {}; {counts:?}",
        at(errors_cm, 500),
        at(errors_cm, 950),
        at(errors_cm, 990),
        at(delays_ms, 500),
        at(delays_ms, 950),
        at(corrections_cm, 950),
        at(corrections_cm, 990),
        at(waiting, 500),
        at(waiting, 950),
    );
}

#[test]
fn too_many_waiting_inputs_are_worked_off() {
    let mut server = Server::new(0);
    let mut replica = Replica::new(&welcome(), Detail::Full);
    replica.round_trip(0);
    let mut plain = Plain::default();
    let (mut out, mut waiting) = (Vec::new(), Vec::new());
    for now_us in (0..40_000_000).step_by(1_000) {
        // The server stops for 300 ms once; inputs pile up meanwhile.
        let stopped = (10_000_000..10_300_000).contains(&now_us);
        if now_us % TICK_US == 0 && !stopped {
            let frame = server.tick();
            replica.frame(&frame, now_us, &mut plain).expect("a frame");
            waiting.push(server.waiting());
        }
        out.clear();
        if replica.input(turning(0, 2), now_us, &plain, &mut out).is_some() {
            server.input(&out);
        }
    }
    let most = waiting.iter().max().copied().unwrap_or(0);
    assert!(4 <= most, "they did pile up: {most}");
    assert!(waiting.iter().rev().take(100).all(|&waiting| waiting <= 2), "and were worked off");
}

fn appear(handle: u16, entity: u64) -> Appear {
    Appear {
        handle,
        entity: EntityId(entity),
        being: Being::Avatar {
            person: PersonId(entity),
            name: format!("Ada {entity}"),
            appearance: Appearance::default(),
        },
        position: Position::new(i32::from(handle) * 100, 0, 0),
        yaw: Yaw::NORTH,
        flags: 0,
    }
}

fn announce(since: u64, vanish: &[u16], appear: Vec<Appear>) -> ServerMessage {
    Announce { since: Tick(since), vanish: vanish.to_vec(), appear }.into()
}

#[test]
fn a_handle_can_change_its_bearer() {
    let mut replica = Replica::new(&welcome(), Detail::Full);
    replica.hear(&announce(1_000, &[], vec![appear(1, 10), appear(2, 20)]));
    assert_eq!(replica.named("ada 20").map(|entity| entity.id), Some(EntityId(20)));
    replica.hear(&announce(1_010, &[1], vec![appear(1, 11)]));
    assert!(replica.entity(EntityId(10)).is_none());
    assert!(replica.entity(EntityId(11)).is_some());
    // Until the moment shown gets there, the former bearer stays on display.
    replica.moment = Some(1_009.0);
    let shown: Vec<u64> = replica.shown().map(|(entity, _)| entity.id.0).collect();
    assert_eq!(shown, [20, 10]);
    replica.moment = Some(1_010.0);
    let shown: Vec<u64> = replica.shown().map(|(entity, _)| entity.id.0).collect();
    assert_eq!(shown, [11, 20]);
}

#[test]
fn what_overtook_its_announcement_counts() {
    let resting = EntityState { position: Position::new(700, 0, 0), ..EntityState::default() };
    let mut encoder = FrameEncoder::new(20);
    let own = OwnBody::default();
    let head = FrameHead {
        tick: Tick(1_002),
        acked_input: 0,
        own,
        is_dilated: false,
        budget_bytes: FRAME_BYTES_MAX,
    };
    let (mut scratch, mut bytes) = (FrameScratch::default(), Vec::new());
    let mut writer = encoder.begin(&head, &mut scratch);
    assert!(writer.push(1, &resting));
    writer.finish(&mut bytes);
    for detail in [Detail::Full, Detail::Newest] {
        let place = |since: u64| {
            let mut replica = Replica::new(&welcome(), detail);
            replica.frame(&bytes, 0, &mut Plain::default()).expect("a frame");
            replica.hear(&announce(since, &[], vec![appear(1, 10)]));
            replica.entity(EntityId(10)).expect("in view").newest().1.position.x
        };
        // Acknowledged and at rest, the server never tells it again.
        assert_eq!(place(1_000), 700);
        assert_eq!(place(1_010), 100, "but that was an earlier bearer of the handle");
    }
}

#[test]
fn a_new_name_keeps_the_place() {
    let mut replica = Replica::new(&welcome(), Detail::Full);
    replica.hear(&announce(1_000, &[], vec![appear(1, 10)]));
    let mut renamed = appear(1, 10);
    renamed.being = Being::Thing { kind: KindId(4), count: 1, text: None };
    replica.hear(&announce(1_020, &[], vec![renamed]));
    let entity = replica.entity(EntityId(10)).expect("still there");
    assert_eq!(entity.since, Tick(1_000));
    assert_eq!(replica.nearest_of(KindId(4)).map(|entity| entity.id), Some(EntityId(10)));
}

#[test]
fn the_picture_is_bounded_whatever_is_announced() {
    let mut replica = Replica::new(&welcome(), Detail::Full);
    for handle in 0..2_000 {
        replica.hear(&announce(1_000, &[], vec![appear(handle, u64::from(handle))]));
    }
    assert_eq!(replica.entities.len(), ENTITIES_MAX);
    for handle in 0..2_000 {
        replica.hear(&announce(1_000, &[handle], vec![appear(handle, 1)]));
    }
    assert!(replica.leaving.len() <= ENTITIES_MAX);
    for number in 0..1_000 {
        replica.hear(&Notice { text: number.to_string() }.into());
    }
    assert_eq!(replica.log().notices.len(), NOTICES_MAX);
    assert_eq!(replica.log().notices.back().map(|notice| notice.text.as_str()), Some("999"));
}

#[test]
fn holdings_and_pace_are_followed() {
    let mut replica = Replica::new(&welcome(), Detail::Newest);
    replica.hear(&Holding { tick: Tick(1_005), things: Vec::new() }.into());
    assert_eq!(replica.log().holding_since, Tick(1_005));
    replica.hear(&OfferEnded { offer: OfferId(7), end: OfferEnd::Declined }.into());
    replica.hear(&Pace { permille: 500, from: Tick(1_010) }.into());
    assert_eq!(replica.clock().tick_us(), 2 * TICK_US);
}

#[test]
fn rubbish_is_counted_and_changes_nothing() {
    let mut replica = Replica::new(&welcome(), Detail::Full);
    let before = *replica.body();
    for bytes in [&[][..], &[1], &[1, 2, 3], &[9; 40], &[1; 900]] {
        if let Ok(Some(_)) = replica.frame(bytes, 0, &mut Plain::default()) {
            continue;
        }
        assert_eq!(*replica.body(), before);
    }
    assert!(3 <= replica.counts().bad_frames);
}

#[test]
fn resuming_numbers_inputs_on() {
    let mut server = Server::new(3);
    let mut replica = Replica::new(&welcome(), Detail::Full);
    let mut plain = Plain::default();
    replica.frame(&server.tick(), 0, &mut plain).expect("a frame");
    let mut out = Vec::new();
    let first = (0..400_000)
        .step_by(1_000)
        .filter_map(|now_us| replica.input(Input::default(), now_us, &plain, &mut out));
    let last = first.last().expect("some were sent");
    replica.resume(&Welcome { resumed: true, ..welcome() });
    assert_eq!(replica.entities().count(), 0);
    let mut server = Server::new(3);
    replica.frame(&server.tick(), 9_000_000, &mut plain).expect("a frame");
    let next = replica.input(Input::default(), 9_100_000, &plain, &mut out);
    assert_eq!(next, Some(last + 1));
}
