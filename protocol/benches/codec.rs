//! What frames cost to write and to read: 24 of 64 walkers, acknowledged four ticks late.
//!
//! `cargo bench -p protocol --bench codec`; divide by 24,000 for one entity.

#[path = "../tests/crowd/mod.rs"]
#[expect(dead_code, reason = "the link is for the tests")]
mod crowd;

use crowd::{Crowd, HZ};
use divan::{Bencher, black_box};
use protocol::delta::{Acks, FrameDecoder, FrameEncoder, FrameHead, FrameScratch, OwnBody};
use protocol::state::EntityState;
use protocol::units::Tick;

const SENT: u16 = 24;
const LATE: u64 = 4;

fn main() {
    divan::main();
}

fn write(
    encoder: &mut FrameEncoder,
    scratch: &mut FrameScratch,
    tick: u64,
    states: &[EntityState],
    out: &mut Vec<u8>,
) {
    let own = OwnBody { at: [1_536_000, 0, 1_536_000], ..OwnBody::default() };
    let head =
        FrameHead { tick: Tick(tick), acked_input: 0, own, is_dilated: false, budget_bytes: 1_150 };
    out.clear();
    encoder.acknowledge(Acks { newest: Tick(tick.saturating_sub(LATE)).low(), before: u32::MAX });
    let mut writer = encoder.begin(&head, scratch);
    for handle in 0..SENT {
        assert!(writer.push(handle * 2, &states[usize::from(handle)]));
    }
    writer.finish(out);
}

/// A thousand ticks of the walkers.
fn ticks() -> Vec<Vec<EntityState>> {
    let mut crowd = Crowd::new(1, usize::from(SENT), true);
    let states = (0..1_000).map(|_| {
        crowd.step();
        (0..usize::from(SENT)).map(|index| crowd.state(index)).collect()
    });
    states.collect()
}

#[divan::bench]
fn encode_1000_frames_of_24(bencher: Bencher<'_, '_>) {
    let states = ticks();
    let mut scratch = FrameScratch::default();
    let mut out = Vec::new();
    bencher.with_inputs(|| FrameEncoder::new(HZ)).bench_local_values(|mut encoder| {
        let mut bytes = 0;
        for (now, tick) in states.iter().zip(1..) {
            write(&mut encoder, &mut scratch, tick, black_box(now), &mut out);
            bytes += out.len();
        }
        bytes
    });
}

#[divan::bench]
fn decode_1000_frames_of_24(bencher: Bencher<'_, '_>) {
    let (mut encoder, mut scratch) = (FrameEncoder::new(HZ), FrameScratch::default());
    let frames = ticks().into_iter().zip(1..).map(|(now, tick)| {
        let mut out = Vec::new();
        write(&mut encoder, &mut scratch, tick, &now, &mut out);
        out
    });
    let frames: Vec<Vec<u8>> = frames.collect();
    bencher.with_inputs(|| FrameDecoder::new(HZ)).bench_local_values(|mut decoder| {
        let mut states = 0;
        for (frame, tick) in frames.iter().zip(1..) {
            let frame = decoder.decode(black_box(frame), Tick(tick)).expect("a frame of our own");
            states += frame.map_or(0, |frame| frame.states.len());
        }
        assert_eq!(states, frames.len() * usize::from(SENT));
        states
    });
}
