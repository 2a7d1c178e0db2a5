//! Processes that run shards: they join, take shards over, give them back, or are lost.
//!
//! A shard whose process is lost begins anew here: what was confirmed is in the store, where
//! everyone stood was told a moment ago, and connections are the gateway's.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use protocol::message::server::{OfferEnded, Refused};
use protocol::rules::{OfferEnd, OfferId, Why};
use protocol::units::Tick;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::GatewayActor;
use crate::actors::remote::RemoteShardActor;
use crate::actors::shard::{Outbox, Pack, PackedUp, Runner, ShardActor, Step};
use crate::hosting::{BadClaim, LinkId, Place, Turn};
use crate::io::link::queue;
use crate::io::recovery::{self, Kept};
use crate::link::{Down, WorldTerms};
use crate::region::RegionIndex;
use crate::shard::Shard;
use crate::shard::batch::Command;
use crate::shard::pack::{BadPack, Packed};
use crate::shard::viewer::ClientKey;
use crate::store::{Epoch, StoreError};

/// Ids for a shard that begins anew: 16 million, at 50 a second for four days; there are enough for
/// 32,000 losses.
pub(super) const IDS_ANEW: u64 = 1 << 24;

/// Ticks before a store that could not be read is read again, at first and at most: a second and a
/// minute at 20 Hz.
const READ_AGAIN_TICKS: (u64, u64) = (20, 1_200);

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
    /// When the store is read again that could not be, and how long was waited for that.
    again: Option<(Tick, u64)>,
}

impl Handler<Join> for GatewayActor {
    type Result = Result<LinkId, BadClaim>;

    fn handle(
        &mut self,
        Join { regions, peer, outgoing }: Join,
        _: &mut Self::Context,
    ) -> Self::Result {
        if self.stop.is_some() {
            return Err(BadClaim::Stopping);
        }
        if let Some(divided) = regions.iter().find(|&&region| self.is_divided(region)) {
            return Err(BadClaim::OnItsWay(divided.0));
        }
        let link = LinkId(self.next_link);
        self.hosting.claim(link, &regions)?;
        self.next_link += 1;
        let numbers: Vec<u32> = regions.iter().map(|region| region.0).collect();
        info!(%link, %peer, regions = ?numbers, "a process joined");
        self.links.insert(link, Joined { peer, outgoing, departs: false });
        if !self
            .tell(link, &Down::Terms(WorldTerms::of(&self.outfit.rules, &self.outfit.book_text)))
        {
            warn!(%link, "a process that just joined hears nothing");
        }
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
        let Some(Runner { step, pack }) = self.shards.get(&region) else {
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
            input.epoch = self.epoch(region).unwrap_or_default();
            input.pace_permille = self.beat.dilation.permille();
            input.frame_bytes_max = budget;
            // When a process is lost, everyone stands where its last answer says.
            input.is_survey = is_survey || !is_here;
            if let Some(recorder) = &mut self.outfit.recorder {
                recorder.step(region, &input);
            }
            let output = self.beat.spare_output();
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
        if let Some(recorder) = &mut self.outfit.recorder {
            recorder.moved(region);
        }
        if let Err(error) = packed.check_division(&self.outfit.regions) {
            return self.damage(region, &error);
        }
        let Some(packed) = self.take_apart(packed, ctx) else { return };
        let tick = packed.tick();
        let shard = match self.hosting.bound_for(region) {
            Some(Place::There(link)) => match self.send_away(link, packed, ctx) {
                Ok(()) => return self.hosting.packed(region, tick),
                // The process is given up; what could not be sent is all here.
                Err(packed) => packed,
            },
            Some(Place::Here) => Box::new(packed),
            None => return,
        };
        match shard.unpack(self.outfit.rules.clone()) {
            Ok(shard) => {
                self.hosting.packed(region, tick);
                self.shards.insert(region, Self::run_here(shard, &ctx.address()));
                info!(shard = region.0, "a shard came home");
            }
            Err(error) => self.damage(region, &error),
        }
    }

    /// Lets a region begin anew whose shard came home and is none: what the store knows is right.
    pub(super) fn damage(&mut self, region: RegionIndex, error: &BadPack) {
        error!(%error, shard = region.0, "a shard came back damaged");
        self.hosting.damage(region);
        self.routes.lose(region);
        self.metrics.shards_lost.increment(1);
        self.losses.waiting.insert(region);
    }

    /// Returns what a region's shard writes as.
    pub(super) fn epoch(&self, region: RegionIndex) -> Option<Epoch> {
        self.outfit.epochs.get(&region).map(|&(_, epoch)| epoch)
    }

    /// Returns the process at an address.
    pub(super) fn link_at(&self, address: &str) -> Option<LinkId> {
        let mut links = self.links.iter().filter(|(_, joined)| !joined.departs);
        links.find(|(_, joined)| joined.peer.to_string() == address).map(|(&link, _)| link)
    }

    /// Sends a shard to a process; returns it if that takes nothing.
    fn send_away(
        &mut self,
        link: LinkId,
        packed: Packed,
        ctx: &Context<Self>,
    ) -> Result<(), Box<Packed>> {
        let region = packed.region();
        let outgoing = self.links.get(&link).map(|joined| joined.outgoing.clone());
        let message = Down::Host { shard: Box::new(packed) };
        let is_sent = self.tell(link, &message);
        if let (true, Some(outgoing)) = (is_sent, outgoing) {
            let runner = RemoteShardActor::run((link, region), outgoing, ctx.address().recipient());
            self.shards.insert(region, runner);
            info!(shard = region.0, %link, "a shard moved to another process");
            return Ok(());
        }
        let Down::Host { shard } = message else { return Ok(()) };
        Err(shard)
    }

    /// Sends a process something; returns whether it went out. One that takes nothing is lost.
    fn tell(&mut self, link: LinkId, message: &Down) -> bool {
        let Some(joined) = self.links.get(&link) else { return false };
        let sent = queue(&joined.outgoing, message);
        if let Err(why) = &sent {
            self.lose(link, why);
        }
        sent.is_ok()
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
    pub(super) fn lose(&mut self, link: LinkId, why: &str) {
        let Some(Joined { peer, outgoing, .. }) = self.links.remove(&link) else { return };
        // It may be deaf, or gone; then nobody is there to be told.
        drop(queue(&outgoing, &Down::Ended { why: why.to_owned() }));
        let lost = self.hosting.lose(link);
        let numbers: Vec<u32> = lost.iter().map(|region| region.0).collect();
        warn!(%link, %peer, why, regions = ?numbers, "a process is lost; its shards begin anew here");
        self.metrics.shards_lost.increment(lost.len() as u64);
        lost.iter().for_each(|&region| self.routes.lose(region));
        self.losses.waiting.extend(lost);
    }

    /// Reads what is known of lost regions, once all that was done in them is written.
    pub(super) fn recover_lost(&mut self, ctx: &mut Context<Self>) {
        if self.losses.is_reading || self.losses.waiting.is_empty() || !self.unsaved.is_empty() {
            return;
        }
        if self.losses.again.is_some_and(|(due, _)| self.now() < due) {
            return;
        }
        self.losses.is_reading = true;
        let regions: Vec<_> = self.losses.waiting.iter().copied().collect();
        let shards = regions.iter().filter_map(|region| {
            self.outfit.epochs.get(region).map(|&(shard, _)| (*region, shard))
        });
        let people =
            self.routes.dwellers(&regions).filter_map(|(avatar, _)| self.owners.get(&avatar));
        let wanted = recovery::Wanted {
            shards: shards.collect(),
            regions: self.outfit.regions.clone(),
            people: people.copied().collect(),
            as_of: self.appended,
        };
        let read = recovery::read(Arc::clone(&self.outfit.lobby.store), wanted);
        ctx.spawn(read.into_actor(self).map(|read, this, ctx| this.begin_anew(read, ctx)));
    }

    /// Begins lost regions anew with what was read of them.
    fn begin_anew(&mut self, read: Recovered, ctx: &Context<Self>) {
        self.losses.is_reading = false;
        let (epochs, mut kept) = match read {
            Ok(read) => read,
            Err(error) => {
                let (first, most) = READ_AGAIN_TICKS;
                let wait = self.losses.again.map_or(first, |(_, waited)| (2 * waited).min(most));
                self.losses.again = Some((self.now().after(wait), wait));
                return error!(%error, wait, "what is known of lost shards cannot be read yet");
            }
        };
        self.losses.again = None;
        for (region, epoch) in epochs {
            self.losses.waiting.remove(&region);
            let Some(mint) = self.next_mint() else {
                error!(shard = region.0, "no ids are left for it in this run; restart the server");
                continue;
            };
            let Some(square) = self.outfit.regions.region(region) else { continue };
            self.outfit.epochs.entry(region).and_modify(|known| known.1 = epoch);
            let first = self.first_commands(region, &mut kept);
            self.answer_lost(region);
            self.end_offers_of(region);
            self.let_go(region);
            let rules = self.outfit.rules.clone();
            let neighbours = rules.neighbours(square);
            let shard = self.outfit.begin(Shard::new(square, rules, mint).at(self.beat.tick));
            self.shards.insert(region, Self::run_here(shard, &ctx.address()));
            self.routes.begin_anew(region, first);
            for neighbour in neighbours {
                self.routes.push(neighbour.index, Command::TellAnew(region));
            }
            self.hosting.recover(region, self.beat.tick);
            warn!(shard = region.0, epoch = epoch.0, "a lost shard goes on here");
        }
    }

    /// Returns what a lost region's shard begins with: its things and everyone in it.
    fn first_commands(&mut self, region: RegionIndex, kept: &mut Kept) -> Vec<Command> {
        let things = kept.placed.remove(&region).unwrap_or_default();
        let mut first = vec![Command::Things(things)];
        let here: Vec<_> = self.routes.dwellers(&[region]).collect();
        for (avatar, client) in here {
            let owner = self.owners.get(&avatar).and_then(|owner| self.people.get(owner));
            let Some(record) = owner.cloned() else { continue };
            let held = kept.held.remove(&record.person).unwrap_or_default();
            let record = self.newest(record);
            first.push(record.entrance(held));
            let Some(client) = client else { continue };
            let told = self.clients.get(&client).map(|place| place.told).unwrap_or_default();
            let hidden = self.hidden_from(&record);
            first.push(Command::Attach { avatar, client, hidden, told });
        }
        first
    }

    /// Answers what a lost shard was asked and will not answer.
    fn answer_lost(&mut self, region: RegionIndex) {
        for (client, request) in self.routes.take_lost(region) {
            // What it did and said before is told when it is on disk.
            if !self.post.answers(client, request) {
                self.send(client, &Refused { request, why: Why::Interrupted }.into());
            }
        }
    }

    /// Tells both parties of the end of what was offered by, or to, somebody in a lost region.
    fn end_offers_of(&mut self, region: RegionIndex) {
        let region = [region];
        let drivers = self.routes.dwellers(&region).filter_map(|(_, client)| client);
        let lost: BTreeSet<OfferId> = drivers
            .filter_map(|client| self.clients.get(&client))
            .flat_map(|place| place.offers.iter().copied())
            .collect();
        let told: Vec<(ClientKey, OfferId)> = self
            .clients
            .iter()
            .flat_map(|(&client, place)| place.offers.iter().map(move |&offer| (client, offer)))
            .filter(|(_, offer)| lost.contains(offer))
            .collect();
        for (client, offer) in told {
            self.send(client, &OfferEnded { offer, end: OfferEnd::Withdrawn }.into());
        }
    }

    /// Writes down those who were leaving a lost region: nobody else says where they stood.
    fn let_go(&mut self, region: RegionIndex) {
        let leaving = self.departures.lose(region);
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
            None if self.losses.waiting.contains(&region) => "lost, begins anew".into(),
            None => "on its way".into(),
        }
    }
}
