//! One QUIC connection to a server: the address, the handshake, and the control stream.
//!
//! What is said on it is the session's; when to make another is decided by the client.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, RecvStream, SendStream,
    TransportConfig, TransportErrorCode, VarInt,
};
use rustls::KeyLogFile;
use rustls::crypto::CryptoProvider;

use super::trust::{KnownServers, PinnedVerifier, SERVER_NAME, ServerKey, TrustError};
use crate::close::CloseCode;
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::message::common::ALPN;

/// How long the network may be silent before a connection counts as lost.
const IDLE_MS_MAX: u32 = 15_000;

/// How often a silent client says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// How long a first packet is taken to be under way and back: three times that passes until it is
/// sent again. quinn's own 333 ms let whoever knocks at a server that just starts wait for 1 s, then 2.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(100);

/// How long a handshake and the server's first stream may take.
const OPENING: Duration = Duration::from_secs(15);

/// Chunks that may be on their way at once.
const CHUNK_STREAMS_MAX: u32 = 16;

/// Bytes of frames that may wait for us: half a second of them.
const DATAGRAMS_WAITING_BYTES: usize = 10 * DATAGRAM_BYTES_MAX;

/// Where a server is and how it is recognized.
#[derive(Clone, Debug, Default)]
pub struct Destination {
    /// `host:port`.
    pub address: String,
    /// The server's identity, if it is known beforehand.
    pub server_key: Option<ServerKey>,
    /// Where identities of servers met before are kept; new ones are added.
    pub known_servers: Option<PathBuf>,
    /// Writes TLS secrets to the file named by `SSLKEYLOGFILE`, for looking into packets.
    pub keylog: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address means nothing.
    #[error("cannot find {address}: {why}; give HOST:PORT")]
    Address {
        /// The address.
        address: String,
        /// What the system says.
        why: String,
    },
    /// The socket cannot be made.
    #[error("cannot open a UDP socket: {0}")]
    Socket(#[from] io::Error),
    /// The server is not the one it should be.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Nothing answers there, or not this protocol.
    #[error("cannot connect to {address}: {why}")]
    Unreachable {
        /// The address.
        address: String,
        /// What happened.
        why: String,
    },
}

/// An open connection with its control stream.
#[derive(Debug)]
pub struct Opened {
    /// Keeps the socket open.
    pub endpoint: Endpoint,
    /// The connection.
    pub connection: Connection,
    /// The control stream's way there.
    pub send: SendStream,
    /// The control stream's way back.
    pub receive: RecvStream,
    /// Who the server is.
    pub server_key: ServerKey,
}

/// Connects and waits for the server to open the control stream.
///
/// # Errors
/// [`OpenError`], each with what to do.
pub async fn open(destination: &Destination) -> Result<Opened, OpenError> {
    open_as(destination, ALPN).await
}

/// Connects as [`open`] does, to speak the protocol that TLS knows as `alpn`.
///
/// # Errors
/// [`OpenError`], each with what to do.
pub async fn open_as(destination: &Destination, alpn: &[u8]) -> Result<Opened, OpenError> {
    let address = resolve(&destination.address).await?;
    let known = destination.known_servers.as_deref().map(KnownServers::new);
    let remembered = match &known {
        Some(known) if destination.server_key.is_none() => known.lookup(&destination.address)?,
        Some(_) | None => None,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pinned = destination.server_key.or_else(|| remembered.as_ref().map(|known| known.key));
    let verifier = PinnedVerifier::new(pinned, provider.clone());
    let mut endpoint = Endpoint::client(unspecified(address))?;
    endpoint.set_default_client_config(client_config(
        &verifier,
        provider,
        (destination.keylog, alpn),
    )?);
    let opened = tokio::time::timeout(OPENING, control(&endpoint, address)).await;
    let unreachable =
        |why: String| OpenError::Unreachable { address: destination.address.clone(), why };
    let (connection, send, receive) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            // The verifier knows better than the alert that came of it.
            if let Some(Err(trust)) = verifier.seen() {
                return Err(match (trust, remembered) {
                    (TrustError::Mismatch { shown, .. }, Some(known)) => {
                        TrustError::Changed { shown, known }.into()
                    }
                    (trust, _) => trust.into(),
                });
            }
            return Err(unreachable(explain(&error)));
        }
        Err(_) => return Err(unreachable(format!("no answer within {} s", OPENING.as_secs()))),
    };
    let server_key = verifier.seen().ok_or(TrustError::NoIdentity)??;
    if let (Some(known), None) = (&known, pinned) {
        known.remember(&destination.address, server_key)?;
    }
    Ok(Opened { endpoint, connection, send, receive, server_key })
}

async fn control(
    endpoint: &Endpoint,
    address: SocketAddr,
) -> Result<(Connection, SendStream, RecvStream), ControlError> {
    let connection = endpoint.connect(address, SERVER_NAME)?.await?;
    let (send, receive) = connection.accept_bi().await?;
    Ok((connection, send, receive))
}

#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

fn explain(error: &ControlError) -> String {
    match error {
        ControlError::Connection(ConnectionError::TimedOut) => {
            "nothing answers there; is the server running, and is this its UDP port?".to_owned()
        }
        ControlError::Connection(error) => close_of(error).1,
        ControlError::Connect(_) => error.to_string(),
    }
}

async fn resolve(address: &str) -> Result<SocketAddr, OpenError> {
    let wrong = |why: String| OpenError::Address { address: address.to_owned(), why };
    let mut found =
        tokio::net::lookup_host(address).await.map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("it has no address".to_owned()))
}

const fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

/// Returns how a client connects that knows servers by `verifier` and speaks what TLS knows as
/// `alpn`; with `keylog`, TLS secrets go to the file named by `SSLKEYLOGFILE`.
///
/// # Errors
/// What TLS says that cannot use `provider`.
pub fn client_config(
    verifier: &Arc<PinnedVerifier>,
    provider: Arc<CryptoProvider>,
    (keylog, alpn): (bool, &[u8]),
) -> io::Result<ClientConfig> {
    let broken = |error: &dyn std::error::Error| io::Error::other(error.to_string());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| broken(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    if keylog {
        tls.key_log = Arc::new(KeyLogFile::new());
    }
    let tls = QuicClientConfig::try_from(tls).map_err(|error| broken(&error))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// Returns how a client uses QUIC.
#[must_use]
pub fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS_MAX))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(FIRST_ROUND_TRIP)
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(CHUNK_STREAMS_MAX))
        .datagram_receive_buffer_size(Some(DATAGRAMS_WAITING_BYTES))
        .datagram_send_buffer_size(DATAGRAMS_WAITING_BYTES);
    transport
}

/// How TLS says that neither side speaks what the other offers.
fn no_common_protocol() -> TransportErrorCode {
    /// The alert `no_application_protocol`.
    const ALERT: u8 = 120;
    TransportErrorCode::crypto(ALERT)
}

/// Returns the application's code and words if the peer closed the connection, or what else
/// ended it.
#[must_use]
pub fn close_of(error: &ConnectionError) -> (Option<u64>, String) {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let why = String::from_utf8_lossy(&close.reason).into_owned();
            (Some(close.error_code.into_inner()), why)
        }
        ConnectionError::ConnectionClosed(close) if close.error_code == no_common_protocol() => {
            let alpn = String::from_utf8_lossy(ALPN);
            let why = format!(
                "the server speaks another version of the protocol than `{alpn}`; use a client \
                 and a server of the same version"
            );
            (Some(u64::from(CloseCode::Version.number())), why)
        }
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => (None, error.to_string()),
    }
}
