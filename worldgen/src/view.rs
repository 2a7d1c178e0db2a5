//! Which chunks a viewer wants: fine ones near, coarse ones far, no ground twice.
//!
//! Owns the rule by which detail falls with distance. It asks nobody for a chunk; what left the
//! view is found by comparing two views.

use protocol::ids::ChunkId;
use protocol::units::Position;

use crate::chunk::is_in_world;

/// Farthest ground anyone is shown: 16 km, some three hundred chunks.
pub const REACH_M_MAX: u32 = 16_384;
/// A chunk nearer than this many of its widths is shown in finer ones.
const WIDTHS: i64 = 1;

/// Returns the chunks seen from `at` as far as `reach_m`, each with its distance in metres,
/// nearest first. They cover every place within reach exactly once; level 0 lies at least 128 m
/// around the viewer.
#[must_use]
pub fn view(at: Position, reach_m: u32) -> Vec<(ChunkId, u32)> {
    let reach_cm = i64::from(reach_m.min(REACH_M_MAX)) * 100;
    let level = ChunkId::LEVEL_MAX;
    let width = i64::from(ChunkId::WIDTH_CM) << level;
    let range = |centre: i32| {
        let (low, high) = (i64::from(centre) - reach_cm, i64::from(centre) + reach_cm);
        // A few chunks around the viewer's, whose index fits.
        low.div_euclid(width) as i32..=high.div_euclid(width) as i32
    };
    let mut seen = Vec::new();
    for z in range(at.z) {
        for x in range(at.x) {
            split(ChunkId { level, x, z }, at, reach_cm, &mut seen);
        }
    }
    seen.sort_unstable_by_key(|&(chunk, distance)| (distance, chunk));
    seen
}

/// Adds `chunk`, or the four that make it up where it is near.
fn split(chunk: ChunkId, at: Position, reach_cm: i64, seen: &mut Vec<(ChunkId, u32)>) {
    let width = i64::from(chunk.width_cm());
    let distance = distance_cm(chunk, at);
    if reach_cm < distance {
        return;
    }
    // A coarse chunk across the edge of the world is shown as far as its parts lie within.
    let whole = is_in_world(chunk);
    if 0 < chunk.level && (distance < WIDTHS * width || !whole) {
        let (level, x, z) = (chunk.level - 1, chunk.x * 2, chunk.z * 2);
        for (right, down) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            split(ChunkId { level, x: x + right, z: z + down }, at, reach_cm, seen);
        }
    } else if whole {
        // Within REACH_M_MAX, which fits.
        seen.push((chunk, (distance / 100) as u32));
    }
}

/// Distance over the ground from `at` to the nearest point of `chunk`.
fn distance_cm(chunk: ChunkId, at: Position) -> i64 {
    let width = i64::from(chunk.width_cm());
    let outside = |index: i32, at: i32| {
        let low = i64::from(index) * width;
        (low - i64::from(at)).max(i64::from(at) - (low + width)).max(0)
    };
    let (x, z) = (outside(chunk.x, at.x), outside(chunk.z, at.z));
    (x * x + z * z).isqrt()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// How many chunks of `seen` hold the point.
    fn covers(seen: &[(ChunkId, u32)], x: i32, z: i32) -> usize {
        seen.iter().filter(|(chunk, _)| ChunkId::at(chunk.level, x, z) == *chunk).count()
    }

    #[test]
    fn every_place_within_reach_is_covered_once() {
        let at = Position::new(123_456, 0, -7_890);
        let seen = view(at, 8_000);
        for i in 0..4_000 {
            let (x, z) = ((i * 7_919) % 1_000_000 - 500_000, (i * 104_729) % 1_000_000 - 500_000);
            assert_eq!(covers(&seen, at.x + x, at.z + z), 1, "at {x}, {z}");
        }
    }

    #[test]
    fn detail_falls_with_distance_and_the_nearest_comes_first() {
        let seen = view(Position::new(3_200, 0, 3_200), REACH_M_MAX);
        assert!((150..400).contains(&seen.len()), "{} chunks", seen.len());
        assert!(seen.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        for &(chunk, distance) in &seen {
            assert!(chunk.level == 0 || 64 << chunk.level <= distance, "{chunk} at {distance}");
            assert!(128 <= distance || chunk.level == 0);
        }
        assert_eq!(seen[0].0, ChunkId { level: 0, x: 0, z: 0 });
    }

    #[test]
    fn a_step_changes_little() {
        let near = |x| view(Position::new(x, 0, 0), 8_000).into_iter().map(|(chunk, _)| chunk);
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (near(3_000).collect(), near(3_500).collect());
        assert!(after.difference(&before).count() * 4 < after.len());
        assert!(view(Position::default(), 0).len() <= 4);
    }

    #[test]
    fn at_the_edge_of_the_world_there_is_only_what_is_in_it() {
        for corner in [i32::MIN, i32::MAX] {
            let seen = view(Position::new(corner, 0, corner), REACH_M_MAX);
            assert!(!seen.is_empty() && seen.len() < 2_000);
            assert!(seen.iter().all(|&(chunk, _)| is_in_world(chunk)));
        }
    }
}
