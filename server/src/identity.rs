//! Who a server is, and how people prove who they are: Ed25519 keys.
//!
//! A server's identity lives as long as its world. Clients pin its public key; everything else
//! that must be secret (the root of tokens, the seal of tickets) derives from the same seed, so
//! one small file is all an operator has to keep. The seed comes in as an argument.

use std::fmt;
use std::str::FromStr;

use protocol::ids::PersonId;
use protocol::message::client::IdentityProof;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// What the first line of an identity file says.
const FILE_HEAD: &str = "ecumene identity 1";

/// A public Ed25519 key: of a server or of a person. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Returns the id of the person who holds the secret half.
    #[must_use]
    pub fn person(&self) -> PersonId {
        PersonId(short_hash(&self.0))
    }
}

/// Returns the first 8 bytes of the BLAKE3 hash of `bytes`: what ids are made of.
#[must_use]
pub fn short_hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash is 32 bytes long");
    u64::from_le_bytes(*first)
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected 64 hexadecimal digits")]
pub struct BadKey;

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        hex32(text).map(Self).ok_or(BadKey)
    }
}

/// An identity file that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no identity file: expected \"{FILE_HEAD}\" and a line of 64 hexadecimal digits")]
pub struct BadIdentity;

/// A proof of identity that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit the key, this server and this greeting")]
pub struct BadProof;

/// A server's long-lived identity.
pub struct Identity {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Identity {
    /// Returns the identity that `seed` (random bytes) stands for.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are a seed");
        let bytes = pair.public_key().as_ref().try_into().expect("a public key is 32 bytes");
        Self { seed, pair, public: PublicKey(bytes) }
    }

    /// Returns the identity in the text of an identity file.
    ///
    /// # Errors
    /// [`BadIdentity`]; the file was damaged or is another one.
    pub fn read(text: &str) -> Result<Self, BadIdentity> {
        let rest = text.strip_prefix(FILE_HEAD).ok_or(BadIdentity)?;
        hex32(rest.trim()).map(Self::from_seed).ok_or(BadIdentity)
    }

    /// Returns the text of the identity file: whoever reads it can pose as this server.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{FILE_HEAD}\n{}\n", PublicKey(self.seed))
    }

    /// Returns the key that clients pin.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Returns the signature of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(message).as_ref().try_into().expect("a signature is 64 bytes")
    }

    /// Returns a secret of its own for one purpose, such as `"ecumene 1 token root"`.
    ///
    /// The same purpose always gets the same secret; no secret tells anything about another.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.seed)
    }

    /// Checks that the sender of `proof` holds its key and means this server and this greeting.
    ///
    /// # Errors
    /// [`BadProof`]; the sender is at fault, or somebody passes on another server's proof.
    pub fn check(&self, proof: &IdentityProof, nonce: &[u8; 32]) -> Result<PublicKey, BadProof> {
        let covered = IdentityProof::covered(&self.public.0, nonce);
        let key = UnparsedPublicKey::new(&ED25519, proof.key);
        key.verify(&covered, &proof.signature).map_err(|_| BadProof)?;
        Ok(PublicKey(proof.key))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed stays out of logs.
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(person: &Identity, server: &PublicKey, nonce: &[u8; 32]) -> IdentityProof {
        let signature = person.sign(&IdentityProof::covered(&server.0, nonce));
        IdentityProof { key: person.public().0, signature }
    }

    #[test]
    fn an_identity_survives_its_file_and_keeps_its_secrets_apart() {
        let identity = Identity::from_seed([7; 32]);
        let again = Identity::read(&identity.to_text()).unwrap();
        assert_eq!(again.public(), identity.public());
        assert_eq!(again.derive("a"), identity.derive("a"));
        assert_ne!(identity.derive("a"), identity.derive("b"));
        let seed = PublicKey([7; 32]).to_string();
        assert!(!format!("{identity:?}").contains(&seed));
    }

    #[test]
    fn other_files_are_no_identity() {
        let digits = "0".repeat(64);
        for text in ["", "ecumene identity 1", &digits, &format!("ecumene identity 2\n{digits}")] {
            assert_eq!(Identity::read(text).unwrap_err(), BadIdentity, "{text}");
        }
    }

    #[test]
    fn a_proof_holds_for_its_server_and_greeting_alone() {
        let server = Identity::from_seed([1; 32]);
        let other = Identity::from_seed([2; 32]);
        let person = Identity::from_seed([3; 32]);
        let good = proof(&person, &server.public(), &[9; 32]);
        assert_eq!(server.check(&good, &[9; 32]), Ok(person.public()));
        assert_eq!(server.check(&good, &[8; 32]), Err(BadProof));
        assert_eq!(other.check(&good, &[9; 32]), Err(BadProof));
        let stolen = IdentityProof { key: other.public().0, ..good };
        assert_eq!(server.check(&stolen, &[9; 32]), Err(BadProof));
    }

    #[test]
    fn keys_read_back_from_their_digits_and_nothing_else_does() {
        let key = Identity::from_seed([5; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("+1".repeat(32).parse::<PublicKey>(), Err(BadKey));
        assert_eq!("é".repeat(32).parse::<PublicKey>(), Err(BadKey));
        assert_ne!(key.person(), Identity::from_seed([6; 32]).public().person());
    }
}
