//! What somebody says and how: clauses with emotion, gesture, gaze and timing.
//!
//! People and characters share it. Who hears it, and whether it may be said, is decided
//! elsewhere.

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::rules::Emote;

/// Clauses of one utterance: a long breath.
pub const CLAUSES_MAX: usize = 8;

/// Characters of one utterance, all clauses together.
pub const UTTERANCE_CHARS_MAX: usize = 500;

/// The latest a clause may begin after the first, in milliseconds.
pub const START_MS_MAX: u32 = 60_000;

/// A feeling shown while speaking. Numbers are stable; new ones come at the end.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Emotion {
    /// None in particular.
    #[default]
    Neutral = 0,
    /// Joy.
    Happy = 1,
    /// Sorrow.
    Sad = 2,
    /// Anger.
    Angry = 3,
    /// Fear.
    Afraid = 4,
    /// Surprise.
    Surprised = 5,
    /// Disgust.
    Disgusted = 6,
    /// Calm friendliness.
    Warm = 7,
    /// Doubt.
    Unsure = 8,
}

/// Where the eyes go.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Gaze {
    /// At whom one speaks to.
    #[default]
    Listener,
    /// Somewhere else.
    Away,
    /// At somebody or something.
    At(EntityId),
}

/// One breath of an utterance.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Clause {
    /// The words.
    pub text: String,
    /// The feeling.
    pub emotion: Emotion,
    /// The strength of the feeling, 0 to 255.
    pub intensity: u8,
    /// A gesture that goes with the words.
    pub gesture: Option<Emote>,
    /// Where the eyes go.
    pub gaze: Gaze,
    /// When it begins, in milliseconds after the utterance begins.
    pub start_ms: u32,
    /// How long it takes in milliseconds, 0 if the listener may choose.
    pub duration_ms: u32,
}

/// What somebody says.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Utterance {
    /// The clauses in order.
    pub clauses: Vec<Clause>,
}

/// Why an utterance cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUtterance {
    /// There are no words in it.
    #[error("an utterance needs words")]
    Empty,
    /// Too many clauses.
    #[error("{got} clauses, at most {CLAUSES_MAX}")]
    TooManyClauses {
        /// How many there are.
        got: usize,
    },
    /// Too many characters.
    #[error("{got} characters, at most {UTTERANCE_CHARS_MAX}")]
    TooLong {
        /// How many there are.
        got: usize,
    },
    /// A clause that begins before the one ahead of it, or too late.
    #[error("clause {index} begins at {start_ms} ms: clauses begin in order, within 60,000 ms")]
    BadTiming {
        /// Which clause, counted from 0.
        index: usize,
        /// When it begins.
        start_ms: u32,
    },
    /// A character that cannot be shown.
    #[error("clause {index} has a control character")]
    ControlCharacter {
        /// Which clause, counted from 0.
        index: usize,
    },
}

impl Utterance {
    /// Returns the plain utterance of `text`.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self { clauses: vec![Clause { text: text.into(), ..Clause::default() }] }
    }

    /// Returns the words of all clauses, one space between them.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self.clauses.iter().map(|clause| clause.text.as_str()).collect();
        texts.join(" ")
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`BadUtterance`]; the speaker is at fault.
    pub fn check(&self) -> Result<(), BadUtterance> {
        if self.clauses.len() > CLAUSES_MAX {
            return Err(BadUtterance::TooManyClauses { got: self.clauses.len() });
        }
        let got = self.clauses.iter().map(|clause| clause.text.chars().count()).sum();
        if UTTERANCE_CHARS_MAX < got {
            return Err(BadUtterance::TooLong { got });
        }
        if self.clauses.iter().all(|clause| clause.text.trim().is_empty()) {
            return Err(BadUtterance::Empty);
        }
        let mut earliest_ms = 0;
        for (index, clause) in self.clauses.iter().enumerate() {
            let start_ms = clause.start_ms;
            if start_ms < earliest_ms || START_MS_MAX < start_ms.max(clause.duration_ms) {
                return Err(BadUtterance::BadTiming { index, start_ms });
            }
            if clause.text.chars().any(char::is_control) {
                return Err(BadUtterance::ControlCharacter { index });
            }
            earliest_ms = start_ms;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_said() {
        assert_eq!(Utterance::plain("Good morning!").check(), Ok(()));
        assert_eq!(Utterance::plain("x".repeat(500)).check(), Ok(()));
    }

    #[test]
    fn what_exceeds_a_bound_is_refused() {
        let clause =
            |text: &str, start_ms| Clause { text: text.into(), start_ms, ..Clause::default() };
        let check = |clauses: Vec<Clause>| Utterance { clauses }.check();
        assert_eq!(check(Vec::new()), Err(BadUtterance::Empty));
        assert_eq!(check(vec![clause(" ", 0)]), Err(BadUtterance::Empty));
        let many = vec![clause("a", 0); 9];
        assert_eq!(check(many), Err(BadUtterance::TooManyClauses { got: 9 }));
        let long = vec![clause(&"ä".repeat(251), 0), clause(&"ä".repeat(250), 0)];
        assert_eq!(check(long), Err(BadUtterance::TooLong { got: 501 }));
        let early = vec![clause("a", 10), clause("b", 9)];
        assert_eq!(check(early), Err(BadUtterance::BadTiming { index: 1, start_ms: 9 }));
        let bell = vec![clause("a\u{7}", 0)];
        assert_eq!(check(bell), Err(BadUtterance::ControlCharacter { index: 0 }));
    }
}
