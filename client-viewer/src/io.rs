//! The outside: a connected client, files and standard input.

pub mod clock;
pub mod files;
pub mod headless;
mod transfer;
