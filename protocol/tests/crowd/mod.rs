//! Simulated walkers and a link that loses, delays, repeats and reorders: what the frames are
//! tested and measured on. The same seed gives the same run.

use protocol::state::{Animation, EntityState, VELOCITY_STEP_CM_S, flags};
use protocol::units::{Position, Yaw};

/// Ticks per second of the simulation.
pub const HZ: u16 = 20;

/// Random numbers (splitmix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % bound
    }

    /// Returns true in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One walker, in centimetres and seconds.
#[derive(Clone)]
struct Walker {
    at: [f64; 3],
    velocity: [f64; 3],
    speed: f64,
    pace: f64,
    heading: f64,
    turning: f64,
    rest_ticks: u64,
}

/// People who walk at 1.4-4 m/s over hills, turn now and then, and stop for a while.
#[derive(Clone)]
pub struct Crowd {
    random: Random,
    walkers: Vec<Walker>,
    /// Whether velocity tells how fast a walker climbs, or 0 on the ground.
    tells_climb: bool,
}

impl Crowd {
    /// Returns `count` walkers within 60 m.
    pub fn new(seed: u64, count: usize, tells_climb: bool) -> Self {
        let mut random = Random(seed);
        let walkers = (0..count).map(|_| Walker {
            at: [random.below(12_000) as f64, 0.0, random.below(12_000) as f64],
            velocity: [0.0; 3],
            speed: 0.0,
            pace: (140 + random.below(260)) as f64,
            heading: random.below(65_536) as f64,
            turning: 0.0,
            rest_ticks: 0,
        });
        let walkers = walkers.collect();
        let mut crowd = Self { random, walkers, tells_climb };
        (0..100).for_each(|_| crowd.step());
        crowd
    }

    /// Moves everyone by one tick.
    pub fn step(&mut self) {
        let dt = 1.0 / f64::from(HZ);
        for walker in &mut self.walkers {
            if walker.rest_ticks > 0 {
                walker.rest_ticks -= 1;
            } else if self.random.below(300) == 0 {
                walker.rest_ticks = 20 + self.random.below(80);
                walker.pace = (140 + self.random.below(260)) as f64;
            }
            if self.random.below(60) == 0 {
                walker.turning = self.random.below(32_768) as f64 - 16_384.0;
            }
            // Half a turn per second.
            let turn = walker.turning.clamp(-1_638.0, 1_638.0);
            walker.turning -= turn;
            walker.heading += turn;
            let pace = if walker.rest_ticks > 0 { 0.0 } else { walker.pace };
            // 8 m/s per second.
            walker.speed += (pace - walker.speed).clamp(-40.0, 40.0);
            let angle = walker.heading / 65_536.0 * std::f64::consts::TAU;
            let before = walker.at[1];
            walker.velocity =
                [walker.speed * libm::sin(angle), 0.0, -walker.speed * libm::cos(angle)];
            walker.at[0] += walker.velocity[0] * dt;
            walker.at[2] += walker.velocity[2] * dt;
            walker.at[1] = height(walker.at[0], walker.at[2]);
            if self.tells_climb {
                walker.velocity[1] = (walker.at[1] - before) / dt;
            }
        }
    }

    /// Returns how `index` looks.
    pub fn state(&self, index: usize) -> EntityState {
        let walker = &self.walkers[index];
        let [x, y, z] = walker.at.map(|cm| libm::floor(cm) as i32);
        let step = f64::from(VELOCITY_STEP_CM_S);
        let animation = match walker.speed {
            speed if speed < 1.0 => Animation::Stand,
            speed if speed < 250.0 => Animation::Walk,
            _ => Animation::Run,
        };
        EntityState {
            position: Position { x, y, z },
            velocity: walker.velocity.map(|cm_s| libm::round(cm_s / step) as i16),
            yaw: Yaw(libm::round(walker.heading) as i64 as u16).coarse(),
            animation: animation as u8,
            flags: flags::GROUNDED,
        }
    }
}

/// Hills of up to 12 %.
fn height(x: f64, z: f64) -> f64 {
    300.0 * libm::sin(x / 4_000.0)
        + 100.0 * libm::sin(z / 1_700.0)
        + 40.0 * libm::sin((x + z) / 900.0)
}

/// A way for datagrams that loses, delays, repeats and so reorders them.
pub struct Link<T> {
    random: Random,
    under_way: Vec<(u64, T)>,
    /// Ticks of delay, shortest and longest.
    pub delay: (u64, u64),
    /// Of 100 datagrams, how many get lost.
    pub loss_percent: u64,
    /// Of 100 datagrams, how many arrive twice.
    pub repeat_percent: u64,
}

impl<T: Clone> Link<T> {
    /// Returns a link that delays by `delay` ticks.
    pub fn new(seed: u64, delay: (u64, u64), loss_percent: u64, repeat_percent: u64) -> Self {
        Self { random: Random(seed), under_way: Vec::new(), delay, loss_percent, repeat_percent }
    }

    /// Sends at tick `now`.
    pub fn send(&mut self, now: u64, datagram: T) {
        let times = 1 + u64::from(self.random.chance(self.repeat_percent));
        for _ in 0..times {
            if !self.random.chance(self.loss_percent) {
                let (least, most) = self.delay;
                let delay = least + self.random.below(most - least + 1);
                self.under_way.push((now + delay, datagram.clone()));
            }
        }
    }

    /// Returns what arrives at tick `now`.
    pub fn arrivals(&mut self, now: u64) -> Vec<T> {
        let (due, later) = self.under_way.drain(..).partition(|&(at, _)| at <= now);
        self.under_way = later;
        let due: Vec<(u64, T)> = due;
        due.into_iter().map(|(_, datagram)| datagram).collect()
    }
}
