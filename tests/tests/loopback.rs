//! End to end over real QUIC on loopback: people meet, talk, trade and come back, and whoever
//! breaks the rules is told which one, while everybody else goes on.

#[path = "loopback/acts.rs"]
mod acts;
#[path = "loopback/admission.rs"]
mod admission;
#[path = "loopback/assets.rs"]
mod assets;
#[path = "loopback/audit.rs"]
mod audit;
#[path = "loopback/borrowing.rs"]
mod borrowing;
#[path = "loopback/compatibility.rs"]
mod compatibility;
#[path = "loopback/forgetting.rs"]
mod forgetting;
#[path = "loopback/hostile.rs"]
mod hostile;
#[path = "loopback/lending.rs"]
mod lending;
#[path = "loopback/rogue.rs"]
mod rogue;

use tests::process::ServerProcess;

/// Lets a test talk and connect as fast as it can.
const EASY: [&str; 4] = [
    "chat.utterances_per_s=100",
    "chat.utterances_burst=1000",
    "admission.handshakes_per_s=1000",
    "admission.handshakes_burst=1000",
];

fn server() -> anyhow::Result<ServerProcess> {
    ServerProcess::start(&EASY)
}
