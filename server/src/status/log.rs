//! The last lines of the log, kept for the page.
//!
//! A line holds what [`crate::io::telemetry`] let through: a fixed message and fields of known
//! names. Names of people, chat, keys, addresses and tokens never reach this ring.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Lines kept: what one looks back through by hand.
pub const LINES_MAX: usize = 200;

/// Characters of one line: three rows on a phone.
pub const LINE_CHARS_MAX: usize = 240;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something was lost.
    Error,
    /// An operator should look.
    Warn,
    /// An event of the server's life.
    Info,
    /// A decision.
    Debug,
    /// A packet.
    Trace,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number: lines count up by one and never restart while the process lives.
    pub number: u64,
    /// Milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// How much it matters.
    pub level: Level,
    /// The part of the server that wrote it.
    pub target: String,
    /// What happened, with its fields, at most [`LINE_CHARS_MAX`] characters.
    pub text: String,
}

/// The last [`LINES_MAX`] lines.
#[derive(Debug, Default)]
pub struct LogTail {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Arc<LogLine>>,
    next: u64,
}

impl LogTail {
    /// Appends a line, dropping the oldest when the ring is full.
    pub fn push(&self, at_ms: u64, level: Level, target: &str, mut text: String) {
        if let Some((end, _)) = text.char_indices().nth(LINE_CHARS_MAX) {
            text.truncate(end);
        }
        let target = target.chars().take(LINE_CHARS_MAX).collect();
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let line = LogLine { number: ring.next, at_ms, level, target, text };
        ring.next += 1;
        if ring.lines.len() == LINES_MAX {
            ring.lines.pop_front();
        }
        ring.lines.push_back(Arc::new(line));
    }

    /// Returns the kept lines whose number is at least `first`, oldest first.
    #[must_use]
    pub fn since(&self, first: u64) -> Vec<Arc<LogLine>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let new = ring.lines.iter().filter(|line| first <= line.number);
        new.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay_and_numbers_go_on() {
        let tail = LogTail::default();
        for at_ms in 0..500 {
            tail.push(at_ms, Level::Info, "server::host", format!("line {at_ms}"));
        }
        let kept = tail.since(0);
        assert_eq!(kept.len(), LINES_MAX);
        assert_eq!((kept[0].number, kept[199].number), (300, 499));
        assert_eq!(tail.since(498).len(), 2);
        assert!(tail.since(500).is_empty());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let tail = LogTail::default();
        tail.push(0, Level::Warn, "server", "ö".repeat(10_000));
        assert_eq!(tail.since(0)[0].text.chars().count(), LINE_CHARS_MAX);
    }
}
