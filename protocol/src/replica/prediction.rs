//! One's own body: moved at once by the same rules as the server's, and set right by what the
//! server says.
//!
//! Owns the inputs that the server has not yet answered. When they are made and sent is decided
//! elsewhere.

use std::collections::VecDeque;

use super::entity::{difference, length};
use crate::delta::OwnBody;
use crate::ground::Ground;
use crate::input::Input;
use crate::motion::{Body, Mode, MotionRules, SUB, step};

/// Inputs that can wait for an answer: 3.2 s at 20 Hz, after which the connection is as good as
/// lost and the oldest are given up.
pub const UNANSWERED_MAX: usize = 64;

/// A correction beyond this, in centimetres, is a jump and shown as one.
const JUMP_CM: f64 = 300.0;

/// Microseconds in which a correction shrinks to a third.
const SMOOTHED_US: f64 = 100_000.0;

/// An input on its way, and the body it led to.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    at_us: u64,
    input: Input,
    after: Body,
}

/// How far an answer of the server moved the predicted body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    /// Distance in centimetres, 0 where the prediction was right.
    pub cm: f64,
    /// When the answered input was sent, if it was answered for the first time.
    pub sent_us: Option<u64>,
}

/// The predicted body.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The body one input before the newest.
    previous: Body,
    body: Body,
    moved_us: u64,
    sent: VecDeque<Sent>,
    /// Number of the newest input, 0 before the first.
    newest: u64,
    answered: u64,
    /// What is shown beside the body, in centimetres, and since when.
    offset: [f64; 3],
    offset_us: u64,
}

impl Prediction {
    /// Returns a body that nothing has moved yet, after input `newest`.
    #[must_use]
    pub const fn new(body: Body, newest: u64) -> Self {
        Self {
            previous: body,
            body,
            moved_us: 0,
            sent: VecDeque::new(),
            newest,
            answered: 0,
            offset: [0.0; 3],
            offset_us: 0,
        }
    }

    /// Returns the body after the newest input.
    #[must_use]
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// Returns the number of the newest input.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns how many inputs wait for an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.sent.len()
    }

    /// Returns the newest `count` inputs, the newest first.
    pub fn inputs(&self, count: usize) -> impl Iterator<Item = Input> + '_ {
        self.sent.iter().rev().take(count).map(|sent| sent.input)
    }

    /// Moves the body by the next input; returns the input's number.
    pub fn push<G>(&mut self, input: Input, now_us: u64, ground: &G, rules: &MotionRules) -> u64
    where
        G: Ground + ?Sized,
    {
        if UNANSWERED_MAX <= self.sent.len() {
            self.sent.pop_front();
        }
        self.newest += 1;
        self.previous = self.body;
        self.body = step(&self.body, input, ground, rules);
        self.moved_us = now_us;
        let sent = Sent { number: self.newest, at_us: now_us, input, after: self.body };
        self.sent.push_back(sent);
        self.newest
    }

    /// Takes in the server's body after input `acked`, and plays the later inputs again on it.
    pub fn reconcile<G>(
        &mut self,
        acked: u64,
        own: &OwnBody,
        now_us: u64,
        ground: &G,
        rules: &MotionRules,
    ) -> Correction
    where
        G: Ground + ?Sized,
    {
        let sent_us = self.answer(acked);
        let right = self.sent.front().filter(|sent| sent.number == acked);
        let yaw = right.map_or(self.body.yaw, |sent| sent.input.yaw);
        let mode = Mode::from_number(own.mode).unwrap_or(self.body.mode);
        let body = Body { at: own.at, velocity: own.velocity, yaw, mode };
        if right.is_some_and(|sent| sent.after == body) {
            return Correction { cm: 0.0, sent_us };
        }
        let before = cm(&self.body);
        let mut replayed = body;
        let mut previous = body;
        if let Some(answered) = self.sent.front_mut().filter(|sent| sent.number == acked) {
            answered.after = body;
        }
        for sent in self.sent.iter_mut().filter(|sent| acked < sent.number) {
            previous = replayed;
            replayed = step(&replayed, sent.input, ground, rules);
            sent.after = replayed;
        }
        let off = difference(before, cm(&replayed));
        (self.previous, self.body) = (previous, replayed);
        self.show_beside(off, now_us);
        Correction { cm: length(off), sent_us }
    }

    /// Returns where the body is shown at `now_us`, in centimetres: one input late, without
    /// jumps.
    #[must_use]
    pub fn shown_cm(&self, now_us: u64, tick_us: u64) -> [f64; 3] {
        let since = now_us.saturating_sub(self.moved_us) as f64;
        let part = (since / tick_us.max(1) as f64).min(1.0);
        let left = self.offset_left(now_us);
        let (from, to) = (cm(&self.previous), cm(&self.body));
        let mut at = from;
        for ((at, to), off) in at.iter_mut().zip(to).zip(self.offset) {
            *at += (to - *at) * part + off * left;
        }
        at
    }

    /// Forgets inputs before `acked`; returns when it was sent if it was not answered before.
    fn answer(&mut self, acked: u64) -> Option<u64> {
        while self.sent.front().is_some_and(|sent| sent.number < acked) {
            self.sent.pop_front();
        }
        if acked <= self.answered {
            return None;
        }
        self.answered = acked;
        self.sent.front().filter(|sent| sent.number == acked).map(|sent| sent.at_us)
    }

    fn show_beside(&mut self, off: [f64; 3], now_us: u64) {
        let left = self.offset_left(now_us);
        for (offset, off) in self.offset.iter_mut().zip(off) {
            *offset = *offset * left + off;
        }
        self.offset_us = now_us;
        if JUMP_CM < length(self.offset) {
            self.offset = [0.0; 3];
        }
    }

    fn offset_left(&self, now_us: u64) -> f64 {
        let since = now_us.saturating_sub(self.offset_us) as f64;
        libm::exp(-since / SMOOTHED_US)
    }
}

fn cm(body: &Body) -> [f64; 3] {
    body.at.map(|steps| steps as f64 / SUB as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Plain;
    use crate::units::{Position, Yaw};

    const EAST: Input = Input { forward: 127, right: 0, yaw: Yaw::EAST, buttons: 0 };
    const TICK_US: u64 = 50_000;

    fn rules() -> MotionRules {
        MotionRules { sea_level_cm: -10_000, ..MotionRules::default() }
    }

    fn own(body: &Body) -> OwnBody {
        OwnBody { at: body.at, velocity: body.velocity, mode: body.mode as u8, cooldown: 0 }
    }

    /// A prediction after ten steps east, and the body after each.
    fn walked() -> (Prediction, Vec<Body>) {
        let start = Body::standing(Position::default(), Yaw::NORTH);
        let mut prediction = Prediction::new(start, 0);
        let mut bodies = vec![start];
        for tick in 0..10 {
            prediction.push(EAST, tick * TICK_US, &Plain::default(), &rules());
            bodies.push(*prediction.body());
        }
        (prediction, bodies)
    }

    #[test]
    fn an_answer_as_predicted_changes_nothing() {
        let (mut prediction, bodies) = walked();
        let before = *prediction.body();
        let plain = Plain::default();
        let answer = prediction.reconcile(4, &own(&bodies[4]), 500_000, &plain, &rules());
        assert_eq!(answer, Correction { cm: 0.0, sent_us: Some(3 * TICK_US) });
        assert_eq!(*prediction.body(), before);
        assert_eq!(prediction.unanswered(), 7);
        let again = prediction.reconcile(4, &own(&bodies[4]), 500_000, &plain, &rules());
        assert_eq!(again.sent_us, None, "answered before");
    }

    #[test]
    fn a_push_is_taken_over_and_shown_smoothly() {
        let (mut prediction, bodies) = walked();
        let mut pushed = bodies[4];
        pushed.at[2] += 50 * SUB;
        let before = prediction.shown_cm(500_000, TICK_US);
        let answer = prediction.reconcile(4, &own(&pushed), 500_000, &Plain::default(), &rules());
        assert!((answer.cm - 50.0).abs() < 0.01, "{}", answer.cm);
        let after = prediction.shown_cm(500_000, TICK_US);
        assert!(length(difference(before, after)) < 0.01, "no jump");
        let later = prediction.shown_cm(1_500_000, TICK_US);
        assert!((later[2] - before[2] - 50.0).abs() < 0.1, "there at last");
    }

    #[test]
    fn a_repeated_input_moves_the_body_by_that_much() {
        let (mut prediction, bodies) = walked();
        let plain = Plain::default();
        let repeated = step(&bodies[4], EAST, &plain, &rules());
        let answer = prediction.reconcile(4, &own(&repeated), 500_000, &plain, &rules());
        // A walk of 180 cm/s is 9 cm a tick.
        assert!((8.0..10.0).contains(&answer.cm), "{}", answer.cm);
    }

    #[test]
    fn a_long_jump_is_shown_as_one() {
        let (mut prediction, bodies) = walked();
        let mut far = bodies[4];
        far.at[0] += 10_000 * SUB;
        prediction.reconcile(4, &own(&far), 500_000, &Plain::default(), &rules());
        assert!(prediction.shown_cm(500_000, TICK_US)[0] > 9_900.0);
    }

    #[test]
    fn unanswered_inputs_are_bounded() {
        let (mut prediction, _) = walked();
        for tick in 0..1_000 {
            prediction.push(EAST, tick, &Plain::default(), &rules());
        }
        assert_eq!(prediction.unanswered(), UNANSWERED_MAX);
        assert_eq!(prediction.inputs(3).count(), 3);
    }

    #[test]
    fn answers_to_inputs_never_sent_do_no_harm() {
        let (mut prediction, bodies) = walked();
        let answer = prediction.reconcile(99, &own(&bodies[2]), 1, &Plain::default(), &rules());
        assert!(answer.sent_us.is_none());
        assert_eq!(prediction.unanswered(), 0);
    }
}
