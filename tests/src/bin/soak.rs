//! `ecumene-soak`: puts a crowd of real clients into a world, measures, and writes the report.
//!
//! Reads the command line, paces the run and puts the numbers together; what is measured and how
//! stands in `tests::soak`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::io::ServerKey;
use protocol::io::clock::now_us;
use serde_json::{Map, Value, json};
use tests::process::ServerProcess;
use tests::relay::{Impairment, Relay};
use tests::soak::crowd::{Crowd, Order};
use tests::soak::division::Divider;
use tests::soak::fall::Falls;
use tests::soak::figures::{Mark, fill_crossings, fill_server, fill_traffic, fill_truth};
use tests::soak::host::{Host, continued, cpu_us, processor, taskset};
use tests::soak::killer::kill_again_and_again;
use tests::soak::merge::merge;
use tests::soak::report::{Report, compare, unmet};
use tests::soak::scenario::Scenario;
use tests::soak::tally::Second;
use tests::soak::{floor, page};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The core of the server, with `--pin`.
const SERVER_CORE: u32 = 0;

/// The core of the load, with `--pin`.
const LOAD_CORE: u32 = 1;

/// How long the last client may take to come in after its turn.
const STRAGGLING: Duration = Duration::from_secs(30);

/// Bytes that a sealed QUIC datagram adds to its payload: header, number, frame type and tag.
const UDP_AND_TAG_BYTES: f64 = 16.0;

/// How long everybody may take at the end to come back and to say what they hold.
const LOOKING_BACK: Duration = Duration::from_secs(20);

/// How long it may take at most until everyone is where the scenario wants them.
const GETTING_READY: Duration = Duration::from_secs(120);

/// Looks, this long apart, until every client's body is in a shard: the server's status is written
/// anew every second.
const SHARD_LOOKS: u32 = 30;
const SHARD_LOOK: Duration = Duration::from_millis(200);

/// Seconds between two looks at the server's ticks: its history holds twelve.
const TICKS_EVERY_S: u64 = 4;

#[derive(Parser)]
#[command(
    about = "Puts a crowd of real clients into a world and measures what it costs and what they see",
    after_help = "Examples:\n  ecumene-soak --clients 500 --seconds 300 --scenario spread --pin --report out.json\n  \
                  ecumene-soak --fail-if 'tick_ms_p99>50'\n  ecumene-soak compare before.json after.json"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Shows two reports side by side
    Compare {
        /// The report before
        before: PathBuf,
        /// The report after
        after: PathBuf,
    },
    /// Makes one report of several generators that loaded one server at the same time
    Merge {
        /// Their reports
        #[arg(required = true)]
        parts: Vec<PathBuf>,
        /// Where the JSON goes; CSV and HTML lie beside it
        #[arg(long, value_name = "FILE", default_value = "soak.json")]
        report: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// How many clients
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    clients: u32,
    /// Seconds measured, after everyone has come in
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..))]
    seconds: u64,
    /// Seconds before the measurement in which everyone finds their place
    #[arg(long, default_value_t = 15)]
    settle: u64,
    /// spread, plaza, commute, errands, storm, churn, chat, trade or asset
    #[arg(long, default_value = "spread")]
    scenario: Scenario,
    /// Ticks per second of the world
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(5..=60))]
    hz: u16,
    /// Clients that come in a second
    #[arg(long, default_value_t = 50.0, allow_negative_numbers = true, value_parser = positive)]
    ramp: f64,
    /// How often a second a client of `errands` acts
    #[arg(long, default_value_t = 2.0, allow_negative_numbers = true, value_parser = positive)]
    acts: f64,
    /// Seconds between two changes of the world's regions, which are split, moved to another process
    /// and merged; without it they stay as they are
    #[arg(long, value_name = "S", conflicts_with_all = ["connect", "kill_every"],
          allow_negative_numbers = true, value_parser = positive)]
    divide: Option<f64>,
    /// What everything random grows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keeps the server on core 0 and the load on core 1
    #[arg(long)]
    pin: bool,
    /// A server that runs already, as HOST:PORT; without it one is started for the run
    #[arg(long, value_name = "ADDR")]
    connect: Option<SocketAddr>,
    /// The identity of that server
    #[arg(long, value_name = "KEY", requires = "connect")]
    server_key: Option<ServerKey>,
    /// The metrics of that server, as HOST:PORT
    #[arg(long, value_name = "ADDR", requires = "connect")]
    http: Option<SocketAddr>,
    /// Lets all packets go through a bad network, each way, such as loss=5%,delay=100ms,jitter=20ms;
    /// reorder=1% and duplicate=1% too
    #[arg(long, value_name = "SPEC")]
    impair: Option<Impairment>,
    /// Kills the started server (kill -9) once in so many seconds, at random moments, and starts it
    /// again; everybody then compares what was acknowledged to them with what they have
    #[arg(long, value_name = "S", conflicts_with = "connect",
          value_parser = clap::value_parser!(u64).range(4..))]
    kill_every: Option<u64>,
    /// Further settings of the started server, as KEY=VALUE
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "connect")]
    settings: Vec<String>,
    /// Fails (exit code 3) if one of these holds or cannot be told, such as `tick_ms_p99>50`
    #[arg(long, value_name = "CONDITIONS")]
    fail_if: Option<String>,
    /// Where the JSON goes; CSV and HTML lie beside it
    #[arg(long, value_name = "FILE", default_value = "soak.json")]
    report: PathBuf,
}

/// Reads a number of something that there must be some of.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| error.to_string())?;
    let is_positive = number.is_finite() && 0.0 < number;
    is_positive.then_some(number).ok_or_else(|| format!("{number} is not above 0"))
}

/// Says what cannot come of a run before minutes are spent.
fn check(run: &Run) -> Result<()> {
    unmet(run.fail_if.as_deref().unwrap_or(""), &Report::default())?;
    if let Some(every_s) = run.kill_every.filter(|&every_s| run.seconds < every_s) {
        bail!(
            "--kill-every {every_s} never comes in a run of {} seconds; make --seconds at least as \
             long",
            run.seconds
        );
    }
    if run.connect.is_some() && run.scenario.rules().is_some() {
        bail!(
            "`{}` needs a world with rules of its own, so leave out --connect: a server is started \
             for it",
            run.scenario
        );
    }
    Ok(())
}

fn main() -> Result<std::process::ExitCode> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Compare { before, after }) => {
            return show_comparison(&before, &after).map(|()| std::process::ExitCode::SUCCESS);
        }
        Some(Command::Merge { parts, report }) => {
            return merge_reports(&parts, &report).map(|()| std::process::ExitCode::SUCCESS);
        }
        None => {}
    }
    check(&cli.run)?;
    let report = soak(&cli.run)?;
    let files = write_report(&report, &cli.run.report)?;
    say(&summary(&report, &files))?;
    let failed = unmet(cli.run.fail_if.as_deref().unwrap_or(""), &report)?;
    for failure in &failed {
        say(&format!("failed: {failure}\n"))?;
    }
    Ok(if failed.is_empty() { 0.into() } else { 3.into() })
}

fn show_comparison(before: &Path, after: &Path) -> Result<()> {
    say(&compare(&read_report(before)?, &read_report(after)?))
}

fn merge_reports(parts: &[PathBuf], path: &Path) -> Result<()> {
    let read = |part: &PathBuf| Ok((part.display().to_string(), read_report(part)?));
    let report = merge(&parts.iter().map(read).collect::<Result<Vec<_>>>()?)?;
    let files = write_report(&report, path)?;
    say(&summary(&report, &files))
}

fn read_report(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))
}

fn say(text: &str) -> Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).context("write to the terminal")
}

/// Starts the server if there is none, and runs the crowd on one thread.
fn soak(run: &Run) -> Result<Report> {
    let mut server = match run.connect {
        Some(_) => None,
        None => Some(start_server(run)?),
    };
    let (address, server_key, host) = match (&server, run.connect) {
        (Some(server), _) => {
            let (http, world) = (Some(server.http()), Some(server.world()));
            (server.address(), Some(server.key()), Host { pid: server.pid(), http, world })
        }
        (None, Some(address)) => {
            (address, run.server_key, Host { pid: None, http: run.http, world: None })
        }
        (None, None) => bail!("there is no server"),
    };
    if run.pin {
        host.pin(SERVER_CORE, LOAD_CORE)?;
        if let Some(server) = &mut server {
            server.core = Some(SERVER_CORE);
        }
    }
    let divider =
        server.as_ref().filter(|_| run.divide.is_some()).map(Divider::start).transpose()?;
    if let Some(pid) = divider.as_ref().and_then(Divider::pid).filter(|_| run.pin) {
        taskset(SERVER_CORE, pid)?;
    }
    let relay = run.impair.map(|impairment| Relay::start(address, impairment, run.seed));
    let relay = relay.transpose()?;
    let order = Order {
        address: relay.as_ref().map_or(address, Relay::address),
        server_key,
        clients: run.clients,
        scenario: run.scenario,
        ramp_per_s: run.ramp,
        seed: run.seed,
        hz: run.hz,
        acts_per_s: run.acts,
        is_killed: run.kill_every.is_some(),
        is_watched: run.kill_every.is_some() || run.connect.is_none() && run.scenario.writes(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, drive(run, order, (&host, divider), &mut server));
    let report = report.map_err(|error| match &server {
        Some(server) => error.context(format!("the server's log:\n{}", server.log())),
        None => error,
    });
    let mut report = report?;
    if let Some(server) = server {
        stop_server(server, &mut report);
    }
    measure_floor(&mut report)?;
    Ok(report)
}

/// Stops the server; one that ended by itself, or not in good order, makes the run not count.
fn stop_server(mut server: ServerProcess, report: &mut Report) {
    let log = server.log();
    let status = server.stop();
    let exit = status.as_ref().map_or_else(|error| format!("{error:#}"), ToString::to_string);
    if !status.is_ok_and(|status| status.success()) {
        report.invalid.push(format!("the server ended with {exit}"));
    }
    // Warnings at most, and most often nothing.
    report.more.insert("server_log".into(), json!(log));
    report.more.insert("server_exit".into(), json!(exit));
}

fn start_server(run: &Run) -> Result<ServerProcess> {
    let mut settings = vec![
        format!("server.clients_max={}", run.clients + 10),
        format!("world.tick_hz={}", run.hz),
        // The whole crowd comes from one address.
        "admission.handshakes_per_s=100000".to_owned(),
        "admission.handshakes_burst=100000".to_owned(),
        "admission.handshakes_pending=20000".to_owned(),
        "telemetry.level=warn".to_owned(),
    ];
    settings.extend(run.scenario.settings().iter().map(|&setting| setting.to_owned()));
    settings.extend(run.settings.iter().cloned());
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    match run.scenario.rules() {
        Some(rules) => ServerProcess::start_with_rules(rules, &settings),
        None => ServerProcess::start(&settings),
    }
}

async fn drive(
    run: &Run,
    order: Order,
    (host, mut divider): (&Host, Option<Divider>),
    server: &mut Option<ServerProcess>,
) -> Result<Report> {
    // What a server counts begins anew with each start: nothing of it can be told of all of them.
    let many = Host { pid: None, http: None, world: None };
    let host = if run.kill_every.is_some() { &many } else { host };
    let empty = host.counters();
    let at = order.address;
    let crowd = Crowd::new(order)?;
    crowd.gather();
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{msg:>12} [{bar:32}] {pos}/{len} {elapsed}")?
            .progress_chars("=> "),
    );
    let inside = gather(run, &crowd, &bar).await;
    if inside == 0 {
        crowd.end();
        bail!(
            "nobody came in at {at}; does a server run there that lets them in, and is its \
             identity the one of --server-key?"
        );
    }
    settle(run.settle, &crowd, &bar).await;
    if let Some((divider, every_s)) = divider.as_mut().zip(run.divide) {
        divider.begin(Duration::from_secs_f64(every_s));
    }
    crowd.stir();
    crowd.begin();
    let first = Mark::now(&crowd, host);
    let measured = measure(run, &crowd, host, &bar);
    let ((seconds, ticks_ms, has_gap), falls) = tokio::join!(measured, kill(run, &crowd, server));
    let falls = falls?;
    let last = Mark::now(&crowd, host);
    let (tally, verdicts, held) = (crowd.tally(), crowd.verdicts(), crowd.held());
    // Which waits for the process to end; the crowd goes on meanwhile.
    let stopped = divider.map(|it| tokio::task::spawn_blocking(|| it.stop()));
    let divisions = match stopped {
        Some(stopped) => Some(stopped.await??),
        None => None,
    };
    crowd.rest();
    let in_shards = look_at_shards(&crowd, host).await;
    let (bodies, nearby) = (crowd.bodies(), crowd.nearby());
    let kept = if falls.is_none() { crowd.look_back(LOOKING_BACK).await } else { None };
    crowd.end();
    bar.finish_and_clear();
    let mut report = Report { seconds, ticks_ms, run: described(run), ..Report::default() };
    report.more.insert("clients_in_at_start".into(), json!(inside));
    report.set("clients_held", Some(f64::from(held)));
    fill_server(&mut report, (&empty, &first, &last), run.clients, has_gap);
    fill_traffic(&mut report, (&first, &last), &tally, run.clients);
    fill_truth(&mut report, &verdicts, &tally);
    fill_crossings(&mut report, (&first, &last));
    if falls.is_none() {
        bodies.fill(&mut report, (&nearby, in_shards), tally.twice);
    }
    if let Some(divisions) = divisions {
        divisions.fill(&mut report);
    }
    if let Some(kept) = kept {
        kept.fill(&mut report, crowd.acknowledged());
    }
    let delivered = run.impair.unwrap_or_default().delivered_share();
    for (name, spread) in [
        ("near_hz", &verdicts.near_hz),
        ("in_view_hz", &verdicts.in_view_hz),
        ("late_ms", &tally.late_ms),
        ("state_age_ms", &tally.state_age_ms),
        ("one_way_ms", &tally.one_way_ms),
        ("input_to_seen_ms", &verdicts.input_to_seen_ms),
        ("display_delay_ms", &tally.display_delay_ms),
        ("position_error_m", &verdicts.position_error_m),
        ("correction_m", &tally.correction_m),
        ("resume_s", &tally.resume_s),
    ] {
        report.spreads.insert(name.into(), spread.clone());
    }
    if run.scenario == Scenario::Asset {
        tally.assets.fill(&mut report);
    }
    let because = std::mem::take(&mut report.invalid);
    match falls {
        Some(falls) => falls.fill(&mut report),
        None => report.judge((run.clients, run.hz, delivered), verdicts.checks),
    }
    report.invalid.extend(because);
    Ok(report)
}

/// Kills the server again and again, if that is asked for.
async fn kill(
    run: &Run,
    crowd: &Rc<Crowd>,
    server: &mut Option<ServerProcess>,
) -> Result<Option<Falls>> {
    let Some(every_s) = run.kill_every else { return Ok(None) };
    let Some(running) = server.take() else { return Ok(None) };
    let when = (every_s as f64, run.seconds as f64, run.seed);
    let (running, falls) = kill_again_and_again(running, crowd, when).await?;
    *server = Some(running);
    Ok(Some(falls))
}

async fn gather(run: &Run, crowd: &Rc<Crowd>, bar: &ProgressBar) -> u32 {
    bar.set_message("coming in");
    bar.set_length(u64::from(run.clients));
    let patience = f64::from(run.clients) / run.ramp.max(0.01) + STRAGGLING.as_secs_f64();
    let until_us = now_us() + (patience * 1e6) as u64;
    while crowd.inside() < run.clients && now_us() < until_us {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bar.set_position(u64::from(crowd.inside()));
    }
    crowd.inside()
}

async fn settle(seconds: u64, crowd: &Rc<Crowd>, bar: &ProgressBar) {
    bar.set_message("settling");
    bar.set_length(seconds);
    for second in 0..seconds {
        bar.set_position(second);
        tokio::time::sleep(Duration::from_secs(1)).await;
        crowd.judge();
    }
    // Whoever has a way to go and something to fetch may need longer.
    let until_us = now_us() + GETTING_READY.as_micros() as u64;
    while !crowd.is_ready() && now_us() < until_us {
        tokio::time::sleep(Duration::from_millis(100)).await;
        crowd.judge();
    }
}

/// Returns how many more clients are inside than have a body in the shards, once nobody acts: who is
/// on the way from one to another is in none.
async fn look_at_shards(crowd: &Rc<Crowd>, host: &Host) -> Option<f64> {
    let mut missing = None;
    for _ in 0..SHARD_LOOKS {
        tokio::time::sleep(SHARD_LOOK).await;
        crowd.judge();
        let host = host.clone();
        let look = tokio::task::spawn_blocking(move || host.clients_in_shards().ok());
        let in_shards = look.await.ok().flatten()?;
        missing = Some(f64::from(crowd.inside()) - f64::from(in_shards));
        if missing == Some(0.0) {
            break;
        }
    }
    missing
}

/// Looks once a second; returns the seconds, every tick's length, and whether ticks were missed.
async fn measure(
    run: &Run,
    crowd: &Rc<Crowd>,
    host: &Host,
    bar: &ProgressBar,
) -> (Vec<Second>, Vec<f32>, bool) {
    bar.set_message("measuring");
    bar.set_length(run.seconds);
    let (mut seconds, mut ticks_ms, mut has_gap) = (Vec::new(), Vec::new(), false);
    // What is known before counts for joining the histories, not for the result.
    let mut before = look_at_ticks(host).await.unwrap_or_default();
    let known = before.len();
    let began_us = now_us();
    let mut last = (began_us, load_and_server(host), crowd.flow());
    for second in 1..=run.seconds {
        let next_us = began_us + second * 1_000_000;
        tokio::time::sleep(Duration::from_micros(next_us.saturating_sub(now_us()))).await;
        crowd.judge();
        let now = (now_us(), load_and_server(host), crowd.flow());
        seconds.push(second_of(run, began_us, (&last, &now), crowd.inside()));
        last = now;
        if second.is_multiple_of(TICKS_EVERY_S) || second == run.seconds {
            let newest = look_at_ticks(host).await.unwrap_or_default();
            match continued(&before, &newest) {
                Some(more) => before.extend_from_slice(more),
                None => {
                    has_gap = true;
                    before.extend(newest);
                }
            }
        }
        bar.set_position(second);
    }
    ticks_ms.extend_from_slice(before.get(known..).unwrap_or_default());
    (seconds, ticks_ms, has_gap)
}

/// Asks the server for its ticks without holding up the crowd.
async fn look_at_ticks(host: &Host) -> Option<Vec<f32>> {
    let host = host.clone();
    tokio::task::spawn_blocking(move || host.last_ticks_ms().ok()).await.ok().flatten()
}

/// Microseconds of CPU of the load and of the server, and the server's memory.
type Used = (f64, Option<f64>, Option<f64>);

fn load_and_server(host: &Host) -> Used {
    // Without the metrics: they would cost the server something every second.
    let seen = Host { http: None, ..host.clone() }.counters();
    (cpu_us(std::process::id()).unwrap_or(0.0), seen.cpu_us, seen.rss_kb)
}

fn second_of(
    run: &Run,
    began_us: u64,
    (last, now): (&(u64, Used, [u64; 4]), &(u64, Used, [u64; 4])),
    clients: u32,
) -> Second {
    let wall_us = (now.0 - last.0).max(1) as f64;
    let [frames, inputs, bytes, lost] =
        std::array::from_fn(|index| now.2[index].saturating_sub(last.2[index]));
    let per_s = |count: u64| count as f64 * 1e6 / wall_us;
    Second {
        at_s: (now.0 - began_us) as f64 / 1e6,
        clients,
        frames_per_s: per_s(frames),
        inputs_per_s: per_s(inputs),
        server_cpu: now.1.1.zip(last.1.1).map(|(now, last)| (now - last) / wall_us),
        load_cpu: (now.1.0 - last.1.0) / wall_us,
        frames_kbit_s: per_s(bytes) * 8.0 / 1_000.0 / f64::from(run.clients),
        server_rss_mb: now.1.2.map(|kb| kb / 1_024.0),
        lost,
    }
}

fn described(run: &Run) -> Map<String, Value> {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let mut map = Map::new();
    map.insert("command".into(), json!(format!("ecumene-soak {}", command.join(" "))));
    map.insert("clients".into(), json!(run.clients));
    map.insert("seconds".into(), json!(run.seconds));
    map.insert("scenario".into(), json!(run.scenario.to_string()));
    map.insert("hz".into(), json!(run.hz));
    map.insert("seed".into(), json!(run.seed));
    map.insert("ramp_per_s".into(), json!(run.ramp));
    map.insert("pinned".into(), json!(run.pin));
    map.insert("impaired".into(), json!(run.impair.is_some()));
    map.insert("processor".into(), json!(processor()));
    map.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
    map
}

/// Measures what the machine takes for datagrams of the sizes that went to and fro.
fn measure_floor(report: &mut Report) -> Result<()> {
    let bytes = |key: &str| report.more.get(key).and_then(Value::as_f64);
    let (Some(down), Some(up)) = (bytes("datagram_bytes_down"), bytes("datagram_bytes_up")) else {
        return Ok(());
    };
    let payload = |bytes: f64| (bytes - UDP_AND_TAG_BYTES).max(1.0) as usize;
    let floor_us = floor::us_per_client_tick(payload(down), payload(up))?;
    report.set("floor_us_per_client_tick", Some(floor_us));
    let cpu = report.number("server_cpu_us_per_client_tick");
    report.set("floor_ratio", cpu.map(|cpu| cpu / floor_us));
    Ok(())
}

fn write_report(report: &Report, json: &Path) -> Result<[PathBuf; 3]> {
    let files = [json.to_owned(), json.with_extension("csv"), json.with_extension("html")];
    let text = serde_json::to_string_pretty(&report.json())? + "\n";
    for (path, text) in files.iter().zip([text, report.csv(), page::html(report)]) {
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(files)
}

fn summary(report: &Report, files: &[PathBuf]) -> String {
    let shown = |key: &str| {
        report.number(key).map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
    };
    let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    let kills = report.number("kills").map_or_else(String::new, |kills| {
        format!(
            "kills {kills}   serving again {} s at most   95 of 100 back {} s later at most   acts \
             acknowledged {}, lost {}, doubled {}\n",
            shown("serving_again_s_max"),
            shown("back_95_s_max"),
            report.more.get("acts_acknowledged").unwrap_or(&Value::Null),
            shown("acts_lost"),
            shown("acts_doubled"),
        )
    });
    format!(
        "{kills}clients held {}   lost {}   tick p50 {} p99 {} max {} ms   {} us per client tick   {}\n{}\n",
        shown("clients_held"),
        shown("disconnects"),
        shown("tick_ms_p50"),
        shown("tick_ms_p99"),
        shown("tick_ms_max"),
        shown("server_cpu_us_per_client_tick"),
        if report.invalid.is_empty() {
            "valid".to_owned()
        } else {
            format!("NOT VALID: {}", report.invalid.join("; "))
        },
        files.join("  "),
    )
}
