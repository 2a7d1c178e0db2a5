//! A client of the tests' own checks the chain as clients must: by the pinned key alone.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::*;
use crate::config::Settings;
use crate::identity::PublicKey;

const NOW_S: u64 = 1_800_000_000;

/// What stands before an Ed25519 key in a certificate (RFC 8410).
const SPKI_HEAD: [u8; 12] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0];

#[derive(Debug)]
struct Pinned(PublicKey);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let wanted = [SPKI_HEAD.as_slice(), &self.0.0].concat();
        let spki = |der: &CertificateDer<'_>| {
            ParsedCertificate::try_from(der).map(|it| it.subject_public_key_info().to_vec())
        };
        let mut roots = RootCertStore::empty();
        for der in chain.iter().filter(|der| spki(der).is_ok_and(|it| it == wanted)) {
            roots.add(der.clone().into_owned())?;
        }
        let leaf = ParsedCertificate::try_from(leaf)?;
        let algorithms = ciphers().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, algorithms)?;
        rustls::client::verify_server_name(&leaf, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ciphers().signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ciphers().signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ciphers().signature_verification_algorithms.supported_schemes()
    }
}

fn verify(
    pinned: &Identity,
    issued: &Issued,
    name: &'static str,
    now_s: u64,
) -> Result<(), rustls::Error> {
    let name = ServerName::try_from(name).map_err(|bad| rustls::Error::General(bad.to_string()))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let [leaf, rest @ ..] = issued.chain.as_slice() else { panic!("the chain is empty") };
    let verified = Pinned(pinned.public()).verify_server_cert(leaf, rest, &name, &[], now);
    verified.map(|_| ())
}

#[test]
fn the_pinned_key_vouches_for_the_leaf_from_a_day_before_to_its_end() {
    let identity = Identity::from_seed([1; 32]);
    let issued = issue(&identity, NOW_S).unwrap();
    for now_s in [NOW_S - BEFORE_S, NOW_S, issued.renew_at_s, issued.ends_at_s] {
        assert_eq!(verify(&identity, &issued, LEAF_NAME, now_s), Ok(()), "at {now_s}");
    }
    assert!(issued.ends_at_s - (NOW_S - BEFORE_S) < 14 * 24 * 3600);
    assert!(NOW_S < issued.renew_at_s && issued.renew_at_s < issued.ends_at_s);
}

#[test]
fn outside_its_time_under_another_key_or_name_the_leaf_is_refused() {
    let identity = Identity::from_seed([1; 32]);
    let issued = issue(&identity, NOW_S).unwrap();
    let early = verify(&identity, &issued, LEAF_NAME, NOW_S - BEFORE_S - 1).unwrap_err();
    assert!(early.to_string().contains("not valid yet"), "{early}");
    let late = verify(&identity, &issued, LEAF_NAME, issued.ends_at_s + 1).unwrap_err();
    assert!(late.to_string().contains("expired"), "{late}");
    let other = Identity::from_seed([2; 32]);
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(verify(&other, &issued, LEAF_NAME, NOW_S), Err(unknown));
    let named = verify(&identity, &issued, "elsewhere", NOW_S).unwrap_err();
    assert!(named.to_string().contains("not valid for name"), "{named}");
}

#[test]
fn an_impostor_who_sends_the_true_authority_is_refused() {
    let identity = Identity::from_seed([1; 32]);
    let truly = issue(&identity, NOW_S).unwrap();
    let mut falsely = issue(&Identity::from_seed([2; 32]), NOW_S).unwrap();
    falsely.chain.truncate(1);
    falsely.chain.push(truly.chain[1].clone());
    assert!(verify(&identity, &falsely, LEAF_NAME, NOW_S).is_err());
}

#[tokio::test]
async fn a_client_that_pins_the_identity_connects_over_quic_with_our_ciphers() {
    let identity = Identity::from_seed([1; 32]);
    let issued = issue(&identity, crate::io::clock::unix_s()).unwrap();
    let keylog = tempfile::NamedTempFile::new().unwrap();
    let mut config = Settings::defaults().config;
    config.server.keylog = keylog.path().display().to_string();
    let server = server_config(&issued, &config).unwrap();
    let server = quinn::Endpoint::server(server, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.local_addr().unwrap();

    let accepted = tokio::spawn(async move { server.accept().await.unwrap().await.unwrap() });
    let connection = client(identity.public()).connect(address, LEAF_NAME).unwrap().await.unwrap();
    let handshake = connection.handshake_data().unwrap();
    let handshake = handshake.downcast::<quinn::crypto::rustls::HandshakeData>().unwrap();
    assert_eq!(handshake.protocol.as_deref(), Some(ALPN));
    assert!(connection.max_datagram_size().is_some_and(|bytes| 1_150 <= bytes));
    drop(accepted.await.unwrap());
    let secrets = std::fs::read_to_string(keylog.path()).unwrap();
    assert!(secrets.contains("SERVER_TRAFFIC_SECRET_0"), "{secrets}");
}

#[tokio::test]
async fn a_client_that_pins_another_identity_goes_away() {
    let issued = issue(&Identity::from_seed([1; 32]), crate::io::clock::unix_s()).unwrap();
    let server = server_config(&issued, &Settings::defaults().config).unwrap();
    let server = quinn::Endpoint::server(server, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.local_addr().unwrap();
    let accepted = tokio::spawn(async move { server.accept().await.unwrap().await });
    let pinned = Identity::from_seed([2; 32]).public();
    let refused = client(pinned).connect(address, LEAF_NAME).unwrap().await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    assert!(accepted.await.unwrap().is_err());
}

fn client(pinned: PublicKey) -> quinn::Endpoint {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ciphers()));
    let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned(pinned)));
    let mut tls = builder.with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let quic = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(quic)));
    endpoint
}
