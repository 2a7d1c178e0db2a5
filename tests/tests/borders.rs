//! Nine small regions, a hundred walkers and everything they do, in one thread and without a
//! socket: nobody is owned twice or by no one, nothing is lost or doubled, and nobody sees a
//! border.

#[path = "borders/client.rs"]
mod client;
#[path = "borders/keeping.rs"]
mod keeping;
#[path = "borders/world.rs"]
mod world;

use protocol::units::Position;
use world::World;

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
