//! Who talks in this crate.
//!
//! | actor                       | messages in                                                                       | messages out                       |
//! |-----------------------------|-----------------------------------------------------------------------------------|------------------------------------|
//! | [`generator`]               | [`NeedChunk`](generator::NeedChunk), [`Cancel`](generator::Cancel), [`CancelAll`](generator::CancelAll) | [`ChunkReady`](generator::ChunkReady) |

pub mod generator;
