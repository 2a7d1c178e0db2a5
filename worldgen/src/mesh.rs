//! Turns a chunk into triangles for a viewer.
//!
//! Owns positions, normals and skirts; it is never asked about cameras, materials or when to draw.

use protocol::ground::CHUNK_SAMPLES;
use protocol::ids::ChunkId;

use crate::chunk::{Chunk, Surface};
use crate::limits::SAMPLES;

const LAST: usize = CHUNK_SAMPLES - 1;
/// Vertices along the rim, each once.
const RIM: usize = 4 * LAST;
/// How far a skirt hangs down, in sample spacings: more than any step between two levels.
const SKIRT_SPACINGS: f32 = 2.0;

/// Triangles of one chunk: 65 x 65 ground vertices, row by row, then 256 below the rim.
///
/// Positions are metres from the chunk's north-west corner at sea level, x east, y up, z south.
/// Triangles are counter-clockwise seen from above, as in glTF; skirts hide cracks towards
/// neighbours of another level.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// Where each vertex is.
    pub positions: Vec<[f32; 3]>,
    /// Unit normal of each vertex.
    pub normals: Vec<[f32; 3]>,
    /// Surface of each vertex.
    pub surface: Vec<Surface>,
    /// Three per triangle.
    pub indices: Vec<u16>,
}

/// The chunks of the same level on each side, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Neighbours<'a> {
    /// Towards -z.
    pub north: Option<&'a Chunk>,
    /// Towards +x.
    pub east: Option<&'a Chunk>,
    /// Towards +z.
    pub south: Option<&'a Chunk>,
    /// Towards -x.
    pub west: Option<&'a Chunk>,
}

impl Mesh {
    /// Returns the triangles of `chunk` alone: normals along its rim lean on its own side only.
    #[must_use]
    pub fn of(chunk: &Chunk) -> Self {
        Self::beside(chunk, Neighbours::default())
    }

    /// Returns the triangles of `chunk` with normals that meet those of its neighbours.
    #[must_use]
    pub fn beside(chunk: &Chunk, neighbours: Neighbours<'_>) -> Self {
        let spacing = spacing_m(chunk.id());
        let mut mesh = Self {
            positions: Vec::with_capacity(SAMPLES + RIM),
            normals: Vec::with_capacity(SAMPLES + RIM),
            surface: Vec::with_capacity(SAMPLES + RIM),
            indices: Vec::with_capacity(6 * (LAST * LAST + RIM)),
        };
        for row in 0..CHUNK_SAMPLES {
            for column in 0..CHUNK_SAMPLES {
                let height = chunk.grid().sample(column, row) as f32 / 100.0;
                mesh.positions.push([column as f32 * spacing, height, row as f32 * spacing]);
                mesh.normals.push(normal(chunk, neighbours, column, row));
            }
        }
        mesh.surface.extend_from_slice(chunk.surface());
        mesh.add_squares();
        mesh.add_skirt(spacing * SKIRT_SPACINGS);
        mesh
    }

    fn add_squares(&mut self) {
        for row in 0..LAST {
            for column in 0..LAST {
                let [a, b] = [vertex(column, row), vertex(column + 1, row)];
                let [c, d] = [vertex(column, row + 1), vertex(column + 1, row + 1)];
                self.indices.extend([a, c, b, b, c, d]);
            }
        }
    }

    /// Hangs a wall from the rim, going round with the outside on the right.
    fn add_skirt(&mut self, depth: f32) {
        for place in 0..RIM {
            let above = usize::from(rim(place));
            let [x, y, z] = self.positions[above];
            self.positions.push([x, y - depth, z]);
            self.normals.push(self.normals[above]);
            self.surface.push(self.surface[above]);
        }
        for place in 0..RIM {
            let next = (place + 1) % RIM;
            let (below, below_next) = ((SAMPLES + place) as u16, (SAMPLES + next) as u16);
            let (above, above_next) = (rim(place), rim(next));
            self.indices.extend([above, above_next, below, above_next, below_next, below]);
        }
    }
}

fn spacing_m(id: ChunkId) -> f32 {
    (1_u32 << id.level.min(ChunkId::LEVEL_MAX)) as f32
}

/// At most 4,485 vertices, so that an index has 16 bits.
const fn vertex(column: usize, row: usize) -> u16 {
    (row * CHUNK_SAMPLES + column) as u16
}

/// The rim clockwise seen from above, from the north-west corner: east, south, west, north.
const fn rim(place: usize) -> u16 {
    let along = place % LAST;
    match place / LAST {
        0 => vertex(along, 0),
        1 => vertex(LAST, along),
        2 => vertex(LAST - along, LAST),
        _ => vertex(0, LAST - along),
    }
}

/// The normal from the heights on both sides, or on one where the other is unknown.
fn normal(chunk: &Chunk, near: Neighbours<'_>, column: usize, row: usize) -> [f32; 3] {
    let at = |column, row| Some(chunk.grid().sample(column, row));
    let of = |side: Option<&Chunk>, column, row| Some(side?.grid().sample(column, row));
    let west = if column == 0 { of(near.west, LAST - 1, row) } else { at(column - 1, row) };
    let east = if column == LAST { of(near.east, 1, row) } else { at(column + 1, row) };
    let north = if row == 0 { of(near.north, column, LAST - 1) } else { at(column, row - 1) };
    let south = if row == LAST { of(near.south, column, 1) } else { at(column, row + 1) };
    let here = chunk.grid().sample(column, row);
    let spacing = spacing_m(chunk.id());
    let rise = |before: Option<i32>, after: Option<i32>| {
        let steps = u8::from(before.is_some()) + u8::from(after.is_some());
        let change = after.unwrap_or(here) - before.unwrap_or(here);
        change as f32 / (100.0 * spacing * f32::from(steps))
    };
    let (x, z) = (-rise(west, east), -rise(north, south));
    let length = (x * x + z * z + 1.0).sqrt();
    [x / length, 1.0 / length, z / length]
}

#[cfg(test)]
mod tests {
    use protocol::ground::HeightGrid;

    use super::*;

    fn bowl(level: u8, x: i32, z: i32) -> Chunk {
        let height = |i: usize| {
            let east = 64 * x + (i % CHUNK_SAMPLES) as i32;
            let south = 64 * z + (i / CHUNK_SAMPLES) as i32;
            east * east + 3 * south * south
        };
        let grid = HeightGrid::new((0..SAMPLES).map(height).collect()).expect("65 x 65");
        let surface = vec![Surface::Rock; SAMPLES].into_boxed_slice();
        Chunk::new(ChunkId { level, x, z }, grid, surface).expect("valid")
    }

    fn corners(mesh: &Mesh, triangle: &[u16]) -> [[f32; 3]; 3] {
        [0, 1, 2].map(|i| mesh.positions[usize::from(triangle[i])])
    }

    fn face(corners: [[f32; 3]; 3]) -> [f32; 3] {
        let [a, b, c] = corners;
        let [u, v] = [b, c].map(|p| [p[0] - a[0], p[1] - a[1], p[2] - a[2]]);
        [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]
    }

    #[test]
    fn ground_faces_up_and_covers_the_square() {
        let mesh = Mesh::of(&bowl(1, 0, 0));
        let ground = &mesh.indices[..6 * LAST * LAST];
        let ups: Vec<f32> = ground.chunks(3).map(|t| face(corners(&mesh, t))[1]).collect();
        assert!(ups.iter().all(|&up| 0.0 < up));
        // Twice the area of 128 m x 128 m.
        assert!((ups.iter().sum::<f32>() - 2.0 * 128.0 * 128.0).abs() < 1.0);
        assert_eq!(mesh.positions.len(), SAMPLES + RIM);
        assert_eq!(mesh.surface.len(), mesh.normals.len());
    }

    #[test]
    fn skirts_face_outward_and_hang_below_the_rim() {
        let mesh = Mesh::of(&bowl(0, 0, 0));
        for triangle in mesh.indices[6 * LAST * LAST..].chunks(3) {
            let corners = corners(&mesh, triangle);
            let [out_x, up, out_z] = face(corners);
            let middle = |axis: usize| corners.iter().map(|c| c[axis]).sum::<f32>() / 3.0 - 32.0;
            assert!(0.0 < out_x * middle(0) + out_z * middle(2), "{corners:?}");
            assert!(up.abs() < 1e-3);
        }
        for (place, low) in mesh.positions[SAMPLES..].iter().enumerate() {
            let high = mesh.positions[usize::from(rim(place))];
            assert_eq!([low[0], low[2]], [high[0], high[2]]);
            assert!((low[1] + 2.0 - high[1]).abs() < 1e-4);
        }
    }

    #[test]
    fn normals_meet_across_an_edge_when_the_neighbour_is_known() {
        let (here, east) = (bowl(0, 0, 0), bowl(0, 1, 0));
        let left = Mesh::beside(&here, Neighbours { east: Some(&east), ..Neighbours::default() });
        let right = Mesh::beside(&east, Neighbours { west: Some(&here), ..Neighbours::default() });
        for row in 0..CHUNK_SAMPLES {
            let (a, b) = (usize::from(vertex(LAST, row)), usize::from(vertex(0, row)));
            assert_eq!(left.normals[a], right.normals[b]);
        }
        assert_ne!(Mesh::of(&here).normals[LAST], left.normals[LAST]);
        let unit = |n: &[f32; 3]| (n.iter().map(|c| c * c).sum::<f32>() - 1.0).abs() < 1e-5;
        assert!(left.normals.iter().all(unit));
    }
}
