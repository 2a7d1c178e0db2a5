//! Names of things that live long: 64-bit ids, unique across nodes and restarts, never reused.
//!
//! An id says nothing about what it names. Content is named by its hash ([`ContentHash`]), a
//! place in the ground by its [`ChunkId`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[rkyv(derive(Clone, Copy, Debug))]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                // Without its prefix many a name, such as Ada, would be an id.
                let digits = text.strip_prefix($prefix);
                let digits = digits.filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()));
                let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                number.map(Self).ok_or(BadId { example: concat!($prefix, "1f") })
            }
        }
    };
}

id!(
    /// Anything that is in the world: an avatar, a thing, a place.
    EntityId, "e-"
);
id!(
    /// Who a person is: made from an identity key or an account, it outlives avatars and sessions.
    PersonId, "p-"
);
id!(
    /// One stay of one client, from welcome to goodbye; resuming continues it.
    SessionId, "s-"
);
id!(
    /// One hosted world.
    WorldId, "w-"
);
id!(
    /// One region of a world and its owner.
    ShardId, "r-"
);

/// Text that is no id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected hexadecimal digits behind a letter, such as {example}")]
pub struct BadId {
    example: &'static str,
}

/// Mints ids for one node: the high bits say which run of which node, the low bits count.
///
/// `epoch` is a number that the store hands out once per run, so no two runs mint the same id.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct IdMint {
    next: u64,
    end: u64,
}

impl IdMint {
    /// Bits that count within one epoch: 2^40 ids, a million a second for twelve days.
    const COUNT_BITS: u32 = 40;

    /// Returns the mint of `epoch` (at least 1, below 2^24).
    #[must_use]
    pub const fn new(epoch: u32) -> Self {
        let first = (epoch as u64 & 0xFF_FFFF) << Self::COUNT_BITS;
        Self { next: first, end: first + (1 << Self::COUNT_BITS) }
    }

    /// Returns how many ids are left.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.end - self.next
    }

    /// Takes `count` ids off this mint for another one; nothing if it has no more than that left.
    #[must_use]
    pub const fn split(&mut self, count: u64) -> Option<Self> {
        if self.left() <= count {
            return None;
        }
        self.end -= count;
        Some(Self { next: self.end, end: self.end + count })
    }

    /// Returns this mint and leaves one that has run out, until it is given back.
    #[must_use]
    pub const fn lend(&mut self) -> Self {
        core::mem::replace(self, Self { next: 0, end: 0 })
    }

    /// Returns a number that was never returned before.
    ///
    /// # Panics
    /// When 2^40 ids were minted in one epoch; a restart begins a new one.
    pub const fn mint(&mut self) -> u64 {
        assert!(self.next < self.end, "the epoch has run out of ids");
        let id = self.next;
        self.next += 1;
        id
    }
}

/// The BLAKE3 hash that names a piece of content. Knowing it gives no right to fetch it.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Returns the name of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ContentHash {
    type Err = BadHash;

    fn from_str(text: &str) -> Result<Self, BadHash> {
        let digits = text.as_bytes();
        let is_hash = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = str::from_utf8(pair).ok().filter(|_| is_hash).ok_or(BadHash)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BadHash)?;
        }
        if is_hash { Ok(Self(hash)) } else { Err(BadHash) }
    }
}

/// Text that is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is written as 64 hexadecimal digits")]
pub struct BadHash;

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A square of ground: column `x` (east) and row `z` (south) of chunks of one level of detail.
///
/// A chunk of level 0 is 64 m wide; each further level doubles the width.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct ChunkId {
    /// Level of detail: 0 is the finest, at most [`ChunkId::LEVEL_MAX`].
    pub level: u8,
    /// Columns east of the origin.
    pub x: i32,
    /// Rows south of the origin.
    pub z: i32,
}

impl ChunkId {
    /// The coarsest level: chunks 4,096 m wide.
    pub const LEVEL_MAX: u8 = 6;
    /// Width of a chunk of level 0 in centimetres.
    pub const WIDTH_CM: i32 = 6_400;

    /// Returns the width of this chunk in centimetres, that of the coarsest level at most.
    #[must_use]
    pub fn width_cm(self) -> i32 {
        Self::WIDTH_CM << u32::from(self.level.min(Self::LEVEL_MAX))
    }

    /// Returns the chunk of `level` over the ground point (`x`, `z`) in centimetres.
    #[must_use]
    pub fn at(level: u8, x: i32, z: i32) -> Self {
        let level = level.min(Self::LEVEL_MAX);
        let width = Self::WIDTH_CM << u32::from(level);
        Self { level, x: x.div_euclid(width), z: z.div_euclid(width) }
    }

    /// Returns the north-west corner in centimetres, clamped to the world's range.
    #[must_use]
    pub fn corner_cm(self) -> (i32, i32) {
        (self.x.saturating_mul(self.width_cm()), self.z.saturating_mul(self.width_cm()))
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{},{}", self.level, self.x, self.z)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        assert_eq!("e-1f".parse(), Ok(EntityId(31)));
        assert_eq!(EntityId(31).to_string().parse(), Ok(EntityId(31)));
        for other in ["smith", "Ada", "1f", "e-", "e-+1f", "p-1f", "e-10000000000000000"] {
            assert!(other.parse::<EntityId>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_hash_reads_back_as_written() {
        let hash = ContentHash::of(b"ground");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        for wrong in ["", "00", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(wrong.parse::<ContentHash>(), Err(BadHash), "{wrong}");
        }
    }

    #[test]
    fn epochs_never_share_an_id() {
        let (mut first, mut second) = (IdMint::new(1), IdMint::new(2));
        let firsts: Vec<u64> = (0..1_000).map(|_| first.mint()).collect();
        assert!(firsts.iter().all(|&id| id < second.next));
        assert!(firsts.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(second.mint() > 0);
    }

    #[test]
    fn what_is_split_off_is_shared_with_nobody() {
        let mut whole = IdMint::new(2);
        let first = whole.split(1 << 30).expect("there is plenty");
        let second = whole.split(1 << 30).expect("there is plenty");
        assert!(whole.end <= second.next && second.end <= first.next);
        assert_eq!(first.left(), 1 << 30);
        assert!(whole.split(1 << 40).is_none());
    }

    #[test]
    fn a_chunk_covers_its_corner_and_not_its_neighbour() {
        assert_eq!(ChunkId::at(0, -1, 0), ChunkId { level: 0, x: -1, z: 0 });
        assert_eq!(ChunkId::at(0, 6_399, 6_400), ChunkId { level: 0, x: 0, z: 1 });
        assert_eq!(ChunkId::at(2, -1, 30_000).corner_cm(), (-25_600, 25_600));
    }
}
