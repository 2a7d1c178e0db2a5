//! Operators' tokens: Biscuits that say what their bearer may do, in which world, and until when.
//!
//! The server mints them with a key derived from its identity and checks them without looking
//! anything up but the list of what was revoked. A bearer can narrow a token without asking the
//! server; no block added to a token ever gives it more. Time and randomness are arguments.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use biscuit_auth::builder::{Fact, Term};
use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::{
    Algorithm, Authorizer, AuthorizerBuilder, AuthorizerLimits, Biscuit, BiscuitBuilder,
    BlockBuilder, KeyPair, PrivateKey, UnverifiedBiscuit,
};
use protocol::close::CloseCode;
use protocol::ids::{PersonId, WorldId};
use protocol::limits::TOKEN_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::admission::Role;
use crate::identity::{Identity, short_hash};

/// What the root key of tokens that let people in is derived for.
const ROOT_PURPOSE: &str = "ecumene 1 token root";

/// What the root key of tokens that let processes run shards is derived for.
const SHARDS_PURPOSE: &str = "ecumene 1 shard token root";

/// Facts a token may give rise to: ours are six, narrowing adds a few.
const FACTS_MAX: u64 = 64;

/// Rounds of rules: narrowing needs none, a chain of four is generous.
const ROUNDS_MAX: u64 = 8;

/// Time one check of a token may take on a busy machine; it takes 0.2 ms on an idle one.
const CHECK_TIME_MAX: Duration = Duration::from_millis(20);

/// Blocks of a token: the minted one and seven narrowings.
const BLOCKS_MAX: usize = 8;

/// Letters of one added block, written out: both checks that narrow, a few times over.
const BLOCK_CHARS_MAX: usize = 1_024;

/// The short name of a token, by which it is listed and revoked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u64);

impl TokenId {
    fn of(revocation: &[u8]) -> Self {
        Self(short_hash(revocation))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t-{:016x}", self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no token's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token's id: expected t- and 16 hexadecimal digits, as `ecumene token list` shows")]
pub struct BadTokenId;

impl FromStr for TokenId {
    type Err = BadTokenId;

    fn from_str(text: &str) -> Result<Self, BadTokenId> {
        let digits = text.strip_prefix("t-").filter(|digits| digits.len() == 16);
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or(BadTokenId)
    }
}

impl Serialize for TokenId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a token is good for; one for the one is nothing to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Entering the world.
    #[default]
    People,
    /// Running shards of it in another process.
    Shards,
}

/// What a token shall allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it is for.
    pub purpose: Purpose,
    /// The most its bearer may do.
    pub role: Role,
    /// The only person who may use it; nothing lets every bearer use it.
    pub person: Option<PersonId>,
    /// The world it is for.
    pub world: WorldId,
    /// Unix time in seconds at which it is minted.
    pub minted_s: u64,
    /// Unix time in seconds at which it ends.
    pub expires_s: u64,
}

/// What a token that was checked allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// What its bearer may do, after all narrowings.
    pub role: Role,
    /// The only person who may use it.
    pub person: Option<PersonId>,
    /// Unix time in seconds at which it ends; a narrowing may end it earlier.
    pub expires_s: u64,
    /// The minted token, whatever narrowings were added.
    pub id: TokenId,
}

impl Claims {
    /// Returns who its bearer is where neither key nor binding says so: the token is an account.
    #[must_use]
    pub fn account(&self) -> PersonId {
        self.person.unwrap_or_else(|| PersonId(short_hash(self.id.to_string().as_bytes())))
    }
}

/// A token that opens nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Its time is over.
    #[error("the token is expired; ask the operator for a new one")]
    Expired,
    /// It, or a narrowing of it, was revoked.
    #[error("the token was revoked; ask the operator for a new one")]
    Revoked,
    /// It is damaged, or another server's.
    #[error("the token was not made by this server, or was changed or cut short")]
    Forged,
    /// It is for another world of this server.
    #[error("the token is for another world")]
    NotForThisWorld,
    /// It was narrowed to something that is not asked here.
    #[error("the token was narrowed to something else than entering this world")]
    Narrowed,
}

impl BadToken {
    /// Returns the code that a connection closes with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Expired => CloseCode::TokenExpired,
            Self::Revoked => CloseCode::TokenRevoked,
            Self::Forged => CloseCode::TokenForged,
            Self::NotForThisWorld => CloseCode::World,
            Self::Narrowed => CloseCode::Unauthorized,
        }
    }
}

/// Something that keeps a token from being made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The token would never be good.
    #[error("the token would end at {expires_s}, which is not after its minting at {minted_s}")]
    EndsAtOnce {
        /// When it would end.
        expires_s: u64,
        /// When it would be minted.
        minted_s: u64,
    },
    /// There is no more room.
    #[error(
        "the token would be {bytes} bytes or {blocks} blocks long, at most {TOKEN_BYTES_MAX} and {BLOCKS_MAX}"
    )]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// Its blocks.
        blocks: usize,
    },
    /// What should be narrowed is no token, or one that cannot be narrowed.
    #[error("cannot make the token: {0}")]
    Biscuit(#[from] biscuit_auth::error::Token),
}

/// The key that makes and checks one server's tokens.
pub struct Mint {
    root: KeyPair,
    shards: KeyPair,
}

impl Mint {
    /// Returns the mint of the server that `identity` stands for.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let root = |purpose| key_pair(&identity.derive(purpose));
        Self { root: root(ROOT_PURPOSE), shards: root(SHARDS_PURPOSE) }
    }

    /// Returns the bytes and the id of a token that allows `grant`; `seed` is 32 random bytes.
    ///
    /// # Errors
    /// [`MintError::EndsAtOnce`] when the grant ends before it begins.
    pub fn mint(&self, grant: &Grant, seed: &[u8; 32]) -> Result<(Vec<u8>, TokenId), MintError> {
        let Grant { purpose, role, person, world, minted_s, expires_s } = *grant;
        if expires_s <= minted_s {
            return Err(MintError::EndsAtOnce { expires_s, minted_s });
        }
        let terms = [text(role.name()), text(world), Term::Date(minted_s), Term::Date(expires_s)];
        let mut builder = BiscuitBuilder::new().fact(Fact::new("grant".to_owned(), terms))?;
        if let Some(person) = person {
            builder = builder.fact(Fact::new("person".to_owned(), [text(person)]))?;
        }
        let token = builder.build_with_key_pair(
            self.key(purpose),
            SymbolTable::default(),
            &key_pair(seed),
        )?;
        let id = TokenId::of(&token.revocation_identifiers()[0]);
        Ok((token.to_vec()?, id))
    }

    const fn key(&self, purpose: Purpose) -> &KeyPair {
        match purpose {
            Purpose::People => &self.root,
            Purpose::Shards => &self.shards,
        }
    }

    /// Checks `token` at `now_s` (Unix time in seconds) for entering `world`.
    ///
    /// # Errors
    /// [`BadToken`]; the bearer, or who gave it to them, is at fault.
    pub fn check(
        &self,
        token: &[u8],
        world: WorldId,
        now_s: u64,
        is_revoked: impl Fn(TokenId) -> bool,
    ) -> Result<Claims, BadToken> {
        self.check_for(Purpose::People, token, world, now_s, is_revoked)
    }

    /// Checks `token` at `now_s` (Unix time in seconds) for running shards of `world`.
    ///
    /// # Errors
    /// [`BadToken`]; the bearer, or who gave it to them, is at fault.
    pub fn check_for_shards(
        &self,
        token: &[u8],
        world: WorldId,
        now_s: u64,
        is_revoked: impl Fn(TokenId) -> bool,
    ) -> Result<Claims, BadToken> {
        self.check_for(Purpose::Shards, token, world, now_s, is_revoked)
    }

    fn check_for(
        &self,
        purpose: Purpose,
        token: &[u8],
        world: WorldId,
        now_s: u64,
        is_revoked: impl Fn(TokenId) -> bool,
    ) -> Result<Claims, BadToken> {
        if TOKEN_BYTES_MAX < token.len() {
            return Err(BadToken::Forged);
        }
        let token =
            Biscuit::from(token, self.key(purpose).public()).map_err(|_| BadToken::Forged)?;
        if BLOCKS_MAX < token.block_count() {
            return Err(BadToken::Forged);
        }
        let ids = token.revocation_identifiers();
        let ids: Vec<_> = ids.iter().map(|revocation| TokenId::of(revocation)).collect();
        let [id, ..] = *ids.as_slice() else { return Err(BadToken::Forged) };
        if ids.into_iter().any(is_revoked) {
            return Err(BadToken::Revoked);
        }
        if !(1..token.block_count()).all(|block| is_narrowing(&token, block)) {
            return Err(BadToken::Narrowed);
        }
        let grant = granted(&token, purpose)?;
        if grant.world != world {
            return Err(BadToken::NotForThisWorld);
        }
        if grant.expires_s <= now_s {
            return Err(BadToken::Expired);
        }
        let role_at = |at_s| {
            let at_most = Role::ALL.into_iter().rev().filter(|role| *role <= grant.role);
            at_most.into_iter().find(|role| allows(&token, *role, world, at_s))
        };
        match role_at(now_s) {
            Some(role) => Ok(Claims { role, person: grant.person, expires_s: grant.expires_s, id }),
            // A narrowing that held when the token was minted has run out since.
            None if role_at(grant.minted_s).is_some() => Err(BadToken::Expired),
            None => Err(BadToken::Narrowed),
        }
    }
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mint").finish_non_exhaustive()
    }
}

/// Returns `token` narrowed to at most `role`, and to end at `expires_s` if that is earlier.
///
/// Needs no server and no key: whoever holds a token may hand a lesser one on. `seed` is 32 random
/// bytes.
///
/// # Errors
/// [`MintError`] when `token` is none, or has no room for another block.
pub fn narrow(
    token: &[u8],
    role: Option<Role>,
    expires_s: Option<u64>,
    seed: &[u8; 32],
) -> Result<Vec<u8>, MintError> {
    let token = UnverifiedBiscuit::from(token)?;
    let mut block = BlockBuilder::new();
    if let Some(role) = role {
        let allowed = Role::ALL.into_iter().filter(|lesser| *lesser <= role);
        let allowed: Vec<_> = allowed.map(|lesser| format!("acting(\"{lesser}\")")).collect();
        block = block.check(format!("check if {}", allowed.join(" or ")).as_str())?;
    }
    if let Some(expires_s) = expires_s {
        let end = [("end".to_owned(), Term::Date(expires_s))].into();
        block = block.code_with_params("check if time($now), $now < {end}", end, [].into())?;
    }
    let narrowed = token.append_with_keypair(&key_pair(seed), block)?;
    let (bytes, blocks) = (narrowed.to_vec()?, narrowed.block_count());
    if TOKEN_BYTES_MAX < bytes.len() || BLOCKS_MAX < blocks {
        return Err(MintError::TooLong { bytes: bytes.len(), blocks });
    }
    Ok(bytes)
}

/// Returns `token` as people copy and paste it: URL-safe base64.
///
/// # Errors
/// [`BadToken::Forged`] when it is no token at all.
pub fn to_text(token: &[u8]) -> Result<String, BadToken> {
    let token = UnverifiedBiscuit::from(token).map_err(|_| BadToken::Forged)?;
    token.to_base64().map_err(|_| BadToken::Forged)
}

/// Returns the bytes of a token that was pasted.
///
/// # Errors
/// [`BadToken::Forged`] when it is no token at all.
pub fn from_text(text: &str) -> Result<Vec<u8>, BadToken> {
    // Base64 makes four letters of three bytes.
    if TOKEN_BYTES_MAX * 4 / 3 + 4 < text.len() {
        return Err(BadToken::Forged);
    }
    let token = UnverifiedBiscuit::from_base64(text.trim()).map_err(|_| BadToken::Forged)?;
    token.to_vec().map_err(|_| BadToken::Forged)
}

fn key_pair(seed: &[u8; 32]) -> KeyPair {
    let private = PrivateKey::from_bytes(seed, Algorithm::Ed25519);
    KeyPair::from(&private.expect("every 32 bytes are an Ed25519 seed"))
}

fn text(value: impl fmt::Display) -> Term {
    Term::Str(value.to_string())
}

fn limits() -> AuthorizerLimits {
    AuthorizerLimits { max_facts: FACTS_MAX, max_iterations: ROUNDS_MAX, max_time: CHECK_TIME_MAX }
}

/// Returns whether an added block is made of checks that this server understands.
///
/// Whoever holds a token can add rules that keep the engine busy for minutes, within every limit
/// that it has. So nothing is run but what says "at most this role" or "until then".
fn is_narrowing(token: &Biscuit, block: usize) -> bool {
    let Ok(source) = token.print_block_source(block) else { return false };
    let is_known = |line: &str| {
        let check = line.strip_suffix(';').and_then(|line| line.strip_prefix("check if "));
        check.is_some_and(|check| is_role_check(check) || is_time_check(check))
    };
    source.len() <= BLOCK_CHARS_MAX && source.lines().all(is_known)
}

/// `acting("visitor") or acting("member")`.
fn is_role_check(check: &str) -> bool {
    let is_role = |part: &str| {
        let name = part.strip_prefix("acting(\"").and_then(|part| part.strip_suffix("\")"));
        name.is_some_and(|name| name.parse::<Role>().is_ok())
    };
    check.split(" or ").all(is_role)
}

/// `time($t), $t < 2030-01-01T00:00:00Z`, or `<=`.
fn is_time_check(check: &str) -> bool {
    let Some(rest) = check.strip_prefix("time($") else { return false };
    let Some((variable, rest)) = rest.split_once("), $") else { return false };
    let Some(rest) = rest.strip_prefix(variable) else { return false };
    let date = rest.strip_prefix(" < ").or_else(|| rest.strip_prefix(" <= "));
    let is_plain = |text: &str, others: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
    };
    is_plain(variable, "_") && date.is_some_and(|date| is_plain(date, "-:.+"))
}

/// Reads what the mint itself wrote; facts of added blocks are out of scope here.
fn granted(token: &Biscuit, purpose: Purpose) -> Result<Grant, BadToken> {
    let builder = AuthorizerBuilder::new().set_limits(limits());
    let mut authorizer = builder.build(token).map_err(|_| BadToken::Forged)?;
    let grants = ask(&mut authorizer, "grant($r, $w, $m, $e) <- grant($r, $w, $m, $e)")?;
    let [grant] = grants.as_slice() else { return Err(BadToken::Forged) };
    let [Term::Str(role), Term::Str(world), Term::Date(minted_s), Term::Date(expires_s)] =
        grant.predicate.terms.as_slice()
    else {
        return Err(BadToken::Forged);
    };
    let persons = ask(&mut authorizer, "person($p) <- person($p)")?;
    let person = match persons.first().map(|fact| fact.predicate.terms.as_slice()) {
        None => None,
        Some([Term::Str(person)]) => Some(person.parse().map_err(|_| BadToken::Forged)?),
        Some(_) => return Err(BadToken::Forged),
    };
    Ok(Grant {
        purpose,
        role: role.parse().map_err(|_| BadToken::Forged)?,
        person,
        world: world.parse().map_err(|_| BadToken::Forged)?,
        minted_s: *minted_s,
        expires_s: *expires_s,
    })
}

fn ask(authorizer: &mut Authorizer, rule: &str) -> Result<Vec<Fact>, BadToken> {
    // A token that exceeds the limits is none that this server's tools made.
    authorizer.query_with_limits(rule, limits()).map_err(|_| BadToken::Narrowed)
}

/// Returns whether every block of `token` lets its bearer act as `role` at `at_s`.
fn allows(token: &Biscuit, role: Role, world: WorldId, at_s: u64) -> bool {
    let facts = [
        Fact::new("time".to_owned(), [Term::Date(at_s)]),
        Fact::new("acting".to_owned(), [text(role)]),
        Fact::new("world".to_owned(), [text(world)]),
    ];
    let authorize = || {
        let mut builder = AuthorizerBuilder::new().set_limits(limits());
        for fact in facts {
            builder = builder.fact(fact)?;
        }
        builder.policy("allow if true")?.build(token)?.authorize_with_limits(limits())
    };
    authorize().is_ok()
}

#[cfg(test)]
mod tests;
