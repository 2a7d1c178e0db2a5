//! Carries out what was typed: on the running server where one runs, else on the files.
//!
//! Answers go to the given writer, progress to the terminal's error side. What can be typed is
//! [`crate::cli`]'s.

mod offline;
mod serve;
mod shard;
#[cfg(test)]
mod tests;
mod wire;
mod worlds;

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::admin::{AdminReply, AdminRequest, Progress};
use crate::admission::Role;
use crate::cli::{
    Cli, Command, Exit, Failure, PlaceArgs, PlayerCommand, TokenCommand, WireCommand, print,
    span::Span,
};
use crate::config::Settings;
use crate::io::admin::top::{self, TopError};
use crate::io::admin::{CallError, call};
use crate::io::launch::{LaunchError, Place};
use crate::io::{clock, files, rng};
use crate::store::StoreError;
use crate::token;
use crate::world::Manifest;

/// Bytes of a typed confirmation: a name, twice over.
const CONFIRMATION_BYTES_MAX: u64 = 1_024;

/// Carries out `cli` and writes what came of it to `out`.
///
/// # Errors
/// [`Failure`] with what is wrong, what to do, and the exit code.
pub fn run(cli: Cli, out: &mut dyn Write) -> Result<Exit, Failure> {
    let place = place(cli.place);
    if let Command::Status { json: true } = cli.command {
        return status_json(&World::find(&place)?, out);
    }
    if let Command::Audit { last, json: true } = cli.command {
        return audit_json(&World::find(&place)?, last, out);
    }
    if let Command::Player(PlayerCommand::Erase { who, yes: false }) = &cli.command {
        confirm(&who.to_string())?;
    }
    let mut request = cli.command.request(clock::unix_s());
    if let Some(AdminRequest::Backup { to: Some(path) }) = &mut request {
        // The server may run in another working folder.
        *path = files::absolute(Path::new(path));
    }
    match request {
        Some(request) => ask(&World::find(&place)?, request, out),
        None => run_here(&place, cli.command, out),
    }
}

/// Carries out a command that asks no server.
fn run_here(place: &Place, command: Command, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => serve::serve(place.clone(), args, out),
        Command::Shard(args) => shard::shard(place, args, out),
        Command::Config => say(out, &place.settings()?.to_toml()),
        Command::World(command) => worlds::run(place, command, out),
        Command::Token(TokenCommand::Narrow { token, role, lasts }) => {
            say(out, &narrow(&token, role, lasts)?)
        }
        Command::Restore { file, into } => offline::restore(place, &file, &into, out),
        Command::Verify { backup: Some(file) } => offline::verify_backup(&file, out),
        Command::Compact => offline::compact(&World::find(place)?.data, out),
        Command::Top => show_top(&World::find(place)?.data),
        Command::Wire(WireCommand::Dump { file, json, secrets }) => {
            wire::dump(&file, json, secrets, out)
        }
        Command::Stop { .. }
        | Command::Status { .. }
        | Command::Player(_)
        | Command::Announce { .. }
        | Command::Token(_)
        | Command::Backup { .. }
        | Command::Verify { backup: None }
        | Command::Audit { .. }
        | Command::Reload
        | Command::Asset(_)
        | Command::Shards { .. } => Err(Failure::new(Exit::Failed, "this command asks a server")),
    }
}

fn place(args: PlaceArgs) -> Place {
    let flag = |(key, value): (String, String)| (format!("--set {key}={value}"), key, value);
    Place {
        root: args.data,
        config: args.config,
        world: args.world,
        flags: args.set.into_iter().map(flag).collect(),
    }
}

/// The world that commands are about.
struct World {
    settings: Settings,
    data: PathBuf,
    manifest: Manifest,
}

impl World {
    fn find(place: &Place) -> Result<Self, Failure> {
        let settings = place.settings()?;
        let (data, manifest) = place.world(&settings)?;
        Ok(Self { settings, data, manifest })
    }
}

/// Asks the running server, or does it on the files when none runs.
fn ask(world: &World, request: AdminRequest, out: &mut dyn Write) -> Result<Exit, Failure> {
    answer(&reply_to(world, request)?, out)
}

fn reply_to(world: &World, request: AdminRequest) -> Result<AdminReply, Failure> {
    let bar = Bar::default();
    let reply = match call(&world.data, request.clone(), |progress| bar.show(&progress)) {
        Ok(reply) => reply,
        Err(absent @ CallError::NotRunning(_)) => {
            let done = offline::ask(world, &request, &bar)?;
            done.ok_or_else(|| Failure::new(Exit::NotRunning, absent))?
        }
        Err(error) => return Err(error.into()),
    };
    bar.finish();
    Ok(reply)
}

fn audit_json(world: &World, last: u32, out: &mut dyn Write) -> Result<Exit, Failure> {
    let reply = reply_to(world, AdminRequest::Audit { last })?;
    let AdminReply::Audit(entries) = reply else { return answer(&reply, out) };
    say(out, &print::audit_json(&entries).map_err(|error| failed(&error))?)
}

/// Lets somebody at a terminal type again whom they want to erase.
#[expect(clippy::print_stderr, reason = "a question to whoever sits at the terminal")]
fn confirm(who: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let hint = "nobody can be asked here; say --yes to erase without a question";
        return Err(Failure::new(Exit::Usage, hint));
    }
    eprintln!("What is kept of `{who}` is erased for good, in every backup too.");
    eprintln!("Type `{who}` again to do it:");
    let mut typed = String::new();
    std::io::stdin().lock().take(CONFIRMATION_BYTES_MAX).read_line(&mut typed).map_err(
        |error| Failure::new(Exit::Failed, format!("cannot read what was typed: {error}")),
    )?;
    if typed.trim() == who {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "that is somebody else; nothing was erased"))
}

fn answer(reply: &AdminReply, out: &mut dyn Write) -> Result<Exit, Failure> {
    if let AdminReply::Failed(why) = reply {
        return Err(Failure::new(Exit::Refused, why));
    }
    say(out, &print::reply(reply, clock::unix_s()))?;
    let is_unsound = matches!(reply, AdminReply::Verified { problems, .. } if !problems.is_empty());
    Ok(if is_unsound { Exit::Failed } else { Exit::Done })
}

fn status_json(world: &World, out: &mut dyn Write) -> Result<Exit, Failure> {
    let reply = call(&world.data, AdminRequest::Status, |_| {})?;
    let AdminReply::Status(status) = reply else { return answer(&reply, out) };
    let text = serde_json::to_string(&status).map_err(|error| failed(&error))?;
    say(out, &(text + "\n"))
}

fn show_top(data: &Path) -> Result<Exit, Failure> {
    if !std::io::stdout().is_terminal() {
        let hint = "`ecumene top` needs a terminal; use `ecumene status` in scripts";
        return Err(Failure::new(Exit::Usage, hint));
    }
    match top::show(data) {
        Ok(()) => Ok(Exit::Done),
        Err(TopError::Call(error)) => Err(error.into()),
        Err(TopError::Refused(why)) => Err(Failure::new(Exit::Refused, why)),
        Err(error @ TopError::Terminal(_)) => Err(failed(&error)),
    }
}

fn narrow(text: &str, role: Option<Role>, lasts: Option<Span>) -> Result<String, Failure> {
    let usage = |error: &dyn std::error::Error| Failure::new(Exit::Usage, error);
    let bytes = token::from_text(text).map_err(|error| usage(&error))?;
    let until_s = lasts.map(|lasts| clock::unix_s().saturating_add(lasts.0));
    let narrowed = token::narrow(&bytes, role, until_s, &rng::random());
    let narrowed = narrowed.map_err(|error| usage(&error))?;
    Ok(token::to_text(&narrowed).map_err(|error| usage(&error))? + "\n")
}

fn say(out: &mut dyn Write, text: &str) -> Result<Exit, Failure> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| failed(&error))?;
    Ok(Exit::Done)
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, error)
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        let exit = match &error {
            LaunchError::Settings(_)
            | LaunchError::Level { .. }
            | LaunchError::NoSuchFile { .. }
            | LaunchError::World(_)
            | LaunchError::NoSuchWorld { .. }
            | LaunchError::WorldExists { .. } => Exit::Usage,
            LaunchError::Decision(_) => Exit::Refused,
            LaunchError::Store(StoreError::InUse { .. }) => Exit::Busy,
            LaunchError::Store(_) | LaunchError::File(_) | LaunchError::Access(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let exit = match &error {
            CallError::NotRunning(_) => Exit::NotRunning,
            CallError::NotYours(_) => Exit::Refused,
            CallError::Broken(_) | CallError::Unreadable(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        LaunchError::Store(error).into()
    }
}

/// A bar on the terminal's error side; nothing where that is no terminal.
struct Bar(ProgressBar);

impl Default for Bar {
    fn default() -> Self {
        let style =
            ProgressStyle::with_template("{msg} {bar:40} {human_pos} of {human_len}, {eta}");
        let bar = ProgressBar::hidden();
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }
}

impl Bar {
    fn show(&self, progress: &Progress) {
        self.count(&progress.what, progress.done, progress.total);
    }

    fn count(&self, what: &str, done: u64, total: u64) {
        if self.0.is_hidden() && std::io::stderr().is_terminal() {
            self.0.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        self.0.set_length(total);
        self.0.set_position(done);
        if self.0.message() != what {
            self.0.set_message(what.to_owned());
        }
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
