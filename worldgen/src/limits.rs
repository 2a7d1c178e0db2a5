//! Every bound of this crate, each with its reason.

use protocol::ground::CHUNK_SAMPLES;

/// Samples of one chunk: 65 x 65.
pub const SAMPLES: usize = CHUNK_SAMPLES * CHUNK_SAMPLES;

/// Highest and (negated) lowest ground: twice the highest mountain and the deepest trench.
pub const HEIGHT_CM_MAX: i32 = 2_000_000;

/// A chunk before compression at its worst: a five-byte residual and a surface byte per sample.
pub const BODY_BYTES_MAX: usize = SAMPLES * 6;

/// An encoded chunk at its worst: header, incompressible body and what zstd adds to it.
pub const CHUNK_BYTES_MAX: usize = 16 + BODY_BYTES_MAX + 512;

/// Chunks a [`GroundMap`](crate::GroundMap) holds: 21 KB each, 344 MB in all; one thousand
/// avatars far apart need nine each.
pub const GROUND_CHUNKS_MAX: usize = 16_384;

/// Chunks that wait to be made: 64 viewers x 60 chunks around each; at 3 ms each that is 12 s of
/// work, past which a viewer has long asked again.
pub const QUEUE_CHUNKS_MAX: usize = 4_096;

/// Requesters remembered per chunk: the viewers of one crowded place; a further one asks again.
pub const REQUESTERS_MAX: usize = 256;

/// Messages waiting at the generator: a few ticks of requests of a full shard.
pub const GENERATOR_MAILBOX: usize = 1_024;

/// Chunks remembered because the terrain panicked at them: 12 KB; more than a few are a broken
/// terrain, which an operator must look at in any case.
pub const BROKEN_CHUNKS_MAX: usize = 1_024;

/// Worker threads at most: more would only take turns with the ticking threads.
pub const WORKERS_MAX: usize = 16;

/// Niceness of a worker: below every ticking thread, above nothing that matters.
pub const WORKER_NICE: i32 = 10;

/// Encoded and decoded chunks kept in memory by default: about 2,500 chunks of 25 KB.
pub const MEMORY_BYTES_DEFAULT: u64 = 64 << 20;

/// Bytes kept in the cache folder by default: about 100,000 chunks of 2.6 KB.
pub const DISK_BYTES_DEFAULT: u64 = 256 << 20;

/// Files kept in the cache folder: one folder listing at start stays under a second.
pub const DISK_FILES_MAX: usize = 131_072;

/// Bytes of an elevation tile of 3601 x 3601 samples, the largest there is.
pub const TILE_BYTES_MAX: u64 = 3_601 * 3_601 * 2;

/// Bytes of an archive that may hold one tile: stored uncompressed, with room for its directory.
pub const ARCHIVE_BYTES_MAX: u64 = TILE_BYTES_MAX + (1 << 20);

/// Files in an archive that are looked at: a tile comes with a licence or a readme at most.
pub const ARCHIVE_FILES_MAX: usize = 16;

/// Pixels of a map: 4,096 x 4,096, ten seconds of drawing.
pub const MAP_PIXELS_MAX: u64 = 1 << 24;
