//! What is said and what is possible in a shared world.
//!
//! Everything both ends of a connection must agree on lives here, as data and pure functions:
//! no clock, no socket, no actor. The feature `client` adds [`io`], the asynchronous client.
//!
//! Reading order:
//! - [`units`], [`ids`]: what numbers mean and what things are called; [`text`]: what people read;
//!   [`limits`]: every bound.
//! - [`state`], [`ground`], [`motion`], [`rules`]: what is possible in a world.
//! - [`frame`], [`message`]: what is said reliably; [`asset`]: content that is shared; [`bits`], [`delta`], [`input`]: what is said
//!   twenty times a second.
//! - [`session`], [`replica`]: the client's side of a connection without any I/O.

pub mod asset;
pub mod bits;
pub mod cache;
pub mod capture;
pub mod close;
pub mod delta;
pub mod frame;
pub mod ground;
pub mod ids;
pub mod input;
#[cfg(feature = "client")]
pub mod io;
pub mod limits;
pub mod message;
pub mod motion;
pub mod replica;
pub mod rules;
pub mod session;
pub mod state;
pub mod text;
pub mod units;
pub mod utterance;
