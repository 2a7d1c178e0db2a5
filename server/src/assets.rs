//! Assets that people share: what is kept of whom, for whom, and until when.
//!
//! [`Ledger`] decides every offer and every fetch from what it is told; time is an argument. The
//! bytes are [`parts`]' while they come and the store's afterwards ([`rows`] says where), and
//! [`crate::io::assets`] carries out what is decided here.

pub mod parts;
pub mod rows;

use std::collections::BTreeMap;

use protocol::asset::BadAsset;
use protocol::ids::{ContentHash, PersonId};
use protocol::limits::ASSET_BYTES_MAX;
use protocol::message::asset::{AssetAudience, AssetWhy, OfferAsset};
use serde::{Deserialize, Serialize};

use crate::admission::Role;
use crate::config::{Config, media_types};

/// Assets a server keeps at once: at 300 bytes each 6 MB of memory.
pub const GRANTS_MAX: usize = 20_000;

/// Bytes of a megabyte, as the settings count.
const MEGABYTE: u64 = 1 << 20;

/// Seconds of an hour.
const HOUR_S: u64 = 3_600;

/// Who asks for something about assets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The person.
    pub person: PersonId,
    /// What they may do.
    pub role: Role,
    /// Whether they may not speak at the moment.
    pub is_muted: bool,
}

/// What an operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one asset.
    pub asset_bytes: u64,
    /// Bytes of one person's assets together.
    pub person_bytes: u64,
    /// One person's assets.
    pub person_assets: u32,
    /// Bytes of all assets together.
    pub total_bytes: u64,
    /// Seconds for which an asset is kept at most.
    pub keep_s: u64,
    /// Media types that are taken, such as `image/png` or `image/*`; none: all.
    pub media: Vec<String>,
}

impl Limits {
    /// Returns what the settings allow.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let assets = &config.assets;
        Self {
            asset_bytes: (u64::from(assets.asset_mb) * MEGABYTE).min(ASSET_BYTES_MAX),
            person_bytes: u64::from(assets.person_mb) * MEGABYTE,
            person_assets: assets.person_count,
            total_bytes: u64::from(assets.total_mb) * MEGABYTE,
            keep_s: u64::from(assets.keep_hours) * HOUR_S,
            media: media_types(&assets.media).map(str::to_owned).collect(),
        }
    }

    fn takes(&self, media: &str) -> bool {
        let fits = |allowed: &String| match allowed.strip_suffix("/*") {
            Some(family) => media.split_once('/').is_some_and(|(left, _)| left == family),
            None => media == allowed,
        };
        self.media.is_empty() || self.media.iter().any(fits)
    }
}

/// What one person offered of one content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// How many bytes it has.
    pub length: u64,
    /// What it is, as a media type.
    pub media: String,
    /// What it is called.
    pub name: String,
    /// Who may fetch it besides its owner.
    pub audience: AssetAudience,
    /// Unix time in seconds at which it was offered last.
    pub offered_s: u64,
    /// Unix time in seconds at which it goes.
    pub until_s: u64,
}

impl Grant {
    fn is_for(&self, owner: PersonId, person: PersonId) -> bool {
        owner == person
            || match &self.audience {
                AssetAudience::Owner => false,
                AssetAudience::Persons(persons) => persons.contains(&person),
                AssetAudience::Everyone => true,
            }
    }
}

/// Names one grant: which content, and who offered it.
pub type GrantId = (ContentHash, PersonId);

/// How much one person keeps here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holding {
    bytes: u64,
    assets: u32,
}

/// Every grant there is.
#[derive(Debug, Default)]
pub struct Ledger {
    grants: BTreeMap<GrantId, Grant>,
    holdings: BTreeMap<PersonId, Holding>,
    bytes: u64,
}

impl Ledger {
    /// Returns how many grants there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Returns whether there is no grant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Returns how many bytes are kept in all.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns every grant, in the order of content and owner.
    pub fn iter(&self) -> impl Iterator<Item = (&GrantId, &Grant)> {
        self.grants.iter()
    }

    /// Judges an offer at `now_s`: what is to be granted once the bytes are here.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn judge(
        &self,
        who: Visitor,
        offer: &OfferAsset,
        limits: &Limits,
        now_s: u64,
    ) -> Result<Grant, AssetWhy> {
        if who.role == Role::Visitor {
            return Err(AssetWhy::Forbidden);
        }
        // Said first, as no offer could be made that would be taken.
        if limits.total_bytes == 0 {
            return Err(AssetWhy::Full);
        }
        if who.is_muted {
            return Err(AssetWhy::Muted);
        }
        let max = limits.asset_bytes;
        offer.check().map_err(|bad| match bad {
            BadAsset::Length { .. } => AssetWhy::Length { max },
            BadAsset::Media => AssetWhy::Media,
            BadAsset::Name => AssetWhy::Name,
            BadAsset::Audience { .. } => AssetWhy::Audience,
        })?;
        if !limits.takes(&offer.media) {
            return Err(AssetWhy::Media);
        }
        if max < offer.length {
            return Err(AssetWhy::Length { max });
        }
        self.check_room((offer.hash, who.person), offer.length, limits)?;
        let keep_s = match u64::from(offer.keep_s) {
            0 => limits.keep_s,
            keep_s => keep_s.min(limits.keep_s),
        };
        Ok(Grant {
            length: offer.length,
            media: offer.media.clone(),
            name: offer.name.clone(),
            audience: offer.audience.clone(),
            offered_s: now_s,
            until_s: now_s.saturating_add(keep_s),
        })
    }

    /// Checks that there is room; what stands under the same id makes room for its successor.
    fn check_room(&self, id: GrantId, length: u64, limits: &Limits) -> Result<(), AssetWhy> {
        let old = self.grants.get(&id).map_or(0, |grant| grant.length);
        let held = self.holdings.get(&id.1).copied().unwrap_or_default();
        let bytes_left = limits.person_bytes.saturating_sub(held.bytes - old);
        let others = held.assets - u32::from(0 < old);
        let assets_left = limits.person_assets.saturating_sub(others);
        if bytes_left < length || assets_left == 0 {
            return Err(AssetWhy::Quota { bytes_left, assets_left });
        }
        let is_full = limits.total_bytes < self.bytes - old + length
            || old == 0 && GRANTS_MAX <= self.grants.len();
        if is_full { Err(AssetWhy::Full) } else { Ok(()) }
    }

    /// Returns what this person grants of this content at `now_s`.
    #[must_use]
    pub fn own(&self, id: GrantId, now_s: u64) -> Option<&Grant> {
        self.grants.get(&id).filter(|grant| now_s < grant.until_s)
    }

    /// Returns the grants under which `person` may have the content at `now_s`, their own first.
    pub fn find(
        &self,
        hash: ContentHash,
        person: PersonId,
        now_s: u64,
    ) -> impl Iterator<Item = (GrantId, &Grant)> {
        let all = self.grants.range((hash, PersonId(0))..=(hash, PersonId(u64::MAX)));
        let of_others = all.filter(move |((_, owner), grant)| {
            *owner != person && now_s < grant.until_s && grant.is_for(*owner, person)
        });
        let own = self.own((hash, person), now_s).map(|grant| ((hash, person), grant));
        own.into_iter().chain(of_others.map(|(&id, grant)| (id, grant)))
    }

    /// Takes a grant in, in place of what stood under its id.
    pub fn keep(&mut self, id: GrantId, grant: Grant) {
        self.remove(id);
        let held = self.holdings.entry(id.1).or_default();
        held.bytes += grant.length;
        held.assets += 1;
        self.bytes += grant.length;
        self.grants.insert(id, grant);
    }

    /// Takes a grant out; returns whether there was one.
    pub fn remove(&mut self, id: GrantId) -> bool {
        let Some(grant) = self.grants.remove(&id) else { return false };
        self.bytes -= grant.length;
        if let Some(held) = self.holdings.get_mut(&id.1) {
            held.bytes -= grant.length;
            held.assets -= 1;
            if held.assets == 0 {
                self.holdings.remove(&id.1);
            }
        }
        true
    }

    /// Returns the grants whose time is over at `now_s`; they count until they are removed.
    #[must_use]
    pub fn expired(&self, now_s: u64) -> Vec<GrantId> {
        let over = self.grants.iter().filter(|(_, grant)| grant.until_s <= now_s);
        over.map(|(&id, _)| id).collect()
    }

    /// Returns everything that a person grants.
    #[must_use]
    pub fn of_owner(&self, owner: PersonId) -> Vec<GrantId> {
        self.grants.keys().filter(|id| id.1 == owner).copied().collect()
    }

    /// Returns the grants of this content, all of them or one owner's.
    #[must_use]
    pub fn of(&self, hash: ContentHash, owner: Option<PersonId>) -> Vec<GrantId> {
        let all = self.grants.range((hash, PersonId(0))..=(hash, PersonId(u64::MAX)));
        let wanted = all.filter(|((_, of), _)| owner.is_none_or(|owner| *of == owner));
        wanted.map(|(&id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests;
