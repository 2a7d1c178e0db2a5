//! Whether every client that is inside has its body: its own frames must go on carrying it.
//!
//! A body that was handed from shard to shard and that nobody owns then is in no frame any more,
//! while the connection stands. Who hears which frame is the caller's.

use protocol::units::Tick;
use serde_json::{Value, json};

use super::nearby::Nearby;
use super::report::Report;

/// Ticks without the own body after which it is lost, while others go on: two seconds at 20 Hz,
/// twice as long as the server waits before it gives up a process with shards.
pub const LOST_TICKS: u64 = 40;

/// The bodies of a crowd.
#[derive(Clone, Debug, Default)]
pub struct Bodies {
    clients: Vec<Option<Body>>,
    newest: Tick,
    lost: u64,
    gap_ticks_max: u64,
}

/// The body of a client that is inside.
#[derive(Clone, Copy, Debug)]
struct Body {
    newest: Tick,
    is_lost: bool,
}

impl Bodies {
    /// Returns the bodies of so many clients, none of whom is inside.
    #[must_use]
    pub fn new(clients: usize) -> Self {
        Self { clients: vec![None; clients], ..Self::default() }
    }

    /// Notes that a client is inside from `tick` on.
    pub fn entered(&mut self, client: usize, tick: Tick) {
        if let Some(body) = self.clients.get_mut(client) {
            *body = Some(Body { newest: tick, is_lost: false });
        }
    }

    /// Notes that a client is not inside any more.
    pub fn left(&mut self, client: usize) {
        if let Some(body) = self.clients.get_mut(client) {
            *body = None;
        }
    }

    /// Notes that a client's frame of `tick` had its own body.
    pub fn own(&mut self, client: usize, tick: Tick) {
        let Some(Some(body)) = self.clients.get_mut(client) else { return };
        self.gap_ticks_max = self.gap_ticks_max.max(tick.since(body.newest));
        body.newest = body.newest.max(tick);
        body.is_lost = false;
        self.newest = self.newest.max(tick);
    }

    /// Counts the bodies of which nothing came for too long.
    pub fn judge(&mut self) {
        for body in self.clients.iter_mut().flatten() {
            if !body.is_lost && LOST_TICKS < self.newest.since(body.newest) {
                body.is_lost = true;
                self.lost += 1;
            }
        }
    }

    /// Forgets what was counted, when the measurement begins; who is lost then is found again.
    pub fn begin(&mut self) {
        (self.lost, self.gap_ticks_max) = (0, 0);
        for body in self.clients.iter_mut().flatten() {
            body.is_lost = false;
        }
    }

    /// Returns how many bodies were lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the most ticks from one frame with the own body to the next, over all clients; 1 is
    /// no gap.
    #[must_use]
    pub const fn gap_ticks_max(&self) -> u64 {
        self.gap_ticks_max
    }

    /// Writes what was found into a report: also of those near each other, of how many clients that
    /// are inside no shard says that it has their body (less than none: two say so), and of how many
    /// bodies were announced `twice`.
    pub fn fill(&self, report: &mut Report, (nearby, missing): (&Nearby, Option<f64>), twice: u64) {
        let in_none = missing.unwrap_or(0.0).max(0.0);
        let in_two = missing.unwrap_or(0.0).min(0.0).abs();
        // Whoever is in no shard is told of nothing either.
        let lost = (self.lost as f64).max(in_none) + nearby.vanished() as f64;
        report.set("handoffs_lost", Some(lost));
        report.set("handoffs_duplicated", Some(twice as f64 + in_two));
        report.set("appear_ms_p99", nearby.appear_ms().percentile(99));
        report.spreads.insert("appear_ms".into(), nearby.appear_ms().clone());
        let hz = report.run.get("hz").and_then(Value::as_f64).unwrap_or(1.0);
        let more = &mut report.more;
        more.insert("own_gap_ms_max".into(), json!(self.gap_ticks_max as f64 * 1_000.0 / hz));
        more.insert("appear_checks".into(), json!(nearby.appear_ms().count()));
        more.insert("appear_ms_max".into(), json!(nearby.appear_ms().max()));
        more.insert("bodies_not_told".into(), json!(self.lost));
        more.insert("bodies_vanished".into(), json!(nearby.vanished()));
        more.insert("bodies_in_no_shard".into(), json!(missing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clients, of whom the last has its body in no frame after tick 10.
    fn told(ticks: u64) -> Bodies {
        let mut bodies = Bodies::new(3);
        (0..3).for_each(|client| bodies.entered(client, Tick(1)));
        for tick in 2..=ticks {
            let told = if tick <= 10 { 0..3 } else { 0..2 };
            told.for_each(|client| bodies.own(client, Tick(tick)));
            bodies.judge();
        }
        bodies
    }

    #[test]
    fn a_body_that_nobody_owns_is_lost_once() {
        assert_eq!(told(10 + LOST_TICKS).lost(), 0);
        assert_eq!(told(11 + LOST_TICKS).lost(), 1);
        let mut bodies = told(90);
        assert_eq!((bodies.lost(), bodies.gap_ticks_max()), (1, 1));
        bodies.begin();
        bodies.judge();
        assert_eq!(bodies.lost(), 1, "it is lost in the measurement, too");
        bodies.own(2, Tick(95));
        bodies.judge();
        assert_eq!((bodies.lost(), bodies.gap_ticks_max()), (1, 85));
    }

    #[test]
    fn one_who_is_not_told_of_itself_from_the_beginning_is_lost() {
        let mut bodies = told(90);
        bodies.begin();
        bodies.entered(2, Tick(90));
        bodies.own(0, Tick(90 + LOST_TICKS));
        bodies.judge();
        assert_eq!(bodies.lost(), 0);
        bodies.own(0, Tick(91 + LOST_TICKS));
        bodies.judge();
        assert_eq!(bodies.lost(), 2, "that one, and the one who stopped hearing as well");
    }

    #[test]
    fn every_sign_of_a_lost_or_doubled_body_is_in_the_report() {
        let check = |bodies: &Bodies, missing: Option<f64>, twice: u64, expected: (f64, f64)| {
            let mut report = Report::default();
            bodies.fill(&mut report, (&Nearby::default(), missing), twice);
            let number = |key| report.number(key).expect("it was looked at");
            let found = (number("handoffs_lost"), number("handoffs_duplicated"));
            assert_eq!(found, expected, "{missing:?}");
        };
        let (lost, none) = (told(90), Bodies::new(3));
        check(&none, Some(0.0), 0, (0.0, 0.0));
        check(&none, Some(2.0), 0, (2.0, 0.0));
        check(&none, Some(-1.0), 3, (0.0, 4.0));
        check(&lost, None, 0, (1.0, 0.0));
        check(&lost, Some(1.0), 0, (1.0, 0.0));
    }

    #[test]
    fn who_left_has_lost_nothing() {
        let mut bodies = told(40);
        bodies.left(2);
        (41..200).for_each(|tick| bodies.own(0, Tick(tick)));
        bodies.left(1);
        bodies.judge();
        assert_eq!(bodies.lost(), 0);
    }
}
