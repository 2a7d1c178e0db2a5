//! One square of ground and its bytes, as they lie in caches and travel to viewers.
//!
//! Owns the chunk and its layout; it is never asked where the heights come from.
//!
//! # Layout, version 1
//!
//! All numbers are little-endian.
//!
//! | offset | type      | what                                                              |
//! |--------|-----------|-------------------------------------------------------------------|
//! | 0      | `[u8; 4]` | `"ECHK"`                                                          |
//! | 4      | `u8`      | version, 1                                                        |
//! | 5      | `u8`      | level of detail, 0 to 6; samples lie `1 << level` metres apart    |
//! | 6      | `u8`      | `step`, 0 to 6: heights are multiples of `1 << step` centimetres  |
//! | 7      | `u8`      | zero                                                              |
//! | 8      | `i32`     | column of the chunk, east of the origin                           |
//! | 12     | `i32`     | row of the chunk, south of the origin                             |
//! | 16     |           | one zstd frame, to the end: the body, at most 25,350 bytes        |
//!
//! The body holds 65 x 65 height residuals, then 65 x 65 surface bytes, both row by row, rows
//! going south and columns going east.
//!
//! A residual is a LEB128 varint (seven bits per byte, low bits first, at most five bytes) of the
//! zigzag form `(r << 1) ^ (r >> 31)` of `r`. With `q` the height in steps and `W`, `N`, `NW` the
//! `q` of the west, north and north-west samples, `q = r + prediction`, where the prediction is 0
//! at the first sample, `W` in the rest of the first row, `N` in the rest of the first column and
//! `W + N - NW` elsewhere, all in 32-bit wrapping arithmetic. The height is `q << step`
//! centimetres above sea level, within 20 km of it.
//!
//! A surface byte is the class XOR the class of the sample to the north (in the first row: to the
//! west, and plain at the first sample). Classes: 0 bed, 1 sand, 2 grass, 3 forest, 4 scree,
//! 5 rock, 6 snow.

use protocol::ground::{CHUNK_SAMPLES, HeightGrid};
use protocol::ids::ChunkId;

use crate::limits::{BODY_BYTES_MAX, CHUNK_BYTES_MAX, HEIGHT_CM_MAX, SAMPLES};

const MAGIC: [u8; 4] = *b"ECHK";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
/// Level 9 costs 0.3 ms per chunk; higher ones gain under one percent.
const ZSTD_LEVEL: i32 = 9;
/// Bytes of a residual: 32 bits, seven at a time.
const VARINT_BYTES_MAX: u32 = 5;

/// What the ground is made of at a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Surface {
    /// Ground under the sea.
    Bed = 0,
    /// Beach and dune.
    Sand = 1,
    /// Meadow and turf.
    Grass = 2,
    /// Ground under trees.
    Forest = 3,
    /// Loose stones and bare slopes.
    Scree = 4,
    /// Bare rock.
    Rock = 5,
    /// Lasting snow.
    Snow = 6,
}

impl Surface {
    /// Returns the class of this number, nothing if there is none.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Bed,
            1 => Self::Sand,
            2 => Self::Grass,
            3 => Self::Forest,
            4 => Self::Scree,
            5 => Self::Rock,
            6 => Self::Snow,
            _ => return None,
        })
    }
}

/// A square of ground: heights and surface of one [`ChunkId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    // In the world: see `is_in_world`.
    id: ChunkId,
    // Every height within HEIGHT_CM_MAX of sea level.
    grid: HeightGrid,
    // As many as heights.
    surface: Box<[Surface]>,
}

impl Chunk {
    /// Returns the chunk of these heights and surfaces, sampled as in [`HeightGrid`].
    ///
    /// # Errors
    /// When the id lies outside the world, a height beyond 20 km from sea level, or there are not
    /// 65 x 65 surfaces.
    pub fn new(id: ChunkId, grid: HeightGrid, surface: Box<[Surface]>) -> Result<Self, BadChunk> {
        if !is_in_world(id) {
            return Err(BadChunk::OutsideWorld { chunk: id });
        }
        if surface.len() != SAMPLES {
            return Err(BadChunk::Samples { got: surface.len() });
        }
        let bounds = -HEIGHT_CM_MAX..=HEIGHT_CM_MAX;
        match grid.heights().iter().find(|height| !bounds.contains(height)) {
            Some(&height_cm) => Err(BadChunk::Height { height_cm }),
            None => Ok(Self { id, grid, surface }),
        }
    }

    /// Returns which square of the ground this is.
    #[must_use]
    pub const fn id(&self) -> ChunkId {
        self.id
    }

    /// Returns the heights.
    #[must_use]
    pub const fn grid(&self) -> &HeightGrid {
        &self.grid
    }

    /// Returns the surface of every sample, in the order of the heights.
    #[must_use]
    pub fn surface(&self) -> &[Surface] {
        &self.surface
    }
}

/// Returns whether the whole square of `id` lies in the range of a
/// [`Position`](protocol::units::Position).
#[must_use]
pub fn is_in_world(id: ChunkId) -> bool {
    let width = i64::from(id.width_cm());
    let fits = |index: i32| {
        let corner = i64::from(index) * width;
        i32::try_from(corner).is_ok() && i32::try_from(corner + width).is_ok()
    };
    id.level <= ChunkId::LEVEL_MAX && fits(id.x) && fits(id.z)
}

/// Bytes that are no chunk, or values that make none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// Too few or too many bytes to hold a chunk.
    #[error("a chunk is {HEADER_BYTES} to {CHUNK_BYTES_MAX} bytes, not {got}")]
    Length {
        /// Bytes given.
        got: usize,
    },
    /// The bytes begin otherwise than a chunk.
    #[error("not a chunk: it does not begin with \"ECHK\"")]
    Magic,
    /// A version this code does not know.
    #[error("chunk version {version} is unknown, this end reads version {VERSION}")]
    Version {
        /// Version given.
        version: u8,
    },
    /// A header field that has no meaning.
    #[error("chunk header byte {offset} is {value}")]
    Header {
        /// Where in the header.
        offset: usize,
        /// What is there.
        value: u8,
    },
    /// The square lies outside the world.
    #[error("chunk {chunk} lies outside the world")]
    OutsideWorld {
        /// Which chunk.
        chunk: ChunkId,
    },
    /// The body does not decompress within its bound.
    #[error("chunk body does not decompress to at most {BODY_BYTES_MAX} bytes")]
    Compression,
    /// The body is shorter or longer than its samples.
    #[error("chunk body ends in the wrong place, at byte {at}")]
    Body {
        /// Offset in the decompressed body.
        at: usize,
    },
    /// Not 65 x 65 samples.
    #[error("a chunk has {SAMPLES} samples, not {got}")]
    Samples {
        /// Samples given.
        got: usize,
    },
    /// A height out of range.
    #[error("height {height_cm} cm is more than {HEIGHT_CM_MAX} cm from sea level")]
    Height {
        /// Height given.
        height_cm: i32,
    },
    /// A surface class that does not exist.
    #[error("surface class {class} does not exist")]
    Class {
        /// Class given.
        class: u8,
    },
}

/// Returns the bytes of `chunk`; equal chunks give equal bytes with one version of zstd.
///
/// # Panics
/// Never with a working allocator: zstd refuses nothing of this size.
#[must_use]
pub fn encode(chunk: &Chunk) -> Vec<u8> {
    let ChunkId { level, x, z } = chunk.id;
    let step = step_of(chunk.grid.heights(), level);
    let mut body = Vec::with_capacity(SAMPLES * 3);
    write_heights(chunk.grid.heights(), step, &mut body);
    write_surface(&chunk.surface, &mut body);
    let frame = zstd::bulk::compress(&body, ZSTD_LEVEL).expect("a small buffer always compresses");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + frame.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, level, step, 0]);
    bytes.extend_from_slice(&x.to_le_bytes());
    bytes.extend_from_slice(&z.to_le_bytes());
    bytes.extend_from_slice(&frame);
    bytes
}

/// Returns the chunk that `bytes` hold.
///
/// # Errors
/// When they hold none; the sender is at fault. Work and memory are bounded by
/// [`CHUNK_BYTES_MAX`], whatever the bytes say.
pub fn decode(bytes: &[u8]) -> Result<Chunk, BadChunk> {
    let length = Err(BadChunk::Length { got: bytes.len() });
    let Some((header, frame)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return length };
    if CHUNK_BYTES_MAX < bytes.len() {
        return length;
    }
    let (id, step) = read_header(header)?;
    let body = zstd::bulk::decompress(frame, BODY_BYTES_MAX).map_err(|_| BadChunk::Compression)?;
    let (heights, read) = read_heights(&body, step)?;
    let surface = read_surface(&body, read)?;
    let grid = HeightGrid::new(heights).ok_or(BadChunk::Samples { got: SAMPLES })?;
    Chunk::new(id, grid, surface)
}

fn read_header(header: &[u8; HEADER_BYTES]) -> Result<(ChunkId, u8), BadChunk> {
    let [m0, m1, m2, m3, version, level, step, zero, x @ .., z0, z1, z2, z3] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(BadChunk::Magic);
    }
    if version != VERSION {
        return Err(BadChunk::Version { version });
    }
    for (offset, value, max) in
        [(5, level, ChunkId::LEVEL_MAX), (6, step, ChunkId::LEVEL_MAX), (7, zero, 0)]
    {
        if max < value {
            return Err(BadChunk::Header { offset, value });
        }
    }
    let z = i32::from_le_bytes([z0, z1, z2, z3]);
    Ok((ChunkId { level, x: i32::from_le_bytes(x), z }, step))
}

/// The largest step every height is a multiple of, at most the level: sources round coarse
/// levels, and what they rounded away need not travel.
fn step_of(heights: &[i32], level: u8) -> u8 {
    let bits = heights.iter().fold(0, |bits, height| bits | height);
    // At most 6, so it fits.
    bits.trailing_zeros().min(u32::from(level.min(ChunkId::LEVEL_MAX))) as u8
}

fn predict(steps: &[i32], index: usize) -> i32 {
    let at = |back: usize| steps[index - back];
    match (index / CHUNK_SAMPLES, index % CHUNK_SAMPLES) {
        (0, 0) => 0,
        (0, _) => at(1),
        (_, 0) => at(CHUNK_SAMPLES),
        _ => at(1).wrapping_add(at(CHUNK_SAMPLES)).wrapping_sub(at(CHUNK_SAMPLES + 1)),
    }
}

fn write_heights(heights: &[i32], step: u8, body: &mut Vec<u8>) {
    let steps: Vec<i32> = heights.iter().map(|height| height >> step).collect();
    for (index, value) in steps.iter().enumerate() {
        let residual = value.wrapping_sub(predict(&steps, index));
        let mut zigzag = ((residual << 1) ^ (residual >> 31)).cast_unsigned();
        while 0x80 <= zigzag {
            body.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        body.push(zigzag as u8);
    }
}

/// Returns the heights and how many bytes of the body they took.
fn read_heights(body: &[u8], step: u8) -> Result<(Box<[i32]>, usize), BadChunk> {
    let mut steps = Vec::with_capacity(SAMPLES);
    let mut at = 0;
    for index in 0..SAMPLES {
        let (zigzag, read) = read_varint(&body[at..]).ok_or(BadChunk::Body { at })?;
        at += read;
        let residual = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        steps.push(residual.wrapping_add(predict(&steps, index)));
    }
    for value in &mut steps {
        let height = i64::from(*value) << step;
        *value = i32::try_from(height).map_err(|_| BadChunk::Height { height_cm: *value })?;
    }
    Ok((steps.into_boxed_slice(), at))
}

fn read_varint(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut number = 0_u64;
    for (index, &byte) in (0..VARINT_BYTES_MAX).zip(bytes) {
        number |= u64::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            return Some((u32::try_from(number).ok()?, index as usize + 1));
        }
    }
    None
}

fn write_surface(surface: &[Surface], body: &mut Vec<u8>) {
    let beside = |index: usize| surface_beside(index).map_or(0, |beside| surface[beside] as u8);
    body.extend(surface.iter().enumerate().map(|(index, &class)| class as u8 ^ beside(index)));
}

fn read_surface(body: &[u8], at: usize) -> Result<Box<[Surface]>, BadChunk> {
    let bytes = body.get(at..).unwrap_or_default();
    if bytes.len() != SAMPLES {
        return Err(BadChunk::Body { at: at + bytes.len().min(SAMPLES) });
    }
    let mut surface: Vec<Surface> = Vec::with_capacity(SAMPLES);
    for (index, byte) in bytes.iter().enumerate() {
        let class = byte ^ surface_beside(index).map_or(0, |beside| surface[beside] as u8);
        surface.push(Surface::from_byte(class).ok_or(BadChunk::Class { class })?);
    }
    Ok(surface.into_boxed_slice())
}

/// The sample a surface byte refers to: north, or west in the first row.
const fn surface_beside(index: usize) -> Option<usize> {
    match index {
        0 => None,
        1..CHUNK_SAMPLES => Some(index - 1),
        _ => Some(index - CHUNK_SAMPLES),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(id: ChunkId, height: impl Fn(usize, usize) -> i32) -> Chunk {
        let sample = |index: usize| height(index % CHUNK_SAMPLES, index / CHUNK_SAMPLES);
        let heights: Box<[i32]> = (0..SAMPLES).map(sample).collect();
        let class =
            |height: &i32| Surface::from_byte(height.rem_euclid(7) as u8).expect("seven classes");
        let surface = heights.iter().map(class).collect();
        Chunk::new(id, HeightGrid::new(heights).expect("65 x 65"), surface).expect("valid")
    }

    fn rolling() -> Chunk {
        chunk(ChunkId { level: 2, x: -3, z: 9 }, |x, z| (x * x + 40 * z) as i32 - 900)
    }

    #[test]
    fn a_plane_is_tiny_and_reads_back() {
        let plane = chunk(ChunkId { level: 0, x: 5, z: -7 }, |x, z| (7 * x + 14 * z) as i32);
        let bytes = encode(&plane);
        assert!(bytes.len() < 120, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes), Ok(plane));
    }

    #[test]
    fn the_header_stands_where_the_table_says() {
        let bytes = encode(&rolling());
        assert_eq!(&bytes[..8], b"ECHK\x01\x02\x00\x00");
        assert_eq!(bytes[8..12], (-3_i32).to_le_bytes());
        assert_eq!(bytes[12..16], 9_i32.to_le_bytes());
    }

    #[test]
    fn what_a_coarse_level_rounded_away_does_not_travel() {
        let id = ChunkId { level: 3, x: 0, z: 0 };
        let coarse = chunk(id, |x, z| ((x * 13 + z * z) as i32 - 40) * 8);
        let bytes = encode(&coarse);
        assert_eq!(bytes[6], 3);
        assert_eq!(decode(&bytes), Ok(coarse));
    }

    #[test]
    fn each_broken_field_is_named() {
        let good = encode(&rolling());
        let check = |at: usize, value: u8, expected: BadChunk| {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert_eq!(decode(&bytes), Err(expected));
        };
        check(0, b'X', BadChunk::Magic);
        check(4, 2, BadChunk::Version { version: 2 });
        check(5, 7, BadChunk::Header { offset: 5, value: 7 });
        check(6, 7, BadChunk::Header { offset: 6, value: 7 });
        check(7, 1, BadChunk::Header { offset: 7, value: 1 });
        let far = ChunkId { level: 2, x: 0x7FFF_FFFD, z: 9 };
        let mut bytes = good.clone();
        bytes[8..12].copy_from_slice(&far.x.to_le_bytes());
        assert_eq!(decode(&bytes), Err(BadChunk::OutsideWorld { chunk: far }));
        assert_eq!(decode(&good[..15]), Err(BadChunk::Length { got: 15 }));
        assert_eq!(decode(&[0; CHUNK_BYTES_MAX + 1]), Err(BadChunk::Length { got: 25_879 }));
    }

    fn with_body(body: &[u8]) -> Vec<u8> {
        let mut bytes = encode(&rolling())[..HEADER_BYTES].to_vec();
        bytes.extend(zstd::bulk::compress(body, 3).expect("compresses"));
        bytes
    }

    #[test]
    fn a_body_that_does_not_fit_its_samples_is_refused() {
        let bomb = with_body(&vec![0; 100 << 20]);
        assert!(bomb.len() < CHUNK_BYTES_MAX);
        assert_eq!(decode(&bomb), Err(BadChunk::Compression));
        assert_eq!(decode(&with_body(&[])), Err(BadChunk::Body { at: 0 }));
        let (short, long) = (vec![0; 2 * SAMPLES - 1], vec![0; 2 * SAMPLES + 1]);
        assert_eq!(decode(&with_body(&short)), Err(BadChunk::Body { at: 2 * SAMPLES - 1 }));
        assert_eq!(decode(&with_body(&long)), Err(BadChunk::Body { at: 2 * SAMPLES }));
        assert!(decode(&with_body(&vec![0; 2 * SAMPLES])).is_ok());
        let mut class = vec![0; 2 * SAMPLES];
        class[SAMPLES] = 7;
        assert_eq!(decode(&with_body(&class)), Err(BadChunk::Class { class: 7 }));
        let mut high = vec![0; 2 * SAMPLES];
        high.splice(0..1, [0x82, 0x92, 0xF4, 0x01]);
        assert_eq!(decode(&with_body(&high)), Err(BadChunk::Height { height_cm: 2_000_001 }));
        let endless = vec![0xFF; 2 * SAMPLES];
        assert_eq!(decode(&with_body(&endless)), Err(BadChunk::Body { at: 0 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_chunk_reads_back(
            level in 0_u8..=6, x in -300_000_i32..300_000, z in -4_000_i32..4_000,
            heights in prop::collection::vec(-HEIGHT_CM_MAX..=HEIGHT_CM_MAX, SAMPLES),
        ) {
            let id = ChunkId { level, x: x >> level, z };
            let chunk = chunk(id, |x, z| heights[z * CHUNK_SAMPLES + x]);
            let bytes = encode(&chunk);
            prop_assert!(bytes.len() <= CHUNK_BYTES_MAX);
            prop_assert_eq!(decode(&bytes), Ok(chunk));
        }

        #[test]
        fn noise_is_refused_calmly(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes).is_err());
            prop_assert!(decode(&with_body(&bytes)).is_err());
        }

        #[test]
        fn damaged_chunks_never_panic(
            at in any::<prop::sample::Index>(), bit in 0..8, end in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encode(&rolling());
            let cut = end.index(bytes.len());
            prop_assert!(decode(&bytes[..cut]).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            // Whatever still decodes is a chunk, and chunks encode.
            if let Ok(chunk) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&chunk)), Ok(chunk));
            }
        }
    }
}
