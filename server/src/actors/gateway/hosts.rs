//! Processes that run shards: they join, take shards over, give them back, or are lost.
//!
//! A shard whose process is lost begins anew here: what was confirmed is in the store, where
//! everyone stood was told a moment ago, and connections are the gateway's.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use protocol::ids::EntityId;
use protocol::message::server::Refused;
use protocol::rules::Why;
use protocol::units::Tick;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::GatewayActor;
use crate::actors::remote::RemoteShardActor;
use crate::actors::shard::{Outbox, Pack, PackedUp, Runner, ShardActor, Step};
use crate::hosting::{BadClaim, LinkId, Place, Turn};
use crate::io::recovery::{self, Kept};
use crate::link::{self, Down, WorldTerms};
use crate::region::RegionIndex;
use crate::shard::batch::Command;
use crate::shard::pack::Packed;
use crate::shard::viewer::ClientKey;
use crate::shard::{Shard, WorldRules};
use crate::store::{Epoch, StoreError};

/// Ids for a shard that begins anew: a thousand million, at 1,000 a second for twelve days.
const IDS_ANEW: u64 = 1 << 30;

/// Ticks that are made up for after a move: more inputs than that wait for nobody.
const MISSED_MAX: u64 = 8;

/// A process wants to run shards. Its right to do so was checked.
#[derive(Debug, Message)]
#[rtype(result = "Result<LinkId, BadClaim>")]
pub struct Join {
    /// Which regions it wants.
    pub regions: Vec<RegionIndex>,
    /// Where it is.
    pub peer: SocketAddr,
    /// What is to be sent to it.
    pub outgoing: mpsc::Sender<Bytes>,
}

/// A process wants to end in good order: everything it runs is to come home.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Depart {
    /// Which.
    pub link: LinkId,
}

/// A process is gone, or as good as that.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct LinkLost {
    /// Which.
    pub link: LinkId,
    /// What happened, for operators.
    pub why: String,
}

/// A process that joined.
pub(super) struct Joined {
    peer: SocketAddr,
    outgoing: mpsc::Sender<Bytes>,
    /// Whether everything is to come home.
    departs: bool,
}

/// What was read of regions that were lost.
type Recovered = Result<(Vec<(RegionIndex, Epoch)>, Kept), StoreError>;

/// Regions that begin anew.
#[derive(Debug, Default)]
pub(super) struct Losses {
    waiting: BTreeSet<RegionIndex>,
    is_reading: bool,
}

impl Handler<Join> for GatewayActor {
    type Result = Result<LinkId, BadClaim>;

    fn handle(
        &mut self,
        Join { regions, peer, outgoing }: Join,
        _: &mut Self::Context,
    ) -> Self::Result {
        let link = LinkId(self.next_link);
        self.hosting.claim(link, &regions)?;
        self.next_link += 1;
        let numbers: Vec<u16> = regions.iter().map(|region| region.0).collect();
        info!(%link, %peer, regions = ?numbers, "a process joined");
        self.links.insert(link, Joined { peer, outgoing, departs: false });
        self.tell(link, &Down::Terms(terms(&self.outfit.rules, &self.outfit.book_text)));
        self.metrics.links.set(self.links.len() as f64);
        Ok(link)
    }
}

impl Handler<Depart> for GatewayActor {
    type Result = ();

    fn handle(&mut self, Depart { link }: Depart, _: &mut Self::Context) {
        if let Some(joined) = self.links.get_mut(&link) {
            joined.departs = true;
            self.hosting.bring_home(link);
        }
    }
}

impl Handler<LinkLost> for GatewayActor {
    type Result = ();

    fn handle(&mut self, LinkLost { link, why }: LinkLost, _: &mut Self::Context) {
        self.lose(link, &why);
    }
}

impl Handler<PackedUp> for GatewayActor {
    type Result = ();

    fn handle(&mut self, PackedUp { place, shard }: PackedUp, ctx: &mut Self::Context) {
        self.settle(place, *shard, ctx);
    }
}

impl GatewayActor {
    /// Starts a shard in this process.
    pub(super) fn run_here(shard: Shard, gateway: &Addr<Self>) -> Runner {
        let outbox =
            Outbox { stepped: gateway.clone().recipient(), packed: gateway.clone().recipient() };
        ShardActor::run(shard, outbox)
    }

    /// Gives a region what it needs in this tick; returns false when its shard takes nothing.
    pub(super) fn take_turn(
        &mut self,
        region: RegionIndex,
        is_survey: bool,
        budget: usize,
    ) -> bool {
        let Some(Runner { step, pack }) = self.shards.get(usize::from(region.0)) else {
            return false;
        };
        let (place, missed) = match self.hosting.turn(region, self.beat.tick) {
            Turn::Step { place, missed } => (place, missed.min(MISSED_MAX)),
            Turn::Pack => return pack.try_send(Pack).is_ok(),
            Turn::Wait => return true,
        };
        let is_here = place == Place::Here;
        let mut is_taken = true;
        for ago in (0..=missed).rev() {
            let tick = Tick(self.beat.tick.0 - ago);
            let mut input = match ago {
                0 => self.routes.take(region, tick),
                _ => self.routes.take_missed(region, tick),
            };
            input.pace_permille = self.beat.dilation.permille();
            input.frame_bytes_max = budget;
            input.is_survey = is_survey;
            let output = self.beat.spare.pop().unwrap_or_default();
            is_taken &= step.try_send(Step { input, output }).is_ok();
            self.beat.open += usize::from(is_here);
        }
        // A link that takes nothing says so itself.
        is_taken || !is_here
    }

    /// Lets a packed shard go on where it is to.
    fn settle(&mut self, from: Place, packed: Packed, ctx: &Context<Self>) {
        let region = packed.region();
        if self.hosting.packed_at(region) != Some(from) {
            return;
        }
        let Some(place) = self.hosting.packed(region, packed.tick()) else { return };
        match place {
            Place::Here => match packed.unpack(self.outfit.rules.clone()) {
                Ok(shard) => {
                    self.shards[usize::from(region.0)] = Self::run_here(shard, &ctx.address());
                    info!(shard = region.0, "a shard came home");
                }
                Err(error) => {
                    // What the process gave back is no shard: what the store knows is right.
                    error!(%error, shard = region.0, "a shard came back damaged");
                    self.hosting.damage(region);
                    self.losses.waiting.insert(region);
                }
            },
            Place::There(link) => {
                let Some(joined) = self.links.get(&link) else { return };
                let way = (link, region);
                let runner =
                    RemoteShardActor::run(way, joined.outgoing.clone(), ctx.address().recipient());
                self.shards[usize::from(region.0)] = runner;
                self.tell(link, &Down::Host { shard: Box::new(packed) });
                info!(shard = region.0, %link, "a shard moved to another process");
            }
        }
    }

    /// Sends a process something; one that takes nothing is lost.
    fn tell(&mut self, link: LinkId, message: &Down) {
        let Some(joined) = self.links.get(&link) else { return };
        let sent = link::write(message).map_err(|error| error.to_string());
        let sent = sent.and_then(|frame| {
            let full = |_| "it does not take what it is sent".to_owned();
            joined.outgoing.try_send(frame.into()).map_err(full)
        });
        if let Err(why) = sent {
            self.lose(link, &why);
        }
    }

    /// Notices processes that have fallen silent, and lets go of those that gave everything back.
    pub(super) fn look_after_links(&mut self) {
        for link in self.hosting.silent(self.beat.tick) {
            self.lose(link, "it has answered nothing for a second");
        }
        let hosting = &self.hosting;
        self.links.retain(|&link, joined| !joined.departs || hosting.uses(link));
        self.metrics.links.set(self.links.len() as f64);
    }

    /// Gives a process up; its shards begin anew here.
    fn lose(&mut self, link: LinkId, why: &str) {
        let Some(Joined { peer, .. }) = self.links.remove(&link) else { return };
        let lost = self.hosting.lose(link);
        let numbers: Vec<u16> = lost.iter().map(|region| region.0).collect();
        warn!(%link, %peer, why, regions = ?numbers, "a process is lost; its shards begin anew here");
        self.metrics.shards_lost.increment(lost.len() as u64);
        self.losses.waiting.extend(lost);
    }

    /// Reads what is known of lost regions, once all that was done in them is written.
    pub(super) fn recover_lost(&mut self, ctx: &mut Context<Self>) {
        if self.losses.is_reading || self.losses.waiting.is_empty() || !self.unsaved.is_empty() {
            return;
        }
        self.losses.is_reading = true;
        let regions: Vec<_> = self.losses.waiting.iter().copied().collect();
        let shards = regions.iter().map(|region| self.outfit.epochs[usize::from(region.0)].0);
        let people = self.dwellers(&regions).filter_map(|(avatar, _)| self.owners.get(&avatar));
        let wanted = recovery::Wanted {
            shards: regions.iter().copied().zip(shards).collect(),
            regions: self.outfit.regions,
            people: people.copied().collect(),
            as_of: self.appended,
        };
        let read = recovery::read(Arc::clone(&self.outfit.lobby.store), wanted);
        ctx.spawn(read.into_actor(self).map(|read, this, ctx| this.begin_anew(read, ctx)));
    }

    /// Returns who is in some regions, and who drives them.
    fn dwellers<'a>(
        &'a self,
        regions: &'a [RegionIndex],
    ) -> impl Iterator<Item = (EntityId, Option<ClientKey>)> + 'a {
        self.routes.seats().filter_map(|(avatar, seat)| {
            let is_here =
                regions.contains(&seat.region) && !self.routes.is_entering(seat.region, avatar);
            is_here.then_some((avatar, seat.client))
        })
    }

    /// Begins lost regions anew with what was read of them.
    fn begin_anew(&mut self, read: Recovered, ctx: &Context<Self>) {
        self.losses.is_reading = false;
        let (epochs, mut kept) = match read {
            Ok(read) => read,
            Err(error) => return error!(%error, "what is known of lost shards cannot be read"),
        };
        for (region, epoch) in epochs {
            let Some(mint) = self.outfit.mint.split(IDS_ANEW) else {
                error!("this run has no ids left for a shard that begins anew; stopping");
                return System::current().stop_with_code(1);
            };
            self.losses.waiting.remove(&region);
            self.outfit.epochs[usize::from(region.0)].1 = epoch;
            let first = self.first_commands(region, &mut kept);
            self.answer_lost(region);
            self.let_go(region);
            let rules = self.outfit.rules.clone();
            let shard = Shard::new(self.outfit.regions.region(region), rules, mint);
            self.shards[usize::from(region.0)] = Self::run_here(shard, &ctx.address());
            self.routes.begin_anew(region, first);
            for neighbour in self.outfit.regions.neighbours(region) {
                self.routes.push(neighbour, Command::TellAnew(region));
            }
            self.hosting.recover(region, self.beat.tick);
            warn!(shard = region.0, epoch = epoch.0, "a lost shard goes on here");
        }
    }

    /// Returns what a lost region's shard begins with: its things and everyone in it.
    fn first_commands(&mut self, region: RegionIndex, kept: &mut Kept) -> Vec<Command> {
        let things = kept.placed.remove(&region).unwrap_or_default();
        let mut first = vec![Command::Things(things)];
        let here: Vec<_> = self.dwellers(&[region]).collect();
        for (avatar, client) in here {
            let owner = self.owners.get(&avatar).and_then(|owner| self.people.get(owner));
            let Some(record) = owner.cloned() else { continue };
            let held = kept.held.remove(&record.person).unwrap_or_default();
            let record = self.newest(record);
            first.push(Self::entrance(&record, held));
            let Some(client) = client else { continue };
            let told = self.clients.get(&client).map(|place| place.told).unwrap_or_default();
            let hidden = self.hidden_from(&record);
            first.push(Command::Attach { avatar, client, hidden, told });
        }
        first
    }

    /// Answers what a lost shard was asked and will not answer.
    fn answer_lost(&mut self, region: RegionIndex) {
        let drivers: Vec<ClientKey> =
            self.dwellers(&[region]).filter_map(|(_, client)| client).collect();
        for client in drivers {
            let Some(place) = self.clients.get(&client) else { continue };
            let lost: Vec<u32> = place
                .open
                .iter()
                .copied()
                .filter(|&request| !self.post.answers(client, request))
                .filter(|&request| !self.routes.is_asked(region, place.avatar, request))
                .collect();
            for request in lost {
                self.send(client, &Refused { request, why: Why::Interrupted }.into());
            }
        }
    }

    /// Writes down those who were leaving a lost region: nobody else says where they stood.
    fn let_go(&mut self, region: RegionIndex) {
        let leaving: Vec<_> = self
            .going
            .values_mut()
            .filter(|going| going.region == region)
            .filter_map(|going| going.record.take())
            .collect();
        let records: Vec<_> = leaving.into_iter().map(|record| self.newest(record)).collect();
        self.save_people(&records);
    }

    /// Returns where a region's shard runs, for operators.
    pub(super) fn place_name(&self, region: RegionIndex) -> String {
        match self.hosting.place(region) {
            Some(Place::Here) => "here".into(),
            Some(Place::There(link)) => match self.links.get(&link) {
                Some(joined) => joined.peer.to_string(),
                None => "lost".into(),
            },
            None => "on its way".into(),
        }
    }
}

fn terms(rules: &WorldRules, book: &str) -> WorldTerms {
    WorldTerms {
        regions: rules.regions,
        motion: rules.motion.clone(),
        book: book.to_owned(),
        view_cm: rules.view_cm,
        nearby_cm: rules.nearby_cm,
        whisper_cm: rules.whisper_cm,
    }
}
