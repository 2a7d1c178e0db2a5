//! A connection without manners of its own: says any bytes, reads or does not read.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use protocol::close::CloseCode;
use protocol::frame::Assembler;
use protocol::io::ServerKey;
use protocol::io::connection::{close_of, transport};
use protocol::io::trust::{PinnedVerifier, SERVER_NAME};
use protocol::limits::MESSAGE_BYTES_MAX;
use protocol::message::client::Hello;
use protocol::message::common::{ALPN, features};
use protocol::message::server::Welcome;
use protocol::message::{ClientMessage, ServerMessage};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt};

use crate::guest::PATIENCE;
use crate::process::ServerProcess;

/// Bytes of a stream that a connection takes unread unless it is told otherwise.
const WINDOW_BYTES: u32 = 1 << 20;

/// Where a server is, and which key it must have.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// Its key.
    pub key: ServerKey,
}

impl From<&ServerProcess> for Target {
    fn from(server: &ServerProcess) -> Self {
        Self { address: server.address(), key: server.key() }
    }
}

/// A connection and its control stream.
pub struct Raw {
    _endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    assembler: Assembler,
}

/// Returns how to connect as one who speaks `alpn` and takes `window` bytes of a stream unread.
///
/// # Errors
/// When TLS does not like it.
pub fn config(key: ServerKey, alpn: &[u8], window: u32) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PinnedVerifier::new(Some(key), Arc::clone(&provider));
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = transport();
    transport.stream_receive_window(VarInt::from_u32(window));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Opens a connection.
///
/// # Errors
/// When there is none to be had.
pub async fn connect(target: Target, alpn: &[u8], window: u32) -> Result<(Endpoint, Connection)> {
    let config = config(target.key, alpn, window)?;
    let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
    let connecting = endpoint.connect_with(config, target.address, SERVER_NAME)?;
    Ok((endpoint, connecting.await?))
}

impl Raw {
    /// Opens a connection and waits for the control stream.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn open(target: impl Into<Target>) -> Result<Self> {
        Self::open_with(target, WINDOW_BYTES).await
    }

    /// As [`Self::open`]; takes `window` bytes of a stream unread.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(target: impl Into<Target>, window: u32) -> Result<Self> {
        let (endpoint, connection) = connect(target.into(), ALPN, window).await?;
        let (send, receive) = connection.accept_bi().await?;
        let assembler = Assembler::default();
        Ok(Self { _endpoint: endpoint, connection, send, receive, assembler })
    }

    /// Opens a connection and comes in as a guest.
    ///
    /// # Errors
    /// When it is not let in.
    pub async fn enter(target: impl Into<Target>) -> Result<Self> {
        let mut raw = Self::open(target).await?;
        raw.write(&bytes_of(&hello())).await?;
        raw.until_welcome().await?;
        Ok(raw)
    }

    /// Returns the connection, for streams of one's own.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Waits for the welcome.
    ///
    /// # Errors
    /// When none comes.
    pub async fn until_welcome(&mut self) -> Result<Welcome> {
        loop {
            if let ServerMessage::Welcome(welcome) = self.next().await? {
                return Ok(welcome);
            }
        }
    }

    /// Says bytes on the control stream.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.send.write_all(bytes).await?)
    }

    /// Ends the control stream, and nothing else.
    pub fn finish(&mut self) {
        // A connection that is gone has no stream to end.
        drop(self.send.finish());
    }

    /// Returns the next message.
    ///
    /// # Errors
    /// When none comes, or what comes is none.
    pub async fn next(&mut self) -> Result<ServerMessage> {
        loop {
            if let Some(frame) = self.assembler.next(MESSAGE_BYTES_MAX)? {
                if let Some(message) = ServerMessage::read(frame)? {
                    return Ok(message);
                }
                continue;
            }
            let read = tokio::time::timeout(PATIENCE, self.receive.read_chunk(65_536, true));
            let chunk = read.await.context("nothing to read")??.context("the stream ended")?;
            self.assembler.extend(&chunk.bytes);
        }
    }

    /// Returns both ends of the control stream and the connection, which ends with the last of it.
    #[must_use]
    pub fn split(self) -> (Endpoint, Connection, SendStream, RecvStream) {
        (self._endpoint, self.connection, self.send, self.receive)
    }

    /// Returns how the server closes the connection.
    ///
    /// # Errors
    /// When it stands.
    pub async fn closed(&self) -> Result<(Option<CloseCode>, String)> {
        let closed = tokio::time::timeout(PATIENCE, self.connection.closed()).await;
        let (code, why) = close_of(&closed.context("the connection stands")?);
        Ok((code.and_then(CloseCode::from_number), why))
    }
}

/// Returns a message as a frame.
#[must_use]
pub fn bytes_of(message: &ClientMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    bytes
}

/// Returns the hello of a passing guest.
#[must_use]
pub fn hello() -> ClientMessage {
    Hello {
        minor: 0,
        features: features::ALL,
        world: None,
        name: "Raw".into(),
        software: "test".into(),
        identity: None,
        token: None,
        resume: None,
        drive: None,
        capabilities: Vec::new(),
    }
    .into()
}
