//! `ecumene-viewer`: sees a shared world and acts in it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use client_viewer::io::files::{read_script, settings_folder};
use client_viewer::io::headless::{End, Settings, run};
use client_viewer::script::{COMMANDS, EXPECTATIONS};
use protocol::ids::EntityId;
use protocol::io::tap::FileTap;
use protocol::io::{ConnectOptions, Identity, ServerKey};

/// Exit codes, as `--help` lists them.
const USAGE: u8 = 2;
const REFUSED: u8 = 10;
const LOST: u8 = 11;
const SCRIPT: u8 = 12;
const NOT_LENT: u8 = 13;

/// The identity of somebody who named none.
const IDENTITY_FILE: &str = "identity.pem";

/// Sees a shared world and acts in it.
#[derive(Debug, Parser)]
#[command(version, about, after_help = after_help(), args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    view: View,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes, shows or exports the key that says who you are.
    Identity {
        #[command(subcommand)]
        command: IdentityCommand,
    },
}

#[derive(Debug, Subcommand)]
enum IdentityCommand {
    /// Makes a new identity; an existing file is never overwritten.
    New {
        /// Where it goes [default: identity.pem in the settings folder].
        file: Option<PathBuf>,
    },
    /// Shows the public key, which servers know you by.
    Show {
        /// Which file.
        file: Option<PathBuf>,
    },
    /// Writes the private key to standard output, for another machine of yours.
    Export {
        /// Which file.
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct View {
    /// Runs without a window.
    #[arg(long)]
    headless: bool,
    /// Where the server is.
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,
    /// The server's identity; without it the first visit is trusted and remembered.
    #[arg(long, value_name = "HEX")]
    server_key: Option<ServerKey>,
    /// Servers met before [default: `known_servers` in the settings folder].
    #[arg(long, value_name = "FILE")]
    known_servers: Option<PathBuf>,
    /// Who you are; without it you come as a passing guest.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The name to show to others.
    #[arg(long, value_name = "NAME", default_value = "Visitor")]
    name: String,
    /// The operator's token.
    #[arg(long, value_name = "TOKEN", env = "ECUMENE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// An avatar of somebody else's to drive, such as e-1f; its owner must have lent it to you.
    #[arg(long, value_name = "AVATAR", value_parser = avatar)]
    drive: Option<EntityId>,
    /// The world, by name or id.
    #[arg(long, value_name = "WORLD")]
    world: Option<String>,
    /// A script to carry out.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Takes the script's commands from standard input, too.
    #[arg(long)]
    stdin: bool,
    /// Where what was seen goes as JSON lines [default: standard output].
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,
    /// Draws a map of what was seen when it ends.
    #[arg(long, value_name = "FILE.png")]
    map: Option<PathBuf>,
    /// Leaves after this time; without it when the script is done.
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
    /// Gives up after a loss instead of coming back.
    #[arg(long)]
    no_reconnect: bool,
    /// Writes TLS secrets to the file named by SSLKEYLOGFILE, for looking into packets.
    #[arg(long)]
    keylog: bool,
    /// Records what is said to a new file, for `ecumene wire dump`; secrets are in it.
    #[arg(long, value_name = "FILE")]
    record_wire: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match cli.command {
        Some(Command::Identity { command }) => finish(identity(command).map(|()| End::Fine)),
        None => finish(view(cli.view)),
    }
}

#[expect(clippy::print_stderr, reason = "why the program ends is for whoever started it")]
fn finish(end: Result<End>) -> ExitCode {
    match end {
        Ok(End::Fine) => ExitCode::SUCCESS,
        Ok(End::Refused(why)) => {
            eprintln!("not let in: {why}");
            ExitCode::from(REFUSED)
        }
        Ok(End::NotLent(why)) => {
            eprintln!("not to be driven: {why}");
            ExitCode::from(NOT_LENT)
        }
        Ok(End::Lost(why)) => {
            eprintln!("no connection: {why}");
            ExitCode::from(LOST)
        }
        Ok(End::Failed { line, why }) => {
            eprintln!("the script failed in line {line}: {why}");
            ExitCode::from(SCRIPT)
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(USAGE)
        }
    }
}

fn view(view: View) -> Result<End> {
    if !view.headless {
        bail!("this build has no window yet; run it with --headless --connect HOST:PORT");
    }
    let Some(address) = view.connect else {
        bail!("say where the server is: --connect HOST:PORT");
    };
    let identity = match view.identity {
        Some(path) => Some(Arc::new(Identity::load(&path)?)),
        None => None,
    };
    let known = view.known_servers.unwrap_or_else(|| settings_folder().join("known_servers"));
    let mut options = ConnectOptions::new(address, view.name);
    options.server_key = view.server_key;
    options.known_servers = Some(known);
    options.identity = identity;
    options.token = view.token.as_deref().map(token_bytes).transpose()?;
    options.world = view.world;
    options.drive = view.drive;
    options.software = concat!("ecumene-viewer/", env!("CARGO_PKG_VERSION")).to_owned();
    options.reconnects = !view.no_reconnect;
    options.keylog = view.keylog;
    if let Some(path) = view.record_wire {
        let tap = FileTap::create(&path);
        let tap = tap.with_context(|| format!("record to {}", path.display()))?;
        options.tap = Some(Arc::new(tap));
    }
    let script = view.script.as_deref().map(read_script).transpose()?.unwrap_or_default();
    let settings = Settings {
        // Without anything to do there is something to see.
        seconds: view.seconds.or_else(|| (script.is_empty() && !view.stdin).then_some(5.0)),
        script,
        stdin: view.stdin,
        out: view.out,
        map: view.map,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let end = runtime.block_on(Box::pin(run(options, settings)));
    // A read of standard input cannot be called off; nobody waits for it.
    runtime.shutdown_background();
    end
}

#[expect(clippy::print_stdout, reason = "the answer to the command")]
fn identity(command: IdentityCommand) -> Result<()> {
    let place =
        |file: Option<PathBuf>| file.unwrap_or_else(|| settings_folder().join(IDENTITY_FILE));
    match command {
        IdentityCommand::New { file } => {
            let path = place(file);
            let identity = Identity::create(&path)?;
            println!("{}", key(&identity));
            println!("written to {}; whoever has this file is you", path.display());
        }
        IdentityCommand::Show { file } => println!("{}", key(&Identity::load(&place(file))?)),
        IdentityCommand::Export { file } => print!("{}", Identity::load(&place(file))?.to_pem()),
    }
    Ok(())
}

fn key(identity: &Identity) -> String {
    protocol::io::trust::hex(&identity.public_key())
}

/// Returns the bytes of a token as it is handed on: URL-safe base64.
fn token_bytes(text: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    let text = text.trim();
    let bytes = URL_SAFE.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text));
    bytes.context("--token is not a token: paste the whole line that `ecumene token mint` printed")
}

fn avatar(text: &str) -> Result<EntityId, String> {
    text.parse().map_err(|_| {
        "expected an avatar's id, such as e-1f; its owner's viewer shows it".to_owned()
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, such as 10 or 2.5".to_owned()),
    }
}

fn after_help() -> String {
    let mut help = "Script commands, one a line, # begins a comment:\n".to_owned();
    for (_, form, about) in COMMANDS {
        help.push_str(&format!("  {form:<38} {about}\n"));
    }
    help.push_str("What expect waits for:\n");
    for (_, form) in EXPECTATIONS {
        help.push_str(&format!("  {form}\n"));
    }
    help.push_str(
        "Exit codes: 0 fine, 2 wrong usage, 10 refused, 11 connection lost, 12 the script failed,\n\
         13 the avatar of --drive is not lent to you (any more), or somebody else drives it",
    );
    help
}
