//! The two halves of streams.

use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::{ClosedStream, ReadError, ReadExactError, VarInt, WriteError};
use quinn_proto::{Chunk, FinishError, ReadableError, StreamId};

use super::{Connection, Slot, forget, wait};

/// The half that we write. What was written before it is dropped arrives, and then ends.
#[derive(Debug)]
pub struct SendStream {
    connection: Connection,
    stream: StreamId,
}

impl SendStream {
    pub(super) const fn new(connection: Connection, stream: StreamId) -> Self {
        Self { connection, stream }
    }

    /// Writes all of `bytes`, as fast as the peer takes them.
    ///
    /// # Errors
    /// [`WriteError`], when the peer takes no more.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let written = self.write(|stream| stream.write(bytes)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes all of `bytes` without copying them.
    ///
    /// # Errors
    /// [`WriteError`], when the peer takes no more.
    pub async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        let mut rest = [bytes];
        while !rest[0].is_empty() {
            self.write(|stream| stream.write_chunks(&mut rest)).await?;
        }
        Ok(())
    }

    async fn write<T>(
        &self,
        mut write: impl FnMut(&mut quinn_proto::SendStream<'_>) -> Result<T, quinn_proto::WriteError>,
    ) -> Result<T, WriteError> {
        std::future::poll_fn(|cx| {
            if let Some(end) = self.connection.end() {
                return Poll::Ready(Err(WriteError::ConnectionLost(end)));
            }
            let written = self.connection.change(|slot| {
                let written = write(&mut slot.connection.send_stream(self.stream));
                if matches!(written, Err(quinn_proto::WriteError::Blocked)) {
                    wait(&mut slot.waiting.writing, self.stream, cx.waker());
                }
                let is_written = written.is_ok();
                (written, is_written)
            });
            match written {
                Some(Ok(written)) => Poll::Ready(Ok(written)),
                Some(Err(quinn_proto::WriteError::Blocked)) => Poll::Pending,
                Some(Err(quinn_proto::WriteError::Stopped(code))) => {
                    Poll::Ready(Err(WriteError::Stopped(code)))
                }
                Some(Err(quinn_proto::WriteError::ClosedStream)) | None => {
                    Poll::Ready(Err(WriteError::ClosedStream))
                }
            }
        })
        .await
    }

    /// Ends the stream once what was written has arrived.
    ///
    /// # Errors
    /// [`ClosedStream`], when it has ended already.
    pub fn finish(&mut self) -> Result<(), ClosedStream> {
        let finished = self.connection.change(|slot| {
            match slot.connection.send_stream(self.stream).finish() {
                Ok(()) => (Ok(()), true),
                // Whoever stopped it learns nothing from an end.
                Err(FinishError::Stopped(_)) => (Ok(()), false),
                Err(FinishError::ClosedStream) => (Err(ClosedStream::default()), false),
            }
        });
        finished.unwrap_or_else(|| Err(ClosedStream::default()))
    }

    /// Gives the stream up: the peer is told that it is not whole.
    ///
    /// # Errors
    /// [`ClosedStream`], when it has ended already.
    pub fn reset(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        let reset = self.connection.change(|slot| {
            let reset = slot.connection.send_stream(self.stream).reset(code);
            let is_reset = reset.is_ok();
            (reset, is_reset)
        });
        reset.unwrap_or_else(|| Err(ClosedStream::default()))
    }

    /// Sets what goes before what: higher numbers first.
    ///
    /// # Errors
    /// [`ClosedStream`], when it has ended already.
    pub fn set_priority(&self, priority: i32) -> Result<(), ClosedStream> {
        let set = self.connection.with(|slot| {
            let mut stream = slot.connection.send_stream(self.stream);
            stream.set_priority(priority)
        });
        set.unwrap_or_else(|| Err(ClosedStream::default()))
    }

    /// Waits until the peer has acknowledged all of a finished stream, wants no more of it, or is
    /// gone.
    pub async fn stopped(&mut self) {
        std::future::poll_fn(|cx| {
            let is_going = self.connection.with(|slot| {
                // Stopped with a code or all of it acknowledged: either way, nothing more to come.
                let is_going =
                    matches!(slot.connection.send_stream(self.stream).stopped(), Ok(None));
                if is_going {
                    wait(&mut slot.waiting.finishing, self.stream, cx.waker());
                }
                is_going
            });
            let is_over = is_going != Some(true) || self.connection.end().is_some();
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        let stream = self.stream;
        self.connection.change(|slot| {
            forget(&mut slot.waiting.writing, stream);
            forget(&mut slot.waiting.finishing, stream);
            if slot.end.get().is_some() {
                return ((), false);
            }
            let mut half = slot.connection.send_stream(stream);
            let has_more = match half.finish() {
                Ok(()) => true,
                // Until the stop is answered the stream counts as open.
                Err(FinishError::Stopped(code)) => half.reset(code).is_ok(),
                // It has ended already, or was given up.
                Err(FinishError::ClosedStream) => false,
            };
            ((), has_more)
        });
    }
}

/// The half that we read. The peer is told when it is dropped before its end.
#[derive(Debug)]
pub struct RecvStream {
    connection: Connection,
    stream: StreamId,
    is_over: bool,
}

/// What reading a stream once gave.
enum Read {
    Some(Chunk),
    End,
    Blocked,
    Reset(VarInt),
    Bad(ReadableError),
}

impl RecvStream {
    pub(super) const fn new(connection: Connection, stream: StreamId) -> Self {
        Self { connection, stream, is_over: false }
    }

    /// Returns the next bytes, in order, at most `bytes_max`; nothing at the end.
    ///
    /// # Errors
    /// [`ReadError`], when there are no more to come and this was not the end.
    pub async fn read_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ReadError> {
        std::future::poll_fn(|cx| self.poll_read(cx, bytes_max)).await
    }

    fn poll_read(
        &mut self,
        cx: &Context<'_>,
        bytes_max: usize,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        let stream = self.stream;
        let read = self.connection.change(|slot| {
            let (read, is_owed) = read_once(slot, stream, bytes_max);
            if matches!(read, Read::Blocked) {
                wait(&mut slot.waiting.reading, stream, cx.waker());
            }
            (read, is_owed)
        });
        Poll::Ready(match read {
            Some(Read::Some(chunk)) => Ok(Some(chunk.bytes)),
            Some(Read::End) => {
                self.is_over = true;
                Ok(None)
            }
            Some(Read::Reset(code)) => {
                self.is_over = true;
                Err(ReadError::Reset(code))
            }
            Some(Read::Bad(ReadableError::ClosedStream)) => Err(ReadError::ClosedStream),
            Some(Read::Bad(ReadableError::IllegalOrderedRead)) => {
                Err(ReadError::IllegalOrderedRead)
            }
            Some(Read::Blocked) | None => match self.connection.end() {
                Some(end) => Err(ReadError::ConnectionLost(end)),
                None => return Poll::Pending,
            },
        })
    }

    /// Fills all of `bytes`.
    ///
    /// # Errors
    /// [`ReadExactError`], when the stream ends or breaks before.
    pub async fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), ReadExactError> {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let Some(chunk) = self.read_chunk(rest.len()).await? else {
                return Err(ReadExactError::FinishedEarly(at));
            };
            if let Some(part) = rest.get_mut(..chunk.len()) {
                part.copy_from_slice(&chunk);
            }
            at += chunk.len();
        }
        Ok(())
    }

    /// Tells the peer that no more is wanted.
    ///
    /// # Errors
    /// [`ClosedStream`], when it has ended already.
    pub fn stop(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        let stopped = self.connection.change(|slot| {
            let stopped = slot.connection.recv_stream(self.stream).stop(code);
            let is_stopped = stopped.is_ok();
            (stopped, is_stopped)
        });
        self.is_over = true;
        stopped.unwrap_or_else(|| Err(ClosedStream::default()))
    }
}

/// Reads once; returns also whether the peer is owed a word about it.
fn read_once(slot: &mut Slot, stream: StreamId, bytes_max: usize) -> (Read, bool) {
    let mut half = slot.connection.recv_stream(stream);
    let mut chunks = match half.read(true) {
        Ok(chunks) => chunks,
        Err(bad) => return (Read::Bad(bad), false),
    };
    let read = match chunks.next(bytes_max) {
        Ok(Some(chunk)) => Read::Some(chunk),
        Ok(None) => Read::End,
        Err(quinn_proto::ReadError::Blocked) => Read::Blocked,
        Err(quinn_proto::ReadError::Reset(code)) => Read::Reset(code),
    };
    let is_owed = chunks.finalize().should_transmit();
    (read, is_owed)
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.connection.with(|slot| forget(&mut slot.waiting.reading, self.stream));
        if !self.is_over && self.connection.end().is_none() {
            // One that has ended already needs no telling.
            self.stop(VarInt::from_u32(0)).unwrap_or_default();
        }
    }
}
