//! The proof: simulation, end to end, faults, soak.
//!
//! - [`dice`]: random numbers from a seed. [`measure`]: how often, and what of many values.
//! - [`process`]: a real server to connect to and to kill; [`guest`]: somebody in its world;
//!   [`frames`]: what somebody is shown of it.
//! - [`power`]: a disk that fills, fails, and loses what was not synced when its power is cut.
//! - [`relay`]: a network between the two that loses, delays and cuts.
//! - [`siege`]: clients of ill will, and honest ones who must not notice.
//! - [`sim`]: whole worlds in one thread, with faults, from a seed.
//! - [`soak`]: a crowd of clients in one world, and what it costs and sees.

pub mod dice;
pub mod frames;
pub mod guest;
pub mod measure;
pub mod power;
pub mod process;
pub mod relay;
pub mod siege;
pub mod sim;
pub mod soak;
