//! The store of things seen from outside: effects in, holdings out.

use super::*;
use crate::rules::Change;
use crate::units::Yaw;

const KIND: KindId = KindId(1);
const HOLDER: EntityId = EntityId(100);

fn stack(id: u64, count: u32) -> Thing {
    Thing::new(EntityId(id), KIND, count, Holder::Held(HOLDER))
}

fn placed(id: u64, x: i32, z: i32) -> Thing {
    let holder = Holder::Placed { at: Position::new(x, 0, z), yaw: Yaw::NORTH };
    Thing::new(EntityId(id), KIND, 1, holder)
}

#[test]
fn a_stack_is_split_and_joined() {
    let mut things = Things::default();
    things.apply(&Effect::Create(stack(1, 5))).unwrap();
    let to = Holder::Held(EntityId(200));
    let split = Effect::Split { thing: EntityId(1), count: 2, new: EntityId(2), to };
    things.apply(&split).unwrap();
    assert_eq!(things.count_of(HOLDER, KIND), 3);
    assert_eq!(things.count_of(EntityId(200), KIND), 2);
    let merge = Effect::Merge { from: EntityId(1), count: 3, into: EntityId(2) };
    things.apply(&merge).unwrap();
    assert_eq!((things.len(), things.count_of(EntityId(200), KIND)), (1, 5));
    assert_eq!(things.stacks_of(HOLDER), 0);
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let mut things = Things::default();
    things.apply(&Effect::Create(stack(1, 5))).unwrap();
    let before = things.clone();
    let id = EntityId(1);
    let to = Holder::Held(HOLDER);
    for misfit in [
        Effect::Create(stack(1, 1)),
        Effect::Create(stack(2, 0)),
        Effect::Consume { thing: id, count: 6 },
        Effect::Consume { thing: EntityId(9), count: 1 },
        Effect::Split { thing: id, count: 5, new: EntityId(2), to },
        Effect::Split { thing: id, count: 1, new: id, to },
        Effect::Merge { from: id, count: 1, into: id },
        Effect::EndOffer { offer: OfferId(1), end: OfferEnd::Expired },
    ] {
        assert!(things.apply(&misfit).is_err(), "{misfit:?}");
        assert_eq!(things, before);
    }
}

#[test]
fn what_is_near_is_found_across_cells() {
    let mut things = Things::default();
    for (id, x, z) in [(1, 0, 0), (2, -10, -10), (3, 1_700, 0), (4, 5_000, 0)] {
        things.apply(&Effect::Create(placed(id, x, z))).unwrap();
    }
    let near = |reach| {
        let mut ids: Vec<u64> =
            things.near(Position::new(0, 0, 0), reach).map(|thing| thing.id.0).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(near(20), [1, 2]);
    assert_eq!(near(1_700), [1, 2, 3]);
    assert_eq!(near(u32::MAX), [1, 2, 3, 4]);
}

#[test]
fn a_record_restores_everything() {
    let mut things = Things::default();
    things.apply(&Effect::Create(stack(1, 5))).unwrap();
    things.apply(&Effect::Create(placed(2, 7, 7))).unwrap();
    let owner = Change::Owner(Some(HOLDER));
    things.apply(&Effect::Set { thing: EntityId(2), change: owner }).unwrap();
    let record = things.record();
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&record).unwrap();
    let read = rkyv::from_bytes::<ThingsRecord, rkyv::rancor::Error>(&bytes).unwrap();
    assert_eq!(Things::restore(read).unwrap(), things);
    let whole = things.clone();
    let taken = things.take_out(HOLDER);
    assert_eq!((taken.things.len(), things.len(), things.owned_by(HOLDER)), (1, 1, 1));
    things.bring_in(taken.clone()).unwrap();
    assert_eq!(things, whole);
    assert_eq!(things.bring_in(taken), Err(Misfit::Twice(EntityId(1))));
    assert_eq!(things, whole);
}
