//! Who gets in, as what, and what the others are told.

use super::*;
use crate::admission::bans::Ban;
use crate::identity::Identity;
use crate::token::TokenId;

const WORLD: WorldId = WorldId(7);
const GUEST: PersonId = PersonId(99);
const NOW_S: u64 = 1_000;

fn policy() -> Policy {
    Policy {
        guests: Reach::Loopback,
        newcomers: Reach::Loopback,
        role_default: Role::Visitor,
        clients_max: 10,
        world: WORLD,
    }
}

fn key() -> PublicKey {
    Identity::from_seed([3; 32]).public()
}

fn claims(role: Role, person: Option<PersonId>) -> Claims {
    Claims { role, person, expires_s: 5_000, id: TokenId(1) }
}

fn at(address: &str) -> Request<'static> {
    Request {
        address: address.parse().unwrap(),
        world: None,
        name: "Ada",
        identity: None,
        token: None,
        role_given: None,
        guest: GUEST,
        clients: 0,
        now_s: NOW_S,
    }
}

/// Decides and says the outcome in a line.
fn outcome(policy: &Policy, bans: &Bans, request: &Request<'_>) -> String {
    match decide(policy, bans, request) {
        Ok(it) => {
            format!("{} as {}{}", it.person, it.role, if it.is_guest { ", a guest" } else { "" })
        }
        Err(it) => it.to_string(),
    }
}

fn check(request: &Request<'_>, expected: &str) {
    assert_eq!(outcome(&policy(), &Bans::default(), request), expected);
}

#[test]
fn guests_come_from_where_the_policy_says() {
    check(&at("127.0.0.1"), "p-63 as visitor, a guest");
    check(&at("::1"), "p-63 as visitor, a guest");
    check(&at("::ffff:127.0.0.1"), "p-63 as visitor, a guest");
    check(
        &at("192.0.2.1"),
        "not allowed in: guests are not let in from other machines; connect with a token, or ask \
         the operator to set admission.guests",
    );
    let nobody = Policy { guests: Reach::Nobody, ..policy() };
    assert!(
        outcome(&nobody, &Bans::default(), &at("127.0.0.1"))
            .starts_with("not allowed in: guests are not let in;")
    );
    let anyone = Policy { guests: Reach::Anyone, ..policy() };
    assert_eq!(outcome(&anyone, &Bans::default(), &at("192.0.2.1")), "p-63 as visitor, a guest");
}

#[test]
fn a_key_makes_a_person_and_only_a_given_role_opens_the_door_to_it() {
    let person = key().person();
    let keyed = |address| Request { identity: Some(Ok(key())), ..at(address) };
    check(&keyed("127.0.0.1"), &format!("{person} as visitor"));
    assert!(
        outcome(&policy(), &Bans::default(), &keyed("192.0.2.1")).contains("admission.newcomers")
    );
    let known = Request { role_given: Some(Role::Member), ..keyed("192.0.2.1") };
    check(&known, &format!("{person} as member"));
    // A role belongs to a key: without one it is nobody's.
    let keyless = Request { role_given: Some(Role::Admin), ..at("192.0.2.1") };
    assert!(decide(&policy(), &Bans::default(), &keyless).is_err());
}

#[test]
fn a_token_is_an_account_unless_a_key_says_who_bears_it() {
    let open = claims(Role::Moderator, None);
    let token = Request { token: Some(Ok(open)), ..at("192.0.2.1") };
    check(&token, &format!("{} as moderator", open.account()));
    let keyed = Request { identity: Some(Ok(key())), ..token.clone() };
    check(&keyed, &format!("{} as moderator", key().person()));
    // The stronger of role and token counts.
    let promoted = Request { role_given: Some(Role::Admin), ..keyed };
    check(&promoted, &format!("{} as admin", key().person()));
}

#[test]
fn a_bound_token_needs_its_key() {
    let bound = claims(Role::Member, Some(key().person()));
    let stolen = Request { token: Some(Ok(bound)), ..at("127.0.0.1") };
    check(
        &stolen,
        &format!(
            "not allowed in: the token is bound to {}; connect with that person's key as well",
            key().person()
        ),
    );
    let other = Identity::from_seed([4; 32]).public();
    let with_other = Request { identity: Some(Ok(other)), ..stolen.clone() };
    assert!(decide(&policy(), &Bans::default(), &with_other).is_err());
    let rightful = Request { identity: Some(Ok(key())), ..stolen };
    check(&rightful, &format!("{} as member", key().person()));
}

#[test]
fn credentials_that_do_not_hold_refuse_even_where_guests_may_come() {
    let forged = Request { identity: Some(Err(BadProof)), ..at("127.0.0.1") };
    check(
        &forged,
        "not allowed in: the signature does not fit the key, this server and this greeting",
    );
    let cases = [
        (BadToken::Expired, CloseCode::TokenExpired),
        (BadToken::Revoked, CloseCode::TokenRevoked),
        (BadToken::Forged, CloseCode::TokenForged),
        (BadToken::NotForThisWorld, CloseCode::World),
        (BadToken::Narrowed, CloseCode::Unauthorized),
    ];
    for (bad, code) in cases {
        let request = Request { token: Some(Err(bad)), ..at("127.0.0.1") };
        let refusal = decide(&policy(), &Bans::default(), &request).unwrap_err();
        assert_eq!((refusal.code, refusal.why), (code, bad.to_string()));
    }
}

#[test]
fn a_ban_holds_for_person_key_and_address_until_it_ends() {
    let keyed = Request { identity: Some(Ok(key())), ..at("192.0.2.1") };
    let keyed = Request { role_given: Some(Role::Admin), ..keyed };
    for who in [Subject::Person(key().person()), Subject::Key(key()), keyed.address.into()] {
        let mut bans = Bans::default();
        bans.add(Ban { who, until_s: Some(NOW_S + 60), why: "spam".to_owned() }).unwrap();
        let refusal = decide(&policy(), &bans, &keyed).unwrap_err();
        assert_eq!(refusal, Refusal::for_now(CloseCode::Banned, "spam", 60), "{who}");
        let later = Request { now_s: NOW_S + 60, ..keyed.clone() };
        assert!(decide(&policy(), &bans, &later).is_ok(), "{who}");
    }
    let mut bans = Bans::default();
    bans.add(Ban { who: keyed.address.into(), until_s: None, why: String::new() }).unwrap();
    let refusal = decide(&policy(), &bans, &keyed).unwrap_err();
    assert_eq!(refusal, Refusal::for_good(CloseCode::Banned, "no reason was given"));
}

#[test]
fn the_last_place_is_taken_once_and_staff_still_gets_in() {
    check(&Request { clients: 9, ..at("::1") }, "p-63 as visitor, a guest");
    let full = Request { clients: 10, ..at("::1") };
    let refusal = decide(&policy(), &Bans::default(), &full).unwrap_err();
    assert_eq!(refusal, Refusal::for_now(CloseCode::Full, "all 10 places are taken", 30));
    let staff =
        |clients| Request { token: Some(Ok(claims(Role::Moderator, None))), clients, ..at("::1") };
    assert!(decide(&policy(), &Bans::default(), &staff(17)).is_ok());
    assert!(decide(&policy(), &Bans::default(), &staff(18)).is_err());
}

#[test]
fn another_world_and_a_bad_name_are_refused() {
    check(
        &Request { world: Some(WorldId(8)), ..at("::1") },
        "no such world on this server: this server does not host that world; its greeting lists \
         those it hosts",
    );
    check(&Request { world: Some(WORLD), ..at("::1") }, "p-63 as visitor, a guest");
    check(
        &Request { name: "a\u{202E}b", ..at("::1") },
        "not allowed in: the name contains the invisible character U+202E",
    );
}
