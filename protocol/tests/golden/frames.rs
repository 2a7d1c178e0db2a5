//! A short stay as a client sees it: frames, a handle that changes its bearer, losses.
//!
//! Each step is a frame in hexadecimal digits with what a reader makes of it, or the news that a
//! handle has another bearer. The steps must be read in order by one reader.

use protocol::delta::{FrameDecoder, FrameEncoder, FrameHead, FrameScratch, OwnBody};
use protocol::ground::Plain;
use protocol::input::Input;
use protocol::limits::DATAGRAM_BYTES_MAX;
use protocol::motion::{Body, MotionRules, step};
use protocol::state::EntityState;
use protocol::units::{Position, Tick, Yaw};
use serde_json::{Value, json};

use crate::vectors::{bytes_of, hex};

/// Ticks per second of the told world.
const HZ: u16 = 20;

/// The first tick: its low 16 bits overflow on the way.
const FIRST: u64 = 131_060;

/// Returns the steps of the stay and what this code's reader makes of them.
pub fn told() -> Vec<Value> {
    let mut steps = Vec::new();
    let mut encoder = FrameEncoder::new(HZ);
    let mut reader = FrameDecoder::new(HZ);
    let mut bodies = vec![body(0, 0), body(300, 250), body(-5_000, 4_200)];
    let mut scratch = FrameScratch::default();
    for tick in FIRST..FIRST + 60 {
        advance(&mut bodies, tick);
        if tick == FIRST + 30 {
            encoder.forget(1);
            steps.push(json!({"forget": 1, "since": tick}));
            reader.forget(1, Tick(tick));
        }
        let frame = frame_of(&mut encoder, &mut scratch, &bodies, tick);
        // Some frames are lost on their way; one arrives twice.
        if tick % 7 == 3 {
            continue;
        }
        steps.push(seen(&mut reader, &frame, tick));
        if tick % 20 == 10 {
            steps.push(seen(&mut reader, &frame, tick));
        }
        if tick % 3 == 0
            && let Some(acks) = reader.acks()
        {
            encoder.acknowledge(acks);
        }
    }
    steps.extend(after_a_loss(&mut encoder, &mut reader, &mut bodies));
    steps
}

/// A reader that lost what the frames build on.
fn after_a_loss(
    encoder: &mut FrameEncoder,
    reader: &mut FrameDecoder,
    bodies: &mut [Body],
) -> Vec<Value> {
    let mut steps = Vec::new();
    let mut scratch = FrameScratch::default();
    let last = FIRST + 60;
    // The reader is told of a new bearer of handle 0 that the writer knows nothing about.
    steps.push(json!({"forget": 0, "since": last}));
    reader.forget(0, Tick(last));
    advance(bodies, last);
    steps.push(seen(reader, &frame_of(encoder, &mut scratch, bodies, last), last));
    steps.push(json!({"reset": true}));
    reader.reset();
    advance(bodies, last + 1);
    steps.push(seen(reader, &frame_of(encoder, &mut scratch, bodies, last + 1), last + 1));
    encoder.reset();
    advance(bodies, last + 2);
    steps.push(seen(reader, &frame_of(encoder, &mut scratch, bodies, last + 2), last + 2));
    steps
}

/// Returns `steps` with what this code's reader makes of them now.
pub fn understood(steps: &[Value]) -> Vec<Value> {
    let mut reader = FrameDecoder::new(HZ);
    let mut understood = Vec::new();
    for step in steps {
        if step["reset"] == true {
            reader.reset();
            understood.push(step.clone());
        } else if let (Some(handle), Some(since)) =
            (step["forget"].as_u64(), step["since"].as_u64())
        {
            reader.forget(u16::try_from(handle).expect("a handle"), Tick(since));
            understood.push(step.clone());
        } else {
            let near = step["near"].as_u64().expect("near");
            understood.push(seen(&mut reader, &bytes_of(step), near));
        }
    }
    understood
}

/// Reads bytes as the first frame of a session.
pub fn read_alone(bytes: &[u8]) {
    let mut reader = FrameDecoder::new(HZ);
    if let Ok(Some(frame)) = reader.decode(bytes, Tick(FIRST)) {
        assert!(frame.states.len() + frame.missing.len() <= 255);
    }
}

fn seen(reader: &mut FrameDecoder, bytes: &[u8], near: u64) -> Value {
    let frame = reader.decode(bytes, Tick(near)).expect("well formed");
    let Some(frame) = frame else {
        return json!({"hex": hex(bytes), "near": near, "stale": true});
    };
    let own = frame.own.map(|own| {
        json!({
            "at": own.at, "velocity": own.velocity, "mode": own.mode, "cooldown": own.cooldown,
        })
    });
    let states: Vec<Value> = frame
        .states
        .iter()
        .map(|(handle, state)| {
            let Position { x, y, z } = state.position;
            json!({
                "handle": handle, "position": [x, y, z], "velocity": state.velocity,
                "yaw": state.yaw, "animation": state.animation, "flags": state.flags,
            })
        })
        .collect();
    let missing = frame.missing.to_vec();
    let (tick, acked_input, dilated) = (frame.tick.0, frame.acked_input, frame.is_dilated);
    let (newest, before) =
        reader.acks().map_or((None, None), |acks| (Some(acks.newest), Some(acks.before)));
    json!({
        "hex": hex(bytes), "near": near, "tick": tick, "acked_input": acked_input,
        "dilated": dilated, "own": own, "states": states, "missing": missing,
        "acks": {"newest": newest, "before": before},
    })
}

fn frame_of(
    encoder: &mut FrameEncoder,
    scratch: &mut FrameScratch,
    bodies: &[Body],
    tick: u64,
) -> Vec<u8> {
    let own = bodies[0];
    let head = FrameHead {
        tick: Tick(tick),
        acked_input: (tick % 65_536) as u16,
        own: OwnBody { at: own.at, velocity: own.velocity, mode: own.mode as u8, cooldown: 0 },
        is_dilated: tick.is_multiple_of(16),
        budget_bytes: DATAGRAM_BYTES_MAX,
    };
    let mut frame = encoder.begin(&head, scratch);
    for (handle, body) in [(0, &bodies[1]), (1, &bodies[2])] {
        assert!(frame.push(handle, &body.state()), "three bodies fit");
    }
    if tick.is_multiple_of(5) {
        // Something far away that never moves, under a handle that has no baselines.
        let lamp = EntityState {
            position: Position::new(1_000_000, -20, -77_000),
            flags: protocol::state::flags::OPEN,
            ..EntityState::default()
        };
        assert!(frame.push(40_000, &lamp), "three bodies fit");
    }
    let mut bytes = Vec::new();
    frame.finish(&mut bytes);
    bytes
}

fn body(x: i32, z: i32) -> Body {
    Body::standing(Position::new(x, 0, z), Yaw::NORTH)
}

/// Everybody walks, turns, runs and jumps.
fn advance(bodies: &mut [Body], tick: u64) {
    let rules = MotionRules { sea_level_cm: -10_000, ..MotionRules::default() };
    for (index, body) in (0_u64..).zip(bodies) {
        let phase = tick + 17 * index;
        let input = Input {
            forward: if phase % 40 < 30 { 127 } else { 0 },
            right: if phase % 25 < 5 { -127 } else { 0 },
            yaw: Yaw((phase * 700 % 65_536) as u16),
            buttons: u8::from(phase.is_multiple_of(33)) | if phase % 20 < 10 { 2 } else { 0 },
        };
        *body = step(body, input, &Plain::default(), &rules);
    }
}
