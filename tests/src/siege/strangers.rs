//! Packets of nobody's: random and changed ones from many addresses, and handshakes that are begun
//! and never carried on.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::io::ServerKey;
use protocol::io::trust::SERVER_NAME;
use protocol::message::common::ALPN;
use quinn::{ClientConfig, Connecting, Endpoint};
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

/// Bytes of a first packet at least, by the standard (RFC 9000, 14.1).
const FIRST_BYTES_MIN: usize = 1_200;

/// Bytes of a first packet: 1,200, with room.
const PACKET_BYTES_MAX: usize = 2_048;

/// Makes true first packets of handshakes: a client connects to nowhere, and they are caught.
struct Mint {
    endpoint: Endpoint,
    config: ClientConfig,
}

/// A handshake that has just begun. Dropped, its client gives up, which nobody hears any more.
struct Begun {
    /// Its first packet.
    packet: Vec<u8>,
    /// Where the client takes its server to be. Each has one of its own: what the client of another
    /// says in the end never comes here.
    catcher: UdpSocket,
    client: SocketAddr,
    _handshake: Connecting,
}

impl Mint {
    fn open(key: ServerKey) -> Result<Self> {
        let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
        Ok(Self { endpoint, config: config(key, ALPN, 1 << 16)? })
    }

    /// Begins a handshake and catches its first packet.
    async fn begin(&self) -> Result<Begun> {
        let catcher = UdpSocket::bind("127.0.0.1:0").await.context("open a socket")?;
        let (nowhere, config) = (catcher.local_addr()?, self.config.clone());
        let handshake = self.endpoint.connect_with(config, nowhere, SERVER_NAME)?;
        let (packet, client) = next_first(&catcher).await?;
        Ok(Begun { packet, catcher, client, _handshake: handshake })
    }

    /// Sends the first packet of a new handshake, and, when the server's first answer asks for a
    /// proof of the address, that, too.
    async fn send(&self, from: &UdpSocket, to: SocketAddr, proves: bool) -> Result<()> {
        let begun = self.begin().await?;
        from.send_to(&begun.packet, to).await?;
        let mut bytes = [0; PACKET_BYTES_MAX];
        if proves
            && let Ok(Ok(length)) = timeout(ASKED, from.recv(&mut bytes)).await
            && is_retry(&bytes[..length])
        {
            begun.catcher.send_to(&bytes[..length], begun.client).await?;
            // An answer to somebody before is nothing to this client: it says nothing to it.
            if let Ok(again) = next_first(&begun.catcher).await {
                from.send_to(&again.0, to).await?;
            }
        }
        Ok(())
    }
}

/// Catches the next packet, which has to be the first of a handshake, and says who sent it.
async fn next_first(catcher: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut bytes = [0; PACKET_BYTES_MAX];
    let (length, client) = timeout(MADE, catcher.recv_from(&mut bytes)).await??;
    let packet = bytes[..length].to_vec();
    ensure!(is_first(&packet), "no first packet of a handshake: {packet:02x?}");
    Ok((packet, client))
}

/// Whether a packet begins a handshake: a long header of type 0, and as long as those have to be.
fn is_first(packet: &[u8]) -> bool {
    FIRST_BYTES_MIN <= packet.len() && packet[0] & 0xF0 == 0xC0
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
        (Mint::open(siege.target.key)?, sockets(host).await?, Pace::new(per_s));
    for from in sockets.iter().cycle().take(count as usize) {
        if siege.is_over.get() {
            break;
        }
        pace.take(1).await;
        mint.send(from, siege.target.address, proves).await?;
        siege.tally.sent("half-open handshakes", 1);
    }
    Ok(())
}

/// Sends packets that belong to no connection: rubbish, and first packets with changed bytes.
///
/// # Errors
/// The system's.
pub async fn strew(siege: Rc<Siege>, seed: u64, per_s: f64) -> Result<()> {
    let (sockets, mut pace) = (sockets("127.0.0.1").await?, Pace::new(per_s));
    let sound = Mint::open(siege.target.key)?.begin().await?.packet;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a client calls the server until that names itself: drawn anew for each handshake.
    fn called(packet: &[u8]) -> &[u8] {
        &packet[6..6 + usize::from(packet[5])]
    }

    #[tokio::test]
    async fn each_packet_begins_a_handshake_of_its_own() -> Result<()> {
        const COUNT: usize = 50;
        let mint = Mint::open(ServerKey([7; 32]))?;
        let server = UdpSocket::bind("127.0.0.1:0").await?;
        let from = UdpSocket::bind("127.0.0.1:0").await?;
        let mut names = BTreeSet::new();
        for _ in 0..COUNT {
            mint.send(&from, server.local_addr()?, false).await?;
            let (packet, _) = next_first(&server).await?;
            names.insert(called(&packet).to_vec());
            // The client that gave up has its say before the next one begins.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ensure!(names.len() == COUNT, "{} handshakes in {COUNT} packets", names.len());
        Ok(())
    }
}
