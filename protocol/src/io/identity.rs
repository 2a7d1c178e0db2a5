//! Identity files: the Ed25519 key that says who a person is, and the proofs made with it.
//!
//! Owns how the key lies on disk and who may read it; it is never asked whether a server accepts
//! it. Files are PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes them; 32 raw bytes
//! are read as the private key itself.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::trust::hex;
use crate::message::client::IdentityProof;

/// Bytes of an identity file: a PEM of 120 bytes with a generous comment above it.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// What stands before the 32 private bytes in an Ed25519 key of PKCS#8 version 1.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2E, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("identity file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is there already, and is never overwritten.
    #[error("identity file {path} exists; it is never overwritten, choose another name")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Others can read the file.
    #[error("identity file {path} has mode {mode:03o}: others may read it; run chmod 600 {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds no Ed25519 key.
    #[error(
        "identity file {path} holds no Ed25519 key: expected a PKCS#8 PEM (as `ecumene-viewer \
         identity new` writes) or 32 raw bytes"
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no random bytes for a new key")]
    Random,
}

/// A person's key.
pub struct Identity {
    private: [u8; 32],
    pair: Ed25519KeyPair,
}

impl Identity {
    /// Returns a new identity that nobody else has.
    ///
    /// # Errors
    /// [`IdentityError::Random`].
    pub fn generate() -> Result<Self, IdentityError> {
        let mut private = [0; 32];
        SystemRandom::new().fill(&mut private).map_err(|_| IdentityError::Random)?;
        Ok(Self::from_private(private))
    }

    /// Returns the identity of these private bytes.
    ///
    /// # Panics
    /// Never: any 32 bytes are an Ed25519 key.
    #[must_use]
    pub fn from_private(private: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&private).expect("any 32 bytes are a key");
        Self { private, pair }
    }

    /// Makes a new identity and writes it to `path`, readable by its owner alone.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] if the file is there, or what the system says.
    pub fn create(path: &Path) -> Result<Self, IdentityError> {
        let identity = Self::generate()?;
        let file_error = |source| IdentityError::File { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(file_error)?;
        }
        let mut file = match create_private(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(IdentityError::Exists { path: path.to_owned() });
            }
            Err(error) => return Err(file_error(error)),
        };
        file.write_all(identity.to_pem().as_bytes()).map_err(file_error)?;
        file.sync_all().map_err(file_error)?;
        Ok(identity)
    }

    /// Returns the identity in the file at `path`.
    ///
    /// # Errors
    /// When the file is missing, can be read by others, or holds no key.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let file_error = |source| IdentityError::File { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(file_error)?;
        if let Some(mode) = open_mode(&metadata) {
            return Err(IdentityError::Open { path: path.to_owned(), mode });
        }
        if FILE_BYTES_MAX < metadata.len() {
            return Err(IdentityError::Malformed { path: path.to_owned() });
        }
        let bytes = fs::read(path).map_err(file_error)?;
        let private = parse(&bytes);
        private
            .map(Self::from_private)
            .ok_or_else(|| IdentityError::Malformed { path: path.to_owned() })
    }

    /// Returns the public key, which servers know a person by.
    ///
    /// # Panics
    /// Never: an Ed25519 public key is 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key is 32 bytes")
    }

    /// Returns the file's text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let der = [PKCS8_HEAD.as_slice(), &self.private].concat();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", base64(&der))
    }

    /// Returns the proof for the server of `server_key` that greeted with `nonce`.
    ///
    /// # Panics
    /// Never: an Ed25519 signature is 64 bytes.
    #[must_use]
    pub fn prove(&self, server_key: &[u8; 32], nonce: &[u8; 32]) -> IdentityProof {
        let signature = self.pair.sign(&IdentityProof::covered(server_key, nonce));
        let signature = signature.as_ref().try_into().expect("an Ed25519 signature is 64 bytes");
        IdentityProof { key: self.public_key(), signature }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The private half stays out of every log.
        write!(f, "Identity({})", hex(&self.public_key()))
    }
}

fn parse(bytes: &[u8]) -> Option<[u8; 32]> {
    if let Ok(private) = bytes.try_into() {
        return Some(private);
    }
    let der = PrivatePkcs8KeyDer::from_pem_slice(bytes).ok()?;
    // ring checks the whole structure, version 2 with its public key too; both versions hold the
    // private bytes at the same place.
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()?;
    der.secret_pkcs8_der().get(PKCS8_HEAD.len()..)?.first_chunk().copied()
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

/// The mode of a file that others may read.
#[cfg(unix)]
fn open_mode(metadata: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn open_mode(_: &fs::Metadata) -> Option<u32> {
    None
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let mut group = [0; 4];
        for (to, from) in group.iter_mut().skip(1).zip(part) {
            *to = *from;
        }
        let bits = u32::from_be_bytes(group);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let letter = LETTERS.get(index as usize).copied().unwrap_or(b'=');
            text.push(if place <= part.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ecumene-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        folder
    }

    #[test]
    fn an_identity_file_is_private_and_reads_back() {
        let folder = scratch("identity");
        let path = folder.join("deep").join("me.pem");
        let made = Identity::create(&path).expect("created");
        assert_eq!(Identity::load(&path).expect("loads").public_key(), made.public_key());
        let again = Identity::create(&path);
        assert!(matches!(again, Err(IdentityError::Exists { .. })), "{again:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
            let refused = Identity::load(&path).expect_err("others can read it").to_string();
            assert!(refused.contains("chmod 600"), "{refused}");
        }
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_key_of_openssl_is_read() {
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                   -----END PRIVATE KEY-----\n";
        let private = parse(pem.as_bytes()).expect("a key");
        // RFC 8032, section 7.1, test 1.
        let public = Identity::from_private(private).public_key();
        assert_eq!(
            hex(&public),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(Identity::from_private(private).to_pem(), pem);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bytes in [b"".as_slice(), b"hello", &[7; 31], &[7; 33], b"-----BEGIN PRIVATE KEY-----"]
        {
            assert_eq!(parse(bytes), None);
        }
        assert!(parse(&[7; 32]).is_some());
    }

    #[test]
    fn a_proof_holds_for_one_server_and_one_greeting() {
        let identity = Identity::from_private([5; 32]);
        let proof = identity.prove(&[1; 32], &[2; 32]);
        let key = UnparsedPublicKey::new(&ED25519, proof.key);
        let verify = |server, nonce| {
            key.verify(&IdentityProof::covered(&server, &nonce), &proof.signature).is_ok()
        };
        assert!(verify([1; 32], [2; 32]));
        assert!(!verify([9; 32], [2; 32]));
        assert!(!verify([1; 32], [9; 32]));
    }

    #[test]
    fn base64_pads() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
