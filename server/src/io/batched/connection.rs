//! A handle to one connection. Clones are the same connection; it closes when the last is gone.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use protocol::limits::DATAGRAM_BYTES_MAX;
use quinn::{ConnectionError, ConnectionStats, VarInt};
use quinn_proto::{Dir, StreamId};

use super::{End, RecvStream, SendStream, Shared, Sink, Slot, enlist};

/// One connection.
#[derive(Clone)]
pub struct Connection(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    /// Its number and serial.
    key: (usize, u64),
    /// Where the peer was at first.
    remote: SocketAddr,
    end: End,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        if core.slot(self.key).is_some() {
            core.close(self.key.0, VarInt::from_u32(0), Bytes::new());
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.0.key).finish()
    }
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        key: (usize, u64),
        remote: SocketAddr,
        end: End,
    ) -> Self {
        Self(Arc::new(Handle { shared, key, remote, end }))
    }

    /// Waits until the handshake is done.
    ///
    /// # Errors
    /// How the connection ended before.
    pub async fn connected(&self) -> Result<(), ConnectionError> {
        self.until(|slot, waker| {
            let is_connected = slot.is_connected;
            if !is_connected {
                enlist(&mut slot.waiting.connected, waker);
            }
            is_connected.then_some(())
        })
        .await
    }

    /// Returns where the peer is now; once the connection has gone, where it came from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.with(|slot| slot.connection.remote_address()).unwrap_or(self.0.remote)
    }

    /// Returns the round trip time as last measured.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.with(|slot| slot.connection.rtt()).unwrap_or_default()
    }

    /// Returns what was counted, while the connection stands.
    #[must_use]
    pub fn stats(&self) -> Option<ConnectionStats> {
        self.with(|slot| slot.connection.stats())
    }

    /// Returns what TLS knows as the protocol that both sides speak, once that is agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<Vec<u8>> {
        let data = self.with(|slot| slot.connection.crypto_session().handshake_data()).flatten()?;
        data.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?.protocol
    }

    /// Sends a datagram with the next packets; a full buffer drops the oldest. Returns whether it
    /// will go out: whether it is no longer than [`DATAGRAM_BYTES_MAX`] and the connection stands.
    #[must_use]
    pub fn send_datagram(&self, datagram: Bytes) -> bool {
        datagram.len() <= DATAGRAM_BYTES_MAX && self.0.shared.lock().post(self.0.key, datagram)
    }

    /// Hands every datagram that comes from now on to `sink`, until the connection ends.
    pub fn deliver_datagrams(&self, mut sink: Sink) {
        self.with(|slot| {
            while let Some(datagram) = slot.connection.datagrams().recv() {
                sink(datagram);
            }
            slot.sink = Some(sink);
        });
    }

    /// Opens a stream one way as soon as the peer allows it.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn open_uni(&self) -> Result<SendStream, ConnectionError> {
        let stream = self.open(Dir::Uni).await?;
        Ok(SendStream::new(self.clone(), stream))
    }

    /// Opens a stream both ways as soon as the peer allows it.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let stream = self.open(Dir::Bi).await?;
        Ok((SendStream::new(self.clone(), stream), RecvStream::new(self.clone(), stream)))
    }

    /// Returns the next stream that the peer opened one way.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn accept_uni(&self) -> Result<RecvStream, ConnectionError> {
        let stream = self.accept(Dir::Uni).await?;
        Ok(RecvStream::new(self.clone(), stream))
    }

    /// Returns the next stream that the peer opened both ways.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let stream = self.accept(Dir::Bi).await?;
        Ok((SendStream::new(self.clone(), stream), RecvStream::new(self.clone(), stream)))
    }

    /// Closes with a code and words, at once.
    pub fn close(&self, code: VarInt, why: &[u8]) {
        let mut core = self.0.shared.lock();
        if core.slot(self.0.key).is_some() {
            core.close(self.0.key.0, code, Bytes::copy_from_slice(why));
        }
    }

    /// Waits until the connection ends; returns how.
    pub async fn closed(&self) -> ConnectionError {
        let ended = self.until(|slot, waker| {
            enlist(&mut slot.waiting.closed, waker);
            None::<std::convert::Infallible>
        });
        match ended.await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    /// Returns how the connection ended, nothing while it stands.
    #[must_use]
    pub fn end(&self) -> Option<ConnectionError> {
        self.0.end.get().cloned()
    }

    async fn open(&self, dir: Dir) -> Result<StreamId, ConnectionError> {
        self.until(|slot, waker| {
            let opened = slot.connection.streams().open(dir);
            if opened.is_none() {
                enlist(&mut slot.waiting.opening[dir as usize], waker);
            }
            opened
        })
        .await
    }

    async fn accept(&self, dir: Dir) -> Result<StreamId, ConnectionError> {
        self.until(|slot, waker| {
            let accepted = slot.connection.streams().accept(dir);
            if accepted.is_none() {
                enlist(&mut slot.waiting.accepting[dir as usize], waker);
            }
            accepted
        })
        .await
    }

    /// Looks again whenever woken until `look` finds something, which may have to be told to the
    /// peer; `look` sees to being woken.
    async fn until<T>(
        &self,
        mut look: impl FnMut(&mut Slot, &Waker) -> Option<T>,
    ) -> Result<T, ConnectionError> {
        std::future::poll_fn(|cx| {
            if let Some(end) = self.end() {
                return Poll::Ready(Err(end));
            }
            let found = self.change(|slot| {
                let found = look(slot, cx.waker());
                let is_found = found.is_some();
                (found, is_found)
            });
            match found {
                Some(Some(found)) => Poll::Ready(Ok(found)),
                Some(None) => Poll::Pending,
                None => Poll::Ready(Err(self.end().unwrap_or(ConnectionError::LocallyClosed))),
            }
        })
        .await
    }

    /// Looks at the connection, while it stands.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.0.shared.lock().slot(self.0.key).map(look)
    }

    /// Changes the connection, while it stands; `change` returns also whether that leaves something
    /// to send.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Slot) -> (T, bool)) -> Option<T> {
        let mut core = self.0.shared.lock();
        let slot = core.slot(self.0.key)?;
        let (changed, has_more) = change(slot);
        if has_more {
            // What comes of it is to be answered at once.
            slot.silences = 0;
            core.mark(self.0.key.0);
        }
        Some(changed)
    }
}
