//! Tables of what the ledger takes, refuses and hands out.

use protocol::message::asset::{AssetAudience, OfferAsset};

use super::*;
use crate::config::{Input, Settings};

const NOW_S: u64 = 1_000_000;
const ADA: PersonId = PersonId(0xAD);
const BEN: PersonId = PersonId(0xBE);
const CLEO: PersonId = PersonId(0xC1);

fn limits() -> Limits {
    Limits {
        asset_bytes: 1_000,
        person_bytes: 2_500,
        person_assets: 3,
        total_bytes: 4_000,
        keep_s: 100,
        media: vec!["image/*".into(), "text/plain".into()],
    }
}

fn hash(content: u8) -> ContentHash {
    ContentHash([content; 32])
}

fn offer(content: u8, length: u64) -> OfferAsset {
    OfferAsset {
        hash: hash(content),
        length,
        media: "image/png".into(),
        name: "hat.png".into(),
        audience: AssetAudience::Everyone,
        keep_s: 50,
    }
}

fn member(person: PersonId) -> Visitor {
    Visitor { person, role: Role::Member, is_muted: false }
}

/// Keeps what is offered; it must be allowed.
fn keep(ledger: &mut Ledger, person: PersonId, offer: &OfferAsset) {
    let grant = ledger.judge(member(person), offer, &limits(), NOW_S).expect("allowed");
    ledger.keep((offer.hash, person), grant);
}

/// Checks what an offer is refused for, beside what Ada keeps: 900 and 800 bytes.
fn check(who: Visitor, offered: &OfferAsset, expected: Result<u64, AssetWhy>) {
    let mut ledger = Ledger::default();
    keep(&mut ledger, ADA, &offer(1, 900));
    keep(&mut ledger, ADA, &offer(2, 800));
    let judged = ledger.judge(who, offered, &limits(), NOW_S);
    assert_eq!(judged.map(|grant| grant.until_s - NOW_S), expected, "{offered:?}");
}

#[test]
fn an_offer_is_taken_or_refused_for_the_first_thing_that_is_wrong() {
    let (ada, ben) = (member(ADA), member(BEN));
    check(ben, &offer(3, 1_000), Ok(50));
    check(Visitor { role: Role::Visitor, ..ben }, &offer(3, 1), Err(AssetWhy::Forbidden));
    check(Visitor { is_muted: true, ..ben }, &offer(3, 1), Err(AssetWhy::Muted));
    check(ben, &offer(3, 1_001), Err(AssetWhy::Length { max: 1_000 }));
    check(ben, &offer(3, 0), Err(AssetWhy::Length { max: 1_000 }));
    check(ben, &offer(3, u64::MAX), Err(AssetWhy::Length { max: 1_000 }));
    check(ben, &OfferAsset { media: "image".into(), ..offer(3, 1) }, Err(AssetWhy::Media));
    check(ben, &OfferAsset { media: "text/html".into(), ..offer(3, 1) }, Err(AssetWhy::Media));
    check(ben, &OfferAsset { media: "text/plain".into(), ..offer(3, 1) }, Ok(50));
    check(ben, &OfferAsset { name: "../hat".into(), ..offer(3, 1) }, Err(AssetWhy::Name));
    let nobody = AssetAudience::Persons(Vec::new());
    check(ben, &OfferAsset { audience: nobody, ..offer(3, 1) }, Err(AssetWhy::Audience));
    check(ada, &offer(3, 800), Ok(50));
    check(ada, &offer(3, 801), Err(AssetWhy::Quota { bytes_left: 800, assets_left: 1 }));
    // The same bytes again replace what stands, whatever else there is.
    check(ada, &offer(1, 900), Ok(50));
    // The same bytes of somebody else are another asset.
    check(ben, &offer(1, 900), Ok(50));
}

#[test]
fn it_is_kept_for_as_long_as_asked_within_bounds() {
    check(member(BEN), &OfferAsset { keep_s: 1, ..offer(3, 1) }, Ok(1));
    check(member(BEN), &OfferAsset { keep_s: u32::MAX, ..offer(3, 1) }, Ok(100));
    check(member(BEN), &OfferAsset { keep_s: 0, ..offer(3, 1) }, Ok(100));
}

#[test]
fn one_keeps_so_many_and_all_together_so_much() {
    let mut ledger = Ledger::default();
    (0..3).for_each(|content| keep(&mut ledger, ADA, &offer(content, 10)));
    let more = ledger.judge(member(ADA), &offer(9, 10), &limits(), NOW_S);
    assert_eq!(more, Err(AssetWhy::Quota { bytes_left: 2_470, assets_left: 0 }));
    let mut ledger = Ledger::default();
    (0..2).for_each(|content| keep(&mut ledger, ADA, &offer(content, 1_000)));
    (0..2).for_each(|content| keep(&mut ledger, BEN, &offer(content, 1_000)));
    assert_eq!((ledger.len(), ledger.bytes()), (4, 4_000));
    let more = ledger.judge(member(CLEO), &offer(9, 1), &limits(), NOW_S);
    assert_eq!(more, Err(AssetWhy::Full));
    assert!(ledger.remove((hash(0), ADA)) && !ledger.remove((hash(0), ADA)));
    assert!(ledger.judge(member(CLEO), &offer(9, 1_000), &limits(), NOW_S).is_ok());
    let none = Limits { total_bytes: 0, ..limits() };
    let off = ledger.judge(member(CLEO), &offer(9, 1), &none, NOW_S);
    assert_eq!(off, Err(AssetWhy::Full), "no role is to blame");
}

#[test]
fn knowing_a_hash_gives_no_right() {
    let mut ledger = Ledger::default();
    let offer = |content, audience| OfferAsset { audience, ..offer(content, 10) };
    keep(&mut ledger, ADA, &offer(1, AssetAudience::Owner));
    keep(&mut ledger, ADA, &offer(2, AssetAudience::Persons(vec![BEN])));
    keep(&mut ledger, ADA, &offer(3, AssetAudience::Everyone));
    let found = |content, person, now_s| {
        ledger.find(hash(content), person, now_s).map(|((_, owner), _)| owner).next()
    };
    for (content, person, expected) in [
        (1, ADA, Some(ADA)),
        (1, BEN, None),
        (2, ADA, Some(ADA)),
        (2, BEN, Some(ADA)),
        (2, CLEO, None),
        (3, CLEO, Some(ADA)),
        (4, ADA, None),
    ] {
        assert_eq!(found(content, person, NOW_S), expected, "{content} for {person}");
    }
    // In its last second, and after it.
    assert_eq!(found(3, CLEO, NOW_S + 49), Some(ADA));
    assert_eq!(found(3, CLEO, NOW_S + 50), None);
    assert_eq!(found(3, ADA, NOW_S + 50), None);
}

#[test]
fn the_same_bytes_of_two_people_are_two_grants() {
    let mut ledger = Ledger::default();
    keep(&mut ledger, ADA, &OfferAsset { audience: AssetAudience::Owner, ..offer(1, 10) });
    let found = |ledger: &Ledger, person| {
        ledger.find(hash(1), person, NOW_S).map(|((_, owner), _)| owner).collect::<Vec<_>>()
    };
    assert_eq!(found(&ledger, CLEO), []);
    keep(&mut ledger, BEN, &offer(1, 10));
    assert_eq!(found(&ledger, CLEO), [BEN], "Ben's is for everyone");
    assert_eq!(found(&ledger, ADA), [ADA, BEN], "her own comes first");
    assert_eq!(ledger.of_owner(BEN), [(hash(1), BEN)]);
    assert_eq!(ledger.of(hash(1), None), [(hash(1), ADA), (hash(1), BEN)]);
    assert_eq!(ledger.of(hash(1), Some(BEN)), [(hash(1), BEN)]);
    assert!(ledger.remove((hash(1), BEN)));
    assert_eq!(found(&ledger, CLEO), []);
}

#[test]
fn what_is_over_is_found_and_makes_room_when_removed() {
    let mut ledger = Ledger::default();
    keep(&mut ledger, ADA, &offer(1, 10));
    keep(&mut ledger, BEN, &OfferAsset { keep_s: 10, ..offer(2, 20) });
    assert_eq!(ledger.expired(NOW_S + 9), []);
    assert_eq!(ledger.expired(NOW_S + 10), [(hash(2), BEN)]);
    assert_eq!(ledger.expired(NOW_S + 50).len(), 2);
    ledger.expired(NOW_S + 50).into_iter().for_each(|id| assert!(ledger.remove(id)));
    assert!(ledger.is_empty() && ledger.bytes() == 0 && ledger.holdings.is_empty());
}

#[test]
fn the_settings_become_limits() {
    let flag = Input::Flag { flag: "--set", key: "assets.media", value: " image/*, text/plain ,," };
    let settings = Settings::layer(&[flag]).expect("settings");
    let limits = Limits::new(&settings.config);
    assert_eq!(limits.media, ["image/*", "text/plain"]);
    assert_eq!(limits.asset_bytes, ASSET_BYTES_MAX);
    assert!(limits.takes("image/png") && !limits.takes("imagex/png") && !limits.takes("text/html"));
    assert!(Limits::new(&Settings::defaults().config).takes("text/html"));
}
