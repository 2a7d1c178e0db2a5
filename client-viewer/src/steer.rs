//! Steering: the input that leads a body to a point, around what stands in the way.
//!
//! Looks a few metres ahead only; it finds its way around posts and trees, not out of mazes.

use protocol::ground::Pillar;
use protocol::input::{Input, RUN};
use protocol::motion::RADIUS_CM;
use protocol::units::{Position, Yaw};

/// How far ahead pillars are looked at, in cm.
const LOOK_CM: f64 = 500.0;

/// Room kept beside a pillar, in cm.
const MARGIN_CM: f64 = 20.0;

/// Nearer than this the steps get shorter, so that the point is not overshot.
const SLOW_CM: f64 = 40.0;

/// The full axis of an [`Input`].
const FULL: f64 = 127.0;

/// Returns the input that leads from `here` towards `goal`.
#[must_use]
pub fn steer<'a>(
    here: Position,
    goal: Position,
    run: bool,
    pillars: impl Iterator<Item = &'a Pillar>,
) -> Input {
    let way = (f64::from(goal.x) - f64::from(here.x), f64::from(goal.z) - f64::from(here.z));
    let distance = way.0.hypot(way.1);
    if distance < 1.0 {
        return Input::default();
    }
    let ahead = (way.0 / distance, way.1 / distance);
    let obstacle = pillars
        .filter_map(|pillar| Obstacle::of(here, pillar))
        .filter(|obstacle| obstacle.blocks(ahead, distance))
        .min_by(|a, b| a.distance.total_cmp(&b.distance));
    let heading = obstacle.map_or(ahead, |obstacle| obstacle.beside(ahead));
    let speed = if distance < SLOW_CM { FULL * (distance / SLOW_CM).max(0.15) } else { FULL };
    Input {
        forward: rounded(speed),
        right: 0,
        yaw: Yaw::towards(to_cm(heading.0 * 10_000.0), to_cm(heading.1 * 10_000.0)),
        buttons: if run && SLOW_CM * 4.0 < distance { RUN } else { 0 },
    }
}

/// A pillar as seen from the walker.
#[derive(Clone, Copy)]
struct Obstacle {
    /// To its centre.
    to: (f64, f64),
    distance: f64,
    /// How far from its centre one passes.
    berth: f64,
}

impl Obstacle {
    fn of(here: Position, pillar: &Pillar) -> Option<Self> {
        // What is stepped over or flown over is no obstacle.
        if pillar.top <= here.y {
            return None;
        }
        let to = (f64::from(pillar.x) - f64::from(here.x), f64::from(pillar.z) - f64::from(here.z));
        let distance = to.0.hypot(to.1);
        let berth = f64::from(pillar.radius + RADIUS_CM) + MARGIN_CM;
        (distance < LOOK_CM + berth).then_some(Self { to, distance, berth })
    }

    /// Whether it lies in the way before the goal is reached.
    fn blocks(&self, ahead: (f64, f64), goal: f64) -> bool {
        let along = self.to.0 * ahead.0 + self.to.1 * ahead.1;
        let beside = (self.to.0 * ahead.1 - self.to.1 * ahead.0).abs();
        // A goal closer than the pillar's far side is reached before it matters.
        0.0 < along && beside < self.berth && along - self.berth < goal && self.distance < goal
    }

    /// The direction past it, on the side that is nearer to the way.
    fn beside(&self, ahead: (f64, f64)) -> (f64, f64) {
        let side = if self.to.0 * ahead.1 - self.to.1 * ahead.0 < 0.0 { 1.0 } else { -1.0 };
        let length = self.distance.max(1.0);
        // The tangent to its berth; along its rim when one is inside already.
        let sine = (self.berth / length).min(1.0);
        let cosine = (1.0 - sine * sine).max(0.0).sqrt();
        let (x, z) = (self.to.0 / length, self.to.1 / length);
        let turned = (x * cosine + side * z * sine, z * cosine - side * x * sine);
        if self.distance < self.berth {
            // Away a little, so that one does not stick to the rim.
            return (turned.0 - 0.3 * x, turned.1 - 0.3 * z);
        }
        turned
    }
}

#[expect(clippy::cast_possible_truncation, reason = "within +-127")]
fn rounded(axis: f64) -> i8 {
    axis.clamp(-FULL, FULL).round() as i8
}

#[expect(clippy::cast_possible_truncation, reason = "a float cast to an integer saturates")]
fn to_cm(number: f64) -> i32 {
    number.round() as i32
}

#[cfg(test)]
mod tests {
    use protocol::ground::{Ground, Pillars};
    use protocol::motion::{Body, MotionRules, step};

    use super::*;

    struct Yard(Pillars);

    impl Ground for Yard {
        fn height(&self, _: i64, _: i64) -> Option<i64> {
            Some(0)
        }

        fn pillars(&self, x: i32, z: i32, _: i32) -> &[Pillar] {
            self.0.near(x, z)
        }
    }

    /// How many ticks it takes to get there, nothing within a minute.
    fn ticks(goal: Position, run: bool, posts: &[Pillar]) -> Option<usize> {
        let mut pillars = Pillars::default();
        posts.iter().for_each(|&post| pillars.insert(post));
        let (yard, rules) =
            (Yard(pillars), MotionRules { sea_level_cm: -9_999, ..Default::default() });
        let mut body = Body::standing(Position::default(), Yaw::NORTH);
        (0..1_200).find(|_| {
            let input = steer(body.position(), goal, run, posts.iter());
            body = step(&body, input, &yard, &rules);
            body.position().is_within(goal, 20)
        })
    }

    fn post(x: i32, z: i32, radius: i32) -> Pillar {
        Pillar { x, z, radius, top: 300 }
    }

    #[test]
    fn a_free_way_is_straight() {
        // 10 m at 180 cm/s are 5.6 s, 112 ticks.
        let straight = ticks(Position::new(1_000, 0, 0), false, &[]).expect("there");
        assert!((105..130).contains(&straight), "{straight}");
        let running = ticks(Position::new(-600, 0, 800), true, &[]).expect("there");
        assert!((38..65).contains(&running), "{running}");
    }

    #[test]
    fn a_post_in_the_way_is_walked_around() {
        for offset in [-40, -1, 0, 1, 40] {
            let around = ticks(Position::new(1_000, 0, 0), false, &[post(500, offset, 60)]);
            assert!(around.is_some_and(|ticks| ticks < 160), "{offset}: {around:?}");
        }
    }

    #[test]
    fn a_row_of_trees_is_got_through() {
        let trees: Vec<Pillar> =
            (0..40).map(|i| post(200 + i % 8 * 240, i / 8 * 230 - 460, 35)).collect();
        for z in [-400, -100, 0, 200] {
            let through = ticks(Position::new(2_200, 0, z), false, &trees);
            assert!(through.is_some(), "{z}");
        }
    }

    #[test]
    fn standing_there_already_is_standing_still() {
        assert_eq!(steer(Position::default(), Position::default(), true, [].iter()).forward, 0);
    }
}
