//! What was heard, what happened and what is on the table: the newest of each, bounded.

use std::collections::VecDeque;

use crate::message::server::{Heard, Notice};
use crate::rules::{Event, Offer, Thing};
use crate::units::Tick;

/// Utterances kept: some screens of chat.
pub const HEARD_MAX: usize = 128;

/// Events kept: what happens around a busy market in some seconds.
pub const EVENTS_MAX: usize = 256;

/// Notices kept.
pub const NOTICES_MAX: usize = 16;

/// Offers kept: all that one may have open and be asked, twice over.
pub const OFFERS_MAX: usize = 40;

/// The newest of what was said to this client.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Utterances, the newest last.
    pub heard: VecDeque<Heard>,
    /// Events, the newest last.
    pub events: VecDeque<Event>,
    /// Words of the operator, the newest last.
    pub notices: VecDeque<Notice>,
    /// Offers that stand, the newest last.
    pub offers: VecDeque<Offer>,
    /// Everything one holds.
    pub holding: Vec<Thing>,
    /// As of when.
    pub holding_since: Tick,
}

/// Appends an item, and drops the oldest beyond `max`.
pub(super) fn keep<T>(items: &mut VecDeque<T>, item: T, max: usize) {
    while max <= items.len() {
        items.pop_front();
    }
    items.push_back(item);
}
