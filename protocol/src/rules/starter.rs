//! The starter place as data: a square with a well, a workshop, a grove, houses, fields.
//!
//! Laid out around a spot, the same for the same seed. Heights, ids and what to do where a spot
//! is under water are the caller's.

use serde::{Deserialize, Serialize};

use super::book::RuleBook;
use super::kind::KindId;
use super::thing::{Holder, Note, Thing};
use crate::ids::EntityId;
use crate::units::{Position, Tick, Yaw};

/// A thing to be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// What it is.
    pub kind: KindId,
    /// How many.
    pub count: u32,
    /// Centimetres east of the world's origin.
    pub x: i32,
    /// Centimetres south of the world's origin.
    pub z: i32,
    /// Which way it faces.
    pub yaw: Yaw,
    /// What is written on it.
    pub text: Option<String>,
}

impl Placement {
    /// Returns the thing, standing at the height `ground_cm`.
    #[must_use]
    pub fn thing(&self, id: EntityId, ground_cm: i32) -> Thing {
        let at = Position::new(self.x, ground_cm, self.z);
        let holder = Holder::Placed { at, yaw: self.yaw };
        let mut thing = Thing::new(id, self.kind, self.count, holder);
        let note = |text: &String| Note { by: None, tick: Tick(0), text: text.clone() };
        thing.state.notes = self.text.iter().map(note).collect();
        thing
    }
}

/// A named part of the world.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Place {
    /// What people call it.
    pub name: String,
    /// What it is good for.
    pub about: String,
    /// Its middle, centimetres east of the world's origin.
    pub x: i32,
    /// Its middle, centimetres south of the world's origin.
    pub z: i32,
    /// How far it reaches, in cm.
    pub radius_cm: u32,
}

impl Place {
    /// Returns whether `position` belongs to it.
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        position.is_within(Position::new(self.x, position.y, self.z), self.radius_cm)
    }
}

/// A laid out place: what stands there, and what its parts are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// What to place, in a fixed order.
    pub things: Vec<Placement>,
    /// The named parts; earlier ones are the more particular.
    pub places: Vec<Place>,
}

/// What stands alone: kind, metres east and south of the middle, heading in eighths of a turn.
const FIXED: &[(&str, i32, i32, u16)] = &[
    ("well", 0, 0, 0),
    ("notice board", 6, -8, 4),
    ("bell", -6, -8, 0),
    ("bench", -7, 0, 2),
    ("bench", 7, 0, 6),
    ("bench", 0, 8, 0),
    ("bench", -5, 6, 1),
    ("lantern", -10, -10, 0),
    ("lantern", 10, -10, 0),
    ("lantern", -10, 10, 0),
    ("lantern", 10, 10, 0),
    ("lantern", 24, 3, 0),
    ("workbench", 22, 0, 6),
    ("workbench", 22, 4, 6),
    ("oven", 26, -4, 4),
    ("table", 18, -4, 0),
    ("chest", 27, 4, 6),
    ("door", -20, -14, 4),
    ("door", -20, 14, 0),
    ("clay pit", 38, 26, 0),
];

/// What lies about: kind, how many, metres east and south of the middle.
const LOOSE: &[(&str, u32, i32, i32)] = &[
    ("axe", 1, 20, 1),
    ("axe", 1, 20, 2),
    ("hammer", 1, 20, 3),
    ("hammer", 1, 20, -1),
    ("bucket", 1, 2, 1),
    ("bucket", 1, 2, -1),
    ("cup", 2, -2, 1),
    ("torch", 1, 11, -9),
    ("hand bell", 1, 6, -7),
    ("rope", 2, 19, 5),
    ("plank", 6, 21, 6),
    ("bread", 2, 25, -2),
    ("apple", 3, 17, -3),
    ("stool", 1, 17, -5),
    ("stool", 1, 19, -5),
];

/// What grows in groups: kind, how many, metres east and south of the middle, radius in metres.
const GROWN: &[(&str, u32, i32, i32, i32)] = &[
    ("tree", 16, -45, -30, 16),
    ("tree", 14, -60, 10, 14),
    ("tree", 10, 10, -60, 14),
    ("apple tree", 8, 40, -35, 12),
    ("rock", 8, 45, 25, 12),
    ("flower patch", 8, -15, 35, 10),
    ("flower patch", 4, 12, 14, 4),
    ("tall grass", 8, 15, 40, 12),
    ("berry bush", 6, -40, 25, 10),
    ("wheat field", 6, 35, 50, 9),
    ("brushwood", 8, -38, -12, 12),
];

/// Named parts: name, what for, metres east and south of the middle, radius in metres.
const PLACES: &[(&str, &str, i32, i32, u32)] = &[
    ("workshop", "planks, tools and bread are made here", 22, 0, 9),
    ("north house", "a quiet house", -20, -14, 6),
    ("south house", "a house with a view of the meadow", -20, 14, 6),
    ("square", "where people meet: the well, the board, benches", 0, 0, 14),
    ("grove", "trees and brushwood", -50, -12, 38),
    ("orchard", "apple trees", 40, -35, 15),
    ("quarry", "rocks and clay", 42, 25, 16),
    ("meadow", "flowers, tall grass and wheat", 10, 42, 36),
    ("north wood", "trees", 10, -60, 18),
];

/// The first note on the board.
const WELCOME: &str = "Welcome! Draw water at the well, pick apples in the orchard, borrow an axe \
                       from the workshop, and pin your own note here.";

/// How much closer than this no two grown things stand, in cm.
const APART_CM: u32 = 180;

/// Tries to find a free spot for one grown thing before it is left out.
const TRIES_MAX: u32 = 16;

/// Returns the starter place around the ground point (`x`, `z`) in cm.
///
/// Kinds that `book` lacks are left out: an operator's rules need not know them.
#[must_use]
pub fn layout(seed: u64, x: i32, z: i32, book: &RuleBook) -> Layout {
    let mut layout = Layout::default();
    let metres = |from: i32, m: i32| from.saturating_add(m * 100);
    for &(name, east, south, eighths) in FIXED {
        let yaw = Yaw(eighths * 0x2000);
        layout.add(book, name, 1, (metres(x, east), metres(z, south)), yaw);
    }
    for &(name, count, east, south) in LOOSE {
        layout.add(book, name, count, (metres(x, east), metres(z, south)), Yaw::NORTH);
    }
    let mut stream = Stream(seed);
    for &(name, count, east, south, radius) in GROWN {
        let middle = (metres(x, east), metres(z, south));
        for _ in 0..count {
            let spot = (0..TRIES_MAX)
                .map(|_| stream.spot(middle, radius * 100))
                .find(|&spot| layout.is_free(spot));
            let yaw = Yaw(stream.next_u16());
            let Some(spot) = spot else { continue };
            layout.add(book, name, 1, spot, yaw);
        }
    }
    let place = |&(name, about, east, south, radius): &(&str, &str, i32, i32, u32)| Place {
        name: name.to_owned(),
        about: about.to_owned(),
        x: metres(x, east),
        z: metres(z, south),
        radius_cm: radius * 100,
    };
    layout.places = PLACES.iter().map(place).collect();
    layout
}

impl Layout {
    /// Returns the most particular place that `position` belongs to.
    #[must_use]
    pub fn place_at(&self, position: Position) -> Option<&Place> {
        self.places.iter().find(|place| place.contains(position))
    }

    fn add(&mut self, book: &RuleBook, name: &str, count: u32, (x, z): (i32, i32), yaw: Yaw) {
        let Some(kind) = book.kind_named(name) else { return };
        let text = kind.public.then(|| WELCOME.to_owned());
        let count = count.min(kind.stack);
        self.things.push(Placement { kind: kind.id, count, x, z, yaw, text });
    }

    fn is_free(&self, (x, z): (i32, i32)) -> bool {
        let spot = Position::new(x, 0, z);
        let is_near = |it: &Placement| Position::new(it.x, 0, it.z).is_within(spot, APART_CM);
        !self.things.iter().any(is_near)
    }
}

/// A stream of random numbers (SplitMix64): the layout's own, made from the seed alone.
struct Stream(u64);

impl Stream {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    const fn next_u16(&mut self) -> u16 {
        let [low, high, ..] = self.next().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Returns a spot within `radius` of `middle`, denser towards it.
    fn spot(&mut self, middle: (i32, i32), radius: i32) -> (i32, i32) {
        let (east, south) = Yaw(self.next_u16()).direction();
        let away = i64::from(self.next_u16()) * i64::from(radius) / 65_536;
        let along = |direction: i32| {
            i32::try_from(i64::from(direction) * away / 32_767).unwrap_or_default()
        };
        (middle.0.saturating_add(along(east)), middle.1.saturating_add(along(south)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_lays_out_the_same_place() {
        let book = RuleBook::starter();
        let place = layout(7, 1_000, -500, &book);
        assert_eq!(layout(7, 1_000, -500, &book), place);
        assert_ne!(layout(8, 1_000, -500, &book).things, place.things);
        let of = |name: &str| {
            let id = book.kind_named(name).unwrap().id;
            place.things.iter().filter(move |it| it.kind == id).count()
        };
        assert_eq!((of("well"), of("door"), of("notice board")), (1, 2, 1));
        assert!(38 <= of("tree") && 6 <= of("apple tree"), "{} {}", of("tree"), of("apple tree"));
        assert_eq!(place.place_at(Position::new(1_000, 0, -500)).unwrap().name, "square");
    }

    #[test]
    fn every_name_in_the_layout_is_in_the_book() {
        let book = RuleBook::starter();
        let names = FIXED.iter().map(|it| it.0).chain(LOOSE.iter().map(|it| it.0));
        for name in names.chain(GROWN.iter().map(|it| it.0)) {
            book.find_kind("layout", name).unwrap();
        }
    }

    #[test]
    fn the_edge_of_the_range_is_no_trouble() {
        let book = RuleBook::starter();
        assert!(!layout(1, i32::MAX, i32::MIN, &book).things.is_empty());
    }
}
