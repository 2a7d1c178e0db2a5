//! Behind a bad network: people are shown near where they are, and a cut or a new address does
//! not end a stay.

use std::time::Duration;

use anyhow::Result;
use protocol::input::Input;
use protocol::io::clock::now_us;
use protocol::io::{ConnectOptions, View};
use protocol::rules::{Act, Verb, Why};
use protocol::units::Yaw;
use tests::guest::{Guest, options, run};
use tests::process::ServerProcess;
use tests::relay::{Impairment, Relay};

/// 5 % of all datagrams lost, 100 ms +- 20 ms each way.
const BAD: Impairment = Impairment {
    loss_permille: 50,
    delay_ms: 100,
    jitter_ms: 20,
    reorder_permille: 10,
    duplicate_permille: 5,
};

const WALKING: Duration = Duration::from_secs(20);

fn through(relay: &Relay, server: &ServerProcess, name: &str) -> Result<ConnectOptions> {
    let direct = options(server, name)?;
    Ok(ConnectOptions { address: relay.address().to_string(), ..direct })
}

fn p95(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 95 / 100).copied().unwrap_or(f64::NAN)
}

/// Where an avatar was at a tick, as somebody without any network between saw it.
struct Truth(Vec<(u64, [f64; 3])>);

impl Truth {
    fn at(&self, moment: f64) -> Option<[f64; 3]> {
        let index = self.0.partition_point(|(tick, _)| (*tick as f64) <= moment);
        let (&(before, from), &(after, to)) =
            (self.0.get(index.checked_sub(1)?)?, self.0.get(index)?);
        let part = (moment - before as f64) / (after - before) as f64;
        Some([0, 1, 2].map(|axis| from[axis] + (to[axis] - from[axis]) * part))
    }
}

#[test]
fn behind_a_bad_network_people_are_shown_near_where_they_are() -> Result<()> {
    run(async {
        let server = ServerProcess::start(&[])?;
        let relay = Relay::start(server.address(), BAD, 7)?;
        let ada = Guest::enter(&server, through(&relay, &server, "Ada")?).await?;
        let ben = Guest::enter(&server, through(&relay, &server, "Ben")?).await?;
        let judge = Guest::join(&server, "Judge").await?;
        judge.sees("Ben").await?;
        let ben_is = ben.avatar();
        ada.sees("Ben").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        ada.client.look(|view| view.corrections_cm.len());
        let skip = ben.client.look(|view| view.corrections_cm.len());

        let (mut shown, mut truth, mut delays_ms) = (Vec::new(), Truth(Vec::new()), Vec::new());
        let began_us = now_us();
        let mut turn = 0_u16;
        while u128::from(now_us() - began_us) < WALKING.as_micros() {
            if turn.is_multiple_of(60) {
                // A square, so that nobody walks out of sight.
                let yaw = Yaw((turn / 60 % 4) * 0x4000);
                ben.client.set_input(Input { forward: 127, yaw, ..Input::default() });
            }
            turn = turn.wrapping_add(1);
            ada.client.show(|view, now_us| {
                let found = view.replica.shown().find(|(entity, _)| entity.id == ben_is);
                if let (Some((_, seen)), Some(moment)) = (found, view.replica.moment()) {
                    shown.push((moment, seen.at_cm));
                }
                delays_ms.push(delay_ms(view, now_us));
            });
            judge.client.look(|view| {
                let Some(entity) = view.replica.entity(ben_is) else { return };
                let (tick, state) = entity.newest();
                let at = [state.position.x, state.position.y, state.position.z].map(f64::from);
                if truth.0.last().is_none_or(|(last, _)| *last < tick.0) {
                    truth.0.push((tick.0, at));
                }
            });
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let off = |(moment, seen): &(f64, [f64; 3])| {
            let truth = truth.at(*moment)?;
            Some((seen[0] - truth[0]).hypot(seen[2] - truth[2]))
        };
        let mut off_cm: Vec<f64> = shown.iter().filter_map(off).collect();
        let mut own_cm: Vec<f64> = ben
            .client
            .look(|view| view.corrections_cm.iter().skip(skip).copied().map(f64::from).collect());
        assert!(300 < off_cm.len() && 100 < own_cm.len(), "{} {}", off_cm.len(), own_cm.len());
        let (count, samples) = (relay.counts(), off_cm.len());
        let (off_p95, own_p95, delay_p95) =
            (p95(&mut off_cm), p95(&mut own_cm), p95(&mut delays_ms));
        println!(
            "{samples} looks, datagrams (carried, lost) {count:?}: others {off_p95:.1} cm off, own \
             body {own_p95:.1} cm corrected, shown {delay_p95:.0} ms late (all p95)"
        );
        assert!(off_p95 <= 60.0, "others are shown {off_p95} cm off");
        assert!(own_p95 <= 30.0, "one's own body is corrected by {own_p95} cm");
        assert!(delay_p95 <= 350.0, "the world is shown {delay_p95} ms late");
        Ok(())
    })
}

/// How long ago, by the frames' arrival, the shown moment was, with the way here.
fn delay_ms(view: &View, now_us: u64) -> f64 {
    let clock = view.replica.clock();
    let Some(moment) = view.replica.moment() else { return 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a tick's number")]
    let tick = protocol::units::Tick(moment as u64);
    let Some(arrival_us) = clock.arrival_us(tick) else { return 0.0 };
    let since_us = i64::try_from(now_us).unwrap_or(i64::MAX) - arrival_us;
    since_us as f64 / 1_000.0 + f64::from(BAD.delay_ms)
}

#[test]
fn a_cut_of_three_seconds_and_a_new_address_do_not_end_a_stay() -> Result<()> {
    run(async {
        let server = ServerProcess::start(&[])?;
        let relay = Relay::start(server.address(), Impairment::default(), 7)?;
        let ada = Guest::enter(&server, through(&relay, &server, "Ada")?).await?;
        let witness = Guest::join(&server, "Ben").await?;
        witness.sees("Ada").await?;
        let session = ada.client.look(|view| view.welcome.session);
        relay.cut(true);
        tokio::time::sleep(Duration::from_secs(3)).await;
        relay.cut(false);
        assert_eq!(ada.cannot(Act::new(Verb::Take)).await?, Why::NoTarget);
        relay.rebind();
        assert_eq!(ada.cannot(Act::new(Verb::Take)).await?, Why::NoTarget);
        let before = witness.sees("Ada").await?.1;
        ada.walk(Yaw::SOUTH);
        let has_walked = |view: &View| {
            let at = view.replica.named("Ada")?.newest().1.position;
            (!at.is_within(before, 200)).then_some(())
        };
        witness.until("Ada to walk on", has_walked).await?;
        assert_eq!(ada.client.look(|view| view.welcome.session), session, "the same stay");
        Ok(())
    })
}
