//! Frames end to end: encoder, lossy link, decoder, acknowledgements, in one thread.

mod crowd;

use std::collections::BTreeMap;

use crowd::{Crowd, HZ, Link, Random};
use proptest::prelude::*;
use protocol::delta::{
    Acks, BadFrame, ENTRIES_MAX, Frame, FrameDecoder, FrameEncoder, FrameHead, FrameScratch,
    OwnBody,
};
use protocol::state::EntityState;
use protocol::units::{Position, Tick};

/// What a client tells the server.
#[derive(Clone, Debug, Default)]
struct Report {
    acks: Option<Acks>,
    lost: Vec<u16>,
    has_lost_everything: bool,
}

/// One viewer, both ends, and the truth.
struct Show {
    tick: u64,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    scratch: FrameScratch,
    down: Link<Vec<u8>>,
    up: Link<Report>,
    /// Handles that changed their bearer: reliable and in order, but late.
    announcements: Vec<(u64, u16, Tick)>,
    /// States and bearer by handle, at each tick.
    truth: BTreeMap<u64, BTreeMap<u16, (EntityState, u64)>>,
    owns: BTreeMap<u64, OwnBody>,
    /// What the client holds of each handle.
    shown: BTreeMap<u16, (Tick, EntityState)>,
    since: BTreeMap<u16, Tick>,
    missed: usize,
    received: usize,
    report: Report,
}

impl Show {
    fn new(seed: u64, first_tick: u64, delay: (u64, u64), loss_percent: u64, repeat: u64) -> Self {
        Self {
            tick: first_tick,
            encoder: FrameEncoder::new(HZ),
            decoder: FrameDecoder::new(HZ),
            scratch: FrameScratch::default(),
            down: Link::new(seed, delay, loss_percent, repeat),
            up: Link::new(seed + 1, delay, loss_percent, repeat),
            announcements: Vec::new(),
            truth: BTreeMap::new(),
            owns: BTreeMap::new(),
            shown: BTreeMap::new(),
            since: BTreeMap::new(),
            missed: 0,
            received: 0,
            report: Report::default(),
        }
    }

    /// Runs one tick: `states` are pushed in this order; returns bits and number of entries sent.
    fn step(
        &mut self,
        own: OwnBody,
        states: &BTreeMap<u16, (EntityState, u64)>,
        order: &[u16],
        budget_bytes: usize,
    ) -> (usize, usize) {
        self.tick += 1;
        self.truth.insert(self.tick, states.clone());
        self.owns.insert(self.tick, own);
        for report in self.up.arrivals(self.tick) {
            self.hear(&report);
        }
        let mut frame = Vec::new();
        let sent = self.write(own, states, order, budget_bytes, &mut frame);
        assert!(frame.len() <= budget_bytes.max(60), "{} of {budget_bytes}", frame.len());
        self.down.send(self.tick, frame);
        for datagram in self.down.arrivals(self.tick) {
            self.read(&datagram);
        }
        self.announce();
        self.report.acks = self.decoder.acks();
        self.up.send(self.tick, self.report.clone());
        sent
    }

    fn hear(&mut self, report: &Report) {
        if report.has_lost_everything {
            self.encoder.reset();
        }
        report.lost.iter().for_each(|&handle| self.encoder.forget(handle));
        if let Some(acks) = report.acks {
            self.encoder.acknowledge(acks);
        }
    }

    fn write(
        &mut self,
        own: OwnBody,
        states: &BTreeMap<u16, (EntityState, u64)>,
        order: &[u16],
        budget_bytes: usize,
        frame: &mut Vec<u8>,
    ) -> (usize, usize) {
        let due: Vec<u16> = order
            .iter()
            .copied()
            .filter(|handle| self.encoder.needs_send(*handle, &states[handle].0))
            .collect();
        let tick = Tick(self.tick);
        let acked_input = tick.low() ^ 0x5A5A;
        let head = FrameHead {
            tick,
            acked_input,
            own,
            is_dilated: self.tick.is_multiple_of(7),
            budget_bytes,
        };
        let mut writer = self.encoder.begin(&head, &mut self.scratch);
        let head_bits = writer.bits();
        let pushed = due.iter().filter(|handle| writer.push(**handle, &states[handle].0)).count();
        let most_bits = writer.bits();
        let bytes = writer.finish(frame);
        assert!(bytes * 8 < most_bits + 8);
        ((bytes * 8).saturating_sub(head_bits), pushed)
    }

    fn read(&mut self, datagram: &[u8]) {
        let frame = self.decoder.decode(datagram, Tick(self.tick)).expect("a frame of our own");
        let Some(frame) = frame else { return };
        self.received += 1;
        self.missed += frame.missing.len();
        assert_eq!(frame.acked_input, frame.tick.low() ^ 0x5A5A);
        assert_eq!(frame.is_dilated, frame.tick.0.is_multiple_of(7));
        if let Some(own) = frame.own {
            assert_eq!(own, self.owns[&frame.tick.0]);
        }
        self.report.has_lost_everything =
            frame.has_lost_everything || self.report.has_lost_everything && frame.own.is_none();
        for handle in frame.missing {
            if !self.report.lost.contains(handle) {
                self.report.lost.push(*handle);
            }
        }
        for &(handle, state) in frame.states {
            assert_eq!(state, self.truth[&frame.tick.0][&handle].0, "{handle} at {:?}", frame.tick);
            assert!(self.since.get(&handle).is_none_or(|&since| since <= frame.tick));
            self.report.lost.retain(|&lost| lost != handle);
            let shown = self.shown.entry(handle).or_insert((frame.tick, state));
            if shown.0 < frame.tick {
                *shown = (frame.tick, state);
            }
        }
    }

    /// Gives `handle` to another bearer from the next tick on.
    fn replace(&mut self, handle: u16, delay: u64) {
        self.encoder.forget(handle);
        self.announcements.push((self.tick + delay, handle, Tick(self.tick + 1)));
    }

    fn announce(&mut self) {
        let now = self.tick;
        for &(_, handle, since) in self.announcements.iter().filter(|&&(at, _, _)| at == now) {
            self.decoder.forget(handle, since);
            let known = self.since.entry(handle).or_insert(since);
            *known = since.max(*known);
            if self.shown.get(&handle).is_some_and(|&(tick, _)| tick < since) {
                self.shown.remove(&handle);
            }
        }
        self.announcements.retain(|&(at, _, _)| at > now);
    }
}

#[test]
fn golden_vectors_stay_valid() {
    let walker = EntityState {
        position: Position::new(1_000, 250, -3_000),
        velocity: [35, 0, -20],
        yaw: 84,
        animation: 1,
        flags: 1,
    };
    let moved = EntityState { position: Position::new(1_022, 251, -3_012), ..walker };
    let turned = EntityState { velocity: [20, 1, -35], yaw: 100, ..moved };
    let first = [(0, walker), (9, EntityState::default()), (40_000, walker)];
    let second = [(0, moved), (9, EntityState { flags: 32, ..EntityState::default() })];
    let third = [(0, turned)];
    let frames: [(u64, &[(u16, EntityState)], &str); 3] = [
        (
            70_000,
            &first,
            "0170110302002700e83b00201802402e000006080c3400f0ff6f00c0dbfdc4fe3de36904550808e0ffbf3c1f00e9d9f0ff7f0300deee27f6ef194f23a84200",
        ),
        (70_003, &second, "01731103020d0402497a30820608"),
        (70_004, &third, "0174110302040280a5faf49e0201"),
    ];

    let (mut encoder, mut scratch) = (FrameEncoder::new(HZ), FrameScratch::default());
    let mut decoder = FrameDecoder::new(HZ);
    for (tick, states, expected) in frames {
        let moved = tick as i64 - 70_000;
        let own = OwnBody {
            at: [256_000 + moved * 1_280, -1, 7],
            velocity: [25_600, 0, -3],
            mode: 1,
            cooldown: 2,
        };
        let head = FrameHead {
            tick: Tick(tick),
            acked_input: 515,
            own,
            is_dilated: tick == 70_003,
            budget_bytes: 1_150,
        };
        let mut writer = encoder.begin(&head, &mut scratch);
        assert!(states.iter().rev().all(|(handle, state)| writer.push(*handle, state)));
        let mut bytes = Vec::new();
        writer.finish(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
        let frame = decoder.decode(&bytes, Tick(69_000)).unwrap().unwrap();
        assert_eq!((frame.own, frame.states, frame.missing), (Some(own), states, &[][..]));
        encoder.acknowledge(decoder.acks().unwrap());
        assert_eq!(decoder.decode(&bytes, Tick(tick)), Ok(None), "a frame counts once");
    }
}

#[test]
fn what_is_no_frame_is_refused() {
    let mut decoder = FrameDecoder::new(HZ);
    check_refused(&mut decoder, &[], BadFrame::Kind { kind: None });
    check_refused(&mut decoder, &[2, 0, 0], BadFrame::Kind { kind: Some(2) });
    check_refused(&mut decoder, &[1, 0, 0, 0, 0], BadFrame::Head { bytes: 5 });
    // One entry of which nothing follows.
    check_refused(&mut decoder, &[1, 0, 0, 0, 0, 0, 2, 0], BadFrame::Entry { bytes: 8, entry: 0 });
    assert_eq!(decoder.acks(), None);
}

fn check_refused(decoder: &mut FrameDecoder, bytes: &[u8], expected: BadFrame) {
    assert_eq!(decoder.decode(bytes, Tick(0)), Err(expected));
}

#[test]
fn a_full_budget_refuses_and_is_kept() {
    let (mut encoder, mut scratch) = (FrameEncoder::new(HZ), FrameScratch::default());
    for budget_bytes in [0, 20, 57, 200, 1_150, 9_000] {
        let own = OwnBody::default();
        let tick = Tick(budget_bytes as u64);
        let head = FrameHead { tick, acked_input: 0, own, is_dilated: false, budget_bytes };
        let mut writer = encoder.begin(&head, &mut scratch);
        let far = EntityState { position: Position::new(9, 8, 7_000), ..EntityState::default() };
        let pushed = (0..300).rev().filter(|handle| writer.push(*handle, &far)).count();
        let mut bytes = Vec::new();
        writer.finish(&mut bytes);
        assert!(bytes.len() <= budget_bytes.max(8), "{} of {budget_bytes}", bytes.len());
        assert!(pushed <= ENTRIES_MAX && (pushed > 0 || budget_bytes < 57));
    }
}

/// What one viewer of 64 walkers costs, on the mean.
fn measure(tells_climb: bool, ticks: u64) -> (f64, usize) {
    let mut crowd = Crowd::new(1, 64, tells_climb);
    let mut show = Show::new(2, 0, (1, 3), 5, 1);
    let own = OwnBody { at: [6_000 * 256, 0, 6_000 * 256], ..OwnBody::default() };
    let (mut bits, mut entries) = (0, 0);
    for tick in 0..ticks {
        crowd.step();
        let states = (0..64).map(|i| (i, (crowd.state(usize::from(i)), 0))).collect();
        // Each walker is due every 1-5 ticks.
        let order: Vec<u16> =
            (0..64).filter(|&i| (tick + u64::from(i) * 7) % (1 + u64::from(i) % 5) == 0).collect();
        let (sent_bits, sent) = show.step(own, &states, &order, 1_150);
        if tick > 100 {
            bits += sent_bits;
            entries += sent;
        }
    }
    assert_eq!(show.missed, 0);
    (bits as f64 / 8.0 / entries as f64, show.encoder.memory_bytes())
}

#[test]
fn walkers_cost_less_than_their_budget() {
    let (climbing, memory_bytes) = measure(true, 3_000);
    let (level, _) = measure(false, 3_000);
    println!("bytes per changed walker: {climbing:.3}, with no velocity up: {level:.3}");
    println!("bytes per encoder of 64 handles: {memory_bytes}");
    assert!(climbing < 2.7 && level < 2.9);
    assert!(memory_bytes < 5_000);
}

#[test]
fn walkers_agree_after_a_quiet_while() {
    let mut crowd = Crowd::new(5, 40, true);
    let mut show = Show::new(6, 65_500, (1, 4), 20, 10);
    let own = OwnBody { at: [-5, 1 << 20, 77], velocity: [300_000, -70, 5], mode: 2, cooldown: 9 };
    let order: Vec<u16> = (0..40).collect();
    for tick in 0..600 {
        if tick < 400 {
            crowd.step();
        }
        let states: BTreeMap<u16, _> = (0..40)
            .map(|i| {
                let mut state = crowd.state(usize::from(i));
                if tick >= 400 {
                    state.velocity = [0; 3];
                }
                (i, (state, 0))
            })
            .collect();
        let (_, sent) = show.step(own, &states, &order, 1_150);
        if tick > 500 {
            assert_eq!(sent, 0, "nothing changes, nothing is sent");
            let shown: Vec<_> = show.shown.values().map(|&(_, state)| state).collect();
            let truth: Vec<_> = states.values().map(|&(state, _)| state).collect();
            assert_eq!(shown, truth);
        }
    }
}

#[test]
fn a_client_that_forgot_everything_is_told_everything() {
    let mut crowd = Crowd::new(8, 20, true);
    let mut show = Show::new(9, 1_000, (1, 3), 10, 0);
    let order: Vec<u16> = (0..20).collect();
    for tick in 0..300 {
        crowd.step();
        let states = (0..20).map(|i| (i, (crowd.state(usize::from(i)), 0))).collect();
        show.step(OwnBody::default(), &states, &order, 1_150);
        if tick == 100 {
            show.decoder.reset();
        }
        if tick == 200 {
            show.decoder.forget(7, Tick(show.tick + 1));
            show.shown.remove(&7);
        }
        if tick % 100 == 60 {
            assert!(show.report.lost.is_empty() && !show.report.has_lost_everything);
            let now = &show.truth[&show.tick];
            let is_current = |handle: &u16, at: Tick, state: EntityState| {
                Tick(show.tick).since(at) < 10 || state == now[handle].0
            };
            assert!(show.shown.iter().all(|(handle, &(at, state))| is_current(handle, at, state)));
        }
    }
    assert!(show.missed > 0);
}

/// Any state, most of them near the last one.
fn wander(random: &mut Random, state: &mut EntityState) {
    match random.below(6) {
        0 => {}
        1 => *state = state.rested(),
        2 => {
            let any = random.below(u64::MAX);
            state.position = Position::new(any as i32, (any >> 16) as i32, (any >> 32) as i32);
        }
        3 => state.velocity = [0; 3].map(|_: i16| random.below(4_095) as i16 - 2_047),
        4 => {
            state.yaw = random.below(256) as u8;
            state.animation = random.below(256) as u8;
            state.flags = random.below(256) as u8;
        }
        _ => {
            state.position = Position::new(
                state.position.x.wrapping_add(random.below(400) as i32 - 200),
                state.position.y.wrapping_add(random.below(40) as i32 - 20),
                state.position.z.wrapping_add(random.below(400) as i32 - 200),
            );
        }
    }
}

trait Rested {
    fn rested(&self) -> Self;
}

impl Rested for EntityState {
    fn rested(&self) -> Self {
        Self { velocity: [0; 3], ..*self }
    }
}

fn any_own(random: &mut Random, own: &mut OwnBody) {
    match random.below(4) {
        0 => own.at = own.at.map(|at| at + random.below(1_000) as i64 - 500),
        1 => own.velocity = [0; 3].map(|_: i32| random.below(1 << 32) as u32 as i32),
        2 => (own.mode, own.cooldown) = (random.below(256) as u8, random.below(256) as u8),
        _ => own.at = [0; 3].map(|_: i64| random.below(1 << 40) as i64 - (1 << 39)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_state_read_is_the_true_one(
        seed: u64,
        first_tick in prop_oneof![Just(0_u64), Just(65_000), 0..1_u64 << 40],
        delay_most in 1..30_u64,
        loss in 0..60_u64,
        budget in 80..1_150_usize,
    ) {
        let seed = seed >> 1;
        let mut random = Random(seed);
        let mut show = Show::new(seed, first_tick, (1, delay_most), loss, 20);
        let mut states: BTreeMap<u16, (EntityState, u64)> = (0..24)
            .map(|i| (if i % 8 == 7 { i * 2_000 } else { i * 3 }, (EntityState::default(), 0)))
            .collect();
        let handles: Vec<u16> = states.keys().copied().collect();
        let mut own = OwnBody::default();
        for _ in 0..400 {
            any_own(&mut random, &mut own);
            let mut order = Vec::new();
            for &handle in &handles {
                let (state, bearer) = states.get_mut(&handle).expect("known");
                if random.chance(3) {
                    *bearer += 1;
                    *state = EntityState { yaw: handle as u8, ..EntityState::default() };
                    show.replace(handle, 1 + random.below(12));
                } else {
                    wander(&mut random, state);
                }
                if random.chance(60) {
                    order.insert(random.below(order.len() as u64 + 1) as usize, handle);
                }
            }
            show.step(own, &states, &order, budget);
        }
        prop_assert_eq!(show.missed, 0);
        prop_assert!(show.received > 20);
    }

    #[test]
    fn no_bytes_cause_a_panic(seed: u64, bytes in prop::collection::vec(any::<u8>(), 0..1_200)) {
        let mut random = Random(seed);
        let mut crowd = Crowd::new(seed, 12, true);
        let (mut encoder, mut scratch) = (FrameEncoder::new(HZ), FrameScratch::default());
        let mut decoder = FrameDecoder::new(HZ);
        for tick in 0..120 {
            crowd.step();
            let own = OwnBody::default();
            let head = FrameHead {
                tick: Tick(tick), acked_input: 0, own, is_dilated: false, budget_bytes: 1_150,
            };
            let mut writer = encoder.begin(&head, &mut scratch);
            (0..12).for_each(|i| assert!(writer.push(i, &crowd.state(usize::from(i)))));
            let mut frame = Vec::new();
            writer.finish(&mut frame);
            if random.chance(50) {
                let index = random.below(frame.len() as u64) as usize;
                frame[index] ^= 1 << random.below(8);
            }
            if random.chance(10) {
                frame.truncate(random.below(frame.len() as u64) as usize);
            }
            check_bounded(decoder.decode(&frame, Tick(tick)));
            let mut noise = bytes.clone();
            if let Some(kind) = noise.first_mut() {
                *kind = 1;
            }
            check_bounded(decoder.decode(&noise, Tick(random.below(200))));
            if let Some(acks) = decoder.acks() {
                encoder.acknowledge(acks);
            }
            encoder.acknowledge(Acks { newest: random.below(65_536) as u16, before: seed as u32 });
        }
    }
}

fn check_bounded(read: Result<Option<Frame<'_>>, BadFrame>) {
    if let Ok(Some(frame)) = read {
        assert!(frame.states.len() + frame.missing.len() <= ENTRIES_MAX);
        assert!(frame.states.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
