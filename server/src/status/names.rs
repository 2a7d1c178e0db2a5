//! Every metric of the server: its name, what it means, and the handle that counts it.
//!
//! Names follow OpenMetrics: base units, `_total` for what only grows. Labels take values from
//! fixed lists or shard ids, so nobody outside can add a series; no label is about a person.

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use protocol::close::CloseCode;

use super::Status;

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size, in these buckets (upper bounds, ascending).
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in `/metrics`.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// The unit that its name ends with, `Count` for plain numbers.
    pub unit: Unit,
    /// What it says, for an operator.
    pub help: &'static str,
}

/// Buckets of a tick in seconds: fine below the budget of 50 ms, coarse above.
const TICK_SECONDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0];

/// Buckets of a commit in seconds: one fsync is 1 ms on good disks and 100 ms on poor ones.
const COMMIT_SECONDS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

macro_rules! metrics_table {
    ($($constant:ident = $name:literal, $kind:expr, $unit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// Every metric, in the order of this file.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $constant, kind: $kind, unit: Unit::$unit, help: $help },)*
        ];
    };
}

metrics_table! {
    READY = "ecumene_ready", Kind::Gauge, Count, "1 when newcomers can come in, else 0.";
    CLIENTS = "ecumene_clients", Kind::Gauge, Count, "Clients inside now.";
    CLIENTS_LIMIT = "ecumene_clients_limit", Kind::Gauge, Count, "Clients that have a place at most.";
    JOINS = "ecumene_joins_total", Kind::Counter, Count, "Clients that came in anew.";
    RESUMES = "ecumene_resumes_total", Kind::Counter, Count, "Clients that continued an interrupted session.";
    CLOSES = "ecumene_closes_total", Kind::Counter, Count, "Connections ended or refused by the server, by close code.";
    TICK_NOW = "ecumene_world_ticks", Kind::Gauge, Count, "World time: ticks since the world began.";
    TICKS = "ecumene_ticks_total", Kind::Counter, Count, "Ticks stepped by this process.";
    TICKS_SKIPPED = "ecumene_ticks_skipped_total", Kind::Counter, Count, "Ticks that fell due while an earlier one was still running.";
    TICK_TIME = "ecumene_tick_seconds", Kind::Histogram(TICK_SECONDS), Seconds, "Time that one tick took.";
    TICK_BUDGET = "ecumene_tick_budget_seconds", Kind::Gauge, Seconds, "Time that one tick may take at full pace.";
    PACE = "ecumene_pace_ratio", Kind::Gauge, Percent, "World time per real time: 1 is full pace, less is an overloaded world.";
    FRAMES_OUT = "ecumene_frames_out_total", Kind::Counter, Count, "Frames of the world sent to clients.";
    DATAGRAMS_OUT = "ecumene_datagrams_out_total", Kind::Counter, Count, "Application datagrams sent.";
    DATAGRAMS_IN = "ecumene_datagrams_in_total", Kind::Counter, Count, "Application datagrams received.";
    BYTES_OUT = "ecumene_sent_bytes_total", Kind::Counter, Bytes, "Payload bytes sent.";
    BYTES_IN = "ecumene_received_bytes_total", Kind::Counter, Bytes, "Payload bytes received.";
    INPUTS_APPLIED = "ecumene_inputs_applied_total", Kind::Counter, Count, "Movement inputs applied.";
    INPUTS_DROPPED = "ecumene_inputs_dropped_total", Kind::Counter, Count, "Movement inputs dropped because they came late, twice or too fast.";
    MESSAGES_IN = "ecumene_messages_in_total", Kind::Counter, Count, "Reliable messages received, by kind.";
    MESSAGES_OUT = "ecumene_messages_out_total", Kind::Counter, Count, "Reliable messages sent, by kind.";
    CHAT_LINES = "ecumene_chat_lines_total", Kind::Counter, Count, "Chat lines passed on.";
    ENTITIES = "ecumene_entities", Kind::Gauge, Count, "Entities that a shard owns.";
    SHARD_CLIENTS = "ecumene_shard_clients", Kind::Gauge, Count, "Clients whose avatar a shard owns.";
    GHOSTS = "ecumene_ghosts", Kind::Gauge, Count, "Neighbours' entities that a shard mirrors.";
    HANDOFFS = "ecumene_handoffs_total", Kind::Counter, Count, "Entities handed from one shard to another.";
    LINKS = "ecumene_links", Kind::Gauge, Count, "Other processes that run shards of this world.";
    DIVISIONS = "ecumene_divisions_total", Kind::Counter, Count, "Times that a region was split, or four were merged.";
    SHARDS_LOST = "ecumene_shards_lost_total", Kind::Counter, Count, "Shards that began anew here because their process was lost.";
    COMMIT_TIME = "ecumene_store_commit_seconds", Kind::Histogram(COMMIT_SECONDS), Seconds, "Time from a batch's first append until it was durable.";
    STORE_PENDING = "ecumene_store_pending_records", Kind::Gauge, Count, "Records appended and not yet durable.";
    STORE_BYTES = "ecumene_store_size_bytes", Kind::Gauge, Bytes, "Bytes of the store on disk.";
    ASSETS = "ecumene_assets", Kind::Gauge, Count, "Assets that people share now.";
    ASSETS_SIZE = "ecumene_assets_size_bytes", Kind::Gauge, Bytes, "Bytes of the assets that people share now.";
    ASSETS_SHARED = "ecumene_assets_shared_total", Kind::Counter, Count, "Assets that were sent here and kept.";
    ASSETS_FETCHED = "ecumene_assets_fetched_total", Kind::Counter, Count, "Assets that were handed out to their end.";
    ASSETS_REFUSED = "ecumene_assets_refused_total", Kind::Counter, Count, "Offers and fetches of assets that were refused.";
    ASSETS_IN = "ecumene_assets_received_bytes_total", Kind::Counter, Bytes, "Bytes of assets received.";
    ASSETS_OUT = "ecumene_assets_sent_bytes_total", Kind::Counter, Bytes, "Bytes of assets sent.";
    STORE_FAILURES = "ecumene_store_failures_total", Kind::Counter, Count, "Commits that failed.";
    LOGINS_REFUSED = "ecumene_http_logins_refused_total", Kind::Counter, Count, "Logins to the page and calls of its API refused.";
    RESIDENT_BYTES = "process_resident_memory_bytes", Kind::Gauge, Bytes, "Memory of the process that is in RAM.";
    OPEN_FILES = "process_open_fds", Kind::Gauge, Count, "Open files and sockets of the process.";
    STARTED = "process_start_time_seconds", Kind::Gauge, Seconds, "When the process began to serve, in seconds since 1970.";
}

/// Gives every metric its help text; once, after the recorder is installed.
pub fn describe() {
    for &Metric { name, kind, unit, help } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, unit, help),
            Kind::Gauge => metrics::describe_gauge!(name, unit, help),
            Kind::Histogram(_) => metrics::describe_histogram!(name, unit, help),
        }
    }
}

/// The handles of the host: each one is an atomic number, so counting never waits.
///
/// Made once, after the recorder is installed; every series stands at 0 from then on.
#[derive(Clone)]
#[expect(missing_docs, reason = "each handle is documented by the metric of the same name")]
pub struct HostMetrics {
    pub ready: Gauge,
    pub clients: Gauge,
    pub clients_limit: Gauge,
    pub joins: Counter,
    pub resumes: Counter,
    pub tick_now: Gauge,
    pub ticks: Counter,
    pub ticks_skipped: Counter,
    pub tick_seconds: Histogram,
    pub tick_budget_seconds: Gauge,
    pub pace: Gauge,
    pub frames_out: Counter,
    pub datagrams_out: Counter,
    pub datagrams_in: Counter,
    pub bytes_out: Counter,
    pub bytes_in: Counter,
    pub inputs_applied: Counter,
    pub inputs_dropped: Counter,
    pub chat_lines: Counter,
    pub handoffs: Counter,
    pub links: Gauge,
    pub divisions: Counter,
    pub shards_lost: Counter,
    pub commit_seconds: Histogram,
    pub store_pending: Gauge,
    pub store_bytes: Gauge,
    pub store_failures: Counter,
    closes: [Counter; CloseCode::ALL.len()],
}

impl Default for HostMetrics {
    fn default() -> Self {
        Self {
            ready: gauge!(READY),
            clients: gauge!(CLIENTS),
            clients_limit: gauge!(CLIENTS_LIMIT),
            joins: counter!(JOINS),
            resumes: counter!(RESUMES),
            tick_now: gauge!(TICK_NOW),
            ticks: counter!(TICKS),
            ticks_skipped: counter!(TICKS_SKIPPED),
            tick_seconds: histogram!(TICK_TIME),
            tick_budget_seconds: gauge!(TICK_BUDGET),
            pace: gauge!(PACE),
            frames_out: counter!(FRAMES_OUT),
            datagrams_out: counter!(DATAGRAMS_OUT),
            datagrams_in: counter!(DATAGRAMS_IN),
            bytes_out: counter!(BYTES_OUT),
            bytes_in: counter!(BYTES_IN),
            inputs_applied: counter!(INPUTS_APPLIED),
            inputs_dropped: counter!(INPUTS_DROPPED),
            chat_lines: counter!(CHAT_LINES),
            handoffs: counter!(HANDOFFS),
            links: gauge!(LINKS),
            divisions: counter!(DIVISIONS),
            shards_lost: counter!(SHARDS_LOST),
            commit_seconds: histogram!(COMMIT_TIME),
            store_pending: gauge!(STORE_PENDING),
            store_bytes: gauge!(STORE_BYTES),
            store_failures: counter!(STORE_FAILURES),
            closes: CloseCode::ALL.map(|code| counter!(CLOSES, "code" => close_label(code))),
        }
    }
}

impl HostMetrics {
    /// Counts a connection that the server ended or refused.
    pub fn closed(&self, code: CloseCode) {
        if let Some(counter) = self.closes.get(code.number() as usize) {
            counter.increment(1);
        }
    }

    /// Sets the gauges that a picture of the world tells, so that both never disagree.
    ///
    /// Called when the numbers are asked for. Before the first picture the pace counts as full:
    /// a world that is not loaded yet is not ready, and no slower for it.
    pub fn show(&self, status: &Status) {
        let has_picture = status.hz != 0;
        self.ready.set(if status.ready { 1.0 } else { 0.0 });
        self.clients.set(f64::from(status.clients));
        self.clients_limit.set(f64::from(status.clients_max));
        self.tick_now.set(status.tick as f64);
        self.pace.set(if has_picture { f64::from(status.pace_permille) / 1_000.0 } else { 1.0 });
        self.tick_budget_seconds.set(if has_picture { 1.0 / f64::from(status.hz) } else { 0.0 });
        self.store_pending.set(status.store.pending as f64);
        self.store_bytes.set(status.store.bytes as f64);
    }

    /// Counts a reliable message received. `kind` is its name in the protocol.
    pub fn message_in(&self, kind: &'static str) {
        counter!(MESSAGES_IN, "kind" => kind).increment(1);
    }

    /// Counts a reliable message sent. `kind` is its name in the protocol.
    pub fn message_out(&self, kind: &'static str) {
        counter!(MESSAGES_OUT, "kind" => kind).increment(1);
    }
}

/// The handles of what people share.
#[derive(Clone)]
#[expect(missing_docs, reason = "each handle is documented by the metric of the same name")]
pub struct AssetMetrics {
    pub assets: Gauge,
    pub size_bytes: Gauge,
    pub shared: Counter,
    pub fetched: Counter,
    pub refused: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
}

impl Default for AssetMetrics {
    fn default() -> Self {
        Self {
            assets: gauge!(ASSETS),
            size_bytes: gauge!(ASSETS_SIZE),
            shared: counter!(ASSETS_SHARED),
            fetched: counter!(ASSETS_FETCHED),
            refused: counter!(ASSETS_REFUSED),
            bytes_in: counter!(ASSETS_IN),
            bytes_out: counter!(ASSETS_OUT),
        }
    }
}

/// The handles of one shard.
#[derive(Clone)]
#[expect(missing_docs, reason = "each handle is documented by the metric of the same name")]
pub struct ShardMetrics {
    pub entities: Gauge,
    pub clients: Gauge,
    pub ghosts: Gauge,
}

impl ShardMetrics {
    /// Returns the handles of the shard of this id; ids come from the configuration, not clients.
    #[must_use]
    pub fn new(shard: &str) -> Self {
        let label = || shard.to_owned();
        Self {
            entities: gauge!(ENTITIES, "shard" => label()),
            clients: gauge!(SHARD_CLIENTS, "shard" => label()),
            ghosts: gauge!(GHOSTS, "shard" => label()),
        }
    }
}

/// Returns the word for a close code in labels; alert rules and dashboards depend on it.
#[must_use]
pub const fn close_label(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Goodbye => "goodbye",
        CloseCode::Stopping => "stopping",
        CloseCode::Version => "version",
        CloseCode::World => "world",
        CloseCode::Unauthorized => "unauthorized",
        CloseCode::TokenExpired => "token_expired",
        CloseCode::TokenRevoked => "token_revoked",
        CloseCode::TokenForged => "token_forged",
        CloseCode::Banned => "banned",
        CloseCode::Full => "full",
        CloseCode::Kicked => "kicked",
        CloseCode::Replaced => "replaced",
        CloseCode::LendingEnded => "lending_ended",
        CloseCode::Protocol => "protocol",
        CloseCode::Flooding => "flooding",
        CloseCode::Silent => "silent",
        CloseCode::Lost => "lost",
        CloseCode::Internal => "internal",
    }
}

/// Turns the exporter's Prometheus text into OpenMetrics text.
///
/// The two differ in three points: a counter's family is named without `_total`, there are no
/// empty lines, and `# EOF` ends the page, so that a cut-off answer is noticed.
#[must_use]
pub fn openmetrics(prometheus: &str) -> String {
    let mut page = String::with_capacity(prometheus.len() + 8);
    for line in prometheus.lines().filter(|line| !line.is_empty()) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) => {
                let family = name.strip_suffix("_total").unwrap_or(name);
                for word in ["# ", what, " ", family, " ", rest] {
                    page.push_str(word);
                }
            }
            _ => page.push_str(line),
        }
        page.push('\n');
    }
    page.push_str("# EOF\n");
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_end_with_their_unit() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Metric { name, kind, unit, help } in ALL {
            let base = name.strip_suffix("_total").unwrap_or(name);
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let ends = |suffix: &str| base.ends_with(suffix);
            assert_eq!(*unit == Unit::Seconds, ends("_seconds"), "{name}");
            assert_eq!(*unit == Unit::Bytes, ends("_bytes"), "{name}");
            assert_eq!(*unit == Unit::Percent, ends("_ratio"), "{name}");
            assert!(help.ends_with('.') && help.len() < 90, "{name}: {help}");
        }
    }

    #[test]
    fn the_page_for_operators_lists_every_metric() {
        let page = include_str!("../../../docs/observing.md");
        for Metric { name, help, .. } in ALL {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/observing.md lacks {name}"));
            assert!(row.ends_with(&format!("| {help} |")), "{row}");
        }
    }

    #[test]
    fn buckets_ascend() {
        for metric in ALL {
            let Kind::Histogram(buckets) = metric.kind else { continue };
            assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
        }
    }

    #[test]
    fn every_close_code_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = CloseCode::ALL.map(close_label).into();
        assert_eq!(words.len(), CloseCode::ALL.len());
    }

    #[test]
    fn openmetrics_names_families_and_ends() {
        let text = "# HELP a_total It is # what.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\n\
                    # TYPE d gauge\nd 2\n\n";
        assert_eq!(
            openmetrics(text),
            "# HELP a It is # what.\n# TYPE a counter\na_total{b=\"c\"} 1\n# TYPE d gauge\nd 2\n# EOF\n"
        );
    }
}
