//! `ecumene-siege`: clients of ill will against a server of its own, honest ones beside them, and
//! what both sides saw.
//!
//! Reads the command line and puts the numbers together; who attacks and how stands in
//! `tests::siege`.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use protocol::io::ConnectOptions;
use protocol::io::assets::Sharing;
use protocol::message::asset::AssetAudience;
use serde_json::{Value, json};
use tests::guest::{Guest, options};
use tests::measure::percentile;
use tests::process::ServerProcess;
use tests::relay::{Impairment, Relay};
use tests::siege::attack::{self, LEAKED, Siege, WITHHELD};
use tests::siege::mutate::Known;
use tests::siege::raw::Target;
use tests::siege::strangers;
use tests::siege::tally::Tally;
use tests::siege::witness::{Experience, live, visit};
use tests::soak::host::{Counters, Host};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Honest clients.
const HONEST: usize = 4;

/// Of a thousand datagrams of the honest client behind a relay, how many somebody else sends first.
const FORGED_PERMILLE: u32 = 20;

/// Pause between two looks, in which a newcomer comes and goes.
const LOOK: Duration = Duration::from_secs(1);

/// What attackers may do that others may not, so that what they say is judged and not just refused
/// for haste; with `--gates` nothing of this.
const OPEN_GATES: [&str; 4] = [
    "admission.messages_per_s=10000",
    "admission.messages_burst=10000",
    "admission.datagrams_per_s=10000",
    "session.resume_grace_s=10",
];

/// All come from one address.
const ONE_ADDRESS: [&str; 2] =
    ["admission.handshakes_per_s=1000", "admission.handshakes_burst=1000"];

/// What ends with exit code 3 when it is not 0.
const MUST_BE_NONE: [&str; 5] = [
    "server_panics",
    "honest_lost",
    "honest_unanswered",
    "newcomers_turned_away",
    "private_assets_given_out",
];

/// What somebody shares with nobody.
const SECRET: &[u8] = b"for my own eyes";

#[derive(Parser)]
#[command(
    about = "Lays siege to a server and shows whether honest clients notice",
    after_help = "Examples:\n  ecumene-siege --inputs 1000000 --per-s 5000\n  \
                  ecumene-siege --gates --inputs 100000"
)]
struct Cli {
    /// Hostile inputs in all
    #[arg(long, default_value_t = 100_000)]
    inputs: u64,
    /// Hostile inputs a second
    #[arg(long, default_value_t = 5_000.0)]
    per_s: f64,
    /// Handshakes that stay half open, in all
    #[arg(long, default_value_t = 10_000)]
    half_open: u64,
    /// Seconds of peace, in which honest clients are watched first
    #[arg(long, default_value_t = 10)]
    peace: u64,
    /// Leaves the limits of messages and datagrams as they are set by default
    #[arg(long)]
    gates: bool,
    /// What everything random grows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Further settings of the server, as KEY=VALUE
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Where the JSON goes
    #[arg(long, value_name = "FILE", default_value = "siege.json")]
    report: PathBuf,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let mut settings: Vec<&str> = ONE_ADDRESS.to_vec();
    if !cli.gates {
        settings.extend(OPEN_GATES);
    }
    settings.extend(cli.settings.iter().map(String::as_str));
    let mut server = ServerProcess::start(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, besiege(&cli, &server));
    let mut report = report.with_context(|| format!("the server's log:\n{}", server.log()))?;
    report["server_panics"] = json!(server.panics());
    let status = server.stop()?;
    report["server_exit"] = json!(status.to_string());
    let text = serde_json::to_string_pretty(&report)? + "\n";
    std::fs::write(&cli.report, &text).context("write the report")?;
    {
        use std::io::Write as _;
        std::io::stdout().write_all(text.as_bytes()).context("write to the terminal")?;
    }
    let is_unmoved = MUST_BE_NONE.iter().all(|key| report[*key] == json!(0));
    Ok(if is_unmoved && status.success() { 0.into() } else { 3.into() })
}

/// What the server took at one moment, and how long its ticks were since the last.
struct Look {
    counters: Counters,
    ticks_ms: Vec<f32>,
}

async fn look(host: &Host) -> Look {
    let host = host.clone();
    let seen = tokio::task::spawn_blocking(move || Look {
        counters: host.counters(),
        ticks_ms: host.last_ticks_ms().unwrap_or_default(),
    });
    let nothing = Look { counters: Counters::default(), ticks_ms: Vec::new() };
    seen.await.unwrap_or(nothing)
}

fn tick_ms_p99(look: &Look) -> f64 {
    let mut sorted: Vec<f64> = look.ticks_ms.iter().map(|&ms| f64::from(ms)).collect();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 99)
}

async fn besiege(cli: &Cli, server: &ServerProcess) -> Result<Value> {
    let (http, world) = (Some(server.http()), Some(server.world()));
    let host = Host { pid: server.pid(), http, world };
    let relay = Relay::start(server.address(), Impairment::default(), cli.seed)?;
    let experience = Rc::<Experience>::default();
    let is_over = Rc::new(Cell::new(false));
    let (mut known, mut honest) = (Known::default(), Vec::new());
    for index in 0..HONEST {
        let direct = options(server, &format!("Honest{index}"))?;
        // The first one's way leads past somebody who listens.
        let through = ConnectOptions { address: relay.address().to_string(), ..direct.clone() };
        let guest = Guest::enter(server, if index == 0 { through } else { direct }).await?;
        known.people.push(guest.person());
        known.entities.push(guest.avatar());
        known.tickets.extend(guest.client.look(|view| view.session.ticket().map(<[u8]>::to_vec)));
        if index == 0 {
            let audience = AssetAudience::Owner;
            let secret = Sharing::new(SECRET, ("text/plain", "diary.txt"), audience, 0)?;
            guest.client.assets().share(&secret, |_, _| {}).await?;
            known.hidden.push(secret.offer.hash);
            guest.nearest("axe").await?;
            known.entities.extend(
                guest
                    .client
                    .look(|view| view.replica.entities().map(|it| it.id).collect::<Vec<_>>()),
            );
        }
        let (experience, is_over) = (Rc::clone(&experience), Rc::clone(&is_over));
        honest.push(tokio::task::spawn_local(live(guest, experience, move || is_over.get())));
    }
    for _ in 0..cli.peace {
        tokio::time::sleep(LOOK).await;
        visit(options(server, "Newcomer")?, &experience).await;
    }
    let (peace, before) = (experience.take(), look(&host).await);
    let mut joins_before_ms = experience.joins_ms.take();
    relay.forge(FORGED_PERMILLE);
    let siege = Rc::new(Siege {
        target: Target::from(server),
        tally: Tally::default(),
        known,
        is_over: Cell::new(false),
    });
    let attackers = attackers(cli, &siege);
    let (mut rss_kb, mut tick_ms_p99_max, mut last) = (Vec::new(), 0.0_f64, 0);
    while siege.tally.total() < cli.inputs {
        tokio::time::sleep(LOOK).await;
        visit(options(server, "Newcomer")?, &experience).await;
        let now = look(&host).await;
        rss_kb.push(now.counters.rss_kb.unwrap_or(f64::NAN));
        tick_ms_p99_max = tick_ms_p99_max.max(tick_ms_p99(&now));
        let total = siege.tally.total();
        anyhow::ensure!(last < total, "nothing is sent any more after {total} inputs");
        last = total;
        if attackers.iter().any(tokio::task::JoinHandle::is_finished) {
            break;
        }
    }
    siege.is_over.set(true);
    let (during, after) = (experience.take(), look(&host).await);
    for attacker in attackers {
        attacker.await??;
    }
    is_over.set(true);
    for guest in honest {
        guest.await??;
    }
    let mut joins_ms = experience.joins_ms.take();
    for joins in [&mut joins_before_ms, &mut joins_ms] {
        joins.sort_by(f64::total_cmp);
    }
    let (forged, forged_bytes, lured) = relay.forged();
    let outcomes = siege.tally.outcomes();
    let count = |what: &str| outcomes.get(what).copied().unwrap_or(0);
    Ok(json!({
        "inputs": siege.tally.total(),
        "sent": siege.tally.by_kind(),
        "outcomes": outcomes,
        "answers_before": peace.count,
        "answer_ms_p50_before": peace.ms_p50,
        "answer_ms_p99_before": peace.ms_p99,
        "answers": during.count,
        "answer_ms_p50": during.ms_p50,
        "answer_ms_p99": during.ms_p99,
        "honest_lost": experience.lost.get(),
        "honest_unanswered": experience.unanswered.get(),
        "newcomers_turned_away": experience.turned_away.get(),
        "private_assets_given_out": count(LEAKED),
        "private_assets_withheld": count(WITHHELD),
        "join_ms_p50_before": percentile(&joins_before_ms, 50),
        "join_ms_p50": percentile(&joins_ms, 50),
        "join_ms_max": percentile(&joins_ms, 100),
        "tick_ms_p99_before": tick_ms_p99(&before),
        "tick_ms_p99": tick_ms_p99(&after),
        "tick_ms_p99_max": tick_ms_p99_max,
        "rss_kb_before": before.counters.rss_kb,
        "rss_kb_by_tenths": tenths(&rss_kb),
        "rss_kb_after": after.counters.rss_kb,
        "forged_packets": forged,
        "forged_bytes": forged_bytes,
        "bytes_lured_to_the_forger": lured,
    }))
}

/// Returns the last value of each tenth: what grows for ever shows in it.
fn tenths(values: &[f64]) -> Vec<f64> {
    let last = |tenth: usize| values.get((values.len() * tenth / 10).max(1) - 1).copied();
    (1..=10).filter_map(last).collect()
}

/// Sets everybody going, each with a share of what is sent a second.
fn attackers(cli: &Cli, siege: &Rc<Siege>) -> Vec<tokio::task::JoinHandle<Result<()>>> {
    let (mut all, mut seed) = (Vec::new(), cli.seed << 16);
    let mut each = |share: f64, count: u32, spawn: &mut dyn FnMut(u64, f64)| {
        for _ in 0..count {
            seed += 1;
            spawn(seed, cli.per_s * share / f64::from(count));
        }
    };
    each(0.25, 6, &mut |seed, per_s| {
        all.push(tokio::task::spawn_local(attack::talk(Rc::clone(siege), seed, per_s)));
    });
    each(0.50, 6, &mut |seed, per_s| {
        let siege = Rc::clone(siege);
        all.push(tokio::task::spawn_local(async move {
            attack::throw(siege, seed, per_s).await;
            Ok(())
        }));
    });
    each(0.24, 2, &mut |seed, per_s| {
        all.push(tokio::task::spawn_local(strangers::strew(Rc::clone(siege), seed, per_s)));
    });
    each(0.008, 2, &mut |seed, per_s| {
        let siege = Rc::clone(siege);
        all.push(tokio::task::spawn_local(async move {
            attack::share(siege, seed, per_s).await;
            Ok(())
        }));
    });
    each(0.001, 1, &mut |seed, per_s| {
        all.push(tokio::task::spawn_local(attack::knock(Rc::clone(siege), seed, per_s)));
    });
    // Spread over the whole siege; half of them prove their address, from another one than the
    // honest have.
    let per_s = cli.half_open as f64 / 2.0 / (cli.inputs as f64 / cli.per_s).max(1.0);
    for (host, proves) in [("127.0.0.2", false), ("127.0.0.3", true)] {
        let siege = Rc::clone(siege);
        let count = cli.half_open / 2;
        all.push(tokio::task::spawn_local(async move {
            strangers::half_open(Rc::clone(&siege), (count, per_s), host, proves).await?;
            while !siege.is_over.get() {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        }));
    }
    all
}
