//! What the machine itself takes for one client's tick: one sealed datagram out, one in and opened,
//! through the kernel's loopback and AES-128-GCM, with nothing of ours around them.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, anyhow};
use protocol::io::clock::now_us;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Datagrams of one batch: they fit in any socket's buffer.
const BATCH: usize = 64;

/// Batches measured: 0.1 s.
const BATCHES: usize = 200;

/// Bytes of the largest datagram tried.
const BYTES_MAX: usize = 1_500;

/// Returns the microseconds of CPU that one datagram of `down` bytes out and one of `up` bytes in
/// cost: the least of all batches, for everything above it is somebody else's.
///
/// # Errors
/// When the system gives no sockets.
pub fn us_per_client_tick(down: usize, up: usize) -> Result<f64> {
    let bind = || UdpSocket::bind("127.0.0.1:0").context("open a socket on loopback");
    let (server, client) = (bind()?, bind()?);
    server.connect(client.local_addr()?)?;
    client.connect(server.local_addr()?)?;
    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|_| anyhow!("no AES-128-GCM"))?;
    let key = LessSafeKey::new(key);
    let mut least_us = f64::INFINITY;
    for _ in 0..BATCHES {
        for _ in 0..BATCH {
            client.send(&sealed(&key, up)?)?;
        }
        let began_us = now_us();
        for _ in 0..BATCH {
            receive(&key, &server)?;
            server.send(&sealed(&key, down)?)?;
        }
        least_us = least_us.min((now_us() - began_us) as f64 / BATCH as f64);
        for _ in 0..BATCH {
            receive(&key, &client)?;
        }
    }
    Ok(least_us)
}

fn sealed(key: &LessSafeKey, bytes: usize) -> Result<Vec<u8>> {
    let mut packet = vec![0; bytes.min(BYTES_MAX)];
    let nonce = Nonce::assume_unique_for_key([1; NONCE_LEN]);
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut packet)
        .map_err(|_| anyhow!("cannot seal"))?;
    Ok(packet)
}

fn receive(key: &LessSafeKey, from: &UdpSocket) -> Result<()> {
    let mut buffer = [0; BYTES_MAX + 64];
    let count = from.recv(&mut buffer)?;
    let nonce = Nonce::assume_unique_for_key([1; NONCE_LEN]);
    key.open_in_place(nonce, Aad::empty(), &mut buffer[..count])
        .map_err(|_| anyhow!("cannot open"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_of_a_client_costs_something() {
        let us = us_per_client_tick(300, 60).expect("loopback works");
        assert!(us > 0.0 && us < 1_000.0, "{us}");
    }
}
