//! What was sent in a siege, and what the server made of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use protocol::io::clock::now_us;

/// Counts by name, shared by everyone on one thread.
#[derive(Debug, Default)]
pub struct Tally {
    sent: RefCell<BTreeMap<&'static str, u64>>,
    outcomes: RefCell<BTreeMap<String, u64>>,
}

impl Tally {
    /// Counts hostile inputs of a kind.
    pub fn sent(&self, kind: &'static str, count: u64) {
        *self.sent.borrow_mut().entry(kind).or_default() += count;
    }

    /// Counts something that the server did.
    pub fn outcome(&self, what: impl Into<String>) {
        *self.outcomes.borrow_mut().entry(what.into()).or_default() += 1;
    }

    /// Returns how many hostile inputs there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sent.borrow().values().sum()
    }

    /// Returns how many there were of each kind.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<&'static str, u64> {
        self.sent.borrow().clone()
    }

    /// Returns what the server did, and how often.
    #[must_use]
    pub fn outcomes(&self) -> BTreeMap<String, u64> {
        self.outcomes.borrow().clone()
    }
}

/// Keeps a sender to so many a second, counted from its beginning.
#[derive(Debug)]
pub struct Pace {
    per_s: f64,
    began_us: u64,
    done: f64,
}

impl Pace {
    /// Begins now.
    #[must_use]
    pub fn new(per_s: f64) -> Self {
        Self { per_s: per_s.max(0.001), began_us: now_us(), done: 0.0 }
    }

    /// Waits until `count` more are due.
    pub async fn take(&mut self, count: u64) {
        self.done += count as f64;
        let due_us = self.began_us + (self.done / self.per_s * 1e6) as u64;
        match due_us.checked_sub(now_us()) {
            Some(early_us) if 0 < early_us => {
                tokio::time::sleep(Duration::from_micros(early_us)).await;
            }
            // Others on this thread have their turn, too.
            Some(_) | None => tokio::task::yield_now().await,
        }
    }
}
