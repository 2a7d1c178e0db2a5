//! Whom a client trusts: a server's long-lived identity key, pinned or kept from the first visit.
//!
//! A server shows a chain of two certificates: a short-lived P-256 leaf for the name `ecumene`,
//! signed by a certificate whose Ed25519 key is the server's identity. [`PinnedVerifier`] checks
//! that chain with webpki against the pinned key and nothing else: no public authority counts.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// The name every server's certificate bears: the key says who it is, not the address.
pub const SERVER_NAME: &str = "ecumene";

/// Bytes of a known-servers file: thousands of servers.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Certificates looked at for the identity key: the chain has one beside the leaf.
const CHAIN_MAX: usize = 4;

/// What stands before the 32 key bytes in an Ed25519 `SubjectPublicKeyInfo`, less its
/// outer header.
const ED25519_SPKI_HEAD: [u8; 10] = [0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 3, 0x21, 0];

/// A server's identity: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerKey(pub [u8; 32]);

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no server key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a server key: expected 64 hexadecimal digits, as the server prints when it starts")]
pub struct BadServerKey;

impl FromStr for ServerKey {
    type Err = BadServerKey;

    fn from_str(text: &str) -> Result<Self, BadServerKey> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(BadServerKey);
        }
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            for &digit in pair {
                let value = char::from(digit).to_digit(16).ok_or(BadServerKey)?;
                *byte = (*byte << 4) | u8::try_from(value).map_err(|_| BadServerKey)?;
            }
        }
        Ok(Self(key))
    }
}

/// Returns `bytes` as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a server is not trusted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrustError {
    /// The server has another identity than the pinned one.
    #[error(
        "the server's identity is {shown}, but {pinned} is pinned: this is another server, or \
         somebody is between you and it; only if you know that the key changed, pin the new one \
         (--server-key)"
    )]
    Mismatch {
        /// What is pinned.
        pinned: ServerKey,
        /// What the server shows.
        shown: ServerKey,
    },
    /// The server has another identity than at the first visit.
    #[error(
        "the server's identity is {shown}, but it was {} at the first visit: this is another \
         server, or somebody is between you and it; only if you know that the key changed, remove \
         line {} (`{} ..`) of {} and come again", .known.key, .known.line, .known.address,
        .known.path.display()
    )]
    Changed {
        /// What the server shows.
        shown: ServerKey,
        /// What is remembered of it.
        known: Known,
    },
    /// The chain bears no identity key at all.
    #[error(
        "the server's certificate bears no Ed25519 identity: this is not an Ecumene server of this \
         version"
    )]
    NoIdentity,
    /// The chain does not hold.
    #[error("the server's certificate does not hold against its identity: {why}")]
    Chain {
        /// What is wrong with it.
        why: String,
    },
    /// The known-servers file cannot be used.
    #[error("known-servers file {path}: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A server that was met before, and where that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The file.
    pub path: PathBuf,
    /// The number of the line in it, from 1 on.
    pub line: usize,
    /// Where the server was met.
    pub address: String,
    /// Its identity then.
    pub key: ServerKey,
}

/// The servers met before: one line `address key` each.
#[derive(Clone, Debug)]
pub struct KnownServers {
    path: PathBuf,
}

impl KnownServers {
    /// Returns the list kept in the file at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Returns what `address` was when it was first met.
    ///
    /// # Errors
    /// [`TrustError::File`] if the file is there but cannot be read or understood.
    pub fn lookup(&self, address: &str) -> Result<Option<Known>, TrustError> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.broken(error)),
        };
        if FILE_BYTES_MAX < metadata.len() {
            return Err(self.broken(format!("longer than {FILE_BYTES_MAX} bytes")));
        }
        let text = fs::read_to_string(&self.path).map_err(|error| self.broken(error))?;
        let found = find(&text, address).map_err(|line| {
            self.broken(format!("line {line} is not `address key`; correct or delete the line"))
        })?;
        Ok(found.map(|(line, key)| {
            let (path, address) = (self.path.clone(), address.to_owned());
            Known { path, line, address, key }
        }))
    }

    /// Adds a server that was met for the first time.
    ///
    /// # Errors
    /// [`TrustError::File`].
    pub fn remember(&self, address: &str, key: ServerKey) -> Result<(), TrustError> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(|error| self.broken(error))?;
        }
        let mut options = fs::OpenOptions::new();
        let file = options.append(true).create(true).open(&self.path);
        // One write per line, so that two clients at once do not mix theirs.
        file.and_then(|mut file| file.write_all(format!("{address} {key}\n").as_bytes()))
            .map_err(|error| self.broken(error))
    }

    fn broken(&self, why: impl ToString) -> TrustError {
        TrustError::File { path: self.path.clone(), why: why.to_string() }
    }
}

/// Finds the line of `address` and its key, or the number of a line that means nothing.
fn find(text: &str, address: &str) -> Result<Option<(usize, ServerKey)>, usize> {
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        let key = words.next().and_then(|key| key.parse().ok());
        match (key, words.next()) {
            (Some(key), None) if first == address => return Ok(Some((index + 1, key))),
            (Some(_), None) => {}
            _ => return Err(index + 1),
        }
    }
    Ok(None)
}

/// Checks a server's chain against one identity key, or reports which key it has.
#[derive(Debug)]
pub struct PinnedVerifier {
    pinned: Option<ServerKey>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Result<ServerKey, TrustError>>>,
}

impl PinnedVerifier {
    /// Returns a verifier that accepts `pinned` alone, or any identity if nothing is pinned.
    #[must_use]
    pub fn new(pinned: Option<ServerKey>, provider: Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Self { pinned, provider, seen: Mutex::new(None) })
    }

    /// Returns the identity the last handshake showed, or why it was refused.
    #[must_use]
    pub fn seen(&self) -> Option<Result<ServerKey, TrustError>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerKey, TrustError> {
        let mut anchors = chain.iter().take(CHAIN_MAX).filter_map(anchor);
        let (shown, roots) = anchors.next().ok_or(TrustError::NoIdentity)?;
        if let Some(pinned) = self.pinned.filter(|&pinned| pinned != shown) {
            return Err(TrustError::Mismatch { pinned, shown });
        }
        let broken = |why: String| TrustError::Chain { why };
        let webpki =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| broken(error.to_string()))?;
        let verified = webpki.verify_server_cert(leaf, &[], name, &[], now);
        verified.map(|_| shown).map_err(|error| broken(error.to_string()))
    }
}

/// The identity key of a certificate, with the certificate as the only root.
fn anchor(certificate: &CertificateDer<'_>) -> Option<(ServerKey, RootCertStore)> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).ok()?;
    let spki = &roots.roots.first()?.subject_public_key_info;
    let key = spki.as_ref().strip_prefix(&ED25519_SPKI_HEAD)?;
    Some((ServerKey(key.try_into().ok()?), roots))
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = self.check(leaf, chain, name, now);
        let verdict = match &seen {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(rustls::Error::General(error.to_string())),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        verdict
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is required".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn a_server_key_reads_back_as_written() {
        let key: ServerKey = KEY.parse().expect("a key");
        assert_eq!(key.to_string(), KEY);
        for bad in ["", "d75a", &KEY.replace('d', "x"), &format!("{KEY}0")] {
            assert_eq!(bad.parse::<ServerKey>(), Err(BadServerKey));
        }
    }

    #[test]
    fn a_known_server_is_found_by_its_whole_address() {
        let text = format!("# met in May\n\nplay.example:7777 {KEY}\n");
        let key = KEY.parse().expect("a key");
        assert_eq!(find(&text, "play.example:7777"), Ok(Some((3, key))));
        assert_eq!(find(&text, "play.example:7778"), Ok(None));
        assert_eq!(find("one two", "x"), Err(1));
        assert_eq!(find(&format!("\na {KEY} more"), "x"), Err(2));
    }

    #[test]
    fn a_remembered_server_is_known_from_then_on() {
        let path = std::env::temp_dir().join(format!("ecumene-known-{}", std::process::id()));
        let known = KnownServers::new(&path);
        assert_eq!(known.lookup("a:1").expect("no file yet"), None);
        known.remember("a:1", ServerKey([1; 32])).expect("written");
        known.remember("b:1", ServerKey([2; 32])).expect("written");
        for (line, address, key) in [(1, "a:1", ServerKey([1; 32])), (2, "b:1", ServerKey([2; 32]))]
        {
            let (path, address) = (path.clone(), address.to_owned());
            let met = Known { path, line, address, key };
            assert_eq!(known.lookup(&met.address).expect("read"), Some(met));
        }
        fs::remove_file(path).expect("removed");
    }
}
