//! The front of a store: numbers batches, refuses what a newer owner fences off, bounds the queue.
//!
//! [`Intake`] is the one place where the order of batches is made. Fencing is decided in the same
//! step as numbering, so no batch of an old owner gets a number after a new owner has its epoch.
//! It never waits and never writes.

use std::collections::{BTreeMap, VecDeque};

use protocol::ids::ShardId;

use crate::store::batch::Write;
use crate::store::record::{self, Form, Framed};
use crate::store::{Epoch, Key, Number, QUEUE_BATCHES_MAX, QUEUE_BYTES_MAX, StoreError, Tree};

/// Kind of the record that holds a shard's epoch.
const KIND_EPOCH: u16 = 1;
/// Kind of the record that holds one number of the store's own.
const KIND_NUMBER: u16 = 2;
/// Bytes that one group commit takes at most: two of the largest values, so that the next group
/// can queue meanwhile.
pub const GROUP_BYTES_MAX: usize = QUEUE_BYTES_MAX / 2;

/// A batch that has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its number.
    pub number: Number,
    /// What it writes.
    pub writes: Vec<Write>,
}

/// The queue in front of the disk.
#[derive(Debug, Default)]
pub struct Intake {
    last: Number,
    fences: BTreeMap<ShardId, Epoch>,
    queue: VecDeque<Queued>,
    /// Batches and bytes queued or being committed.
    batches: usize,
    bytes: usize,
}

impl Intake {
    /// Returns the intake of a store whose last batch is `last` and whose shards have these owners.
    #[must_use]
    pub fn new(last: Number, fences: BTreeMap<ShardId, Epoch>) -> Self {
        Self { last, fences, ..Self::default() }
    }

    /// Numbers and queues a batch.
    ///
    /// # Errors
    /// When the speaker's epoch is old or the queue is full.
    pub fn push(
        &mut self,
        speaker: Option<(ShardId, Epoch)>,
        writes: Vec<Write>,
    ) -> Result<Number, StoreError> {
        if let Some((shard, got)) = speaker {
            let current = self.fences.get(&shard).copied().unwrap_or_default();
            if got != current {
                return Err(StoreError::Fenced { shard, got, current });
            }
        }
        let bytes: usize = writes.iter().map(Write::weight).sum();
        if QUEUE_BATCHES_MAX <= self.batches || QUEUE_BYTES_MAX < self.bytes + bytes {
            return Err(StoreError::Busy { batches: self.batches, bytes: self.bytes });
        }
        Ok(self.enqueue(writes, bytes))
    }

    /// Hands out a shard's next epoch and queues the record of it, whatever else is queued.
    ///
    /// # Errors
    /// When there is no next epoch.
    pub fn fence(&mut self, shard: ShardId) -> Result<(Epoch, Number), StoreError> {
        let epoch = self.fences.entry(shard).or_default();
        let next = epoch.0.checked_add(1).ok_or(StoreError::Exhausted { what: "epochs" })?;
        *epoch = Epoch(next);
        let write = epoch_write(shard, Epoch(next));
        let bytes = write.weight();
        Ok((Epoch(next), self.enqueue(vec![write], bytes)))
    }

    /// Returns the number given last.
    #[must_use]
    pub const fn last(&self) -> Number {
        self.last
    }

    /// Returns how many batches are not committed yet.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.batches
    }

    /// Returns whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes the next group to commit, in order; it counts as waiting until [`Intake::done`].
    pub fn group(&mut self) -> Vec<Queued> {
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(next) = self.queue.pop_front_if(|next| {
            bytes += weight(next);
            // A batch that fills a group alone still has to leave.
            group.is_empty() || bytes <= GROUP_BYTES_MAX
        }) {
            group.push(next);
        }
        group
    }

    /// Frees the room of a group that was committed or given up.
    pub fn done(&mut self, group: &[Queued]) {
        self.batches -= group.len();
        self.bytes -= group.iter().map(weight).sum::<usize>();
    }

    fn enqueue(&mut self, writes: Vec<Write>, bytes: usize) -> Number {
        self.last = Number(self.last.0 + 1);
        self.batches += 1;
        self.bytes += bytes;
        self.queue.push_back(Queued { number: self.last, writes });
        self.last
    }
}

fn weight(queued: &Queued) -> usize {
    queued.writes.iter().map(Write::weight).sum()
}

/// Returns the prefix under which the epochs of all shards stand.
#[must_use]
pub fn epochs() -> Key {
    Key::space(Key::STORE).part(KIND_EPOCH)
}

/// Returns the write that records a shard's epoch.
#[must_use]
pub fn epoch_write(shard: ShardId, epoch: Epoch) -> Write {
    number_at(epochs().id(shard.0), KIND_EPOCH, epoch.0)
}

/// Returns the shard and epoch in a stored record under [`epochs`].
#[must_use]
pub fn parse_epoch(key: &Key, bytes: &[u8]) -> Option<(ShardId, Epoch)> {
    let shard = key.as_bytes().strip_prefix(epochs().as_bytes())?;
    let shard = u64::from_be_bytes(shard.try_into().ok()?);
    Some((ShardId(shard), Epoch(parse_number(key, bytes)?)))
}

/// Returns the place of a number of the store's own.
#[must_use]
pub fn own_key(name: &str) -> Key {
    Key::space(Key::STORE).part(KIND_NUMBER).bytes(name.as_bytes())
}

/// Returns the write of a number of the store's own.
#[must_use]
pub fn own_number(name: &str, number: u64) -> Write {
    number_at(own_key(name), KIND_NUMBER, number)
}

/// Returns the number in a stored record of the store's own.
#[must_use]
pub fn parse_number(key: &Key, bytes: &[u8]) -> Option<u64> {
    let framed = record::decode(Tree::Meta, key.as_bytes(), bytes).ok()?;
    Some(u64::from_le_bytes(framed.body.try_into().ok()?))
}

fn number_at(key: Key, kind: u16, number: u64) -> Write {
    let form = Form { owner: None, is_blob: false };
    let framed = Framed { form, kind, version: 1, body: &number.to_le_bytes() };
    let bytes = record::encode(Tree::Meta, key.as_bytes(), &framed);
    Write { tree: Tree::Meta, key, bytes: Some(bytes), blob: None }
}

/// Returns a record of the store's own with any body.
#[must_use]
pub fn own_body(name: &str, body: Vec<u8>) -> Write {
    let key = own_key(name);
    let form = Form { owner: None, is_blob: false };
    let framed = Framed { form, kind: KIND_NUMBER, version: 1, body: &body };
    let bytes = record::encode(Tree::Meta, key.as_bytes(), &framed);
    Write { tree: Tree::Meta, key, bytes: Some(bytes), blob: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);

    #[test]
    fn only_the_newest_owner_gets_numbers() {
        let mut intake = Intake::default();
        let push = |intake: &mut Intake, epoch| intake.push(Some((SHARD, Epoch(epoch))), vec![]);
        assert!(push(&mut intake, 1).is_err(), "nobody took an epoch yet");
        assert_eq!(intake.fence(SHARD), Ok((Epoch(1), Number(1))));
        assert_eq!(push(&mut intake, 1), Ok(Number(2)));
        assert_eq!(intake.fence(SHARD), Ok((Epoch(2), Number(3))));
        let refused = StoreError::Fenced { shard: SHARD, got: Epoch(1), current: Epoch(2) };
        assert_eq!(push(&mut intake, 1), Err(refused));
        assert_eq!(push(&mut intake, 2), Ok(Number(4)));
        assert_eq!(intake.push(None, vec![]), Ok(Number(5)));
    }

    #[test]
    fn a_full_queue_refuses_until_a_group_is_done() {
        let mut intake = Intake::default();
        for _ in 0..QUEUE_BATCHES_MAX {
            intake.push(None, vec![]).expect("room");
        }
        assert!(matches!(intake.push(None, vec![]), Err(StoreError::Busy { .. })));
        let group = intake.group();
        assert!(matches!(intake.push(None, vec![]), Err(StoreError::Busy { .. })));
        intake.done(&group);
        assert_eq!(intake.push(None, vec![]), Ok(Number(QUEUE_BATCHES_MAX as u64 + 1)));
    }

    #[test]
    fn groups_keep_the_order_and_the_bound() {
        let mut intake = Intake::default();
        let large = own_body("large", vec![0; GROUP_BYTES_MAX / 3]);
        for _ in 0..5 {
            intake.push(None, vec![large.clone()]).expect("room");
        }
        let groups = [intake.group(), intake.group(), intake.group(), intake.group()];
        let numbers = groups.map(|group| group.iter().map(|q| q.number.0).collect::<Vec<_>>());
        assert_eq!(numbers, [vec![1, 2], vec![3, 4], vec![5], vec![]]);
    }

    #[test]
    fn an_epoch_reads_back_from_its_record() {
        let write = epoch_write(SHARD, Epoch(9));
        let bytes = write.bytes.expect("a put");
        assert_eq!(parse_epoch(&write.key, &bytes), Some((SHARD, Epoch(9))));
        assert_eq!(parse_epoch(&own_key("x"), &bytes), None);
    }
}
