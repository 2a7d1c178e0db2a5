//! The shelf: assets in the store and on their way there, for the streams and for operators.
//!
//! Whoever calls what touches the store does so from a thread that does not tick, as the lobby is
//! called. What is allowed is [`crate::assets`]' to decide; [`streams`] speaks with clients.

pub mod streams;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use protocol::asset::{Partial, RULES_MEDIA};
use protocol::ids::{ContentHash, PersonId};
use protocol::message::asset::{AssetAudience, AssetFound, AssetWhy, OfferAsset};
use protocol::rules::RuleBook;
use tokio::sync::Semaphore;

use crate::admin::{ASSETS_LISTED_MAX, SharedAsset};
use crate::admission::Role;
use crate::admission::access::Access;
use crate::admission::rates::Rate;
use crate::assets::parts::Parts;
use crate::assets::{Grant, GrantId, Ledger, Limits, Visitor, rows};
use crate::config::Config;
use crate::io::clock;
use crate::io::lobby::for_each_record;
use crate::status::names::AssetMetrics;
use crate::store::{Batch, Number, Store, StoreError, Stored, Tree};

/// Assets of people handed out at once: each holds up to 16 MB, a quarter of a gigabyte in all.
const FETCHES_MAX: usize = 16;

/// Contents on their way to the disk at once: each takes up to a quarter of the store's queue, and
/// what people do in the world must find room there.
const KEPT_AT_ONCE: usize = 1;

/// Grants removed in one batch: two changes each, half of what a batch may hold.
const REMOVED_MAX: usize = crate::store::BATCH_CHANGES_MAX / 4;

/// Milliseconds after which a second offer beside one that is sent may be tried again.
const SENDING_RETRY_MS: u32 = 1_000;

/// All assets of a world.
pub struct Shelf {
    store: Arc<dyn Store>,
    config: Arc<RwLock<Config>>,
    access: Arc<RwLock<Access>>,
    /// What belongs to the world and is for everyone.
    published: BTreeMap<ContentHash, Content>,
    ledger: Mutex<Ledger>,
    parts: Mutex<Parts>,
    /// What is being handed out, so that many who fetch the same share one copy.
    lent: Mutex<BTreeMap<GrantId, Weak<[u8]>>>,
    fetches: Arc<Semaphore>,
    /// Whose content goes to the store, one after another.
    keeping: Arc<Semaphore>,
    metrics: AssetMetrics,
}

/// Content that whoever asked may have.
#[derive(Clone, Debug)]
struct Content {
    head: AssetFound,
    bytes: Arc<[u8]>,
}

/// What an offer leads to.
enum Taken {
    /// Its bytes are here: it is kept until a moment once the batch of that number is durable.
    Kept(u64, Number),
    /// Its bytes are to come.
    Wanted(Upload),
}

/// An upload under way. However it ends, what came of it is remembered for a while, unless it was
/// [`finished`](Shelf::finish).
struct Upload {
    shelf: Arc<Shelf>,
    visitor: Visitor,
    offer: OfferAsset,
    partial: Option<Partial>,
}

impl Upload {
    fn got(&self) -> u64 {
        self.partial.as_ref().map_or(0, Partial::got)
    }

    /// Takes in the next bytes.
    fn push(&mut self, bytes: &[u8]) -> Result<(), AssetWhy> {
        let Some(partial) = &mut self.partial else { return Err(AssetWhy::Corrupt) };
        if partial.length() < partial.got() + bytes.len() as u64 {
            return Err(AssetWhy::Corrupt);
        }
        if !self.shelf.parts().grow(bytes.len() as u64) {
            return Err(AssetWhy::TooMany { retry_ms: SENDING_RETRY_MS });
        }
        self.shelf.metrics.bytes_in.increment(bytes.len() as u64);
        partial.push(bytes).map_err(|_| AssetWhy::Corrupt)
    }

    /// Forgets what came.
    fn forget(&mut self) {
        if let Some(partial) = self.partial.take() {
            self.shelf.parts().end(self.visitor.person, partial.got());
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take() {
            self.shelf.parts().rest(self.visitor.person, partial, clock::unix_s());
        }
    }
}

impl Shelf {
    /// Returns the shelf of a world with what its store holds; the world's own rules are on it for
    /// everyone.
    ///
    /// # Errors
    /// The store's.
    pub fn open(
        store: Arc<dyn Store>,
        config: Arc<RwLock<Config>>,
        access: Arc<RwLock<Access>>,
        book: &RuleBook,
    ) -> Result<Arc<Self>, StoreError> {
        let (mut ledger, mut lost) = (Ledger::default(), Vec::new());
        for_each_record(&*store, Tree::Assets, &rows::grants_prefix(), |key, stored| {
            let Some(id) = rows::grant_id(key) else { return Ok(()) };
            match stored {
                Stored::Live(record) => match rows::read_grant(&record) {
                    Ok(grant) => ledger.keep(id, grant),
                    Err(why) => tracing::warn!(why, "a shared asset cannot be read; left alone"),
                },
                Stored::Erased(_) => lost.push(id),
            }
            Ok(())
        })?;
        let bytes: Arc<[u8]> = book.archive().into();
        let head = AssetFound {
            length: bytes.len() as u64,
            media: RULES_MEDIA.into(),
            name: "rules".into(),
            until: None,
        };
        let shelf = Self {
            store,
            config,
            access,
            published: BTreeMap::from([(book.hash(), Content { head, bytes })]),
            ledger: Mutex::new(ledger),
            parts: Mutex::default(),
            lent: Mutex::default(),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            keeping: Arc::new(Semaphore::new(KEPT_AT_ONCE)),
            metrics: AssetMetrics::default(),
        };
        // Nobody can be given what an erased person shared; here it makes room.
        shelf.remove_all(&mut shelf.ledger(), &lost)?;
        Ok(Arc::new(shelf))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Limits {
        Limits::new(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn rate(&self) -> Rate {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        Rate { per_s: config.assets.requests_per_s, burst: config.assets.requests_burst }
    }

    fn visitor(&self, person: PersonId, role: Role) -> Visitor {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let is_muted = clock::unix_ms() < access.muted_until_ms(person);
        Visitor { person, role, is_muted }
    }

    /// Judges an offer; keeps it at once if its bytes are here already.
    fn offer(self: &Arc<Self>, visitor: Visitor, offer: OfferAsset) -> Result<Taken, AssetWhy> {
        let (limits, now_s) = (self.limits(), clock::unix_s());
        let id = (offer.hash, visitor.person);
        let is_own = self.ledger().own(id, now_s).is_some();
        // Of somebody who was erased a grant may stand for a moment without its bytes.
        let has_bytes = is_own && self.bytes_of(id)?.is_some();
        let mut ledger = self.ledger();
        let grant = ledger.judge(visitor, &offer, &limits, now_s)?;
        if let Some(own) = ledger.own(id, now_s).filter(|_| has_bytes) {
            if own.length != offer.length {
                return Err(AssetWhy::Corrupt);
            }
            let number = self.append(id, &grant, None)?;
            let until = grant.until_s;
            ledger.keep(id, grant);
            return Ok(Taken::Kept(until, number));
        }
        drop(ledger);
        let begun = self.parts().begin(visitor.person, offer.hash, offer.length);
        let partial = begun.ok_or(AssetWhy::TooMany { retry_ms: SENDING_RETRY_MS })?;
        let shelf = Arc::clone(self);
        Ok(Taken::Wanted(Upload { shelf, visitor, offer, partial: Some(partial) }))
    }

    /// Keeps what was sent, if all of it came and is what was offered. Bytes that came too early,
    /// while the store is busy, are remembered like those of a broken upload.
    fn finish(&self, mut upload: Upload) -> Result<(u64, Number), AssetWhy> {
        let Some(partial) = &upload.partial else { return Err(AssetWhy::Corrupt) };
        if !partial.is_whole() {
            return Err(AssetWhy::Short { got: partial.got() });
        }
        let content = partial.clone().finish().ok().flatten();
        let kept = content.ok_or(AssetWhy::Corrupt).and_then(|it| self.keep(&upload, it));
        if !matches!(kept, Err(AssetWhy::TooMany { .. })) {
            upload.forget();
        }
        kept
    }

    fn keep(&self, upload: &Upload, content: Vec<u8>) -> Result<(u64, Number), AssetWhy> {
        let (limits, now_s) = (self.limits(), clock::unix_s());
        let id = (upload.offer.hash, upload.visitor.person);
        let visitor = self.visitor(upload.visitor.person, upload.visitor.role);
        let mut ledger = self.ledger();
        // Others shared meanwhile: there may be no room any more.
        let grant = ledger.judge(visitor, &upload.offer, &limits, now_s)?;
        let number = self.append(id, &grant, Some(content))?;
        let until = grant.until_s;
        ledger.keep(id, grant);
        self.metrics.shared.increment(1);
        self.show(&ledger);
        Ok((until, number))
    }

    fn append(
        &self,
        id: GrantId,
        grant: &Grant,
        content: Option<Vec<u8>>,
    ) -> Result<Number, AssetWhy> {
        let mut batch = Batch::new();
        rows::put(&mut batch, id, grant, content);
        self.store.append(batch).map_err(not_written)
    }

    /// Returns what the world itself gives to everyone.
    fn published(&self, hash: ContentHash) -> Option<Content> {
        self.published.get(&hash).cloned()
    }

    /// Returns the content of this hash if `person` may have it now. Nothing says as little about
    /// content that is not there as about content that is not for them.
    fn find(&self, hash: ContentHash, person: PersonId) -> Result<Option<Content>, AssetWhy> {
        if let Some(content) = self.published(hash) {
            return Ok(Some(content));
        }
        let found: Vec<(GrantId, Grant)> = {
            let ledger = self.ledger();
            let found = ledger.find(hash, person, clock::unix_s());
            found.map(|(id, grant)| (id, grant.clone())).collect()
        };
        let mut trouble = Ok(None);
        for (id, Grant { length, media, name, until_s, .. }) in found {
            // That one was erased meanwhile, or is damaged, says nothing about the others.
            match self.bytes_of(id) {
                Ok(Some(bytes)) => {
                    let head = AssetFound { length, media, name, until: Some(until_s) };
                    return Ok(Some(Content { head, bytes }));
                }
                Ok(None) => {}
                Err(why) => trouble = Err(why),
            }
        }
        trouble
    }

    fn bytes_of(&self, id: GrantId) -> Result<Option<Arc<[u8]>>, AssetWhy> {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = lent.get(&id).and_then(Weak::upgrade) {
            return Ok(Some(bytes));
        }
        let stored = match self.store.read(Tree::Assets, &rows::content_key(id)) {
            Ok(stored) => stored,
            // It was removed while it was read.
            Err(_) if self.ledger().of(id.0, Some(id.1)).is_empty() => None,
            Err(error) => {
                tracing::error!(%error, "a shared asset cannot be read");
                return Err(AssetWhy::Store);
            }
        };
        let Some(record) = stored.and_then(Stored::live) else { return Ok(None) };
        let bytes: Arc<[u8]> = record.value.into();
        lent.retain(|_, bytes| 0 < bytes.strong_count());
        lent.insert(id, Arc::downgrade(&bytes));
        Ok(Some(bytes))
    }

    /// Takes back what a person shares; nothing if they do not share it.
    fn withdraw(&self, id: GrantId) -> Result<Option<Number>, AssetWhy> {
        let mut ledger = self.ledger();
        if ledger.own(id, clock::unix_s()).is_none() {
            return Ok(None);
        }
        let mut batch = Batch::new();
        rows::delete(&mut batch, id);
        let number = self.store.append(batch).map_err(not_written)?;
        ledger.remove(id);
        self.show(&ledger);
        Ok(Some(number))
    }

    /// Removes what is over, and what broken uploads left long ago. For every minute or so: nobody
    /// is given what is over in between.
    pub fn sweep(&self) {
        self.sweep_at(clock::unix_s());
    }

    fn sweep_at(&self, now_s: u64) {
        self.parts().forget_old(now_s);
        // Under one lock: what is offered anew in between is not over any more.
        let mut ledger = self.ledger();
        let over = ledger.expired(now_s);
        match self.remove_all(&mut ledger, &over) {
            Ok(_) if over.is_empty() => {}
            Ok(_) => tracing::info!(assets = over.len(), "assets whose time was over are removed"),
            Err(error) => tracing::error!(%error, "assets whose time is over cannot be removed"),
        }
        self.show(&ledger);
    }

    /// Removes everything of this hash, or one owner's; returns how much there was.
    ///
    /// # Errors
    /// The store's.
    pub fn remove(&self, hash: ContentHash, owner: Option<PersonId>) -> Result<usize, StoreError> {
        let mut ledger = self.ledger();
        let found = ledger.of(hash, owner);
        let removed = self.remove_all(&mut ledger, &found)?;
        self.show(&ledger);
        Ok(removed)
    }

    /// Takes everything off the shelf that a person shares or was sending, so that nobody is given
    /// it; they must not be in the world.
    ///
    /// # Errors
    /// The store's; call again.
    pub fn forget(&self, person: PersonId) -> Result<(), StoreError> {
        self.parts().forget(person);
        {
            let mut ledger = self.ledger();
            let theirs = ledger.of_owner(person);
            self.remove_all(&mut ledger, &theirs)?;
            self.show(&ledger);
        }
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| id.1 != person);
        Ok(())
    }

    fn remove_all(&self, ledger: &mut Ledger, ids: &[GrantId]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for ids in ids.chunks(REMOVED_MAX) {
            let mut batch = Batch::new();
            ids.iter().for_each(|&id| rows::delete(&mut batch, id));
            self.store.append(batch)?;
            removed += ids.iter().filter(|&&id| ledger.remove(id)).count();
        }
        Ok(removed)
    }

    /// Returns the `last` that everybody or one person shares, in the order of content, and how many
    /// of these there are in all; for operators.
    #[must_use]
    pub fn list(&self, owner: Option<PersonId>, last: u32) -> (Vec<SharedAsset>, usize) {
        let row = |(&(hash, owner), grant): (&GrantId, &Grant)| SharedAsset {
            hash: hash.to_string(),
            owner,
            length: grant.length,
            media: grant.media.clone(),
            name: grant.name.clone(),
            audience: match &grant.audience {
                AssetAudience::Owner => "owner".to_owned(),
                AssetAudience::Persons(persons) if persons.len() == 1 => "1 person".to_owned(),
                AssetAudience::Persons(persons) => format!("{} people", persons.len()),
                AssetAudience::Everyone => "everyone".to_owned(),
            },
            until_s: grant.until_s,
        };
        let last = last.min(ASSETS_LISTED_MAX) as usize;
        let ledger = self.ledger();
        let wanted = ledger.iter().filter(|(id, _)| owner.is_none_or(|owner| owner == id.1));
        let mut wanted: Vec<_> = wanted.collect();
        let of = wanted.len();
        wanted.sort_by_key(|(_, grant)| Reverse(grant.offered_s));
        wanted.truncate(last);
        wanted.sort_by_key(|(id, _)| **id);
        (wanted.into_iter().map(row).collect(), of)
    }

    fn show(&self, ledger: &Ledger) {
        self.metrics.assets.set(ledger.len() as f64);
        self.metrics.size_bytes.set(ledger.bytes() as f64);
    }
}

/// Returns what whoever shares is told when the store takes nothing.
#[expect(clippy::needless_pass_by_value, reason = "used as a function to map with")]
fn not_written(error: StoreError) -> AssetWhy {
    if matches!(error, StoreError::Busy { .. }) {
        return AssetWhy::TooMany { retry_ms: SENDING_RETRY_MS };
    }
    tracing::error!(%error, "what people share cannot be written");
    AssetWhy::Store
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names of what people share stay out of logs.
        f.debug_struct("Shelf").field("assets", &self.ledger().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
