//! Where this crate touches the outside: elevation files, the cache folder, worker threads.

pub mod cache;
pub mod dem;
pub mod worker;
