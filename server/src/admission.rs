//! Who may come in: one decision, made of facts that others gathered.
//!
//! [`decide`] is asked once per hello and denies what nothing allows. It reads no clock, keeps no
//! list and checks no signature: proofs and tokens come in checked, times as numbers.

pub mod access;
pub mod bans;
pub mod names;
pub mod rates;
mod role;

use core::net::IpAddr;

use protocol::close::CloseCode;
use protocol::ids::{PersonId, WorldId};
use protocol::message::server::Farewell;

use crate::config::{Config, Reach};
use crate::identity::{BadProof, PublicKey};
use crate::token::{BadToken, Claims};

pub use role::{BadRole, Role};

use bans::{Bans, Subject};

/// Places beyond the last that moderators and admins still get: to look after a full world.
pub const STAFF_PLACES: u32 = 8;

/// Seconds after which a client that met a full world may try again.
const FULL_RETRY_S: u32 = 30;

/// What a world lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who may come without key and token.
    pub guests: Reach,
    /// Who may come with a key that nobody gave a role.
    pub newcomers: Reach,
    /// The role of both.
    pub role_default: Role,
    /// Clients at once.
    pub clients_max: u32,
    /// The world that is hosted.
    pub world: WorldId,
}

impl Policy {
    /// Returns the policy that `config` sets for `world`.
    #[must_use]
    pub fn new(config: &Config, world: WorldId) -> Self {
        Self {
            guests: config.admission.guests,
            newcomers: config.admission.newcomers,
            role_default: config.admission.role_default.into(),
            clients_max: config.server.clients_max,
            world,
        }
    }
}

/// Somebody at the door, with everything that was found out about them.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where they come from.
    pub address: IpAddr,
    /// The world they ask for; nothing takes whichever is hosted.
    pub world: Option<WorldId>,
    /// The name they want to be shown by.
    pub name: &'a str,
    /// Their key, if they showed one and whether the proof held.
    pub identity: Option<Result<PublicKey, BadProof>>,
    /// Their token, if they showed one and what the check of it said.
    pub token: Option<Result<Claims, BadToken>>,
    /// The role that an operator gave to the person with this key.
    pub role_given: Option<Role>,
    /// The id that a guest without key and token gets: fresh from the id mint.
    pub guest: PersonId,
    /// Clients that are in now, without this one and without any session it continues.
    pub clients: u32,
    /// Unix time in seconds.
    pub now_s: u64,
}

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Who they are.
    pub person: PersonId,
    /// What they may do.
    pub role: Role,
    /// Their name, cleaned; [`names::distinct`] tells it from others in the world.
    pub name: String,
    /// Whether they are a passing guest, of whom nothing is kept for long.
    pub is_guest: bool,
}

/// Somebody who may not come in, and what they are told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {why}")]
pub struct Refusal {
    /// What the connection closes with.
    pub code: CloseCode,
    /// Why, and what to do, for people.
    pub why: String,
    /// Seconds to wait before trying again; nothing where trying again is in vain.
    pub retry_after_s: Option<u32>,
}

impl Refusal {
    /// Returns a refusal that trying again does not change.
    #[must_use]
    pub fn for_good(code: CloseCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), retry_after_s: None }
    }

    /// Returns a refusal that may be over after `seconds`.
    #[must_use]
    pub fn for_now(code: CloseCode, why: impl Into<String>, seconds: u32) -> Self {
        Self { code, why: why.into(), retry_after_s: Some(seconds) }
    }

    /// Returns the message that tells a client.
    #[must_use]
    pub fn farewell(&self) -> Farewell {
        let (code, why) = (self.code.number(), self.why.clone());
        Farewell { code, why, retry_after_s: self.retry_after_s }
    }
}

/// Decides whether whoever sent `request` may come in.
///
/// # Errors
/// The [`Refusal`] to send; the sender, or the operator's policy, is the reason.
pub fn decide(policy: &Policy, bans: &Bans, request: &Request<'_>) -> Result<Admitted, Refusal> {
    if request.world.is_some_and(|world| world != policy.world) {
        let why = "this server does not host that world; its greeting lists those it hosts";
        return Err(Refusal::for_good(CloseCode::World, why));
    }
    let (key, claims) = credentials(request)?;
    let name = names::clean(request.name)
        .map_err(|bad| Refusal::for_good(CloseCode::Unauthorized, bad.to_string()))?;
    let person = person(key, claims, request.guest)?;
    let subjects = [
        Some(Subject::Person(person)),
        Some(Subject::from(request.address)),
        key.map(Subject::Key),
    ];
    for subject in subjects.into_iter().flatten() {
        banned(bans, subject, request.now_s)?;
    }
    let role = role(policy, key, claims, request)?;
    let places = policy.clients_max + if role.is_staff() { STAFF_PLACES } else { 0 };
    if places <= request.clients {
        let why = format!("all {} places are taken", policy.clients_max);
        return Err(Refusal::for_now(CloseCode::Full, why, FULL_RETRY_S));
    }
    Ok(Admitted { person, role, name, is_guest: key.is_none() && claims.is_none() })
}

/// Returns key and token that hold; one that was shown and does not hold refuses the whole hello,
/// so that nobody believes to be somebody they are not.
fn credentials(request: &Request<'_>) -> Result<(Option<PublicKey>, Option<Claims>), Refusal> {
    let key = request.identity.transpose();
    let key = key.map_err(|bad| Refusal::for_good(CloseCode::Unauthorized, bad.to_string()))?;
    let claims = request.token.transpose();
    let claims = claims.map_err(|bad| Refusal::for_good(bad.close_code(), bad.to_string()))?;
    Ok((key, claims))
}

fn person(
    key: Option<PublicKey>,
    claims: Option<Claims>,
    guest: PersonId,
) -> Result<PersonId, Refusal> {
    let Some(claims) = claims else { return Ok(key.map_or(guest, |key| key.person())) };
    let Some(bound) = claims.person else {
        return Ok(key.map_or_else(|| claims.account(), |key| key.person()));
    };
    // A bound token is worth nothing to whoever steals it without the key.
    if key.map(|key| key.person()) == Some(bound) {
        return Ok(bound);
    }
    let why = format!("the token is bound to {bound}; connect with that person's key as well");
    Err(Refusal::for_good(CloseCode::Unauthorized, why))
}

fn banned(bans: &Bans, subject: Subject, now_s: u64) -> Result<(), Refusal> {
    let Some(ban) = bans.find(subject, now_s) else { return Ok(()) };
    let why = if ban.why.is_empty() { "no reason was given" } else { &ban.why };
    Err(match ban.until_s {
        None => Refusal::for_good(CloseCode::Banned, why),
        Some(until_s) => {
            let left_s = u32::try_from(until_s.saturating_sub(now_s)).unwrap_or(u32::MAX);
            Refusal::for_now(CloseCode::Banned, why, left_s)
        }
    })
}

fn role(
    policy: &Policy,
    key: Option<PublicKey>,
    claims: Option<Claims>,
    request: &Request<'_>,
) -> Result<Role, Refusal> {
    let given = key.and(request.role_given);
    if let Some(role) = given.max(claims.map(|claims| claims.role)) {
        return Ok(role);
    }
    let (reach, who, setting) = match key {
        Some(_) => (policy.newcomers, "people without a token or a role", "admission.newcomers"),
        None => (policy.guests, "guests", "admission.guests"),
    };
    let is_allowed = match reach {
        Reach::Anyone => true,
        Reach::Loopback => request.address.to_canonical().is_loopback(),
        Reach::Nobody => false,
    };
    if is_allowed {
        return Ok(policy.role_default);
    }
    let from = match reach {
        Reach::Loopback => " from other machines",
        Reach::Anyone | Reach::Nobody => "",
    };
    let why = format!(
        "{who} are not let in{from}; connect with a token, or ask the operator to set {setting}"
    );
    Err(Refusal::for_good(CloseCode::Unauthorized, why))
}

#[cfg(test)]
mod tests;
