//! The shelf on a store in memory: what is shared, found, taken back and forgotten.

use protocol::asset::BadAsset;

use super::*;
use crate::config::Settings;
use crate::store::MemoryStore;
use crate::store::memory::Fault;

const ADA: PersonId = PersonId(0xAD);
const BEN: PersonId = PersonId(0xBE);

fn shelf_on(store: &Arc<MemoryStore>) -> Arc<Shelf> {
    let config = Arc::new(RwLock::new(Settings::defaults().config));
    let store = Arc::clone(store) as Arc<dyn Store>;
    Shelf::open(store, config, Arc::default(), &RuleBook::starter()).expect("the store reads")
}

fn offer(content: &[u8], audience: AssetAudience) -> OfferAsset {
    OfferAsset {
        hash: ContentHash::of(content),
        length: content.len() as u64,
        media: "text/plain".into(),
        name: "words".into(),
        audience,
        keep_s: 60,
    }
}

/// Offers and sends content; returns what the shelf says in the end.
fn share(
    shelf: &Arc<Shelf>,
    person: PersonId,
    offer: OfferAsset,
    sent: &[u8],
) -> Result<u64, AssetWhy> {
    let visitor = shelf.visitor(person, Role::Member);
    match shelf.offer(visitor, offer)? {
        Taken::Kept(until, _) => Ok(until),
        Taken::Wanted(mut upload) => {
            upload.push(sent)?;
            shelf.finish(upload).map(|(until, _)| until)
        }
    }
}

fn found(shelf: &Shelf, content: &[u8], person: PersonId) -> Option<Vec<u8>> {
    let found = shelf.find(ContentHash::of(content), person).expect("the store reads");
    found.map(|content| content.bytes.to_vec())
}

fn all(shelf: &Shelf) -> Vec<SharedAsset> {
    shelf.list(None, 100).0
}

fn store() -> Arc<MemoryStore> {
    let store = MemoryStore::new(1);
    store.enroll(ADA).expect("a key");
    store.enroll(BEN).expect("a key");
    Arc::new(store)
}

#[test]
fn what_is_shared_outlives_the_shelf_and_not_its_owner() {
    let store = store();
    let words = vec![7; 40_000];
    let shelf = shelf_on(&store);
    share(&shelf, ADA, offer(&words, AssetAudience::Everyone), &words).expect("kept");
    share(&shelf, BEN, offer(b"mine", AssetAudience::Owner), b"mine").expect("kept");
    let shelf = shelf_on(&store);
    assert_eq!(found(&shelf, &words, BEN), Some(words.clone()));
    assert_eq!(found(&shelf, b"mine", BEN), Some(b"mine".to_vec()));
    assert_eq!(found(&shelf, b"mine", ADA), None);
    store.erase(ADA).expect("erased");
    let shelf = shelf_on(&store);
    assert_eq!(found(&shelf, &words, BEN), None);
    assert_eq!(all(&shelf).len(), 1);
}

#[test]
fn the_erased_take_what_they_share_along_and_nothing_of_others() {
    let store = store();
    let shelf = shelf_on(&store);
    let words = || offer(b"words", AssetAudience::Everyone);
    for person in [ADA, BEN] {
        share(&shelf, person, words(), b"words").expect("kept");
    }
    // Her key goes first: what she granted stands for a moment without its bytes.
    assert_eq!(store.erase(ADA), Ok(true));
    assert_eq!(found(&shelf, b"words", PersonId(1)), Some(b"words".to_vec()), "Ben's");
    store.enroll(ADA).expect("a new key");
    assert!(share(&shelf, ADA, words(), b"").is_err(), "the bytes are wanted again");
    share(&shelf, ADA, words(), b"words").expect("kept");
    let visitor = shelf.visitor(ADA, Role::Member);
    let begun = shelf.offer(visitor, offer(b"more", AssetAudience::Owner));
    let Ok(Taken::Wanted(mut upload)) = begun else { panic!("wanted") };
    upload.push(b"mo").expect("room");
    drop(upload);
    shelf.forget(ADA).expect("written");
    assert_eq!(all(&shelf).iter().map(|asset| asset.owner).collect::<Vec<_>>(), [BEN]);
    assert_eq!(shelf.parts().bytes(), 0);
    for key in [rows::grant_key, rows::content_key] {
        let kept = |person| store.read(Tree::Assets, &key((ContentHash::of(b"words"), person)));
        assert_eq!((kept(ADA), kept(BEN).map(|it| it.is_some())), (Ok(None), Ok(true)));
    }
}

#[test]
fn other_bytes_and_too_many_are_kept_by_nobody() {
    let store = store();
    let shelf = shelf_on(&store);
    let words = || offer(b"words", AssetAudience::Everyone);
    assert_eq!(share(&shelf, ADA, words(), b"Words"), Err(AssetWhy::Corrupt));
    assert_eq!(share(&shelf, ADA, words(), b"words!"), Err(AssetWhy::Corrupt));
    assert_eq!(found(&shelf, b"words", ADA), None);
    assert_eq!(shelf.parts().bytes(), 0);
    let no_name = OfferAsset { name: "a/b".into(), ..words() };
    assert_eq!(no_name.check(), Err(BadAsset::Name));
    assert_eq!(share(&shelf, ADA, no_name, b"words"), Err(AssetWhy::Name));
}

#[test]
fn a_broken_upload_goes_on_and_ends_once() {
    let store = store();
    let shelf = shelf_on(&store);
    let visitor = shelf.visitor(ADA, Role::Member);
    let words = || offer(b"words", AssetAudience::Everyone);
    let Ok(Taken::Wanted(mut upload)) = shelf.offer(visitor, words()) else { panic!("wanted") };
    upload.push(b"wo").expect("room");
    assert!(shelf.offer(visitor, words()).is_err(), "one at a time");
    drop(upload);
    assert_eq!(share(&shelf, ADA, words(), b"r"), Err(AssetWhy::Short { got: 3 }));
    share(&shelf, ADA, words(), b"ds").expect("the rest of it");
    assert_eq!(found(&shelf, b"words", BEN), Some(b"words".to_vec()));
    assert_eq!(shelf.parts().bytes(), 0);
    // Again: nothing is to be sent, and the audience is as offered now.
    share(&shelf, ADA, offer(b"words", AssetAudience::Owner), b"").expect("kept at once");
    assert_eq!(found(&shelf, b"words", BEN), None);
}

#[test]
fn a_busy_store_costs_nobody_what_they_sent() {
    let store = store();
    let shelf = shelf_on(&store);
    let words = || offer(b"words", AssetAudience::Everyone);
    store.set_fault(Fault::Hold);
    while store.append(Batch::new()).is_ok() {}
    let busy = Err(AssetWhy::TooMany { retry_ms: SENDING_RETRY_MS });
    assert_eq!(share(&shelf, ADA, words(), b"words"), busy);
    assert_eq!(shelf.parts().bytes(), 5);
    store.set_fault(Fault::None);
    share(&shelf, ADA, words(), b"").expect("all of it is here");
    assert_eq!(found(&shelf, b"words", BEN), Some(b"words".to_vec()));
    assert_eq!(shelf.parts().bytes(), 0);
}

#[test]
fn what_is_shared_anew_is_not_over() {
    let store = store();
    let shelf = shelf_on(&store);
    let words = || offer(b"words", AssetAudience::Everyone);
    let until_s = share(&shelf, ADA, words(), b"words").expect("kept");
    let renewed = OfferAsset { keep_s: 600, ..words() };
    assert!(until_s < share(&shelf, ADA, renewed, b"").expect("kept"));
    shelf.sweep_at(until_s);
    assert_eq!(found(&shelf, b"words", BEN), Some(b"words".to_vec()));
    share(&shelf, ADA, words(), b"").expect("kept");
    shelf.sweep_at(until_s + 60);
    assert_eq!(all(&shelf), []);
}

#[test]
fn what_is_withdrawn_or_removed_is_gone_at_once_and_for_good() {
    let store = store();
    let shelf = shelf_on(&store);
    let words = || offer(b"words", AssetAudience::Everyone);
    share(&shelf, ADA, words(), b"words").expect("kept");
    share(&shelf, BEN, words(), b"words").expect("kept");
    let hash = ContentHash::of(b"words");
    assert!(shelf.withdraw((hash, ADA)).expect("written").is_some());
    assert!(shelf.withdraw((hash, ADA)).expect("written").is_none());
    assert_eq!(found(&shelf, b"words", ADA), Some(b"words".to_vec()), "Ben's");
    assert_eq!(shelf.remove(hash, None), Ok(1));
    assert_eq!(found(&shelf, b"words", ADA), None);
    assert!(all(&shelf_on(&store)).is_empty());
}

#[test]
fn the_newest_are_listed_and_one_persons_alone() {
    let shelf = shelf_on(&store());
    for content in 1..=4_u8 {
        let grant = Grant {
            length: 1,
            media: "text/plain".into(),
            name: "words".into(),
            audience: AssetAudience::Owner,
            offered_s: 100 - u64::from(content),
            until_s: u64::MAX,
        };
        let owner = if content == 2 { BEN } else { ADA };
        shelf.ledger().keep((ContentHash([content; 32]), owner), grant);
    }
    let listed = |owner, last| {
        let (assets, of) = shelf.list(owner, last);
        let firsts = assets.iter().map(|asset| asset.hash[..2].to_owned());
        (firsts.collect::<Vec<_>>().join(" "), of)
    };
    assert_eq!(listed(None, 10), ("01 02 03 04".to_owned(), 4));
    assert_eq!(listed(None, 2), ("01 02".to_owned(), 4), "the newest");
    assert_eq!(listed(Some(ADA), 2), ("01 03".to_owned(), 3), "of hers");
    assert_eq!(listed(Some(PersonId(1)), 2), (String::new(), 0));
}

#[test]
fn the_rules_of_the_world_are_there_for_everyone() {
    let shelf = shelf_on(&store());
    let book = RuleBook::starter();
    let found = shelf.find(book.hash(), PersonId(0)).expect("read").expect("there");
    assert_eq!((found.head.media.as_str(), found.head.until), (RULES_MEDIA, None));
    assert_eq!(RuleBook::from_archive(&found.bytes), Ok(book));
}
