//! What a token opens, and every way in which it does not.

use proptest::prelude::*;

use super::*;

const WORLD: WorldId = WorldId(7);
const DAY_S: u64 = 24 * 3600;
const NOW_S: u64 = 1_800_000_000;

fn mint() -> Mint {
    Mint::new(&Identity::from_seed([1; 32]))
}

fn grant(role: Role) -> Grant {
    let (purpose, expires_s) = (Purpose::People, NOW_S + DAY_S);
    Grant { purpose, role, person: None, world: WORLD, minted_s: NOW_S, expires_s }
}

fn minted(role: Role) -> (Vec<u8>, TokenId) {
    mint().mint(&grant(role), &[9; 32]).unwrap()
}

fn check_at(token: &[u8], now_s: u64) -> Result<Role, BadToken> {
    mint().check(token, WORLD, now_s, |_| false).map(|claims| claims.role)
}

#[test]
fn a_token_says_what_was_granted() {
    let bound = Grant { person: Some(PersonId(0x1F)), ..grant(Role::Moderator) };
    let (token, id) = mint().mint(&bound, &[9; 32]).unwrap();
    let claims = mint().check(&token, WORLD, NOW_S, |_| false).unwrap();
    let expected = Claims {
        role: Role::Moderator,
        person: Some(PersonId(0x1F)),
        expires_s: NOW_S + DAY_S,
        id,
    };
    assert_eq!(claims, expected);
    assert_eq!(claims.account(), PersonId(0x1F));
    let pasted = format!(" {}\n", to_text(&token).unwrap());
    assert_eq!(from_text(&pasted), Ok(token));
}

#[test]
fn a_token_ends_at_its_second() {
    let (token, _) = minted(Role::Admin);
    assert_eq!(check_at(&token, NOW_S + DAY_S - 1), Ok(Role::Admin));
    assert_eq!(check_at(&token, NOW_S + DAY_S), Err(BadToken::Expired));
    let never = Grant { expires_s: NOW_S, ..grant(Role::Admin) };
    assert!(matches!(mint().mint(&never, &[9; 32]), Err(MintError::EndsAtOnce { .. })));
}

#[test]
fn a_token_is_good_in_its_world_alone() {
    let (token, _) = minted(Role::Admin);
    let elsewhere = mint().check(&token, WorldId(8), NOW_S, |_| false);
    assert_eq!(elsewhere, Err(BadToken::NotForThisWorld));
}

#[test]
fn another_servers_token_and_every_changed_byte_are_refused() {
    let (token, _) = minted(Role::Visitor);
    let other = Mint::new(&Identity::from_seed([2; 32]));
    assert_eq!(other.check(&token, WORLD, NOW_S, |_| false), Err(BadToken::Forged));
    let claims = |token: &[u8]| mint().check(token, WORLD, NOW_S, |_| false);
    let granted = claims(&token);
    for at in 0..token.len() {
        let mut changed = token.clone();
        changed[at] ^= 0x10;
        // Some bytes are padding of the encoding, which say nothing whatever they are.
        let got = claims(&changed);
        assert!(got.is_err() || got == granted, "byte {at}: {got:?}");
        assert_eq!(claims(&token[..at]), Err(BadToken::Forged), "cut at {at}");
    }
    assert_eq!(check_at(&[0; TOKEN_BYTES_MAX + 1], NOW_S), Err(BadToken::Forged));
    assert_eq!(from_text("not a token"), Err(BadToken::Forged));
}

#[test]
fn a_revoked_token_takes_its_narrowings_along_but_not_the_other_way_round() {
    let (token, id) = minted(Role::Member);
    let narrowed = narrow(&token, Some(Role::Visitor), None, &[5; 32]).unwrap();
    let with_revoked = |token: &[u8], revoked| {
        mint().check(token, WORLD, NOW_S, |id| id == revoked).map(|claims| claims.role)
    };
    assert_eq!(with_revoked(&token, id), Err(BadToken::Revoked));
    assert_eq!(with_revoked(&narrowed, id), Err(BadToken::Revoked));
    let blocks = UnverifiedBiscuit::from(&narrowed).unwrap().revocation_identifiers();
    let narrowing = TokenId::of(&blocks[1]);
    assert_eq!(with_revoked(&narrowed, narrowing), Err(BadToken::Revoked));
    assert_eq!(with_revoked(&token, narrowing), Ok(Role::Member));
}

#[test]
fn narrowing_only_takes_away() {
    for granted in Role::ALL {
        for asked in Role::ALL {
            let (token, _) = minted(granted);
            let narrowed = narrow(&token, Some(asked), None, &[5; 32]).unwrap();
            assert_eq!(check_at(&narrowed, NOW_S), Ok(granted.min(asked)), "{granted} to {asked}");
        }
    }
    let (token, _) = minted(Role::Member);
    let shorter = narrow(&token, None, Some(NOW_S + 60), &[5; 32]).unwrap();
    assert_eq!(check_at(&shorter, NOW_S + 59), Ok(Role::Member));
    assert_eq!(check_at(&shorter, NOW_S + 60), Err(BadToken::Expired));
    let longer = narrow(&token, None, Some(NOW_S + 9 * DAY_S), &[5; 32]).unwrap();
    assert_eq!(check_at(&longer, NOW_S + DAY_S), Err(BadToken::Expired));
}

fn with_block(role: Role, code: &str) -> Result<Role, BadToken> {
    check_at(&added(role, code), NOW_S)
}

/// Returns a token for `role` with a block of `code` added by its bearer.
fn added(role: Role, code: &str) -> Vec<u8> {
    let (token, _) = minted(role);
    let block = BlockBuilder::new().code(code).unwrap();
    let token = UnverifiedBiscuit::from(&token).unwrap();
    token.append_with_keypair(&key_pair(&[5; 32]), block).unwrap().to_vec().unwrap()
}

#[test]
fn narrowings_of_other_tools_are_understood_where_they_say_the_same() {
    let later = "check if time($time), $time <= 2027-02-01T00:00:00Z;";
    let earlier = "check if time($t), $t < 2020-02-01T00:00:00Z;";
    assert_eq!(with_block(Role::Admin, later), Ok(Role::Admin));
    assert_eq!(with_block(Role::Admin, earlier), Err(BadToken::Narrowed));
    let both = format!("check if acting(\"member\"); {later}");
    assert_eq!(with_block(Role::Admin, &both), Ok(Role::Member));
    assert_eq!(with_block(Role::Visitor, &both), Err(BadToken::Narrowed));
}

#[test]
fn blocks_that_claim_something_or_keep_the_server_busy_are_refused() {
    let facts: String = (0..200).map(|n| format!("n({n});")).collect();
    let busy = format!("{facts} m($a, $b, $c) <- n($a), n($b), n($c);");
    let refused = [
        "grant(\"admin\", \"w-7\", 2020-01-01T00:00:00Z, 2090-01-01T00:00:00Z);",
        "acting(\"admin\");",
        "person(\"p-1\");",
        "grant(\"admin\", $w, $m, $e) <- grant($r, $w, $m, $e);",
        "check if reading(\"a book\");",
        "check if acting(\"root\");",
        "check if acting($a), acting($b), acting($c);",
        "check if time($t), $t < 2090-01-01T00:00:00Z || true;",
        "check if time($t), [1, 2].all($x -> [1, 2].all($y -> $x < $y));",
        "check all time($t), $t < 2090-01-01T00:00:00Z;",
        "reject if acting(\"admin\");",
        &busy,
    ];
    for code in refused {
        assert_eq!(with_block(Role::Admin, code), Err(BadToken::Narrowed), "{code}");
    }
}

#[test]
fn there_is_an_end_to_narrowing() {
    let (mut token, _) = minted(Role::Member);
    for _ in 1..BLOCKS_MAX {
        token = narrow(&token, Some(Role::Member), None, &[5; 32]).unwrap();
    }
    assert_eq!(check_at(&token, NOW_S), Ok(Role::Member));
    let refused = narrow(&token, Some(Role::Member), None, &[5; 32]).unwrap_err();
    assert!(matches!(refused, MintError::TooLong { blocks: 9, .. }), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nobody_makes_or_changes_a_token(
        bytes in prop::collection::vec(any::<u8>(), 0..512),
        at in any::<prop::sample::Index>(),
        change in 1..=u8::MAX,
    ) {
        prop_assert_eq!(check_at(&bytes, NOW_S), Err(BadToken::Forged));
        let (mut token, _) = minted(Role::Member);
        *at.get_mut(&mut token) ^= change;
        prop_assert_eq!(check_at(&token, NOW_S), Err(BadToken::Forged));
    }
}

#[test]
fn ids_read_back() {
    let (_, id) = minted(Role::Member);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!("t-1".parse::<TokenId>(), Err(BadTokenId));
}
