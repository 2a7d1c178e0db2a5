//! QUIC as the rest of the server sees it, carried by quinn or by a loop of our own.
//!
//! `server.quic` chooses. Both speak the same on the wire and behave the same here; they differ in
//! what a packet costs ([`crate::io::batched`]).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quinn::{
    ClosedStream, ConnectionError, EndpointConfig, ReadError, ReadExactError, ServerConfig, VarInt,
    WriteError,
};

use crate::config::Quic;
use crate::io::batched::{self, Sink};

/// One UDP socket and its connections. Clones are the same endpoint.
#[derive(Clone)]
pub enum Endpoint {
    /// quinn's.
    Quinn(quinn::Endpoint),
    /// Ours.
    Batched(batched::Endpoint),
}

impl Endpoint {
    /// Returns an endpoint that others may connect to; it must be called on the thread whose tasks
    /// use it.
    ///
    /// # Errors
    /// The system's, when the socket cannot be used.
    pub fn listen(
        quic: Quic,
        config: EndpointConfig,
        server: ServerConfig,
        socket: std::net::UdpSocket,
    ) -> std::io::Result<Self> {
        match quic {
            Quic::Quinn => {
                let runtime = std::sync::Arc::new(quinn::TokioRuntime);
                let endpoint = quinn::Endpoint::new(config, Some(server), socket, runtime)?;
                Ok(Self::Quinn(endpoint))
            }
            Quic::Batched => {
                let (endpoint, driver) = batched::Endpoint::new(config, Some(server), socket)?;
                actix::spawn(driver.run());
                Ok(Self::Batched(endpoint))
            }
        }
    }

    /// Returns where the socket is bound.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Quinn(endpoint) => endpoint.local_addr(),
            Self::Batched(endpoint) => Ok(endpoint.local_addr()),
        }
    }

    /// Sets what newcomers get to see; connections that stand keep what they have.
    pub fn set_server_config(&self, server: ServerConfig) {
        match self {
            Self::Quinn(endpoint) => endpoint.set_server_config(Some(server)),
            Self::Batched(endpoint) => endpoint.set_server_config(server),
        }
    }

    /// Returns the next newcomer, nothing once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        match self {
            Self::Quinn(endpoint) => endpoint.accept().await.map(Incoming::Quinn),
            Self::Batched(endpoint) => endpoint.accept().await.map(Incoming::Batched),
        }
    }

    /// Closes all connections and lets nobody in any more.
    pub fn close(&self, why: &'static [u8]) {
        match self {
            Self::Quinn(endpoint) => endpoint.close(VarInt::from_u32(0), why),
            Self::Batched(endpoint) => endpoint.close(VarInt::from_u32(0), why),
        }
    }
}

/// Somebody who wants to connect.
pub enum Incoming {
    /// At quinn's endpoint.
    Quinn(quinn::Incoming),
    /// At ours.
    Batched(batched::Incoming),
}

impl Incoming {
    /// Returns where the newcomer's packets come from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quinn(incoming) => incoming.remote_address(),
            Self::Batched(incoming) => incoming.remote_address(),
        }
    }

    /// Returns whether that address has shown that it receives what is sent to it.
    #[must_use]
    pub fn is_address_validated(&self) -> bool {
        match self {
            Self::Quinn(incoming) => incoming.remote_address_validated(),
            Self::Batched(incoming) => incoming.is_address_validated(),
        }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// [`ConnectionError`], when nothing comes of it.
    pub async fn accept(self) -> Result<Connection, ConnectionError> {
        match self {
            Self::Quinn(incoming) => Ok(Connection::Quinn(incoming.await?)),
            Self::Batched(incoming) => {
                let connection = incoming.accept()?;
                connection.connected().await?;
                Ok(Connection::Batched(connection))
            }
        }
    }

    /// Tells the newcomer that it is not let in.
    pub fn refuse(self) {
        match self {
            Self::Quinn(incoming) => incoming.refuse(),
            Self::Batched(incoming) => incoming.refuse(),
        }
    }

    /// Asks the newcomer to prove its address; one that has done so is refused.
    pub fn retry(self) {
        match self {
            Self::Quinn(incoming) => {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
            }
            Self::Batched(incoming) => incoming.retry(),
        }
    }
}

/// One connection. Clones are the same connection; it closes when the last is gone.
#[derive(Clone, Debug)]
pub enum Connection {
    /// quinn's.
    Quinn(quinn::Connection),
    /// Ours.
    Batched(batched::Connection),
}

impl Connection {
    /// Returns where the peer is now.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quinn(connection) => connection.remote_address(),
            Self::Batched(connection) => connection.remote_address(),
        }
    }

    /// Returns the round trip time as last measured.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        match self {
            Self::Quinn(connection) => connection.rtt(),
            Self::Batched(connection) => connection.round_trip(),
        }
    }

    /// Returns whether the peer and we agreed on the protocol that TLS knows as `alpn`.
    #[must_use]
    pub fn speaks(&self, alpn: &[u8]) -> bool {
        let protocol = match self {
            Self::Quinn(connection) => connection
                .handshake_data()
                .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
                .and_then(|data| data.protocol),
            Self::Batched(connection) => connection.protocol(),
        };
        protocol.as_deref() == Some(alpn)
    }

    /// Sends a datagram with the next packets; a full buffer drops the oldest. Returns whether it
    /// will go out.
    #[must_use]
    pub fn send_datagram(&self, datagram: Bytes) -> bool {
        match self {
            Self::Quinn(connection) => connection.send_datagram(datagram).is_ok(),
            Self::Batched(connection) => connection.send_datagram(datagram),
        }
    }

    /// Hands every datagram that comes to `sink` until the connection ends; returns how it ended.
    pub async fn deliver_datagrams(&self, mut sink: Sink) -> ConnectionError {
        match self {
            Self::Quinn(connection) => loop {
                match connection.read_datagram().await {
                    Ok(datagram) => sink(datagram),
                    Err(error) => return error,
                }
            },
            Self::Batched(connection) => {
                connection.deliver_datagrams(sink);
                connection.closed().await
            }
        }
    }

    /// Opens a stream one way as soon as the peer allows it.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn open_uni(&self) -> Result<SendStream, ConnectionError> {
        match self {
            Self::Quinn(connection) => connection.open_uni().await.map(SendStream::Quinn),
            Self::Batched(connection) => connection.open_uni().await.map(SendStream::Batched),
        }
    }

    /// Opens a stream both ways as soon as the peer allows it.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        match self {
            Self::Quinn(connection) => connection.open_bi().await.map(quinn_halves),
            Self::Batched(connection) => connection.open_bi().await.map(batched_halves),
        }
    }

    /// Returns the next stream that the peer opened both ways.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        match self {
            Self::Quinn(connection) => connection.accept_bi().await.map(quinn_halves),
            Self::Batched(connection) => connection.accept_bi().await.map(batched_halves),
        }
    }

    /// Closes with a code and words, at once.
    pub fn close(&self, code: VarInt, why: &[u8]) {
        match self {
            Self::Quinn(connection) => connection.close(code, why),
            Self::Batched(connection) => connection.close(code, why),
        }
    }

    /// Waits until the connection ends; returns how.
    pub async fn closed(&self) -> ConnectionError {
        match self {
            Self::Quinn(connection) => connection.closed().await,
            Self::Batched(connection) => connection.closed().await,
        }
    }

    /// Returns how the connection ended, nothing while it stands.
    #[must_use]
    pub fn end(&self) -> Option<ConnectionError> {
        match self {
            Self::Quinn(connection) => connection.close_reason(),
            Self::Batched(connection) => connection.end(),
        }
    }
}

fn quinn_halves((send, recv): (quinn::SendStream, quinn::RecvStream)) -> (SendStream, RecvStream) {
    (SendStream::Quinn(send), RecvStream::Quinn(recv))
}

fn batched_halves(
    (send, recv): (batched::SendStream, batched::RecvStream),
) -> (SendStream, RecvStream) {
    (SendStream::Batched(send), RecvStream::Batched(recv))
}

/// The half of a stream that we write. What was written before it is dropped arrives, and then
/// ends.
#[derive(Debug)]
pub enum SendStream {
    /// quinn's.
    Quinn(quinn::SendStream),
    /// Ours.
    Batched(batched::SendStream),
}

impl SendStream {
    /// Writes all of `bytes`, as fast as the peer takes them.
    ///
    /// # Errors
    /// [`WriteError`], when the peer takes no more.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        match self {
            Self::Quinn(stream) => stream.write_all(bytes).await,
            Self::Batched(stream) => stream.write_all(bytes).await,
        }
    }

    /// Writes all of `bytes` without copying them.
    ///
    /// # Errors
    /// [`WriteError`], when the peer takes no more.
    pub async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        match self {
            Self::Quinn(stream) => stream.write_chunk(bytes).await,
            Self::Batched(stream) => stream.write_chunk(bytes).await,
        }
    }

    /// Ends the stream once what was written has arrived.
    ///
    /// # Errors
    /// [`ClosedStream`], when it has ended already.
    pub fn finish(&mut self) -> Result<(), ClosedStream> {
        match self {
            Self::Quinn(stream) => stream.finish(),
            Self::Batched(stream) => stream.finish(),
        }
    }

    /// Gives the stream up: the peer is told that it is not whole.
    ///
    /// # Errors
    /// [`ClosedStream`], when it has ended already.
    pub fn reset(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        match self {
            Self::Quinn(stream) => stream.reset(code),
            Self::Batched(stream) => stream.reset(code),
        }
    }

    /// Sets what goes before what: higher numbers first.
    ///
    /// # Errors
    /// [`ClosedStream`], when it has ended already.
    pub fn set_priority(&self, priority: i32) -> Result<(), ClosedStream> {
        match self {
            Self::Quinn(stream) => stream.set_priority(priority),
            Self::Batched(stream) => stream.set_priority(priority),
        }
    }

    /// Waits until the peer has acknowledged all of a finished stream, wants no more of it, or is
    /// gone.
    pub async fn stopped(&mut self) {
        match self {
            // However it ended, there is nothing more to wait for.
            Self::Quinn(stream) => drop(stream.stopped().await),
            Self::Batched(stream) => stream.stopped().await,
        }
    }
}

/// The half of a stream that we read. The peer is told when it is dropped before its end.
#[derive(Debug)]
pub enum RecvStream {
    /// quinn's.
    Quinn(quinn::RecvStream),
    /// Ours.
    Batched(batched::RecvStream),
}

impl RecvStream {
    /// Returns the next bytes, in order, at most `bytes_max`; nothing at the end.
    ///
    /// # Errors
    /// [`ReadError`], when there are no more to come and this was not the end.
    pub async fn read_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ReadError> {
        match self {
            Self::Quinn(stream) => {
                let chunk = stream.read_chunk(bytes_max, true).await?;
                Ok(chunk.map(|chunk| chunk.bytes))
            }
            Self::Batched(stream) => stream.read_chunk(bytes_max).await,
        }
    }

    /// Fills all of `bytes`.
    ///
    /// # Errors
    /// [`ReadExactError`], when the stream ends or breaks before.
    pub async fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), ReadExactError> {
        match self {
            Self::Quinn(stream) => stream.read_exact(bytes).await,
            Self::Batched(stream) => stream.read_exact(bytes).await,
        }
    }

    /// Tells the peer that no more is wanted.
    ///
    /// # Errors
    /// [`ClosedStream`], when it has ended already.
    pub fn stop(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        match self {
            Self::Quinn(stream) => stream.stop(code),
            Self::Batched(stream) => stream.stop(code),
        }
    }
}
