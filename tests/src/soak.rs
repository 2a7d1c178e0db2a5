//! Load: many real clients in one world, what they see held against the truth, and the report.
//!
//! - [`scenario`]: what the crowd does; [`picture`]: one client's cheap view of the world.
//! - [`errand`]: what one client of `errands` does; [`division`]: who divides the world meanwhile.
//! - [`truth`]: where every driven body was at every tick, and what others were told of it.
//! - [`bodies`]: whether everyone still has a body; [`nearby`]: how soon those near are seen.
//! - [`spread`]: percentiles in bounded memory; [`tally`], [`shared`]: everything that is counted.
//! - [`crowd`]: the loop that drives all clients; [`observer`]: the few that look in full.
//! - [`ledger`]: what was acknowledged to whom; [`fall`]: a server that is killed, in numbers;
//!   [`killer`]: kills it and looks what everybody still has.
//! - [`host`]: the server under load and its numbers; [`floor`]: what the machine itself costs.
//! - [`figures`], [`report`], [`page`]: the result as JSON, CSV and HTML; [`merge`]: one of several.

pub mod bodies;
pub mod crowd;
pub mod division;
pub mod errand;
pub mod fall;
pub mod figures;
pub mod floor;
pub mod host;
pub mod killer;
pub mod ledger;
pub mod merge;
pub mod nearby;
pub mod observer;
pub mod page;
pub mod picture;
pub mod report;
pub mod scenario;
pub mod shared;
pub mod spread;
pub mod tally;
pub mod truth;
