//! What operators did: entries in words, numbered, and bounded in how many are kept.
//!
//! An entry names who asked, what for, and how it went. It holds no secret and nothing that
//! anybody said: of a token its id, of an announcement that there was one. Writing batches down is
//! the caller's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::admin::{AdminReply, AdminRequest, Who};
use crate::admission::bans::Subject;
use crate::rows;
use crate::store::{Batch, Key, Tree};
use crate::token::Purpose;

/// Entries that are kept: a team that does thirty things a day looks back almost a year, and all
/// of them, at some 200 bytes, fit into one answer.
pub const ENTRIES_MAX: usize = 10_000;

/// What stands as outcome until something is done; it stays where the server ended before that.
pub const BEGUN: &str = "begun";

/// One thing that an operator did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its place in the order of all.
    pub number: u64,
    /// Unix time in milliseconds at which it was asked.
    pub at_ms: u64,
    /// Who asked, as the system knows them.
    pub who: String,
    /// What for.
    pub what: String,
    /// How it went.
    pub outcome: String,
}

/// Which entries are kept, oldest first.
#[derive(Debug, Default)]
pub struct Trail {
    kept: VecDeque<Key>,
    newest: u64,
}

impl Trail {
    /// Returns the trail of what is kept.
    #[must_use]
    pub fn of(entries: &[AuditEntry]) -> Self {
        let mut places: Vec<(u64, Key)> =
            entries.iter().map(|entry| (entry.number, rows::audit_key(entry))).collect();
        places.sort_unstable_by_key(|(number, _)| *number);
        let newest = places.last().map_or(0, |(number, _)| *number);
        Self { kept: places.into_iter().map(|(_, key)| key).collect(), newest }
    }

    /// Returns the next entry, and the batch that writes it down and makes room for it. Once the
    /// store has taken the batch, [`keep`](Self::keep) must follow.
    #[must_use]
    pub fn begin(&self, at_ms: u64, who: String, what: String) -> (AuditEntry, Batch) {
        let (number, outcome) = (self.newest.saturating_add(1), BEGUN.to_owned());
        let entry = AuditEntry { number, at_ms, who, what, outcome };
        let mut batch = Batch::new();
        for oldest in self.kept.iter().take(self.surplus()) {
            batch.delete(Tree::Audit, oldest.clone());
        }
        batch.put(Tree::Audit, rows::audit_key(&entry), rows::audit_row(&entry));
        (entry, batch)
    }

    /// Notes that an entry was written down, and that it took the room of the oldest.
    pub fn keep(&mut self, entry: &AuditEntry) {
        self.kept.drain(..self.surplus());
        self.kept.push_back(rows::audit_key(entry));
        self.newest = entry.number;
    }

    /// Returns how many entries must go before another one comes.
    fn surplus(&self) -> usize {
        (self.kept.len() + 1).saturating_sub(ENTRIES_MAX)
    }
}

/// Returns the batch that writes down how an entry went.
#[must_use]
pub fn end(entry: AuditEntry, reply: &AdminReply) -> Batch {
    let entry = AuditEntry { outcome: outcome(reply), ..entry };
    let mut batch = Batch::new();
    batch.put(Tree::Audit, rows::audit_key(&entry), rows::audit_row(&entry));
    batch
}

/// Returns whom a request is about, if it is about somebody.
#[must_use]
pub const fn target(request: &AdminRequest) -> Option<&Who> {
    match request {
        AdminRequest::Kick { who, .. }
        | AdminRequest::Ban { who, .. }
        | AdminRequest::Unban { who }
        | AdminRequest::Mute { who, .. }
        | AdminRequest::Unmute { who }
        | AdminRequest::Move { who, .. }
        | AdminRequest::Erase { who }
        | AdminRequest::Role { who, .. } => Some(who),
        AdminRequest::Status
        | AdminRequest::PlayerList
        | AdminRequest::BanList
        | AdminRequest::Announce { .. }
        | AdminRequest::TokenMint { .. }
        | AdminRequest::TokenList
        | AdminRequest::TokenRevoke { .. }
        | AdminRequest::Backup { .. }
        | AdminRequest::Stop { .. }
        | AdminRequest::Reload
        | AdminRequest::Verify
        | AdminRequest::Audit { .. }
        | AdminRequest::AssetList { .. }
        | AdminRequest::AssetRemove { .. }
        | AdminRequest::ShardSplit { .. }
        | AdminRequest::ShardMerge { .. }
        | AdminRequest::ShardMove { .. }
        | AdminRequest::ShardList => None,
    }
}

/// Returns how an entry names somebody: by id, whatever they were named by.
#[must_use]
pub fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Person(person) => person.to_string(),
        Subject::Key(key) => key.person().to_string(),
        Subject::Address(_) => "an address".to_owned(),
    }
}

/// Returns a request in words; `target` is whom it is about, where that is known.
#[must_use]
pub fn words(request: &AdminRequest, target: Option<&str>) -> String {
    let name = request.name();
    let target = target.unwrap_or("somebody who was not found");
    let until = |until_s: &Option<u64>| {
        until_s.map_or_else(|| "until lifted".to_owned(), |until_s| format!("until {until_s}"))
    };
    match request {
        AdminRequest::Kick { .. }
        | AdminRequest::Unban { .. }
        | AdminRequest::Unmute { .. }
        | AdminRequest::Erase { .. } => format!("{name} {target}"),
        AdminRequest::Ban { until_s, .. } | AdminRequest::Mute { until_s, .. } => {
            format!("{name} {target} {}", until(until_s))
        }
        AdminRequest::Move { to_m: [x_m, z_m], .. } => format!("{name} {target} to {x_m} {z_m}"),
        AdminRequest::Role { role, .. } => format!("{name} {target} {role}"),
        AdminRequest::TokenMint { purpose: Purpose::Shards, lasts_s, .. } => {
            format!("{name} for shards, {lasts_s} s")
        }
        AdminRequest::TokenMint { role, person, lasts_s, .. } => {
            let whom = person.map_or_else(|| "anybody".to_owned(), |person| person.to_string());
            format!("{name} {role} for {whom}, {lasts_s} s")
        }
        AdminRequest::TokenRevoke { id } => format!("{name} {id}"),
        AdminRequest::Stop { in_ms, redirect: None, .. } => {
            format!("{name} in {} s", in_ms / 1_000)
        }
        AdminRequest::Stop { in_ms, redirect: Some(address), .. } => {
            format!("{name} in {} s, to go on at {address}", in_ms / 1_000)
        }
        AdminRequest::ShardSplit { region } | AdminRequest::ShardMerge { region } => {
            format!("{name} {region}")
        }
        AdminRequest::ShardMove { region, to } => format!("{name} {region} {to}"),
        AdminRequest::AssetRemove { hash, owner: None } => format!("{name} {hash}"),
        AdminRequest::AssetRemove { hash, owner: Some(owner) } => {
            format!("{name} {hash} of {owner}")
        }
        AdminRequest::Status
        | AdminRequest::PlayerList
        | AdminRequest::BanList
        | AdminRequest::Announce { .. }
        | AdminRequest::TokenList
        | AdminRequest::Backup { .. }
        | AdminRequest::Reload
        | AdminRequest::Verify
        | AdminRequest::Audit { .. }
        | AdminRequest::AssetList { .. }
        | AdminRequest::ShardList => name.to_owned(),
    }
}

/// Returns how a request went, in words that hold nothing of the answer but a token's id.
fn outcome(reply: &AdminReply) -> String {
    match reply {
        AdminReply::Minted { record, .. } => format!("done: {}", record.id),
        AdminReply::Verified { problems, .. } if !problems.is_empty() => "problems found".into(),
        AdminReply::Failed(_) => "failed".into(),
        AdminReply::Done(_)
        | AdminReply::Status(_)
        | AdminReply::Players(_)
        | AdminReply::Bans(_)
        | AdminReply::Tokens(_)
        | AdminReply::Shards(_)
        | AdminReply::Reloaded { .. }
        | AdminReply::Audit(_)
        | AdminReply::Assets { .. }
        | AdminReply::Verified { .. } => "done".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Role;
    use crate::admission::access::TokenRecord;
    use crate::token::TokenId;

    fn entry(trail: &mut Trail, at_ms: u64) -> (AuditEntry, Batch) {
        let (entry, batch) = trail.begin(at_ms, "uid 1000".into(), "reload".into());
        trail.keep(&entry);
        (entry, batch)
    }

    #[test]
    fn entries_are_numbered_on_across_runs() {
        let mut trail = Trail::default();
        let entries: Vec<AuditEntry> =
            [50, 60, 55].map(|at_ms| entry(&mut trail, at_ms).0).into_iter().collect();
        assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(
            entry(&mut Trail::of(&entries), 70).0.number,
            4,
            "also when the clock went back"
        );
        assert_eq!(entry(&mut Trail::of(&[]), 70).0.number, 1);
    }

    #[test]
    fn the_oldest_makes_room_and_no_other() {
        let mut trail = Trail::default();
        for at_ms in 0..ENTRIES_MAX as u64 {
            assert_eq!(entry(&mut trail, at_ms).1.len(), 1, "{at_ms}");
        }
        let first = rows::audit_key(&AuditEntry {
            number: 1,
            at_ms: 0,
            who: String::new(),
            what: String::new(),
            outcome: String::new(),
        });
        let begun = || ("uid 1000".to_owned(), "reload".to_owned());
        let [(_, untaken), (newest, batch)] = [begun(), begun()].map(|(who, what)| {
            // What the store does not take makes room for nothing.
            trail.begin(99, who, what)
        });
        assert_eq!(untaken, batch);
        let mut expected = Batch::new();
        expected.delete(Tree::Audit, first);
        expected.put(Tree::Audit, rows::audit_key(&newest), rows::audit_row(&newest));
        assert_eq!(batch, expected);
    }

    #[test]
    fn requests_are_told_without_what_was_said() {
        let who = || "p-1f".parse().expect("an id");
        let check = |request: AdminRequest, expected: &str| {
            let target = target(&request).map(ToString::to_string);
            assert_eq!(words(&request, target.as_deref()), expected);
        };
        let why = || "a secret reason".to_owned();
        check(AdminRequest::Kick { who: who(), why: why() }, "player kick p-1f");
        let ban = AdminRequest::Ban { who: who(), until_s: Some(9), why: why() };
        check(ban, "player ban p-1f until 9");
        check(AdminRequest::Mute { who: who(), until_s: None }, "player mute p-1f until lifted");
        check(AdminRequest::Announce { text: why() }, "announce");
        check(AdminRequest::Role { who: who(), role: Role::Member }, "player role p-1f member");
        check(AdminRequest::Move { who: who(), to_m: [-5, 7] }, "player move p-1f to -5 7");
        check(AdminRequest::Stop { in_ms: 5_000, why: why(), redirect: None }, "stop in 5 s");
        check(AdminRequest::ShardSplit { region: 4 }, "shards split 4");
        let (role, person, note) = (Role::Admin, None, why());
        let purpose = Purpose::People;
        let mint = AdminRequest::TokenMint { purpose, role, person, lasts_s: 60, note };
        check(mint, "token mint admin for anybody, 60 s");
        let remove = |owner| AdminRequest::AssetRemove { hash: "4f1c".into(), owner };
        check(remove(None), "asset remove 4f1c");
        check(remove(Some(protocol::ids::PersonId(0x1F))), "asset remove 4f1c of p-1f");
        let unknown = AdminRequest::Unmute { who: who() };
        assert_eq!(words(&unknown, None), "player unmute somebody who was not found");
    }

    #[test]
    fn people_are_told_by_their_ids_alone() {
        let told = |text: &str| subject(&text.parse().expect("a subject"));
        assert_eq!(told("p-1f"), "p-1f");
        assert_eq!(told("192.0.2.1"), "an address");
        let key = crate::identity::Identity::from_seed([1; 32]).public();
        assert_eq!(told(&key.to_string()), key.person().to_string());
    }

    #[test]
    fn a_token_is_told_by_its_id_alone() {
        let record = TokenRecord {
            purpose: Purpose::People,
            id: TokenId(7),
            role: Role::Admin,
            person: None,
            minted_s: 0,
            expires_s: 1,
            note: "a note".into(),
            revoked_s: None,
        };
        let minted = AdminReply::Minted { token: "SECRET".into(), record };
        assert_eq!(outcome(&minted), "done: t-0000000000000007");
        assert_eq!(outcome(&AdminReply::Failed("nobody called `Ada`".into())), "failed");
    }
}
