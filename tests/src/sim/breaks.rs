//! Known bugs that can be planted, so that the checks can be checked.
//!
//! Each one is what a buggy gateway, disk or link would do to what passes between the real cores;
//! none is in the cores themselves. Where each one strikes is marked in the files that play those
//! parts; here are their names, and the chance that decides when one strikes.

use crate::dice::Dice;

macro_rules! breaks {
    ($($variant:ident = $name:literal, $what:literal;)*) => {
        /// A known bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Break {
            $(#[doc = $what] $variant,)*
        }

        impl Break {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns what it is called on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns what goes wrong, as a sentence.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }
        }
    };
}

breaks! {
    LoseTraveller = "lose-traveller", "Somebody who crosses a border arrives nowhere.";
    DoubleTraveller = "double-traveller", "Somebody who crosses a border also stays where they were.";
    KeepSeat = "keep-seat", "After a hand-off commands still go to the old shard.";
    LoseStrays = "lose-strays", "What was asked of somebody who just crossed a border is forgotten.";
    LoseGhosts = "lose-ghosts", "A neighbour is not told of something near the border.";
    StaleGhosts = "stale-ghosts", "What a neighbour is told comes some ticks late.";
    StepTwice = "step-twice", "A shard is asked for the same step twice.";
    MisrouteInputs = "misroute-inputs", "Somebody's inputs drive somebody else.";
    ReplayInputs = "replay-inputs", "Inputs are numbered anew and applied a second time.";
    SwapFrames = "swap-frames", "Two clients get each other's frame.";
    CorruptFrame = "corrupt-frame", "A byte of a frame is changed.";
    LoseAnnouncement = "lose-announcement", "A client is not told who comes into view.";
    ReorderLetters = "reorder-letters", "Two letters to one client change places.";
    LoseAnswer = "lose-answer", "An answer is never sent.";
    DoubleAnswer = "double-answer", "An answer is sent twice.";
    EarlyAnswer = "early-answer", "What was done is confirmed before it is on disk.";
    LoseAct = "lose-act", "What a client asks reaches no shard.";
    LoseEntry = "lose-entry", "An entry of the journal is not stored.";
    SplitEntry = "split-entry", "The changes of one entry are stored in two batches.";
    ForgetUnsaved = "forget-unsaved", "What a full disk refused is not tried again.";
    LieOfSync = "lie-of-sync", "The disk says that data are safe when they are not.";
    TearBatch = "tear-batch", "A power cut leaves half of a batch behind.";
    StaleClock = "stale-clock", "After a restart world time runs over the same ticks again.";
    ReuseIds = "reuse-ids", "After a restart ids are given out a second time.";
    LoseQueued = "lose-queued", "What waits for a shard that is packed up is forgotten.";
    SkipMissed = "skip-missed", "A shard that moved does not make up for the ticks on its way.";
    StayBehind = "stay-behind", "A shard that came home is the one from before it left.";
    HearZombie = "hear-zombie", "What a lost process still says is believed.";
    KeepEpoch = "keep-epoch", "A shard that begins anew writes as its old owner.";
    NoFence = "no-fence", "A shard begins anew without taking an epoch.";
    NoTellAnew = "no-tell-anew", "Neighbours do not hear that a shard begins anew.";
    ForgetTold = "forget-told", "A shard that begins anew does not know what clients were told.";
    ForgetOpen = "forget-open", "What a lost shard was asked is never answered.";
    OldPlaces = "old-places", "A shard that begins anew puts people where they were long ago.";
    EmptyHands = "empty-hands", "A shard that begins anew forgets what people hold.";
    LoseWaiting = "lose-waiting", "What waits for a region that is split or merged is forgotten.";
    OneQuarter = "one-quarter", "All of a region that is split are taken for its first quarter's.";
    LoseQuarter = "lose-quarter", "Of four quarters that are merged one is forgotten.";
    NoTellDivided = "no-tell-divided", "Neighbours do not hear that regions are split or merged.";
    SkipDivided = "skip-divided", "Shards of new regions skip the tick in which the old ones were packed.";
    NoEnrol = "no-enrol", "Shards of new regions write with an epoch that the store did not give.";
    LoseAttach = "lose-attach", "Who comes back is shown nothing.";
    LosePace = "lose-pace", "The world slows down and clients are not told.";
}

impl Break {
    /// Returns the bug of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.name() == name)
    }
}

/// Decides when the planted bug strikes; without one, never.
#[derive(Clone, Debug)]
pub struct Saboteur {
    planted: Option<Break>,
    chance: Dice,
    /// How often it struck.
    pub strikes: u64,
}

impl Saboteur {
    /// Returns the one who plants this bug in the world of a seed.
    #[must_use]
    pub const fn new(planted: Option<Break>, seed: u64) -> Self {
        Self { planted, chance: Dice::of_part(seed, 99), strikes: 0 }
    }

    /// Returns whether this is the planted bug, and a chance of one in `bound` came true.
    pub fn strikes(&mut self, which: Break, bound: u64) -> bool {
        let strikes = self.planted == Some(which) && self.chance.one_in(bound);
        self.strikes += u64::from(strikes);
        strikes
    }

    /// Returns a number below `bound`, for what a bug does.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.chance.below(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        for (index, one) in Break::ALL.iter().enumerate() {
            assert_eq!(Break::named(one.name()), Some(*one));
            assert!(Break::ALL[..index].iter().all(|other| other.name() != one.name()));
        }
        assert_eq!(Break::named("no-such-bug"), None);
    }
}
