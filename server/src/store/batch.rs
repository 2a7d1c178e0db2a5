//! A batch of changes, and the same batch made ready for the disk: sealed, framed, bounded.
//!
//! Both stores prepare batches here, so that a record that one refuses the other refuses too.

use protocol::ids::{PersonId, ShardId};

use crate::store::key::KEY_BYTES_MAX;
use crate::store::record::{self, BlobName, Form, Framed};
use crate::store::seal::{self, Binding, Keys, SealError};
use crate::store::{
    BATCH_CHANGES_MAX, Epoch, INLINE_BYTES_MAX, Key, QUEUE_BYTES_MAX, Record, StoreError, Stored,
    Tree, VALUE_BYTES_MAX,
};
use protocol::ids::ContentHash;

/// Changes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The shard that speaks, and as which owner; nothing for what belongs to no shard.
    pub speaker: Option<(ShardId, Epoch)>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    tree: Tree,
    key: Key,
    record: Option<Record>,
}

impl Batch {
    /// Returns an empty batch of nobody's.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an empty batch of a shard: refused once somebody took a later epoch.
    #[must_use]
    pub fn of_shard(shard: ShardId, epoch: Epoch) -> Self {
        Self { speaker: Some((shard, epoch)), changes: Vec::new() }
    }

    /// Adds or replaces a record. A record with an owner is sealed under their key.
    pub fn put(&mut self, tree: Tree, key: Key, record: Record) -> &mut Self {
        self.changes.push(Change { tree, key, record: Some(record) });
        self
    }

    /// Removes a record, if it is there.
    pub fn delete(&mut self, tree: Tree, key: Key) -> &mut Self {
        self.changes.push(Change { tree, key, record: None });
        self
    }

    /// Returns how many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Returns whether there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One change as the disk takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The tree.
    pub tree: Tree,
    /// The place in it.
    pub key: Key,
    /// The stored record, nothing to remove it.
    pub bytes: Option<Vec<u8>>,
    /// The file that the record names; it must be durable before the record is.
    pub blob: Option<(ContentHash, Vec<u8>)>,
}

impl Write {
    /// Returns how much memory and disk this takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let blob = self.blob.as_ref().map_or(0, |(_, content)| content.len());
        self.key.as_bytes().len() + self.bytes.as_ref().map_or(0, Vec::len) + blob
    }
}

/// Returns the batch as writes.
///
/// # Errors
/// When it breaks a bound, writes the store's own tree, or names an owner without a key.
pub fn prepare(batch: Batch, keys: &dyn Keys) -> Result<Vec<Write>, StoreError> {
    check(&batch)?;
    batch
        .changes
        .into_iter()
        .map(|Change { tree, key, record }| match record {
            Some(record) => write(tree, key, record, keys),
            None => Ok(Write { tree, key, bytes: None, blob: None }),
        })
        .collect()
}

fn check(batch: &Batch) -> Result<(), StoreError> {
    bound("number of changes in a batch", batch.changes.len(), BATCH_CHANGES_MAX)?;
    let mut bytes = 0;
    for change in &batch.changes {
        if change.tree == Tree::Meta {
            return Err(StoreError::Reserved);
        }
        let length = change.record.as_ref().map_or(0, |record| record.value.len());
        bound("key length in bytes", change.key.as_bytes().len(), KEY_BYTES_MAX)?;
        bound("value length in bytes", length, VALUE_BYTES_MAX)?;
        bytes += length;
    }
    bound("batch size in bytes", bytes, QUEUE_BYTES_MAX / 2)
}

fn bound(what: &'static str, got: usize, most: usize) -> Result<(), StoreError> {
    if most < got { Err(StoreError::TooLarge { what, got, most }) } else { Ok(()) }
}

/// Returns one record as a write: sealed if somebody owns it, spilled to a file if it is large.
///
/// # Errors
/// When the owner has no key or the key cannot be read.
pub fn write(tree: Tree, key: Key, record: Record, keys: &dyn Keys) -> Result<Write, StoreError> {
    let Record { owner, kind, version, value } = record;
    let body = match owner {
        None => value,
        Some(owner) => {
            let user_key = keys.user_key(owner)?;
            let user_key = user_key.ok_or(StoreError::NotEnrolled { person: owner })?;
            let binding = Binding { tree, key: &key, owner, kind, version };
            seal::seal(&user_key, binding, keys.salt()?, value)
        }
    };
    let is_blob = INLINE_BYTES_MAX < body.len();
    let form = Form { owner, is_blob };
    let (body, blob) = if is_blob {
        let hash = ContentHash::of(&body);
        (BlobName { hash, length: body.len() as u64 }.to_bytes(), Some((hash, body)))
    } else {
        (body, None)
    };
    let bytes = record::encode(tree, key.as_bytes(), &Framed { form, kind, version, body: &body });
    Ok(Write { tree, key, bytes: Some(bytes), blob })
}

/// Returns the record in stored bytes; `blob` fetches the file that a large one names.
///
/// # Errors
/// When the bytes, the file or the seal are not what was written; `why` says which.
pub fn read(
    tree: Tree,
    key: &Key,
    bytes: &[u8],
    keys: &dyn Keys,
    blob: impl FnOnce(BlobName) -> Result<Vec<u8>, StoreError>,
) -> Result<Stored, StoreError> {
    let damaged = |why: String| StoreError::Damaged {
        path: tree.name().into(),
        why: format!("record {key:?}: {why}"),
    };
    let framed = record::decode(tree, key.as_bytes(), bytes).map_err(|e| damaged(e.to_string()))?;
    let Framed { form, kind, version, body } = framed;
    let user_key = match form.owner {
        None => None,
        // The key comes first: the file of an erased person may be gone.
        Some(owner) => match keys.user_key(owner)? {
            Some(user_key) => Some((owner, user_key)),
            None => return Ok(Stored::Erased(owner)),
        },
    };
    let body = if form.is_blob {
        blob(BlobName::parse(body).map_err(|e| damaged(e.to_string()))?)?
    } else {
        body.to_vec()
    };
    let Some((owner, user_key)) = user_key else {
        return Ok(Stored::Live(Record { owner: None, kind, version, value: body }));
    };
    match seal::open(&user_key, Binding { tree, key, owner, kind, version }, &body) {
        Ok(value) => Ok(Stored::Live(Record { owner: Some(owner), kind, version, value })),
        // Somebody who came back after an erasure has a new key; the old records stay shut.
        Err(SealError::OtherKey) => Ok(Stored::Erased(owner)),
        Err(error @ (SealError::Short | SealError::Forged)) => Err(damaged(error.to_string())),
    }
}

/// Returns a record that belongs to nobody.
#[must_use]
pub fn plain(kind: u16, version: u8, value: Vec<u8>) -> Record {
    Record { owner: None, kind, version, value }
}

/// Returns a record that belongs to a person.
#[must_use]
pub fn personal(owner: PersonId, kind: u16, version: u8, value: Vec<u8>) -> Record {
    Record { owner: Some(owner), kind, version, value }
}
