//! Every setting of a server: its meaning, its default, its bounds, and where its value came from.
//!
//! The table below is the one place where settings are declared; the typed [`Config`], the checks,
//! the printed page and the reload rules follow from it. This file reads no file, no environment
//! and no command line: those come in as [`Input`]s, weakest first.

mod check;
mod layer;
mod reload;
mod show;

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Value;

pub use check::{Kind, media_types};
pub use layer::{Input, Mistake, Mistakes, variable};
pub use reload::{Reload, reload};

use check::Kind::{Address, Choice, Flag, Media, Odd, Real, Text, Whole};

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// As soon as the configuration is read again.
    Live,
    /// At the next start.
    Restart,
}

use Effect::{Live, Restart};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `group.field`.
    pub name: &'static str,
    /// What it means, in one line.
    pub doc: &'static str,
    /// The default, as TOML.
    pub default: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// When a change takes effect.
    pub effect: Effect,
}

/// Declares groups of settings: `field: type = default, kind, effect;`.
macro_rules! settings {
    ($(
        #[doc = $group_doc:literal]
        $group:ident: $Group:ident {
            $(#[doc = $doc:literal] $field:ident: $type:ty = $default:literal, $kind:expr, $effect:expr;)*
        }
    )*) => {
        /// Every setting of a server, checked.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            $(#[doc = $group_doc] pub $group: $Group,)*
        }

        $(
            #[doc = $group_doc]
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $Group {
                $(#[doc = $doc] pub $field: $type,)*
            }
        )*

        /// The groups with their meaning, in the order of the printed page.
        pub const GROUPS: &[(&str, &str)] = &[$((stringify!($group), $group_doc),)*];

        /// Every setting, in the order of the printed page.
        pub const KEYS: &[Key] = &[$($(Key {
            name: concat!(stringify!($group), ".", stringify!($field)),
            doc: $doc,
            default: stringify!($default),
            kind: $kind,
            effect: $effect,
        },)*)*];
    };
}

settings! {
    /// Where the server listens and how many it takes.
    server: Server {
        /// UDP address for players; `0.0.0.0:4433` opens the world to the network.
        listen: SocketAddr = "127.0.0.1:4433", Address, Restart;
        /// TCP address of the page for operators: health, metrics and a read-only view.
        http: SocketAddr = "127.0.0.1:8433", Address, Restart;
        /// The name shown to those who connect.
        name: String = "Ecumene", Text { chars_max: 64 }, Live;
        /// Clients at once; moderators and admins still get in when it is full.
        clients_max: u32 = 1_000, Whole { min: 1, max: 20_000 }, Live;
        /// From where processes may join that run shards: `loopback`, `anyone` or `nobody`.
        shard_processes: Reach = "loopback", Choice(&["loopback", "anyone", "nobody"]), Live;
        /// What carries QUIC: `quinn`, or `batched`, one loop for all connections that costs less.
        quic: Quic = "quinn", Choice(&["quinn", "batched"]), Restart;
        /// File for TLS secrets, to decrypt captures while debugging; empty: none.
        keylog: String = "", Text { chars_max: 4096 }, Restart;
    }
    /// The hosted world.
    world: World {
        /// Which world to serve, as `ecumene world list` names them.
        name: String = "home", Text { chars_max: 32 }, Restart;
        /// Shards along each side of the square world; odd, so that one is in the middle.
        shards_per_side: u32 = 3, Odd { min: 1, max: 15 }, Restart;
        /// Width of one shard in metres.
        shard_width_m: u32 = 1_024, Whole { min: 256, max: 8_192 }, Restart;
        /// Ticks per second.
        tick_hz: u32 = 20, Whole { min: 5, max: 60 }, Restart;
        /// File of ground heights to use instead of generated ground; empty: none.
        terrain: String = "", Text { chars_max: 4096 }, Restart;
    }
    /// How the world is divided further while it runs.
    shards: Shards {
        /// Whether regions are split and merged by load; `ecumene shards split` works in any case.
        auto: bool = false, Flag, Live;
        /// Width of the smallest region, in metres.
        width_min_m: u32 = 64, Whole { min: 32, max: 8_192 }, Live;
        /// Regions at once.
        count_max: u32 = 64, Whole { min: 1, max: 256 }, Live;
        /// A region is split whose steps take more of the time than this, in percent.
        split_percent: u32 = 60, Whole { min: 5, max: 1_000 }, Live;
        /// Four quarters are merged whose steps take less together, in percent.
        merge_percent: u32 = 15, Whole { min: 0, max: 500 }, Live;
        /// Seconds for which that must be so.
        window_s: u32 = 10, Whole { min: 2, max: 600 }, Live;
    }
    /// Who gets in, and how much they may send.
    admission: Admission {
        /// Who may come without key and token: `loopback`, `anyone` or `nobody`.
        guests: Reach = "loopback", Choice(&["loopback", "anyone", "nobody"]), Live;
        /// Who may come with a key that no operator gave a role: `loopback`, `anyone` or `nobody`.
        newcomers: Reach = "loopback", Choice(&["loopback", "anyone", "nobody"]), Live;
        /// The role of those who come without a token and were given none: `visitor` or `member`.
        role_default: RoleDefault = "member", Choice(&["visitor", "member"]), Live;
        /// Days that a guest, without key and token, may stay away until forgotten; 0: for ever.
        guest_days: u32 = 7, Whole { min: 0, max: 3_650 }, Live;
        /// Handshakes per second that one address may begin.
        handshakes_per_s: f64 = 10.0, Real { min: 0.1, max: 100_000.0 }, Live;
        /// Handshakes that one address may begin at once.
        handshakes_burst: u32 = 50, Whole { min: 1, max: 100_000 }, Live;
        /// Handshakes under way at once, over all addresses; further ones must prove their address.
        handshakes_pending: u32 = 256, Whole { min: 1, max: 20_000 }, Live;
        /// Seconds from the first packet to a complete hello.
        handshake_timeout_s: u32 = 10, Whole { min: 1, max: 120 }, Live;
        /// Messages per second of one session.
        messages_per_s: f64 = 40.0, Real { min: 1.0, max: 10_000.0 }, Live;
        /// Messages of one session at once.
        messages_burst: u32 = 120, Whole { min: 1, max: 10_000 }, Live;
        /// Datagrams per second of one session.
        datagrams_per_s: f64 = 90.0, Real { min: 10.0, max: 10_000.0 }, Live;
    }
    /// What each client is shown.
    interest: Interest {
        /// Entities one client is shown at once.
        tracked: u32 = 64, Whole { min: 1, max: 64 }, Live;
        /// How far one sees others, in metres.
        view_m: u32 = 150, Whole { min: 10, max: 1_000 }, Live;
        /// Bytes of one client's datagram per tick.
        downlink_bytes_per_tick: u32 = 1_150, Whole { min: 200, max: 1_150 }, Live;
    }
    /// What is kept on disk.
    store: Store {
        /// Milliseconds that writes are gathered before they are made durable together.
        commit_interval_ms: u32 = 5, Whole { min: 1, max: 1_000 }, Restart;
        /// Seconds between two writes of where everybody stands.
        position_interval_s: u32 = 5, Whole { min: 1, max: 600 }, Live;
        /// Hours between two backups; 0: none but by `ecumene backup`.
        backup_every_h: u32 = 6, Whole { min: 0, max: 8_760 }, Live;
        /// Hours whose last scheduled backup is kept, counted back from the newest.
        backup_keep_hourly: u32 = 4, Whole { min: 1, max: 1_000 }, Live;
        /// Days whose last scheduled backup is kept.
        backup_keep_daily: u32 = 7, Whole { min: 0, max: 1_000 }, Live;
        /// Weeks whose last scheduled backup is kept.
        backup_keep_weekly: u32 = 4, Whole { min: 0, max: 1_000 }, Live;
        /// Folder for scheduled backups; empty: `backups` in the world's folder.
        backup_dir: String = "", Text { chars_max: 4096 }, Live;
    }
    /// Speech.
    chat: Chat {
        /// How far plain speech carries, in metres.
        nearby_m: u32 = 20, Whole { min: 1, max: 1_000 }, Live;
        /// How far a whisper carries, in metres.
        whisper_m: u32 = 3, Whole { min: 1, max: 1_000 }, Live;
        /// Utterances per second of one session.
        utterances_per_s: f64 = 1.0, Real { min: 0.1, max: 100.0 }, Live;
        /// Utterances of one session at once.
        utterances_burst: u32 = 5, Whole { min: 1, max: 1_000 }, Live;
    }
    /// What people share: pictures, models, texts.
    assets: Assets {
        /// Megabytes of all that people share; 0: nothing can be shared.
        total_mb: u32 = 1_024, Whole { min: 0, max: 1_048_576 }, Live;
        /// Megabytes that one person shares.
        person_mb: u32 = 64, Whole { min: 1, max: 65_536 }, Live;
        /// Assets that one person shares.
        person_count: u32 = 64, Whole { min: 1, max: 10_000 }, Live;
        /// Megabytes of one asset.
        asset_mb: u32 = 16, Whole { min: 1, max: 16 }, Live;
        /// Hours for which an asset is kept at most; whoever shares it may ask for less.
        keep_hours: u32 = 720, Whole { min: 1, max: 87_600 }, Live;
        /// Media types that are taken, such as `image/*, model/gltf-binary`; empty: all.
        media: String = "", Media { chars_max: 1024 }, Live;
        /// Offers and fetches per second of one session.
        requests_per_s: f64 = 4.0, Real { min: 0.1, max: 10_000.0 }, Live;
        /// Offers and fetches of one session at once.
        requests_burst: u32 = 40, Whole { min: 1, max: 10_000 }, Live;
    }
    /// Logs and traces.
    telemetry: Telemetry {
        /// Logs as one JSON object per line.
        json_logs: bool = false, Flag, Restart;
        /// What is logged, such as `info` or `warn,server=debug`.
        level: String = "info", Text { chars_max: 1024 }, Live;
        /// Where traces go, such as `http://127.0.0.1:4318`; empty: nowhere.
        otlp_endpoint: String = "", Text { chars_max: 1024 }, Restart;
    }
    /// A client's stay.
    session: Session {
        /// Seconds that a lost client's avatar waits for it to resume.
        resume_grace_s: u32 = 60, Whole { min: 0, max: 3_600 }, Live;
        /// Seconds without a sound from the client until it counts as lost.
        silence_s: u32 = 15, Whole { min: 2, max: 600 }, Restart;
    }
}

/// What carries QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quic {
    /// quinn: a task for each connection.
    Quinn,
    /// One loop for all connections.
    Batched,
}

impl fmt::Display for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quinn => "quinn",
            Self::Batched => "batched",
        })
    }
}

/// From where something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// From this machine alone.
    Loopback,
    /// From everywhere.
    Anyone,
    /// From nowhere.
    Nobody,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Anyone => "anyone",
            Self::Nobody => "nobody",
        })
    }
}

/// The roles that need no operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleDefault {
    /// May look and talk.
    Visitor,
    /// May take part.
    Member,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table in this file.
    Default,
    /// A line of a configuration file.
    File {
        /// The file.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "command line {flag}"),
        }
    }
}

/// A checked configuration together with the source of each value.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The values, typed.
    pub config: Config,
    /// Value and source by key; complete, and equal to `config`.
    values: BTreeMap<&'static str, (Value, Source)>,
}

impl Settings {
    /// Returns what `inputs`, weakest first, make of the defaults.
    ///
    /// # Errors
    /// Every [`Mistake`] found, each with its place; whoever wrote the input is at fault.
    pub fn layer(inputs: &[Input<'_>]) -> Result<Self, Mistakes> {
        layer::layer(inputs).map(Self::from_values)
    }

    /// Returns the defaults.
    #[must_use]
    pub fn defaults() -> Self {
        Self::from_values(layer::defaults())
    }

    /// Returns where the value of `key` came from, nothing if there is no such key.
    #[must_use]
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.values.get(key).map(|(_, source)| source)
    }

    /// Returns every value with its meaning and its source, as TOML that can be read back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        show::page(&self.values)
    }

    fn from_values(values: BTreeMap<&'static str, (Value, Source)>) -> Self {
        let mut groups = toml::Table::new();
        for (name, (value, _)) in &values {
            let (group, field) = name.split_once('.').expect("keys are `group.field`");
            let group = groups.entry(group).or_insert_with(|| Value::Table(toml::Table::new()));
            let group = group.as_table_mut().expect("a group is a table");
            group.insert(field.to_owned(), value.clone());
        }
        // Every value was checked against the kind that its type in the table stands beside.
        let config = groups.try_into().expect("checked values fit their types");
        Self { config, values }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::defaults()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check_and_fits_its_type() {
        let settings = Settings::defaults();
        assert_eq!(settings.values.len(), KEYS.len());
        assert_eq!(settings.config.server.listen.to_string(), "127.0.0.1:4433");
        assert_eq!(settings.config.admission.guests, Reach::Loopback);
        assert!((settings.config.chat.utterances_per_s - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn both_ends_of_every_range_fit_their_types() {
        for key in KEYS {
            for extreme in key.kind.extremes() {
                let mut values = Settings::defaults().values;
                values.insert(key.name, (extreme, Source::Default));
                Settings::from_values(values);
            }
        }
    }

    #[test]
    fn nothing_listens_beyond_loopback_by_default() {
        let config = Settings::defaults().config;
        assert!(config.server.listen.ip().is_loopback());
        assert!(config.server.http.ip().is_loopback());
    }
}
