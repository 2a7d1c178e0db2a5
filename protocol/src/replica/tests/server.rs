//! A small server: some walkers, one client's queue of inputs, and frames for it.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::delta::{FRAME_BYTES_MAX, FrameEncoder, FrameHead, FrameScratch, OwnBody};
use crate::input::InputDatagram;
use crate::motion::{SUB, step};

/// Inputs that may wait, as on a real server.
const WAITING_MAX: usize = 8;

pub struct Server {
    tick: Tick,
    walkers: Vec<Body>,
    own: Body,
    applied: u64,
    current: Input,
    waiting: VecDeque<(u64, Input)>,
    encoder: FrameEncoder,
    scratch: FrameScratch,
    /// Where everybody was at each tick.
    history: BTreeMap<u64, Vec<Body>>,
}

impl Server {
    pub fn new(walkers: u16) -> Self {
        let place = |walker: u16| Position::new(i32::from(walker) * 300, 0, 500);
        let walkers = (0..walkers).map(|walker| Body::standing(place(walker), Yaw::NORTH));
        Self {
            tick: Tick(999),
            walkers: walkers.collect(),
            own: Body::standing(Position::default(), Yaw::NORTH),
            applied: 0,
            current: Input::default(),
            waiting: VecDeque::new(),
            encoder: FrameEncoder::new(20),
            scratch: FrameScratch::default(),
            history: BTreeMap::new(),
        }
    }

    pub fn announce(&self) -> Announce {
        let appear = (0_u16..).zip(&self.walkers).map(|(handle, body)| Appear {
            position: body.position(),
            ..appear(handle, 100 + u64::from(handle))
        });
        Announce { since: Tick(1_000), vanish: Vec::new(), appear: appear.collect() }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn input(&mut self, bytes: &[u8]) {
        let datagram = InputDatagram::decode(bytes).expect("a client sends input datagrams");
        if let Some(acks) = datagram.head.acks {
            self.encoder.acknowledge(acks);
        }
        if datagram.head.has_lost_everything {
            self.encoder.reset();
        }
        datagram.lost().iter().for_each(|&handle| self.encoder.forget(handle));
        for (low, input) in datagram.numbered() {
            let known = self.waiting.back().map_or(self.applied, |&(number, _)| number);
            let number = expand(low, known);
            if known < number {
                self.waiting.push_back((number, input));
            }
        }
        while WAITING_MAX < self.waiting.len() {
            self.waiting.pop_front();
        }
    }

    /// Steps everybody and returns the client's frame.
    pub fn tick(&mut self) -> Vec<u8> {
        self.tick = self.tick.next();
        if let Some((number, input)) = self.waiting.pop_front() {
            (self.applied, self.current) = (number, input);
        }
        let (plain, rules) = (Plain::default(), rules());
        self.own = step(&self.own, self.current, &plain, &rules);
        for (seed, body) in (0_u64..).zip(&mut self.walkers) {
            *body = step(body, turning(self.tick.0, seed), &plain, &rules);
        }
        self.history.insert(self.tick.0, self.walkers.clone());
        self.frame()
    }

    fn frame(&mut self) -> Vec<u8> {
        let own = OwnBody {
            at: self.own.at,
            velocity: self.own.velocity,
            mode: self.own.mode as u8,
            cooldown: 0,
        };
        let head = FrameHead {
            tick: self.tick,
            acked_input: Tick(self.applied).low(),
            own,
            is_dilated: false,
            budget_bytes: FRAME_BYTES_MAX,
        };
        let states: Vec<EntityState> = self.walkers.iter().map(Body::state).collect();
        let needed: Vec<bool> = (0_u16..)
            .zip(&states)
            .map(|(handle, state)| self.encoder.needs_send(handle, state))
            .collect();
        let mut writer = self.encoder.begin(&head, &mut self.scratch);
        for ((handle, state), needed) in (0_u16..).zip(&states).zip(needed) {
            // As a real server: those farther away come every second or fourth tick.
            let every = if handle < 6 { 1 } else { 2 + 2 * u64::from(handle % 2) };
            if needed && (self.tick.0 + u64::from(handle)).is_multiple_of(every) {
                writer.push(handle, state);
            }
        }
        let mut bytes = Vec::new();
        writer.finish(&mut bytes);
        bytes
    }
}

/// Where an entity truly was at a moment, in centimetres, between two ticks on a line.
pub fn truth_at(server: &Server, id: EntityId, moment: f64) -> [f64; 3] {
    let walker = (id.0 - 100) as usize;
    let tick = moment.floor();
    let place = |tick: f64| {
        let bodies = server.history.range(..=tick as u64).next_back().expect("no such tick").1;
        bodies[walker].at.map(|steps| steps as f64 / SUB as f64)
    };
    let (from, to) = (place(tick), place(tick + 1.0));
    let part = moment - tick;
    [0, 1, 2].map(|axis| from[axis] + (to[axis] - from[axis]) * part)
}
