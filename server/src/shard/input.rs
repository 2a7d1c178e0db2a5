//! Phase 1, inputs: one numbered input per avatar and tick, in order, each applied once.
//!
//! A datagram repeats the newest inputs, so a lost one is usually still in time. What comes too
//! late is dropped; where nothing came, the last input goes on for a moment.

use std::collections::VecDeque;

use protocol::input::Input;
use protocol::units::Yaw;

/// Inputs waiting per avatar: 400 ms at 20 Hz; more would be lag, not protection against it.
const WAITING_MAX: usize = 8;

/// Ticks for which a silent client's last input goes on: half a second at 20 Hz.
const REPEATED_MAX: u8 = 10;

/// Inputs between two datagrams that mean a new count: 50 s at 20 Hz.
const RESTART_GAP: u64 = 1_000;

/// The inputs of one avatar, waiting for their tick.
#[derive(Clone, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct InputQueue {
    /// Number of the input applied last.
    applied: u64,
    current: Input,
    repeated: u8,
    waiting: VecDeque<(u64, Input)>,
}

impl InputQueue {
    /// Returns a queue without inputs: the body stands and looks towards `yaw`.
    #[must_use]
    pub fn facing(yaw: Yaw) -> Self {
        Self { current: Input { yaw, ..Input::default() }, ..Self::default() }
    }

    /// Returns the number of the newest input that was applied.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns the number of the newest input that was taken in.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.waiting.back().map_or(self.applied, |&(number, _)| number)
    }

    /// Returns how many inputs wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in the inputs of one datagram: `newest` is the number of the first of `inputs`,
    /// which run from newest to oldest.
    ///
    /// Returns how many of them were new.
    pub fn take_in(&mut self, newest: u64, inputs: &[Input]) -> usize {
        let before = self.waiting.len();
        // A client that starts counting anew, after a resume say, sets the count.
        if newest.abs_diff(self.applied) > RESTART_GAP {
            self.waiting.clear();
            self.applied = newest.saturating_sub(inputs.len() as u64);
        }
        let known = self.newest();
        for (age, &input) in inputs.iter().enumerate().rev() {
            let number = newest.saturating_sub(age as u64);
            if number > known {
                self.waiting.push_back((number, input));
            }
        }
        let fresh = self.waiting.len().saturating_sub(before);
        // An old input would pull the avatar back: the newest stay.
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
        }
        fresh
    }

    /// Returns the input to apply this tick.
    pub fn take(&mut self) -> Input {
        if let Some((number, input)) = self.waiting.pop_front() {
            self.applied = number;
            self.current = input;
            self.repeated = 0;
        } else if self.repeated < REPEATED_MAX {
            self.repeated += 1;
        } else {
            self.current = Input { yaw: self.current.yaw, ..Input::default() };
        }
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(amount: i8) -> Input {
        Input { forward: amount, ..Input::default() }
    }

    #[test]
    fn each_input_is_applied_once_and_in_order() {
        let mut queue = InputQueue::default();
        assert_eq!(queue.take_in(2, &[forward(2), forward(1)]), 2);
        assert_eq!(queue.take_in(3, &[forward(3), forward(2), forward(1)]), 1);
        let applied: Vec<i8> = (0..3).map(|_| queue.take().forward).collect();
        assert_eq!(applied, [1, 2, 3]);
        assert_eq!(queue.applied(), 3);
        assert_eq!(queue.take_in(3, &[forward(9)]), 0, "a duplicate changes nothing");
    }

    #[test]
    fn a_lost_datagram_is_repaired_by_the_next() {
        let mut queue = InputQueue::default();
        queue.take_in(1, &[forward(1)]);
        queue.take_in(3, &[forward(3), forward(2), forward(1)]);
        let applied: Vec<i8> = (0..3).map(|_| queue.take().forward).collect();
        assert_eq!(applied, [1, 2, 3]);
    }

    #[test]
    fn a_silent_client_walks_on_for_a_moment_only() {
        let mut queue = InputQueue::default();
        queue.take_in(1, &[forward(100)]);
        let walked = (0..50).filter(|_| queue.take().forward == 100).count();
        assert_eq!(walked, 1 + usize::from(REPEATED_MAX));
    }

    #[test]
    fn a_flood_keeps_the_newest() {
        let mut queue = InputQueue::default();
        for number in 1..=100 {
            queue.take_in(number, &[forward(1)]);
        }
        assert_eq!(queue.waiting(), WAITING_MAX);
        queue.take();
        assert_eq!(queue.applied(), 93);
    }
}
