//! Over the loopback: this endpoint at both ends, and quinn's at the client's, which knows nothing
//! of it.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use protocol::io::connection::transport;
use protocol::io::trust::{PinnedVerifier, SERVER_NAME};
use protocol::message::common::ALPN;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ReadError, WriteError};

use super::*;
use crate::config::Settings;
use crate::identity::Identity;
use crate::io::{quic, tls};

/// More than any window lets through at once.
const MUCH: usize = 300_000;

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
            let Some(incoming) = decide(incoming) else { continue };
            let connection = incoming.accept().unwrap();
            connection.connected().await.unwrap();
            inside.send(connection).unwrap();
        }
    });
    (endpoint, come)
}

fn client_config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PinnedVerifier::new(None, Arc::clone(&provider));
    let tls = rustls::ClientConfig::builder_with_provider(provider);
    let tls = tls.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().dangerous();
    let mut tls = tls.with_custom_certificate_verifier(verifier).with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport()));
    config
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
        tokio::time::sleep(Duration::from_millis(50)).await;
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

        let (endpoint, _come) = server(|incoming| {
            drop(incoming);
            None
        });
        let ignored = client.connect(endpoint.local_addr(), SERVER_NAME).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(300), ignored).await.is_err());
    });
}

#[test]
fn noise_makes_no_connection_and_no_panic() {
    run(async {
        let (endpoint, come) = server(Some);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in 0..1_400_usize {
            let noise: Vec<u8> = (0..length).map(|at| (at * length % 255) as u8).collect();
            socket.send_to(&noise, endpoint.local_addr()).unwrap();
        }
        // Those who mean it come in all the same.
        let (_own, connection) = connect(&endpoint).await;
        until(|| come.try_recv().ok()).await;
        assert_eq!(connection.end(), None);
        assert!(come.try_recv().is_err());
    });
}
