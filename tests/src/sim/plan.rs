//! What goes wrong when, in the world of a seed.
//!
//! Every world has one of everything: a shard that moves to another process and back, a process
//! that is killed, one that falls silent, a disk that fills up, a power cut, an overload, cut
//! lines, people who leave and come back, regions that are split and merged. The seed decides when
//! and whom it hits.

use crate::dice::Dice;

/// Time in which everyone comes in and finds their place.
const BEGIN_US: u64 = 4_000_000;

/// Time for each of the large faults, until the next may begin.
const SLOT_US: u64 = 8_000_000;

/// When everything is well again and people stand still.
pub const REST_US: u64 = BEGIN_US + 7 * SLOT_US;

/// When the last checks are made.
pub const END_US: u64 = REST_US + 6_000_000;

/// Broken lines, cuts, departures and short troubles of the disk in one world: one every two seconds
/// or so.
const SMALL: u64 = 32;

/// Regions that are split in one world, and merged again: one every six seconds.
const DIVISIONS: u64 = 8;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process joins, and is given some regions.
    Join {
        /// How many.
        regions: u64,
        /// What becomes of it.
        end: End,
    },
    /// A region is split, or four are merged.
    Divide {
        /// Which of those that can be.
        which: u64,
        /// Whether it is to be merged.
        merges: bool,
    },
    /// The disk takes nothing for a while.
    DiskTrouble {
        /// Whether it is full, or fails.
        is_full: bool,
    },
    /// The power is cut, and the server starts again.
    PowerCut,
    /// Ticks take up more than their time for a while.
    Overload,
    /// Nothing gets through to a client and back for a while.
    Cut {
        /// Whose line.
        walker: u64,
        /// How long, in microseconds.
        us: u64,
    },
    /// A connection breaks; the client comes back.
    Break {
        /// Whose.
        walker: u64,
        /// After how long the server notices, in microseconds.
        noticed_us: u64,
    },
    /// Somebody leaves in good order, and comes again.
    Leave {
        /// Who.
        walker: u64,
    },
}

/// What becomes of a process that joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It gives everything back.
    Departs,
    /// It is killed.
    Killed,
    /// It falls silent and goes on.
    Muted,
}

/// Returns when regions are split and merged in the world of a seed.
#[must_use]
pub fn divisions(seed: u64) -> Vec<(u64, Fault)> {
    let mut chance = Dice::of_part(seed, 7);
    let mut divisions = Vec::new();
    for _ in 0..DIVISIONS {
        let at_us = chance.between(BEGIN_US, REST_US - SLOT_US);
        let which = chance.below(24);
        divisions.push((at_us, Fault::Divide { which, merges: false }));
        // Nothing is divided any more when everything is to come to rest.
        let until_us = at_us + chance.between(200_000, 2 * SLOT_US);
        let until_us = until_us.min(REST_US - SLOT_US / 2);
        divisions.push((until_us, Fault::Divide { which: chance.below(24), merges: true }));
    }
    divisions
}

/// Returns what goes wrong in the world of a seed with so many walkers, and when.
#[must_use]
pub fn faults(seed: u64, walkers: u64) -> Vec<(u64, Fault)> {
    let mut chance = Dice::of_part(seed, 2);
    let mut large = [
        Fault::Join { regions: chance.between(1, 5), end: End::Departs },
        Fault::Join { regions: chance.between(1, 5), end: End::Killed },
        Fault::Join { regions: chance.between(1, 4), end: End::Muted },
        Fault::DiskTrouble { is_full: chance.one_in(2) },
        Fault::PowerCut,
        Fault::Overload,
        Fault::PowerCut,
    ];
    for last in (1..large.len()).rev() {
        large.swap(last, chance.below(last as u64 + 1) as usize);
    }
    let mut faults = Vec::new();
    for (slot, fault) in (0..).zip(large) {
        faults.push((BEGIN_US + slot * SLOT_US + chance.below(SLOT_US / 4), fault));
    }
    for _ in 0..SMALL {
        let at_us = chance.between(BEGIN_US, REST_US - SLOT_US / 2);
        let walker = chance.below(walkers);
        let fault = match chance.below(5) {
            4 => Fault::DiskTrouble { is_full: chance.one_in(2) },
            0 => Fault::Cut { walker, us: chance.between(200_000, 2_000_000) },
            1 => Fault::Leave { walker },
            _ => Fault::Break { walker, noticed_us: chance.between(10_000, 2_000_000) },
        };
        faults.push((at_us, fault));
    }
    if !faults.iter().any(|(_, fault)| matches!(fault, Fault::Cut { .. })) {
        let at_us = chance.between(BEGIN_US, REST_US - SLOT_US / 2);
        faults.push((at_us, Fault::Cut { walker: chance.below(walkers), us: 1_000_000 }));
    }
    faults
}
