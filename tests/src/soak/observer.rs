//! One client in 32 looks in full: the SDK's replica with prediction, ground and interpolation.
//!
//! What it shows and corrects is noted for the truth to judge; it opens no connection.

use std::collections::{BTreeMap, BTreeSet};

use client_viewer::io::headless::decode_ground;
use protocol::ids::{ChunkId, ContentHash, EntityId};
use protocol::input::Input;
use protocol::limits::CHUNKS_WANTED_MAX;
use protocol::message::ServerMessage;
use protocol::message::server::{Being, Welcome};
use protocol::replica::{Detail, Replica, Terrain};
use protocol::rules::RuleBook;
use protocol::units::{Position, Tick};

use super::truth::{Truth, WINDOW_TICKS};

/// Chunks of ground to each side that an observer asks for.
const GROUND_REACH: i32 = 2;

/// Microseconds until ground that did not come is asked for again.
const GROUND_PATIENCE_US: u64 = 3_000_000;

/// So many bodies are near.
const NEAREST: usize = 16;

/// Ticks between two looks at how old the known states are.
const AGE_TICKS: u64 = 10;

/// A client that looks in full.
pub struct Observer {
    client: usize,
    replica: Replica,
    terrain: Terrain,
    book: RuleBook,
    wanted: (u64, Vec<ChunkId>),
    window_end: Tick,
    updates: BTreeMap<EntityId, u32>,
    /// Who were nearest when the window began.
    nearest: BTreeSet<EntityId>,
    full_requests: u64,
}

/// What an observer found in one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Looked {
    /// How far its own prediction was set right, in metres.
    pub correction_m: Option<f64>,
    /// How far its display is behind the fastest frame, in milliseconds.
    pub delay_ms: f64,
}

impl Observer {
    /// Returns the observer that `client` has become by this welcome.
    #[must_use]
    pub fn new(client: usize, welcome: &Welcome) -> Self {
        Self {
            client,
            replica: Replica::new(welcome, Detail::Full),
            terrain: Terrain::flat(welcome.position.y),
            book: RuleBook::starter(),
            wanted: (0, Vec::new()),
            window_end: welcome.tick.after(WINDOW_TICKS),
            updates: BTreeMap::new(),
            nearest: BTreeSet::new(),
            full_requests: 0,
        }
    }

    /// Goes on after the session was resumed.
    pub fn resume(&mut self, welcome: &Welcome) {
        self.replica.resume(welcome);
        self.terrain.forget_things();
        self.updates.clear();
        self.window_end = welcome.tick.after(WINDOW_TICKS);
    }

    /// Takes in a reliable message.
    pub fn hear(&mut self, message: &ServerMessage) {
        self.replica.hear(message);
        if let ServerMessage::Announce(announce) = message {
            self.terrain.announce(announce, &self.book);
            for appear in &announce.appear {
                // Its first window would not be whole.
                self.updates.remove(&appear.entity);
            }
        }
    }

    /// Takes in a frame and notes what it says; nothing if it came before or is none.
    pub fn frame(
        &mut self,
        bytes: &[u8],
        (now_us, round_trip_us): (u64, u64),
        truth: &mut Truth,
    ) -> Option<Looked> {
        self.replica.round_trip(round_trip_us);
        let here = self.replica.body().position();
        if !self.terrain.contains(ChunkId::at(0, here.x, here.z)) {
            self.terrain.assume(here.y);
        }
        let seen = self.replica.frame(bytes, now_us, &mut self.terrain).ok().flatten()?;
        self.count(seen.tick, truth);
        if seen.tick.0.is_multiple_of(AGE_TICKS) {
            for entity in self.replica.entities() {
                if let Some(driver) = truth.driver(entity.id).filter(|&it| it != self.client) {
                    truth.known(driver, seen.tick, entity.newest().0);
                }
            }
        }
        self.show(now_us, truth);
        let delay_ms = self.replica.clock().delay_us() as f64 / 1_000.0;
        let correction_m = seen.correction.map(|correction| correction.cm / 100.0);
        Some(Looked { correction_m, delay_ms })
    }

    /// Counts who was updated at `tick`, and closes the window when it is over.
    fn count(&mut self, tick: Tick, truth: &mut Truth) {
        for entity in self.replica.entities() {
            if entity.newest().0 == tick
                && let Some(times) = self.updates.get_mut(&entity.id)
            {
                *times += 1;
            }
        }
        if tick < self.window_end {
            return;
        }
        let in_view: BTreeMap<EntityId, u32> =
            self.replica.entities().map(|entity| (entity.id, 0)).collect();
        let nearest = self.nearest();
        // Who left view within the window was not due to be told of to its end.
        let whole = self.updates.iter().filter(|(body, _)| in_view.contains_key(body));
        for (&body, &times) in whole {
            if let Some(driver) = truth.driver(body).filter(|&it| it != self.client) {
                let is_near = self.nearest.contains(&body) && nearest.contains(&body);
                truth.updated(driver, tick, times, is_near);
            }
        }
        (self.updates, self.nearest) = (in_view, nearest);
        self.window_end = tick.after(WINDOW_TICKS);
    }

    /// Returns the bodies that are nearest, also those that another generator drives.
    fn nearest(&self) -> BTreeSet<EntityId> {
        let here = self.here();
        let is_body = |being: &Being| matches!(being, Being::Avatar { .. });
        let bodies = self.replica.entities().filter(|entity| is_body(&entity.being));
        let distance = |at: Position| here.ground_distance_squared(at);
        let bodies = bodies.map(|entity| (distance(entity.newest().1.position), entity.id));
        let mut bodies: Vec<_> = bodies.collect();
        bodies.sort_unstable();
        bodies.into_iter().take(NEAREST).map(|(_, id)| id).collect()
    }

    fn show(&mut self, now_us: u64, truth: &mut Truth) {
        self.replica.advance(now_us);
        let Some(moment) = self.replica.moment() else { return };
        for (entity, shown) in self.replica.shown() {
            if let Some(driver) = truth.driver(entity.id).filter(|&it| it != self.client) {
                truth.shown(driver, moment, shown.at_cm);
            }
        }
    }

    /// Returns when the next input is due, nothing before the first frame.
    #[must_use]
    pub const fn due_us(&self) -> Option<u64> {
        self.replica.input_due_us()
    }

    /// Returns where the predicted body is.
    #[must_use]
    pub fn here(&self) -> Position {
        self.replica.body().position()
    }

    /// If an input is due, moves the body by it and appends the datagram to `out`. Returns whether
    /// it did, and whether everything was asked for anew.
    pub fn input(&mut self, input: Input, now_us: u64, out: &mut Vec<u8>) -> Option<bool> {
        self.replica.input(input, now_us, &self.terrain, out)?;
        let requests = self.replica.counts().full_requests;
        let asked = self.full_requests < requests;
        self.full_requests = requests;
        Some(asked)
    }

    /// Returns the ground to ask for, if it is time.
    pub fn wants(&mut self, now_us: u64) -> Option<Vec<ChunkId>> {
        let mut missing = self.terrain.missing(self.here(), GROUND_REACH);
        missing.truncate(CHUNKS_WANTED_MAX);
        let is_new = missing.iter().any(|chunk| !self.wanted.1.contains(chunk));
        let is_late = GROUND_PATIENCE_US <= now_us.saturating_sub(self.wanted.0);
        if missing.is_empty() || !(is_new || is_late) {
            return None;
        }
        self.wanted = (now_us, missing.clone());
        Some(missing)
    }

    /// Takes in a chunk's stream as it came: header, then bytes; returns whether it was good.
    pub fn ground(&mut self, stream: &[u8]) -> bool {
        let Ok(Some((header, taken))) = protocol::frame::split(stream, stream.len()) else {
            return false;
        };
        let Ok(Some(ServerMessage::Chunk(chunk))) = ServerMessage::read(header) else {
            return false;
        };
        let body = stream.get(taken..).unwrap_or_default();
        if ContentHash::of(body) != chunk.hash {
            return false;
        }
        let Ok(grid) = decode_ground(chunk.id, body) else { return false };
        let here = self.here();
        self.terrain.insert(chunk.id, grid, here);
        true
    }
}
