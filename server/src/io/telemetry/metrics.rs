//! The recorder behind the metrics, and the page that a scraper reads.
//!
//! What is counted stands in [`crate::status::names`]; this file keeps the numbers and writes them
//! down. It listens nowhere: [`crate::io::http`] asks for the page.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::{SetRecorderError, gauge};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::io::clock::unix_ms;
use crate::status::names::{self, Kind};

/// Real time between two sweeps of raw samples into buckets: at 20 ticks a second and 4 commits
/// of 5 ms each, some 1,000 samples wait at most.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The recorder could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The buckets of a histogram were refused.
    #[error(transparent)]
    Buckets(#[from] BuildError),
    /// Another recorder came first.
    #[error(transparent)]
    Taken(#[from] SetRecorderError<PrometheusRecorder>),
    /// No thread for upkeep.
    #[error("no thread to keep metrics: {0}")]
    Thread(#[from] std::io::Error),
}

/// The text formats of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// Returns the format that a scraper asks for in its `Accept` header.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Returns the content type of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics, ready to be written down.
#[derive(Clone)]
pub struct MetricsPage {
    handle: PrometheusHandle,
}

impl std::fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsPage").finish_non_exhaustive()
    }
}

impl MetricsPage {
    /// Makes this page's recorder the process's, and keeps it tidy for as long as [`Upkeep`] lives.
    ///
    /// # Errors
    /// A recorder is already set.
    pub fn install() -> Result<(Self, Upkeep), MetricsError> {
        let (recorder, page) = Self::build()?;
        metrics::set_global_recorder(recorder)?;
        names::describe();
        gauge!(names::STARTED).set(unix_ms() as f64 / 1_000.0);
        let upkeep = Upkeep::start(page.handle.clone())?;
        Ok((page, upkeep))
    }

    /// Returns a page and its recorder without installing it, for tests and simulations.
    ///
    /// # Errors
    /// A bug in the table of names: a histogram without buckets.
    pub fn build() -> Result<(PrometheusRecorder, Self), MetricsError> {
        let mut builder = PrometheusBuilder::new();
        for metric in names::ALL {
            if let Kind::Histogram(buckets) = metric.kind {
                let name = Matcher::Full(metric.name.to_owned());
                builder = builder.set_buckets_for_metric(name, buckets)?;
            }
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Ok((recorder, Self { handle }))
    }

    /// Returns the page in the wanted format.
    #[must_use]
    pub fn render(&self, exposition: Exposition) -> String {
        let text = self.handle.render();
        match exposition {
            Exposition::Prometheus => text,
            Exposition::OpenMetrics => names::openmetrics(&text),
        }
    }
}

/// The thread that sweeps samples into buckets while nobody scrapes. Dropping it ends it.
#[derive(Debug)]
pub struct Upkeep {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    fn start(handle: PrometheusHandle) -> Result<Self, std::io::Error> {
        let (stop, stopped) = mpsc::channel::<()>();
        let sweep = move || {
            measure_process();
            while stopped.recv_timeout(UPKEEP_EVERY) == Err(RecvTimeoutError::Timeout) {
                handle.run_upkeep();
                measure_process();
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(sweep)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A sweep that panicked has said so itself; there is nothing left to tidy.
            drop(thread.join());
        }
    }
}

/// Notes what the process holds. Where there is no `/proc` the gauges stay away.
fn measure_process() {
    if let Some(bytes) = std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(rss)
    {
        gauge!(names::RESIDENT_BYTES).set(bytes as f64);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge!(names::OPEN_FILES).set(open.count() as f64);
    }
}

/// Returns the resident bytes that `/proc/self/status` tells.
fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::names::{HostMetrics, ShardMetrics};

    /// A page on which everything was counted once.
    fn full_page() -> MetricsPage {
        let (recorder, page) = MetricsPage::build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            names::describe();
            let host = HostMetrics::default();
            host.tick_seconds.record(0.012);
            host.closed(protocol::close::CloseCode::Full);
            host.message_in("hello");
            host.message_out("welcome");
            ShardMetrics::new("r-1").entities.set(3.0);
            names::AssetMetrics::default().shared.increment(1);
            metrics::counter!(names::LOGINS_REFUSED).increment(0);
            gauge!(names::STARTED).set(1.0);
            measure_process();
        });
        page
    }

    #[test]
    fn every_metric_of_the_table_is_on_the_page_with_its_help() {
        let text = full_page().render(Exposition::Prometheus);
        for metric in names::ALL {
            let help = format!("# HELP {} {}\n", metric.name, metric.help);
            assert!(text.contains(&help), "{} has no help on the page", metric.name);
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}", metric.name);
        }
        assert!(text.contains("ecumene_closes_total{code=\"full\"} 1\n"));
        assert!(text.contains("ecumene_closes_total{code=\"banned\"} 0\n"));
        assert!(text.contains("ecumene_tick_seconds_bucket{le=\"0.015\"} 1\n"));
        assert!(text.contains("ecumene_tick_seconds_bucket{le=\"0.01\"} 0\n"));
    }

    #[test]
    fn the_openmetrics_page_names_no_family_with_total_and_ends() {
        let text = full_page().render(Exposition::OpenMetrics);
        assert!(text.ends_with("\n# EOF\n") && !text.contains("\n\n"));
        let families = text.lines().filter(|line| line.starts_with("# TYPE"));
        assert!(families.clone().count() == names::ALL.len());
        assert!(families.clone().all(|line| !line.contains("_total ")), "{text}");
    }

    #[test]
    fn the_scraper_chooses_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.4";
        assert_eq!(Exposition::accepted(prometheus), Exposition::OpenMetrics);
        assert_eq!(Exposition::accepted("*/*"), Exposition::Prometheus);
        assert_eq!(Exposition::accepted(""), Exposition::Prometheus);
    }

    #[test]
    fn resident_memory_is_read_from_what_the_kernel_writes() {
        assert_eq!(rss("Name:\tx\nVmRSS:\t   2048 kB\nVmData:\t1 kB\n"), Some(2_097_152));
        assert_eq!(rss("VmRSS:\tmuch\n"), None);
        assert_eq!(rss(""), None);
    }
}
