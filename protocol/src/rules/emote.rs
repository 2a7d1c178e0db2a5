//! Gestures anybody can make.
//!
//! How a gesture is animated is the business of avatars.

use serde::{Deserialize, Serialize};

/// A gesture. Numbers are stable; new ones come at the end.
#[derive(
    Clone,
    Copy,
    Debug,
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
pub enum Emote {
    /// Waves.
    Wave = 0,
    /// Bows.
    Bow = 1,
    /// Nods.
    Nod = 2,
    /// Shakes the head.
    Shake = 3,
    /// Points.
    Point = 4,
    /// Claps.
    Clap = 5,
    /// Dances.
    Dance = 6,
    /// Sits down on the ground.
    Sit = 7,
    /// Shrugs.
    Shrug = 8,
    /// Laughs.
    Laugh = 9,
    /// Cries.
    Cry = 10,
    /// Salutes.
    Salute = 11,
    /// Beckons.
    Beckon = 12,
    /// Thinks.
    Think = 13,
}

impl Emote {
    /// Every gesture with its name and what others see, in the order of their numbers.
    pub const ALL: [(Self, &'static str, &'static str); 14] = [
        (Self::Wave, "wave", "waves"),
        (Self::Bow, "bow", "bows"),
        (Self::Nod, "nod", "nods"),
        (Self::Shake, "shake", "shakes the head"),
        (Self::Point, "point", "points"),
        (Self::Clap, "clap", "claps"),
        (Self::Dance, "dance", "dances"),
        (Self::Sit, "sit", "sits down"),
        (Self::Shrug, "shrug", "shrugs"),
        (Self::Laugh, "laugh", "laughs"),
        (Self::Cry, "cry", "cries"),
        (Self::Salute, "salute", "salutes"),
        (Self::Beckon, "beckon", "beckons"),
        (Self::Think, "think", "thinks"),
    ];

    /// Returns the gesture of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Returns the gesture of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).map(|row| row.0)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.get(usize::from(self as u8)).map_or("gesture", |row| row.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_numbers() {
        for (number, (emote, name, _)) in Emote::ALL.iter().enumerate() {
            assert_eq!(usize::from(*emote as u8), number);
            assert_eq!(Emote::named(name), Some(*emote));
            assert_eq!(emote.name(), *name);
        }
    }
}
