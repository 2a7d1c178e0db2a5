//! What a simulated world is like: nine small regions of flat ground, some things, some trees.
//!
//! The regions are as small as they may be, so that everyone is near a border all the time.

use std::sync::Arc;

use protocol::ground::{CHUNK_SAMPLES, HeightGrid};
use protocol::ids::{ChunkId, EntityId};
use protocol::motion::MotionRules;
use protocol::rules::{Holder, RuleBook, Thing};
use protocol::units::Yaw;
use server::region::Regions;
use server::shard::WorldRules;
use worldgen::chunk::{Chunk, Surface};

use super::host::HZ;
use crate::dice::Dice;

/// Regions along one side.
const PER_SIDE: u16 = 3;

/// Width of a region.
const WIDTH_CM: i32 = Regions::WIDTH_CM_MIN;

/// How far one sees.
pub const VIEW_CM: i32 = 4_000;

/// Stacks that lie about, few enough for everyone near to be shown at once.
const STACKS: u64 = 40;

/// Things that block the way.
const TREES: u64 = 12;

/// Returns the rules of the world, and the text of its rule book.
#[must_use]
pub fn rules() -> (WorldRules, String) {
    let regions = Regions::new(PER_SIDE, WIDTH_CM);
    let half_width_cm = regions.half_width_cm();
    let book = RuleBook::starter();
    let text = RuleBook::starter_text().to_owned();
    let rules = WorldRules {
        regions,
        motion: MotionRules { hz: HZ, half_width_cm, ..MotionRules::default() },
        book: Arc::new(book),
        view_cm: VIEW_CM,
        nearby_cm: 2_000,
        whisper_cm: 300,
    };
    (rules, text)
}

/// Returns what the world of a seed starts with.
#[must_use]
pub fn things(rules: &WorldRules, seed: u64) -> Vec<Thing> {
    let mut chance = Dice::of_part(seed, 1);
    let half_cm = rules.regions.half_width_cm() - 200;
    let small = ["apple", "plank", "stone", "rope"];
    let names = (0..STACKS).map(|index| (small[index as usize % small.len()], 4));
    let names = names.chain((0..TREES).map(|_| ("tree", 1)));
    let placed = (0..).zip(names).filter_map(|(index, (name, count))| {
        let holder = Holder::Placed { at: chance.place(half_cm), yaw: Yaw::NORTH };
        Some(Thing::new(thing_id(index), rules.book.kind_named(name)?.id, count, holder))
    });
    placed.collect()
}

/// Returns an id of another epoch than those of any run.
#[must_use]
pub const fn thing_id(index: u64) -> EntityId {
    EntityId((0xFF_FFFF << 40) + index)
}

/// Returns flat ground.
///
/// # Panics
/// Never: flat ground is ground.
#[must_use]
pub fn flat(id: ChunkId) -> Arc<Chunk> {
    let samples = CHUNK_SAMPLES * CHUNK_SAMPLES;
    let grid = HeightGrid::new(vec![0; samples].into_boxed_slice()).expect("as many as needed");
    let surface = vec![Surface::Grass; samples].into_boxed_slice();
    Arc::new(Chunk::new(id, grid, surface).expect("flat ground is ground"))
}
