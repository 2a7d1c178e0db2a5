//! Shows the operators' page over an invented world, for working on the page without a server.
//!
//! `cargo run --release -p server --example operators_page`, then log in with the token `look`.
//! What is shown is made up here; nothing of it is a measurement.

#![expect(clippy::disallowed_methods, reason = "an invented world need not be the same everywhere")]

use std::f32::consts::TAU;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use server::io::clock::Clock;
use server::io::http::{Http, Operator, Settings, Sources, Verify};
use server::io::telemetry::{self, Telemetry};
use server::status::names::{HostMetrics, ShardMetrics};
use server::status::{
    Dot, DotKind, LogTail, MapArea, ShardStatus, Status, StatusBoard, StoreStatus,
};

/// Lets in whoever says `look`.
struct Look;

impl Verify for Look {
    fn role(&self, token: &str) -> Option<Operator> {
        (token == "look").then_some(Operator::Moderator)
    }
}

fn main() -> anyhow::Result<()> {
    let listen: SocketAddr =
        std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8433".into()).parse()?;
    let tail = Arc::<LogTail>::default();
    let settings = telemetry::Settings { json: false, filter: "info", otlp_endpoint: "" };
    let telemetry = Telemetry::install(&settings, &tail)?;
    let (metrics, shards) =
        (HostMetrics::default(), ["r-1", "r-2", "r-3", "r-4"].map(ShardMetrics::new));
    let board = Arc::new(StatusBoard::new(tail));
    let sources = Sources {
        board: Arc::clone(&board),
        metrics: telemetry.metrics(),
        verify: Box::new(Look),
        map: Box::new(|| Some(ground())),
    };
    let settings = Settings { listen, open_metrics: false, names: Vec::new() };
    let http = Http::serve(settings, sources)?;
    tracing::info!(target: "server::example", listen = %http.address(), "an invented world is shown: log in with `look`");

    let clock = Clock::start();
    let (_never, pause) = mpsc::channel::<()>();
    for tick in 0_u64.. {
        let now = clock.elapsed();
        let step = invented_step(tick);
        metrics.ticks.increment(1);
        metrics.tick_seconds.record(step);
        metrics.clients.set(212.0);
        metrics.ready.set(1.0);
        metrics.pace.set(1.0);
        shards.iter().for_each(|shard| shard.entities.set(140.0));
        if board.tick(step, now) {
            board.publish(invented(tick, now), now);
        }
        if tick.is_multiple_of(60) {
            tracing::info!(target: "server::host", shard = "r-2", tick, clients = 212, "came in");
        }
        if tick % 170 == 40 {
            tracing::warn!(target: "server::store", millis = 84, pending = 311, "commit is slow");
        }
        // Nothing is ever sent: this only waits.
        if pause.recv_timeout(Duration::from_millis(50)).is_ok() {
            break;
        }
    }
    Ok(())
}

fn invented_step(tick: u64) -> Duration {
    let wave = (tick as f32 / 40.0).sin() * 2.0;
    let spike = if tick.is_multiple_of(97) { 24.0 } else { 0.0 };
    let rare = if tick.is_multiple_of(331) { 40.0 } else { 0.0 };
    let noise = ((tick.wrapping_mul(2_654_435_761)) >> 8 & 0xFF) as f32 / 120.0;
    Duration::from_secs_f32((8.0 + wave + spike + rare + noise) / 1_000.0)
}

fn invented(tick: u64, now: Duration) -> Status {
    let shard = |index: u32| ShardStatus {
        id: format!("r-{}", index + 1),
        region: format!(
            "{}, {}",
            ["west", "east"][index as usize % 2],
            ["north", "south"][index as usize / 2]
        ),
        entities: 640 + index * 37,
        clients: 44 + index * 6,
        step_ms: 1.8 + index as f32 * 0.7,
        ghosts: 12 + index,
        epoch: 7,
        place: format!("thread {}", index % 2),
    };
    Status {
        world: "Vale of Ash".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        tick: 1_284_000 + tick,
        hz: 20,
        pace_permille: 1_000,
        uptime_s: 3_600 * 26 + now.as_secs(),
        clients: 212,
        clients_max: 1_000,
        entities: 2_782,
        shards: (0..4).map(shard).collect(),
        store: StoreStatus { durable: 91_220 + tick, pending: tick % 9, bytes: 184_300_000 },
        map: MapArea::default(),
        dots: (0..900).map(|key| dot(key, tick as f32 / 20.0)).collect(),
        ready: true,
        ..Status::default()
    }
}

/// Walkers in circles around villages; things that stay.
fn dot(key: u32, seconds: f32) -> Dot {
    let unit = |salt: u32| {
        let mixed = (key ^ salt.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x7FEB_352D);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x846C_A68B);
        ((mixed ^ (mixed >> 16)) >> 8) as f32 / 16_777_216.0
    };
    let kind = match key % 9 {
        0 | 1 => DotKind::Client,
        2..=4 => DotKind::Npc,
        _ => DotKind::Thing,
    };
    let village = key % 7;
    let (cx, cz) = ((village as f32 * 2.4).sin() * 300.0, (village as f32 * 1.7).cos() * 330.0);
    let radius = 8.0 + unit(1).powi(2) * 170.0;
    let speed = if kind == DotKind::Thing { 0.0 } else { 1.4 / radius };
    let angle = unit(2) * TAU + seconds * speed;
    let heading = angle + TAU / 2.0;
    Dot {
        key,
        kind,
        x_m: cx + angle.cos() * radius,
        z_m: cz + angle.sin() * radius,
        yaw: (heading.to_degrees() as i32).rem_euclid(360) as u16,
    }
}

/// A PNG of invented hills, written without a library: stored blocks, no compression.
fn ground() -> Vec<u8> {
    const WIDTH: usize = 256;
    let mut rows = Vec::with_capacity(WIDTH * (WIDTH * 3 + 1));
    for z in 0..WIDTH {
        rows.push(0);
        for x in 0..WIDTH {
            let (u, v) = (x as f32 / 40.0, z as f32 / 40.0);
            let height = (u.sin() + (v * 1.3).cos() + (u * 0.6 + v).sin()) / 3.0;
            let slope = (u.cos() - (v * 1.3).sin() * 1.3) * 0.14;
            let shade = 0.72 + slope + height * 0.12;
            let colour = if height < -0.32 {
                [44.0, 92.0, 122.0]
            } else if height < 0.4 {
                [104.0, 134.0, 84.0]
            } else {
                [148.0, 134.0, 108.0]
            };
            rows.extend(colour.map(|part: f32| (part * shade).clamp(0.0, 255.0) as u8));
        }
    }
    png(WIDTH as u32, &rows)
}

fn png(width: u32, rows: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = rows.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (a, b) = rows.iter().fold((1_u32, 0_u32), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    stream.extend((b << 16 | a).to_be_bytes());
    let mut head = [width.to_be_bytes(), width.to_be_bytes()].concat();
    head.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [(b"IHDR", &head), (b"IDAT", &stream), (b"IEND", &Vec::new())] {
        file.extend((content.len() as u32).to_be_bytes());
        let begin = file.len();
        file.extend(kind);
        file.extend(content);
        let sum = crc(&file[begin..]);
        file.extend(sum.to_be_bytes());
    }
    file
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
