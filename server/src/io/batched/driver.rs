//! The loop: reads packets, lets connections work on them, and writes what they have to say.
//!
//! A turn is bounded, so that the other tasks of the thread have theirs. While packets come thick
//! and fast the loop lets them gather for a millisecond: a turn for many costs hardly more than a
//! turn for one.

use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn::ConnectionError;
use quinn::udp::{self, BATCH_SIZE, RecvMeta, UdpSocketState};
use quinn_proto::{ConnectionHandle, DatagramEvent, EcnCodepoint, Event, StreamEvent, Transmit};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{Core, NEVER, Shared, Slot, wake};
use crate::io::clock;

/// Bytes of one read: packets of one sender may come joined, up to what UDP can carry.
const READ_BYTES: usize = 64 * 1024;

/// Reads of up to 32 packets in one turn.
const READS_MAX: usize = 4;

/// Connections that may speak in one turn: about a millisecond's work.
const SPEAKERS_MAX: usize = 128;

/// Packets of one connection in one turn; more follow in the next.
const PACKETS_MAX: usize = 8;

/// Packets in a row to which there was nothing to say, after which the next waits for more to say:
/// what is said every tick takes the answer to it along.
pub(super) const SILENCES: u8 = 4;

/// Microseconds for which it waits at most: somewhat more than QUIC lets acknowledgements wait.
const REST_US: u64 = 30_000;

/// Bytes of a packet that says more than what has arrived.
const LONG: usize = 512;

/// Packets in one turn from which on they come thick and fast.
const DENSE: usize = 4;

/// How long packets may gather meanwhile.
const GATHER: Duration = Duration::from_millis(1);

/// How long the loop waits at most when nothing is due: whatever matters wakes it before.
const IDLE: Duration = Duration::from_secs(60);

/// Microseconds between two looks through all connections for those whose time has come.
const LOOK_US: u64 = 1_000;

/// Does all the work of an endpoint while it is run.
pub struct Driver {
    shared: Arc<Shared>,
    socket: UdpSocket,
    state: UdpSocketState,
    /// Room for what is read at a time.
    received: Box<[u8]>,
    /// The packet being written.
    packet: Vec<u8>,
    /// A packet that the system did not take; it goes first.
    blocked: Option<(Transmit, Vec<u8>)>,
}

/// What is to be done after a turn.
enum Next {
    /// There is more to do.
    Go,
    /// Packets may gather.
    Gather,
    /// There is nothing to do until something comes, or somebody asks.
    Wait,
    /// The endpoint is closed, and all its connections have gone.
    End,
}

impl Driver {
    /// Returns the driver of a socket.
    pub(super) fn new(
        shared: Arc<Shared>,
        socket: std::net::UdpSocket,
        state: UdpSocketState,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            shared,
            socket: UdpSocket::from_std(socket)?,
            state,
            received: vec![0; READ_BYTES * BATCH_SIZE].into_boxed_slice(),
            packet: Vec::with_capacity(READ_BYTES),
            blocked: None,
        })
    }

    /// Runs the endpoint until it is closed and its last connection has gone.
    pub async fn run(mut self) {
        loop {
            match self.turn() {
                Next::Go => tokio::task::yield_now().await,
                Next::Gather => self.wait(false).await,
                Next::Wait => self.wait(true).await,
                Next::End => return,
            }
        }
    }

    fn turn(&mut self) -> Next {
        let shared = Arc::clone(&self.shared);
        let mut core = shared.lock();
        if !self.say_what_was_blocked() {
            // Nothing is read while nothing can be said: what there is to say would pile up.
            return Next::Wait;
        }
        let (packets, may_hold_more) = self.receive(&mut core);
        let now = clock::instant();
        core.let_time_pass(now);
        if !self.speak(&mut core, now) {
            return Next::Wait;
        }
        if may_hold_more || core.has_speakers() {
            Next::Go
        } else if core.is_over() {
            Next::End
        } else if DENSE <= packets {
            Next::Gather
        } else {
            Next::Wait
        }
    }

    /// Waits for time to pass and, if a packet is blocked, for room in the socket; else for a
    /// connection that has something to say, and for packets if `for_packets`.
    async fn wait(&mut self, for_packets: bool) {
        let now = clock::instant();
        let latest = now + if for_packets { IDLE } else { GATHER };
        let until = {
            let core = self.shared.lock();
            let look_us = core.next_look().min(core.micros(latest));
            core.began + Duration::from_micros(look_us)
        };
        let mut asleep = std::pin::pin!(tokio::time::sleep_until(until.into()));
        std::future::poll_fn(|cx| {
            {
                let mut core = self.shared.lock();
                let has_more = core.has_speakers() || !core.replies.is_empty();
                if core.is_over() || has_more && self.blocked.is_none() {
                    return Poll::Ready(());
                }
                core.driver = Some(cx.waker().clone());
            }
            let is_ready = if self.blocked.is_some() {
                self.socket.poll_send_ready(cx).is_ready()
            } else {
                for_packets && self.socket.poll_recv_ready(cx).is_ready()
            };
            if is_ready {
                return Poll::Ready(());
            }
            asleep.as_mut().poll(cx)
        })
        .await;
    }

    /// Reads packets; returns how many, and whether there may be more.
    fn receive(&mut self, core: &mut Core) -> (usize, bool) {
        let mut packets = 0;
        for _ in 0..READS_MAX {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let mut parts = self.received.chunks_exact_mut(READ_BYTES).map(IoSliceMut::new);
            let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| parts.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            let (socket, state) = (&self.socket, &self.state);
            let read = socket
                .try_io(Interest::READABLE, || state.recv(socket.into(), &mut buffers, &mut metas));
            let reads = match read {
                Ok(reads) => reads,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (packets, false),
                // Somebody to whom a packet was sent is not there: that is about that packet.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
                Err(error) => {
                    tracing::debug!(%error, "cannot read from the socket");
                    // Tried again in a moment, as if packets came thick and fast.
                    return (DENSE, false);
                }
            };
            drop(parts);
            for (buffer, meta) in buffers.iter().zip(&metas).take(reads) {
                let bytes = buffer.get(..meta.len).unwrap_or_default();
                for packet in bytes.chunks(meta.stride.max(1)) {
                    // A moment of its own, since round trips are measured by it.
                    core.take(packet, meta, clock::instant());
                    packets += 1;
                }
            }
            if reads < BATCH_SIZE {
                return (packets, false);
            }
        }
        (packets, true)
    }

    /// Sends the packet that the system did not take before, if there is one; returns whether it
    /// takes it now.
    fn say_what_was_blocked(&mut self) -> bool {
        self.blocked.take().is_none_or(|(transmit, bytes)| self.send(transmit, bytes))
    }

    /// Lets connections that something happened to go on, and writes what comes of it; returns
    /// whether the system took all of it.
    fn speak(&mut self, core: &mut Core, now: Instant) -> bool {
        while let Some((transmit, bytes)) = core.replies.pop_front() {
            if !self.send(transmit, bytes) {
                return false;
            }
        }
        for _ in 0..SPEAKERS_MAX {
            let Some(index) = core.next_speaker() else { break };
            core.settle(index);
            if !self.speak_for(core, index, now) {
                return false;
            }
        }
        true
    }

    /// Writes what a connection has to say; returns whether the system took it.
    fn speak_for(&mut self, core: &mut Core, index: usize, now: Instant) -> bool {
        let Some(Some(slot)) = core.slots.get_mut(index) else { return true };
        let mut packet = std::mem::take(&mut self.packet);
        let mut is_taken = true;
        let mut is_done = false;
        let (mut packets, mut longest) = (0, 0);
        while packets < PACKETS_MAX {
            packet.clear();
            let Some(transmit) = slot.connection.poll_transmit(now, 1, &mut packet) else {
                is_done = true;
                break;
            };
            if !self.try_send(&transmit, &packet) {
                self.blocked = Some((transmit, packet.clone()));
                is_taken = false;
                break;
            }
            packets += 1;
            longest = longest.max(transmit.size);
        }
        self.packet = packet;
        slot.unsaid_us = NEVER;
        let is_asked = std::mem::take(&mut slot.is_asked);
        if !std::mem::take(&mut slot.is_posted) {
            if LONG <= longest || 0 < packets && !is_asked {
                // Streams have more under way, and answers to it let them go on.
                slot.silences = 0;
            } else if packets == 0 && !is_asked {
                slot.silences = slot.silences.saturating_add(1);
            }
        }
        core.remind(index);
        if !is_done {
            core.mark(index);
        }
        is_taken
    }

    /// Sends a packet, or keeps it for when the system takes it; returns whether it was taken.
    fn send(&mut self, transmit: Transmit, bytes: Vec<u8>) -> bool {
        let is_taken = self.try_send(&transmit, &bytes);
        if !is_taken {
            self.blocked = Some((transmit, bytes));
        }
        is_taken
    }

    /// Returns whether the system took a packet, or never will.
    fn try_send(&self, transmit: &Transmit, packet: &[u8]) -> bool {
        let packet = udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: packet.get(..transmit.size).unwrap_or_default(),
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        let (socket, state) = (&self.socket, &self.state);
        let sent = socket.try_io(Interest::WRITABLE, || state.send(socket.into(), &packet));
        !sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Drop for Driver {
    /// Tells everybody who waits that nothing will come any more.
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the loop that carries QUIC has panicked; all connections are lost");
        }
        let mut core = self.shared.lock();
        core.let_nobody_in();
        for mut slot in std::mem::take(&mut core.slots).into_iter().flatten() {
            slot.end.get_or_init(|| ConnectionError::LocallyClosed);
            slot.waiting.wake_everyone();
        }
    }
}

impl Core {
    /// Takes a packet in.
    fn take(&mut self, packet: &[u8], meta: &RecvMeta, now: Instant) {
        let mut reply = Vec::new();
        let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
        let bytes = BytesMut::from(packet);
        let event = self.endpoint.handle(now, meta.addr, meta.dst_ip, ecn, bytes, &mut reply);
        match event {
            Some(DatagramEvent::ConnectionEvent(ConnectionHandle(index), event)) => {
                let Some(Some(slot)) = self.slots.get_mut(index) else { return };
                slot.connection.handle_event(event);
                // Whoever has more to write waits for nothing but such packets.
                let is_eager = slot.silences < SILENCES || !slot.waiting.writing.is_empty();
                if self.tell(index) || is_eager {
                    self.line_up(index);
                } else {
                    self.let_rest(index, now);
                }
            }
            Some(DatagramEvent::NewConnection(newcomer)) => self.welcome(newcomer),
            Some(DatagramEvent::Response(transmit)) => self.reply(transmit, reply),
            None => {}
        }
    }

    /// Returns whose turn it is to speak: those who have a datagram to send come first, and it is
    /// handed to them.
    fn next_speaker(&mut self) -> Option<usize> {
        while let Some((key, datagram)) = self.outbox.pop_front() {
            if self.hand_over(key, datagram) {
                return Some(key.0);
            }
        }
        while let Some(index) = self.dirty.pop_front() {
            // Who has spoken for another reason meanwhile has no more to say.
            if matches!(self.slots.get(index), Some(Some(slot)) if slot.is_dirty) {
                return Some(index);
            }
        }
        None
    }

    /// Leaves what came for the next time the connection speaks, but not for long: not all that QUIC
    /// wants to be answered has a timer.
    fn let_rest(&mut self, index: usize, now: Instant) {
        let until_us = self.micros(now).saturating_add(REST_US);
        if let Some(Some(slot)) = self.slots.get_mut(index) {
            slot.unsaid_us = slot.unsaid_us.min(until_us);
        }
        self.remind(index);
    }

    /// Notes when a connection wants to be looked at again.
    fn remind(&mut self, index: usize) {
        let Some(Some(slot)) = self.slots.get_mut(index) else { return };
        let (due, unsaid_us) = (slot.connection.poll_timeout(), slot.unsaid_us);
        let due = due.map_or(NEVER, |due| self.micros(due)).min(unsaid_us);
        self.deadlines[index] = due;
        self.next_deadline = self.next_deadline.min(due);
    }

    /// Tells connections whose time has come.
    fn let_time_pass(&mut self, now: Instant) {
        let now_us = self.micros(now);
        if now_us < self.next_look() {
            return;
        }
        let mut next = NEVER;
        for index in 0..self.deadlines.len() {
            let due = self.deadlines[index];
            if now_us < due {
                next = next.min(due);
                continue;
            }
            self.deadlines[index] = NEVER;
            if let Some(Some(slot)) = self.slots.get_mut(index) {
                slot.connection.handle_timeout(now);
                self.mark(index);
            }
        }
        self.next_deadline = next;
        self.looked = now_us;
    }

    /// Returns whether the endpoint is closed and its last connection has gone.
    fn is_over(&self) -> bool {
        self.is_closed && self.slots.iter().all(Option::is_none)
    }

    /// Returns when connections are to be looked through again.
    fn next_look(&self) -> u64 {
        self.next_deadline.max(self.looked.saturating_add(LOOK_US))
    }

    /// Lets a connection and the endpoint tell each other what they must, and those who wait what
    /// has come.
    fn settle(&mut self, index: usize) {
        let Some(Some(slot)) = self.slots.get_mut(index) else { return };
        slot.is_dirty = false;
        let mut is_drained = false;
        while let Some(event) = slot.connection.poll_endpoint_events() {
            is_drained |= event.is_drained();
            if let Some(event) = self.endpoint.handle_event(ConnectionHandle(index), event) {
                slot.connection.handle_event(event);
            }
        }
        self.tell(index);
        if is_drained {
            self.slots[index] = None;
            self.standing[index] = 0;
            self.deadlines[index] = NEVER;
        }
    }

    /// Tells those who wait for a connection what has come; returns whether that was more than
    /// datagrams.
    fn tell(&mut self, index: usize) -> bool {
        let Some(Some(slot)) = self.slots.get_mut(index) else { return false };
        let has_more = slot.tell();
        if has_more && slot.end.get().is_some() {
            self.standing[index] = 0;
        }
        has_more
    }
}

impl Slot {
    /// Tells those who wait what has come; returns whether that was more than datagrams.
    fn tell(&mut self) -> bool {
        let waiting = &mut self.waiting;
        let mut has_more = false;
        while let Some(event) = self.connection.poll() {
            has_more |= !matches!(event, Event::DatagramReceived);
            match event {
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
                Event::Connected => {
                    self.is_connected = true;
                    waiting.connected.drain(..).for_each(std::task::Waker::wake);
                }
                Event::ConnectionLost { reason } => {
                    // One that this side closed has its end already.
                    self.end.get_or_init(|| reason);
                    self.sink = None;
                    waiting.wake_everyone();
                }
                Event::DatagramReceived => {
                    // Without a sink they wait, and the oldest make room.
                    let Some(sink) = &mut self.sink else { continue };
                    while let Some(datagram) = self.connection.datagrams().recv() {
                        sink(datagram);
                    }
                }
                Event::Stream(StreamEvent::Opened { dir }) => {
                    waiting.accepting[dir as usize].drain(..).for_each(std::task::Waker::wake);
                }
                Event::Stream(StreamEvent::Available { dir }) => {
                    waiting.opening[dir as usize].drain(..).for_each(std::task::Waker::wake);
                }
                Event::Stream(StreamEvent::Readable { id }) => wake(&mut waiting.reading, id),
                Event::Stream(StreamEvent::Writable { id }) => wake(&mut waiting.writing, id),
                Event::Stream(StreamEvent::Finished { id }) => wake(&mut waiting.finishing, id),
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    wake(&mut waiting.writing, id);
                    wake(&mut waiting.finishing, id);
                }
            }
        }
        has_more
    }
}
