//! The proof: simulation, end to end, faults, soak.
//!
//! - [`process`]: a real server to connect to and to kill; [`guest`]: somebody in its world.
//! - [`relay`]: a network between the two that loses, delays and cuts.

pub mod guest;
pub mod process;
pub mod relay;
