//! The ground a client walks on: the chunks it was sent and the solid things it was told of.
//!
//! Owns both, bounded. Fetching and decoding chunks is the caller's.

use std::collections::{BTreeMap, BTreeSet};

use crate::ground::{Ground, HeightGrid, Pillar, Pillars};
use crate::ids::ChunkId;
use crate::message::server::{Announce, Appear, Being};
use crate::rules::RuleBook;
use crate::rules::kind::is_shut;
use crate::units::Position;

use super::ENTITIES_MAX;

/// Chunks kept: 11 x 11 around the walker and some left behind, 17 KB each.
pub const CHUNKS_KEPT_MAX: usize = 160;

/// Width of a chunk of level 0 in 1/256 cm.
const WIDTH: i64 = ChunkId::WIDTH_CM as i64 * 256;

/// The known ground.
#[derive(Clone, Debug, Default)]
pub struct Terrain {
    chunks: BTreeMap<(i32, i32), HeightGrid>,
    /// What to assume where no chunk is known.
    flat_cm: Option<i32>,
    pillars: Pillars,
    /// What each handle blocks that stands for something solid.
    standing: BTreeMap<u16, Solid>,
}

/// What a solid thing in view blocks.
#[derive(Clone, Copy, Debug)]
struct Solid {
    /// All it can block: as a shut door.
    pillar: Pillar,
    is_door: bool,
    /// Whether it blocks now.
    blocks: bool,
}

impl Terrain {
    /// Returns ground that is known nowhere.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Returns a plain at this height, until chunks tell otherwise.
    #[must_use]
    pub fn flat(height_cm: i32) -> Self {
        Self { flat_cm: Some(height_cm), ..Self::default() }
    }

    /// Assumes this height where no chunk is known: nobody falls while ground is on its way.
    pub const fn assume(&mut self, height_cm: i32) {
        self.flat_cm = Some(height_cm);
    }

    /// Takes in a chunk; those of coarser levels are for looking at and are left out.
    ///
    /// Beyond [`CHUNKS_KEPT_MAX`] the chunk farthest from `here` goes.
    pub fn insert(&mut self, id: ChunkId, grid: HeightGrid, here: Position) {
        if id.level != 0 {
            return;
        }
        self.chunks.insert((id.x, id.z), grid);
        let centre = ChunkId::at(0, here.x, here.z);
        while CHUNKS_KEPT_MAX < self.chunks.len() {
            let farthest = self.chunks.keys().max_by_key(|&&(x, z)| {
                let (x, z) =
                    (i64::from(x) - i64::from(centre.x), i64::from(z) - i64::from(centre.z));
                x.saturating_mul(x).saturating_add(z.saturating_mul(z))
            });
            let Some(&farthest) = farthest else { break };
            self.chunks.remove(&farthest);
        }
    }

    /// Returns whether the ground of `id` is known.
    #[must_use]
    pub fn contains(&self, id: ChunkId) -> bool {
        id.level == 0 && self.chunks.contains_key(&(id.x, id.z))
    }

    /// Returns how many chunks are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Returns whether no chunk is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns the chunks within `reach` chunks of `here` that are not known, the nearest first.
    #[must_use]
    pub fn missing(&self, here: Position, reach: i32) -> Vec<ChunkId> {
        let centre = ChunkId::at(0, here.x, here.z);
        let mut missing = BTreeSet::new();
        for z in -reach..=reach {
            for x in -reach..=reach {
                let id = ChunkId {
                    level: 0,
                    x: centre.x.saturating_add(x),
                    z: centre.z.saturating_add(z),
                };
                if !self.contains(id) {
                    missing.insert((x * x + z * z, z, x));
                }
            }
        }
        let place = |(_, z, x)| ChunkId { level: 0, x: centre.x + x, z: centre.z + z };
        missing.into_iter().map(place).collect()
    }

    /// Follows what comes into view and leaves it, as far as it is solid.
    pub fn announce(&mut self, announce: &Announce, book: &RuleBook) {
        for &handle in &announce.vanish {
            self.clear(handle);
        }
        for appear in &announce.appear {
            let known = self.clear(appear.handle);
            let Some(mut solid) = solid(appear, book) else { continue };
            if let Some(known) = known.filter(|known| known.pillar == solid.pillar) {
                // Told anew of what is in view already: frames may have told more since.
                solid.blocks = known.blocks;
            }
            if self.standing.len() < ENTITIES_MAX {
                self.standing.insert(appear.handle, solid);
                if solid.blocks {
                    self.pillars.insert(solid.pillar);
                }
            }
        }
    }

    /// Forgets everything solid: it will be announced anew.
    pub fn forget_things(&mut self) {
        self.standing.clear();
        self.pillars = Pillars::default();
    }

    /// Returns everything in view that blocks the way.
    pub fn solids(&self) -> impl Iterator<Item = &Pillar> {
        self.standing.values().filter(|solid| solid.blocks).map(|solid| &solid.pillar)
    }

    /// Returns the height in whole centimetres at a ground point in centimetres.
    #[must_use]
    pub fn height_cm(&self, x_cm: i32, z_cm: i32) -> Option<i32> {
        let height = self.height(i64::from(x_cm) * 256, i64::from(z_cm) * 256)?;
        i32::try_from(height.div_euclid(256)).ok()
    }

    fn clear(&mut self, handle: u16) -> Option<Solid> {
        let solid = self.standing.remove(&handle)?;
        if solid.blocks {
            self.pillars.remove(solid.pillar);
        }
        Some(solid)
    }
}

/// What a thing that comes into view blocks.
fn solid(appear: &Appear, book: &RuleBook) -> Option<Solid> {
    let Being::Thing { kind, .. } = appear.being else { return None };
    let kind = book.kind(kind)?;
    let pillar = kind.pillar(appear.position, 0)?;
    let blocks = kind.pillar(appear.position, appear.flags).is_some();
    Some(Solid { pillar, is_door: kind.is_door(), blocks })
}

impl Ground for Terrain {
    fn height(&self, x: i64, z: i64) -> Option<i64> {
        let place = |at: i64| i32::try_from(at.div_euclid(WIDTH)).ok();
        match self.chunks.get(&(place(x)?, place(z)?)) {
            Some(grid) => Some(grid.height_at(x.rem_euclid(WIDTH), z.rem_euclid(WIDTH), 0)),
            None => self.flat_cm.map(|cm| i64::from(cm) * 256),
        }
    }

    fn pillars(&self, x_cm: i32, z_cm: i32, _: i32) -> &[Pillar] {
        self.pillars.near(x_cm, z_cm)
    }

    fn see(&mut self, handle: u16, flags: u8) {
        let Some(solid) = self.standing.get_mut(&handle).filter(|solid| solid.is_door) else {
            return;
        };
        let blocks = is_shut(flags);
        if blocks == solid.blocks {
            return;
        }
        solid.blocks = blocks;
        if blocks {
            self.pillars.insert(solid.pillar);
        } else {
            self.pillars.remove(solid.pillar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::CHUNK_SAMPLES;
    use crate::ids::EntityId;
    use crate::state::flags;
    use crate::units::{Tick, Yaw};

    fn chunk(x: i32, z: i32) -> ChunkId {
        ChunkId { level: 0, x, z }
    }

    fn grid(height_cm: i32) -> HeightGrid {
        let heights = vec![height_cm; CHUNK_SAMPLES * CHUNK_SAMPLES];
        HeightGrid::new(heights.into_boxed_slice()).expect("65 x 65")
    }

    fn tree(handle: u16, x: i32, book: &RuleBook) -> Appear {
        let kind = book.kind_named("tree").expect("trees").id;
        Appear {
            handle,
            entity: EntityId(7),
            being: Being::Thing { kind, count: 1, text: None },
            position: Position::new(x, 50, 0),
            yaw: Yaw::NORTH,
            flags: 0,
        }
    }

    #[test]
    fn chunks_count_before_what_is_assumed() {
        let mut terrain = Terrain::unknown();
        assert_eq!(terrain.height_cm(10, 10), None);
        terrain.assume(30);
        assert_eq!(terrain.height_cm(10, 10), Some(30));
        terrain.insert(chunk(0, 0), grid(500), Position::default());
        assert_eq!(terrain.height_cm(10, 10), Some(500));
        assert_eq!(terrain.height_cm(-10, 10), Some(30));
    }

    #[test]
    fn the_farthest_chunk_goes_first() {
        let mut terrain = Terrain::unknown();
        for x in 0..300 {
            terrain.insert(chunk(x, 0), grid(0), Position::new(x * ChunkId::WIDTH_CM, 0, 0));
        }
        assert_eq!(terrain.len(), CHUNKS_KEPT_MAX);
        assert!(terrain.contains(chunk(299, 0)) && !terrain.contains(chunk(0, 0)));
    }

    #[test]
    fn the_nearest_missing_ground_is_wanted_first() {
        let mut terrain = Terrain::unknown();
        let here = Position::new(100, 0, 100);
        assert_eq!(terrain.missing(here, 1).len(), 9);
        assert_eq!(terrain.missing(here, 1).first(), Some(&chunk(0, 0)));
        terrain.insert(chunk(0, 0), grid(0), here);
        assert_eq!(terrain.missing(here, 1).len(), 8);
        assert!(!terrain.missing(here, 1).contains(&chunk(0, 0)));
    }

    #[test]
    fn solid_things_block_the_way_while_they_are_in_view() {
        let book = RuleBook::starter();
        let mut terrain = Terrain::flat(50);
        let announce =
            |vanish: &[u16], appear| Announce { since: Tick(1), vanish: vanish.to_vec(), appear };
        terrain.announce(&announce(&[], vec![tree(3, 200, &book)]), &book);
        let pillar = Pillar { x: 200, z: 0, radius: 35, top: 650 };
        assert_eq!(terrain.pillars(100, 0, 60), [pillar]);
        // Told twice, it stands once.
        terrain.announce(&announce(&[], vec![tree(3, 200, &book)]), &book);
        assert_eq!(terrain.pillars(100, 0, 60), [pillar]);
        terrain.announce(&announce(&[3], Vec::new()), &book);
        assert!(terrain.pillars(100, 0, 60).is_empty());
    }

    #[test]
    fn a_door_blocks_while_it_is_shut_and_a_chest_always() {
        let book = RuleBook::starter();
        let thing = |name: &str, flags| {
            let kind = book.kind_named(name).expect("a kind").id;
            let being = Being::Thing { kind, count: 1, text: None };
            Appear { being, flags, ..tree(3, 200, &book) }
        };
        let told = |terrain: &mut Terrain, appear| {
            let announce = Announce { since: Tick(1), vanish: Vec::new(), appear: vec![appear] };
            terrain.announce(&announce, &book);
        };
        let mut terrain = Terrain::flat(50);
        told(&mut terrain, thing("door", 0));
        assert_eq!((terrain.pillars(100, 0, 60).len(), terrain.solids().count()), (1, 1));
        terrain.see(3, flags::OPEN);
        assert_eq!((terrain.pillars(100, 0, 60).len(), terrain.solids().count()), (0, 0));
        // Told anew what it is, late: the frame knew better.
        told(&mut terrain, thing("door", 0));
        assert!(terrain.pillars(100, 0, 60).is_empty());
        terrain.see(3, 0);
        assert_eq!(terrain.pillars(100, 0, 60).len(), 1);
        let vanish = Announce { since: Tick(2), vanish: vec![3], appear: Vec::new() };
        terrain.announce(&vanish, &book);
        told(&mut terrain, thing("door", flags::OPEN));
        assert!(terrain.pillars(100, 0, 60).is_empty());
        terrain.announce(&vanish, &book);
        told(&mut terrain, thing("chest", flags::OPEN));
        terrain.see(3, flags::OPEN);
        assert_eq!(terrain.pillars(100, 0, 60).len(), 1);
    }
}
