//! A link that loses, delays, reorders and doubles datagrams, the same way for the same seed.

use std::collections::BTreeMap;

/// How bad a link is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Lost datagrams of a hundred.
    pub loss_percent: u64,
    /// Doubled datagrams of a hundred.
    pub double_percent: u64,
    /// Mean delay.
    pub delay_us: u64,
    /// How far the delay strays from its mean either way.
    pub jitter_us: u64,
}

impl Weather {
    /// A line next door.
    pub const fn clean() -> Self {
        Self { loss_percent: 0, double_percent: 0, delay_us: 2_000, jitter_us: 200 }
    }

    /// What the goals are set for.
    pub const fn bad() -> Self {
        Self { loss_percent: 5, double_percent: 1, delay_us: 100_000, jitter_us: 20_000 }
    }

    /// A train in the mountains.
    pub const fn terrible() -> Self {
        Self { loss_percent: 25, double_percent: 5, delay_us: 150_000, jitter_us: 60_000 }
    }
}

/// One direction of a line.
pub struct Link {
    weather: Weather,
    random: u64,
    count: u64,
    /// By time of arrival.
    flying: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Link {
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self { weather, random: seed, count: 0, flying: BTreeMap::new() }
    }

    pub fn send(&mut self, now_us: u64, bytes: Vec<u8>) {
        let copies = if self.draw(100) < self.weather.double_percent { 2 } else { 1 };
        for _ in 0..copies {
            if self.draw(100) < self.weather.loss_percent {
                continue;
            }
            let stray = self.draw(2 * self.weather.jitter_us + 1);
            let at_us = now_us + self.weather.delay_us + stray - self.weather.jitter_us;
            self.count += 1;
            self.flying.insert((at_us, self.count), bytes.clone());
        }
    }

    pub fn receive(&mut self, now_us: u64, mut take: impl FnMut(&[u8])) {
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= now_us) {
            take(&entry.remove());
        }
    }

    /// Splitmix64.
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }
}
