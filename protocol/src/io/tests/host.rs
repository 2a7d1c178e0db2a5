//! A server for tests: one room without anybody else, real QUIC, real frames.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig, VarInt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::identity::Identity;
use super::super::trust::{SERVER_NAME, ServerKey};
use crate::close::CloseCode;
use crate::delta::{FRAME_BYTES_MAX, FrameEncoder, FrameHead, FrameScratch, OwnBody};
use crate::frame::Assembler;
use crate::ground::Plain;
use crate::ids::{ChunkId, ContentHash, EntityId, PersonId, SessionId, WorldId};
use crate::input::{Input, InputDatagram};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::client::{Hello, IdentityProof};
use crate::message::common::{ALPN, Appearance, features};
use crate::message::server::{
    Chunk, Done, Farewell, Greeting, Refused, Stopping, Welcome, WorldName,
};
use crate::message::{ClientMessage, ServerMessage};
use crate::motion::{Body, MotionRules, step};
use crate::rules::Why;
use crate::units::{Position, Tick, Yaw, expand};

const TICK: Duration = Duration::from_millis(50);
const NONCE: [u8; 32] = [8; 32];
const TICKET: &[u8] = b"come back";

/// How a host treats its guests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// The leaf is signed by another key than the one shown.
    pub forged: bool,
    /// Nobody is let in.
    pub full: bool,
    /// The first guest is put out after a moment.
    pub stops_once: bool,
}

/// A running host; it stops with the test's runtime.
pub struct Host {
    pub address: String,
    pub key: ServerKey,
}

/// The server key made of one byte.
pub fn key(seed: u8) -> ServerKey {
    ServerKey(Identity::from_private([seed; 32]).public_key())
}

impl Host {
    pub fn start(seed: u8, manners: Manners) -> Self {
        let config = server_config(seed, manners.forged);
        let local = "127.0.0.1:0".parse().expect("an address");
        let endpoint = Endpoint::server(config, local).expect("a socket");
        let address = endpoint.local_addr().expect("bound").to_string();
        let has_stopped = Arc::new(AtomicBool::new(!manners.stops_once));
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let has_stopped = has_stopped.clone();
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        Guest::receive(connection, key(seed), manners, &has_stopped).await;
                    }
                });
            }
        });
        Self { address, key: key(seed) }
    }
}

fn server_config(seed: u8, forged: bool) -> ServerConfig {
    let pair = |seed| {
        let pem = Identity::from_private([seed; 32]).to_pem();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).expect("a key")
    };
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let shown = authority.self_signed(&pair(seed)).expect("signed");
    let signer = pair(if forged { seed + 100 } else { seed });
    let issuer = Issuer::from_params(&authority, signer);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let leaf = CertificateParams::new(vec![SERVER_NAME.to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &issuer).expect("signed");
    let chain = vec![leaf.der().clone(), shown.der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("for QUIC")))
}

/// One client and its body.
struct Guest {
    connection: Connection,
    send: SendStream,
    body: Body,
    tick: Tick,
    applied: u64,
    waiting: BTreeMap<u64, Input>,
    current: Input,
    encoder: FrameEncoder,
    scratch: FrameScratch,
}

impl Guest {
    async fn receive(
        connection: Connection,
        key: ServerKey,
        manners: Manners,
        has_stopped: &AtomicBool,
    ) {
        let (send, mut receive) = connection.open_bi().await.expect("a stream");
        let mut guest = Self {
            connection,
            send,
            body: Body::standing(Position::default(), Yaw::NORTH),
            tick: Tick(500),
            applied: 0,
            waiting: BTreeMap::new(),
            current: Input::default(),
            encoder: FrameEncoder::new(20),
            scratch: FrameScratch::default(),
        };
        guest.say(greeting()).await;
        let mut assembler = Assembler::default();
        let Some(ClientMessage::Hello(hello)) = read(&mut receive, &mut assembler).await else {
            return;
        };
        assert!(is_proven(&hello, key), "the proof is for this server and greeting");
        if manners.full {
            return guest.bid_farewell(CloseCode::Full, Some(7)).await;
        }
        guest.say(welcome(hello.resume.as_deref() == Some(TICKET))).await;
        let stops = !has_stopped.swap(true, Ordering::Relaxed);
        guest.serve(receive, assembler, stops).await;
    }

    async fn serve(&mut self, mut receive: RecvStream, mut assembler: Assembler, stops: bool) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.frame();
                    if stops && self.tick == Tick(510) {
                        self.say(Stopping { in_ms: 0, why: "test".into() }).await;
                        return self.bid_farewell(CloseCode::Stopping, None).await;
                    }
                }
                datagram = self.connection.read_datagram() => match datagram {
                    Ok(bytes) => self.input(&bytes),
                    Err(_) => return,
                },
                message = read(&mut receive, &mut assembler) => match message {
                    Some(ClientMessage::Leave(_)) => {
                        return self.bid_farewell(CloseCode::Goodbye, None).await;
                    }
                    Some(message) => self.answer(message).await,
                    None => return,
                },
            }
        }
    }

    async fn answer(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::Do(asked) => {
                self.say(Refused { request: asked.request, why: Why::Idle }).await;
            }
            ClientMessage::Say(said) => {
                self.say(Done { request: said.request, tick: self.tick, text: None }).await;
            }
            ClientMessage::Want(want) => {
                for id in want.chunks {
                    self.send_ground(id).await;
                }
            }
            other @ (ClientMessage::Hello(_)
            | ClientMessage::Cancel(_)
            | ClientMessage::Tune(_)
            | ClientMessage::Wear(_)
            | ClientMessage::Ignore(_)
            | ClientMessage::Lend(_)
            | ClientMessage::Recall(_)
            | ClientMessage::Leave(_)) => {
                panic!("not expected here: {other:?}")
            }
        }
    }

    async fn send_ground(&self, id: ChunkId) {
        let bytes = [42];
        let mut stream = self.connection.open_uni().await.expect("a stream");
        let header = Chunk { id, hash: ContentHash::of(&bytes), length: 1 };
        let mut out = Vec::new();
        ServerMessage::from(header).write(&mut out);
        out.extend_from_slice(&bytes);
        stream.write_all(&out).await.expect("written");
        stream.finish().expect("open");
    }

    fn input(&mut self, bytes: &[u8]) {
        let datagram = InputDatagram::decode(bytes).expect("an input datagram");
        if let Some(acks) = datagram.head.acks {
            self.encoder.acknowledge(acks);
        }
        for (low, input) in datagram.numbered() {
            let number = expand(low, self.applied);
            if self.applied < number {
                self.waiting.insert(number, input);
            }
        }
    }

    fn frame(&mut self) {
        self.tick = self.tick.next();
        if let Some((number, input)) = self.waiting.pop_first() {
            (self.applied, self.current) = (number, input);
        }
        self.body = step(&self.body, self.current, &Plain::default(), &rules());
        let Body { at, velocity, mode, .. } = self.body;
        let head = FrameHead {
            tick: self.tick,
            acked_input: Tick(self.applied).low(),
            own: OwnBody { at, velocity, mode: mode as u8, cooldown: 0 },
            is_dilated: false,
            budget_bytes: FRAME_BYTES_MAX,
        };
        let mut bytes = Vec::new();
        self.encoder.begin(&head, &mut self.scratch).finish(&mut bytes);
        // A guest who has just left misses nothing.
        drop(self.connection.send_datagram(bytes.into()));
    }

    async fn say(&mut self, message: impl Into<ServerMessage>) {
        let mut out = Vec::new();
        message.into().write(&mut out);
        // As above.
        drop(self.send.write_all(&out).await);
    }

    async fn bid_farewell(&mut self, code: CloseCode, retry_after_s: Option<u32>) {
        self.say(Farewell { code: code.number(), why: String::new(), retry_after_s }).await;
        // The words are to arrive before the close does.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.connection.close(VarInt::from_u32(code.number()), b"");
    }
}

async fn read(receive: &mut RecvStream, assembler: &mut Assembler) -> Option<ClientMessage> {
    loop {
        if let Some(frame) = assembler.next(MESSAGE_BYTES_MAX).expect("frames") {
            return ClientMessage::read(frame).expect("a message");
        }
        let chunk = receive.read_chunk(4_096, true).await.ok()??;
        assembler.extend(&chunk.bytes);
    }
}

fn is_proven(hello: &Hello, key: ServerKey) -> bool {
    let proof = hello.identity.as_ref().expect("clients of these tests have an identity");
    let signer = UnparsedPublicKey::new(&ED25519, proof.key);
    signer.verify(&IdentityProof::covered(&key.0, &NONCE), &proof.signature).is_ok()
}

fn rules() -> MotionRules {
    MotionRules { sea_level_cm: -100_000, ..MotionRules::default() }
}

fn world() -> WorldName {
    WorldName { id: WorldId(1), name: "test".into(), rating: "everyone".into() }
}

fn greeting() -> Greeting {
    Greeting {
        minor: 0,
        features: features::CHUNKS,
        nonce: NONCE,
        worlds: vec![world()],
        software: "test".into(),
    }
}

fn welcome(resumed: bool) -> Welcome {
    Welcome {
        session: SessionId(1),
        resumed,
        person: PersonId(2),
        avatar: EntityId(3),
        role: "visitor".into(),
        world: world(),
        rules: crate::rules::RuleBook::starter().hash(),
        features: features::CHUNKS,
        tick: Tick(500),
        hz: 20,
        pace_permille: 1_000,
        motion: rules(),
        position: Position::default(),
        yaw: Yaw::NORTH,
        appearance: Appearance::default(),
        ticket: TICKET.to_vec(),
        capabilities: Vec::new(),
    }
}
