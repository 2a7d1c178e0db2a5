//! Split and merged, a shard is the same one to the byte; in between everything is in one quarter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::ground::{CHUNK_SAMPLES, HeightGrid};
use protocol::ids::{ChunkId, EntityId, IdMint, PersonId};
use protocol::input::{self, Input, InputDatagram, InputHead};
use protocol::limits::DATAGRAM_BYTES_MAX;
use protocol::message::common::Appearance;
use protocol::message::server::Being;
use protocol::motion::{Body, MotionRules};
use protocol::rules::{Act, Args, Holder, Offer, OfferId, RuleBook, Thing, ThingsRecord, Verb};
use protocol::state::EntityState;
use protocol::units::{Position, Tick, Yaw};
use rkyv::rancor;
use worldgen::chunk::{Chunk, Surface};

use super::{Redone, redraw};
use crate::region::{Bounds, Change, RegionIndex, Regions};
use crate::shard::avatar::Avatar;
use crate::shard::batch::{Command, StepInput, StepOutput, Traveller};
use crate::shard::entities::{About, Owner};
use crate::shard::ghosts::GhostBatch;
use crate::shard::pack::Packed;
use crate::shard::viewer::{ClientKey, Told};
use crate::shard::{Shard, WorldRules};

const BOUNDS: Bounds = Bounds { width_cm_min: 0, count_max: 64 };
const WHOLE: RegionIndex = RegionIndex(4);

/// Who works; offers the one who walks something.
const WORKER: EntityId = EntityId(1);

/// Who walks all the time.
const WALKER: EntityId = EntityId(2);

/// Somebody next door, who walks as well.
const GHOST: EntityId = EntityId(900);

fn rules() -> WorldRules {
    WorldRules {
        regions: Regions::new(3, 12_800),
        motion: MotionRules::default(),
        book: Arc::new(RuleBook::starter()),
        view_cm: 3_900,
        nearby_cm: 2_000,
        whisper_cm: 300,
    }
}

fn about(id: u64) -> Arc<About> {
    let being = Being::Avatar {
        person: PersonId(id),
        name: format!("e{id}"),
        appearance: Appearance::default(),
    };
    Arc::new(About { being, version: 0 })
}

fn flat(x: i32, z: i32) -> Arc<Chunk> {
    let samples = CHUNK_SAMPLES * CHUNK_SAMPLES;
    let grid = HeightGrid::new(vec![0; samples].into()).expect("as many as needed");
    let surface = vec![Surface::Grass; samples].into();
    Arc::new(Chunk::new(ChunkId { level: 0, x, z }, grid, surface).expect("flat ground"))
}

/// Returns somebody who comes in and holds something.
fn traveller(id: u64, at: Position) -> Traveller {
    let body = Body::standing(at, Yaw::NORTH);
    let avatar = Avatar::new(EntityId(id), PersonId(id), about(id), body);
    let mut things =
        ThingsRecord { things: vec![held(1_000 + id, id, "apple")], ..Default::default() };
    if EntityId(id) == WORKER {
        things.things.push(held(1_900, id, "fibre"));
        let (give, give_lots, want) = (Vec::new(), Vec::new(), Vec::new());
        let (from, to, until) = (WORKER, WALKER, Tick(12));
        things.offers.push(Offer { id: OfferId(1), from, to, give, give_lots, want, until });
    }
    Traveller { avatar, things, viewer: None, errand: None }
}

fn held(id: u64, by: u64, kind: &str) -> Thing {
    let kind = RuleBook::starter().kind_named(kind).expect("a kind").id;
    Thing::new(EntityId(id), kind, 4, Holder::Held(EntityId(by)))
}

fn placed(id: u64, at: Position) -> Thing {
    let kind = RuleBook::starter().kind_named("plank").expect("a kind").id;
    Thing::new(EntityId(id), kind, 2, Holder::Placed { at, yaw: Yaw::NORTH })
}

/// Returns what the walker's client sends at `tick`.
fn walks(tick: Tick) -> (EntityId, InputDatagram) {
    let head = InputHead { newest: tick.0 as u16, ..InputHead::default() };
    let mut bytes = Vec::new();
    input::encode(&head, &[Input { forward: 127, ..Input::default() }], &[], &mut bytes);
    (WALKER, InputDatagram::decode(&bytes).expect("an input"))
}

/// Returns what is told of who walks east next door, at `x` by now.
fn ghosts(tick: Tick, x: i32, is_whole: bool) -> Command {
    let body = Body::standing(Position::new(x, 0, 33), Yaw::EAST);
    let state = EntityState { velocity: [25, 0, 0], ..body.state() };
    let (mut entered, mut moved) = (Vec::new(), Vec::new());
    if is_whole {
        entered.push((GHOST, state, about(GHOST.0)));
    } else {
        moved.push((GHOST, state));
    }
    let (from, left, kept) = (RegionIndex(3), Vec::new(), Vec::new());
    Command::Ghosts(GhostBatch { from, tick, entered, moved, left, is_whole, kept })
}

fn step(shard: &mut Shard, commands: Vec<Command>) -> StepOutput {
    let tick = shard.tick().next();
    let inputs = shard.avatars.contains_key(&WALKER).then(|| walks(tick));
    let input = StepInput {
        tick,
        pace_permille: 1_000,
        frame_bytes_max: DATAGRAM_BYTES_MAX,
        is_survey: true,
        commands,
        inputs: inputs.into_iter().collect(),
        ..StepInput::default()
    };
    let mut output = StepOutput::default();
    shard.step(input, &mut output);
    output
}

/// Returns a shard in which people see each other, things, and somebody next door: the first is at
/// work and offers the second something, who walks.
fn crowded(people: &[(i32, i32)], things: &[(i32, i32)]) -> Shard {
    let rules = rules();
    let region = rules.regions.region(WHOLE).expect("the middle");
    let mut shard = Shard::new(region, rules, IdMint::new(1));
    let place = |&(x, z): &(i32, i32)| Position::new(x, 0, z);
    let ground = (-2..2).flat_map(|x| (-2..2).map(move |z| Command::Ground(flat(x, z))));
    let mut commands: Vec<Command> = ground.collect();
    for (id, at) in (1..).zip(people) {
        let avatar = EntityId(id);
        commands.push(Command::Enter(Box::new(traveller(id, place(at)))));
        let (client, hidden, told) = (ClientKey(id), BTreeSet::new(), Told::default());
        commands.push(Command::Attach { avatar, client, hidden, told });
    }
    let things = (2_000..).zip(things).map(|(id, at)| placed(id, place(at)));
    commands.push(Command::Things(things.collect()));
    commands.push(ghosts(Tick(0), -6_900, true));
    step(&mut shard, commands);
    let rope = RuleBook::starter().recipe_named("rope").expect("a recipe").id;
    let act = Act::new(Verb::Make).with(Args::Recipe(rope));
    step(&mut shard, vec![Command::Do { avatar: WORKER, request: 1, act }]);
    for tick in 2..8 {
        step(&mut shard, vec![ghosts(Tick(tick), -6_900 + 5 * tick as i32, false)]);
    }
    shard
}

fn copy(shard: Shard) -> [Shard; 2] {
    let rules = rules();
    let bytes = rkyv::to_bytes::<rancor::Error>(&shard.pack()).expect("a packed shard");
    [(); 2].map(|()| {
        let packed = rkyv::from_bytes::<Packed, rancor::Error>(&bytes).expect("what was packed");
        packed.unpack(rules.clone()).expect("what was packed")
    })
}

fn mints(count: u32) -> Vec<IdMint> {
    (0..count).map(|index| IdMint::new(10 + index)).collect()
}

fn sorted_things(shards: &[Shard]) -> BTreeMap<EntityId, Thing> {
    let all = shards.iter().flat_map(|shard| shard.things.iter());
    let mut things = BTreeMap::new();
    for thing in all {
        assert!(things.insert(thing.id, thing.clone()).is_none(), "{} is doubled", thing.id);
    }
    things
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_split_and_merged_goes_on_to_the_byte(
        people in prop::collection::btree_set((-6_399..6_399_i32, -6_399..6_399_i32), 1..14),
        things in prop::collection::btree_set((-6_390..6_390_i32, -6_390..6_390_i32), 0..20),
    ) {
        let people: Vec<_> = people.into_iter().collect();
        let things: Vec<_> = things.into_iter().collect();
        let [mut whole, same] = copy(crowded(&people, &things));
        let before = sorted_things(std::slice::from_ref(&whole));
        prop_assert!(whole.things.work(WORKER).is_some() && whole.things.offers().count() == 1);
        let drawn = whole.rules.regions.redrawn(Change::Split(WHOLE), BOUNDS).expect("it can be");
        let Redone { shards, told, .. } = redraw(vec![same], &drawn, mints(4), &BTreeSet::new());
        prop_assert_eq!(sorted_things(&shards), before.clone());
        let mut owned = BTreeSet::new();
        for shard in &shards {
            for (_, entity) in shard.entities.iter().filter(|(_, it)| it.owner == Owner::Here) {
                prop_assert!(owned.insert(entity.id), "{} is owned twice", entity.id);
                prop_assert_eq!(told.owners[&entity.id], shard.region());
                // Whoever walked across the border of the whole is still its.
                let at = entity.state.position;
                let beyond_cm = whole.region.distance_cm(at);
                prop_assert_eq!(shard.region.distance_cm(at), beyond_cm);
            }
            for avatar in shard.avatars.values() {
                let viewer = avatar.viewer.as_ref().expect("it is shown something");
                for id in viewer.shown() {
                    prop_assert!(shard.entities.by_id(id).is_some(), "{} lost sight of {id}", avatar.id);
                }
            }
        }
        prop_assert_eq!(owned.len(), people.len() + things.len());
        let change = Change::Merge(drawn.new[0]);
        let merged = drawn.regions.redrawn(change, BOUNDS).expect("it can be");
        let Redone { mut shards, .. } = redraw(shards, &merged, mints(1), &BTreeSet::new());
        let mut again = shards.pop().expect("one shard");
        prop_assert!(shards.is_empty());
        prop_assert_eq!(sorted_things(std::slice::from_ref(&again)), before);
        for _ in 0..8 {
            let (expected, found) = (step(&mut whole, Vec::new()), step(&mut again, Vec::new()));
            prop_assert_eq!(found.frames, expected.frames);
            prop_assert_eq!(found.frame_bytes, expected.frame_bytes);
            prop_assert_eq!(format!("{:?}", found.letters), format!("{:?}", expected.letters));
            prop_assert_eq!(
                format!("{:?}", found.whereabouts),
                format!("{:?}", expected.whereabouts)
            );
        }
        prop_assert_eq!(again.things.record(), whole.things.record());
        prop_assert_eq!(whole.things.offers().count(), 0, "it ran out");
    }
}

#[test]
fn a_division_that_a_shard_knows_already_changes_nothing() {
    let mut shard = crowded(&[(0, 0)], &[(10, 10)]);
    let regions = shard.rules.regions.clone();
    let drawn = regions.redrawn(Change::Split(RegionIndex(3)), BOUNDS).expect("it can be");
    let told = || {
        let (gone, new) = (drawn.gone.clone(), drawn.new.clone());
        let (owners, offers) = (BTreeMap::new(), BTreeMap::new());
        Arc::new(super::Redivision { regions: drawn.regions.clone(), gone, new, owners, offers })
    };
    let around = |shard: &Shard| -> Vec<u32> {
        shard.borders.iter().map(|border| border.region.index.0).collect()
    };
    step(&mut shard, vec![Command::Redivide(told())]);
    // Of the quarters next door those farther off than anyone sees are no neighbours.
    assert_eq!(around(&shard), [0, 1, 2, 5, 6, 7, 8, 10, 12]);
    let ghost = shard.entities.by_id(GHOST).expect("somebody next door").owner;
    assert_eq!(ghost, Owner::Neighbour(RegionIndex(12)));
    step(&mut shard, vec![Command::Redivide(told())]);
    assert_eq!(around(&shard), [0, 1, 2, 5, 6, 7, 8, 10, 12]);
    assert!(shard.entities.by_id(GHOST).is_some());
}

/// Returns the quarters of a shard and how the world is divided with them.
fn quarters(whole: Shard) -> (Vec<Shard>, Regions) {
    let drawn = whole.rules.regions.redrawn(Change::Split(WHOLE), BOUNDS).expect("it can be");
    (redraw(vec![whole], &drawn, mints(4), &BTreeSet::new()).shards, drawn.regions)
}

/// Returns what quarters are together.
fn merged(quarters: Vec<Shard>, regions: &Regions, coming: &[EntityId]) -> Shard {
    let change = Change::Merge(quarters[0].region());
    let drawn = regions.redrawn(change, BOUNDS).expect("it can be");
    let coming = coming.iter().copied().collect();
    redraw(quarters, &drawn, mints(1), &coming).shards.remove(0)
}

#[test]
fn the_newest_word_about_somebody_next_door_counts() {
    // The north-western and the south-western quarter see them.
    for told in [0, 2] {
        let (mut shards, regions) = quarters(crowded(&[], &[]));
        for (place, shard) in shards.iter_mut().enumerate() {
            let news = ghosts(shard.tick(), -6_700, false);
            step(shard, if place == told { vec![news] } else { Vec::new() });
        }
        let expected = shards[told].entities.by_id(GHOST).expect("somebody next door").state;
        let whole = merged(shards, &regions, &[]);
        assert_eq!(whole.entities.by_id(GHOST).expect("somebody next door").state, expected);
    }
}

#[test]
fn who_is_on_the_way_between_quarters_that_become_one_is_shown_until_they_are_there() {
    let avatar = EntityId(3);
    let come = |coming: &[EntityId]| {
        let people = [(-900, -900), (3_000, 0), (-800, -900)];
        let (mut shards, regions) = quarters(crowded(&people, &[]));
        let mut enters = Vec::new();
        for shard in &mut shards {
            let place = Command::Place { avatar, position: Position::new(1_300, 0, -900) };
            let is_here = shard.avatars.contains_key(&avatar);
            let output = step(shard, if is_here { vec![place] } else { Vec::new() });
            enters.extend(output.travellers.into_iter().map(|(_, it)| Command::Enter(it)));
        }
        assert_eq!(enters.len(), 1);
        let mut whole = merged(shards, &regions, coming);
        let slot = whole.entities.slot(avatar);
        let owner = whole.entities.by_id(avatar).map(|entity| entity.owner);
        step(&mut whole, enters);
        let entity = whole.entities.by_id(avatar).expect("it is here");
        assert_eq!(entity.owner, Owner::Here);
        (owner, slot == whole.entities.slot(avatar))
    };
    assert_eq!(come(&[avatar]), (Some(Owner::Neighbour(RegionIndex(13))), true));
    assert_eq!(come(&[]), (None, false), "it was nobody's");
}
