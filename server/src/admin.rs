//! What operators ask of a world, and what they are answered: one request and its replies.
//!
//! The same requests go to the running server over a socket and, where that makes sense, to the
//! files when none runs. Both ends are in [`crate::io::admin`]; the host carries requests out.

pub mod decisions;

use std::fmt;
use std::str::FromStr;

use protocol::ids::PersonId;
use serde::{Deserialize, Serialize};

use crate::admission::Role;
use crate::admission::access::TokenRecord;
use crate::admission::bans::{Ban, Subject};
use crate::admission::names;
use crate::audit::AuditEntry;
use crate::status::{ShardStatus, Status};
use crate::token::{Purpose, TokenId};

/// The version of these words; both ends come from one release, so they must be equal.
pub const VERSION: u16 = 1;

/// Bytes of one request: an announcement with room to spare.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one reply: a thousand dots, or 20,000 players at 200 bytes.
pub const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Assets in one reply: at 600 bytes, which is what the longest names take, 6 MB.
pub const ASSETS_LISTED_MAX: u32 = 10_000;

/// Characters of an announcement or a reason.
pub const TEXT_CHARS_MAX: usize = 500;

/// A request with the version of its words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// See [`VERSION`].
    pub version: u16,
    /// The request.
    pub request: AdminRequest,
}

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdminRequest {
    /// The picture of the world.
    Status,
    /// Who is in.
    PlayerList,
    /// Puts somebody out.
    Kick {
        /// Whom.
        who: Who,
        /// Why, as they are told.
        why: String,
    },
    /// Keeps somebody out.
    Ban {
        /// Whom.
        who: Who,
        /// Unix time in seconds at which it ends; nothing: never.
        until_s: Option<u64>,
        /// Why, as they are told.
        why: String,
    },
    /// Lifts a ban.
    Unban {
        /// Whose.
        who: Who,
    },
    /// Who is kept out.
    BanList,
    /// Keeps somebody from speaking.
    Mute {
        /// Whom.
        who: Who,
        /// Unix time in seconds at which it ends; nothing: until lifted.
        until_s: Option<u64>,
    },
    /// Lets somebody speak again.
    Unmute {
        /// Whom.
        who: Who,
    },
    /// Moves somebody's avatar.
    Move {
        /// Whose.
        who: Who,
        /// Metres east and south of the origin.
        to_m: [i32; 2],
    },
    /// Erases what is kept of somebody, and puts them out.
    Erase {
        /// Whom.
        who: Who,
    },
    /// Gives somebody a role for good.
    Role {
        /// Whom.
        who: Who,
        /// Which.
        role: Role,
    },
    /// Says something to everybody.
    Announce {
        /// What.
        text: String,
    },
    /// Makes a token.
    TokenMint {
        /// What it is good for.
        #[serde(default)]
        purpose: Purpose,
        /// The most its bearer may do.
        role: Role,
        /// The only person who may use it.
        person: Option<PersonId>,
        /// Seconds for which it is good.
        lasts_s: u64,
        /// What it is for.
        note: String,
    },
    /// Which tokens there are.
    TokenList,
    /// Makes a token worthless.
    TokenRevoke {
        /// Which.
        id: TokenId,
    },
    /// Writes a backup.
    Backup {
        /// The file to write; nothing lets the server choose a name in its backup folder.
        to: Option<String>,
    },
    /// Stops the server.
    Stop {
        /// Milliseconds until then.
        in_ms: u64,
        /// Why, as clients are told.
        why: String,
        /// Where clients are told to go on, as `HOST:PORT`; nothing: they come back here.
        #[serde(default)]
        redirect: Option<String>,
    },
    /// Reads the configuration again.
    Reload,
    /// Reads everything that is stored and checks it.
    Verify,
    /// Which shards there are.
    ShardList,
    /// Splits a region into its quarters.
    ShardSplit {
        /// Which.
        region: u32,
    },
    /// Merges a region with the three that it was split off with.
    ShardMerge {
        /// Which of the four.
        region: u32,
    },
    /// Lets a region run somewhere else.
    ShardMove {
        /// Which.
        region: u32,
        /// The address of a process that joined, or `here`.
        to: String,
    },
    /// What operators did.
    Audit {
        /// How many entries, counted back from the newest.
        last: u32,
    },
    /// What people share.
    AssetList {
        /// Whose; nothing: everybody's.
        owner: Option<PersonId>,
        /// How many, counted back from the newest; at most [`ASSETS_LISTED_MAX`].
        last: u32,
    },
    /// Removes what people share.
    AssetRemove {
        /// The hash of the content, as 64 hexadecimal digits.
        hash: String,
        /// Whose; nothing: everybody's.
        owner: Option<PersonId>,
    },
}

impl AdminRequest {
    /// Returns the request's name, for the audit and for messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::PlayerList => "player list",
            Self::Kick { .. } => "player kick",
            Self::Ban { .. } => "player ban",
            Self::Unban { .. } => "player unban",
            Self::BanList => "player bans",
            Self::Mute { .. } => "player mute",
            Self::Unmute { .. } => "player unmute",
            Self::Move { .. } => "player move",
            Self::Erase { .. } => "player erase",
            Self::Role { .. } => "player role",
            Self::Announce { .. } => "announce",
            Self::TokenMint { .. } => "token mint",
            Self::TokenList => "token list",
            Self::TokenRevoke { .. } => "token revoke",
            Self::Backup { .. } => "backup",
            Self::Stop { .. } => "stop",
            Self::Reload => "reload",
            Self::Verify => "verify",
            Self::ShardList => "shards",
            Self::ShardSplit { .. } => "shards split",
            Self::ShardMerge { .. } => "shards merge",
            Self::ShardMove { .. } => "shards move",
            Self::Audit { .. } => "audit",
            Self::AssetList { .. } => "asset list",
            Self::AssetRemove { .. } => "asset remove",
        }
    }

    /// Returns whether the request changes nothing, so that it needs no entry in the audit.
    #[must_use]
    pub const fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::PlayerList
                | Self::BanList
                | Self::TokenList
                | Self::ShardList
                | Self::Audit { .. }
                | Self::AssetList { .. }
        )
    }
}

/// Somebody, as operators name people: by id, key, address or, while they are in, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Without doubt.
    Subject(Subject),
    /// By the name they are shown by now.
    Name(String),
}

impl FromStr for Who {
    type Err = names::BadName;

    fn from_str(text: &str) -> Result<Self, names::BadName> {
        text.parse().map(Self::Subject).or_else(|_| names::clean(text).map(Self::Name))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => write!(f, "{subject}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One line of what the server answers: progress any number of times, then the reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminLine {
    /// How far a long request is; more follows.
    Progress(Progress),
    /// The answer.
    Reply(AdminReply),
}

/// What a request is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminReply {
    /// It was done, in words.
    Done(String),
    /// It was not done, and why.
    Failed(String),
    /// The picture of the world.
    Status(Box<Status>),
    /// Who is in.
    Players(Vec<Player>),
    /// Who is kept out.
    Bans(Vec<Ban>),
    /// Which tokens there are.
    Tokens(Vec<TokenRecord>),
    /// A token, which is shown this once and kept nowhere.
    Minted {
        /// What to hand on.
        token: String,
        /// What is kept of it.
        record: TokenRecord,
    },
    /// Which shards there are.
    Shards(Vec<ShardStatus>),
    /// What operators did, oldest first.
    Audit(Vec<AuditEntry>),
    /// What people share.
    Assets {
        /// Those that were asked for.
        assets: Vec<SharedAsset>,
        /// How many there are of these in all.
        of: usize,
    },
    /// The configuration was read again.
    Reloaded {
        /// Settings that are in force now.
        applied: Vec<String>,
        /// Settings that need a restart.
        restart: Vec<String>,
    },
    /// What is stored was checked.
    Verified {
        /// Records read.
        records: u64,
        /// The first problems, one line each; none is good.
        problems: Vec<String>,
    },
}

/// How far a long request is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub what: String,
    /// How much of it is done.
    pub done: u64,
    /// How much there is.
    pub total: u64,
}

/// Something that somebody shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedAsset {
    /// The hash of its bytes, as 64 hexadecimal digits.
    pub hash: String,
    /// Whose it is.
    pub owner: PersonId,
    /// How many bytes it has.
    pub length: u64,
    /// What it is, as a media type.
    pub media: String,
    /// What it is called.
    pub name: String,
    /// Who may fetch it, in words.
    pub audience: String,
    /// Unix time in seconds at which it goes.
    pub until_s: u64,
}

/// Somebody who is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Player {
    /// Who.
    pub person: PersonId,
    /// The name they are shown by.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Where their avatar is: metres east and south of the origin.
    pub at_m: [i32; 2],
    /// Round trip to their client in milliseconds.
    pub ping_ms: u32,
    /// Seconds since they came in.
    pub for_s: u64,
    /// Whether they may not speak.
    pub is_muted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(request: AdminRequest) -> String {
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<AdminRequest>(&text).unwrap(), request);
        text
    }

    #[test]
    fn requests_are_lines_that_people_can_read() {
        assert_eq!(round(AdminRequest::Status), r#"{"do":"status"}"#);
        let who = "Ada".parse().unwrap();
        let kick = AdminRequest::Kick { who, why: "bye".to_owned() };
        assert_eq!(round(kick), r#"{"do":"kick","who":"Ada","why":"bye"}"#);
        let ban = AdminRequest::Ban {
            who: "192.0.2.1".parse().unwrap(),
            until_s: None,
            why: String::new(),
        };
        round(ban);
        round(AdminRequest::TokenRevoke { id: TokenId(7) });
    }

    #[test]
    fn people_are_named_by_what_is_surest() {
        let who = |text: &str| text.parse::<Who>().unwrap();
        assert_eq!(who("p-1f"), Who::Subject(Subject::Person(PersonId(0x1F))));
        assert!(matches!(who("2001:db8::1"), Who::Subject(Subject::Address(_))));
        assert_eq!(who(" Ada  L "), Who::Name("Ada L".to_owned()));
        assert!("".parse::<Who>().is_err());
    }

    #[test]
    fn words_of_another_version_are_not_guessed_at() {
        for text in [
            r#"{"do":"fly"}"#,
            r#"{"do":"kick","who":"Ada"}"#,
            r#"{"do":"announce","text":"hi","x":1}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<AdminRequest>(text).is_err(), "{text}");
        }
    }
}
