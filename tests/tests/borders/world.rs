//! The real shards and switchboard, with the gateway's order of things and clients that see
//! everything at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use protocol::ground::{CHUNK_SAMPLES, HeightGrid};
use protocol::ids::{ChunkId, EntityId, IdMint, PersonId};
use protocol::input::{Input, RUN};
use protocol::limits::DATAGRAM_BYTES_MAX;
use protocol::message::common::Appearance;
use protocol::message::server::Being;
use protocol::motion::{Body, MotionRules};
use protocol::rules::{Act, Holder, RuleBook, Thing, ThingsRecord};
use protocol::units::{Position, TICK_HZ_DEFAULT, Tick, Yaw};
use server::link::{self, LENGTH_BYTES};
use server::region::{Bounds, Change, RegionIndex, Regions};
use server::shard::avatar::Avatar;
use server::shard::batch::{Command, StepOutput, Traveller};
use server::shard::divide::{Redone, redraw};
use server::shard::entities::About;
use server::shard::pack::Packed;
use server::shard::viewer::{ClientKey, Told};
use server::shard::{Shard, WorldRules};
use server::switchboard::Switchboard;
use tests::dice::Dice;
use tests::sim::keeping::Keeping;
use worldgen::chunk::{Chunk, Surface};

use super::client::Client;

const WALKERS: u64 = 100;

/// Stacks that lie about, few enough for everyone near to be shown at once.
const STACKS: u64 = 60;

const WIDTH_CM: i32 = 6_400;
const VIEW_CM: i32 = 4_000;

/// Whoever stays this near must be seen all the time.
const NEAR_CM: u32 = 3_000;

/// Ticks in which somebody who comes near must be seen.
const NOTICE_TICKS: u32 = 10;

/// How far off the truth a state in a frame may be, in centimetres: somebody next door who turns
/// round at a run is shown two ticks too far.
const SEEN_OFF_CM: u32 = 110;

const TICK_US: u64 = 50_000;

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub crossings: u64,
    pub divisions: u64,
    pub done: u64,
    pub trades: u64,
    pub correction_cm_max: f64,
    pub seen_off_cm_max: u32,
}

pub struct World {
    regions: Regions,
    book: Arc<RuleBook>,
    shards: BTreeMap<RegionIndex, Shard>,
    /// Ids for shards that come of a change.
    ids: IdMint,
    rules: WorldRules,
    routes: Switchboard,
    clients: Vec<Client>,
    keeping: Keeping,
    tick: Tick,
    chance: Dice,
    is_resting: bool,
    hasher: DefaultHasher,
    truth: BTreeMap<EntityId, Position>,
    past: VecDeque<(Tick, BTreeMap<EntityId, Position>)>,
    near_ticks: BTreeMap<(EntityId, EntityId), u32>,
    /// How many stacks each region's shard has.
    pub stacks: BTreeMap<RegionIndex, usize>,
    pub figures: Figures,
}

impl World {
    /// Returns a crowd and what lies about, spread by chance.
    pub fn new(seed: u64) -> Self {
        let half_width_cm = Regions::new(3, WIDTH_CM).half_width_cm();
        let mut chance = Dice(seed);
        let things = things(&mut chance, &RuleBook::starter(), half_width_cm);
        let walkers = (0..WALKERS).map(|_| chance.place(half_width_cm - 100)).collect::<Vec<_>>();
        Self::with(chance, things, &walkers)
    }

    /// Returns walkers who only do what they are told, among these things: kind and place.
    pub fn staged(things: &[(&str, Position)], walkers: &[Position]) -> Self {
        let book = RuleBook::starter();
        let things = (0..).zip(things).map(|(index, &(name, at))| {
            let holder = Holder::Placed { at, yaw: Yaw::NORTH };
            let kind = book.kind_named(name).expect(name);
            Thing::new(thing_id(index), kind.id, 1, holder)
        });
        let mut world = Self::with(Dice(0), things.collect(), walkers);
        world.is_resting = true;
        world
    }

    fn with(chance: Dice, things: Vec<Thing>, walkers: &[Position]) -> Self {
        let regions = Regions::new(3, WIDTH_CM);
        let half_width_cm = regions.half_width_cm();
        let motion = MotionRules { hz: TICK_HZ_DEFAULT, half_width_cm, ..MotionRules::default() };
        let book = Arc::new(RuleBook::starter());
        let rules = WorldRules {
            regions: regions.clone(),
            motion: motion.clone(),
            book: Arc::clone(&book),
            view_cm: VIEW_CM,
            nearby_cm: 2_000,
            whisper_cm: 300,
        };
        let mut ids = IdMint::new(1);
        let mut mint = || ids.split(1 << 32).expect("there are enough");
        let shards =
            regions.iter().map(|region| (region.index, Shard::new(region, rules.clone(), mint())));
        let mut world = Self {
            book,
            shards: shards.collect(),
            ids: IdMint::new(3),
            rules: rules.clone(),
            routes: Switchboard::new(regions.clone()),
            regions: regions.clone(),
            clients: Vec::new(),
            keeping: Keeping::of(&things),
            tick: Tick(0),
            chance,
            is_resting: false,
            hasher: DefaultHasher::new(),
            truth: BTreeMap::new(),
            past: VecDeque::new(),
            near_ticks: BTreeMap::new(),
            stacks: BTreeMap::new(),
            figures: Figures::default(),
        };
        for thing in things {
            let at = thing.place().expect("placed");
            world.routes.push(regions.index_of(at), Command::Things(vec![thing]));
        }
        for (id, &at) in (1..).zip(walkers) {
            world.enter(EntityId(id), at, motion.clone());
        }
        world
    }

    fn enter(&mut self, id: EntityId, at: Position, motion: MotionRules) {
        let person = PersonId(id.0);
        let being =
            Being::Avatar { person, name: id.to_string(), appearance: Appearance::default() };
        let about = Arc::new(About { being, version: 0 });
        let avatar = Avatar::new(id, person, about, Body::standing(at, Yaw::NORTH));
        let things = ThingsRecord::default();
        let traveller = Traveller { avatar, things, viewer: None, errand: None };
        self.routes.enter(id, at, Command::Enter(Box::new(traveller)));
        self.routes.drive(id, ClientKey(id.0));
        let hidden = BTreeSet::new();
        let (client, told) = (ClientKey(id.0), Told::default());
        self.routes.command(id, Command::Attach { avatar: id, client, hidden, told });
        self.clients.push(Client::new(id, at, motion));
    }

    /// Puts a walker somewhere else, as an operator does.
    pub fn put(&mut self, walker: usize, position: Position) {
        let avatar = self.clients[walker].avatar;
        self.routes.command(avatar, Command::Place { avatar, position });
        self.near_ticks.clear();
    }

    /// Packs a region's shard up as it goes to another process, and lets it go on there.
    ///
    /// Returns how many bytes that were.
    pub fn move_shard(&mut self, index: usize) -> usize {
        let region = self.regions.indices().nth(index).expect("a region");
        let shard = self.shards.remove(&region).expect("its shard");
        let frame = link::write(&shard.pack()).expect("a shard fits a frame");
        let packed: Packed = link::read(&frame[LENGTH_BYTES..]).expect("what was written");
        let shard = packed.unpack(self.rules.clone()).expect("what was packed");
        self.shards.insert(region, shard);
        frame.len()
    }

    /// Divides the world otherwise between two ticks; returns the new regions.
    pub fn divide(&mut self, change: Change) -> Vec<RegionIndex> {
        let bounds = Bounds { width_cm_min: 0, count_max: 64 };
        let drawn = self.regions.redrawn(change, bounds).expect("it can be");
        let old = drawn.gone.iter().map(|region| self.shards.remove(region).expect("its shard"));
        let old: Vec<Shard> = old.collect();
        let mut heard = StepOutput::default();
        for shard in &old {
            for ripple in self.routes.take_ripples(shard.region()) {
                shard.perceive(&ripple, &mut heard);
            }
        }
        let now_us = self.tick.0 * TICK_US;
        self.deliver(&heard, now_us);
        let mints = drawn.new.iter().map(|_| self.ids.split(1 << 20).expect("there are enough"));
        let mints = mints.collect();
        let coming = self.routes.coming(&drawn.gone);
        let Redone { shards, told, .. } = redraw(old, &drawn, mints, &coming);
        self.routes.redivide(&Arc::new(told));
        self.shards.extend(shards.into_iter().map(|shard| (shard.region(), shard)));
        self.regions = drawn.regions.clone();
        self.rules.regions = drawn.regions;
        self.stacks.clear();
        drawn.new
    }

    /// Splits or merges a region by chance.
    pub fn divide_by_chance(&mut self, chance: &mut Dice) {
        let regions: Vec<RegionIndex> = self.regions.indices().collect();
        let region = regions[chance.below(regions.len() as u64) as usize];
        let bounds = Bounds { width_cm_min: 0, count_max: 64 };
        let wishes = [Change::Split(region), Change::Merge(region)];
        let mut can_be = wishes.into_iter().filter(|&it| self.regions.redrawn(it, bounds).is_ok());
        if let Some(change) = can_be.next() {
            self.divide(change);
            self.figures.divisions += 1;
        }
    }

    /// Returns the region of a place.
    pub fn region_of(&self, place: Position) -> RegionIndex {
        self.regions.index_of(place)
    }

    /// Lets a walker of a staged world go towards `yaw`, running, from now on.
    pub fn run(&mut self, walker: usize, yaw: Yaw) {
        self.clients[walker].steering =
            Input { forward: 127, yaw, buttons: RUN, ..Input::default() };
    }

    /// Lets a walker of a staged world stand still.
    pub fn halt(&mut self, walker: usize) {
        self.clients[walker].steering.forward = 0;
    }

    /// Lets a walker of a staged world do something.
    pub fn begin(&mut self, walker: usize, act: Act) {
        let client = &mut self.clients[walker];
        let (avatar, request) = (client.avatar, client.ask(self.tick));
        self.routes.ask(avatar, Command::Do { avatar, request, act });
    }

    /// Returns where a walker is.
    pub fn at(&self, walker: usize) -> Position {
        self.truth[&self.clients[walker].avatar]
    }

    /// Returns a walker's client.
    pub fn client(&self, walker: usize) -> &Client {
        &self.clients[walker]
    }

    /// Lets everybody stand still from now on, and do nothing.
    pub fn rest(&mut self) {
        self.is_resting = true;
        for client in &mut self.clients {
            client.steering.forward = 0;
        }
    }

    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub fn tick(&mut self) {
        self.tick = self.tick.next();
        let now_us = self.tick.0 * TICK_US;
        self.steer(now_us);
        let regions: Vec<RegionIndex> = self.regions.iter().map(|region| region.index).collect();
        let inputs: Vec<_> = regions
            .iter()
            .map(|&region| {
                let mut input = self.routes.take(region, self.tick);
                input.pace_permille = 1_000;
                input.frame_bytes_max = DATAGRAM_BYTES_MAX;
                input.is_survey = true;
                input
            })
            .collect();
        let mut owners = BTreeMap::<EntityId, u32>::new();
        let mut framed = BTreeMap::<ClientKey, u32>::new();
        let mut stacks = 0;
        self.truth.clear();
        for (index, input) in inputs.into_iter().enumerate() {
            let mut output = StepOutput::default();
            let shard = self.shards.get_mut(&regions[index]).expect("its shard");
            shard.step(input, &mut output);
            self.note(&output);
            for &(client, _) in &output.frames {
                *framed.entry(client).or_default() += 1;
            }
            for seen in &output.whereabouts {
                *owners.entry(seen.avatar).or_default() += 1;
                self.truth.insert(seen.avatar, seen.position);
            }
            for (_, traveller) in &output.travellers {
                *owners.entry(traveller.avatar.id).or_default() += 1;
                self.truth.insert(traveller.avatar.id, traveller.avatar.body.position());
                stacks += traveller.things.things.len();
                self.figures.crossings += 1;
            }
            stacks += output.counts.things;
            self.stacks.insert(regions[index], output.counts.things);
            for entry in &output.journal {
                self.keeping.take_in(entry).expect("what is taken away was there");
            }
            self.deliver(&output, now_us);
            // Clients talk while some shards have answered and others have not.
            self.act(index);
            self.lay_ground(&output);
            stacks += output.things.iter().map(|(_, things)| things.len()).sum::<usize>();
            self.routes.absorb(regions[index], self.tick, &mut output);
        }
        self.past.push_back((self.tick, self.truth.clone()));
        if 64 < self.past.len() {
            self.past.pop_front();
        }
        assert_eq!(owners.len(), self.clients.len(), "somebody is owned by no one");
        assert!(owners.values().all(|&count| count == 1), "somebody is owned twice: {owners:?}");
        assert_eq!(framed.len(), self.clients.len(), "somebody got no frame of this tick");
        assert!(framed.values().all(|&count| count == 1), "somebody got two frames: {framed:?}");
        self.keeping.check().expect("nothing is doubled or lost");
        assert_eq!(stacks, self.keeping.len(), "shards and store hold the same things");
        self.check_views();
    }

    fn steer(&mut self, now_us: u64) {
        let half_width_cm = self.regions.half_width_cm();
        for client in &mut self.clients {
            if !self.is_resting {
                client.wander(&mut self.chance, half_width_cm);
            }
            if let Some(input) = client.input(now_us) {
                self.routes.input(ClientKey(client.avatar.0), input);
            }
        }
    }

    /// Lets some of the walkers do something.
    fn act(&mut self, turn: usize) {
        if self.is_resting || self.tick < Tick(20) {
            return;
        }
        let regions = self.regions.count();
        for client in self.clients.iter_mut().skip(turn).step_by(regions) {
            if !self.chance.one_in(8) {
                continue;
            }
            let Some(act) = client.wish(&mut self.chance) else { continue };
            let (avatar, request) = (client.avatar, client.ask(self.tick));
            self.routes.ask(avatar, Command::Do { avatar, request, act });
        }
    }

    fn lay_ground(&mut self, output: &StepOutput) {
        for &(region, chunk, _) in &output.wanted {
            self.routes.push(region, Command::Ground(flat(chunk)));
        }
    }

    fn deliver(&mut self, output: &StepOutput, now_us: u64) {
        for letter in &output.letters {
            if let Some(request) = server::post::answer(&letter.message) {
                self.routes.answer(letter.to, request);
            }
            self.clients[letter.to.0 as usize - 1].hear(&letter.message, &self.book);
        }
        let mut start = 0;
        for &(client, end) in &output.frames {
            self.clients[client.0 as usize - 1].frame(&output.frame_bytes[start..end], now_us);
            start = end;
        }
        self.figures.done = self.clients.iter().map(|client| client.done).sum();
        let trades = output.journal.iter().filter_map(|entry| entry.event.as_ref());
        let is_trade = |verb| matches!(verb, protocol::rules::Verb::Accept);
        self.figures.trades += trades.filter(|event| is_trade(event.verb)).count() as u64;
    }

    fn note(&mut self, output: &StepOutput) {
        let mut bytes = Vec::new();
        for letter in &output.letters {
            letter.message.write(&mut bytes);
        }
        self.hasher.write(&bytes);
        self.hasher.write(&output.frame_bytes);
        self.hasher.write(format!("{:?}{:?}", output.journal, output.ghosts).as_bytes());
    }

    /// Checks that whoever is near stays in view, where they are, and that requests are answered.
    fn check_views(&mut self) {
        for client in &mut self.clients {
            client.check_answers(self.tick);
            let here = self.truth[&client.avatar];
            for (&other, &at) in self.truth.iter().filter(|(id, _)| **id != client.avatar) {
                let ticks = self.near_ticks.entry((client.avatar, other)).or_default();
                *ticks = if here.is_within(at, NEAR_CM) { *ticks + 1 } else { 0 };
                if *ticks <= NOTICE_TICKS {
                    continue;
                }
                let Some(entity) = client.replica.entity(other) else {
                    panic!(
                        "{:?}: {} at {here:?} does not see {other} at {at:?}",
                        self.tick, client.avatar
                    );
                };
                let (tick, state) = entity.newest();
                let past = self.past.iter().find(|(then, _)| *then == tick);
                let Some((_, then)) = past else { continue };
                let off_cm = then[&other].ground_distance_squared(state.position).isqrt() as u32;
                self.figures.seen_off_cm_max = self.figures.seen_off_cm_max.max(off_cm);
                assert!(
                    off_cm <= SEEN_OFF_CM,
                    "{:?}: {} sees {other} {off_cm} cm off",
                    self.tick,
                    client.avatar
                );
            }
            if 40 < self.tick.0 {
                let worst = client.corrections_cm.drain(..).fold(0.0, f64::max);
                self.figures.correction_cm_max = self.figures.correction_cm_max.max(worst);
            } else {
                client.corrections_cm.clear();
            }
        }
    }

    /// Checks, while all is at rest, that every picture shows exactly what is there.
    pub fn check_that_everyone_sees_what_there_is(&self) {
        for client in &self.clients {
            let here = self.truth[&client.avatar];
            let reach = u32::try_from(VIEW_CM).expect("positive");
            let mut there: BTreeMap<EntityId, Position> = self.truth.clone();
            there.remove(&client.avatar);
            there.extend(self.keeping.placed().map(|it| (it.id, it.place().expect("placed"))));
            there.retain(|_, at| here.is_within(*at, reach));
            let seen: BTreeMap<EntityId, Position> = client
                .replica
                .entities()
                .map(|entity| (entity.id, entity.newest().1.position))
                .collect();
            assert_eq!(seen, there, "{} at {here:?}", client.avatar);
        }
    }

    pub fn check_that_everyone_knows_what_they_hold(&self) {
        for client in &self.clients {
            let holding = &client.replica.log().holding;
            let known: BTreeMap<EntityId, u32> =
                holding.iter().map(|thing| (thing.id, thing.count)).collect();
            assert_eq!(known, self.keeping.held_by(PersonId(client.avatar.0)), "{}", client.avatar);
        }
    }
}

fn things(chance: &mut Dice, book: &RuleBook, half_cm: i32) -> Vec<Thing> {
    let kinds = ["apple", "plank", "stone", "rope"].map(|name| book.kind_named(name).expect(name));
    let stacks = 0..STACKS;
    stacks
        .map(|index| {
            let kind = kinds[index as usize % kinds.len()];
            let holder = Holder::Placed { at: chance.place(half_cm), yaw: Yaw::NORTH };
            Thing::new(thing_id(index), kind.id, 4, holder)
        })
        .collect()
}

/// Ids of another epoch than the shards' mints.
pub const fn thing_id(index: u64) -> EntityId {
    EntityId((9 << 40) + index)
}

fn flat(id: ChunkId) -> Arc<Chunk> {
    let samples = CHUNK_SAMPLES * CHUNK_SAMPLES;
    let grid = HeightGrid::new(vec![0; samples].into_boxed_slice()).expect("as many as needed");
    let surface = vec![Surface::Grass; samples].into_boxed_slice();
    Arc::new(Chunk::new(id, grid, surface).expect("flat ground is ground"))
}
