//! What operators decided about people and tokens, kept beside the world in one small file.
//!
//! Holds no secret: of a token it knows the id alone.

use std::collections::BTreeMap;

use protocol::ids::PersonId;
use serde::{Deserialize, Serialize};

use super::Role;
use super::bans::Bans;
use crate::token::{Purpose, TokenId};

/// Name of the file in a world's folder.
pub const ACCESS_FILE: &str = "access.json";

/// Tokens that are listed; expired ones make room.
pub const TOKENS_MAX: usize = 1_000;

/// People who were given a role.
pub const ROLES_MAX: usize = 10_000;

/// People who are muted at once.
pub const MUTES_MAX: usize = 10_000;

/// Characters of the note on a token: what it is for.
pub const NOTE_CHARS_MAX: usize = 80;

/// A token that was minted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// What it is good for.
    #[serde(default)]
    pub purpose: Purpose,
    /// The most its bearer may do.
    pub role: Role,
    /// The only person who may use it.
    pub person: Option<PersonId>,
    /// Unix time in seconds at which it was minted.
    pub minted_s: u64,
    /// Unix time in seconds at which it ends.
    pub expires_s: u64,
    /// What it is for.
    pub note: String,
    /// Unix time in seconds at which it was revoked.
    pub revoked_s: Option<u64>,
}

/// What operators decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Every token that may still be in somebody's hands.
    pub tokens: Vec<TokenRecord>,
    /// Who is kept out.
    pub bans: Bans,
    /// Who may do more, or less, than a newcomer.
    pub roles: BTreeMap<PersonId, Role>,
    /// Who may not speak, and until when (Unix time in seconds); nothing: until lifted.
    pub mutes: BTreeMap<PersonId, Option<u64>>,
}

/// A decision that cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The file is damaged.
    #[error("{ACCESS_FILE} cannot be read: {0}; put it back from a backup")]
    Damaged(String),
    /// There is no room.
    #[error("{max} {what} are kept; remove some first")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many fit.
        max: usize,
    },
    /// The note is an essay.
    #[error("the note is {0} characters long, at most {NOTE_CHARS_MAX}")]
    NoteTooLong(usize),
    /// No such token was minted, or its time is long over.
    #[error("there is no token {0}; `ecumene token list` shows those there are")]
    NoSuchToken(TokenId),
}

impl Access {
    /// Returns what the text of the file says; an absent file says nothing.
    ///
    /// # Errors
    /// [`AccessError::Damaged`].
    pub fn read(text: Option<&str>) -> Result<Self, AccessError> {
        let Some(text) = text else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(|error| AccessError::Damaged(error.to_string()))
    }

    /// Returns the text to keep in the file.
    ///
    /// # Panics
    /// Never: every part has a text form.
    #[must_use]
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("every part has a text form");
        text + "\n"
    }

    /// Lists a token that was minted at `record.minted_s`.
    ///
    /// # Errors
    /// [`AccessError`] when there is no room.
    pub fn add_token(&mut self, record: TokenRecord) -> Result<(), AccessError> {
        let chars = record.note.chars().count();
        if NOTE_CHARS_MAX < chars {
            return Err(AccessError::NoteTooLong(chars));
        }
        self.tokens.retain(|token| record.minted_s < token.expires_s);
        if TOKENS_MAX <= self.tokens.len() {
            return Err(AccessError::TooMany { what: "tokens", max: TOKENS_MAX });
        }
        self.tokens.push(record);
        Ok(())
    }

    /// Revokes the token `id` at `now_s`; doing so twice changes nothing.
    ///
    /// # Errors
    /// [`AccessError::NoSuchToken`].
    pub fn revoke(&mut self, id: TokenId, now_s: u64) -> Result<(), AccessError> {
        let token = self.tokens.iter_mut().find(|token| token.id == id);
        let token = token.ok_or(AccessError::NoSuchToken(id))?;
        token.revoked_s = token.revoked_s.or(Some(now_s));
        Ok(())
    }

    /// Returns whether the token `id` was revoked, or was never minted here as far as is known.
    ///
    /// A narrowing of a token is not listed; it falls with the token that it came from.
    #[must_use]
    pub fn is_revoked(&self, id: TokenId) -> bool {
        self.tokens.iter().any(|token| token.id == id && token.revoked_s.is_some())
    }

    /// Gives `who` a role.
    ///
    /// # Errors
    /// [`AccessError::TooMany`].
    pub fn give_role(&mut self, who: PersonId, role: Role) -> Result<(), AccessError> {
        if ROLES_MAX <= self.roles.len() && !self.roles.contains_key(&who) {
            return Err(AccessError::TooMany { what: "roles", max: ROLES_MAX });
        }
        self.roles.insert(who, role);
        Ok(())
    }

    /// Keeps `who` from speaking until `until_s`.
    ///
    /// # Errors
    /// [`AccessError::TooMany`].
    pub fn mute(&mut self, who: PersonId, until_s: Option<u64>) -> Result<(), AccessError> {
        if MUTES_MAX <= self.mutes.len() && !self.mutes.contains_key(&who) {
            return Err(AccessError::TooMany { what: "mutes", max: MUTES_MAX });
        }
        self.mutes.insert(who, until_s);
        Ok(())
    }

    /// Returns whether `who` may not speak at `now_s`.
    #[must_use]
    pub fn is_muted(&self, who: PersonId, now_s: u64) -> bool {
        let until = self.mutes.get(&who);
        until.is_some_and(|until_s| until_s.is_none_or(|until_s| now_s < until_s))
    }

    /// Returns the Unix time in milliseconds until which `who` may not speak; 0 if they may.
    #[must_use]
    pub fn muted_until_ms(&self, who: PersonId) -> u64 {
        let until = self.mutes.get(&who);
        until.map_or(0, |until_s| until_s.map_or(u64::MAX, |until_s| until_s.saturating_mul(1_000)))
    }

    /// Forgets bans and mutes that ended before `now_s`.
    pub fn expire(&mut self, now_s: u64) {
        self.bans.expire(now_s);
        self.mutes.retain(|_, until_s| until_s.is_none_or(|until_s| now_s < until_s));
    }

    /// Forgets `who`, whose data are erased: their role and mute go; a ban stays in force.
    pub fn forget(&mut self, who: PersonId) {
        self.roles.remove(&who);
        self.mutes.remove(&who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, minted_s: u64, expires_s: u64) -> TokenRecord {
        TokenRecord {
            purpose: Purpose::People,
            id: TokenId(id),
            role: Role::Member,
            person: None,
            minted_s,
            expires_s,
            note: "for a friend".to_owned(),
            revoked_s: None,
        }
    }

    #[test]
    fn decisions_read_back() {
        let mut access = Access::default();
        access.add_token(record(1, 0, 10)).unwrap();
        access.revoke(TokenId(1), 5).unwrap();
        access.give_role(PersonId(0x1F), Role::Moderator).unwrap();
        access.mute(PersonId(2), Some(9)).unwrap();
        let text = access.to_text();
        assert_eq!(Access::read(Some(&text)), Ok(access));
        assert_eq!(Access::read(None), Ok(Access::default()));
        let damaged = Access::read(Some("{")).unwrap_err().to_string();
        assert!(damaged.starts_with("access.json cannot be read: EOF"), "{damaged}");
    }

    #[test]
    fn revoking_names_a_token_that_is_there() {
        let mut access = Access::default();
        access.add_token(record(1, 0, 10)).unwrap();
        assert!(!access.is_revoked(TokenId(1)));
        access.revoke(TokenId(1), 5).unwrap();
        access.revoke(TokenId(1), 6).unwrap();
        assert!(access.is_revoked(TokenId(1)));
        assert_eq!(access.tokens[0].revoked_s, Some(5));
        assert_eq!(
            access.revoke(TokenId(2), 5).unwrap_err().to_string(),
            "there is no token t-0000000000000002; `ecumene token list` shows those there are",
        );
    }

    #[test]
    fn expired_tokens_make_room_and_others_do_not() {
        let mut access = Access::default();
        for id in 0..TOKENS_MAX as u64 {
            access.add_token(record(id, 0, 10)).unwrap();
        }
        assert!(access.add_token(record(9_999, 9, 20)).is_err());
        access.add_token(record(9_999, 10, 20)).unwrap();
        assert_eq!(access.tokens.len(), 1);
    }

    #[test]
    fn mutes_end() {
        let mut access = Access::default();
        access.mute(PersonId(1), Some(10)).unwrap();
        access.mute(PersonId(2), None).unwrap();
        assert!(access.is_muted(PersonId(1), 9) && !access.is_muted(PersonId(1), 10));
        access.expire(10);
        assert!(access.is_muted(PersonId(2), u64::MAX) && access.mutes.len() == 1);
    }
}
