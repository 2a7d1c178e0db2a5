//! Everything the clients count while they run, in whole and by the second.

use std::collections::VecDeque;

use protocol::units::Tick;
use serde::{Deserialize, Serialize};

use super::shared::Shared;
use super::spread::Spread;

/// Reasons of lost connections that are kept for the report: the first tell the story.
const REASONS_MAX: usize = 20;

/// Ticks of which it is remembered when their first frame came: three seconds at 20 Hz.
const FIRSTS_MAX: usize = 64;

/// What all clients counted together.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Clients inside now.
    pub inside: u32,
    /// Times a client came in.
    pub joins: u64,
    /// When the first and the newest client came in for the first time, on the clock.
    pub joined_us: Option<(u64, u64)>,
    /// Connections that ended although nobody wanted it.
    pub disconnects: u64,
    /// Why, for the first of them.
    pub reasons: Vec<String>,
    /// Attempts to come in that failed and were tried again.
    pub refused: u64,
    /// Frames taken in, each once.
    pub frames: u64,
    /// Frames that should have come: a client's ticks from its first to its newest frame.
    pub frames_due: u64,
    /// Datagrams that were no frame.
    pub bad_frames: u64,
    /// Entries decoded.
    pub states: u64,
    /// Bytes of frames.
    pub frame_bytes: u64,
    /// Inputs sent.
    pub inputs: u64,
    /// Milliseconds that inputs were sent after they were due.
    pub late_ms: Spread,
    /// Seconds from the break of a connection until its session went on.
    pub resume_s: Spread,
    /// Metres by which observers' predictions were set right, by frame.
    pub correction_m: Spread,
    /// Milliseconds that observers' displays are behind the fastest frame, by frame.
    pub display_delay_ms: Spread,
    /// Requests answered as done.
    pub done: u64,
    /// Requests refused.
    pub refusals: u64,
    /// Milliseconds from the first frame of a tick anywhere until a client has taken in its own.
    pub state_age_ms: Spread,
    /// Acts whose answers show that their actor was taken over a border.
    pub crossings: u64,
    /// Milliseconds of half a round trip, and from when a frame came until its client has taken it in.
    pub one_way_ms: Spread,
    /// When the first frame of each of the last ticks came.
    firsts: VecDeque<(Tick, u64)>,
    /// Milliseconds from a request to its answer.
    pub answer_ms: Spread,
    /// Utterances heard.
    pub heard: u64,
    /// Chunks of ground that observers took in.
    pub chunks: u64,
    /// Bodies announced to a client under two handles at once.
    pub twice: u64,
    /// What was shared and fetched.
    pub assets: Shared,
    /// Bytes of UDP payload of connections that ended, received and sent.
    pub ended_bytes: (u64, u64),
}

impl Tally {
    /// Notes that a connection ended although nobody wanted it.
    pub fn lost(&mut self, why: String) {
        self.disconnects += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(why);
        }
    }

    /// Notes that a frame of `tick` came; returns when the first one of that tick did.
    pub fn came(&mut self, tick: Tick, at_us: u64) -> u64 {
        if self.firsts.back().is_none_or(|&(newest, _)| newest < tick) {
            if FIRSTS_MAX <= self.firsts.len() {
                self.firsts.pop_front();
            }
            self.firsts.push_back((tick, at_us));
        }
        let first = self.firsts.iter().rev().find(|&&(of, _)| of == tick);
        first.map_or(at_us, |&(_, first_us)| first_us)
    }

    /// Notes that a client came in.
    pub fn joined(&mut self, now_us: u64) {
        self.inside += 1;
        self.joins += 1;
        let first = self.joined_us.map_or(now_us, |(first, _)| first);
        self.joined_us = Some((first, now_us));
    }

    /// Forgets what is measured, when the measurement begins; who is inside stays.
    pub fn begin(&mut self) {
        let kept = Self {
            inside: self.inside,
            joins: self.joins,
            joined_us: self.joined_us,
            refused: self.refused,
            disconnects: self.disconnects,
            reasons: std::mem::take(&mut self.reasons),
            ..Self::default()
        };
        *self = kept;
    }
}

/// One second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the measurement began.
    pub at_s: f64,
    /// Clients inside.
    pub clients: u32,
    /// Frames taken in, a second.
    pub frames_per_s: f64,
    /// Inputs sent, a second.
    pub inputs_per_s: f64,
    /// Part of one core that the server used.
    pub server_cpu: Option<f64>,
    /// Part of one core that the load used.
    pub load_cpu: f64,
    /// Payload of frames to one client, in kbit/s.
    pub frames_kbit_s: f64,
    /// Memory of the server in megabytes.
    pub server_rss_mb: Option<f64>,
    /// Connections lost in this second.
    pub lost: u64,
}
