//! The ways of getting along: walking, falling, swimming, flying.
//!
//! Each takes a body under way through one tick; which one is decided by its mode. Reading the
//! input and bounding the result is the caller's.

use super::pace::{Pace, approach, length, shorten};
use super::site::Site;
use super::travel::{Journey, is_steep};
use super::{Mode, SUB, Wish};
use crate::ground::Ground;

/// Depth of a swimmer's feet below the surface: the head stays out.
const SWIM_DEPTH: i64 = 130 * SUB;

/// How much shallower the water must be for a swimmer to stand: no flicker at the edge.
const WADE_MARGIN: i64 = 10 * SUB;

/// A body in the middle of a step.
pub struct Stride {
    pub mode: Mode,
    pub journey: Journey,
    /// Upward speed.
    pub rise_speed: i64,
}

impl Stride {
    /// On the ground: speed follows the wish, feet follow the floor.
    pub fn walk<G: Ground + ?Sized>(&mut self, wish: Wish, site: &Site<'_, G>, pace: &Pace) {
        if matches!(self.mode, Mode::Sit | Mode::Work) {
            let stays = wish.is_still()
                && !wish.jump
                && (self.journey.feet - self.journey.floor) <= pace.step;
            if stays {
                (self.journey.feet, self.journey.velocity, self.rise_speed) =
                    (self.journey.floor, (0, 0), 0);
                return;
            }
            self.mode = Mode::Ground;
        }
        if wish.jump && self.mode == Mode::Ground {
            (self.mode, self.rise_speed) = (Mode::Air, pace.jump);
            self.fall(wish, site, pace);
            return;
        }
        if self.mode == Mode::Slide {
            slide(&mut self.journey, wish, site, pace);
        } else {
            let speed = if wish.run { pace.run } else { pace.walk };
            let speed = slowed(speed, self.journey.velocity, self.rise_speed, pace);
            self.journey.velocity =
                approach(self.journey.velocity, wish.at_speed(speed), pace.acceleration);
        }
        if pace.step < self.journey.feet - self.journey.floor {
            (self.mode, self.rise_speed) = (Mode::Air, 0);
            self.fall(wish, site, pace);
            return;
        }
        let before = self.journey.feet;
        self.journey.feet = self.journey.floor;
        self.journey.slope = site.slope(self.journey.x, self.journey.z);
        self.journey.grounded = true;
        self.journey = self.journey.advance(site, pace);
        self.rise_speed = (self.journey.feet - before) * pace.hz;
        self.mode = standing_mode(&self.journey, site, pace);
        if self.mode == Mode::Air {
            self.rise_speed = 0;
        }
    }

    /// In the air: gravity, and a little steering.
    pub fn fall<G: Ground + ?Sized>(&mut self, wish: Wish, site: &Site<'_, G>, pace: &Pace) {
        if !wish.is_still() {
            let speed = if wish.run { pace.run } else { pace.walk };
            // Never slowed below what the jump began with, unless steered the other way.
            let wanted = wish.at_speed(speed);
            let steered = approach(self.journey.velocity, wanted, pace.air_acceleration);
            let kept = length(self.journey.velocity.0, self.journey.velocity.1).max(speed);
            self.journey.velocity = shorten(steered, kept);
        }
        let slower = (self.rise_speed - pace.gravity).max(-Pace::SPEED_MAX);
        let before = self.journey.feet;
        let feet = before + (self.rise_speed + slower) / 2 / pace.hz;
        self.rise_speed = slower;
        self.journey = self.journey.advance(site, pace);
        // A ledge stepped onto in flight has lifted the feet already.
        let feet = if before < self.journey.feet { feet.max(self.journey.feet) } else { feet };
        self.land(feet, site, pace);
    }

    /// Brings the feet to `feet`, or to what stops them on the way: the floor, or water.
    fn land<G: Ground + ?Sized>(&mut self, feet: i64, site: &Site<'_, G>, pace: &Pace) {
        if feet <= self.journey.floor {
            (self.journey.feet, self.journey.grounded, self.rise_speed) =
                (self.journey.floor, true, 0);
            self.journey.slope = site.slope(self.journey.x, self.journey.z);
            self.mode = standing_mode(&self.journey, site, pace);
        } else {
            self.journey.feet = feet;
            if feet < pace.sea - SWIM_DEPTH {
                // Water takes most of a fall's speed.
                (self.mode, self.rise_speed) = (Mode::Swim, self.rise_speed / 4);
            }
        }
    }

    /// In the water: slow, and carried back up to the surface.
    pub fn swim<G: Ground + ?Sized>(&mut self, wish: Wish, site: &Site<'_, G>, pace: &Pace) {
        let afloat = pace.sea - SWIM_DEPTH;
        let speed = if wish.run { pace.swim * 3 / 2 } else { pace.swim };
        self.journey.velocity =
            approach(self.journey.velocity, wish.at_speed(speed), pace.acceleration / 3);
        let lift = match (wish.jump || wish.up, wish.down) {
            (true, false) => pace.swim,
            (false, true) => -pace.swim,
            (true, true) | (false, false) => {
                (afloat - self.journey.feet).clamp(-pace.swim, pace.swim)
            }
        };
        (self.rise_speed, _) = approach((self.rise_speed, 0), (lift, 0), pace.acceleration / 3);
        self.journey = self.journey.advance(site, pace);
        let feet = self.journey.feet + self.rise_speed / pace.hz;
        let feet = if afloat < feet {
            feet.min(afloat.max(self.journey.feet - pace.step / 4))
        } else {
            feet
        };
        let is_shallow = afloat + WADE_MARGIN <= self.journey.floor;
        if is_shallow && feet <= self.journey.floor + pace.step {
            (self.journey.feet, self.journey.grounded, self.rise_speed) =
                (self.journey.floor, true, 0);
            self.journey.slope = site.slope(self.journey.x, self.journey.z);
            self.mode = standing_mode(&self.journey, site, pace);
        } else if afloat + pace.step < feet {
            self.mode = Mode::Air;
            self.journey.feet = feet;
        } else {
            if feet <= self.journey.floor {
                self.rise_speed = 0;
            }
            self.journey.feet = feet.max(self.journey.floor);
        }
    }

    /// In the air by will: up and down at a wish, at rest without one; touching the ground lands.
    pub fn fly<G: Ground + ?Sized>(&mut self, wish: Wish, site: &Site<'_, G>, pace: &Pace) {
        if !pace.may_fly {
            self.mode = Mode::Air;
            self.fall(wish, site, pace);
            return;
        }
        let speed = if wish.run { pace.fly } else { pace.fly / 2 };
        self.journey.velocity =
            approach(self.journey.velocity, wish.at_speed(speed), pace.acceleration);
        let lift = i64::from(wish.up) - i64::from(wish.down);
        let wanted = lift * pace.fly / 2;
        (self.rise_speed, _) = approach((self.rise_speed, 0), (wanted, 0), pace.acceleration);
        self.journey = self.journey.advance(site, pace);
        let feet = self.journey.feet + self.rise_speed / pace.hz;
        if feet <= self.journey.floor && !wish.up {
            self.land(feet, site, pace);
        } else {
            self.journey.feet = feet.max(self.journey.floor);
        }
    }
}

/// Returns the speed left when going up at `rise_speed`: half of it on the steepest slope.
fn slowed(speed: i64, (east, south): (i64, i64), rise_speed: i64, pace: &Pace) -> i64 {
    if rise_speed <= 0 {
        return speed;
    }
    let along = length(east, south).max(1);
    let climb = (rise_speed * 1_000 / along).min(pace.slope_permille);
    speed - speed * climb / (2 * pace.slope_permille.max(1))
}

/// Gets faster down the slope; a wish steers a little.
fn slide<G: Ground + ?Sized>(journey: &mut Journey, wish: Wish, site: &Site<'_, G>, pace: &Pace) {
    let (east, south) = site.slope(journey.x, journey.z);
    let steep = 1_000_000 + (east * east).saturating_add(south * south);
    let pull = |slope: i64| pace.gravity * slope / (steep / 1_000).max(1);
    let steered = approach(journey.velocity, wish.at_speed(pace.walk), pace.air_acceleration / 2);
    let velocity = (steered.0 - pull(east), steered.1 - pull(south));
    journey.velocity = shorten(velocity, pace.run.max(pace.walk) * 3 / 2);
}

/// Returns how a body at the end of a grounded journey goes on.
fn standing_mode<G: Ground + ?Sized>(journey: &Journey, site: &Site<'_, G>, pace: &Pace) -> Mode {
    if journey.feet < pace.sea - SWIM_DEPTH && journey.floor < pace.sea - SWIM_DEPTH {
        return Mode::Swim;
    }
    if !journey.grounded || journey.floor < journey.feet {
        return Mode::Air;
    }
    let on_terrain = site.is_terrain(journey.x, journey.z, journey.floor);
    if on_terrain && is_steep(journey.slope, pace) { Mode::Slide } else { Mode::Ground }
}
