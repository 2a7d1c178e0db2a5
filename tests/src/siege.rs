//! A siege: clients of ill will against a real server, and honest ones beside them who must not
//! notice.
//!
//! - [`mutate`]: what is sent, drawn from a seed; [`raw`]: a connection without manners.
//! - [`attack`]: those who talk, throw, share and knock; [`strangers`]: packets of nobody's, and
//!   handshakes that stay half open.
//! - [`witness`]: honest clients, and how long they wait for their answers.
//! - [`tally`]: what came of it.

pub mod attack;
pub mod mutate;
pub mod raw;
pub mod strangers;
pub mod tally;
pub mod witness;
