//! Over the loopback: this endpoint at both ends, and quinn's at the client's, which knows nothing
//! of it.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use protocol::io::connection;
use protocol::io::trust::{PinnedVerifier, SERVER_NAME};
use protocol::message::common::ALPN;
use quinn::{ConnectionStats, ReadError, WriteError};

use super::*;
use crate::config::Settings;
use crate::identity::Identity;
use crate::io::{quic, tls};

/// More than any window lets through at once.
const MUCH: usize = 300_000;

/// So much that waiting for a timer, 25 ms and more, with each window takes longer than anything may.
const LONG: usize = 96_000_000;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn much() -> Vec<u8> {
    (0..MUCH).map(|index| (index % 251) as u8).collect()
}

/// Lets in one connection after another, by a decision about each.
fn server(
    decide: impl Fn(Incoming) -> Option<Incoming> + 'static,
) -> (Endpoint, Receiver<Connection>) {
    let issued = tls::issue(&Identity::from_seed([1; 32]), clock::unix_s()).unwrap();
    let config = tls::server_config(&issued, &Settings::defaults().config).unwrap();
    let socket = quic::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (endpoint, driver) =
        Endpoint::new(EndpointConfig::default(), Some(config), socket).unwrap();
    tokio::task::spawn_local(driver.run());
    let (inside, come) = channel();
    let door = endpoint.clone();
    tokio::task::spawn_local(async move {
        while let Some(incoming) = door.accept().await {
            let Some(Ok(connection)) = decide(incoming).map(Incoming::accept) else { continue };
            let inside = inside.clone();
            tokio::task::spawn_local(async move {
                if connection.connected().await.is_ok() {
                    inside.send(connection).unwrap();
                }
            });
        }
    });
    (endpoint, come)
}

fn client_config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PinnedVerifier::new(None, Arc::clone(&provider));
    connection::client_config(&verifier, provider, (false, ALPN)).unwrap()
}

async fn connect(server: &Endpoint) -> (Endpoint, Connection) {
    let socket = quic::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (endpoint, driver) = Endpoint::new(EndpointConfig::default(), None, socket).unwrap();
    tokio::task::spawn_local(driver.run());
    let connection = endpoint.connect(client_config(), server.local_addr(), SERVER_NAME).unwrap();
    connection.connected().await.unwrap();
    (endpoint, connection)
}

fn quinn_client() -> quinn::Endpoint {
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(client_config());
    endpoint
}

/// Waits for what another task brings.
async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        match look() {
            Some(found) => return found,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Runs a test on one thread, as the server does.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { tokio::time::timeout(PATIENCE, test).await.expect("in time") };
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

async fn read_to_end(stream: &mut RecvStream) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    while let Some(part) = stream.read_chunk(usize::MAX).await? {
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

#[test]
fn streams_carry_more_than_a_window_both_ways_at_once() {
    run(async {
        let (endpoint, come) = server(Some);
        let (_own, connection) = connect(&endpoint).await;
        let theirs = until(|| come.try_recv().ok()).await;
        assert_eq!(theirs.protocol().as_deref(), Some(ALPN));
        let (mut send, mut receive) = theirs.open_bi().await.unwrap();
        let echo = tokio::task::spawn_local(async move {
            let (mut back, mut there) = connection.accept_bi().await.unwrap();
            while let Some(part) = there.read_chunk(10_000).await.unwrap() {
                back.write_chunk(part).await.unwrap();
            }
            back.finish().unwrap();
            back.stopped().await;
        });
        let say = async {
            send.write_all(&much()).await.unwrap();
            send.finish().unwrap();
            assert!(send.finish().is_err(), "ended already");
        };
        let ((), heard) = tokio::join!(say, read_to_end(&mut receive));
        assert!(heard.unwrap() == much());
        echo.await.unwrap();
    });
}

#[test]
fn quinn_notices_no_difference() {
    run(async {
        let (endpoint, come) = server(Some);
        let client = quinn_client();
        let connection = client.connect(endpoint.local_addr(), SERVER_NAME).unwrap().await.unwrap();
        let theirs = until(|| come.try_recv().ok()).await;
        let mut uni = connection.open_uni().await.unwrap();
        uni.write_all(&much()[..1_000]).await.unwrap();
        uni.finish().unwrap();
        let mut received = theirs.accept_uni().await.unwrap();
        let mut first = [0; 100];
        received.read_exact(&mut first).await.unwrap();
        assert_eq!(read_to_end(&mut received).await.unwrap(), much()[100..1_000]);
        assert!(received.read_exact(&mut first).await.is_err(), "nothing is left");

        let mut sent = theirs.open_uni().await.unwrap();
        sent.write_all(b"chunk").await.unwrap();
        // Dropped, it ends where it is.
        drop(sent);
        let mut stream = connection.accept_uni().await.unwrap();
        assert_eq!(stream.read_to_end(100).await.unwrap(), b"chunk");
    });
}

#[test]
fn datagrams_reach_the_sink_in_order_those_before_it_too() {
    run(async {
        let (endpoint, come) = server(Some);
        let (_own, connection) = connect(&endpoint).await;
        let theirs = until(|| come.try_recv().ok()).await;
        for number in 0..5_u8 {
            assert!(connection.send_datagram(Bytes::copy_from_slice(&[number])));
        }
        let have_come = |stats: ConnectionStats| (stats.frame_rx.datagram == 5).then_some(());
        until(|| theirs.stats().and_then(have_come)).await;
        let (put, got) = channel();
        theirs.deliver_datagrams(Box::new(move |datagram| put.send(datagram[0]).unwrap()));
        for number in 5..9_u8 {
            assert!(connection.send_datagram(Bytes::copy_from_slice(&[number])));
        }
        let mut all = Vec::new();
        until(|| {
            all.extend(got.try_iter());
            (all.len() == 9).then_some(())
        })
        .await;
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(!theirs.send_datagram(vec![0; 5_000].into()), "larger than a packet");
    });
}

#[test]
fn datagrams_that_nobody_takes_up_wait_in_bounded_room_the_newest_first() {
    run(async {
        let (endpoint, come) = server(Some);
        let (own, connection) = connect(&endpoint).await;
        let theirs = until(|| come.try_recv().ok()).await;
        let (put, got) = channel();
        theirs.deliver_datagrams(Box::new(move |datagram| put.send(datagram).unwrap()));
        // No other task has its turn meanwhile.
        let all = u32::try_from(2 * OUTBOX_MAX).unwrap();
        for number in 0..all {
            assert!(connection.send_datagram(number.to_le_bytes().to_vec().into()));
        }
        assert_eq!(own.0.lock().outbox.len(), OUTBOX_MAX);
        let newest = (all - 1).to_le_bytes();
        until(|| got.try_iter().any(|datagram| *datagram == newest).then_some(())).await;
    });
}

#[test]
fn whoever_waits_hears_of_a_stop_a_reset_and_an_end() {
    run(async {
        let (endpoint, come) = server(Some);
        let (_own, connection) = connect(&endpoint).await;
        let theirs = until(|| come.try_recv().ok()).await;
        let (mut send, _receive) = theirs.open_bi().await.unwrap();
        send.write_all(b"first").await.unwrap();
        let (mut back, mut there) = connection.accept_bi().await.unwrap();
        there.stop(VarInt::from_u32(7)).unwrap();
        let stopped = loop {
            if let Err(error) = send.write_all(&much()).await {
                break error;
            }
        };
        assert_eq!(stopped, WriteError::Stopped(VarInt::from_u32(7)));

        let (_send, mut receive) = {
            back.write_all(b"half").await.unwrap();
            (send, _receive)
        };
        back.reset(VarInt::from_u32(8)).unwrap();
        let broken = read_to_end(&mut receive).await.unwrap_err();
        assert_eq!(broken, ReadError::Reset(VarInt::from_u32(8)));

        let waits = theirs.clone();
        let waits = tokio::task::spawn_local(async move { waits.accept_uni().await.err() });
        tokio::task::yield_now().await;
        connection.close(VarInt::from_u32(9), b"enough");
        let end = waits.await.unwrap().expect("an end");
        let ConnectionError::ApplicationClosed(close) = &end else { panic!("{end}") };
        assert_eq!((close.error_code, &*close.reason), (VarInt::from_u32(9), &b"enough"[..]));
        assert_eq!(theirs.closed().await, end);
        assert_eq!(connection.end(), Some(ConnectionError::LocallyClosed));
        assert!(!theirs.send_datagram(Bytes::from_static(b"late")));
    });
}

#[test]
fn a_stream_that_was_stopped_makes_room_for_another() {
    run(async {
        let (endpoint, come) = server(Some);
        let (_own, connection) = connect(&endpoint).await;
        let theirs = until(|| come.try_recv().ok()).await;
        // More than may be open at once: each is stopped before all of it has come.
        for _ in 0..40 {
            let mut stream = theirs.open_uni().await.unwrap();
            stream.write_all(&[7; 100]).await.unwrap();
            let mut half = connection.accept_uni().await.unwrap();
            assert!(half.read_chunk(1).await.unwrap().is_some());
            half.stop(VarInt::from_u32(1)).unwrap();
            while stream.write_all(&[7; 100]).await.is_ok() {}
        }
        let left = theirs.with(|slot| {
            let Waiting { reading, writing, finishing, .. } = &slot.waiting;
            reading.len() + writing.len() + finishing.len()
        });
        assert_eq!(left, Some(0), "nobody waits for streams that are no more");
    });
}

#[test]
fn a_connection_ends_with_its_last_handle_and_an_endpoint_with_all_of_them() {
    run(async {
        let (endpoint, come) = server(Some);
        let (own, connection) = connect(&endpoint).await;
        let theirs = until(|| come.try_recv().ok()).await;
        let clone = connection.clone();
        drop(connection);
        assert_eq!(theirs.end(), None);
        drop(clone);
        assert!(matches!(theirs.closed().await, ConnectionError::ApplicationClosed(_)));
        let (_other, again) = connect(&endpoint).await;
        until(|| come.try_recv().ok()).await;
        endpoint.close(VarInt::from_u32(3), b"stopped");
        assert!(matches!(again.closed().await, ConnectionError::ApplicationClosed(_)));
        assert!(endpoint.accept().await.is_none());
        // What has gone for good is forgotten.
        until(|| own.0.lock().slots.iter().all(Option::is_none).then_some(())).await;
    });
}

#[test]
fn a_driver_ends_with_its_endpoint_and_whoever_waits_hears_when_it_is_gone() {
    run(async {
        let socket = || quic::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (idle, driver) = Endpoint::new(EndpointConfig::default(), None, socket()).unwrap();
        let driving = tokio::task::spawn_local(driver.run());
        tokio::task::yield_now().await;
        idle.close(VarInt::from_u32(0), b"nobody came");
        driving.await.unwrap();

        let (server, _come) = server(Some);
        let (own, driver) = Endpoint::new(EndpointConfig::default(), None, socket()).unwrap();
        let driving = tokio::task::spawn_local(driver.run());
        let connection = own.connect(client_config(), server.local_addr(), SERVER_NAME).unwrap();
        connection.connected().await.unwrap();
        driving.abort();
        assert_eq!(connection.closed().await, ConnectionError::LocallyClosed);
        assert!(own.accept().await.is_none());
    });
}

#[test]
fn one_who_only_listens_acknowledges_all_the_same() {
    run(async {
        let (endpoint, come) = server(Some);
        let (_own, connection) = connect(&endpoint).await;
        let theirs = until(|| come.try_recv().ok()).await;
        let (hears, heard) = channel();
        theirs.deliver_datagrams(Box::new(move |datagram| hears.send(datagram).unwrap()));
        let acknowledged = || connection.stats().unwrap().frame_rx.acks;
        // As long as both speak, nothing has to be said to a packet by itself.
        let is_left_alone = |slot: &mut Slot| driver::SILENCES <= slot.silences;
        while theirs.with(is_left_alone) == Some(false) {
            assert!(connection.send_datagram(Bytes::from_static(b"here")));
            until(|| heard.try_recv().ok()).await;
            assert!(theirs.send_datagram(Bytes::from_static(b"and here")));
            until(|| endpoint.0.lock().outbox.is_empty().then_some(())).await;
        }
        // Among so many is one of which QUIC left out a number: that asks for an answer at once.
        for _ in 0..80 {
            let before = acknowledged();
            assert!(connection.send_datagram(Bytes::from_static(b"still here")));
            until(|| heard.try_recv().ok()).await;
            until(|| (before < acknowledged()).then_some(())).await;
        }
        // What is said on a stream is heard and answered, however silent it was before.
        let (mut ask, mut answer) = connection.open_bi().await.unwrap();
        ask.write_all(b"who?").await.unwrap();
        let (mut back, mut asked) = theirs.accept_bi().await.unwrap();
        assert_eq!(asked.read_chunk(10).await.unwrap().unwrap(), "who?");
        back.write_all(b"me").await.unwrap();
        assert_eq!(answer.read_chunk(10).await.unwrap().unwrap(), "me");
    });
}

#[test]
fn a_long_transfer_goes_on_with_every_answer_whatever_was_left_unsaid_before() {
    run(async {
        let (endpoint, come) = server(Some);
        let (_own, connection) = connect(&endpoint).await;
        let theirs = until(|| come.try_recv().ok()).await;
        let mut send = theirs.open_uni().await.unwrap();
        let silenced = theirs.clone();
        tokio::task::spawn_local(async move {
            // As after many answers that came while nothing could be sent.
            while silenced.with(|slot| slot.silences = u8::MAX).is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        tokio::task::spawn_local(async move {
            for _ in 0..LONG / MUCH {
                send.write_all(&much()).await.unwrap();
            }
            send.finish().unwrap();
        });
        let mut receive = connection.accept_uni().await.unwrap();
        let mut come = 0;
        while let Some(part) = receive.read_chunk(usize::MAX).await.unwrap() {
            come += part.len();
        }
        assert_eq!(come, LONG / MUCH * MUCH);
    });
}

#[test]
fn newcomers_are_refused_asked_for_proof_or_ignored_as_is_decided() {
    run(async {
        let (endpoint, _come) = server(|incoming| {
            incoming.refuse();
            None
        });
        let client = quinn_client();
        let refused = client.connect(endpoint.local_addr(), SERVER_NAME).unwrap().await;
        assert!(matches!(refused, Err(ConnectionError::ConnectionClosed(_))), "{refused:?}");

        let (endpoint, come) = server(|incoming| {
            if incoming.is_address_validated() {
                return Some(incoming);
            }
            incoming.retry();
            None
        });
        client.connect(endpoint.local_addr(), SERVER_NAME).unwrap().await.unwrap();
        until(|| come.try_recv().ok()).await;

        let (dropped, drops) = channel();
        let (endpoint, _come) = server(move |incoming| {
            drop(incoming);
            dropped.send(()).unwrap();
            None
        });
        let mut ignored = client.connect(endpoint.local_addr(), SERVER_NAME).unwrap();
        let answered = tokio::select! {
            answered = &mut ignored => Some(answered),
            () = until(|| drops.try_recv().ok()) => None,
        };
        assert!(answered.is_none(), "{answered:?}");

        // One who was let to the door before it was closed stands outside.
        let (late, lates) = channel();
        let (other, _come) = server(move |incoming| {
            late.send(incoming).unwrap();
            None
        });
        let _waits = client.connect(other.local_addr(), SERVER_NAME).unwrap();
        let incoming = until(|| lates.try_recv().ok()).await;
        other.close(VarInt::from_u32(0), b"");
        assert_eq!(incoming.accept().err(), Some(ConnectionError::LocallyClosed));
    });
}

#[test]
fn noise_makes_no_connection_and_no_panic() {
    run(async {
        let (endpoint, come) = server(Some);
        // A true first packet, of which something is changed or cut off.
        let catcher = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        catcher.set_nonblocking(true).unwrap();
        let client = quinn_client();
        let _waits = client.connect(catcher.local_addr().unwrap(), SERVER_NAME).unwrap();
        let mut bytes = [0; 2_000];
        let length = until(|| catcher.recv(&mut bytes).ok()).await;
        let first = &bytes[..length];
        assert_eq!((first[0] & 0xF0, 1_200 <= length), (0xC0, true), "a first packet");

        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |bytes: &[u8]| socket.send_to(bytes, endpoint.local_addr()).unwrap();
        for at in 0..length {
            let mut changed = first.to_vec();
            changed[at] ^= 1 << (at % 8);
            send(&changed);
            send(&first[..at]);
            let mut noise: Vec<u8> = (0..at).map(|it| (it * 167 + at * 59) as u8).collect();
            if let Some(head) = noise.first_mut() {
                *head = (at % 256) as u8;
            }
            send(&noise);
            if at % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(endpoint.0.lock().replies.len() <= REPLIES_MAX);
        // Those who mean it come in all the same.
        let (_own, connection) = connect(&endpoint).await;
        until(|| come.try_recv().ok()).await;
        assert_eq!(connection.end(), None);
        assert!(come.try_recv().is_err());
    });
}
