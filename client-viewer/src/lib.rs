//! The eye: sees a shared world, headless for now, and acts in it by script.
//!
//! Reading order:
//! - [`script`]: the language; [`words`]: which things its words mean; [`steer`]: the way there.
//! - [`actor`]: carries a script out; [`record`]: what was seen, as JSON lines.
//! - [`map`]: a picture from above, [`letters`]: its lettering.
//! - [`io`]: the connection, files and standard input.

pub mod actor;
pub mod io;
pub mod letters;
pub mod map;
pub mod record;
pub mod script;
pub mod steer;
pub mod words;
