//! Honest clients in a world under siege: they walk, act and speak, and note how long every answer
//! takes and whether they are ever put out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use protocol::io::clock::now_us;
use protocol::io::{ClientEvent, ConnectOptions};
use protocol::rules::{Act, Verb};
use protocol::session::Answer;
use protocol::units::Yaw;

use crate::guest::Guest;
use crate::measure::percentile;

/// How long to wait between an answer and the next act.
const PAUSE: Duration = Duration::from_millis(60);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What honest clients met with.
#[derive(Debug, Default)]
pub struct Experience {
    answers_ms: RefCell<Vec<f64>>,
    /// Times that a connection was lost or a stay ended.
    pub lost: Cell<u64>,
    /// Acts that had no answer in time.
    pub unanswered: Cell<u64>,
    /// Milliseconds that newcomers waited to be let in.
    pub joins_ms: RefCell<Vec<f64>>,
    /// Newcomers who were not let in.
    pub turned_away: Cell<u64>,
}

/// How the answers of a time came.
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    /// How many.
    pub count: usize,
    /// Milliseconds in which half of them came.
    pub ms_p50: f64,
    /// Milliseconds in which 99 of a hundred came.
    pub ms_p99: f64,
}

impl Experience {
    /// Returns how answers came since this was asked last.
    pub fn take(&self) -> Answers {
        let mut all = self.answers_ms.take();
        all.sort_by(f64::total_cmp);
        let (ms_p50, ms_p99) = (percentile(&all, 50), percentile(&all, 99));
        Answers { count: all.len(), ms_p50, ms_p99 }
    }
}

/// Lives in the world until `is_over`.
///
/// # Errors
/// When something is answered that cannot be.
pub async fn live(
    mut guest: Guest,
    experience: Rc<Experience>,
    is_over: impl Fn() -> bool,
) -> Result<()> {
    let mut turn = 0_u16;
    while !is_over() {
        turn = turn.wrapping_add(1);
        // To and fro, so that the place is kept.
        guest.walk(if turn % 40 < 20 { Yaw::EAST } else { Yaw(Yaw::EAST.0.wrapping_add(0x8000)) });
        let began_us = now_us();
        let answer = tokio::time::timeout(PATIENCE, guest.client.act(Act::new(Verb::Take))).await;
        match answer {
            Ok(Ok(Answer::Refused(_))) => {
                let took_ms = (now_us() - began_us) as f64 / 1_000.0;
                experience.answers_ms.borrow_mut().push(took_ms);
            }
            Ok(Ok(Answer::Done { .. })) => anyhow::bail!("taking nothing was done"),
            Ok(Ok(Answer::Unknown) | Err(_)) | Err(_) => {
                experience.unanswered.set(experience.unanswered.get() + 1);
            }
        }
        while let Some(event) = guest.client.try_event() {
            if matches!(event, ClientEvent::Interrupted { .. } | ClientEvent::Ended(_)) {
                experience.lost.set(experience.lost.get() + 1);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    guest.client.leave().await;
    Ok(())
}

/// Comes in and leaves again, once, and notes how that went.
pub async fn visit(options: ConnectOptions, experience: &Experience) {
    let began_us = now_us();
    let entered = tokio::time::timeout(PATIENCE, Box::pin(protocol::io::Client::connect(options)));
    match entered.await {
        Ok(Ok(client)) => {
            experience.joins_ms.borrow_mut().push((now_us() - began_us) as f64 / 1_000.0);
            client.leave().await;
        }
        Ok(Err(_)) | Err(_) => experience.turned_away.set(experience.turned_away.get() + 1),
    }
}
