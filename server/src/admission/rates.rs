//! How much somebody may do in a time: buckets that fill at a rate and are emptied by deeds.
//!
//! Time comes in as milliseconds of any clock that does not run backwards.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::bans::household;
use crate::config::Config;

/// Addresses whose handshakes are counted one by one: at 48 bytes each this is 3 MB.
pub const ADDRESSES_MAX: usize = 65_536;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Deeds per second in the long run.
    pub per_s: f64,
    /// Deeds at once.
    pub burst: u32,
}

/// A bucket of deeds that are still allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    level: f64,
    at_ms: u64,
}

impl Bucket {
    /// Returns a full bucket.
    #[must_use]
    pub fn full(rate: Rate, now_ms: u64) -> Self {
        Self { level: f64::from(rate.burst), at_ms: now_ms }
    }

    /// Takes one deed out.
    ///
    /// # Errors
    /// The milliseconds to wait until the next one is allowed.
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> Result<(), u64> {
        self.fill(rate, now_ms);
        if self.level < 1.0 {
            // A millionth of a millisecond covers rounding, so that whole waits stay whole.
            let wait_ms = (1.0 - self.level) * 1_000.0 / rate.per_s - 1e-6;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates"
            )]
            return Err(wait_ms.ceil() as u64);
        }
        self.level -= 1.0;
        Ok(())
    }

    fn fill(&mut self, rate: Rate, now_ms: u64) {
        // A clock that seems to run backwards fills nothing and takes nothing away.
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        #[expect(clippy::cast_precision_loss, reason = "a century in milliseconds is below 2^53")]
        let gained = passed_ms as f64 / 1_000.0 * rate.per_s;
        self.level = (self.level + gained).min(f64::from(rate.burst));
        self.at_ms = self.at_ms.max(now_ms);
    }

    fn is_full(&mut self, rate: Rate, now_ms: u64) -> bool {
        self.fill(rate, now_ms);
        f64::from(rate.burst) <= self.level
    }
}

/// What one session may send.
#[derive(Clone, Debug)]
pub struct SessionRates {
    messages: (Rate, Bucket),
    chat: (Rate, Bucket),
    datagrams: (Rate, Bucket),
}

impl SessionRates {
    /// Returns full buckets at the rates that `config` sets.
    #[must_use]
    pub fn new(config: &Config, now_ms: u64) -> Self {
        let full = |rate| (rate, Bucket::full(rate, now_ms));
        let admission = &config.admission;
        let datagrams_burst = admission.datagrams_per_s.ceil().min(f64::from(u32::MAX));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded above"
        )]
        let datagrams_burst = datagrams_burst as u32;
        Self {
            messages: full(Rate {
                per_s: admission.messages_per_s,
                burst: admission.messages_burst,
            }),
            chat: full(Rate {
                per_s: config.chat.utterances_per_s,
                burst: config.chat.utterances_burst,
            }),
            datagrams: full(Rate { per_s: admission.datagrams_per_s, burst: datagrams_burst }),
        }
    }

    /// Counts a message on the control stream.
    ///
    /// # Errors
    /// The milliseconds to wait until the next one is allowed.
    pub fn message(&mut self, now_ms: u64) -> Result<(), u64> {
        self.messages.1.take(self.messages.0, now_ms)
    }

    /// Counts an utterance, which is a message too.
    ///
    /// # Errors
    /// The milliseconds to wait until the next one is allowed.
    pub fn chat(&mut self, now_ms: u64) -> Result<(), u64> {
        self.chat.1.take(self.chat.0, now_ms)
    }

    /// Counts a datagram.
    ///
    /// # Errors
    /// The milliseconds to wait until the next one is allowed.
    pub fn datagram(&mut self, now_ms: u64) -> Result<(), u64> {
        self.datagrams.1.take(self.datagrams.0, now_ms)
    }
}

/// Handshakes by address, with one bucket for all whom there is no room to count.
#[derive(Clone, Debug)]
pub struct HandshakeRates {
    rate: Rate,
    buckets: BTreeMap<IpAddr, Bucket>,
    others: Bucket,
}

impl HandshakeRates {
    /// Returns empty counts at the rate that `config` sets.
    #[must_use]
    pub fn new(config: &Config, now_ms: u64) -> Self {
        let admission = &config.admission;
        let rate = Rate { per_s: admission.handshakes_per_s, burst: admission.handshakes_burst };
        Self { rate, buckets: BTreeMap::new(), others: Bucket::full(rate, now_ms) }
    }

    /// Counts a handshake from `address`.
    ///
    /// # Errors
    /// The milliseconds to wait until the next one is allowed.
    pub fn take(&mut self, address: IpAddr, now_ms: u64) -> Result<(), u64> {
        let address = household(address);
        if let Some(bucket) = self.buckets.get_mut(&address) {
            return bucket.take(self.rate, now_ms);
        }
        if ADDRESSES_MAX <= self.buckets.len() {
            return self.others.take(self.rate, now_ms);
        }
        let mut bucket = Bucket::full(self.rate, now_ms);
        let taken = bucket.take(self.rate, now_ms);
        self.buckets.insert(address, bucket);
        taken
    }

    /// Forgets addresses that were quiet long enough to start afresh; call it every few seconds.
    pub fn forget_quiet(&mut self, now_ms: u64) {
        let rate = self.rate;
        self.buckets.retain(|_, bucket| !bucket.is_full(rate, now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const RATE: Rate = Rate { per_s: 2.0, burst: 3 };

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let mut bucket = Bucket::full(RATE, 0);
        let taken: Vec<_> = (0..4).map(|_| bucket.take(RATE, 0)).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Err(500)]);
        assert_eq!(bucket.take(RATE, 499), Err(1));
        assert_eq!(bucket.take(RATE, 500), Ok(()));
        assert_eq!(bucket.take(RATE, 501), Err(499));
    }

    #[test]
    fn silence_saves_up_no_more_than_a_burst_and_a_backward_clock_nothing() {
        let mut bucket = Bucket::full(RATE, 1_000);
        assert_eq!(bucket.take(RATE, 0), Ok(()));
        let taken = (0..9).filter(|_| bucket.take(RATE, 1_000_000).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(bucket.take(RATE, 5), Err(500));
    }

    #[test]
    fn addresses_are_counted_apart_and_forgotten_when_quiet() {
        let mut config = Settings::defaults().config;
        config.admission.handshakes_per_s = 1.0;
        config.admission.handshakes_burst = 1;
        let mut rates = HandshakeRates::new(&config, 0);
        let (a, b): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        assert_eq!(rates.take(a, 0), Ok(()));
        assert_eq!(rates.take(a, 0), Err(1_000));
        assert_eq!(rates.take(b, 0), Ok(()));
        assert_eq!(rates.take(neighbour, 0), Err(1_000));
        rates.forget_quiet(999);
        assert_eq!(rates.buckets.len(), 2);
        rates.forget_quiet(1_000);
        assert_eq!(rates.buckets.len(), 0);
    }

    #[test]
    fn endless_addresses_share_one_bucket() {
        let mut rates = HandshakeRates::new(&Settings::defaults().config, 0);
        let burst = 50;
        for n in 0..u32::try_from(ADDRESSES_MAX).unwrap() {
            rates.take(IpAddr::from((n + (1 << 24)).to_be_bytes()), 0).unwrap();
        }
        let flood = (0..1_000_u32).filter(|n| rates.take(IpAddr::from(n.to_be_bytes()), 0).is_ok());
        assert_eq!(flood.count(), burst);
        assert_eq!(rates.buckets.len(), ADDRESSES_MAX);
    }

    #[test]
    fn sessions_are_held_to_what_is_configured() {
        let config = Settings::defaults().config;
        let mut rates = SessionRates::new(&config, 0);
        assert_eq!((0..200).filter(|_| rates.message(0).is_ok()).count(), 120);
        assert_eq!((0..200).filter(|_| rates.chat(0).is_ok()).count(), 5);
        assert_eq!((0..200).filter(|_| rates.datagram(0).is_ok()).count(), 90);
    }
}
