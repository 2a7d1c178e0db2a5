//! Kills the server under a crowd now and then, starts it again on the same folder and address, and
//! looks at what everybody still has.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use protocol::io::clock::now_us;
use tokio::time::sleep;

use super::crowd::Crowd;
use super::fall::{Fall, Falls, moments};
use crate::process::ServerProcess;

/// How long one waits until everybody is back: a client knocks five times in this.
const BACK: Duration = Duration::from_secs(10);

/// How long everybody may take to be told what they have.
const TOLD: Duration = Duration::from_secs(5);

/// Kills `server` once in each turn of `every_s` seconds, for `seconds`, at random moments; returns
/// it running, and how it went.
///
/// # Errors
/// When the server does not start again.
pub async fn kill_again_and_again(
    mut server: ServerProcess,
    crowd: &Rc<Crowd>,
    (every_s, seconds, seed): (f64, f64, u64),
) -> Result<(ServerProcess, Falls)> {
    let began_us = now_us();
    let since_s = |at_us: u64| at_us.saturating_sub(began_us) as f64 / 1e6;
    let mut falls = Falls::default();
    crowd.act(TOLD).await;
    let turns = (seconds / every_s) as usize;
    for at_s in moments(every_s, seed).take(turns) {
        let wait_s = (at_s - since_s(now_us())).max(0.0);
        sleep(Duration::from_secs_f64(wait_s)).await;
        let clients = crowd.fell();
        let killed_us = now_us();
        // The start waits for what the server says; clients live on meanwhile.
        let restarted = tokio::task::spawn_blocking(move || {
            server.restart()?;
            Ok::<_, anyhow::Error>((server, now_us()))
        });
        let serving_us;
        (server, serving_us) = restarted.await.context("start the server again")??;
        let back = crowd.come_back(BACK).await;
        let mut fall = Fall {
            at_s: since_s(killed_us),
            serving_s: (serving_us - killed_us) as f64 / 1e6,
            clients,
            resumed: back.resumed,
            anew: back.anew,
            ..Fall::default()
        };
        fall.came_back(serving_us, back.at_us.clone());
        fall.found(crowd.settle(TOLD).await);
        falls.add(fall, serving_us, &back.at_us);
    }
    falls.acknowledged(crowd.acknowledged());
    Ok((server, falls))
}
