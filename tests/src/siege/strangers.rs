//! Packets of nobody's: random and changed ones from many addresses, and handshakes that are begun
//! and never carried on.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use protocol::io::trust::SERVER_NAME;
use protocol::message::common::ALPN;
use quinn::{ClientConfig, Endpoint};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::attack::Siege;
use super::mutate::flip;
use super::raw::config;
use super::tally::Pace;
use crate::dice::Dice;

/// Sockets that packets come from.
const SOCKETS: usize = 32;

/// How long the first packet of a handshake may take to be made.
const MADE: Duration = Duration::from_secs(5);

/// How long an answer that asks for a proof of the address is waited for.
const ASKED: Duration = Duration::from_millis(20);

/// Bytes of a first packet: 1,200, with room.
const PACKET_BYTES_MAX: usize = 2_048;

/// Makes true first packets of handshakes: a client connects to nowhere, and they are caught.
struct Mint {
    endpoint: Endpoint,
    catcher: UdpSocket,
    config: ClientConfig,
}

impl Mint {
    async fn open(siege: &Siege) -> Result<Self> {
        let catcher = UdpSocket::bind("127.0.0.1:0").await.context("open a socket")?;
        let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
        Ok(Self { endpoint, catcher, config: config(siege.target.key, ALPN, 1 << 16)? })
    }

    /// Returns the first packet of a new handshake, and, when the server's first answer asks for a
    /// proof of the address, sends that, too.
    async fn begin(&self, from: &UdpSocket, to: SocketAddr, proves: bool) -> Result<Vec<u8>> {
        let catcher = self.catcher.local_addr()?;
        let handshake = self.endpoint.connect_with(self.config.clone(), catcher, SERVER_NAME)?;
        let mut bytes = [0; PACKET_BYTES_MAX];
        let (first, client) = timeout(MADE, self.catcher.recv_from(&mut bytes)).await??;
        let packet = bytes[..first].to_vec();
        from.send_to(&packet, to).await?;
        if proves
            && let Ok(Ok(length)) = timeout(ASKED, from.recv(&mut bytes)).await
            && is_retry(&bytes[..length])
        {
            self.catcher.send_to(&bytes[..length], client).await?;
            let again = timeout(MADE, self.catcher.recv_from(&mut bytes)).await;
            if let Ok(Ok((length, _))) = again {
                from.send_to(&bytes[..length], to).await?;
            }
        }
        drop(handshake);
        // What the client still says, such as that it gives up, goes nowhere.
        while self.catcher.try_recv_from(&mut bytes).is_ok() {}
        Ok(packet)
    }
}

/// Whether a packet asks for a proof of the address: a long header of type 3.
fn is_retry(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0xF0 == 0xF0)
}

async fn sockets(host: &str) -> Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        sockets.push(UdpSocket::bind((host, 0)).await.context("open a socket")?);
    }
    Ok(sockets)
}

/// Begins `count` handshakes from addresses at `host` and carries none of them on.
///
/// With `proves`, the server's question whether the address is real is answered.
///
/// # Errors
/// The system's.
pub async fn half_open(
    siege: Rc<Siege>,
    (count, per_s): (u64, f64),
    host: &str,
    proves: bool,
) -> Result<()> {
    let (mint, sockets, mut pace) =
        (Mint::open(&siege).await?, sockets(host).await?, Pace::new(per_s));
    for from in sockets.iter().cycle().take(count as usize) {
        if siege.is_over.get() {
            break;
        }
        pace.take(1).await;
        mint.begin(from, siege.target.address, proves).await?;
        siege.tally.sent("half-open handshakes", 1);
    }
    Ok(())
}

/// Sends packets that belong to no connection: rubbish, and first packets with changed bytes.
///
/// # Errors
/// The system's.
pub async fn strew(siege: Rc<Siege>, seed: u64, per_s: f64) -> Result<()> {
    let (mint, sockets, mut pace) =
        (Mint::open(&siege).await?, sockets("127.0.0.1").await?, Pace::new(per_s));
    let nowhere = mint.catcher.local_addr()?;
    let sound = mint.begin(&sockets[0], nowhere, false).await?;
    let mut dice = Dice(seed);
    while !siege.is_over.get() {
        pace.take(1).await;
        let mut packet = match dice.below(4) {
            0 => {
                let length = 1 + dice.below(1_400) as usize;
                dice.bytes(length)
            }
            // A short header: something of a connection that stands, says the first byte.
            1 => {
                let mut packet = dice.bytes(60);
                packet[0] = 0x40 | packet[0] & 0x3F;
                packet
            }
            _ => sound.clone(),
        };
        if packet.len() == sound.len() {
            flip(&mut dice, &mut packet[..64]);
        }
        let from = &sockets[dice.index(sockets.len())];
        // The system's buffer may be full: that is the server's gain.
        if from.send_to(&packet, siege.target.address).await.is_ok() {
            siege.tally.sent("stray packets", 1);
        }
    }
    Ok(())
}
