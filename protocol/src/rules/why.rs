//! Why something cannot be done, as numbers for programs and a sentence for people.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]

use serde::{Deserialize, Serialize};

use super::kind::KindId;
use super::limits::TEXT_CHARS_MAX;
use crate::units::Tick;

/// Why an act is refused. Numbers are stable (the order here); new ones come at the end.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    thiserror::Error,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The target is out of reach.
    #[error("too far away: {cm} cm, and the reach is {reach_cm} cm")]
    TooFar {
        /// How far away it is.
        cm: u32,
        /// How far away it may be.
        reach_cm: u32,
    },
    /// There is no such thing or person here.
    #[error("there is no such thing or person here")]
    NotThere,
    /// The verb needs a target.
    #[error("this needs a target")]
    NoTarget,
    /// The arguments do not fit the verb.
    #[error("these arguments do not go with this verb")]
    BadArgs,
    /// The target is of another kind than the verb is for.
    #[error("that cannot be done with this")]
    NotPossible,
    /// One does not hold it, or not so many of it.
    #[error("you do not hold that many: {held} held")]
    NotHolding {
        /// How many one holds.
        held: u32,
    },
    /// Nobody has room for more.
    #[error("no room for more: {stacks_max} stacks is all one can hold")]
    Full {
        /// How many stacks there is room for.
        stacks_max: u32,
    },
    /// The spot is taken, too cluttered, or has no ground.
    #[error("there is no room on that spot")]
    NoRoom,
    /// One is busy.
    #[error("busy until tick {}", until.0)]
    Busy {
        /// Until when.
        until: Tick,
    },
    /// It is locked.
    #[error("it is locked")]
    Locked,
    /// It is closed.
    #[error("it is closed")]
    Closed,
    /// It is that way already.
    #[error("it already is")]
    Already,
    /// It has nothing left for now.
    #[error("nothing is left until tick {}", until.0)]
    Spent {
        /// When there will be more.
        until: Tick,
    },
    /// There is no such recipe, or not for this verb.
    #[error("there is no such recipe")]
    NoSuchRecipe,
    /// The recipe is made at a station.
    #[error("this is made at a station of kind {}", station.0)]
    NeedsStation {
        /// What kind of station.
        station: KindId,
    },
    /// A tool or material is missing.
    #[error("{count} more of kind {} needed", kind.0)]
    Missing {
        /// Of what kind.
        kind: KindId,
        /// How many more are needed.
        count: u32,
    },
    /// The other party lacks what is asked of them.
    #[error("they lack {count} of kind {}", kind.0)]
    TheyLack {
        /// Of what kind.
        kind: KindId,
        /// How many they lack.
        count: u32,
    },
    /// It belongs to somebody else.
    #[error("it belongs to somebody else")]
    NotYours,
    /// It cannot be carried.
    #[error("it cannot be carried")]
    NotPortable,
    /// There is no such offer, or no longer.
    #[error("there is no such offer any more")]
    NoSuchOffer,
    /// Too many offers are open.
    #[error("too many offers are open: at most {max}")]
    TooManyOffers {
        /// How many may be open.
        max: u32,
    },
    /// One owns too many things in the ground.
    #[error("too much built: at most {max}")]
    TooMuchBuilt {
        /// How many one may own.
        max: u32,
    },
    /// One may not speak or write.
    #[error("you are muted")]
    Muted,
    /// Requests must be numbered in rising order.
    #[error("requests must be numbered in rising order")]
    OutOfOrder,
    /// The text is too long.
    #[error("the text has {chars} characters, at most {TEXT_CHARS_MAX}")]
    TextTooLong {
        /// How many characters it has.
        chars: u32,
    },
    /// The text is empty or cannot be shown.
    #[error("the text is empty or has characters that cannot be shown")]
    BadText,
    /// The utterance breaks a bound.
    #[error("that is too long or out of time to be said")]
    BadUtterance,
    /// Nothing is being done that could be stopped.
    #[error("there is nothing to stop")]
    Idle,
    /// One's role does not allow it.
    #[error("you may not do that here")]
    Forbidden,
    /// More is asked for than the server does in this time.
    #[error("too many requests: try again in {retry_ms} ms")]
    TooMany {
        /// When to try again.
        retry_ms: u32,
    },
    /// What was begun was stopped before it was done.
    #[error("that was stopped before it was done")]
    Interrupted,
}

impl Why {
    /// Returns this reason as a client of minor version `minor` knows it: itself, or the nearest of
    /// the reasons that came before.
    #[must_use]
    pub fn known_to(self, minor: u16) -> Self {
        /// The first minor version with [`Why::Interrupted`].
        const INTERRUPTED_SINCE: u16 = 1;
        let is_news = self == Self::Interrupted && minor < INTERRUPTED_SINCE;
        if is_news { Self::Idle } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_a_reason_that_it_knows() {
        assert_eq!(Why::Interrupted.known_to(0), Why::Idle);
        assert_eq!(Why::Interrupted.known_to(1), Why::Interrupted);
        assert_eq!(Why::Interrupted.known_to(u16::MAX), Why::Interrupted);
        assert_eq!(Why::Locked.known_to(0), Why::Locked);
    }
}
