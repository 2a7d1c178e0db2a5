//! Movement seen from outside: what a body does, and what none can ever do.

use proptest::prelude::*;

use super::*;
use crate::ground::{Pillar, Plain};
use crate::units::Position;

/// Hills worked out from the place: smooth, steep in parts, 40 m high at most.
struct Bumpy;

impl Ground for Bumpy {
    fn height(&self, x: i64, z: i64) -> Option<i64> {
        let wave = |along: i64, length_m: i64, height_m: i64| {
            let turn = (along * 65_536 / (length_m * 100 * SUB)).rem_euclid(65_536);
            let yaw = Yaw(u16::try_from(turn).unwrap());
            sine::direction(yaw).0 * height_m * 100 * SUB / sine::UNIT
        };
        Some(wave(x, 90, 12) + wave(z, 70, 10) + wave(x + z, 23, 3) + wave(x - 2 * z, 9, 1))
    }
}

/// Level ground in the west, a slope that rises eastwards by `permille` from x = 0 on.
struct Ramp {
    permille: i64,
}

impl Ground for Ramp {
    fn height(&self, x: i64, _: i64) -> Option<i64> {
        Some(x.max(0) * self.permille / 1_000)
    }
}

/// A plain with pillars, known only west of `known_to_cm`.
struct Posts {
    pillars: Vec<Pillar>,
    known_to_cm: i64,
}

impl Ground for Posts {
    fn height(&self, x: i64, _: i64) -> Option<i64> {
        (x <= self.known_to_cm * SUB).then_some(0)
    }

    fn pillars(&self, _: i32, _: i32, _: i32) -> &[Pillar] {
        &self.pillars
    }
}

const EAST: Input = Input { forward: 127, right: 0, yaw: Yaw::EAST, buttons: 0 };

/// Rules of a world without water.
fn dry() -> MotionRules {
    MotionRules { sea_level_cm: -100_000, ..MotionRules::default() }
}

fn pressing(input: Input, buttons: u8) -> Input {
    Input { buttons, ..input }
}

fn walk(from: Body, input: Input, steps: usize, ground: &impl Ground, rules: &MotionRules) -> Body {
    (0..steps).fold(from, |body, _| step(&body, input, ground, rules))
}

fn at(x: i32, y: i32, z: i32) -> Body {
    Body::standing(Position::new(x, y, z), Yaw::EAST)
}

fn speed_cm_s(body: &Body) -> i64 {
    length(i64::from(body.velocity[0]), i64::from(body.velocity[2])) / SUB
}

#[test]
fn a_body_walks_where_it_looks_and_stops() {
    let ground = Plain::default();
    let body = walk(at(0, 0, 0), EAST, 40, &ground, &dry());
    assert!((179..=180).contains(&speed_cm_s(&body)));
    assert!((320..=360).contains(&body.position().x), "{body:?}");
    assert_eq!(body.position().z, 0);
    assert_eq!(body.animation(), Animation::Walk);
    let still = walk(body, Input { yaw: Yaw::EAST, ..Input::default() }, 10, &ground, &dry());
    assert_eq!((still.velocity, still.animation()), ([0; 3], Animation::Stand));
}

#[test]
fn a_diagonal_is_no_faster_than_straight_on() {
    for (forward, right) in [(127, 127), (-128, -128), (127, -128), (90, 90)] {
        let input = Input { forward, right, yaw: Yaw(1_234), buttons: RUN };
        let body = walk(at(0, 0, 0), input, 40, &Plain::default(), &dry());
        assert!((510..=520).contains(&speed_cm_s(&body)), "{forward} {right} {body:?}");
    }
}

#[test]
fn a_jump_rises_two_feet_and_comes_down() {
    let mut body = step(&at(0, 0, 0), pressing(EAST, JUMP), &Plain::default(), &dry());
    let mut top = 0;
    for _ in 0..20 {
        body = step(&body, EAST, &Plain::default(), &dry());
        top = top.max(body.position().y);
    }
    assert!((55..=75).contains(&top), "{top}");
    assert_eq!((body.position().y, body.mode), (0, Mode::Ground));
}

#[test]
fn the_slope_limit_is_where_climbing_ends() {
    let rules = dry();
    let top = |permille| walk(at(-200, 0, 0), pressing(EAST, RUN), 100, &Ramp { permille }, &rules);
    assert!(1_000 < top(1_100).position().y);
    assert!(top(1_200).position().y < 40, "{:?}", top(1_200));
}

#[test]
fn jumping_does_not_climb_what_is_too_steep() {
    let input = pressing(EAST, RUN | JUMP);
    let mut body = at(-200, 0, 0);
    for _ in 0..2_000 {
        body = step(&body, input, &Ramp { permille: 1_300 }, &dry());
        assert!(body.position().y < 140, "{body:?}");
    }
}

#[test]
fn uphill_is_slower() {
    let rules = dry();
    let uphill = walk(at(100, 80, 0), EAST, 40, &Ramp { permille: 800 }, &rules);
    assert!((100..=140).contains(&speed_cm_s(&uphill)), "{}", speed_cm_s(&uphill));
}

#[test]
fn who_lands_on_a_steep_slope_slides_down() {
    let ground = Ramp { permille: 2_000 };
    let body = walk(at(500, 1_200, 0), Input::default(), 20, &ground, &dry());
    let later = walk(body, Input::default(), 100, &ground, &dry());
    assert!(later.position().x <= 60, "{later:?}");
    assert_eq!(later.mode, Mode::Ground);
}

#[test]
fn low_pillars_are_stepped_on_and_high_ones_passed_by() {
    let post = |z, top| Pillar { x: 300, z, radius: 40, top };
    let ground = Posts { pillars: vec![post(10, 35)], known_to_cm: 10_000 };
    let over = walk(at(0, 0, 0), EAST, 33, &ground, &dry());
    assert_eq!((over.position().y, over.mode), (35, Mode::Ground));
    let ground = Posts { pillars: vec![post(10, 200)], known_to_cm: 10_000 };
    let past = walk(at(0, 0, 0), EAST, 90, &ground, &dry());
    assert!(400 < past.position().x && past.position().z < 0, "{past:?}");
}

#[test]
fn unknown_ground_is_waited_for() {
    let ground = Posts { pillars: Vec::new(), known_to_cm: 100 };
    let body = walk(at(0, 0, 0), pressing(EAST, RUN), 50, &ground, &dry());
    assert!((70..=100).contains(&body.position().x));
    assert_eq!(body.velocity, [0; 3]);
    let lost = at(500, 70, 0);
    assert_eq!(step(&lost, EAST, &ground, &dry()), lost);
}

#[test]
fn deep_water_carries_and_shallow_water_is_waded() {
    let rules = MotionRules { sea_level_cm: 0, ..MotionRules::default() };
    let deep = walk(at(0, -100, 0), EAST, 100, &Plain { height_cm: -1_000 }, &rules);
    assert_eq!(deep.mode, Mode::Swim);
    assert!((-135..=-125).contains(&deep.position().y), "{deep:?}");
    let dive = walk(deep, pressing(EAST, FLY_DOWN), 40, &Plain { height_cm: -1_000 }, &rules);
    assert!(dive.position().y < -300, "{dive:?}");
    let shallow = walk(at(0, -90, 0), EAST, 20, &Plain { height_cm: -90 }, &rules);
    assert_eq!(shallow.mode, Mode::Ground);
    let ashore = walk(at(-1_000, -300, 0), EAST, 400, &Shore, &rules);
    assert!(ashore.mode == Mode::Ground && -100 < ashore.position().y, "{ashore:?}");
}

/// A beach: rises 20 cm per metre eastwards, sea level at x = 0.
struct Shore;

impl Ground for Shore {
    fn height(&self, x: i64, _: i64) -> Option<i64> {
        Some(x / 5)
    }
}

#[test]
fn flying_is_for_worlds_that_allow_it() {
    let up = pressing(Input::default(), FLY_UP);
    let grounded = walk(at(0, 0, 0), up, 20, &Plain::default(), &dry());
    assert_eq!((grounded.position().y, grounded.mode), (0, Mode::Ground));
    let rules = MotionRules { fly: true, ..dry() };
    let high = walk(at(0, 0, 0), up, 40, &Plain::default(), &rules);
    assert!(500 < high.position().y && high.mode == Mode::Fly, "{high:?}");
    let hovers = walk(high, Input::default(), 100, &Plain::default(), &rules);
    assert_eq!((hovers.mode, hovers.velocity), (Mode::Fly, [0; 3]));
    let down = walk(high, pressing(EAST, FLY_DOWN), 80, &Plain::default(), &rules);
    assert_eq!((down.position().y, down.mode), (0, Mode::Ground));
}

#[test]
fn a_busy_body_stays_until_it_is_moved() {
    let mut body = at(0, 0, 0);
    assert!(body.settle(Mode::Work));
    let still = walk(body, Input::default(), 20, &Plain::default(), &dry());
    assert_eq!((still.mode, still.animation()), (Mode::Work, Animation::Work));
    assert_eq!(step(&still, EAST, &Plain::default(), &dry()).mode, Mode::Ground);
    let mut falling = at(0, 500, 0);
    falling.mode = Mode::Air;
    assert!(!falling.settle(Mode::Sit));
}

#[test]
fn the_edge_of_the_world_holds() {
    let rules = MotionRules { half_width_cm: 1_000, ..dry() };
    let body = walk(at(900, 0, 0), pressing(EAST, RUN), 100, &Plain::default(), &rules);
    assert_eq!(body.position().x, 1_000);
}

/// Returns the hash of 10,000 steps under a fixed stream of inputs.
fn trajectory(ground: &impl Ground, rules: &MotionRules) -> String {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    let mut hash = blake3::Hasher::new();
    let mut body = Body { mode: Mode::Air, ..at(0, 4_000, 0) };
    let mut input = Input::default();
    for count in 0..10_000 {
        if count % 7 == 0 {
            let [forward, right, yaw_low, yaw_high, buttons, held, _, _] = next();
            input = Input {
                forward: if held & 3 == 0 { 0 } else { forward.cast_signed() },
                right: if held & 4 == 0 { 0 } else { right.cast_signed() },
                yaw: Yaw(u16::from_le_bytes([yaw_low, yaw_high])),
                buttons: buttons & 0x0F,
            };
        }
        body = step(&body, input, ground, rules);
        for place in body.at {
            hash.update(&place.to_le_bytes());
        }
        for speed in body.velocity {
            hash.update(&speed.to_le_bytes());
        }
        hash.update(&[body.mode as u8]);
    }
    hash.finalize().to_hex().as_str()[..16].to_owned()
}

#[test]
fn trajectories_are_the_same_on_every_machine() {
    let flying = MotionRules { fly: true, ..MotionRules::default() };
    let hashes = [
        trajectory(&Plain::default(), &dry()),
        trajectory(&Bumpy, &MotionRules::default()),
        trajectory(&Bumpy, &flying),
    ];
    assert_eq!(hashes, ["39bb15aed7c591e6", "ce5335361c5b5b99", "38296eaa62fa70ec"]);
}

fn any_input() -> impl Strategy<Value = Input> {
    (any::<i8>(), any::<i8>(), any::<u16>(), any::<u8>())
        .prop_map(|(forward, right, yaw, buttons)| Input { forward, right, yaw: Yaw(yaw), buttons })
}

fn any_rules() -> impl Strategy<Value = MotionRules> {
    (any::<[u16; 10]>(), any::<[i32; 3]>(), any::<bool>()).prop_map(|(numbers, heights, fly)| {
        let [hz, walk, run, swim, fly_speed, jump, gravity, quick, air, slope] = numbers;
        MotionRules {
            hz,
            walk_cm_s: walk,
            run_cm_s: run,
            swim_cm_s: swim,
            fly_cm_s: fly_speed,
            jump_cm_s: jump,
            gravity_cm_s2: gravity,
            acceleration_cm_s2: quick,
            air_acceleration_cm_s2: air,
            slope_permille: slope,
            step_cm: slope ^ quick,
            sea_level_cm: heights[0],
            fly,
            half_width_cm: heights[1],
            ceiling_cm: heights[2],
        }
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    (any::<[i64; 3]>(), any::<[i32; 3]>(), any::<u16>(), 0..7_u8).prop_map(
        |(at, velocity, yaw, mode)| Body {
            at,
            velocity,
            yaw: Yaw(yaw),
            mode: Mode::from_number(mode).unwrap(),
        },
    )
}

/// Ground that says anything at all.
struct Wild(i64);

impl Ground for Wild {
    fn height(&self, x: i64, z: i64) -> Option<i64> {
        let mixed = (x ^ z.rotate_left(20) ^ self.0).wrapping_mul(0x5851_F42D_4C95_7F2D);
        (mixed & 0xF != 0).then_some(mixed)
    }
}

proptest! {
    #[test]
    fn nothing_makes_a_body_faster_than_the_limit(
        body in any_body(), inputs in prop::collection::vec(any_input(), 1..20),
        rules in any_rules(), seed in any::<i64>(),
    ) {
        let limit = i64::from(SPEED_CM_S_MAX) * SUB;
        let mut body = body;
        for input in inputs {
            body = step(&body, input, &Wild(seed), &rules);
            let [east, up, south] = body.velocity.map(i64::from);
            prop_assert!(length(east, south) <= limit && up.abs() <= limit, "{body:?}");
        }
    }

    #[test]
    fn rules_bound_what_inputs_reach(inputs in prop::collection::vec(any_input(), 1..200)) {
        let rules = dry();
        let mut body = Body { mode: Mode::Air, ..at(700, 5_000, 300) };
        for input in inputs {
            let before = body;
            body = step(&body, input, &Bumpy, &rules);
            let moved = length(body.at[0] - before.at[0], body.at[2] - before.at[2]);
            // Sliding is the fastest: half again a run.
            prop_assert!(moved <= 520 * SUB * 3 / 2 / 20 + 2, "{before:?} {body:?}");
        }
    }

    #[test]
    fn no_step_climbs_what_is_too_steep(inputs in prop::collection::vec(any_input(), 1..300),
        x in -20_000..20_000_i32, z in -20_000..20_000_i32,
    ) {
        let rules = dry();
        let pace = Pace::of(&rules);
        let mut body = Body { mode: Mode::Air, ..at(x, 4_000, z) };
        for input in inputs {
            let before = body;
            body = step(&body, input, &Bumpy, &rules);
            let site = Site { ground: &Bumpy, pillars: &[], step: pace.step };
            let steep = is_steep_at(&site, &body, &pace);
            if before.is_grounded() && body.is_grounded() && steep {
                prop_assert!(body.at[1] <= before.at[1], "{before:?} {body:?}");
            }
            let floor = Bumpy.height(body.at[0], body.at[2]).unwrap();
            prop_assert!(floor <= body.at[1], "{before:?} {body:?}");
        }
    }

    #[test]
    fn no_step_enters_or_crosses_a_pillar(
        inputs in prop::collection::vec(any_input(), 1..100),
        posts in prop::collection::vec((-800..800_i32, -800..800_i32, 0..60_i32), 1..40),
        flies in any::<bool>(),
    ) {
        let rules = MotionRules { fly: flies, fly_cm_s: 5_000, ..dry() };
        let pillars = posts.iter().map(|&(x, z, radius)| Pillar { x, z, radius, top: 100_000 });
        let ground = Posts { pillars: pillars.collect(), known_to_cm: 10_000 };
        let mut body = at(-1_000, 0, -1_000);
        for input in inputs {
            let before = body;
            body = step(&body, input, &ground, &rules);
            for pillar in &ground.pillars {
                let reach = i64::from(pillar.radius + RADIUS_CM) * SUB;
                let x = body.at[0] - i64::from(pillar.x) * SUB;
                let z = body.at[2] - i64::from(pillar.z) * SUB;
                prop_assert!(reach - 1 <= length(x, z), "in {pillar:?}: {before:?} {body:?}");
            }
        }
    }
}

fn is_steep_at<G: Ground>(site: &Site<'_, G>, body: &Body, pace: &Pace) -> bool {
    travel::is_steep(site.slope(body.at[0], body.at[2]), pace)
}

#[test]
fn a_thin_post_is_never_run_through_head_on() {
    let ground = Posts {
        pillars: vec![Pillar { x: 1_000, z: 0, radius: 0, top: 100_000 }],
        known_to_cm: 100_000,
    };
    let rules = MotionRules { run_cm_s: 5_000, acceleration_cm_s2: 65_535, hz: 10, ..dry() };
    for start in 0..100 {
        let body = walk(at(start, 0, 0), pressing(EAST, RUN), 20, &ground, &rules);
        assert!(body.position().x < 1_000 || 25 < body.position().z.abs(), "{body:?}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures")]
fn a_step_is_cheap() {
    let (rules, ground) = (dry(), Plain::default());
    let mut body = at(0, 0, 0);
    let steps = 200_000_u32;
    let begin = std::time::Instant::now();
    for count in 0..steps {
        let yaw = Yaw(u16::try_from(count & 0xFFFF).unwrap());
        body = step(&body, Input { yaw, ..pressing(EAST, RUN) }, &ground, &rules);
    }
    let each_ns = begin.elapsed().as_nanos() / u128::from(steps);
    println!("{each_ns} ns per step, ends at {:?}", body.position());
    // A bound that only a changed algorithm breaks: busy machines are ten times slower.
    assert!(each_ns < 5_000, "{each_ns} ns");
}

#[test]
fn whoever_a_door_closes_on_walks_out_of_it_on_any_side() {
    let pillars = vec![Pillar { x: 0, z: 0, radius: 50, top: 210 }];
    let ground = Posts { pillars, known_to_cm: 10_000 };
    for (x, z) in [(0, 0), (10, 0), (-35, 20), (0, -79), (60, 50)] {
        let still = walk(at(x, 0, z), Input::default(), 20, &ground, &dry());
        assert_eq!(still.position(), Position::new(x, 0, z), "nobody who stands is thrown out");
        for eighth in 0..8 {
            let input = Input { yaw: Yaw(eighth << 13), ..EAST };
            let out = walk(still, input, 30, &ground, &dry()).position();
            let apart = out.ground_distance_squared(Position::default());
            assert!(80 * 80 <= apart, "from {x}, {z} towards {eighth}: {out:?}");
        }
    }
}

#[test]
fn whoever_comes_in_where_something_stands_is_put_beside_it() {
    let post = |x, z, radius| Pillar { x, z, radius, top: 300 };
    let place = |pillars: &[Pillar], x, z| {
        let ground = Posts { pillars: pillars.to_vec(), known_to_cm: 10_000 };
        free_place(Position::new(x, 0, z), &ground, &dry())
    };
    let free = Position::new(500, 0, 0);
    assert_eq!(place(&[post(0, 0, 50)], 500, 0), free, "nothing is there");
    for (x, z) in [(0, 0), (10, -20), (79, 0)] {
        let beside = place(&[post(0, 0, 50)], x, z);
        let apart = beside.ground_distance_squared(Position::default()).isqrt();
        assert!((80..105).contains(&apart), "{beside:?} from {x}, {z}");
        assert_eq!(beside, place(&[post(0, 0, 50)], x, z));
    }
    // Between two posts there is no room.
    let beside = place(&[post(-60, 0, 50), post(60, 0, 50)], 0, 0);
    assert!(80 * 80 <= beside.ground_distance_squared(Position::new(60, 0, 0)), "{beside:?}");
    // Whoever is walled in for 12 m around stays.
    assert_eq!(place(&[post(0, 0, 5_000)], 0, 0), Position::default());
    // On top of something low one stands well.
    let low = Pillar { top: 10, ..post(0, 0, 50) };
    assert_eq!(place(&[low], 0, 0), Position::default());
}
