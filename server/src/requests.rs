//! Which requests of clients wait for an answer, and which shard has them.
//!
//! A request is put to one shard at a time, and answered once: what a lost shard had is refused by
//! the gateway, and must not be put to another shard when it comes back from somewhere after that.

use std::collections::BTreeMap;

use protocol::ids::EntityId;
use protocol::units::Tick;

use crate::region::RegionIndex;
use crate::shard::batch::Command;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for a step, or for whoever is on their way.
    Waits,
    /// It went into a step of which nothing is known yet.
    Sent(RegionIndex, Tick),
    /// A shard has begun it: it goes where its avatar goes.
    Begun,
}

/// The requests of a world that nobody has answered, by who acts and the client's number.
///
/// Sessions bound them: each client has only so many open.
#[derive(Debug, Default)]
pub struct Requests {
    open: BTreeMap<(EntityId, u32), Stage>,
    /// Those in steps of which nothing is known yet.
    sent: BTreeMap<(RegionIndex, Tick), Vec<(EntityId, u32)>>,
}

impl Requests {
    /// Takes note that an avatar's client asked for something.
    pub fn ask(&mut self, avatar: EntityId, request: u32) {
        self.open.insert((avatar, request), Stage::Waits);
    }

    /// Takes note that a request was answered.
    pub fn answer(&mut self, avatar: EntityId, request: u32) {
        self.open.remove(&(avatar, request));
    }

    /// Forgets what an avatar's client asked: it is gone, and nobody waits for an answer.
    pub fn forget(&mut self, avatar: EntityId) {
        let theirs = self.open.range((avatar, 0)..=(avatar, u32::MAX));
        for key in theirs.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.open.remove(&key);
        }
    }

    /// Returns whether a command is no request, or one whose answer somebody waits for.
    #[must_use]
    pub fn awaits(&self, command: &Command) -> bool {
        key(command).is_none_or(|key| self.open.contains_key(&key))
    }

    /// Takes note of the commands that go into a region's step to `tick`.
    pub fn send(&mut self, region: RegionIndex, tick: Tick, commands: &[Command]) {
        let mut sent = Vec::new();
        for key in commands.iter().filter_map(key) {
            if let Some(stage) = self.open.get_mut(&key) {
                *stage = Stage::Sent(region, tick);
                sent.push(key);
            }
        }
        if !sent.is_empty() {
            self.sent.insert((region, tick), sent);
        }
    }

    /// Returns whether a command that came back from a region's step to `tick` is to be put to
    /// another shard, and takes it for waiting again: always, unless it is a request that nobody
    /// waits for any more.
    pub fn come_back(&mut self, region: RegionIndex, tick: Tick, stray: &Command) -> bool {
        let Some(key) = key(stray) else { return true };
        let Some(stage) = self.open.get_mut(&key) else { return false };
        let is_awaited = *stage == Stage::Sent(region, tick);
        if is_awaited {
            *stage = Stage::Waits;
        }
        is_awaited
    }

    /// Takes note that all that came of a region's step to `tick` is known.
    pub fn made(&mut self, region: RegionIndex, tick: Tick) {
        for key in self.sent.remove(&(region, tick)).unwrap_or_default() {
            if let Some(stage) = self.open.get_mut(&key)
                && *stage == Stage::Sent(region, tick)
            {
                *stage = Stage::Begun;
            }
        }
    }

    /// Takes out what a region's shard was asked that is lost, and returns it: what went into steps
    /// of which nothing is known, and what those had begun of whom `is_there` says that they were
    /// there.
    pub fn lose(
        &mut self,
        region: RegionIndex,
        is_there: impl Fn(EntityId) -> bool,
    ) -> Vec<(EntityId, u32)> {
        self.sent.retain(|(sent, _), _| *sent != region);
        let is_lost = |key: &(EntityId, u32), stage: &mut Stage| match *stage {
            Stage::Waits => false,
            Stage::Sent(sent, _) => sent == region,
            Stage::Begun => is_there(key.0),
        };
        self.open.extract_if(.., is_lost).map(|(key, _)| key).collect()
    }
}

/// Returns who asks and the number, of a command that waits to be answered.
fn key(command: &Command) -> Option<(EntityId, u32)> {
    Some((command.avatar()?, command.request()?))
}

#[cfg(test)]
mod tests {
    use protocol::rules::{Act, Verb};

    use super::*;

    const ADA: EntityId = EntityId(7);
    const HERE: RegionIndex = RegionIndex(0);
    const THERE: RegionIndex = RegionIndex(1);

    fn act(request: u32) -> Command {
        Command::Do { avatar: ADA, request, act: Act::new(Verb::Stop) }
    }

    /// Asks 1 to 3; 1 goes into a step that is answered, 2 into one that is not, 3 waits.
    fn requests() -> Requests {
        let mut requests = Requests::default();
        (1..=3).for_each(|request| requests.ask(ADA, request));
        requests.send(HERE, Tick(1), &[act(1)]);
        requests.made(HERE, Tick(1));
        requests.send(HERE, Tick(2), &[act(2)]);
        requests
    }

    #[test]
    fn what_a_lost_shard_had_is_lost_and_what_waits_is_not() {
        assert_eq!(requests().lose(HERE, |_| true), [(ADA, 1), (ADA, 2)]);
        assert_eq!(requests().lose(HERE, |_| false), [(ADA, 2)], "what it began has moved on");
        assert_eq!(requests().lose(THERE, |_| true), [(ADA, 1)], "the other is still to come back");
        let mut requests = requests();
        requests.answer(ADA, 1);
        requests.forget(ADA);
        assert_eq!(requests.lose(HERE, |_| true), []);
    }

    #[test]
    fn what_comes_back_is_put_to_another_shard_once_and_only_while_it_is_awaited() {
        let mut requests = requests();
        assert!(!requests.come_back(HERE, Tick(1), &act(1)), "it was begun");
        assert!(!requests.come_back(THERE, Tick(2), &act(2)), "it went elsewhere");
        assert!(requests.come_back(HERE, Tick(2), &act(2)));
        assert!(!requests.come_back(HERE, Tick(2), &act(2)));
        assert_eq!(requests.lose(HERE, |_| true), [(ADA, 1)], "it waits again");
        requests.send(THERE, Tick(3), &[act(2), act(3)]);
        assert_eq!(requests.lose(THERE, |_| true), [(ADA, 2), (ADA, 3)]);
        assert!(!requests.come_back(THERE, Tick(3), &act(2)), "it was refused");
        assert!(requests.come_back(HERE, Tick(3), &Command::Leave { avatar: ADA }));
    }
}
