//! Which chunk is made next: the nearest one that somebody still wants.
//!
//! Owns the wishes and their order. It never makes a chunk, holds none, and knows no clock.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::ChunkId;

use crate::limits::REQUESTERS_MAX;

/// Who wants a chunk: a number the asker chooses, one per viewer or shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requester(pub u64);

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It waits for its turn.
    Waiting,
    /// The chunk is being made.
    Making,
    /// Everything that waits is nearer; ask again.
    Full,
}

#[derive(Clone, Debug, Default)]
struct Wish {
    // How far each requester is, in metres.
    distances: BTreeMap<Requester, u32>,
    making: bool,
}

impl Wish {
    fn nearest(&self) -> u32 {
        self.distances.values().copied().min().unwrap_or(u32::MAX)
    }
}

/// The chunks that are wanted and not made yet.
#[derive(Clone, Debug)]
pub struct Demand {
    wishes: BTreeMap<ChunkId, Wish>,
    // Nearest first: exactly the wishes that are not being made.
    order: BTreeSet<(u32, ChunkId)>,
    waiting_max: usize,
}

impl Demand {
    /// Returns an empty demand in which at most `waiting_max` chunks wait.
    #[must_use]
    pub const fn new(waiting_max: usize) -> Self {
        Self { wishes: BTreeMap::new(), order: BTreeSet::new(), waiting_max }
    }

    /// Notes that `requester`, `distance_m` away, wants `chunk`; asking again moves it.
    ///
    /// Where too many chunks wait, the farthest makes room for a nearer one.
    pub fn want(&mut self, chunk: ChunkId, requester: Requester, distance_m: u32) -> Asked {
        if !self.wishes.contains_key(&chunk) && !self.has_room(distance_m) {
            return Asked::Full;
        }
        let wish = self.wishes.entry(chunk).or_default();
        let known = wish.distances.contains_key(&requester);
        if REQUESTERS_MAX <= wish.distances.len() && !known {
            return Asked::Full;
        }
        let before = wish.nearest();
        wish.distances.insert(requester, distance_m);
        if wish.making {
            return Asked::Making;
        }
        self.order.remove(&(before, chunk));
        self.order.insert((wish.nearest(), chunk));
        Asked::Waiting
    }

    /// Forgets that `requester` wants `chunk`; a chunk nobody wants is not made.
    pub fn cancel(&mut self, chunk: ChunkId, requester: Requester) {
        let Some(wish) = self.wishes.get_mut(&chunk) else { return };
        let before = wish.nearest();
        wish.distances.remove(&requester);
        if wish.making {
            return;
        }
        self.order.remove(&(before, chunk));
        if wish.distances.is_empty() {
            self.wishes.remove(&chunk);
        } else {
            self.order.insert((wish.nearest(), chunk));
        }
    }

    /// Forgets everything `requester` wants.
    pub fn cancel_all(&mut self, requester: Requester) {
        let wanted = |(_, wish): &(&ChunkId, &Wish)| wish.distances.contains_key(&requester);
        let chunks: Vec<ChunkId> = self.wishes.iter().filter(wanted).map(|(id, _)| *id).collect();
        for chunk in chunks {
            self.cancel(chunk, requester);
        }
    }

    /// Returns the nearest chunk that waits, which is being made from now on.
    pub fn take(&mut self) -> Option<ChunkId> {
        let (_, chunk) = self.order.pop_first()?;
        if let Some(wish) = self.wishes.get_mut(&chunk) {
            wish.making = true;
        }
        Some(chunk)
    }

    /// Notes that `chunk` is made; returns who still wants it.
    pub fn finish(&mut self, chunk: ChunkId) -> Vec<Requester> {
        let Some(wish) = self.wishes.remove(&chunk) else { return Vec::new() };
        self.order.remove(&(wish.nearest(), chunk));
        wish.distances.into_keys().collect()
    }

    /// Returns how many chunks wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.order.len()
    }

    /// Makes room for a chunk that near if there is none; returns whether there is.
    fn has_room(&mut self, distance_m: u32) -> bool {
        if self.order.len() < self.waiting_max {
            return true;
        }
        let farther = self.order.last().copied().filter(|&(last, _)| distance_m < last);
        let Some((distance, chunk)) = farther else { return false };
        self.order.remove(&(distance, chunk));
        self.wishes.remove(&chunk);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(x: i32) -> ChunkId {
        ChunkId { level: 0, x, z: 0 }
    }

    /// Runs a script of `want x by who at metres`, `cancel x by who`, `leave who`, `next` and
    /// `finish x`, and compares what `next`, `finish` and refused wishes say.
    fn check(script: &str, expected: &str) {
        let mut demand = Demand::new(3);
        let mut said = Vec::new();
        for line in script.split(';').map(str::trim) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |text: &str| text.parse::<i32>().expect("a number");
            let who = |text: &str| Requester(number(text) as u64);
            match words.as_slice() {
                ["want", x, "by", by, "at", metres] => {
                    let asked = demand.want(chunk(number(x)), who(by), number(metres) as u32);
                    match asked {
                        Asked::Waiting => {}
                        Asked::Making => said.push("making".to_owned()),
                        Asked::Full => said.push("full".to_owned()),
                    }
                }
                ["cancel", x, "by", by] => demand.cancel(chunk(number(x)), who(by)),
                ["leave", by] => demand.cancel_all(who(by)),
                ["next"] => {
                    said.push(demand.take().map_or_else(|| "-".into(), |id| id.x.to_string()));
                }
                ["finish", x] => {
                    let who = demand.finish(chunk(number(x)));
                    said.push(format!("{:?}", who.iter().map(|who| who.0).collect::<Vec<_>>()));
                }
                _ => panic!("what is {line}?"),
            }
        }
        assert_eq!(said.join(" "), expected, "{script}");
    }

    #[test]
    fn the_nearest_comes_first() {
        check(
            "want 1 by 1 at 90; want 2 by 1 at 10; want 3 by 1 at 50; next; next; next; next",
            "2 3 1 -",
        );
    }

    #[test]
    fn asking_again_moves_a_chunk_and_never_doubles_it() {
        check("want 1 by 1 at 90; want 2 by 1 at 50; want 1 by 1 at 10; next; next; next", "1 2 -");
        check("want 1 by 1 at 10; want 2 by 1 at 50; want 1 by 1 at 90; next; next; next", "2 1 -");
    }

    #[test]
    fn the_nearest_requester_counts_and_all_are_told() {
        check(
            "want 1 by 1 at 90; want 2 by 1 at 50; want 1 by 2 at 10; next; finish 1",
            "1 [1, 2]",
        );
        check("want 1 by 1 at 90; want 2 by 1 at 50; want 1 by 2 at 10; cancel 1 by 2; next", "2");
    }

    #[test]
    fn what_is_left_behind_is_not_made() {
        check("want 1 by 1 at 10; cancel 1 by 1; next", "-");
        check(
            "want 1 by 1 at 10; want 2 by 1 at 20; want 2 by 2 at 20; leave 1; next; next",
            "2 -",
        );
        check("want 1 by 1 at 10; cancel 1 by 2; cancel 9 by 1; next", "1");
    }

    #[test]
    fn a_chunk_in_the_making_is_joined_or_left() {
        check("want 1 by 1 at 10; next; want 1 by 2 at 5; next; finish 1", "1 making - [1, 2]");
        check("want 1 by 1 at 10; next; cancel 1 by 1; finish 1; finish 1", "1 [] []");
        check("want 1 by 1 at 10; next; leave 1; want 1 by 1 at 9; finish 1", "1 making [1]");
    }

    #[test]
    fn when_full_the_farthest_makes_room() {
        let full = "want 1 by 1 at 30; want 2 by 1 at 20; want 3 by 1 at 10";
        check(&format!("{full}; want 4 by 2 at 30; next"), "full 3");
        check(&format!("{full}; want 4 by 2 at 29; next; next; next; next"), "3 2 4 -");
        check(&format!("{full}; want 1 by 2 at 99; next"), "3");
    }

    #[test]
    fn one_chunk_remembers_a_bounded_number_of_requesters() {
        let mut demand = Demand::new(3);
        for who in 0..REQUESTERS_MAX as u64 {
            assert_eq!(demand.want(chunk(1), Requester(who), 5), Asked::Waiting);
        }
        assert_eq!(demand.want(chunk(1), Requester(9_999), 5), Asked::Full);
        assert_eq!(demand.want(chunk(1), Requester(0), 5), Asked::Waiting);
    }
}
