//! The client against a small server on loopback: trust, admission, requests, ground, resuming.

mod host;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connection::OpenError;
use super::trust::TrustError;
use super::{Client, ClientEvent, ConnectError, ConnectOptions, Identity};
use crate::close::CloseCode;
use crate::ground::{CHUNK_SAMPLES, HeightGrid};
use crate::ids::ChunkId;
use crate::input::Input;
use crate::message::common::Audience;
use crate::rules::{Act, Verb, Why};
use crate::session::{Answer, Outcome};
use crate::units::Yaw;
use crate::utterance::Utterance;
use host::{Host, Manners};

/// Longer than anything here takes, shorter than a test run's patience.
const PATIENCE: Duration = Duration::from_secs(20);

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") })
}

fn options(host: &Host) -> ConnectOptions {
    ConnectOptions {
        server_key: Some(host.key),
        identity: Some(Arc::new(Identity::from_private([3; 32]))),
        ..ConnectOptions::new(host.address.clone(), "Ada")
    }
}

async fn connect(options: ConnectOptions) -> Client {
    Box::pin(Client::connect(options)).await.expect("comes in")
}

async fn refused(options: ConnectOptions) -> ConnectError {
    Box::pin(Client::connect(options)).await.err().expect("is not let in")
}

fn known_servers(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ecumene-{name}-{}", std::process::id()))
}

#[test]
fn a_client_comes_in_and_moves() {
    block_on(async {
        let host = Host::start(1, Manners::default());
        let client = connect(options(&host)).await;
        assert_eq!(client.server_key(), host.key);
        client.set_input(Input { forward: 127, yaw: Yaw::EAST, ..Input::default() });
        while client.look(|view| view.replica.body().position().x) < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (counts, corrections) =
            client.look(|view| (view.replica.counts(), view.corrections_cm.clone()));
        assert!(5 < counts.inputs && 5 < counts.frames, "{counts:?}");
        let far = corrections.iter().filter(|&&cm| 10.0 < cm).count();
        assert!(far <= 2, "prediction and server agree: {corrections:?}");
        assert_eq!(client.leave().await, Outcome::Left);
    });
}

#[test]
fn another_key_than_the_pinned_one_is_refused() {
    block_on(async {
        let (host, other) =
            (Host::start(1, Manners::default()), Host::start(2, Manners::default()));
        let error = refused(ConnectOptions { server_key: Some(other.key), ..options(&host) }).await;
        let ConnectError::Open(OpenError::Trust(TrustError::Mismatch { pinned, shown })) = error
        else {
            panic!("{error}");
        };
        assert_eq!((pinned, shown), (other.key, host.key));
    });
}

#[test]
fn the_first_visit_is_trusted_and_remembered() {
    block_on(async {
        let host = Host::start(1, Manners::default());
        let known = known_servers("first");
        let first = ConnectOptions {
            server_key: None,
            known_servers: Some(known.clone()),
            ..options(&host)
        };
        connect(first.clone()).await.leave().await;
        connect(first.clone()).await.leave().await;
        let text = std::fs::read_to_string(&known).expect("written");
        assert_eq!(text, format!("{} {}\n", host.address, host.key));
        let changed = text.replace(&host.key.to_string(), &host::key(9).to_string());
        std::fs::write(&known, changed).expect("changed");
        let error = refused(first).await.to_string();
        assert!(error.contains("somebody is between you and it"), "{error}");
        let remedy = format!("remove line 1 (`{} ..`) of {}", host.address, known.display());
        assert!(error.contains(&remedy), "{error}");
        std::fs::remove_file(known).expect("removed");
    });
}

#[test]
fn a_leaf_of_somebody_else_is_refused() {
    block_on(async {
        let host = Host::start(1, Manners { forged: true, ..Manners::default() });
        let error = refused(options(&host)).await;
        let is_chain =
            matches!(error, ConnectError::Open(OpenError::Trust(TrustError::Chain { .. })));
        assert!(is_chain, "{error}");
    });
}

#[test]
fn a_refusal_says_why_and_when_to_try_again() {
    block_on(async {
        let host = Host::start(1, Manners { full: true, ..Manners::default() });
        let error = refused(options(&host)).await;
        let ConnectError::Refused { code, .. } = error else { panic!("{error}") };
        assert_eq!(code, CloseCode::Full);
        assert_eq!(error.to_string(), "refused: the world is full (try again in 7 s)");
    });
}

#[test]
fn nobody_there_is_said_plainly() {
    block_on(async {
        let error = refused(ConnectOptions::new("nowhere.invalid:1", "Ada")).await.to_string();
        assert!(error.starts_with("cannot find nowhere.invalid:1"), "{error}");
        let error = refused(ConnectOptions::new("127.0.0.1", "Ada")).await.to_string();
        assert!(error.ends_with("give HOST:PORT"), "{error}");
    });
}

#[test]
fn requests_are_answered() {
    block_on(async {
        let host = Host::start(1, Manners::default());
        let client = connect(options(&host)).await;
        let answer = client.act(Act::new(Verb::Stop)).await.expect("sent");
        assert_eq!(answer, Answer::Refused(Why::Idle));
        let answer = client.say(Audience::Nearby, Utterance::plain("hello")).await.expect("sent");
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
        client.leave().await;
    });
}

#[test]
fn ground_is_asked_for_and_walked_on() {
    block_on(async {
        let host = Host::start(1, Manners::default());
        let decoder = |_: ChunkId, bytes: &[u8]| {
            let height_cm = bytes.first().copied().ok_or("empty")?;
            let heights = vec![i32::from(height_cm); CHUNK_SAMPLES * CHUNK_SAMPLES];
            HeightGrid::new(heights.into_boxed_slice()).ok_or_else(|| "size".to_owned())
        };
        let options = ConnectOptions { ground: Some(Arc::new(decoder)), ..options(&host) };
        let mut client = connect(options).await;
        let mut arrived = 0;
        while arrived < 25 {
            let event = client.event().await.expect("goes on");
            arrived += usize::from(matches!(event, ClientEvent::Ground { .. }));
        }
        assert_eq!(client.look(|view| view.terrain.len()), 25);
        assert_eq!(client.look(|view| view.terrain.height_cm(10, 10)), Some(42));
        client.leave().await;
    });
}

#[test]
fn a_stopped_server_is_come_back_to() {
    block_on(async {
        let host = Host::start(1, Manners { stops_once: true, ..Manners::default() });
        let mut client = connect(options(&host)).await;
        let mut seen = Vec::new();
        loop {
            match client.event().await.expect("goes on") {
                ClientEvent::Interrupted { why, .. } => seen.push(why),
                ClientEvent::Resumed(welcome) => {
                    assert!(welcome.resumed, "with the ticket");
                    break;
                }
                ClientEvent::Said(_)
                | ClientEvent::Begun { .. }
                | ClientEvent::Ground { .. }
                | ClientEvent::Ended(_) => {}
            }
        }
        assert!(!seen.is_empty());
        assert!(matches!(client.act(Act::new(Verb::Stop)).await, Ok(Answer::Refused(Why::Idle))));
        client.leave().await;
    });
}

#[test]
fn without_reconnecting_the_end_is_told() {
    block_on(async {
        let host = Host::start(1, Manners { stops_once: true, ..Manners::default() });
        let mut client = connect(ConnectOptions { reconnects: false, ..options(&host) }).await;
        while client.event().await.is_some() {}
        let outcome = client.outcome().cloned();
        let is_lost = matches!(outcome, Some(Outcome::Lost { code: CloseCode::Stopping, .. }));
        assert!(is_lost, "{outcome:?}");
    });
}
