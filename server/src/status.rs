//! What an operator is shown: one bounded, plain picture of the running world.
//!
//! The host fills a [`Status`] a few times a second and hands it to the [`StatusBoard`]; the page,
//! the admin socket and the console read it there. Nothing here reads a clock, touches a socket,
//! or holds a name, an address or a word that somebody said.

pub mod board;
pub mod history;
pub mod log;
pub mod names;

use serde::{Deserialize, Serialize};

pub use board::StatusBoard;
pub use history::{TickHistory, TickMs};
pub use log::{Level, LogLine, LogTail};

/// Dots in one picture: 1,000 x 24 bytes of JSON x 4 pictures a second is 96 KB/s, what a phone
/// on a poor link still takes.
pub const DOTS_MAX: usize = 1_000;

/// Shards in one picture: the regions of a world 16 km wide cut into squares of 1 km.
pub const SHARDS_MAX: usize = 256;

/// Characters of a free text in a picture (a region, a place, a reason): one line on a phone.
pub const TEXT_CHARS_MAX: usize = 160;

/// The whole picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The world's name, as the configuration gives it.
    pub world: String,
    /// Version of the server.
    pub version: String,
    /// The world's tick.
    pub tick: u64,
    /// Ticks per second at full pace.
    pub hz: u16,
    /// World seconds per 1,000 real seconds: 1,000 is full pace, less is an overloaded world.
    pub pace_permille: u16,
    /// Seconds since this process began to serve.
    pub uptime_s: u64,
    /// Clients inside now.
    pub clients: u32,
    /// Clients that have a place at most.
    pub clients_max: u32,
    /// Entities in the world, of which `dots` may show only some.
    pub entities: u64,
    /// How long ticks took. The board fills it.
    pub tick_ms: TickMs,
    /// Milliseconds of the last ticks, oldest first. The board fills it.
    pub tick_history: Vec<f32>,
    /// The regions and their owners, at most [`SHARDS_MAX`].
    pub shards: Vec<ShardStatus>,
    /// What the store is doing.
    pub store: StoreStatus,
    /// The ground that the map shows.
    pub map: MapArea,
    /// A sample of what is in the world, at most [`DOTS_MAX`].
    pub dots: Vec<Dot>,
    /// Whether new clients can come in.
    pub ready: bool,
    /// Why not, in words for an operator; empty when ready.
    pub why_not_ready: String,
}

impl Status {
    /// Returns this picture cut to the bounds of this module, so that no sender can swell it.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.shards.truncate(SHARDS_MAX);
        self.dots.truncate(DOTS_MAX);
        shorten(&mut self.world);
        shorten(&mut self.version);
        shorten(&mut self.why_not_ready);
        for shard in &mut self.shards {
            shorten(&mut shard.id);
            shorten(&mut shard.region);
            shorten(&mut shard.place);
        }
        self
    }
}

/// One region of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its id as text: numbers of 64 bits do not survive JavaScript.
    pub id: String,
    /// The ground it owns, in words such as `0..512 m east, 0..512 m south`.
    pub region: String,
    /// Entities it owns.
    pub entities: u32,
    /// Clients whose avatar it owns.
    pub clients: u32,
    /// Milliseconds of its last step.
    pub step_ms: f32,
    /// Neighbours' entities that it mirrors.
    pub ghosts: u32,
    /// Its owner's epoch.
    pub epoch: u64,
    /// Where it runs, such as `thread 0` or a process's name.
    pub place: String,
}

/// What the store is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Everything up to this number survives a power cut.
    pub durable: u64,
    /// Records appended and not yet durable.
    pub pending: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// The ground under the map, in metres: its north-west corner and its size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapArea {
    /// West edge, metres east of the origin.
    pub x_m: f32,
    /// North edge, metres south of the origin.
    pub z_m: f32,
    /// Metres from west to east.
    pub width_m: f32,
    /// Metres from north to south.
    pub depth_m: f32,
}

impl Default for MapArea {
    fn default() -> Self {
        Self { x_m: -512.0, z_m: -512.0, width_m: 1_024.0, depth_m: 1_024.0 }
    }
}

/// What a dot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DotKind {
    /// A connected client's avatar.
    Client,
    /// A character of the world.
    Npc,
    /// A thing or a vehicle.
    Thing,
}

/// One entity on the map. In JSON: `[key, kind, x_m, z_m, yaw_degrees]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "DotRow", from = "DotRow")]
pub struct Dot {
    /// The low bits of the entity's id: the same dot in the next picture, and nothing else.
    pub key: u32,
    /// What it stands for.
    pub kind: DotKind,
    /// Metres east of the origin.
    pub x_m: f32,
    /// Metres south of the origin.
    pub z_m: f32,
    /// Degrees clockwise from north, 0 to 359.
    pub yaw: u16,
}

/// A dot as it is written: an array is a third of an object's bytes.
#[derive(Serialize, Deserialize)]
struct DotRow(u32, DotKind, f32, f32, u16);

impl From<Dot> for DotRow {
    fn from(dot: Dot) -> Self {
        // A decimetre is less than a pixel at every zoom of the page.
        let decimetre = |metres: f32| (metres * 10.0).round() / 10.0;
        Self(dot.key, dot.kind, decimetre(dot.x_m), decimetre(dot.z_m), dot.yaw)
    }
}

impl From<DotRow> for Dot {
    fn from(DotRow(key, kind, x_m, z_m, yaw): DotRow) -> Self {
        Self { key, kind, x_m, z_m, yaw }
    }
}

/// Chooses which of many entities the map shows: the same ones from picture to picture.
///
/// An entity is chosen by its key alone, so a crowd thins evenly and nobody flickers.
#[derive(Clone, Copy, Debug)]
pub struct DotSample {
    keep_below: u32,
}

impl DotSample {
    /// Returns the choice for a world of `entities`; up to [`DOTS_MAX`] all are shown.
    #[must_use]
    pub fn of(entities: usize) -> Self {
        if entities <= DOTS_MAX {
            return Self { keep_below: u32::MAX };
        }
        // Rounded to powers of 2 of the crowd, so that one more entity changes nobody's dot.
        let crowd = u64::try_from(entities.next_power_of_two()).unwrap_or(u64::MAX);
        let share = u64::from(u32::MAX) * (DOTS_MAX as u64) / crowd;
        Self { keep_below: u32::try_from(share).unwrap_or(u32::MAX) }
    }

    /// Returns whether the entity of this key is shown.
    #[must_use]
    pub const fn shows(self, key: u32) -> bool {
        // Ids count up, so their bits are mixed before they are compared.
        let mixed = (key ^ (key >> 16)).wrapping_mul(0x7FEB_352D);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x846C_A68B);
        (mixed ^ (mixed >> 16)) <= self.keep_below
    }
}

/// Cuts `text` to [`TEXT_CHARS_MAX`] characters.
fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(key: u32) -> Dot {
        Dot { key, kind: DotKind::Npc, x_m: 1.26, z_m: -3.0, yaw: 90 }
    }

    #[test]
    fn a_dot_is_one_short_row() {
        let text = serde_json::to_string(&dot(7)).unwrap();
        assert_eq!(text, r#"[7,"npc",1.3,-3.0,90]"#);
        assert_eq!(serde_json::from_str::<Dot>(&text).unwrap(), Dot { x_m: 1.3, ..dot(7) });
    }

    #[test]
    fn a_picture_reads_back_and_old_pictures_still_read() {
        let status =
            Status { world: "vale".into(), dots: vec![], ready: true, ..Status::default() };
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        assert_eq!(serde_json::from_str::<Status>("{}").unwrap(), Status::default());
    }

    #[test]
    fn a_swollen_picture_is_cut() {
        let swollen = Status {
            why_not_ready: "ä".repeat(10_000),
            dots: (0..5_000).map(dot).collect(),
            shards: vec![ShardStatus { place: "x".repeat(500), ..ShardStatus::default() }; 999],
            ..Status::default()
        };
        let cut = swollen.bounded();
        assert_eq!(cut.why_not_ready.chars().count(), TEXT_CHARS_MAX);
        assert_eq!((cut.dots.len(), cut.shards.len()), (DOTS_MAX, SHARDS_MAX));
        assert_eq!(cut.shards[0].place.len(), TEXT_CHARS_MAX);
    }

    #[test]
    fn a_crowd_is_thinned_evenly_and_stays_the_same() {
        assert!((0..1_000).all(|key| DotSample::of(1_000).shows(key)));
        for crowd in [1_001_usize, 5_000, 20_000, 100_000] {
            let last = u32::try_from(crowd).unwrap();
            let shown = (0..last).filter(|&key| DotSample::of(crowd).shows(key)).count();
            assert!((400..=DOTS_MAX + 120).contains(&shown), "{crowd}: {shown} shown");
        }
        let (fewer, more) = (DotSample::of(5_000), DotSample::of(5_001));
        assert!((0..5_000).all(|key| fewer.shows(key) == more.shows(key)));
    }
}
