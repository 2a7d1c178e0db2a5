//! Sealing: how a record that belongs to a person is made unreadable without that person's key.
//!
//! Sealed bytes are `key id 16, salt 16, nonce 12, ChaCha20-Poly1305 ciphertext and tag`. Each
//! record has a key of its own, derived with BLAKE3 from the person's secret and the random salt,
//! so no pair of key and nonce repeats however many records a person has. Tree, key, owner, kind
//! and version are authenticated, so a sealed record opens only where and as what it was written.
//! Where keys are kept is [`crate::io::keys`]'s business; randomness is an argument.

use protocol::ids::PersonId;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::store::{Key, StoreError, Tree, record};

/// Bytes of randomness that one sealing takes: salt and nonce.
pub const SALT_BYTES: usize = 28;
/// Bytes that sealing adds to a value.
pub const SEAL_BYTES: usize = KEY_ID_BYTES + SALT_BYTES + 16;
const KEY_ID_BYTES: usize = 16;
/// Changed only together with the format: other words give other keys.
const DERIVE_CONTEXT: &str = "ecumene store 1: key of one sealed record";

/// The random name of a user key. It says nothing about the person, so it may outlive them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KEY_ID_BYTES]);

/// A person's key. Without it nobody can read their records, in no backup either.
#[derive(Clone, PartialEq, Eq)]
pub struct UserKey {
    /// The key's name, written in front of every record it seals.
    pub id: KeyId,
    secret: [u8; 32],
}

impl UserKey {
    /// Returns the key of these random bytes.
    #[must_use]
    pub const fn new(id: KeyId, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// Returns the secret, for the key's own file.
    #[must_use]
    pub const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl std::fmt::Debug for UserKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret never reaches a log.
        f.debug_struct("UserKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where keys come from and randomness with them.
pub trait Keys {
    /// Returns a person's key, nothing if they have none (any more).
    ///
    /// # Errors
    /// When a key is there and cannot be read.
    fn user_key(&self, person: PersonId) -> Result<Option<UserKey>, StoreError>;

    /// Returns bytes that were never returned before.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    fn salt(&self) -> Result<[u8; SALT_BYTES], StoreError>;
}

/// What a sealed record is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The tree it stands in.
    pub tree: Tree,
    /// Its place there.
    pub key: &'a Key,
    /// Its owner.
    pub owner: PersonId,
    /// Its kind.
    pub kind: u16,
    /// Its version.
    pub version: u8,
}

impl Binding<'_> {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = self.owner.0.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.kind.to_le_bytes());
        bytes.push(self.version);
        // The place comes last, so its length needs no mark.
        bytes.extend_from_slice(&record::place(self.tree, self.key));
        bytes
    }
}

/// Why sealed bytes do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is less than sealing adds.
    #[error("sealed record ends early")]
    Short,
    /// They were sealed with another key, one that is gone.
    #[error("sealed record was made with another key")]
    OtherKey,
    /// Bytes or place are not those that were sealed.
    #[error("sealed record fails its authentication")]
    Forged,
}

/// Returns `value` sealed under `key`; `salt` must never repeat.
#[must_use]
pub fn seal(
    key: &UserKey,
    binding: Binding<'_>,
    salt: [u8; SALT_BYTES],
    value: Vec<u8>,
) -> Vec<u8> {
    let mut text = value;
    let (cipher, nonce) = cipher(key, &salt);
    cipher
        .seal_in_place_append_tag(nonce, Aad::from(binding.bytes()), &mut text)
        .expect("a value is far below the cipher's bound of 256 GiB");
    [&key.id.0[..], &salt, &text].concat()
}

/// Returns the value in `sealed`.
///
/// # Errors
/// When it was sealed with another key, for another place, or changed since.
pub fn open(key: &UserKey, binding: Binding<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let (id, rest) = sealed.split_first_chunk::<KEY_ID_BYTES>().ok_or(SealError::Short)?;
    let (salt, text) = rest.split_first_chunk::<SALT_BYTES>().ok_or(SealError::Short)?;
    if *id != key.id.0 {
        return Err(SealError::OtherKey);
    }
    let (cipher, nonce) = cipher(key, salt);
    let mut text = text.to_vec();
    let opened = cipher.open_in_place(nonce, Aad::from(binding.bytes()), &mut text);
    let length = opened.map_err(|_| SealError::Forged)?.len();
    text.truncate(length);
    Ok(text)
}

/// Returns the name of the key that sealed these bytes.
#[must_use]
pub fn key_of(sealed: &[u8]) -> Option<KeyId> {
    sealed.first_chunk().copied().map(KeyId)
}

fn cipher(key: &UserKey, salt: &[u8; SALT_BYTES]) -> (LessSafeKey, Nonce) {
    let (salt, nonce) = salt.split_at(16);
    let mut hasher = blake3::Hasher::new_derive_key(DERIVE_CONTEXT);
    hasher.update(&key.secret).update(salt);
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, hasher.finalize().as_bytes());
    let cipher = LessSafeKey::new(unbound.expect("BLAKE3 gives the 32 bytes the cipher takes"));
    let nonce = Nonce::try_assume_unique_for_key(nonce).expect("16 of 28 bytes leave 12");
    (cipher, nonce)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: u8) -> UserKey {
        UserKey::new(KeyId([name; 16]), [name; 32])
    }

    fn binding(place: &Key) -> Binding<'_> {
        Binding { tree: Tree::People, key: place, owner: PersonId(9), kind: 4, version: 1 }
    }

    #[test]
    fn a_sealed_record_opens_only_where_it_was_written() {
        let (here, there) = (Key::space(1).id(1), Key::space(1).id(2));
        let sealed = seal(&key(1), binding(&here), [3; 28], b"secret".to_vec());
        let bound = binding(&here);
        let check = |binding, wanted: Result<&[u8], SealError>| {
            assert_eq!(open(&key(1), binding, &sealed), wanted.map(<[u8]>::to_vec));
        };
        check(bound, Ok(b"secret"));
        check(binding(&there), Err(SealError::Forged));
        check(Binding { tree: Tree::World, ..bound }, Err(SealError::Forged));
        check(Binding { owner: PersonId(8), ..bound }, Err(SealError::Forged));
        check(Binding { kind: 5, ..bound }, Err(SealError::Forged));
        check(Binding { version: 2, ..bound }, Err(SealError::Forged));
    }

    #[test]
    fn another_key_never_opens() {
        let place = Key::space(1);
        let sealed = seal(&key(1), binding(&place), [3; 28], b"secret".to_vec());
        assert_eq!(open(&key(2), binding(&place), &sealed), Err(SealError::OtherKey));
        let same_name = UserKey::new(KeyId([1; 16]), [2; 32]);
        assert_eq!(open(&same_name, binding(&place), &sealed), Err(SealError::Forged));
        assert!(!format!("{:?}", key(7)).contains("secret: [7"));
    }

    proptest! {
        #[test]
        fn any_change_is_noticed(value: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8, cut: bool) {
            let place = Key::space(1);
            let mut sealed = seal(&key(1), binding(&place), [3; 28], value.clone());
            prop_assert_eq!(sealed.len(), value.len() + SEAL_BYTES);
            prop_assert_eq!(open(&key(1), binding(&place), &sealed), Ok(value));
            let at = at.index(sealed.len());
            if cut { sealed.truncate(at) } else { sealed[at] ^= 1 << bit }
            prop_assert!(open(&key(1), binding(&place), &sealed).is_err());
        }
    }
}
