//! Nine small regions, a hundred walkers and everything they do, in one thread and without a
//! socket: nobody is owned twice or by no one, nothing is lost or doubled, and nobody sees a
//! border.

#[path = "borders/client.rs"]
mod client;
#[path = "borders/world.rs"]
mod world;

use protocol::rules::{Act, Args, Portion, Verb, Why};
use protocol::units::{Position, Yaw};
use server::region::Change;
use tests::dice::Dice;
use world::{World, thing_id};

/// A minute of world time.
const TICKS: u64 = 1_200;

/// Time for everybody to stand still, and for the last word of it to arrive.
const REST_TICKS: u64 = 60;

#[test]
fn a_crowd_that_crosses_borders_loses_nothing_and_sees_no_border() {
    let mut world = World::new(7);
    for _ in 0..TICKS {
        world.tick();
    }
    let figures = world.figures;
    println!("{figures:?}");
    assert!(100 < figures.crossings, "they cross: {figures:?}");
    assert!(500 < figures.done, "they act: {figures:?}");
    assert!(20 < figures.trades, "they trade: {figures:?}");
    world.rest();
    for _ in 0..REST_TICKS {
        world.tick();
    }
    world.check_that_everyone_sees_what_there_is();
    world.check_that_everyone_knows_what_they_hold();
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let hash = |seed| {
        let mut world = World::new(seed);
        (0..150).for_each(|_| world.tick());
        world.hash()
    };
    let first = hash(3);
    assert_eq!(first, hash(3));
    assert_ne!(first, hash(4));
}

#[test]
fn a_shard_that_moves_to_another_process_goes_on_to_the_byte() {
    let hash = |moves: bool| {
        let mut world = World::new(5);
        for tick in 0..150 {
            world.tick();
            if moves && tick % 3 == 0 {
                let bytes = world.move_shard(tick / 3 % 9);
                assert!(10_000 < bytes, "a shard of {bytes} bytes");
            }
        }
        world.hash()
    };
    assert_eq!(hash(true), hash(false));
}

#[test]
fn a_world_that_is_split_and_merged_all_the_time_loses_nothing_and_shows_no_border() {
    let mut world = World::new(13);
    let mut chance = Dice(13);
    for tick in 0..TICKS {
        world.tick();
        if tick % 7 == 3 {
            world.divide_by_chance(&mut chance);
        }
    }
    let figures = world.figures;
    println!("{figures:?}");
    assert!(100 < figures.divisions, "it is divided otherwise: {figures:?}");
    assert!(100 < figures.crossings, "they cross: {figures:?}");
    assert!(500 < figures.done, "they act: {figures:?}");
    assert!(20 < figures.trades, "they trade: {figures:?}");
    world.rest();
    for _ in 0..REST_TICKS {
        world.tick();
    }
    world.check_that_everyone_sees_what_there_is();
    world.check_that_everyone_knows_what_they_hold();
}

#[test]
fn nobody_is_announced_anew_when_a_region_is_split_and_merged() {
    let walkers = [east(-100, 0), east(100, 0), east(0, 300), east(3_000, 0), east(3_500, 0)];
    let things = [("apple", east(-200, -200)), ("tree", east(400, 400)), ("rock", east(3_400, 90))];
    let mut world = World::staged(&things, &walkers);
    pass(&mut world, 40);
    let announced = |world: &World| (0..5).map(|who| world.client(who).announced).sum::<u64>();
    let before = announced(&world);
    let new = world.divide(Change::Split(world.region_of(east(0, 0))));
    pass(&mut world, 20);
    let quarters: Vec<_> = [0, 1, 2].map(|who| world.region_of(walkers[who])).into();
    assert!(quarters.iter().all(|quarter| new.contains(quarter)) && quarters[0] != quarters[1]);
    world.divide(Change::Merge(new[0]));
    pass(&mut world, 20);
    assert_eq!(announced(&world), before, "what everyone sees stays as it is");
    assert_eq!(world.figures.correction_cm_max, 0.0);
    world.check_that_everyone_sees_what_there_is();
}

#[test]
fn whoever_is_put_far_away_leaves_no_ghost_behind() {
    let mut world = World::new(11);
    for _ in 0..40 {
        world.tick();
    }
    world.rest();
    for walker in 0..20 {
        let side = if walker % 2 == 0 { -9_000 } else { 9_000 };
        world.put(walker, Position::new(side, 0, -side));
    }
    for _ in 0..REST_TICKS {
        world.tick();
    }
    world.check_that_everyone_sees_what_there_is();
}

/// Runs a world for so many ticks.
fn pass(world: &mut World, ticks: u64) {
    (0..ticks).for_each(|_| world.tick());
}

/// The middle region ends 32 m east of the middle; who has come 12 m farther is handed over.
const fn east(x_cm: i32, z_cm: i32) -> Position {
    Position::new(x_cm, 0, z_cm)
}

#[test]
fn what_stands_across_the_border_blocks_as_it_is_shown() {
    let things =
        [("tree", east(3_500, 0)), ("rock", east(3_600, 1_000)), ("tree", east(3_700, 995))];
    let mut world = World::staged(&things, &[east(2_400, 0), east(2_400, 1_030), east(4_300, 500)]);
    // Everyone is told what stands there before they set out.
    pass(&mut world, 50);
    world.run(0, Yaw::EAST);
    world.run(1, Yaw::EAST);
    world.run(2, Yaw::towards(-800, -500));
    pass(&mut world, 60);
    // Whoever runs straight at a trunk is stopped by it, on its own side of the hand-over.
    let stopped = world.at(0);
    assert!((3_400..3_440).contains(&stopped.x), "{stopped:?}");
    pass(&mut world, 60);
    assert_eq!(world.at(0), stopped);
    // Whoever grazes something slides around it and goes on next door.
    assert!(4_400 < world.at(1).x, "{:?}", world.at(1));
    assert_eq!(world.figures.correction_cm_max, 0.0, "the prediction was right all the time");
}

#[test]
fn a_door_bars_the_way_until_it_is_opened_here_and_across_the_border() {
    // One well inside the middle region, one across its border.
    for door_x in [0, 3_400] {
        let at = |x: i32| east(door_x + x, 0);
        let mut world = World::staged(&[("door", at(0))], &[at(-800), at(-180)]);
        let door = |verb| Act::on(verb, thing_id(0));
        pass(&mut world, 50);
        world.run(0, Yaw::EAST);
        pass(&mut world, 40);
        let stopped = world.at(0);
        assert!((-100..-70).contains(&(stopped.x - door_x)), "{stopped:?} at a closed door");
        world.run(0, Yaw::WEST);
        pass(&mut world, 20);
        world.halt(0);
        // The other one opens it, and the first runs through and stops in it.
        world.begin(1, door(Verb::Open));
        pass(&mut world, 20);
        world.run(0, Yaw::EAST);
        while world.at(0).x < door_x - 40 {
            world.tick();
        }
        world.halt(0);
        pass(&mut world, 20);
        let inside = world.at(0);
        assert!(inside.is_within(at(0), 60), "{inside:?} in an open door");
        // Closed on somebody, it holds nobody.
        world.begin(1, door(Verb::Close));
        pass(&mut world, 20);
        assert_eq!(world.at(0), inside);
        world.run(0, Yaw::EAST);
        pass(&mut world, 20);
        assert!(door_x + 80 < world.at(0).x, "{:?} beyond a closed door", world.at(0));
        world.run(0, Yaw::WEST);
        pass(&mut world, 40);
        assert!(door_x + 70 < world.at(0).x, "{:?} behind a closed door", world.at(0));
        assert_eq!(world.figures.correction_cm_max, 0.0, "the prediction was right all the time");
    }
}

#[test]
fn who_walks_away_from_work_is_told_that_it_was_interrupted() {
    let mut world = World::staged(&[("clay pit", east(100, 0))], &[east(0, 0)]);
    pass(&mut world, 20);
    world.begin(0, Act::on(Verb::Gather, thing_id(0)));
    pass(&mut world, 10);
    assert_eq!(world.client(0).refused, None, "it has begun");
    world.run(0, Yaw::WEST);
    pass(&mut world, 10);
    assert_eq!(world.client(0).refused, Some(Why::Interrupted));
}

#[test]
fn both_parties_hear_that_an_offer_ended_whichever_of_them_went_next_door() {
    for goes in [0, 1] {
        let walkers = [east(3_100, 0), east(3_100, 100)];
        let mut world = World::staged(&[("apple", east(3_000, 0))], &walkers);
        pass(&mut world, 20);
        world.begin(0, Act::on(Verb::Take, thing_id(0)).with(Args::Count(1)));
        pass(&mut world, 10);
        let apple = world.client(0).replica.log().holding.first().expect("an apple").id;
        let give = vec![Portion { thing: apple, count: 1 }];
        let to = world.client(1).avatar;
        world.begin(0, Act::on(Verb::Offer, to).with(Args::Deal { give, want: Vec::new() }));
        pass(&mut world, 10);
        let offers = |world: &World| [0, 1].map(|who| world.client(who).replica.log().offers.len());
        assert_eq!(offers(&world), [1, 1]);
        let offer = world.client(0).replica.log().offers.front().expect("an offer").id;
        world.run(goes, Yaw::EAST);
        while world.figures.crossings == 0 {
            world.tick();
        }
        world.halt(goes);
        pass(&mut world, 20);
        world.begin(0, Act::new(Verb::Withdraw).with(Args::Offer(offer)));
        pass(&mut world, 10);
        assert_eq!(offers(&world), [0, 0], "when {goes} has gone");
    }
}

#[test]
fn whoever_comes_in_where_a_tree_stands_is_put_beside_it() {
    let things = [("tree", east(0, 0)), ("well", east(1_000, 0))];
    let mut world = World::staged(&things, &[east(0, 0), east(990, 10), east(500, 0)]);
    pass(&mut world, 2);
    for (walker, thing) in [(0, east(0, 0)), (1, east(1_000, 0))] {
        let at = world.at(walker);
        assert!(at.is_within(thing, 250) && !at.is_within(thing, 64), "{at:?} at {thing:?}");
    }
    assert_eq!(world.at(2), east(500, 0), "whoever stands free stays");
    pass(&mut world, 60);
    assert_eq!(world.figures.correction_cm_max, 0.0, "and the client knows");
}

#[test]
fn things_in_between_do_not_slow_down_how_somebody_is_seen_to_walk() {
    let things: Vec<_> = (0..40).map(|index| ("apple", east(100 + 10 * index, 0))).collect();
    let mut world = World::staged(&things, &[east(0, 0), east(1_000, 500)]);
    pass(&mut world, 50);
    world.run(1, Yaw::NORTH);
    pass(&mut world, 10);
    let walker = world.client(1).avatar;
    let seen = |world: &World| world.client(0).replica.entity(walker).expect("in view").newest().1;
    for _ in 0..20 {
        let before = seen(&world).position;
        world.tick();
        assert_ne!(seen(&world).position, before, "every tick a little farther");
    }
}

#[test]
fn whoever_acts_to_and_fro_across_a_border_walks_on_and_gets_every_frame() {
    // Two boards, one at each side of the border at 32 m, and somebody who walks past both.
    let things = [("notice board", east(3_100, 0)), ("notice board", east(3_300, 0))];
    let mut world = World::staged(&things, &[east(3_200, -200), east(2_500, 0)]);
    pass(&mut world, 20);
    world.run(0, Yaw::SOUTH);
    let mut before = world.at(0);
    for round in 0..12 {
        // Every tick an act, at the other side each time.
        world.begin(0, Act::on(Verb::Read, thing_id(round % 2)));
        world.tick();
        assert_ne!(world.at(0), before, "every tick a little farther");
        before = world.at(0);
    }
    pass(&mut world, 5);
    assert_eq!(world.client(0).done, 12, "{:?}", world.client(0).refused);
    assert!(11 <= world.figures.crossings, "{:?}", world.figures);
    assert!(world.figures.correction_cm_max < 1.0, "{:?}", world.figures);
}

#[test]
fn what_is_put_down_across_the_border_belongs_to_the_region_it_lies_in() {
    // Who drops it stands 6 m inside the eastern region and is still stepped by the middle one.
    let walkers = [east(3_100, 0), east(3_900, 100)];
    let mut world = World::staged(&[("apple", east(3_000, 0))], &walkers);
    pass(&mut world, 20);
    world.begin(0, Act::on(Verb::Take, thing_id(0)).with(Args::Count(1)));
    world.run(0, Yaw::EAST);
    while world.at(0).x < 3_750 {
        world.tick();
    }
    world.halt(0);
    pass(&mut world, 20);
    assert_eq!(world.figures.crossings, 0, "still stepped by the middle region");
    world.begin(0, Act::on(Verb::Drop, thing_id(0)).with(Args::Count(1)));
    let mut was_seen = [false; 2];
    for _ in 0..40 {
        world.tick();
        for (who, was_seen) in was_seen.iter_mut().enumerate() {
            let is_seen = world.client(who).replica.entity(thing_id(0)).is_some();
            assert!(is_seen || !*was_seen, "it vanished again from {who}'s view");
            *was_seen = is_seen;
        }
    }
    assert_eq!(was_seen, [true; 2]);
    let owner = world.stacks.iter().filter(|(_, stacks)| **stacks == 1).map(|(region, _)| region.0);
    assert_eq!(owner.collect::<Vec<_>>(), [5], "the eastern region's shard has it");
    // Whoever is next to it takes it without anybody going anywhere.
    world.begin(1, Act::on(Verb::Take, thing_id(0)).with(Args::Count(1)));
    pass(&mut world, 10);
    assert_eq!(world.client(1).replica.log().holding.len(), 1);
    assert_eq!(world.figures.crossings, 0);
}
