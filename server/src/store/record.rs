//! The bytes of one stored record: `checksum u64, form u8, [owner u64], frame`, where the frame is
//! `kind u16, length varint, version u8, body` and all numbers are little-endian.
//!
//! The checksum covers tree, key and all that follows, so rot, a cut-off end and a record moved to
//! another place are all found. Whether the body is sealed or elsewhere is told by the form; what
//! it means is never asked here.

use protocol::frame;
use protocol::ids::{ContentHash, PersonId};

use crate::store::{Key, Tree, VALUE_BYTES_MAX};

/// Bytes of the checksum in front: 64 bits find rot, sealing finds malice.
const CHECKSUM_BYTES: usize = 8;
/// Bytes that a stored record adds to its body at most.
pub const FRAME_BYTES_MAX: usize = CHECKSUM_BYTES + 1 + 8 + 2 + 5 + 1;
/// Longest body: the largest value and what sealing adds.
pub const BODY_BYTES_MAX: usize = VALUE_BYTES_MAX + 256;

/// How a record's value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Whose key seals it; nothing for a record that belongs to nobody.
    pub owner: Option<PersonId>,
    /// Whether the body only names a file, see [`BlobName`].
    pub is_blob: bool,
}

/// A record taken apart, its body as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// How the value is kept.
    pub form: Form,
    /// What the value is.
    pub kind: u16,
    /// Which form of that kind it has.
    pub version: u8,
    /// The value, sealed value or [`BlobName`].
    pub body: &'a [u8],
}

/// What stands in place of a large body: the file's name and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobName {
    /// Hash of the file's content.
    pub hash: ContentHash,
    /// Length of the file in bytes.
    pub length: u64,
}

impl BlobName {
    /// Returns the name as a body.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.hash.0[..], &self.length.to_le_bytes()].concat()
    }

    /// Returns the name in a body.
    ///
    /// # Errors
    /// When the body is not exactly a hash and a length within bounds.
    pub fn parse(body: &[u8]) -> Result<Self, RecordError> {
        let (hash, length) = body.split_first_chunk::<32>().ok_or(RecordError::Short)?;
        let length = <[u8; 8]>::try_from(length).map_err(|_| RecordError::Short)?;
        let length = u64::from_le_bytes(length);
        match usize::try_from(length) {
            Ok(bytes) if bytes <= BODY_BYTES_MAX => Ok(Self { hash: ContentHash(*hash), length }),
            Ok(_) | Err(_) => Err(RecordError::Length),
        }
    }
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There is less than a record needs.
    #[error("record ends early")]
    Short,
    /// Tree, key or bytes are not those that were written.
    #[error("record fails its checksum")]
    Checksum,
    /// A form that this program does not know.
    #[error("record has the unknown form {0}")]
    Form(u8),
    /// The length is out of bounds or not that of the bytes.
    #[error("record has an impossible length")]
    Length,
}

/// Returns the stored bytes of a record.
#[must_use]
pub fn encode(tree: Tree, key: &[u8], framed: &Framed<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_BYTES_MAX + framed.body.len());
    bytes.extend_from_slice(&[0; CHECKSUM_BYTES]);
    bytes.push(u8::from(framed.form.owner.is_some()) | u8::from(framed.form.is_blob) << 1);
    if let Some(owner) = framed.form.owner {
        bytes.extend_from_slice(&owner.0.to_le_bytes());
    }
    frame::write(framed.kind, &[&[framed.version], framed.body].concat(), &mut bytes);
    let (sum, rest) = bytes.split_at_mut(CHECKSUM_BYTES);
    sum.copy_from_slice(&checksum(tree, key, rest));
    bytes
}

/// Returns the record in stored bytes.
///
/// # Errors
/// When the bytes are not exactly a record that was written at this place.
pub fn decode<'a>(tree: Tree, key: &[u8], bytes: &'a [u8]) -> Result<Framed<'a>, RecordError> {
    let (sum, rest) = bytes.split_first_chunk::<CHECKSUM_BYTES>().ok_or(RecordError::Short)?;
    if *sum != checksum(tree, key, rest) {
        return Err(RecordError::Checksum);
    }
    let (&form, rest) = rest.split_first().ok_or(RecordError::Short)?;
    if 3 < form {
        return Err(RecordError::Form(form));
    }
    let (owner, rest) = if form & 1 == 0 {
        (None, rest)
    } else {
        let (owner, rest) = rest.split_first_chunk::<8>().ok_or(RecordError::Short)?;
        (Some(PersonId(u64::from_le_bytes(*owner))), rest)
    };
    let split = frame::split(rest, BODY_BYTES_MAX + 1).map_err(|_| RecordError::Length)?;
    let (framed, taken) = split.ok_or(RecordError::Short)?;
    if taken != rest.len() {
        return Err(RecordError::Length);
    }
    let (&version, body) = framed.body.split_first().ok_or(RecordError::Short)?;
    let form = Form { owner, is_blob: form & 2 != 0 };
    Ok(Framed { form, kind: framed.kind, version, body })
}

/// Returns the checksum that a stored record carries, 0 for bytes that are too short to be one.
#[must_use]
pub fn carried_checksum(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |sum| u64::from_le_bytes(*sum))
}

/// Returns the place of a record as bytes that differ for every tree and key.
#[must_use]
pub fn place(tree: Tree, key: &Key) -> Vec<u8> {
    [&[tree as u8], key.as_bytes()].concat()
}

fn checksum(tree: Tree, key: &[u8], rest: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[tree as u8]).update(&(key.len() as u64).to_le_bytes());
    hasher.update(key).update(rest);
    let mut sum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(owner: Option<u64>, is_blob: bool, body: &[u8]) -> Framed<'_> {
        let form = Form { owner: owner.map(PersonId), is_blob };
        Framed { form, kind: 770, version: 3, body }
    }

    #[test]
    fn the_bytes_are_as_the_page_says() {
        let bytes = encode(Tree::World, b"k", &framed(Some(5), false, b"ab"));
        assert_eq!(bytes[8..], [1, 5, 0, 0, 0, 0, 0, 0, 0, 2, 3, 3, 3, b'a', b'b']);
    }

    #[test]
    fn a_record_holds_only_at_its_own_place() {
        let bytes = encode(Tree::World, b"k", &framed(None, false, b"ab"));
        assert!(decode(Tree::World, b"k", &bytes).is_ok());
        assert_eq!(decode(Tree::People, b"k", &bytes), Err(RecordError::Checksum));
        assert_eq!(decode(Tree::World, b"l", &bytes), Err(RecordError::Checksum));
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(
            owner in any::<Option<u64>>(), blob: bool, key in any::<[u8; 9]>(), body: Vec<u8>,
        ) {
            let record = framed(owner, blob, &body);
            let bytes = encode(Tree::Minds, &key, &record);
            prop_assert_eq!(decode(Tree::Minds, &key, &bytes), Ok(record));
            prop_assert!(bytes.len() <= body.len() + FRAME_BYTES_MAX);
        }

        #[test]
        fn any_flipped_bit_is_found(body: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = encode(Tree::Audit, b"key", &framed(Some(1), false, &body));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode(Tree::Audit, b"key", &bytes), Err(RecordError::Checksum));
        }

        #[test]
        fn hostile_bytes_with_a_right_checksum_never_panic(rest: Vec<u8>) {
            let bytes = [&checksum(Tree::World, b"k", &rest)[..], &rest].concat();
            if let Ok(framed) = decode(Tree::World, b"k", &bytes) {
                prop_assert!(framed.body.len() < rest.len());
                prop_assert_eq!(BlobName::parse(framed.body).is_ok(), framed.body.len() == 40);
            }
        }
    }
}
