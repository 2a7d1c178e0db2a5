//! What a world survives: `kill -9` in the middle of everything, a network that loses and cuts,
//! disks that fill, folders that are damaged, and starts that cannot be.

#[path = "recovery/crowd.rs"]
mod crowd;
#[path = "recovery/kills.rs"]
mod kills;
#[path = "recovery/network.rs"]
mod network;
#[path = "recovery/starts.rs"]
mod starts;
#[path = "recovery/trades.rs"]
mod trades;
