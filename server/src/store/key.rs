//! Where a record stands in its tree: keys, made only by typed constructors.
//!
//! Numbers are written big-endian, so that keys sort as the numbers do and every prefix of whole
//! parts is a range. The first byte says which space of the tree the key lies in, so spaces never
//! mix. What is stored under a key is no business of this file.

use std::fmt;

use protocol::ids::{ChunkId, ContentHash, EntityId, PersonId, ShardId};
use protocol::units::Tick;

/// Longest key: space, two ids and a name of 200 bytes fit.
pub const KEY_BYTES_MAX: usize = 256;

/// The place of a record within its tree, 1 to [`KEY_BYTES_MAX`] bytes, or a prefix of such places.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

impl Key {
    /// First byte of keys by entity.
    pub const ENTITY: u8 = 1;
    /// First byte of keys by ground.
    pub const GROUND: u8 = 2;
    /// First byte of keys by person.
    pub const PERSON: u8 = 3;
    /// First byte of keys by shard and moment.
    pub const SHARD: u8 = 4;
    /// First byte of keys by wall-clock time.
    pub const TIME: u8 = 5;
    /// First byte of keys by content.
    pub const CONTENT: u8 = 6;
    /// First byte of keys by name.
    pub const NAME: u8 = 7;
    /// First byte of the store's own keys.
    pub const STORE: u8 = 8;

    /// Returns the prefix of everything of one space, to be continued with [`Key::id`] and others.
    #[must_use]
    pub fn space(space: u8) -> Self {
        Self(vec![space])
    }

    /// Returns the place of facet `facet` of an entity.
    #[must_use]
    pub fn entity(entity: EntityId, facet: u16) -> Self {
        Self::space(Self::ENTITY).id(entity.0).part(facet)
    }

    /// Returns the place of facet `facet` of a square of ground.
    #[must_use]
    pub fn ground(chunk: ChunkId, facet: u16) -> Self {
        let mut key = Self::space(Self::GROUND);
        key.0.push(chunk.level);
        // The sign bit flipped, west of the origin sorts before east of it.
        key.0.extend_from_slice(&(chunk.x ^ i32::MIN).to_be_bytes());
        key.0.extend_from_slice(&(chunk.z ^ i32::MIN).to_be_bytes());
        key.part(facet)
    }

    /// Returns the prefix of everything of one person.
    #[must_use]
    pub fn person(person: PersonId) -> Self {
        Self::space(Self::PERSON).id(person.0)
    }

    /// Returns the place of one item of topic `topic` of a person.
    #[must_use]
    pub fn person_item(person: PersonId, topic: u16, item: u64) -> Self {
        Self::person(person).part(topic).id(item)
    }

    /// Returns the place of item `item` of tick `tick` of a shard.
    #[must_use]
    pub fn moment(shard: ShardId, tick: Tick, item: u32) -> Self {
        Self::space(Self::SHARD).id(shard.0).id(tick.0).bytes(&item.to_be_bytes())
    }

    /// Returns the place of item `item` at a time of the wall clock.
    #[must_use]
    pub fn time(unix_ms: u64, item: u64) -> Self {
        Self::space(Self::TIME).id(unix_ms).id(item)
    }

    /// Returns the place of what is known about a piece of content.
    #[must_use]
    pub fn content(hash: ContentHash) -> Self {
        Self::space(Self::CONTENT).bytes(&hash.0)
    }

    /// Returns the place of what goes by `name` in the list `list`.
    #[must_use]
    pub fn name(list: u16, name: &str) -> Self {
        Self::space(Self::NAME).part(list).bytes(name.as_bytes())
    }

    /// Returns the key continued by a 64-bit number.
    #[must_use]
    pub fn id(self, id: u64) -> Self {
        self.bytes(&id.to_be_bytes())
    }

    /// Returns the key continued by a 16-bit number.
    #[must_use]
    pub fn part(self, part: u16) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    /// Returns the key continued by bytes; more than [`KEY_BYTES_MAX`] in all are refused when used.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Returns the key as it was stored, nothing if its length is out of bounds.
    #[must_use]
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        (1..=KEY_BYTES_MAX).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Returns bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the bytes of hexadecimal digits, nothing if there are not exactly `N` pairs.
#[must_use]
pub fn unhex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_what_they_name() {
        let ground = |x, z| Key::ground(ChunkId { level: 0, x, z }, 0);
        assert!(ground(-5, 3) < ground(-4, -9));
        assert!(ground(-1, 0) < ground(0, 0));
        assert!(Key::entity(EntityId(255), 9) < Key::entity(EntityId(256), 0));
        assert!(Key::moment(ShardId(1), Tick(9), 7) < Key::moment(ShardId(1), Tick(10), 0));
    }

    #[test]
    fn everything_of_a_person_lies_under_their_prefix() {
        let all = Key::person(PersonId(7));
        assert!(Key::person_item(PersonId(7), 3, 9).as_bytes().starts_with(all.as_bytes()));
        assert!(!Key::person_item(PersonId(8), 3, 9).as_bytes().starts_with(all.as_bytes()));
    }

    #[test]
    fn hexadecimal_reads_back() {
        assert_eq!(unhex::<3>(&hex(&[0, 171, 255])), Some([0, 171, 255]));
        for wrong in ["", "0", "00112", "0011zz", "+1+1+1", "00112233", "é0011"] {
            assert_eq!(unhex::<3>(wrong), None, "{wrong}");
        }
    }
}
