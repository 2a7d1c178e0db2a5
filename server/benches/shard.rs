//! What one tick of a region costs: interest alone, whole steps of crowds, and moving a shard.
//!
//! `cargo bench -p server --bench shard`; steps are divided by their clients in the column of items.

use std::collections::BTreeSet;
use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use protocol::delta::Acks;
use protocol::ground::{CHUNK_SAMPLES, HeightGrid};
use protocol::ids::{ChunkId, EntityId, IdMint, PersonId};
use protocol::input::{self, Input, InputDatagram, InputHead};
use protocol::limits::DATAGRAM_BYTES_MAX;
use protocol::message::common::Appearance;
use protocol::message::server::Being;
use protocol::motion::{Body, MotionRules};
use protocol::rules::{RuleBook, ThingsRecord};
use protocol::units::{Position, TICK_HZ_DEFAULT, Tick, Yaw};
use server::link;
use server::region::{RegionIndex, Regions};
use server::shard::avatar::Avatar;
use server::shard::batch::{Command, StepInput, StepOutput, Traveller};
use server::shard::entities::About;
use server::shard::interest::Grid;
use server::shard::pack::Packed;
use server::shard::viewer::{ClientKey, Told};
use server::shard::{Shard, WorldRules};
use worldgen::chunk::{Chunk, Surface};

/// One region a kilometre wide, as a world has by default.
const WIDTH_CM: i32 = 102_400;

/// Ticks after which everybody is shown everything and acknowledges it.
const WARM_TICKS: u64 = 60;

/// Ticks of one sample: everyone looks around five times.
const TICKS: u64 = 20;

fn main() {
    divan::main();
}

/// A number that looks like chance, from its index.
fn scatter(index: u64) -> u64 {
    let mut bits = index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB) ^ bits >> 31
}

/// A place for one of a crowd in a square of this side around the middle.
fn place(index: u64, side_cm: i32) -> Position {
    let at = |bits: u64| i32::try_from(bits % u64::from(side_cm.unsigned_abs())).unwrap_or(0);
    let half = side_cm / 2;
    Position::new(at(scatter(2 * index)) - half, 0, at(scatter(2 * index + 1)) - half)
}

/// The side of a square that holds `count` people at 100 square metres each, at most the region's.
fn village_cm(count: u64) -> i32 {
    i32::try_from((count * 100).isqrt() * 100).unwrap_or(WIDTH_CM).min(WIDTH_CM)
}

/// A crowd in one region, everyone with a client that acknowledges what it got a tick ago.
struct Crowd {
    shard: Shard,
    rules: WorldRules,
    tick: Tick,
    count: u64,
    output: StepOutput,
}

impl Crowd {
    fn new(count: u64, side_cm: i32) -> Self {
        let regions = Regions::new(1, WIDTH_CM);
        let half_width_cm = regions.half_width_cm();
        let rules = WorldRules {
            regions: regions.clone(),
            motion: MotionRules { hz: TICK_HZ_DEFAULT, half_width_cm, ..MotionRules::default() },
            book: Arc::new(RuleBook::starter()),
            view_cm: 15_000,
            nearby_cm: 2_000,
            whisper_cm: 300,
        };
        let region = regions.region(RegionIndex(0)).expect("a region");
        let shard = Shard::new(region, rules.clone(), IdMint::new(1));
        let mut crowd = Self { shard, rules, tick: Tick(0), count, output: StepOutput::default() };
        let mut commands = Vec::new();
        let chunks = -2 - side_cm / 12_800..=2 + side_cm / 12_800;
        for x in chunks.clone() {
            commands
                .extend(chunks.clone().map(|z| Command::Ground(flat(ChunkId { level: 0, x, z }))));
        }
        for index in 0..count {
            let id = EntityId(1 + index);
            let person = PersonId(id.0);
            let being =
                Being::Avatar { person, name: id.to_string(), appearance: Appearance::default() };
            let about = Arc::new(About { being, version: 0 });
            let body = Body::standing(place(index, side_cm), Yaw::NORTH);
            let avatar = Avatar::new(id, person, about, body);
            let things = ThingsRecord::default();
            commands.push(Command::Enter(Box::new(Traveller {
                avatar,
                things,
                viewer: None,
                errand: None,
            })));
            let (client, hidden, told) = (ClientKey(id.0), BTreeSet::new(), Told::default());
            commands.push(Command::Attach { avatar: id, client, hidden, told });
        }
        crowd.step(commands);
        (0..WARM_TICKS).for_each(|_| crowd.step(Vec::new()));
        crowd
    }

    /// Everyone walks, and turns now and then; four fifths of them at a time.
    fn inputs(&self) -> Vec<(EntityId, InputDatagram)> {
        let mut bytes = Vec::new();
        let all = (0..self.count).map(|index| {
            let turn = self.tick.0 / 40 + index;
            let forward = if scatter(turn).is_multiple_of(5) { 0 } else { 127 };
            let yaw = Yaw((scatter(index ^ turn) & 0xFFFF) as u16);
            let input = Input { forward, yaw, ..Input::default() };
            let newest = Tick(self.tick.0.saturating_sub(1)).low();
            let head = InputHead {
                newest: self.tick.low(),
                acks: (self.tick.0 > 1).then_some(Acks { newest, before: u32::MAX }),
                announcements: u16::MAX,
                buffer_ticks: 2,
                has_lost_everything: false,
            };
            bytes.clear();
            input::encode(&head, &[input; 3], &[], &mut bytes);
            let datagram = InputDatagram::decode(&bytes).expect("what was encoded");
            (EntityId(1 + index), datagram)
        });
        all.collect()
    }

    fn step(&mut self, commands: Vec<Command>) {
        let inputs = self.inputs();
        self.step_with(inputs, commands);
    }

    fn step_with(&mut self, inputs: Vec<(EntityId, InputDatagram)>, commands: Vec<Command>) {
        self.tick = self.tick.next();
        let input = StepInput {
            tick: self.tick,
            epoch: server::store::Epoch::default(),
            pace_permille: 1_000,
            frame_bytes_max: DATAGRAM_BYTES_MAX,
            is_survey: false,
            inputs,
            commands,
        };
        self.output = StepOutput::default();
        self.shard.step(input, &mut self.output);
    }
}

fn flat(id: ChunkId) -> Arc<Chunk> {
    let samples = CHUNK_SAMPLES * CHUNK_SAMPLES;
    let grid = HeightGrid::new(vec![0; samples].into_boxed_slice()).expect("as many as needed");
    let surface = vec![Surface::Grass; samples].into_boxed_slice();
    Arc::new(Chunk::new(id, grid, surface).expect("flat ground is ground"))
}

fn steps(bencher: Bencher<'_, '_>, count: u64, side_cm: i32) {
    let mut crowd = Crowd::new(count, side_cm);
    bencher.counter(ItemsCount::new(count * TICKS)).bench_local(|| {
        for _ in 0..TICKS {
            crowd.step(Vec::new());
            black_box(&crowd.output);
        }
    });
}

/// Twenty ticks of everyone who walks about a village, 100 square metres for each.
#[divan::bench(args = [500, 2_500], sample_count = 20)]
fn twenty_steps_of_a_village(bencher: Bencher<'_, '_>, count: u64) {
    steps(bencher, count, village_cm(count));
}

/// Twenty ticks of everyone on one square of 40 m.
#[divan::bench(args = [500, 2_500], sample_count = 20)]
fn twenty_steps_of_a_square(bencher: Bencher<'_, '_>, count: u64) {
    steps(bencher, count, 4_000);
}

/// What the inputs of these crowds cost to make and to read: to be taken off the steps.
#[divan::bench(args = [500, 2_500], sample_count = 20)]
fn twenty_ticks_of_inputs_alone(bencher: Bencher<'_, '_>, count: u64) {
    let crowd = Crowd::new(count, village_cm(count));
    bencher.counter(ItemsCount::new(count * TICKS)).bench_local(|| {
        for _ in 0..TICKS {
            black_box(crowd.inputs());
        }
    });
}

/// Sorting everybody into the grid.
#[divan::bench(args = [1_000, 5_000, 20_000])]
fn grid(bencher: Bencher<'_, '_>, count: u64) {
    let side = village_cm(count);
    let places: Vec<_> = (0..count).map(|index| (index as u32, place(index, side))).collect();
    let mut grid = Grid::default();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        grid.rebuild((-WIDTH_CM / 2, -WIDTH_CM / 2, WIDTH_CM), places.iter().copied());
    });
}

/// The 64 nearest of everybody.
#[divan::bench(args = [1_000, 5_000, 20_000])]
fn nearest_64(bencher: Bencher<'_, '_>, count: u64) {
    let side = village_cm(count);
    let places: Vec<_> = (0..count).map(|index| (index as u32, place(index, side))).collect();
    let (mut grid, mut found) = (Grid::default(), Vec::new());
    grid.rebuild((-WIDTH_CM / 2, -WIDTH_CM / 2, WIDTH_CM), places.iter().copied());
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        for (_, at) in &places {
            grid.nearest((at.x, at.z), 64, 15_000, &mut found);
            black_box(&found);
        }
    });
}

/// Packing a shard of 500 up, sending it as a link does, and unpacking it.
#[divan::bench(sample_count = 20)]
fn move_a_shard_of_500(bencher: Bencher<'_, '_>) {
    let rules = Crowd::new(1, 4_000).rules;
    let shard = || Crowd::new(500, village_cm(500)).shard;
    bencher.with_inputs(shard).bench_local_values(|shard| {
        let frame = link::write(&shard.pack()).expect("a shard fits a frame");
        let packed: Packed = link::read(&frame[link::LENGTH_BYTES..]).expect("what was written");
        packed.unpack(rules.clone()).expect("what was packed")
    });
}
