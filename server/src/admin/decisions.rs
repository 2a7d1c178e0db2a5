//! Requests that change what operators decided: tokens, bans, roles, mutes.
//!
//! [`decide`] is called by the running server and, when none runs, by the command line on the
//! files: both come to the same result. It reads no clock and writes no file.

use protocol::ids::{PersonId, WorldId};

use super::{AdminReply, AdminRequest, Who};
use crate::admission::access::{Access, AccessError, TokenRecord};
use crate::admission::bans::{Ban, BanError, Subject};
use crate::token::{BadToken, Grant, Mint, MintError, to_text};

/// Seconds for which a token is good at most: ten years.
pub const TOKEN_LASTS_S_MAX: u64 = 10 * 366 * 24 * 3600;

/// What a decision is made with.
#[derive(Debug)]
pub struct Context<'a> {
    /// Makes tokens.
    pub mint: &'a Mint,
    /// The world that they are for.
    pub world: WorldId,
    /// Unix time in seconds.
    pub now_s: u64,
    /// 32 random bytes, new for each request.
    pub seed: [u8; 32],
    /// Who is shown by a name now; nothing when nobody is, or no server runs.
    pub named: &'a dyn NameLookup,
}

/// Finds people by the names they are shown by.
pub trait NameLookup: std::fmt::Debug {
    /// Returns everyone who is shown by `name` now, whatever the case of its letters.
    fn persons(&self, name: &str) -> Vec<PersonId>;
}

/// Nobody is in: what the command line finds when no server runs.
#[derive(Clone, Copy, Debug)]
pub struct NobodyIsIn;

impl NameLookup for NobodyIsIn {
    fn persons(&self, _: &str) -> Vec<PersonId> {
        Vec::new()
    }
}

/// A request that is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// There is no room, or nothing of that name.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The ban is not kept.
    #[error(transparent)]
    Ban(#[from] BanError),
    /// The token cannot be made.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The token cannot be written down.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// Nobody of that name is in.
    #[error("nobody called `{0}` is in; use their id (p-1f), which `ecumene player list` shows")]
    NobodyOfThatName(String),
    /// More than one of that name is in, or was a moment ago.
    #[error("more than one `{name}` is in: {}; use the id of whom you mean", ids(persons))]
    Ambiguous {
        /// The name.
        name: String,
        /// Who goes by it.
        persons: Vec<PersonId>,
    },
    /// Only people have roles and voices.
    #[error("`{0}` is no person; use their id (p-1f) or, while they are in, their name")]
    NoPerson(Who),
    /// The token would outlive its purpose.
    #[error("a token is good for {TOKEN_LASTS_S_MAX} s at most, not {0} s")]
    LastsTooLong(u64),
    /// There was no ban.
    #[error("{0} is not banned")]
    NotBanned(Subject),
}

/// Carries out `request` on `access` if it is about decisions; nothing if it is about the running
/// world. After an answer that is no list, `access` must be written down before it is given.
///
/// # Errors
/// [`DecisionError`]; `access` is unchanged then.
pub fn decide(
    access: &mut Access,
    request: &AdminRequest,
    context: &Context<'_>,
) -> Option<Result<AdminReply, DecisionError>> {
    let done = |result: Result<String, DecisionError>| Some(result.map(AdminReply::Done));
    match request {
        AdminRequest::Ban { who, until_s, why } => done(ban(access, context, who, *until_s, why)),
        AdminRequest::Unban { who } => done(unban(access, context, who)),
        AdminRequest::BanList => {
            access.expire(context.now_s);
            Some(Ok(AdminReply::Bans(access.bans.iter().cloned().collect())))
        }
        AdminRequest::Mute { who, until_s } => done(mute(access, context, who, *until_s)),
        AdminRequest::Unmute { who } => done(unmute(access, context, who)),
        AdminRequest::Role { who, role } => done(person(context, who).and_then(|person| {
            access.give_role(person, *role)?;
            Ok(format!("{person} is {role} from the next time they come in"))
        })),
        AdminRequest::TokenMint { .. } => Some(mint(access, request, context)),
        AdminRequest::TokenList => Some(Ok(AdminReply::Tokens(access.tokens.clone()))),
        AdminRequest::TokenRevoke { id } => {
            done(access.revoke(*id, context.now_s).map_err(Into::into).map(|()| {
                format!(
                    "{id} opens nothing any more; a process that runs shards with it gives them \
                     back, people who came in with it stay until kicked"
                )
            }))
        }
        AdminRequest::Status
        | AdminRequest::PlayerList
        | AdminRequest::Kick { .. }
        | AdminRequest::Move { .. }
        | AdminRequest::Erase { .. }
        | AdminRequest::Announce { .. }
        | AdminRequest::Backup { .. }
        | AdminRequest::Stop { .. }
        | AdminRequest::Reload
        | AdminRequest::Verify
        | AdminRequest::Audit { .. }
        | AdminRequest::ShardList
        | AdminRequest::ShardSplit { .. }
        | AdminRequest::ShardMerge { .. }
        | AdminRequest::ShardMove { .. }
        | AdminRequest::AssetList { .. }
        | AdminRequest::AssetRemove { .. } => None,
    }
}

/// Returns whom `who` means.
///
/// # Errors
/// [`DecisionError::NobodyOfThatName`], [`DecisionError::Ambiguous`].
pub fn subject(context: &Context<'_>, who: &Who) -> Result<Subject, DecisionError> {
    match who {
        Who::Subject(subject) => Ok(*subject),
        Who::Name(name) => match context.named.persons(name).as_slice() {
            [] => Err(DecisionError::NobodyOfThatName(name.clone())),
            [person] => Ok(Subject::Person(*person)),
            persons => {
                Err(DecisionError::Ambiguous { name: name.clone(), persons: persons.to_vec() })
            }
        },
    }
}

fn ids(persons: &[PersonId]) -> String {
    let ids: Vec<String> = persons.iter().map(ToString::to_string).collect();
    ids.join(", ")
}

/// Returns which person `who` means.
///
/// # Errors
/// As [`subject`], and [`DecisionError::NoPerson`].
pub fn person(context: &Context<'_>, who: &Who) -> Result<PersonId, DecisionError> {
    match subject(context, who)? {
        Subject::Person(person) => Ok(person),
        Subject::Key(key) => Ok(key.person()),
        Subject::Address(_) => Err(DecisionError::NoPerson(who.clone())),
    }
}

fn ban(
    access: &mut Access,
    context: &Context<'_>,
    who: &Who,
    until_s: Option<u64>,
    why: &str,
) -> Result<String, DecisionError> {
    let who = subject(context, who)?;
    access.bans.add(Ban { who, until_s, why: why.to_owned() })?;
    Ok(format!("{who} is banned {}", span(until_s, context.now_s)))
}

fn unban(access: &mut Access, context: &Context<'_>, who: &Who) -> Result<String, DecisionError> {
    let who = subject(context, who)?;
    if !access.bans.lift(who) {
        return Err(DecisionError::NotBanned(who));
    }
    Ok(format!("{who} may come in again"))
}

fn mute(
    access: &mut Access,
    context: &Context<'_>,
    who: &Who,
    until_s: Option<u64>,
) -> Result<String, DecisionError> {
    let person = person(context, who)?;
    access.mute(person, until_s)?;
    Ok(format!("{person} is muted {}", span(until_s, context.now_s)))
}

fn unmute(access: &mut Access, context: &Context<'_>, who: &Who) -> Result<String, DecisionError> {
    let person = person(context, who)?;
    access.mutes.remove(&person);
    Ok(format!("{person} may speak"))
}

fn span(until_s: Option<u64>, now_s: u64) -> String {
    until_s.map_or_else(
        || "until that is lifted".to_owned(),
        |until_s| format!("for {} s", until_s.saturating_sub(now_s)),
    )
}

fn mint(
    access: &mut Access,
    request: &AdminRequest,
    context: &Context<'_>,
) -> Result<AdminReply, DecisionError> {
    let AdminRequest::TokenMint { purpose, role, person, lasts_s, note } = request else {
        unreachable!("`decide` sends only requests for tokens here");
    };
    if TOKEN_LASTS_S_MAX < *lasts_s {
        return Err(DecisionError::LastsTooLong(*lasts_s));
    }
    let grant = Grant {
        purpose: *purpose,
        role: *role,
        person: *person,
        world: context.world,
        minted_s: context.now_s,
        expires_s: context.now_s.saturating_add(*lasts_s),
    };
    let (token, id) = context.mint.mint(&grant, &context.seed)?;
    let record = TokenRecord {
        id,
        purpose: grant.purpose,
        role: grant.role,
        person: grant.person,
        minted_s: grant.minted_s,
        expires_s: grant.expires_s,
        note: note.clone(),
        revoked_s: None,
    };
    let token = to_text(&token)?;
    access.add_token(record.clone())?;
    Ok(AdminReply::Minted { token, record })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Role;
    use crate::identity::Identity;
    use crate::token::{Purpose, from_text};

    const NOW_S: u64 = 1_000;

    #[derive(Debug)]
    struct AdaIsIn;

    impl NameLookup for AdaIsIn {
        fn persons(&self, name: &str) -> Vec<PersonId> {
            match name {
                "Ada" => vec![PersonId(0xAD)],
                "Eve" => vec![PersonId(0xE1), PersonId(0xE2)],
                _ => Vec::new(),
            }
        }
    }

    fn ask(access: &mut Access, request: &AdminRequest) -> Result<AdminReply, String> {
        let mint = Mint::new(&Identity::from_seed([1; 32]));
        let named = &AdaIsIn;
        let context =
            Context { mint: &mint, world: WorldId(7), now_s: NOW_S, seed: [9; 32], named };
        let outcome = decide(access, request, &context);
        outcome.expect("the request is about decisions").map_err(|error| error.to_string())
    }

    fn check(request: &AdminRequest, expected: Result<&str, &str>) {
        let expected = expected.map(|text| AdminReply::Done(text.to_owned()));
        let got = ask(&mut Access::default(), request);
        assert_eq!(got, expected.map_err(ToOwned::to_owned), "{request:?}");
    }

    fn who(text: &str) -> Who {
        text.parse().unwrap()
    }

    #[test]
    fn people_are_found_by_name_while_they_are_in() {
        let mute = |name| AdminRequest::Mute { who: who(name), until_s: Some(NOW_S + 60) };
        check(&mute("Ada"), Ok("p-ad is muted for 60 s"));
        check(&mute("p-1"), Ok("p-1 is muted for 60 s"));
        check(
            &mute("Bob"),
            Err(
                "nobody called `Bob` is in; use their id (p-1f), which `ecumene player list` shows",
            ),
        );
        check(
            &mute("Eve"),
            Err("more than one `Eve` is in: p-e1, p-e2; use the id of whom you mean"),
        );
        check(
            &mute("192.0.2.1"),
            Err("`192.0.2.1` is no person; use their id (p-1f) or, while they are in, their name"),
        );
    }

    #[test]
    fn bans_are_set_listed_and_lifted() {
        let mut access = Access::default();
        let ban = AdminRequest::Ban { who: who("Ada"), until_s: None, why: "spam".to_owned() };
        let told = ask(&mut access, &ban);
        assert_eq!(told, Ok(AdminReply::Done("p-ad is banned until that is lifted".to_owned())));
        let Ok(AdminReply::Bans(bans)) = ask(&mut access, &AdminRequest::BanList) else { panic!() };
        assert_eq!(bans.len(), 1);
        let unban = AdminRequest::Unban { who: who("p-ad") };
        assert!(ask(&mut access, &unban).is_ok());
        assert_eq!(ask(&mut access, &unban), Err("p-ad is not banned".to_owned()));
    }

    #[test]
    fn a_minted_token_opens_the_world_until_it_is_revoked() {
        let mut access = Access::default();
        let request = AdminRequest::TokenMint {
            purpose: Purpose::People,
            role: Role::Moderator,
            person: None,
            lasts_s: 60,
            note: "for Bob".to_owned(),
        };
        let Ok(AdminReply::Minted { token, record }) = ask(&mut access, &request) else { panic!() };
        let mint = Mint::new(&Identity::from_seed([1; 32]));
        let token = from_text(&token).unwrap();
        let role = |access: &Access| {
            let checked = mint.check(&token, WorldId(7), NOW_S, |id| access.is_revoked(id));
            checked.map(|claims| claims.role)
        };
        assert_eq!(role(&access), Ok(Role::Moderator));
        assert!(ask(&mut access, &AdminRequest::TokenRevoke { id: record.id }).is_ok());
        assert_eq!(role(&access), Err(BadToken::Revoked));
    }

    #[test]
    fn requests_about_the_running_world_are_the_hosts() {
        let mint = Mint::new(&Identity::from_seed([1; 32]));
        let named = &NobodyIsIn;
        let context =
            Context { mint: &mint, world: WorldId(7), now_s: NOW_S, seed: [9; 32], named };
        assert!(decide(&mut Access::default(), &AdminRequest::Status, &context).is_none());
    }
}
