//! Where commands go of those who cross borders, and when a step takes them.

use protocol::ids::PersonId;
use protocol::message::common::Appearance;
use protocol::rules::{Act, Verb};
use protocol::units::Yaw;

use super::*;
use crate::people::PersonRecord;
use crate::shard::batch::Traveller;
use crate::shard::viewer::Told;

mod redivided;

const ADA: EntityId = EntityId(7);
const CLIENT: ClientKey = ClientKey(2);
const HERE: RegionIndex = RegionIndex(0);
const THERE: RegionIndex = RegionIndex(1);

/// Ada, driven by [`CLIENT`], who has entered `HERE` with its step to tick 1.
fn routes() -> Switchboard {
    let regions = Regions::new(3, 6_400);
    let region = regions.region(HERE).expect("a region");
    let at = Position::new(region.west + 100, 0, region.north + 100);
    let mut routes = Switchboard::new(regions);
    routes.enter(ADA, at, Command::Enter(ada()));
    routes.drive(ADA, CLIENT);
    routes.take(HERE, Tick(1));
    routes
}

fn ada() -> Box<Traveller> {
    somebody(ADA, Position::default())
}

fn somebody(avatar: EntityId, position: Position) -> Box<Traveller> {
    let record = PersonRecord {
        person: PersonId(avatar.0),
        name: "Somebody".into(),
        avatar,
        appearance: Appearance::default(),
        position,
        yaw: Yaw::NORTH,
        ignored: BTreeMap::new(),
        lendings: Vec::new(),
        is_guest: false,
        seen_s: 0,
    };
    let Command::Enter(traveller) = record.entrance(Vec::new()) else { panic!("an entrance") };
    traveller
}

fn act(request: u32) -> Command {
    Command::Do { avatar: ADA, request, act: Act::new(Verb::Stop) }
}

/// Hands Ada over, as the step of `from` to `tick` does.
fn cross(routes: &mut Switchboard, from: RegionIndex, tick: u64, to: RegionIndex) {
    let output = StepOutput { travellers: vec![(to, ada())], ..StepOutput::default() };
    absorb(routes, from, tick, output);
}

fn stray(routes: &mut Switchboard, from: RegionIndex, tick: u64, stray: Command) {
    let output = StepOutput { strays: vec![stray], ..StepOutput::default() };
    absorb(routes, from, tick, output);
}

fn absorb(routes: &mut Switchboard, from: RegionIndex, tick: u64, mut output: StepOutput) {
    routes.absorb(from, Tick(tick), &mut output);
}

/// Returns how many commands go into the step of a region.
fn taken(routes: &mut Switchboard, region: RegionIndex, tick: u64) -> usize {
    routes.take(region, Tick(tick)).commands.len()
}

#[test]
fn what_is_asked_of_somebody_who_has_crossed_follows_them() {
    let heard = |command: Command| {
        let mut routes = routes();
        routes.ask(ADA, act(1));
        // The shard is late: it is asked for more before it is known who has left it.
        assert_eq!(taken(&mut routes, HERE, 2), 1);
        cross(&mut routes, HERE, 1, THERE);
        assert_eq!(taken(&mut routes, THERE, 2), 1);
        stray(&mut routes, HERE, 2, command);
        taken(&mut routes, THERE, 3)
    };
    assert_eq!(heard(act(1)), 1);
    assert_eq!(heard(act(2)), 0, "nobody waits for an answer to that");
    let attach = |client| Command::Attach {
        avatar: ADA,
        client,
        hidden: BTreeSet::new(),
        told: Told::default(),
    };
    assert_eq!(heard(attach(CLIENT)), 1);
    assert_eq!(heard(attach(ClientKey(1))), 0, "another client drives by now");
    assert_eq!(heard(Command::Detach { avatar: ADA, stops: false }), 0);
    assert_eq!(heard(Command::Leave { avatar: ADA }), 0, "they are back");
}

#[test]
fn who_was_away_when_they_were_asked_and_is_back_is_asked_again() {
    let mut routes = routes();
    routes.ask(ADA, act(1));
    routes.take(HERE, Tick(2));
    cross(&mut routes, HERE, 1, THERE);
    routes.take(THERE, Tick(2));
    cross(&mut routes, THERE, 2, HERE);
    assert_eq!(taken(&mut routes, HERE, 3), 1, "she enters");
    stray(&mut routes, HERE, 2, act(1));
    assert_eq!(taken(&mut routes, HERE, 4), 1);
    stray(&mut routes, HERE, 4, act(1));
    assert_eq!(taken(&mut routes, HERE, 5), 0, "where she should be nobody looks again");
}

#[test]
fn what_a_lost_shard_was_asked_is_asked_of_nobody_else() {
    let mut routes = routes();
    routes.ask(ADA, act(1));
    routes.take(HERE, Tick(2));
    cross(&mut routes, HERE, 1, THERE);
    routes.take(THERE, Tick(2));
    routes.ask(ADA, act(2));
    routes.take(THERE, Tick(3));
    routes.ask(ADA, act(3));
    routes.lose(THERE);
    assert_eq!(routes.take_lost(THERE), [(CLIENT, 2)], "3 waits, and 1 is to come back");
    routes.begin_anew(THERE, vec![Command::Enter(ada())]);
    stray(&mut routes, HERE, 2, act(1));
    assert_eq!(taken(&mut routes, THERE, 4), 3, "she enters, and is asked 3 and 1");
    routes.answer(CLIENT, 3);
    assert_eq!(routes.take_lost(THERE), [(CLIENT, 1)]);
    stray(&mut routes, THERE, 4, act(1));
    assert_eq!(taken(&mut routes, THERE, 5), 0, "it was refused");
}

#[test]
fn what_was_asked_of_a_lost_shard_by_somebody_who_has_gone_is_not_done_for_who_comes_next() {
    let mut routes = routes();
    routes.ask(ADA, act(1));
    routes.release(CLIENT);
    assert_eq!(taken(&mut routes, HERE, 2), 1, "in order it is");
    routes.drive(ADA, CLIENT);
    routes.ask(ADA, act(2));
    routes.lose(HERE);
    routes.ask(ADA, act(3));
    routes.release(CLIENT);
    routes.drive(ADA, ClientKey(3));
    routes.ask(ADA, act(2));
    assert_eq!(taken(&mut routes, HERE, 3), 1);
}
