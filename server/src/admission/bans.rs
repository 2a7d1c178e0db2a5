//! Who is kept out: people, keys and addresses, each until a moment or for good.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use protocol::ids::PersonId;
use serde::{Deserialize, Serialize};

use crate::identity::PublicKey;

/// Bans kept: looked up by subject, at 100 bytes each this is 10 MB.
pub const BANS_MAX: usize = 100_000;

/// Characters of a ban's reason: a sentence or two.
pub const WHY_CHARS_MAX: usize = 200;

/// Who is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A person, by id.
    Person(PersonId),
    /// Whoever holds a key.
    Key(PublicKey),
    /// Whoever comes from an address; for IPv6 the network of 64 bits that one household has.
    Address(IpAddr),
}

impl From<IpAddr> for Subject {
    fn from(address: IpAddr) -> Self {
        Self::Address(household(address))
    }
}

/// Returns what stands for everybody behind one connection to the Internet: an IPv4 address, or
/// the first 64 bits of an IPv6 address, as one household can use all of the rest.
#[must_use]
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(person) => write!(f, "{person}"),
            Self::Key(key) => write!(f, "{key}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Text that names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no person (p-1f), key (64 hexadecimal digits) or address (192.0.2.1)")]
pub struct BadSubject(String);

impl FromStr for Subject {
    type Err = BadSubject;

    fn from_str(text: &str) -> Result<Self, BadSubject> {
        let person = || text.parse().ok();
        let address = || text.parse::<IpAddr>().ok().map(Self::from);
        let key = || text.parse().ok().map(Self::Key);
        let subject = person().map(Self::Person).or_else(key).or_else(address);
        subject.ok_or_else(|| BadSubject(text.chars().take(80).collect()))
    }
}

impl Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One who is kept out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Who.
    pub who: Subject,
    /// Unix time in seconds at which it ends; nothing: never.
    pub until_s: Option<u64>,
    /// Why, as they are told.
    pub why: String,
}

/// A ban that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// There is no room.
    #[error("{BANS_MAX} bans are in force; lift some with `ecumene player unban`")]
    TooMany,
    /// The reason is an essay.
    #[error("the reason is {0} characters long, at most {WHY_CHARS_MAX}")]
    WhyTooLong(usize),
}

/// Everybody who is kept out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Ban>", into = "Vec<Ban>")]
pub struct Bans {
    by_subject: BTreeMap<Subject, Ban>,
}

impl From<Vec<Ban>> for Bans {
    fn from(bans: Vec<Ban>) -> Self {
        Self { by_subject: bans.into_iter().map(|ban| (ban.who, ban)).collect() }
    }
}

impl From<Bans> for Vec<Ban> {
    fn from(bans: Bans) -> Self {
        bans.by_subject.into_values().collect()
    }
}

impl Bans {
    /// Adds `ban`, in place of an earlier one of the same subject.
    ///
    /// # Errors
    /// [`BanError`]; the operator asks for more than is kept.
    pub fn add(&mut self, ban: Ban) -> Result<(), BanError> {
        let chars = ban.why.chars().count();
        if WHY_CHARS_MAX < chars {
            return Err(BanError::WhyTooLong(chars));
        }
        if BANS_MAX <= self.by_subject.len() && !self.by_subject.contains_key(&ban.who) {
            return Err(BanError::TooMany);
        }
        self.by_subject.insert(ban.who, ban);
        Ok(())
    }

    /// Lifts the ban of `who`; returns whether there was one.
    pub fn lift(&mut self, who: Subject) -> bool {
        self.by_subject.remove(&who).is_some()
    }

    /// Returns the ban of `who` that is in force at `now_s`.
    #[must_use]
    pub fn find(&self, who: Subject, now_s: u64) -> Option<&Ban> {
        let ban = self.by_subject.get(&who)?;
        ban.until_s.is_none_or(|until_s| now_s < until_s).then_some(ban)
    }

    /// Forgets bans that ended before `now_s`.
    pub fn expire(&mut self, now_s: u64) {
        self.by_subject.retain(|_, ban| ban.until_s.is_none_or(|until_s| now_s < until_s));
    }

    /// Returns every ban that is kept, in the order of their subjects.
    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.by_subject.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(who: &str, until_s: Option<u64>) -> Ban {
        Ban { who: who.parse().unwrap(), until_s, why: "rude".to_owned() }
    }

    #[test]
    fn a_household_is_one_address() {
        let subject = |text: &str| text.parse::<Subject>().unwrap();
        assert_eq!(subject("2001:db8:1:2:aaaa::1"), subject("2001:db8:1:2::"));
        assert_ne!(subject("2001:db8:1:3::1"), subject("2001:db8:1:2::"));
        assert_eq!(subject("::ffff:192.0.2.1"), subject("192.0.2.1"));
        assert_ne!(subject("192.0.2.2"), subject("192.0.2.1"));
    }

    #[test]
    fn bans_end_are_lifted_and_read_back() {
        let mut bans = Bans::default();
        bans.add(ban("p-1f", Some(10))).unwrap();
        bans.add(ban("192.0.2.1", None)).unwrap();
        bans.add(ban(&"ab".repeat(32), Some(20))).unwrap();
        let text = serde_json::to_string(&bans).unwrap();
        assert_eq!(serde_json::from_str::<Bans>(&text).unwrap(), bans);
        assert!(bans.find("p-1f".parse().unwrap(), 9).is_some());
        assert!(bans.find("p-1f".parse().unwrap(), 10).is_none());
        bans.expire(10);
        assert_eq!(bans.iter().count(), 2);
        assert!(bans.lift("192.0.2.1".parse().unwrap()));
        assert!(!bans.lift("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        assert_eq!(
            "bob".parse::<Subject>().unwrap_err().to_string(),
            "`bob` is no person (p-1f), key (64 hexadecimal digits) or address (192.0.2.1)",
        );
        let long = Ban { why: "x".repeat(201), ..ban("p-1", None) };
        assert_eq!(Bans::default().add(long), Err(BanError::WhyTooLong(201)));
    }
}
