//! Prints figures of the ground, or draws a map of it as a PPM picture.
//!
//! - `ground figures [FILE.hgt.zip ..]`: time and bytes per chunk, over seeds and real tiles.
//! - `ground chunk SEED|FILE LEVEL X Z OUT`: the bytes of one chunk, with its corners to compare.
//! - `ground map SEED|FILE METRES_PER_PIXEL OUT.ppm [X Z]`: a map around a point in metres.
#![expect(clippy::print_stdout, reason = "printing is what this example is for")]

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use protocol::ground::Ground;
use protocol::ids::ChunkId;
use protocol::units::Position;
use worldgen::chunk::{decode, encode};
use worldgen::io::dem;
use worldgen::preview::render_map;
use worldgen::{GroundMap, Mesh, Seeded, Terrain};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["figures", files @ ..] => figures(files),
        ["chunk", source, level, x, z, out] => {
            chunk(source, ChunkId { level: level.parse()?, x: x.parse()?, z: z.parse()? }, out)
        }
        ["map", source, scale, out] => map(source, scale, out, Position::default()),
        ["map", source, scale, out, x, z] => {
            let metres = |text: &str| text.parse::<i32>().map(|metres| metres * 100);
            map(source, scale, out, Position::new(metres(x)?, 0, metres(z)?))
        }
        _ => Err("usage: ground figures [FILE ..] | ground chunk .. | ground map SEED|FILE SCALE OUT [X Z]".into()),
    }
}

fn open(source: &str) -> Result<Box<dyn Terrain>, Box<dyn Error>> {
    match source.parse::<u64>() {
        Ok(seed) => Ok(Box::new(Seeded::new(seed))),
        Err(_) => Ok(Box::new(dem::load(Path::new(source), None)?)),
    }
}

fn chunk(source: &str, id: ChunkId, out: &str) -> Outcome {
    let chunk = open(source)?.chunk(id).ok_or("outside the world")?;
    std::fs::write(out, encode(&chunk))?;
    let corners = [(0, 0), (64, 0), (0, 64), (64, 64)];
    let heights = corners.map(|(column, row)| chunk.grid().sample(column, row));
    let surface = corners.map(|(column, row)| chunk.surface()[row * 65 + column]);
    println!("chunk {id} -> {out}: corners {heights:?} cm, {surface:?}");
    Ok(())
}

fn map(source: &str, scale: &str, out: &str, centre: Position) -> Outcome {
    const EDGE: u32 = 800;
    let terrain = open(source)?;
    let rgb = render_map(terrain.as_ref(), centre, scale.parse()?, EDGE, EDGE)?;
    let mut file = std::fs::File::create(out)?;
    write!(file, "P6\n{EDGE} {EDGE}\n255\n")?;
    file.write_all(&rgb)?;
    println!("{} -> {out}", terrain.describe());
    Ok(())
}

fn figures(files: &[&str]) -> Outcome {
    println!("source, level, chunks, mean bytes, largest, make ms, encode ms, decode us, mesh us");
    for source in ["1", "2", "3"].iter().chain(files) {
        let terrain = open(source)?;
        for level in [0, 1, 2, 4, 6] {
            level_figures(&terrain.describe(), terrain.as_ref(), level)?;
        }
    }
    lookup_figure(&Seeded::new(1))
}

/// Measures 12 x 12 chunks spread over some 20 km around the origin.
fn level_figures(name: &str, terrain: &dyn Terrain, level: u8) -> Outcome {
    let spread = if level < 3 { 27 >> level } else { 1 };
    let places = (-6..6).flat_map(|z| (-6..6).map(move |x| (x, z)));
    let ids: Vec<ChunkId> =
        places.map(|(x, z)| ChunkId { level, x: x * spread, z: z * spread }).collect();
    let (chunks, make_ms) = timed(|| ids.iter().filter_map(|&id| terrain.chunk(id)).collect());
    let chunks: Vec<worldgen::Chunk> = chunks;
    let (encoded, encode_ms) = timed(|| chunks.iter().map(encode).collect());
    let encoded: Vec<Vec<u8>> = encoded;
    let (decoded, decode_ms) = timed(|| encoded.iter().map(|bytes| decode(bytes)).collect());
    let decoded: Result<Vec<worldgen::Chunk>, _> = decoded;
    assert_eq!(decoded?, chunks);
    let (triangles, mesh_ms) = timed(|| chunks.iter().map(|c| Mesh::of(c).indices.len()).sum());
    let triangles: usize = triangles;
    assert!(0 < triangles);
    let count = ids.len() as f64;
    let bytes: usize = encoded.iter().map(Vec::len).sum();
    let largest = encoded.iter().map(Vec::len).max().unwrap_or(0);
    println!(
        "{name}, {level}, {}, {:.0}, {largest}, {:.2}, {:.2}, {:.0}, {:.0}",
        ids.len(),
        bytes as f64 / count,
        make_ms / count,
        encode_ms / count,
        decode_ms * 1e3 / count,
        mesh_ms * 1e3 / count,
    );
    Ok(())
}

/// Measures height look-ups of walkers spread over 16 x 16 chunks.
fn lookup_figure(terrain: &dyn Terrain) -> Outcome {
    const LOOKUPS: i64 = 4_000_000;
    let mut ground = GroundMap::default();
    for id in (0..256).map(|i| ChunkId { level: 0, x: i % 16, z: i / 16 }) {
        let chunk = terrain.chunk(id).ok_or("inside the world")?;
        assert!(ground.insert(Arc::new(chunk)));
    }
    let place = |i: i64, prime: i64| (i * prime) % (16 * 6_400 * 256);
    let (sum, ms) = timed(|| {
        (0..LOOKUPS).filter_map(|i| ground.height(place(i, 104_729), place(i, 1_299_709))).sum()
    });
    let sum: i64 = sum;
    println!("height look-up: {:.0} ns (checksum {sum})", ms * 1e6 / LOOKUPS as f64);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an example measures; the library reads no clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64() * 1e3)
}
