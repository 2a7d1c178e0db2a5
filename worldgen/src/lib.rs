//! What is there: the ground of a world, from a seed or from real elevation.
//!
//! Reading order:
//! - [`chunk`]: a square of ground and its bytes; [`mesh`]: the triangles that show it;
//!   [`ground`]: the chunks that movement walks on; [`view`](mod@view): which of them a viewer wants. These
//!   need no features, for viewers.
//! - [`terrain`]: the trait every source of ground implements; [`noise`], [`lattice`] and
//!   [`seed`]: ground from a number; [`tile`] and [`survey`]: ground from measured elevation; [`preview`]: a map.
//! - [`demand`] and [`recent`]: which chunk is made next and which are kept; [`limits`]: every bound.
//! - [`actors`]: the generator; [`io`]: elevation files, the cache on disk, worker threads.

pub mod chunk;
pub mod ground;
pub mod limits;
pub mod mesh;
pub mod view;

#[cfg(feature = "generate")]
pub mod actors;
#[cfg(feature = "generate")]
pub mod demand;
#[cfg(feature = "generate")]
pub mod io;
#[cfg(feature = "generate")]
pub mod lattice;
#[cfg(feature = "generate")]
pub mod noise;
#[cfg(feature = "generate")]
pub mod preview;
#[cfg(feature = "generate")]
pub mod recent;
#[cfg(feature = "generate")]
pub mod seed;
#[cfg(feature = "generate")]
pub mod survey;
#[cfg(feature = "generate")]
pub mod terrain;
#[cfg(feature = "generate")]
pub mod tile;

pub use chunk::{Chunk, Surface};
pub use ground::GroundMap;
pub use mesh::Mesh;
pub use view::view;

#[cfg(feature = "generate")]
pub use actors::generator::{
    Cancel, CancelAll, ChunkReady, GeneratorActor, NeedChunk, Outbox, Settings,
};
#[cfg(feature = "generate")]
pub use demand::Requester;
#[cfg(feature = "generate")]
pub use seed::Seeded;
#[cfg(feature = "generate")]
pub use survey::Survey;
#[cfg(feature = "generate")]
pub use terrain::Terrain;
