//! How assets lie in the store: a grant under its owner, the bytes under their hash and owner.
//!
//! Both belong to the owner and are sealed under that person's key, so that nobody can be given
//! them once the person was erased. It reads and writes nothing itself.

use protocol::ids::{ContentHash, PersonId};

use super::{Grant, GrantId};
use crate::store::{Batch, Key, Record, Tree};

/// Kinds of the records here; numbers are stable.
mod kind {
    pub const GRANT: u16 = 0x0110;
    pub const CONTENT: u16 = 0x0111;
}

/// Topic of a person's key under which their grants stand.
const TOPIC_GRANT: u16 = 0;

/// Returns the prefix of every grant.
#[must_use]
pub fn grants_prefix() -> Key {
    Key::space(Key::PERSON)
}

/// Returns where a grant stands.
#[must_use]
pub fn grant_key((hash, owner): GrantId) -> Key {
    Key::person(owner).part(TOPIC_GRANT).bytes(&hash.0)
}

/// Returns which grant stands at a key, nothing if none can.
#[must_use]
pub fn grant_id(key: &Key) -> Option<GrantId> {
    let bytes = key.as_bytes();
    let (head, hash) = bytes.split_last_chunk::<32>()?;
    let owner = head.get(1..9)?;
    let id = (ContentHash(*hash), PersonId(u64::from_be_bytes(owner.try_into().ok()?)));
    (grant_key(id) == *key).then_some(id)
}

/// Returns where the bytes of a grant stand.
#[must_use]
pub fn content_key((hash, owner): GrantId) -> Key {
    Key::content(hash).id(owner.0)
}

/// Adds a grant, with its bytes unless they are there already.
pub fn put(batch: &mut Batch, id: GrantId, grant: &Grant, content: Option<Vec<u8>>) {
    let owner = Some(id.1);
    let value = serde_json::to_vec(grant).expect("plain data always serializes");
    batch.put(Tree::Assets, grant_key(id), Record { owner, kind: kind::GRANT, version: 1, value });
    if let Some(value) = content {
        let record = Record { owner, kind: kind::CONTENT, version: 1, value };
        batch.put(Tree::Assets, content_key(id), record);
    }
}

/// Removes a grant and its bytes.
pub fn delete(batch: &mut Batch, id: GrantId) {
    batch.delete(Tree::Assets, grant_key(id)).delete(Tree::Assets, content_key(id));
}

/// Reads a grant.
///
/// # Errors
/// What is wrong with it, if a newer version wrote it.
pub fn read_grant(record: &Record) -> Result<Grant, String> {
    serde_json::from_slice(&record.value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use protocol::message::asset::AssetAudience;

    use super::*;

    #[test]
    fn a_grant_reads_back_from_where_it_stands() {
        let id = (ContentHash::of(b"hat"), PersonId(0x0102_0304));
        assert_eq!(grant_id(&grant_key(id)), Some(id));
        assert_eq!(grant_id(&content_key(id)), None);
        assert_eq!(grant_id(&grants_prefix()), None);
        assert!(grant_key(id).as_bytes().starts_with(grants_prefix().as_bytes()));
        assert!(!content_key(id).as_bytes().starts_with(grants_prefix().as_bytes()));
        let grant = Grant {
            length: 3,
            media: "text/plain".into(),
            name: "hat".into(),
            audience: AssetAudience::Persons(vec![PersonId(1)]),
            offered_s: 5,
            until_s: 9,
        };
        let value = serde_json::to_vec(&grant).expect("plain data");
        let record = Record { owner: Some(id.1), kind: kind::GRANT, version: 1, value };
        assert_eq!(read_grant(&record), Ok(grant));
    }
}
