//! The lobby: finds out who stands at the door, from their hello and from what is stored of them.
//!
//! It runs on threads that do not tick, for signatures and records take their time. What it found
//! is judged by [`admission::decide`]; the gateway gives the places.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use protocol::close::CloseCode;
use protocol::ids::{EntityId, IdMint, PersonId, SessionId};
use protocol::message::client::Hello;
use protocol::message::server::Greeting;
use protocol::rules::Thing;
use protocol::units::{Position, Yaw};
use tokio::runtime::Handle;

use crate::admission::access::Access;
use crate::admission::bans::Subject;
use crate::admission::rates::{HandshakeRates, Rate};
use crate::admission::{self, Admitted, Policy, Refusal};
use crate::config::Config;
use crate::directory::Directory;
use crate::identity::{Identity, PublicKey};
use crate::io::assets::Shelf;
use crate::io::recovery::held_things;
use crate::io::{clock, forget};
use crate::people::{PersonRecord, first_appearance, first_place};
use crate::rows;
use crate::status::names::HostMetrics;
use crate::store::{Batch, Key, Number, Store, StoreError, Stored, Tree};
use crate::ticket::Ticket;
use crate::token;

/// What a server's tickets are sealed for.
const TICKET_PURPOSE: &str = "ecumene 1 resume tickets";

/// Records remembered until the store shows them: it does within milliseconds.
const FRESH_MAX: usize = 256;

/// What the lobby needs to know of the server.
pub struct Lobby {
    /// What everyone is greeted with, but for the nonce.
    pub greeting: Greeting,
    /// Who this server is.
    pub identity: Arc<Identity>,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// What operators decided.
    pub access: Arc<RwLock<Access>>,
    /// The settings in force.
    pub config: Arc<RwLock<Config>>,
    /// Who is here.
    pub directory: Arc<Directory>,
    /// Where newcomers begin.
    pub spawn: Position,
    /// What people share.
    pub shelf: Arc<Shelf>,
    /// Counts refusals.
    pub metrics: HostMetrics,
    rates: Mutex<HandshakeRates>,
    mint: Mutex<IdMint>,
    tokens: token::Mint,
    ticket_key: [u8; 32],
    /// Records made lately, which the store may not show yet.
    fresh: Mutex<VecDeque<PersonRecord>>,
}

/// Somebody who may come in, with what is kept of them.
#[derive(Debug)]
pub struct Examined {
    /// Who they are and what they may do.
    pub admitted: Admitted,
    /// The avatar's owner, as stored: themselves, or who lent it to them.
    pub owner: PersonRecord,
    /// What the avatar holds.
    pub things: Vec<Thing>,
    /// The ticket they came with.
    pub ticket: Option<Ticket>,
    /// What they said.
    pub hello: Hello,
    /// By what they can be banned.
    pub subjects: Vec<Subject>,
    /// Everything up to this batch was in what was read.
    pub as_of: Number,
    /// Unix time in milliseconds at which it was read.
    pub at_ms: u64,
}

impl Lobby {
    /// Returns the lobby of a server; `mint` gives newcomers their ids.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "made once, by the composition root")]
    pub fn new(
        greeting: Greeting,
        identity: Arc<Identity>,
        store: Arc<dyn Store>,
        access: Arc<RwLock<Access>>,
        config: Arc<RwLock<Config>>,
        directory: Arc<Directory>,
        spawn: Position,
        shelf: Arc<Shelf>,
        mint: IdMint,
    ) -> Self {
        let rates = {
            let config = config.read().unwrap_or_else(PoisonError::into_inner);
            HandshakeRates::new(&config, clock::unix_ms())
        };
        Self {
            greeting,
            tokens: token::Mint::new(&identity),
            ticket_key: identity.derive(TICKET_PURPOSE),
            identity,
            store,
            access,
            config,
            directory,
            spawn,
            shelf,
            metrics: HostMetrics::default(),
            rates: Mutex::new(rates),
            mint: Mutex::new(mint),
            fresh: Mutex::default(),
        }
    }

    /// Returns a ticket for a stay.
    #[must_use]
    pub fn ticket(&self, session: SessionId, person: PersonId, avatar: EntityId) -> Vec<u8> {
        let issued_s = clock::unix_s();
        Ticket { session, person, avatar, issued_s }.seal(&self.ticket_key)
    }

    /// Returns a new id.
    pub fn mint(&self) -> u64 {
        self.mint.lock().unwrap_or_else(PoisonError::into_inner).mint()
    }

    /// Returns how many datagrams a client may send.
    #[must_use]
    pub fn datagram_rate(&self) -> Rate {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        let per_s = config.admission.datagrams_per_s;
        #[expect(clippy::cast_possible_truncation, reason = "configured to be 10,000 at most")]
        #[expect(clippy::cast_sign_loss, reason = "configured to be positive")]
        let burst = per_s.ceil() as u32;
        Rate { per_s, burst }
    }

    /// Finds out who said `hello`, and whether they may come in; `is_first` counts as a try.
    ///
    /// # Errors
    /// The [`Refusal`] to send.
    pub fn examine(
        &self,
        hello: Hello,
        peer: SocketAddr,
        nonce: &[u8; 32],
        is_first: bool,
    ) -> Result<Examined, Refusal> {
        let (as_of, at_ms) = (self.store.durable(), clock::unix_ms());
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let rated = if is_first { rates.take(peer.ip(), at_ms) } else { Ok(()) };
        drop(rates);
        if let Err(wait_ms) = rated {
            let wait_s = u32::try_from(wait_ms / 1_000).unwrap_or(u32::MAX).saturating_add(1);
            let why = "too many connections from this address";
            return Err(Refusal::for_now(CloseCode::Flooding, why, wait_s));
        }
        let ticket = self.ticket_of(&hello)?;
        let admitted = self.admit(&hello, peer, nonce, ticket)?;
        let own = self.own_record(&admitted).map_err(out_of_order)?;
        let asked = hello.drive.filter(|&avatar| avatar != own.avatar);
        let owner = match asked {
            None => own,
            Some(avatar) => self.borrowed(avatar)?,
        };
        let things = held_things(&*self.store, owner.person).map_err(out_of_order)?;
        let key = hello.identity.as_ref().map(|proof| Subject::Key(PublicKey(proof.key)));
        let known = [Subject::Person(admitted.person), Subject::from(peer.ip())];
        let subjects = known.into_iter().chain(key).collect();
        Ok(Examined { admitted, owner, things, ticket, hello, subjects, as_of, at_ms })
    }

    fn ticket_of(&self, hello: &Hello) -> Result<Option<Ticket>, Refusal> {
        let Some(bytes) = &hello.resume else { return Ok(None) };
        Ticket::open(bytes, &self.ticket_key, clock::unix_s())
            .map(Some)
            .map_err(|bad| Refusal::for_good(CloseCode::Unauthorized, bad.to_string()))
    }

    fn admit(
        &self,
        hello: &Hello,
        peer: SocketAddr,
        nonce: &[u8; 32],
        ticket: Option<Ticket>,
    ) -> Result<Admitted, Refusal> {
        let identity = hello.identity.as_ref().map(|proof| self.identity.check(proof, nonce));
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        let world = self.greeting.worlds.first().map(|world| world.id).unwrap_or(crate::NO_WORLD);
        let now_s = clock::unix_s();
        let token = hello
            .token
            .as_ref()
            .map(|token| self.tokens.check(token, world, now_s, |id| access.is_revoked(id)));
        let key = identity.as_ref().and_then(|checked| checked.as_ref().ok());
        let role_given = key.and_then(|key| access.roles.get(&key.person()).copied());
        // A ticket is as good as the key it was given to.
        let guest = ticket.map_or_else(|| PersonId(self.mint()), |ticket| ticket.person);
        let request = admission::Request {
            address: peer.ip(),
            world: hello.world,
            name: &hello.name,
            identity,
            token,
            role_given,
            guest,
            clients: u32::try_from(self.directory.clients()).unwrap_or(u32::MAX),
            now_s,
        };
        admission::decide(&Policy::new(&config, world), &access.bans, &request)
    }

    /// Returns what is stored of somebody, stored now if they were never here.
    fn own_record(&self, admitted: &Admitted) -> Result<PersonRecord, StoreError> {
        let person = admitted.person;
        if let Some(record) = self.record_of(person)? {
            return Ok(record);
        }
        // The disk keeps the keys of many newcomers at a time, so nobody waits for another's here.
        self.store.enroll(person)?;
        // Two first visits at once must not become two avatars.
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = fresh.iter().find(|record| record.person == person) {
            return Ok(record.clone());
        }
        let record = PersonRecord {
            person,
            name: admitted.name.clone(),
            avatar: EntityId(self.mint()),
            appearance: first_appearance(person),
            position: first_place(self.spawn, person),
            yaw: Yaw::NORTH,
            ignored: BTreeMap::new(),
            lendings: Vec::new(),
            is_guest: admitted.is_guest,
            seen_s: clock::unix_s(),
        };
        // Somebody who was forgotten in between has no key any more; usually it is there.
        self.store.enroll(person)?;
        let mut batch = Batch::new();
        batch.put(Tree::People, rows::person_key(person), rows::person_row(&record));
        batch.put(Tree::World, rows::owner_key(record.avatar), rows::owner_row(person));
        self.store.append(batch)?;
        fresh.push_back(record.clone());
        if fresh.len() > FRESH_MAX {
            fresh.pop_front();
        }
        Ok(record)
    }

    /// Erases what is kept of somebody who is not in the world, as [`forget::forget`] does, and takes
    /// what they share off the shelf. To be called from a thread that may wait.
    ///
    /// # Errors
    /// The store's; call again.
    pub fn forget(&self, person: PersonId) -> Result<usize, StoreError> {
        // Nobody gets a record anew between the end of the old one and that of its key.
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let count = forget::forget(&*self.store, person, &Handle::current())?;
        // After it: an upload that ends until then finds no key to be kept under any more.
        self.shelf.forget(person)?;
        fresh.retain(|record| record.person != person);
        Ok(count)
    }

    fn record_of(&self, person: PersonId) -> Result<Option<PersonRecord>, StoreError> {
        forget::record_of(&*self.store, person)
    }

    /// Returns the owner of an avatar that somebody wants to borrow; whether they may is decided
    /// where the newest word on it is.
    fn borrowed(&self, avatar: EntityId) -> Result<PersonRecord, Refusal> {
        let refused = || {
            let why = format!("avatar {avatar} is not lent to you; ask its owner");
            Refusal::for_good(CloseCode::Unauthorized, why)
        };
        let stored =
            self.store.read(Tree::World, &rows::owner_key(avatar)).map_err(out_of_order)?;
        let owner = stored.and_then(Stored::live).ok_or_else(refused)?;
        let owner = rows::read_owner(&owner).map_err(|bad| out_of_order(damaged(&bad)))?;
        self.record_of(owner).map_err(out_of_order)?.ok_or_else(refused)
    }
}

/// Visits every record under `prefix`, in key order.
///
/// # Errors
/// The store's, or the first of `visit`.
pub fn for_each_record(
    store: &dyn Store,
    tree: Tree,
    prefix: &Key,
    mut visit: impl FnMut(&Key, Stored) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<Key> = None;
    loop {
        let page = store.scan(tree, prefix, after.as_ref(), crate::store::SCAN_RECORDS_MAX)?;
        let is_last = page.len() < crate::store::SCAN_RECORDS_MAX;
        for (key, stored) in page {
            visit(&key, stored)?;
            after = Some(key);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Returns the error of a row that cannot be read.
#[must_use]
pub fn damaged(bad: &rows::BadRow) -> StoreError {
    StoreError::Damaged { path: "the world's database".into(), why: bad.to_string() }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function to map with")]
fn out_of_order(error: StoreError) -> Refusal {
    tracing::error!(%error, "cannot look a visitor up");
    Refusal::for_now(CloseCode::Internal, "the server cannot read its records just now", 5)
}
