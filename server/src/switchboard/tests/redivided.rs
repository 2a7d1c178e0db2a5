//! Where everything goes that waits, or comes late, when regions are split and merged.

use protocol::rules::{Detail, Event, KindId, Phase};

use super::*;
use crate::region::{Bounds, Change, Redrawn};
use crate::shard::batch::Perceived;

const BOUNDS: Bounds = Bounds { width_cm_min: 0, count_max: 64 };
const BOB: EntityId = EntityId(8);
const NOWHERE: RegionIndex = RegionIndex(99);

/// [`HERE`] is split into 9 to 12, from the north-west to the south-east; these are somebody's.
fn split(routes: &mut Switchboard, owners: &[(EntityId, u32)]) -> BTreeMap<EntityId, RegionIndex> {
    redivide(routes, Change::Split(HERE), owners)
}

/// The quarters of [`HERE`] are merged, which are 13 from then on.
fn merge(routes: &mut Switchboard) {
    redivide(routes, Change::Merge(RegionIndex(9)), &[]);
}

fn redivide(
    routes: &mut Switchboard,
    change: Change,
    owners: &[(EntityId, u32)],
) -> BTreeMap<EntityId, RegionIndex> {
    let redrawn = routes.regions.redrawn(change, BOUNDS).expect("it can be");
    let Redrawn { regions, gone, new } = redrawn;
    let owners = owners.iter().map(|&(id, region)| (id, RegionIndex(region))).collect();
    let change = Redivision { regions, gone, new, owners, offers: BTreeMap::new() };
    routes.redivide(&Arc::new(change))
}

/// Returns a place in a quarter of [`HERE`].
fn at(quarter: u32) -> Position {
    let drawn = Regions::new(3, 6_400).redrawn(Change::Split(HERE), BOUNDS).expect("it can be");
    let quarter = drawn.regions.region(RegionIndex(quarter)).expect("a quarter");
    Position::new(quarter.west + 100, 0, quarter.north + 100)
}

fn thing(id: u64, holder: Holder) -> Thing {
    Thing::new(EntityId(id), KindId(1), 1, holder)
}

fn placed(id: u64, at: Position) -> Thing {
    thing(id, Holder::Placed { at, yaw: Yaw::NORTH })
}

/// Returns what [`THERE`] tells a neighbour: that somebody is gone.
fn ghosts(from: RegionIndex) -> GhostBatch {
    let (entered, moved, kept) = (Vec::new(), Vec::new(), Vec::new());
    let left = vec![EntityId(50)];
    GhostBatch { from, tick: Tick(1), entered, moved, left, is_whole: true, kept }
}

fn ripple(id: u64) -> Arc<Ripple> {
    let event = Event {
        id,
        tick: Tick(1),
        place: Position::default(),
        actor: ADA,
        verb: Verb::Stop,
        phase: Phase::Done,
        target: None,
        reach_cm: 1_000,
        detail: Detail::None,
    };
    let (place, reach_cm, actor) = (event.place, event.reach_cm, event.actor);
    Arc::new(Ripple { place, reach_cm, actor, what: Perceived::Event(event) })
}

/// Returns what goes into a region's next step, in words.
fn heard(routes: &mut Switchboard, region: u32, tick: u64) -> String {
    let input = routes.take(RegionIndex(region), Tick(tick));
    let ids = |things: &[Thing]| {
        things.iter().map(|thing| thing.id.0.to_string()).collect::<Vec<_>>().join("+")
    };
    let said = |command: &Command| match command {
        Command::Enter(traveller) => format!("enter {}", traveller.avatar.id.0),
        Command::Leave { avatar } => format!("leave {}", avatar.0),
        Command::Do { avatar, request, .. } => format!("do {}.{request}", avatar.0),
        Command::Cancel { avatar, .. } => format!("cancel {}", avatar.0),
        Command::Things(things) => format!("things {}", ids(things)),
        Command::Ghosts(GhostBatch { left, is_whole: true, .. }) => {
            format!("all ghosts but {}", left.len())
        }
        Command::Ghosts(batch) => format!("ghosts but {}", batch.left.len()),
        Command::Redivide(change) => format!("redivide {}", change.regions.version()),
        Command::Ripple(_) => "ripple".into(),
        other @ (Command::Attach { .. }
        | Command::Detach { .. }
        | Command::Say { .. }
        | Command::Wear { .. }
        | Command::Hide { .. }
        | Command::Place { .. }
        | Command::Ground(_)
        | Command::TellAnew(_)
        | Command::EndOffer { .. }) => format!("{other:?}"),
    };
    let inputs = input.inputs.iter().map(|(avatar, _)| format!("input {}", avatar.0));
    input.commands.iter().map(said).chain(inputs).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_waits_for_a_region_that_is_split_waits_for_the_quarter_it_is_for() {
    let mut routes = routes();
    let cancel = |avatar| Command::Cancel { avatar, request: 1 };
    routes.ask(ADA, act(1));
    routes.enter(BOB, at(12), Command::Enter(somebody(BOB, at(12))));
    routes.command(BOB, cancel(BOB));
    let things = vec![
        placed(20, at(11)),
        thing(21, Holder::Inside(EntityId(20))),
        placed(22, at(11)),
        thing(23, Holder::Held(BOB)),
        thing(24, Holder::Inside(EntityId(98))),
    ];
    routes.push(HERE, Command::Things(things));
    routes.push(HERE, Command::Ghosts(ghosts(THERE)));
    routes.push(HERE, Command::TellAnew(THERE));
    routes.push(HERE, cancel(EntityId(97)));
    routes.input(CLIENT, InputDatagram::default());
    let homes = split(&mut routes, &[(ADA, 10), (EntityId(22), 12)]);
    assert_eq!(heard(&mut routes, 9, 2), "things 24, all ghosts but 1, cancel 97");
    assert_eq!(heard(&mut routes, 10, 2), "do 7.1, all ghosts but 1, input 7");
    assert_eq!(heard(&mut routes, 11, 2), "things 20, things 21, all ghosts but 1");
    let last = "enter 8, cancel 8, things 22, things 23, all ghosts but 1";
    assert_eq!(heard(&mut routes, 12, 2), last);
    assert_eq!(heard(&mut routes, 0, 2), "", "it is no more");
    assert_eq!(homes.get(&BOB), Some(&RegionIndex(12)), "who had not come in");
    let seated = |avatar| routes.seat(avatar).map(|seat| seat.region.0);
    assert_eq!((seated(ADA), seated(BOB)), (Some(10), Some(12)));
}

#[test]
fn everyone_else_is_told_once_how_the_world_is_divided() {
    let mut routes = routes();
    split(&mut routes, &[(ADA, 10)]);
    assert!(!routes.is_division_known());
    for region in 1..=8 {
        assert_eq!(heard(&mut routes, region, 2), "redivide 1");
    }
    assert!(routes.is_division_known(), "the quarters know it from the start");
}

#[test]
fn what_parts_of_a_region_told_each_other_is_nothing_once_they_are_one() {
    let mut routes = routes();
    split(&mut routes, &[(ADA, 10)]);
    routes.push(RegionIndex(9), Command::Ghosts(ghosts(RegionIndex(10))));
    routes.push(RegionIndex(9), Command::Ghosts(ghosts(THERE)));
    routes.ask(ADA, act(1));
    merge(&mut routes);
    assert_eq!(heard(&mut routes, 13, 2), "ghosts but 0, do 7.1");
    assert_eq!(routes.seat(ADA).map(|seat| seat.region), Some(RegionIndex(13)));
}

#[test]
fn what_is_shown_to_a_region_that_is_no_more_is_shown_to_all_in_its_place() {
    let show = |routes: &mut Switchboard, to: u32| {
        let ghosts = vec![(RegionIndex(to), ghosts(THERE))];
        absorb(routes, THERE, 1, StepOutput { ghosts, ..StepOutput::default() });
    };
    let mut routes = routes();
    show(&mut routes, 2);
    assert_eq!(heard(&mut routes, 2, 2), "all ghosts but 1", "it is what it was");
    split(&mut routes, &[(ADA, 10)]);
    routes.lose(RegionIndex(11));
    show(&mut routes, 0);
    for quarter in [9, 10, 12] {
        assert_eq!(heard(&mut routes, quarter, 2), "all ghosts but 1");
    }
    show(&mut routes, 11);
    assert_eq!(heard(&mut routes, 11, 2), "", "it will be told everything anew");
    merge(&mut routes);
    show(&mut routes, 9);
    assert_eq!(heard(&mut routes, 13, 2), "ghosts but 0", "the whole sees more than a quarter");
    show(&mut routes, 0);
    assert_eq!(heard(&mut routes, 13, 3), "all ghosts but 1", "as much as the whole before");
    show(&mut routes, NOWHERE.0);
    assert_eq!(heard(&mut routes, 13, 4), "", "nobody has its place");
}

#[test]
fn who_comes_for_something_comes_to_whoever_has_it_and_anyone_else_by_place() {
    let mut routes = routes();
    split(&mut routes, &[(EntityId(30), 11)]);
    let mut sent = |to: RegionIndex, target: Option<u64>| {
        routes.enter(BOB, Position::default(), Command::Enter(somebody(BOB, at(12))));
        let mut bob = somebody(BOB, at(12));
        bob.errand = target.map(|target| (1, Act::on(Verb::Take, EntityId(target))));
        let travellers = vec![(to, bob)];
        absorb(&mut routes, THERE, 1, StepOutput { travellers, ..StepOutput::default() });
        routes.seat(BOB).expect("he is somewhere").region.0
    };
    assert_eq!(sent(HERE, Some(30)), 11);
    assert_eq!(sent(HERE, Some(31)), 12, "nobody knows whose that is");
    assert_eq!(sent(HERE, None), 12);
    assert_eq!(sent(RegionIndex(9), Some(30)), 9, "that is there yet");
    assert_eq!(sent(NOWHERE, None), 12);
    let things = vec![(HERE, vec![placed(40, at(10))]), (NOWHERE, vec![placed(41, at(10))])];
    absorb(&mut routes, THERE, 2, StepOutput { things, ..StepOutput::default() });
    assert_eq!(heard(&mut routes, 10, 3), "things 40, things 41");
}

#[test]
fn what_is_perceived_by_all_in_the_place_of_a_region_is_perceived_once() {
    let spread = |routes: &mut Switchboard, said: &[(u32, u64)]| {
        let ripples = said.iter().map(|&(to, id)| (RegionIndex(to), ripple(id))).collect();
        absorb(routes, THERE, 1, StepOutput { ripples, ..StepOutput::default() });
    };
    let mut routes = routes();
    split(&mut routes, &[(ADA, 10)]);
    spread(&mut routes, &[(0, 1)]);
    for quarter in 9..=12 {
        assert_eq!(heard(&mut routes, quarter, 2), "ripple");
    }
    merge(&mut routes);
    spread(&mut routes, &[(9, 1), (10, 1), (11, 2)]);
    routes.ask(ADA, act(1));
    spread(&mut routes, &[(12, 1), (13, 3)]);
    assert_eq!(routes.take_ripples(RegionIndex(13)), [1, 2, 3].map(ripple));
    assert_eq!(heard(&mut routes, 13, 2), "do 7.1", "all else still waits");
    assert!(routes.take_ripples(HERE).is_empty());
}

#[test]
fn a_request_goes_on_in_the_quarter_of_its_avatar_and_is_answered_once() {
    let mut routes = routes();
    routes.ask(ADA, act(1));
    assert_eq!(taken(&mut routes, HERE, 2), 1);
    absorb(&mut routes, HERE, 2, StepOutput::default());
    routes.ask(ADA, act(2));
    split(&mut routes, &[(ADA, 10)]);
    stray(&mut routes, HERE, 2, act(1));
    stray(&mut routes, HERE, 2, act(2));
    assert_eq!(heard(&mut routes, 10, 3), "do 7.2", "1 is begun, and 2 is asked once");
    for quarter in [9, 11, 12] {
        routes.lose(RegionIndex(quarter));
        assert_eq!(routes.take_lost(RegionIndex(quarter)), [], "it had neither");
    }
    routes.answer(CLIENT, 1);
    routes.lose(RegionIndex(10));
    assert_eq!(routes.take_lost(RegionIndex(10)), [(CLIENT, 2)]);
    assert_eq!(routes.take_lost(RegionIndex(10)), [], "it was refused");
}

#[test]
fn what_a_lost_quarter_had_begun_as_a_whole_is_refused() {
    let mut routes = routes();
    routes.ask(ADA, act(1));
    routes.take(HERE, Tick(2));
    absorb(&mut routes, HERE, 2, StepOutput::default());
    routes.ask(ADA, act(2));
    split(&mut routes, &[(ADA, 10)]);
    routes.lose(RegionIndex(10));
    assert_eq!(routes.take_lost(RegionIndex(10)), [(CLIENT, 1)], "2 still waits");
    routes.begin_anew(RegionIndex(10), vec![Command::Enter(ada())]);
    assert_eq!(heard(&mut routes, 10, 3), "enter 7, do 7.2");
}

#[test]
fn what_found_room_once_is_not_dropped_when_four_crowded_queues_are_one() {
    let mut routes = routes();
    split(&mut routes, &[(ADA, 10)]);
    routes.ask(ADA, act(1));
    routes.take(RegionIndex(10), Tick(2));
    let cancel = || Command::Cancel { avatar: BOB, request: 1 };
    for quarter in (9..=12).map(RegionIndex) {
        assert!((0..COMMANDS_MAX).all(|_| routes.push(quarter, cancel())));
        assert!(!routes.push(quarter, cancel()));
    }
    merge(&mut routes);
    stray(&mut routes, RegionIndex(10), 2, act(1));
    let whole = RegionIndex(13);
    assert!(!routes.push(whole, cancel()), "who asks anew waits until there is room");
    assert_eq!(taken(&mut routes, whole, 3), 4 * COMMANDS_MAX + 1);
}
