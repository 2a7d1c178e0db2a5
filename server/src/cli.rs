//! What can be typed: commands, flags, their help, and what each exit code means.
//!
//! Carrying commands out is [`crate::io::command`]'s; printing what came of them `print`'s.

pub mod banner;
pub mod print;
mod shards;
pub mod span;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use protocol::ids::{ContentHash, PersonId};
use protocol::io::ServerKey;

use crate::admin::{ASSETS_LISTED_MAX, AdminRequest, Who};
use crate::admission::Role;
use crate::io::record::RecordTo;
use crate::token::{Purpose, TokenId};

use span::Span;

pub use shards::ShardsCommand;

/// How a command ended, as the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// What was typed, or a configuration file, makes no sense.
    Usage = 2,
    /// The server refused.
    Refused = 3,
    /// The command needs a running server, and none runs.
    NotRunning = 4,
    /// Another process has the world's folder open.
    Busy = 5,
}

/// A command that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub message: String,
}

impl Failure {
    /// Returns the failure that says `message`.
    pub fn new(exit: Exit, message: impl ToString) -> Self {
        Self { exit, message: message.to_string() }
    }
}

const EXAMPLES: &str = "\
Start here:
  ecumene serve                        make a world if there is none, and run it
  ecumene status                       what the running world is doing
  ecumene top                          the same, live
  ecumene token mint --role member     let somebody in
  ecumene stop --in 5m                 stop, and tell everybody in time

With a running server, commands ask it over a socket in the world's folder.
Without one, these work on the files: token, player ban|unban|bans|mute|unmute|role|erase,
backup, restore, verify, compact, audit, world, config. All others need the server.

Exit codes: 0 done, 1 failed, 2 usage or settings, 3 refused, 4 no server runs,
5 another process has the world open.";

/// Host shared worlds.
#[derive(Clone, Debug, Parser)]
#[command(name = "ecumene", version, after_help = EXAMPLES, max_term_width = 90)]
pub struct Cli {
    #[command(flatten)]
    /// Where things are.
    pub place: PlaceArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where things are and what is set; good for every command.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// The folder of all worlds [default: `$ECUMENE_HOME`, or ~/.local/share/ecumene].
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The world, as `ecumene world list` names it [default: home].
    #[arg(long, global = true, value_name = "NAME")]
    pub world: Option<String>,
    /// The configuration file [default: ./ecumene.toml, then ecumene.toml beside the worlds].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one setting, over files and environment; `ecumene config` shows all of them.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("expected KEY=VALUE, such as chat.nearby_m=30")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a world until it is stopped
    #[command(after_help = "\
Examples:
  ecumene serve
  ecumene serve --listen 0.0.0.0:4433 --set admission.guests=anyone
  ecumene serve --world test --seed 7 --data /srv/ecumene

The first start makes the world, an identity that clients pin, and one admin token
that is printed once. Ctrl-C stops in good order.")]
    Serve(ServeArgs),
    /// Run shards of a world in a process of their own
    #[command(after_help = "\
Example, on this machine or another (the token comes from `ecumene token mint --shards`):
  ECUMENE_TOKEN=... ecumene shard --join 127.0.0.1:4433 --server-key KEY --regions 0,1,2

The server hands the regions over while everybody plays on. Ctrl-C gives them back. If this
process is lost, they go on in the server with all that was confirmed; if the server is
lost, this process waits for it to come back.")]
    Shard(ShardArgs),
    /// Stop the running server in good order
    #[command(after_help = "\
Examples:
  ecumene stop --in 5m --why \"new version\"
  ecumene stop --redirect play.example:4433    clients go on there, in the same avatars

Whoever is sent elsewhere comes back by themselves until the world is served there.")]
    Stop {
        /// Time until then, such as 30s, 5m or 1h; everybody is told at once.
        #[arg(long = "in", value_name = "TIME", default_value = "0s")]
        after: Span,
        /// Why, as clients are told.
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
        /// Where clients go on when it stops: the address at which this world, with the same
        /// identity, is served next.
        #[arg(long, value_name = "HOST:PORT", value_parser = shards::host_port)]
        redirect: Option<String>,
    },
    /// Show what the running world is doing
    Status {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show the running world live, once a second; q leaves
    Top,
    /// See and move people, and keep them out
    #[command(subcommand)]
    Player(PlayerCommand),
    /// Say something to everybody
    Announce {
        /// What.
        text: String,
    },
    /// Let people in
    #[command(subcommand)]
    Token(TokenCommand),
    /// Write a backup of the world while it runs, or while it does not
    #[command(after_help = "\
The file holds the world, not the keys to what is personal: those stay in the world's
folder, so that nothing erased comes back. Keep identity.key safe on its own.")]
    Backup {
        /// The file to write [default: a name with the time, in the backup folder].
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Make a world from a backup
    #[command(after_help = "Example:\n  ecumene restore monday.backup --into home-monday")]
    Restore {
        /// The backup.
        file: PathBuf,
        /// Name of the world to make; there must be none of that name.
        #[arg(long, value_name = "NAME")]
        into: String,
    },
    /// Read everything that is stored and check it
    Verify {
        /// Check a backup instead of the world.
        #[arg(long, value_name = "FILE")]
        backup: Option<PathBuf>,
    },
    /// Rewrite the world's database to its smallest size (while no server runs)
    Compact,
    /// Make worlds and look at them
    #[command(subcommand)]
    World(WorldCommand),
    /// Show every setting, what it means and where its value comes from
    #[command(after_help = "\
The output is a configuration file. Sources, weakest first: built-in defaults, the
general ecumene.toml, the world's own ecumene.toml, ECUMENE_* variables (such as
ECUMENE_SERVER_LISTEN), --set and other flags.

Examples:
  ecumene config > ecumene.toml
  ecumene config --set chat.nearby_m=30")]
    Config,
    /// Show what operators did, and how it went
    #[command(after_help = "\
Every command that changes something is written down before it is carried out and again
when it is: when, by whom, what. The newest 10000 are kept.

Examples:
  ecumene audit --last 20
  ecumene audit --last 10000 --json | grep 'player ban'")]
    Audit {
        /// How many, counted back from the newest.
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: u32,
        /// As one JSON object per line, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Let the running server read its configuration again
    Reload,
    /// Show the running world's shards; split, merge and move them
    #[command(after_help = "\
Examples:
  ecumene shards                        which there are, and where they run
  ecumene shards split 4                region 4 becomes its four quarters
  ecumene shards merge 9                region 9 and its three siblings become one
  ecumene shards move 9 127.0.0.1:5000  region 9 runs in the process that joined from there
  ecumene shards move 9 here            and in the server again")]
    Shards {
        /// What to do; nothing shows them.
        #[command(subcommand)]
        command: Option<ShardsCommand>,
    },
    /// See and remove what people share
    #[command(subcommand)]
    Asset(AssetCommand),
    /// Look into what clients and servers say to each other
    #[command(subcommand)]
    Wire(WireCommand),
}

/// What can be done about what people share.
#[derive(Clone, Debug, Subcommand)]
pub enum AssetCommand {
    /// Show what people share, for whom, and how long it is kept
    List {
        /// Whose [default: everybody's].
        #[arg(long, value_name = "ID")]
        owner: Option<PersonId>,
        /// How many, counted back from the newest.
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(ASSETS_LISTED_MAX)))]
        last: u32,
    },
    /// Remove what somebody shares; nobody is given it any more
    #[command(after_help = "\
Examples:
  ecumene asset remove 4f1c...                 whoever shares it
  ecumene asset remove 4f1c... --owner p-1f    one person's alone

It can be shared again. Who shares what nobody should see can be muted or banned:
the muted share nothing.")]
    Remove {
        /// Its hash, as `ecumene asset list` shows it.
        hash: ContentHash,
        /// Whose [default: everybody's].
        #[arg(long, value_name = "ID")]
        owner: Option<PersonId>,
    },
}

impl AssetCommand {
    fn request(&self) -> AdminRequest {
        match *self {
            Self::List { owner, last } => AdminRequest::AssetList { owner, last },
            Self::Remove { hash, owner } => {
                AdminRequest::AssetRemove { hash: hash.to_string(), owner }
            }
        }
    }
}

/// What can be seen of the wire.
#[derive(Clone, Debug, Subcommand)]
pub enum WireCommand {
    /// Explain a recorded session, one line per frame and datagram
    #[command(after_help = "\
Example:
  ecumene-viewer --headless --connect 127.0.0.1:4433 --record-wire visit.wire
  ecumene wire dump visit.wire")]
    Dump {
        /// The recording, as `ecumene-viewer --record-wire FILE` makes it.
        file: PathBuf,
        /// As one JSON object per line, for programs.
        #[arg(long)]
        json: bool,
        /// Show tokens, tickets and signatures, too: whoever reads them can use them.
        #[arg(long)]
        secrets: bool,
    },
}

/// How to run a world.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// UDP address for players, short for --set server.listen=ADDR.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// File of ground heights for a new world, short for --set world.terrain=FILE.
    #[arg(long, value_name = "FILE")]
    pub terrain: Option<String>,
    /// What a new world's ground grows from; an existing world must have grown from the same.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// File for TLS secrets, short for --set server.keylog=FILE.
    #[arg(long, value_name = "FILE")]
    pub keylog: Option<String>,
    /// Record all that goes into each step to a new file, for `ecumene-sim --replay`: everything
    /// that anybody does or says is in it. A split or merge of regions ends the recording.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// MiB after which the recording ends, while the world goes on.
    #[arg(long, value_name = "MIB", default_value_t = 1_024, requires = "record")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub record_max: u64,
}

impl ServeArgs {
    /// Returns what is to be recorded, if anything is.
    #[must_use]
    pub fn recording(&self) -> Option<RecordTo> {
        let path = self.record.clone()?;
        Some(RecordTo { path, bytes_max: self.record_max << 20 })
    }

    /// Returns the settings that flags of their own stand for: `(flag, key, value)`.
    #[must_use]
    pub fn flags(&self) -> Vec<(String, String, String)> {
        let flag = |name: &str, key: &str, value: &Option<String>| {
            let value = value.clone()?;
            Some((format!("--{name} {value}"), key.to_owned(), value))
        };
        let flags = [
            flag("listen", "server.listen", &self.listen),
            flag("terrain", "world.terrain", &self.terrain),
            flag("keylog", "server.keylog", &self.keylog),
        ];
        flags.into_iter().flatten().collect()
    }
}

/// How to run shards for a server.
#[derive(Clone, Debug, Args)]
pub struct ShardArgs {
    /// The server: its UDP address for players.
    #[arg(long, value_name = "HOST:PORT")]
    pub join: String,
    /// The server's identity key, as it prints at its start.
    #[arg(long, value_name = "KEY")]
    pub server_key: ServerKey,
    /// The right to run shards, from `ecumene token mint --shards`.
    #[arg(long, value_name = "TOKEN", env = "ECUMENE_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Which regions, as `ecumene shards` lists them.
    #[arg(long, value_name = "N,N", value_delimiter = ',', required = true)]
    pub regions: Vec<u32>,
}

/// What can be done about people.
#[derive(Clone, Debug, Subcommand)]
pub enum PlayerCommand {
    /// Who is in
    List,
    /// Put somebody out; they may come back
    Kick {
        /// Their name or id (p-1f).
        who: Who,
        /// Why, as they are told.
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
    /// Keep somebody out, and put them out
    #[command(after_help = "\
Examples:
  ecumene player ban Ada --for 1d --why \"shouting\"
  ecumene player ban 2001:db8::1          everybody in that /64 network")]
    Ban {
        /// Their name, id (p-1f), key (64 hexadecimal digits) or address.
        who: Who,
        /// For how long, such as 30m, 1d or 2w [default: until lifted].
        #[arg(long = "for", value_name = "TIME")]
        lasts: Option<Span>,
        /// Why, as they are told.
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
    /// Let somebody in again
    Unban {
        /// Their id, key or address, as `ecumene player bans` shows it.
        who: Who,
    },
    /// Who is kept out
    Bans,
    /// Keep somebody from speaking
    Mute {
        /// Their name or id.
        who: Who,
        /// For how long [default: until lifted].
        #[arg(long = "for", value_name = "TIME")]
        lasts: Option<Span>,
    },
    /// Let somebody speak again
    Unmute {
        /// Their name or id.
        who: Who,
    },
    /// Move somebody's avatar
    #[command(allow_negative_numbers = true)]
    Move {
        /// Their name or id.
        who: Who,
        /// Metres east of the origin.
        x_m: i32,
        /// Metres south of the origin.
        z_m: i32,
    },
    /// Erase what is kept of somebody, for good, and put them out
    #[command(after_help = "\
Their record, what their avatar holds, what they share, their role and their mute go, and
what was lent to or by them ends. Their key file is destroyed, so that no backup brings
anything back. They may come again, as a newcomer; a ban stays. Asks for their name or id
again, unless --yes.

Example:
  ecumene player erase p-1f")]
    Erase {
        /// Their name, id (p-1f) or key (64 hexadecimal digits).
        who: Who,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Give somebody a role for good
    Role {
        /// Their name or id.
        who: Who,
        /// visitor, member, moderator or admin.
        role: Role,
    },
}

/// What can be done about tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown this once
    #[command(
        after_help = "Example:\n  ecumene token mint --role moderator --for 90d --note \"for Ada\""
    )]
    Mint {
        /// visitor, member, moderator or admin.
        #[arg(long, default_value = "member")]
        role: Role,
        /// For processes that run shards (`ecumene shard`), instead of people.
        #[arg(long, conflicts_with_all = ["role", "person"])]
        shards: bool,
        /// For how long it is good.
        #[arg(long = "for", value_name = "TIME", default_value = "30d")]
        lasts: Span,
        /// The only person who may use it, together with their key.
        #[arg(long, value_name = "ID")]
        person: Option<PersonId>,
        /// What it is for, as `ecumene token list` shows.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Show which tokens there are
    List,
    /// Make a token worthless
    Revoke {
        /// Its id, as `ecumene token list` shows it.
        id: TokenId,
    },
    /// Make a lesser token from a token; needs no server
    Narrow {
        /// The token.
        token: String,
        /// The most the new one allows.
        #[arg(long)]
        role: Option<Role>,
        /// For how long the new one is good.
        #[arg(long = "for", value_name = "TIME")]
        lasts: Option<Span>,
    },
}

/// What can be done about worlds.
#[derive(Clone, Debug, Subcommand)]
pub enum WorldCommand {
    /// Make a world
    New {
        /// Its name: small letters, digits and hyphens.
        name: String,
        /// What its ground grows from [default: chance].
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// A file of ground heights instead of generated ground.
        #[arg(long, value_name = "FILE")]
        terrain: Option<PathBuf>,
        /// Whom it is meant for.
        #[arg(long, default_value = "everyone")]
        rating: String,
    },
    /// Show which worlds there are
    List,
    /// Show what a world is
    Info,
    /// Draw a world's ground as a picture
    #[command(after_help = "Example:\n  ecumene world preview --out map.png --metres 2")]
    Preview {
        /// The PNG file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Metres per pixel.
        #[arg(long, value_name = "N", default_value_t = 4)]
        metres: u32,
        /// Pixels along each side.
        #[arg(long, value_name = "N", default_value_t = 768)]
        pixels: u32,
    },
}

impl Command {
    /// Returns what `self` asks of a server at `now_s` (Unix time in seconds); nothing if it is
    /// carried out in some other way.
    #[must_use]
    pub fn request(&self, now_s: u64) -> Option<AdminRequest> {
        Some(match self {
            Self::Stop { after, why, redirect } => AdminRequest::Stop {
                in_ms: after.0.saturating_mul(1_000),
                why: why.clone(),
                redirect: redirect.clone(),
            },
            Self::Status { .. } => AdminRequest::Status,
            Self::Player(command) => command.request(now_s),
            Self::Announce { text } => AdminRequest::Announce { text: text.clone() },
            Self::Token(command) => command.request()?,
            Self::Reload => AdminRequest::Reload,
            Self::Audit { last, .. } => AdminRequest::Audit { last: *last },
            Self::Shards { command: None } => AdminRequest::ShardList,
            Self::Shards { command: Some(command) } => command.request(),
            Self::Asset(command) => command.request(),
            Self::Verify { backup: None } => AdminRequest::Verify,
            Self::Backup { to } => {
                AdminRequest::Backup { to: to.as_ref().map(|path| path.display().to_string()) }
            }
            Self::Serve(_)
            | Self::Shard(_)
            | Self::Top
            | Self::Restore { .. }
            | Self::Verify { backup: Some(_) }
            | Self::Compact
            | Self::World(_)
            | Self::Wire(_)
            | Self::Config => return None,
        })
    }
}

impl PlayerCommand {
    fn request(&self, now_s: u64) -> AdminRequest {
        let until = |lasts: &Option<Span>| lasts.map(|lasts| now_s.saturating_add(lasts.0));
        match self.clone() {
            Self::List => AdminRequest::PlayerList,
            Self::Kick { who, why } => AdminRequest::Kick { who, why },
            Self::Ban { who, lasts, why } => AdminRequest::Ban { who, until_s: until(&lasts), why },
            Self::Unban { who } => AdminRequest::Unban { who },
            Self::Bans => AdminRequest::BanList,
            Self::Mute { who, lasts } => AdminRequest::Mute { who, until_s: until(&lasts) },
            Self::Unmute { who } => AdminRequest::Unmute { who },
            Self::Move { who, x_m, z_m } => AdminRequest::Move { who, to_m: [x_m, z_m] },
            Self::Erase { who, .. } => AdminRequest::Erase { who },
            Self::Role { who, role } => AdminRequest::Role { who, role },
        }
    }
}

impl TokenCommand {
    fn request(&self) -> Option<AdminRequest> {
        match self.clone() {
            Self::Mint { role, shards, lasts, person, note } => {
                let (purpose, role) = match shards {
                    true => (Purpose::Shards, Role::Visitor),
                    false => (Purpose::People, role),
                };
                let lasts_s = lasts.0;
                Some(AdminRequest::TokenMint { purpose, role, person, lasts_s, note })
            }
            Self::List => Some(AdminRequest::TokenList),
            Self::Revoke { id } => Some(AdminRequest::TokenRevoke { id }),
            Self::Narrow { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Returns what a command line asks of a server.
    pub(super) fn request(line: &str) -> AdminRequest {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        cli.command.request(1_000).unwrap()
    }

    /// Returns why a command line is refused.
    pub(super) fn refused(line: &str) -> String {
        Cli::try_parse_from(line.split(' ')).unwrap_err().to_string()
    }

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lines_become_requests() {
        let stop = |redirect: Option<&str>| {
            let redirect = redirect.map(str::to_owned);
            AdminRequest::Stop { in_ms: 300_000, why: String::new(), redirect }
        };
        assert_eq!(request("ecumene stop --in 5m"), stop(None));
        let elsewhere = request("ecumene stop --in 5m --redirect [::1]:4433");
        assert_eq!(elsewhere, stop(Some("[::1]:4433")));
        let who: Who = "Ada".parse().unwrap();
        let ban = AdminRequest::Ban { who: who.clone(), until_s: Some(87_400), why: String::new() };
        assert_eq!(request("ecumene player ban Ada --for 1d"), ban);
        let to_m = [-5, 7];
        assert_eq!(request("ecumene player move Ada -5 7"), AdminRequest::Move { who, to_m });
        let mint = request("ecumene token mint --person p-1f");
        let expected = AdminRequest::TokenMint {
            purpose: Purpose::People,
            role: Role::Member,
            person: Some(PersonId(0x1F)),
            lasts_s: 30 * 86_400,
            note: String::new(),
        };
        assert_eq!(mint, expected);
        let hash = "ab".repeat(32);
        let remove = request(&format!("ecumene asset remove {hash} --owner p-1f"));
        assert_eq!(remove, AdminRequest::AssetRemove { hash, owner: Some(PersonId(0x1F)) });
        assert!(refused("ecumene asset remove ab").contains("64 hexadecimal digits"));
        let list = AdminRequest::AssetList { owner: None, last: 1_000 };
        assert_eq!(request("ecumene asset list"), list);
        let list = AdminRequest::AssetList { owner: Some(PersonId(0x1F)), last: 5 };
        assert_eq!(request("ecumene asset list --owner p-1f --last 5"), list);
        assert!(refused("ecumene asset list --last 20000").contains("1..=10000"));
        // A name, though it has the digits of a number.
        let by_name = format!("ecumene asset remove {} --owner Ada", "ab".repeat(32));
        assert!(refused(&by_name).contains("such as p-1f"));
    }

    #[test]
    fn flags_may_stand_behind_the_command_and_bad_ones_are_explained() {
        let cli = Cli::try_parse_from(["ecumene", "config", "--set", "chat.nearby_m=3"]).unwrap();
        assert_eq!(cli.place.set, [("chat.nearby_m".to_owned(), "3".to_owned())]);
        assert!(refused("ecumene config --set chat").contains("expected KEY=VALUE, such as"));
        assert!(refused("ecumene stop --in soon").contains("`soon` is no time: write 30s, 5m"));
        assert!(refused("ecumene player role Ada king").contains("unknown role `king`"));
        assert!(refused("ecumene serv").contains("serve"));
    }

    #[test]
    fn short_flags_stand_for_settings() {
        let args = ServeArgs { listen: Some("0.0.0.0:1".to_owned()), ..ServeArgs::default() };
        let expected = ("--listen 0.0.0.0:1", "server.listen", "0.0.0.0:1");
        let [(flag, key, value)] = args.flags().try_into().unwrap();
        assert_eq!((flag.as_str(), key.as_str(), value.as_str()), expected);
    }
}
