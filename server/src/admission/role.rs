//! What somebody may do, from looking around to running the place.

use std::fmt;
use std::str::FromStr;

use protocol::rules::Verb;
use serde::{Deserialize, Serialize};

use crate::config::RoleDefault;

/// What somebody may do; each role may do all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May look and talk.
    Visitor,
    /// May take part: carry, make, build.
    Member,
    /// May mute, put out and ban.
    Moderator,
    /// May do everything.
    Admin,
}

impl Role {
    /// Every role, from least to most.
    pub const ALL: [Self; 4] = [Self::Visitor, Self::Member, Self::Moderator, Self::Admin];

    /// Returns the role's name, as it is written everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Admin => "admin",
        }
    }

    /// Returns whether the role may do this in the world.
    #[must_use]
    pub const fn may(self, verb: Verb) -> bool {
        match verb {
            Verb::Open
            | Verb::Close
            | Verb::Read
            | Verb::Greet
            | Verb::Emote
            | Verb::Say
            | Verb::Stop => true,
            Verb::Take
            | Verb::Drop
            | Verb::Put
            | Verb::Give
            | Verb::Offer
            | Verb::Accept
            | Verb::Decline
            | Verb::Withdraw
            | Verb::Use
            | Verb::Lock
            | Verb::Gather
            | Verb::Make
            | Verb::Build
            | Verb::Write => !matches!(self, Self::Visitor),
        }
    }

    /// Returns whether the role looks after others.
    #[must_use]
    pub const fn is_staff(self) -> bool {
        matches!(self, Self::Moderator | Self::Admin)
    }
}

impl From<RoleDefault> for Role {
    fn from(role: RoleDefault) -> Self {
        match role {
            RoleDefault::Visitor => Self::Visitor,
            RoleDefault::Member => Self::Member,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role `{0}`: there are visitor, member, moderator and admin")]
pub struct BadRole(String);

impl FromStr for Role {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, BadRole> {
        let role = Self::ALL.into_iter().find(|role| role.name() == text);
        role.ok_or_else(|| BadRole(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_back_and_rise() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!(Role::ALL.is_sorted());
        assert_eq!(
            "root".parse::<Role>().unwrap_err().to_string(),
            "unknown role `root`: there are visitor, member, moderator and admin",
        );
    }
}
