//! `ecumene serve`: prepares, hands over to the host, and says how it went.

use std::io::Write;
use std::sync::Arc;

use crate::cli::banner::Banner;
use crate::cli::{Exit, Failure, ServeArgs};
use crate::io::host::{self, HostError, Started};
use crate::io::launch::{Place, ServeOptions, keep_first_token, prepare};
use crate::io::telemetry::{Settings as TelemetrySettings, Telemetry};
use crate::status::LogTail;
use crate::store::StoreError;

pub(super) fn serve(
    mut place: Place,
    args: ServeArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    place.flags.extend(args.flags());
    let mut options = prepare(place, args.seed)?;
    options.record = args.recording();
    let ServeOptions { settings, manifest, data, access, .. } = &options;
    let config = settings.config.clone();
    let record = options.record.clone();
    let (world, folder, access) = (manifest.name.clone(), data.clone(), access.clone());
    let data = folder.display().to_string();
    let log = Arc::new(LogTail::default());
    let telemetry = Telemetry::install(
        &TelemetrySettings {
            json: config.telemetry.json_logs,
            filter: &config.telemetry.level,
            otlp_endpoint: &config.telemetry.otlp_endpoint,
        },
        &log,
    );
    let telemetry = telemetry.map_err(|error| Failure::new(Exit::Usage, error))?;
    let started = |started: &Started| {
        let mut first_token = started.first_token.as_deref();
        if first_token.is_some()
            && let Err(error) = keep_first_token(&folder, &access)
        {
            tracing::error!(%error, "the first admin token is void");
            first_token = None;
        }
        let banner = Banner {
            config: &config,
            world: &world,
            data: &data,
            listen: started.listen,
            http: started.http,
            key: started.key,
            first_token,
            record: record.as_ref(),
            took: started.took,
        };
        let said = out.write_all(banner.text().as_bytes()).and_then(|()| out.flush());
        if let Err(error) = said {
            tracing::warn!(%error, "cannot say where the server is");
        }
    };
    match host::serve(options, telemetry, log, started) {
        Ok(0) => Ok(Exit::Done),
        Ok(_) => Ok(Exit::Failed),
        Err(HostError::Store(error @ StoreError::InUse { .. })) => {
            Err(Failure::new(Exit::Busy, error))
        }
        Err(error) => Err(Failure::new(Exit::Failed, error)),
    }
}
