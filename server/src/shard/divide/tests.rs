//! Split and merged, a shard is the same one to the byte; in between everything is in one quarter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::ids::{EntityId, IdMint, PersonId};
use protocol::limits::DATAGRAM_BYTES_MAX;
use protocol::message::common::Appearance;
use protocol::message::server::Being;
use protocol::motion::{Body, MotionRules};
use protocol::rules::{Holder, RuleBook, Thing, ThingsRecord};
use protocol::units::{Position, Tick, Yaw};
use rkyv::rancor;

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

/// Returns somebody who comes in and holds a box with something in it.
fn traveller(id: u64, at: Position) -> Traveller {
    let body = Body::standing(at, Yaw::NORTH);
    let avatar = Avatar::new(EntityId(id), PersonId(id), about(id), body);
    let book = RuleBook::starter();
    let kind = book.kind_named("apple").expect("a kind").id;
    let held = Thing::new(EntityId(1_000 + id), kind, 3, Holder::Held(EntityId(id)));
    let things = ThingsRecord { things: vec![held], ..ThingsRecord::default() };
    Traveller { avatar, things, viewer: None, errand: None }
}

fn placed(id: u64, at: Position) -> Thing {
    let kind = RuleBook::starter().kind_named("plank").expect("a kind").id;
    Thing::new(EntityId(id), kind, 2, Holder::Placed { at, yaw: Yaw::NORTH })
}

fn step(shard: &mut Shard, commands: Vec<Command>) -> StepOutput {
    let input = StepInput {
        tick: Tick(shard.tick().0 + 1),
        pace_permille: 1_000,
        frame_bytes_max: DATAGRAM_BYTES_MAX,
        is_survey: true,
        commands,
        ..StepInput::default()
    };
    let mut output = StepOutput::default();
    shard.step(input, &mut output);
    output
}

/// Returns a shard in which people see each other, things, and somebody next door.
fn crowded(people: &[(i32, i32)], things: &[(i32, i32)]) -> Shard {
    let rules = rules();
    let region = rules.regions.region(WHOLE).expect("the middle");
    let mut shard = Shard::new(region, rules, IdMint::new(1));
    let place = |&(x, z): &(i32, i32)| Position::new(x, 0, z);
    let mut commands = Vec::new();
    for (id, at) in (1..).zip(people) {
        let avatar = EntityId(id);
        commands.push(Command::Enter(Box::new(traveller(id, place(at)))));
        let (client, hidden, told) = (ClientKey(id), BTreeSet::new(), Told::default());
        commands.push(Command::Attach { avatar, client, hidden, told });
    }
    let things = (2_000..).zip(things).map(|(id, at)| placed(id, place(at)));
    commands.push(Command::Things(things.collect()));
    let ghost = Body::standing(Position::new(-6_900, 0, 33), Yaw::EAST).state();
    commands.push(Command::Ghosts(GhostBatch {
        from: RegionIndex(3),
        tick: Tick(0),
        entered: vec![(EntityId(900), ghost, about(900))],
        moved: Vec::new(),
        left: Vec::new(),
        is_whole: true,
        kept: Vec::new(),
    }));
    step(&mut shard, commands);
    for _ in 0..6 {
        step(&mut shard, Vec::new());
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
        let drawn = whole.rules.regions.redrawn(Change::Split(WHOLE), BOUNDS).expect("it can be");
        let Redone { shards, told, .. } = redraw(vec![same], &drawn, mints(4), &BTreeSet::new());
        prop_assert_eq!(sorted_things(&shards), before.clone());
        let mut owned = BTreeSet::new();
        for shard in &shards {
            for (_, entity) in shard.entities.iter().filter(|(_, it)| it.owner == Owner::Here) {
                prop_assert!(owned.insert(entity.id), "{} is owned twice", entity.id);
                prop_assert_eq!(told.owners[&entity.id], shard.region());
                prop_assert_eq!(shard.region.distance_cm(entity.state.position), 0);
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
    let ghost = shard.entities.by_id(EntityId(900)).expect("somebody next door").owner;
    assert_eq!(ghost, Owner::Neighbour(RegionIndex(12)));
    step(&mut shard, vec![Command::Redivide(told())]);
    assert_eq!(around(&shard), [0, 1, 2, 5, 6, 7, 8, 10, 12]);
    assert!(shard.entities.by_id(EntityId(900)).is_some());
}
