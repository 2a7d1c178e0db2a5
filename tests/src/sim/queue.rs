//! What happens next: everything that is to come, by the microsecond.
//!
//! It is the only clock of a simulated world. Two events of the same microsecond happen in the
//! order in which they were planned.

use std::collections::BTreeMap;

/// Events to come.
#[derive(Debug)]
pub struct Queue<T> {
    coming: BTreeMap<(u64, u64), T>,
    planned: u64,
    now_us: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { coming: BTreeMap::new(), planned: 0, now_us: 0 }
    }
}

impl<T> Queue<T> {
    /// Returns the time now, in microseconds.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Plans an event; one in the past happens now.
    pub fn at(&mut self, at_us: u64, event: T) {
        self.coming.insert((at_us.max(self.now_us), self.planned), event);
        self.planned += 1;
    }

    /// Plans an event `delay_us` from now.
    pub fn after(&mut self, delay_us: u64, event: T) {
        self.at(self.now_us + delay_us, event);
    }

    /// Moves on to the next event and returns it.
    pub fn step(&mut self) -> Option<T> {
        let ((at_us, _), event) = self.coming.pop_first()?;
        self.now_us = at_us;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_for_the_same_time_keeps_its_order() {
        let mut queue = Queue::default();
        queue.at(5, 'b');
        queue.at(5, 'c');
        queue.at(1, 'a');
        let order: String = std::iter::from_fn(|| queue.step()).collect();
        assert_eq!((order.as_str(), queue.now_us()), ("abc", 5));
    }
}
