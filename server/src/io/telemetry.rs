//! Logs, spans and metrics of the process: set up once, flushed when dropped.
//!
//! Logs go to standard error, in lines for people or as JSON; the last ones also go to the page,
//! spans go to a collector if one is configured, and metrics wait to be asked for. What is worth
//! logging is decided where it happens; this file only carries it.

pub mod metrics;
pub mod otlp;
pub mod tail;

use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use crate::status::LogTail;

pub use metrics::{Exposition, MetricsPage};

/// What to set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// One JSON object per line instead of lines for people.
    pub json: bool,
    /// What is logged, such as `info` or `warn,server=debug`.
    pub filter: &'a str,
    /// Where spans go, such as `http://127.0.0.1:4318`; empty: nowhere.
    pub otlp_endpoint: &'a str,
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter has no meaning.
    #[error(transparent)]
    Filter(#[from] BadFilter),
    /// The collector's address has no meaning, or its exporter could not be built.
    #[error("spans cannot be exported: {0}")]
    Otlp(#[from] otlp::OtlpError),
    /// Another subscriber came first.
    #[error("logging is already set up in this process: {0}")]
    Taken(#[from] TryInitError),
    /// Another recorder came first, or its settings were refused.
    #[error("metrics are already set up in this process: {0}")]
    Metrics(#[from] metrics::MetricsError),
}

/// A filter that says nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{filter}` is no log filter ({cause}): write a level such as `info`, or `warn,server=debug`"
)]
pub struct BadFilter {
    filter: String,
    cause: ParseError,
}

/// The running telemetry. Dropping it sends what is still waiting, for two seconds at most.
#[derive(Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    metrics: MetricsPage,
    _upkeep: metrics::Upkeep,
    _exporter: Option<otlp::Exporter>,
}

impl Telemetry {
    /// Sets up the process: call it once, before the first thread that logs or counts.
    ///
    /// # Errors
    /// The operator's settings, or a second call.
    pub fn install(settings: &Settings<'_>, tail: &Arc<LogTail>) -> Result<Self, TelemetryError> {
        let (filter, handle) = reload::Layer::new(parse(settings.filter)?);
        let exporter = match settings.otlp_endpoint {
            "" => None,
            endpoint => Some(otlp::Exporter::new(endpoint)?),
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = if settings.json {
            lines.json().flatten_event(true).with_span_list(false).boxed()
        } else {
            lines.with_ansi(std::io::stderr().is_terminal()).boxed()
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .with(tail::layer(Arc::clone(tail)))
            .with(exporter.as_ref().map(otlp::Exporter::layer))
            .try_init()?;
        let (metrics, upkeep) = MetricsPage::install()?;
        Ok(Self { filter: handle, metrics, _upkeep: upkeep, _exporter: exporter })
    }

    /// Changes what is logged from now on.
    ///
    /// # Errors
    /// The filter has no meaning; the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), BadFilter> {
        let parsed = parse(filter)?;
        // The subscriber lives as long as the process, so the handle never points at nothing.
        self.filter.reload(parsed).unwrap_or_else(|error| tracing::error!(%error, "filter kept"));
        Ok(())
    }

    /// Returns the page of metrics, for the HTTP endpoint.
    #[must_use]
    pub fn metrics(&self) -> MetricsPage {
        self.metrics.clone()
    }
}

/// Returns whether `filter` has a meaning, for checking a configuration before it is used.
///
/// # Errors
/// It has none.
pub fn check_filter(filter: &str) -> Result<(), BadFilter> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|cause| BadFilter { filter: filter.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_before_it_is_used() {
        for good in ["info", "warn,server=debug", "off"] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
        let error = check_filter("server=loud").unwrap_err().to_string();
        assert!(error.contains("`server=loud`") && error.contains("write a level"), "{error}");
    }
}
