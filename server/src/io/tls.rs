//! TLS and QUIC set-up: short-lived certificates under the server's identity, and the transport.
//!
//! The identity key acts as a tiny certificate authority. A client that pins it accepts any leaf
//! that it signed: [`issue`] makes one for less than two weeks, which is also what browsers accept
//! as a pinned certificate for WebTransport. Who may come in is decided elsewhere.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::message::common::ALPN;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring as provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;

use crate::config::Config;
use crate::identity::Identity;
use crate::io::files::{FileError, refused};
use crate::link::LINK_ALPN;

/// The name in every leaf certificate: clients pin a key, so no host name is needed.
pub const LEAF_NAME: &str = "ecumene";

/// Seconds before now at which a leaf begins, so that clients with a slow clock accept it.
const BEFORE_S: u64 = 24 * 3600;

/// Seconds of a leaf's validity in all: browsers take at most 14 days, 13 leave a margin.
const LEAF_S: u64 = 13 * 24 * 3600;

/// Seconds before its end at which a leaf is replaced: three days for a stopped renewal to be seen.
const RENEW_S: u64 = 3 * 24 * 3600;

/// Seconds of the authority certificate's validity after now: longer than any leaf under it.
const AUTHORITY_S: u64 = 2 * LEAF_S;

/// Two-way streams a client may have open: one for each asset on its way.
const STREAMS_BIDI_MAX: u32 = 4;

/// One-way streams a client may have open: assets that it offers.
const STREAMS_UNI_MAX: u32 = 8;

/// Bytes in flight on one stream: a whole reliable message of 64 KB.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// Bytes in flight on one connection, each way: two full streams.
const WINDOW_BYTES: u32 = 128 * 1024;

/// Bytes of queued datagrams, each way: a dozen full ones; older ones are worth nothing.
const DATAGRAMS_BYTES: usize = 16 * 1024;

/// Bytes of one packet: what every QUIC path carries.
const PACKET_BYTES: u16 = 1_200;

/// Something that keeps a certificate from being made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The key log cannot be written.
    #[error(transparent)]
    KeyLog(#[from] FileError),
    /// TLS does not take the certificate or the key.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A leaf certificate with its key and the authority that signed it.
#[derive(Debug)]
pub struct Issued {
    /// Leaf and authority, in the order they are sent.
    pub chain: Vec<CertificateDer<'static>>,
    /// SHA-256 of the leaf, which a browser can pin.
    pub leaf_sha256: [u8; 32],
    /// Unix time in seconds at which to issue the next one.
    pub renew_at_s: u64,
    /// Unix time in seconds at which clients begin to refuse it.
    pub ends_at_s: u64,
    key: PrivateKeyDer<'static>,
}

/// The identity as a signer of certificates.
struct Authority<'a>(&'a Identity, [u8; 32]);

impl PublicKeyData for Authority<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl SigningKey for Authority<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).to_vec())
    }
}

/// Returns a fresh P-256 leaf certificate under `identity`, valid from a day before `now_s`
/// (Unix time in seconds) for 13 days.
///
/// # Errors
/// [`TlsError::Certificate`] when the system has no randomness for a key.
pub fn issue(identity: &Identity, now_s: u64) -> Result<Issued, TlsError> {
    let authority_key = Authority(identity, identity.public().0);
    let authority = authority_params(identity, now_s);
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::from_params(&authority, authority_key);

    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let starts_at_s = now_s.saturating_sub(BEFORE_S);
    let ends_at_s = starts_at_s + LEAF_S;
    let mut leaf = CertificateParams::new(vec![LEAF_NAME.to_owned()])?;
    leaf.distinguished_name = named(LEAF_NAME);
    last(&mut leaf, starts_at_s, ends_at_s);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &issuer)?;

    Ok(Issued {
        leaf_sha256: sha256(leaf.der()),
        chain: vec![leaf.der().clone(), authority_certificate.der().clone()],
        renew_at_s: ends_at_s - RENEW_S,
        ends_at_s,
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes")
}

fn authority_params(identity: &Identity, now_s: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&identity.public().to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    last(&mut params, now_s.saturating_sub(BEFORE_S), now_s + AUTHORITY_S);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// Sets from when to when (Unix time in seconds) a certificate is valid.
fn last(params: &mut CertificateParams, from_s: u64, to_s: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from_s);
    params.not_after = epoch + Duration::from_secs(to_s);
}

/// Returns what rustls needs: TLS 1.3 alone, AES-128-GCM first, X25519.
///
/// # Errors
/// [`TlsError::Tls`] when the certificate does not fit its key.
pub fn rustls_config(issued: &Issued) -> Result<rustls::ServerConfig, TlsError> {
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(ciphers()));
    let builder = builder.with_protocol_versions(&[&TLS13])?.with_no_client_auth();
    let mut tls = builder.with_single_cert(issued.chain.clone(), issued.key.clone_key())?;
    tls.alpn_protocols = vec![ALPN.to_vec(), LINK_ALPN.to_vec()];
    // Data sent before the handshake ends could be replayed, so none is taken.
    tls.max_early_data_size = 0;
    Ok(tls)
}

/// Returns the ciphers both ends use: AES-128-GCM first, as most machines have it in hardware.
#[must_use]
pub fn ciphers() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![provider::kx_group::X25519],
        ..provider::default_provider()
    }
}

/// Returns the configuration of a listening endpoint with `issued` as its certificate.
///
/// To renew, hand the result of a new call to `quinn::Endpoint::set_server_config`: connections
/// that stand keep theirs. With `server.keylog` set, TLS secrets are appended to that file.
///
/// # Errors
/// [`TlsError::Tls`] when the certificate does not fit its key, [`TlsError::KeyLog`] when the key
/// log cannot be written.
pub fn server_config(issued: &Issued, config: &Config) -> Result<ServerConfig, TlsError> {
    let mut tls = rustls_config(issued)?;
    if !config.server.keylog.is_empty() {
        tls.key_log = Arc::new(KeyLogFile::open(config.server.keylog.as_ref())?);
    }
    let quic = QuicServerConfig::try_from(tls);
    let quic = quic.map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut server = ServerConfig::with_crypto(Arc::new(quic));
    server.transport_config(Arc::new(transport(config)));
    server.max_incoming(config.admission.handshakes_pending as usize);
    server.incoming_buffer_size(u64::from(WINDOW_BYTES));
    Ok(server)
}

/// A file of TLS secrets in the format that Wireshark reads, for its owner alone.
#[derive(Debug)]
struct KeyLogFile(Mutex<File>);

impl KeyLogFile {
    fn open(path: &Path) -> Result<Self, FileError> {
        let mut open = OpenOptions::new();
        let opened = open.append(true).create(true).mode(0o600).open(path);
        opened.map(|file| Self(Mutex::new(file))).map_err(refused("write", path))
    }
}

impl rustls::KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            // The log is for debugging alone: without it the connection is as good.
            tracing::warn!(%error, "cannot write the key log");
        }
    }
}

/// Returns the transport's settings: few streams, small windows, datagrams that grow old fast.
#[must_use]
pub fn transport(config: &Config) -> TransportConfig {
    let silence_ms = config.session.silence_s * 1_000;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_BIDI_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_UNI_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .datagram_receive_buffer_size(Some(DATAGRAMS_BYTES))
        .datagram_send_buffer_size(DATAGRAMS_BYTES)
        .initial_mtu(PACKET_BYTES)
        // Sending many packets at once keeps room for them in every connection for ever.
        .enable_segmentation_offload(false)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(silence_ms))));
    transport
}

#[cfg(test)]
mod tests;
