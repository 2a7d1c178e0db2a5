//! Exchanges between two people: the offer that stands until it is answered or runs out.

use serde::{Deserialize, Serialize};

use super::kind::Lot;
use super::verb::Portion;
use crate::ids::EntityId;
use crate::units::Tick;

/// The number of an offer, unique in the world and never reused.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct OfferId(pub u64);

/// One person's offer to another.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Offer {
    /// Its number.
    pub id: OfferId,
    /// Who offers.
    pub from: EntityId,
    /// Who may accept.
    pub to: EntityId,
    /// What is given: held things and how many of each.
    pub give: Vec<Portion>,
    /// The same as kinds, for the one who is asked.
    pub give_lots: Vec<Lot>,
    /// What is wanted for it.
    pub want: Vec<Lot>,
    /// The last tick at which it can be accepted.
    pub until: Tick,
}

/// How an offer ended. Numbers are stable; new ones come at the end.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum OfferEnd {
    /// Accepted, and the things changed hands.
    Accepted = 0,
    /// Declined by the one who was asked.
    Declined = 1,
    /// Taken back by the one who offered.
    Withdrawn = 2,
    /// Nobody answered in time.
    Expired = 3,
}
