//! What the server keeps of a person between visits.
//!
//! One record per person, sealed under their key. What a person holds is kept thing by thing
//! beside it, so that an exchange rewrites two things, not two people.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ids::{EntityId, PersonId};
use protocol::message::client::Degree;
use protocol::message::common::Appearance;
use protocol::message::server::Being;
use protocol::motion::Body;
use protocol::rules::{Thing, ThingsRecord};
use protocol::units::{Position, Yaw};
use serde::{Deserialize, Serialize};

use crate::cli::span::Span;
use crate::shard::avatar::Avatar;
use crate::shard::batch::{Command, Traveller};
use crate::shard::entities::About;

/// Lendings of one avatar at a time.
pub const LENDINGS_MAX: usize = 16;

/// People one person ignores at once.
pub const IGNORED_MAX: usize = 256;

/// What is kept of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersonRecord {
    /// Who.
    pub person: PersonId,
    /// The name they go by.
    pub name: String,
    /// Their avatar.
    pub avatar: EntityId,
    /// How it looks.
    pub appearance: Appearance,
    /// Where it stood last; soft.
    pub position: Position,
    /// Where it looked last; soft.
    pub yaw: Yaw,
    /// Whom they do not want to hear or see.
    #[serde(default)]
    pub ignored: BTreeMap<PersonId, Degree>,
    /// Who else may drive the avatar, and until when.
    #[serde(default)]
    pub lendings: Vec<Lent>,
    /// Whether they came as a passing guest, without key and token: such a record is forgotten
    /// some days after they were here last. Records of before that was noted are kept.
    #[serde(default)]
    pub is_guest: bool,
    /// Unix time in seconds at which they came in or left last; soft, 0 where it was not noted.
    #[serde(default)]
    pub seen_s: u64,
}

/// One person's right to drive another's avatar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Who may drive.
    pub to: PersonId,
    /// Unix time in seconds at which the right ends.
    pub ends_at: u64,
}

impl PersonRecord {
    /// Returns what brings their avatar in where it stood, with what it holds.
    #[must_use]
    pub fn entrance(&self, things: Vec<Thing>) -> Command {
        let being = Being::Avatar {
            person: self.person,
            name: self.name.clone(),
            appearance: self.appearance.clone(),
        };
        let about = Arc::new(About { being, version: 0 });
        let body = Body::standing(self.position, self.yaw);
        let avatar = Avatar::new(self.avatar, self.person, about, body);
        let things = ThingsRecord { things, ..ThingsRecord::default() };
        Command::Enter(Box::new(Traveller { avatar, things, viewer: None, errand: None }))
    }

    /// Returns until when `driver` may drive this person's avatar; nothing if not at all.
    ///
    /// The owner always may, without end. Everyone else needs a lending that has not ended.
    #[must_use]
    pub fn driven_until(&self, driver: PersonId, now_s: u64) -> Option<u64> {
        if driver == self.person {
            return Some(u64::MAX);
        }
        let ends = self.lendings.iter().filter(|lent| lent.to == driver).map(|lent| lent.ends_at);
        ends.max().filter(|&ends_at| ends_at > now_s)
    }

    /// Lends the avatar; a later lending to the same person replaces the earlier one.
    ///
    /// # Errors
    /// A sentence for the owner.
    pub fn lend(&mut self, lent: Lent, now_s: u64) -> Result<(), String> {
        if lent.ends_at <= now_s {
            return Err("the lending would be over already".into());
        }
        if lent.to == self.person {
            return Err("your avatar is yours already".into());
        }
        self.lendings.retain(|other| other.to != lent.to && other.ends_at > now_s);
        if self.lendings.len() >= LENDINGS_MAX {
            return Err(format!("an avatar is lent to {LENDINGS_MAX} people at most; recall one"));
        }
        self.lendings.push(lent);
        Ok(())
    }

    /// Returns whether the avatar is, or was, lent to a person.
    #[must_use]
    pub fn lends_to(&self, person: PersonId) -> bool {
        self.lendings.iter().any(|lent| lent.to == person)
    }

    /// Ends every lending to a person; returns whether there was one.
    pub fn recall(&mut self, to: PersonId) -> bool {
        let before = self.lendings.len();
        self.lendings.retain(|lent| lent.to != to);
        self.lendings.len() < before
    }

    /// Says to whom the avatar is lent, and for how much longer.
    #[must_use]
    pub fn lendings_told(&self, now_s: u64) -> String {
        let open = self.lendings.iter().filter(|lent| lent.ends_at > now_s);
        let told: Vec<String> =
            open.map(|lent| format!("{} for {}", lent.to, Span(lent.ends_at - now_s))).collect();
        let avatar = self.avatar;
        if told.is_empty() {
            return format!("{avatar} is lent to nobody");
        }
        format!("{avatar} is lent to {}", told.join(", "))
    }

    /// Sets how far another person is ignored.
    ///
    /// # Errors
    /// A sentence for the person.
    pub fn ignore(&mut self, other: PersonId, degree: Degree) -> Result<(), String> {
        if degree == Degree::None {
            self.ignored.remove(&other);
            return Ok(());
        }
        if self.ignored.len() >= IGNORED_MAX && !self.ignored.contains_key(&other) {
            return Err(format!("at most {IGNORED_MAX} people can be ignored"));
        }
        self.ignored.insert(other, degree);
        Ok(())
    }
}

/// Returns where a person first stands: somewhere on a ring around the spawn, so that newcomers
/// stand neither in each other nor in what is in the middle.
#[must_use]
pub fn first_place(spawn: Position, person: PersonId) -> Position {
    const NEAREST_CM: i32 = 400;
    const FARTHEST_CM: i32 = 1_000;
    let hash = *blake3::hash(&person.0.to_be_bytes()).as_bytes();
    let (east, south) = Yaw(u16::from_le_bytes([hash[0], hash[1]])).direction();
    let radius = NEAREST_CM + i32::from(hash[2]) * (FARTHEST_CM - NEAREST_CM) / 255;
    let along = |unit: i32| unit * radius / 32_767;
    Position {
        x: spawn.x.saturating_add(along(east)),
        z: spawn.z.saturating_add(along(south)),
        ..spawn
    }
}

/// Returns the looks a person starts with: distinct, and the same whenever it is asked.
#[must_use]
pub fn first_appearance(person: PersonId) -> Appearance {
    let hash = *blake3::hash(&person.0.to_le_bytes()).as_bytes();
    let pick = |index: usize, from: &[[u8; 3]]| from[usize::from(hash[index]) % from.len()];
    const SKINS: [[u8; 3]; 6] = [
        [255, 224, 196],
        [240, 194, 155],
        [212, 160, 118],
        [172, 118, 78],
        [124, 80, 52],
        [84, 54, 38],
    ];
    const HAIRS: [[u8; 3]; 6] =
        [[32, 26, 22], [78, 50, 30], [132, 86, 46], [196, 152, 84], [150, 62, 36], [178, 178, 176]];
    const CLOTHES: [[u8; 3]; 10] = [
        [172, 58, 52],
        [206, 124, 48],
        [216, 182, 72],
        [92, 136, 66],
        [52, 116, 108],
        [58, 104, 164],
        [84, 72, 146],
        [142, 70, 118],
        [98, 92, 86],
        [222, 214, 198],
    ];
    Appearance {
        model: None,
        height_cm: 155 + hash[0] % 36,
        build: hash[1],
        colours: [
            pick(2, &SKINS),
            pick(3, &HAIRS),
            pick(4, &CLOTHES),
            pick(5, &CLOTHES),
            pick(6, &HAIRS),
        ],
        recipe: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> PersonRecord {
        PersonRecord {
            person: PersonId(1),
            name: "Ada".into(),
            avatar: EntityId(10),
            appearance: first_appearance(PersonId(1)),
            position: Position::default(),
            yaw: Yaw::NORTH,
            ignored: BTreeMap::new(),
            lendings: Vec::new(),
            is_guest: false,
            seen_s: 0,
        }
    }

    #[test]
    fn nobody_drives_without_a_lending() {
        assert_eq!(record().driven_until(PersonId(2), 0), None);
        assert_eq!(record().driven_until(PersonId(1), 0), Some(u64::MAX));
    }

    #[test]
    fn a_lending_ends_at_its_second_and_not_before() {
        let mut record = record();
        record.lend(Lent { to: PersonId(2), ends_at: 100 }, 50).expect("a later end");
        assert_eq!(record.driven_until(PersonId(2), 99), Some(100));
        assert_eq!(record.driven_until(PersonId(2), 100), None);
        assert_eq!(record.driven_until(PersonId(3), 99), None);
        assert!(record.recall(PersonId(2)));
        assert_eq!(record.driven_until(PersonId(2), 99), None);
        assert!(record.lend(Lent { to: PersonId(2), ends_at: 50 }, 50).is_err());
    }

    #[test]
    fn an_owner_is_told_to_whom_an_avatar_is_lent() {
        let mut record = record();
        let told = |record: &PersonRecord, now_s| record.lendings_told(now_s);
        assert_eq!(told(&record, 0), "e-a is lent to nobody");
        record.lend(Lent { to: PersonId(2), ends_at: 100 }, 0).expect("room");
        record.lend(Lent { to: PersonId(0x1F), ends_at: 7_200 }, 0).expect("room");
        assert_eq!(told(&record, 40), "e-a is lent to p-2 for 1m, p-1f for 1h 59m");
        assert_eq!(told(&record, 100), "e-a is lent to p-1f for 1h 58m");
    }

    #[test]
    fn lendings_are_bounded_and_ended_ones_make_room() {
        let mut record = record();
        for to in 2..2 + LENDINGS_MAX as u64 {
            record.lend(Lent { to: PersonId(to), ends_at: 100 }, 0).expect("room");
        }
        assert!(record.lend(Lent { to: PersonId(99), ends_at: 100 }, 0).is_err());
        assert!(record.lend(Lent { to: PersonId(99), ends_at: 300 }, 200).is_ok());
    }

    #[test]
    fn newcomers_stand_around_the_spawn_and_apart() {
        let spawn = Position::new(1_000, 50, -2_000);
        let places: Vec<_> = (0..50).map(|person| first_place(spawn, PersonId(person))).collect();
        assert!(places.iter().all(|place| place.is_within(spawn, 1_000)));
        assert!(places.iter().all(|place| !place.is_within(spawn, 390)));
        let distinct: std::collections::BTreeSet<_> = places.iter().collect();
        assert_eq!(distinct.len(), 50);
    }

    #[test]
    fn people_look_different() {
        let looks: Vec<_> = (0..20).map(|person| first_appearance(PersonId(person))).collect();
        let distinct = looks.iter().enumerate().filter(|(i, look)| !looks[..*i].contains(look));
        assert!(distinct.count() >= 19);
    }
}
