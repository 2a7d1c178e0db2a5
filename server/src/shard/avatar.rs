//! An avatar as its shard keeps it: a body, its driver's inputs and view, and what it is at.

use std::sync::Arc;

use protocol::ids::{EntityId, PersonId};
use protocol::motion::Body;

use super::entities::About;
use super::input::InputQueue;
use super::viewer::Viewer;

/// One avatar of this shard.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Avatar {
    /// Its name for good.
    pub id: EntityId,
    /// Whose it is.
    pub person: PersonId,
    /// What others are told of it.
    pub about: Arc<About>,
    /// Where it is and how it moves.
    pub body: Body,
    /// What its driver wants.
    pub inputs: InputQueue,
    /// What its client is shown; nothing while nobody is connected.
    pub viewer: Option<Box<Viewer>>,
    /// The client's number for the act it is at.
    pub busy_request: Option<u32>,
}

impl Avatar {
    /// Returns an avatar that somebody brings in.
    #[must_use]
    pub fn new(id: EntityId, person: PersonId, about: Arc<About>, body: Body) -> Self {
        let inputs = InputQueue::default();
        Self { id, person, about, body, inputs, viewer: None, busy_request: None }
    }
}
