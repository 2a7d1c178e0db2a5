//! Why a connection ends: the codes of QUIC's application close, and what a client should do.

use std::fmt;

/// Why the server, or the client, ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum CloseCode {
    /// In good order.
    Goodbye = 0,
    /// The server stops; resume after it is back.
    Stopping = 1,
    /// No common version.
    Version = 2,
    /// No such world here.
    World = 3,
    /// Not allowed: no identity or token that this server accepts.
    Unauthorized = 4,
    /// The token is expired.
    TokenExpired = 5,
    /// The token was revoked.
    TokenRevoked = 6,
    /// The token was not made by this server, or was changed.
    TokenForged = 7,
    /// Banned.
    Banned = 8,
    /// No place is free.
    Full = 9,
    /// Put out by a moderator.
    Kicked = 10,
    /// The same person came in elsewhere.
    Replaced = 11,
    /// The right to drive the avatar ended.
    LendingEnded = 12,
    /// The peer broke the protocol.
    Protocol = 13,
    /// Too much, too fast.
    Flooding = 14,
    /// Nothing was heard for too long.
    Silent = 15,
    /// The region's process was lost; resume at once.
    Lost = 16,
    /// Something broke on this side.
    Internal = 17,
}

impl CloseCode {
    /// Every code, in order.
    pub const ALL: [Self; 18] = [
        Self::Goodbye,
        Self::Stopping,
        Self::Version,
        Self::World,
        Self::Unauthorized,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::TokenForged,
        Self::Banned,
        Self::Full,
        Self::Kicked,
        Self::Replaced,
        Self::LendingEnded,
        Self::Protocol,
        Self::Flooding,
        Self::Silent,
        Self::Lost,
        Self::Internal,
    ];

    /// Returns the number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Returns the code of a number, nothing if this version does not know it.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        usize::try_from(number).ok().and_then(|index| Self::ALL.get(index)).copied()
    }

    /// Returns whether coming back with the session's ticket can help.
    #[must_use]
    pub const fn is_worth_resuming(self) -> bool {
        matches!(self, Self::Stopping | Self::Silent | Self::Lost | Self::Internal)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goodbye => "left",
            Self::Stopping => "the server stops; it can be resumed when it is back",
            Self::Version => "no common protocol version",
            Self::World => "no such world on this server",
            Self::Unauthorized => "not allowed in",
            Self::TokenExpired => "the token is expired",
            Self::TokenRevoked => "the token was revoked",
            Self::TokenForged => "the token was not made by this server",
            Self::Banned => "banned",
            Self::Full => "the world is full",
            Self::Kicked => "put out by a moderator",
            Self::Replaced => "the same person came in from elsewhere",
            Self::LendingEnded => "the right to drive this avatar ended",
            Self::Protocol => "the protocol was broken",
            Self::Flooding => "too much, too fast",
            Self::Silent => "nothing was heard for too long",
            Self::Lost => "the region's process was lost",
            Self::Internal => "something broke on the server",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_number() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(u64::from(code.number())), Some(code));
        }
        assert_eq!(CloseCode::from_number(18), None);
    }
}
