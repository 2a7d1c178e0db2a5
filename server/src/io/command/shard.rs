//! `ecumene shard`: joins a server, runs what it is given, and says how it goes.

use std::io::Write;
use std::sync::Arc;

use crate::cli::{Exit, Failure, ShardArgs};
use crate::io::launch::Place;
use crate::io::telemetry::{Settings, Telemetry};
use crate::io::worker::{self, WorkerError, WorkerOptions};
use crate::region::RegionIndex;
use crate::status::LogTail;
use crate::token;

pub(super) fn shard(place: &Place, args: ShardArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = place.settings()?;
    let telemetry = &settings.config.telemetry;
    let telemetry = Settings {
        json: telemetry.json_logs,
        filter: &telemetry.level,
        otlp_endpoint: &telemetry.otlp_endpoint,
    };
    let telemetry = Telemetry::install(&telemetry, &Arc::new(LogTail::default()));
    let _telemetry = telemetry.map_err(|error| Failure::new(Exit::Usage, error))?;
    let token = token::from_text(&args.token);
    let options = WorkerOptions {
        address: args.join,
        server_key: args.server_key,
        token: token.map_err(|error| Failure::new(Exit::Usage, error))?,
        regions: args.regions.into_iter().map(RegionIndex).collect(),
    };
    let told = |text: &str| {
        // Where nobody reads, the shards run all the same.
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
    };
    worker::run(&options, told).map(|()| Exit::Done).map_err(|error| match error {
        WorkerError::Refused { .. } => Failure::new(Exit::Refused, error),
        WorkerError::Open(_) => Failure::new(Exit::NotRunning, error),
        WorkerError::Lost(_) | WorkerError::Nonsense(_) => Failure::new(Exit::Failed, error),
    })
}
