//! The chunks that movement walks on: heights by place, without waiting for anyone.
//!
//! Owns decoded chunks of level 0. It never generates, decodes or fetches one; where it has none,
//! it says so and movement stands still.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use protocol::ground::Ground;
use protocol::ids::ChunkId;

use crate::chunk::Chunk;
use crate::limits::GROUND_CHUNKS_MAX;

/// Width of a chunk in 1/256 cm.
const WIDTH: i64 = ChunkId::WIDTH_CM as i64 * 256;

/// Decoded ground of level 0, at most [`GROUND_CHUNKS_MAX`] chunks of it.
#[derive(Clone, Debug, Default)]
pub struct GroundMap {
    // All of level 0, under their column and row.
    chunks: HashMap<(i32, i32), Arc<Chunk>, BuildHasherDefault<PlaceHasher>>,
}

impl GroundMap {
    /// Takes a chunk in, over an older one of the same place; returns whether there was room for
    /// it. Chunks of coarser levels are for looking at and are refused too.
    pub fn insert(&mut self, chunk: Arc<Chunk>) -> bool {
        let ChunkId { level, x, z } = chunk.id();
        let full = GROUND_CHUNKS_MAX <= self.chunks.len() && !self.chunks.contains_key(&(x, z));
        if level != 0 || full {
            return false;
        }
        self.chunks.insert((x, z), chunk);
        true
    }

    /// Lets a chunk go; returns it if it was here.
    pub fn remove(&mut self, id: ChunkId) -> Option<Arc<Chunk>> {
        if id.level != 0 {
            return None;
        }
        self.chunks.remove(&(id.x, id.z))
    }

    /// Lets go of every chunk that `keep` does not ask to keep.
    pub fn retain(&mut self, keep: impl Fn(ChunkId) -> bool) {
        self.chunks.retain(|&(x, z), _| keep(ChunkId { level: 0, x, z }));
    }

    /// Returns the chunk of this id if it is here.
    #[must_use]
    pub fn chunk(&self, id: ChunkId) -> Option<&Arc<Chunk>> {
        self.chunks.get(&(id.x, id.z)).filter(|_| id.level == 0)
    }

    /// Returns whether the ground of `id` is known.
    #[must_use]
    pub fn contains(&self, id: ChunkId) -> bool {
        self.chunk(id).is_some()
    }

    /// Returns every chunk that is here, in the order of their ids.
    #[must_use]
    pub fn chunks(&self) -> Vec<Arc<Chunk>> {
        let mut chunks: Vec<Arc<Chunk>> = self.chunks.values().cloned().collect();
        chunks.sort_unstable_by_key(|chunk| chunk.id());
        chunks
    }

    /// Returns how many chunks are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Returns whether no ground is known at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns the height in whole centimetres at a ground point in centimetres, nothing where
    /// the ground is not known.
    #[must_use]
    pub fn height_cm(&self, x_cm: i32, z_cm: i32) -> Option<i32> {
        let height = self.height(i64::from(x_cm) * 256, i64::from(z_cm) * 256)?;
        i32::try_from((height + 128).div_euclid(256)).ok()
    }
}

impl Ground for GroundMap {
    #[inline]
    fn height(&self, x: i64, z: i64) -> Option<i64> {
        let place = |at: i64| i32::try_from(at.div_euclid(WIDTH)).ok();
        let chunk = self.chunks.get(&(place(x)?, place(z)?))?;
        Some(chunk.grid().height_at(x.rem_euclid(WIDTH), z.rem_euclid(WIDTH), 0))
    }
}

/// Hashes a column and a row by multiplication: a look-up is in every step of every walker.
/// Places come from where bodies are, so nobody gains by making them collide.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_i32(i32::from(byte));
        }
    }

    fn write_i32(&mut self, number: i32) {
        let mixed = self.0.rotate_left(29) ^ u64::from(number.cast_unsigned());
        self.0 = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[cfg(test)]
mod tests {
    use protocol::ground::{CHUNK_SAMPLES, HeightGrid};

    use super::*;
    use crate::chunk::Surface;
    use crate::limits::SAMPLES;

    /// Ground that rises 1 cm per metre east and 2 cm per metre south.
    fn chunk(x: i32, z: i32, level: u8) -> Arc<Chunk> {
        let height = |i: usize| {
            let (column, row) = ((i % CHUNK_SAMPLES) as i32, (i / CHUNK_SAMPLES) as i32);
            64 * x + column + 2 * (64 * z + row)
        };
        let grid = HeightGrid::new((0..SAMPLES).map(height).collect()).expect("65 x 65");
        let surface = vec![Surface::Grass; SAMPLES].into_boxed_slice();
        Arc::new(Chunk::new(ChunkId { level, x, z }, grid, surface).expect("valid"))
    }

    #[test]
    fn heights_come_from_the_chunk_under_foot() {
        let mut ground = GroundMap::default();
        assert!(ground.insert(chunk(-1, 3, 0)) && ground.insert(chunk(0, 3, 0)));
        let check = |x_m: i32, z_m: i32, expected: Option<i32>| {
            assert_eq!(ground.height_cm(x_m * 100, z_m * 100), expected, "at {x_m}, {z_m}");
        };
        check(-64, 192, Some(-64 + 2 * 192));
        check(-1, 255, Some(-1 + 2 * 255));
        check(0, 200, Some(400));
        check(63, 200, Some(463));
        check(64, 200, None);
        check(0, 191, None);
        check(-65, 200, None);
        assert_eq!(ground.height(i64::MAX, i64::MIN), None);
    }

    #[test]
    fn a_point_between_two_chunks_has_one_height() {
        let mut ground = GroundMap::default();
        assert!(ground.insert(chunk(0, 0, 0)) && ground.insert(chunk(1, 0, 0)));
        let heights = [-1_i64, 0, 1].map(|step| ground.height(WIDTH + step * 128, 0));
        let [before, at, after] = heights.map(|height| height.expect("known"));
        assert_eq!(at, 64 * 256);
        // Half a centimetre of ground rises by one unit or two.
        assert!((1..=2).contains(&(at - before)) && (1..=2).contains(&(after - at)));
    }

    #[test]
    fn what_left_is_no_longer_known() {
        let mut ground = GroundMap::default();
        let id = ChunkId { level: 0, x: 2, z: 2 };
        assert!(ground.insert(chunk(2, 2, 0)));
        assert!(ground.contains(id) && ground.len() == 1);
        assert!(ground.remove(ChunkId { level: 1, ..id }).is_none());
        assert!(ground.remove(id).is_some());
        assert!(ground.is_empty() && ground.height_cm(13_000, 13_000).is_none());
    }

    #[test]
    fn coarse_chunks_are_not_walked_on() {
        let mut ground = GroundMap::default();
        assert!(!ground.insert(chunk(0, 0, 1)));
        assert!(ground.is_empty());
    }
}
