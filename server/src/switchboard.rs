//! What goes to which shard next: the routes between clients, avatars and regions.
//!
//! It sorts commands into the batches of the coming tick and what steps put out into the batches
//! of the one after. It sends nothing and knows no connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::EntityId;
use protocol::input::InputDatagram;
use protocol::rules::{Holder, Thing};
use protocol::units::{Position, Tick};

use crate::region::{RegionIndex, Regions};
use crate::requests::Requests;
use crate::shard::batch::{Command, Ripple, StepInput, StepOutput, Traveller};
use crate::shard::divide::Redivision;
use crate::shard::ghosts::GhostBatch;
use crate::shard::viewer::ClientKey;

/// Commands that wait for one shard's next tick: four for each of 2,000 clients.
pub const COMMANDS_MAX: usize = 8_192;

/// Inputs that wait for one shard's next step: eight, as many as its queues hold, of 4,000 clients.
const INPUTS_MAX: usize = 32_768;

/// Where an avatar is, and who drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Whose shard steps it.
    pub region: RegionIndex,
    /// Whose client drives it; nothing while its driver is away.
    pub client: Option<ClientKey>,
    /// The step that takes it into that shard; nothing while it is on its way.
    pub since: Option<Tick>,
}

/// The routes of one world.
#[derive(Debug)]
pub struct Switchboard {
    regions: Regions,
    next: BTreeMap<RegionIndex, StepInput>,
    seats: BTreeMap<EntityId, Seat>,
    drivers: BTreeMap<ClientKey, EntityId>,
    requests: Requests,
    /// Regions whose shard is lost and has not begun anew.
    lost: BTreeSet<RegionIndex>,
    /// The last change of how the world is divided.
    change: Option<Arc<Redivision>>,
    /// Commands that found no room.
    pub dropped: u64,
}

impl Switchboard {
    /// Returns the routes of an empty world.
    #[must_use]
    pub fn new(regions: Regions) -> Self {
        Self {
            next: regions.indices().map(|region| (region, StepInput::default())).collect(),
            regions,
            seats: BTreeMap::new(),
            drivers: BTreeMap::new(),
            requests: Requests::default(),
            lost: BTreeSet::new(),
            change: None,
            dropped: 0,
        }
    }

    /// Returns where an avatar is.
    #[must_use]
    pub fn seat(&self, avatar: EntityId) -> Option<Seat> {
        self.seats.get(&avatar).copied()
    }

    /// Returns the avatar that a client drives.
    #[must_use]
    pub fn driven_by(&self, client: ClientKey) -> Option<EntityId> {
        self.drivers.get(&client).copied()
    }

    /// Returns every avatar with where it is and who drives it.
    pub fn seats(&self) -> impl Iterator<Item = (EntityId, Seat)> + '_ {
        self.seats.iter().map(|(&avatar, &seat)| (avatar, seat))
    }

    /// Returns who is in some regions' shards, and who drives them.
    pub fn dwellers<'a>(
        &'a self,
        regions: &'a [RegionIndex],
    ) -> impl Iterator<Item = (EntityId, Option<ClientKey>)> + 'a {
        let waiting = regions.iter().flat_map(|&region| self.waiting(region));
        let entering: BTreeSet<EntityId> = waiting.filter_map(entering).collect();
        let seats = self.seats().filter(|(_, seat)| regions.contains(&seat.region));
        let here = seats.filter(move |(avatar, _)| !entering.contains(avatar));
        here.map(|(avatar, seat)| (avatar, seat.client))
    }

    /// Returns whether an avatar is still on its way into a region's shard.
    #[must_use]
    pub fn is_entering(&self, region: RegionIndex, avatar: EntityId) -> bool {
        self.waiting(region).any(|command| entering(command) == Some(avatar))
    }

    fn waiting(&self, region: RegionIndex) -> impl Iterator<Item = &Command> {
        self.next.get(&region).into_iter().flat_map(|input| &input.commands)
    }

    /// Takes note that a region's shard is lost: what its neighbours show it is of no use until it
    /// begins anew.
    pub fn lose(&mut self, region: RegionIndex) {
        self.lost.insert(region);
        if let Some(input) = self.next.get_mut(&region) {
            // What somebody asked who has gone would be heard by whoever comes after them, who is
            // put before it when the region begins anew.
            let requests = &self.requests;
            input.commands.retain(|command| {
                !matches!(command, Command::Ghosts(_)) && requests.awaits(command)
            });
        }
    }

    /// Puts commands before all that wait for a region, whose shard begins anew with them.
    pub fn begin_anew(&mut self, region: RegionIndex, mut first: Vec<Command>) {
        self.lost.remove(&region);
        for avatar in first.iter().filter_map(entering) {
            if let Some(seat) = self.seats.get_mut(&avatar) {
                seat.since = None;
            }
        }
        let Some(input) = self.next.get_mut(&region) else { return };
        first.append(&mut input.commands);
        input.commands = first;
    }

    /// Returns how many avatars there are.
    #[must_use]
    pub fn avatars(&self) -> usize {
        self.seats.len()
    }

    /// Brings an avatar in at `position` with `command`, which must be its `Enter`.
    pub fn enter(&mut self, avatar: EntityId, position: Position, command: Command) {
        let region = self.regions.index_of(position);
        self.seats.insert(avatar, Seat { region, client: None, since: None });
        self.push(region, command);
    }

    /// Seats a client's driver at an avatar; returns the client that drove it before.
    pub fn drive(&mut self, avatar: EntityId, client: ClientKey) -> Option<ClientKey> {
        let seat = self.seats.get_mut(&avatar)?;
        let before = seat.client.replace(client);
        if let Some(before) = before {
            self.drivers.remove(&before);
        }
        self.requests.forget(avatar);
        self.drivers.insert(client, avatar);
        before
    }

    /// Unseats a client; returns the avatar it drove, which stays.
    pub fn release(&mut self, client: ClientKey) -> Option<EntityId> {
        let avatar = self.drivers.remove(&client)?;
        if let Some(seat) = self.seats.get_mut(&avatar) {
            seat.client = None;
        }
        self.forget_requests(avatar);
        Some(avatar)
    }

    /// Takes an avatar out of the world.
    pub fn leave(&mut self, avatar: EntityId) {
        self.forget_requests(avatar);
        let Some(seat) = self.seats.remove(&avatar) else { return };
        if let Some(client) = seat.client {
            self.drivers.remove(&client);
        }
        self.push(seat.region, Command::Leave { avatar });
    }

    /// Queues what an avatar's client asks; returns whether there was room, and an answer is to come.
    pub fn ask(&mut self, avatar: EntityId, command: Command) -> bool {
        let request = command.request();
        let is_taken = self.command(avatar, command);
        if let Some(request) = request.filter(|_| is_taken) {
            self.requests.ask(avatar, request);
        }
        is_taken
    }

    /// Takes note that a client was answered.
    pub fn answer(&mut self, client: ClientKey, request: u32) {
        if let Some(avatar) = self.driven_by(client) {
            self.requests.answer(avatar, request);
        }
    }

    /// Forgets what an avatar's client asked, which is gone. What waits for a shard is carried out
    /// all the same, before the next client comes, but in a lost region.
    fn forget_requests(&mut self, avatar: EntityId) {
        self.requests.forget(avatar);
        let Some(seat) = self.seats.get(&avatar).filter(|seat| self.lost.contains(&seat.region))
        else {
            return;
        };
        if let Some(input) = self.next.get_mut(&seat.region) {
            let requests = &self.requests;
            input.commands.retain(|command| requests.awaits(command));
        }
    }

    /// Takes out what a lost region's shard was asked and will not answer; returns who asked what.
    ///
    /// Somebody who is elsewhere by now may have been asked there, before it was known.
    pub fn take_lost(&mut self, region: RegionIndex) -> Vec<(ClientKey, u32)> {
        let dwellers: BTreeSet<EntityId> =
            self.dwellers(&[region]).map(|(avatar, _)| avatar).collect();
        let lost = self.requests.lose(region, |avatar| dwellers.contains(&avatar));
        let seats = &self.seats;
        let client = |avatar| seats.get(&avatar).and_then(|seat: &Seat| seat.client);
        lost.into_iter().filter_map(|(avatar, request)| Some((client(avatar)?, request))).collect()
    }

    /// Queues a command for the shard of an avatar; returns whether there is one with room.
    pub fn command(&mut self, avatar: EntityId, command: Command) -> bool {
        self.seat(avatar).is_some_and(|seat| self.push(seat.region, command))
    }

    /// Queues a command for a region's shard; returns whether there was room.
    pub fn push(&mut self, region: RegionIndex, command: Command) -> bool {
        let Some(input) = self.next.get_mut(&region) else { return false };
        let is_vital = matches!(
            command,
            Command::Enter(_)
                | Command::Leave { .. }
                | Command::Attach { .. }
                | Command::Detach { .. }
                | Command::Hide { .. }
                | Command::Place { .. }
                | Command::Ghosts(_)
                | Command::Ground(_)
                | Command::Things(_)
                | Command::TellAnew(_)
                | Command::Redivide(_)
        );
        if input.commands.len() >= COMMANDS_MAX && !is_vital {
            self.dropped += 1;
            return false;
        }
        input.commands.push(command);
        true
    }

    /// Queues a command that found room before in another region's queue, or in a step: refused now,
    /// it would have no answer. What four queues held fits one for a tick.
    fn pass(&mut self, region: RegionIndex, command: Command) {
        if let Some(input) = self.next.get_mut(&region) {
            input.commands.push(command);
        }
    }

    /// Queues what a client sent for its avatar; from one that drives nothing it is nothing.
    pub fn input(&mut self, client: ClientKey, datagram: InputDatagram) {
        let Some(avatar) = self.driven_by(client) else { return };
        let Some(seat) = self.seat(avatar) else { return };
        let input = self.next.get_mut(&seat.region);
        if let Some(input) = input.filter(|input| input.inputs.len() < INPUTS_MAX) {
            input.inputs.push((avatar, datagram));
        }
    }

    /// Takes the batch of a region for `tick`.
    pub fn take(&mut self, region: RegionIndex, tick: Tick) -> StepInput {
        let next = self.next.get_mut(&region).map(std::mem::take);
        let next = next.unwrap_or_default();
        for avatar in next.commands.iter().filter_map(entering) {
            if let Some(seat) = self.seats.get_mut(&avatar).filter(|seat| seat.region == region) {
                seat.since = Some(tick);
            }
        }
        self.requests.send(region, tick, &next.commands);
        StepInput { tick, ..next }
    }

    /// Takes what a step of a region that is made up for needs: the inputs of those who are there.
    ///
    /// Whoever enters, and all that is asked, waits for the last step: somebody who comes from next
    /// door has made the steps before there.
    pub fn take_missed(&mut self, region: RegionIndex, tick: Tick) -> StepInput {
        let Some(next) = self.next.get_mut(&region) else {
            return StepInput { tick, ..StepInput::default() };
        };
        let begins = |command: &Command| match command {
            Command::Enter(traveller) => Some(traveller.avatar.id),
            Command::Attach { avatar, .. } => Some(*avatar),
            Command::Leave { .. }
            | Command::Detach { .. }
            | Command::Do { .. }
            | Command::Cancel { .. }
            | Command::Say { .. }
            | Command::Wear { .. }
            | Command::Hide { .. }
            | Command::Place { .. }
            | Command::Ground(_)
            | Command::Things(_)
            | Command::Ghosts(_)
            | Command::TellAnew(_)
            | Command::Redivide(_)
            | Command::Ripple(_)
            | Command::EndOffer { .. } => None,
        };
        let coming: BTreeSet<EntityId> = next.commands.iter().filter_map(begins).collect();
        let is_there = |(avatar, _): &mut (EntityId, InputDatagram)| !coming.contains(avatar);
        let inputs = next.inputs.extract_if(.., is_there).collect();
        StepInput { tick, inputs, ..StepInput::default() }
    }

    /// Sorts what the step of the shard of `from` to `tick` put out for other shards into their next
    /// batches.
    ///
    /// A traveller's commands and inputs follow it, in the order in which they came; what comes too
    /// late for that goes to where its avatar is. Commands for somebody who is nowhere any more are
    /// dropped, and requests that nobody waits for.
    pub fn absorb(&mut self, from: RegionIndex, tick: Tick, output: &mut StepOutput) {
        output.strays.retain(|stray| self.requests.come_back(from, tick, stray));
        self.requests.made(from, tick);
        for (region, batch) in output.ghosts.drain(..) {
            self.show(region, batch);
        }
        // Before the travellers: who goes after a thing shall find it.
        for (region, things) in output.things.drain(..) {
            let place = things.first().and_then(Thing::place).unwrap_or_default();
            let heir = self.regions.heir(region, place);
            let heir = heir.unwrap_or_else(|| self.regions.index_of(place));
            self.push(heir, Command::Things(things));
        }
        for (region, traveller) in output.travellers.drain(..) {
            let region = self.destination(region, &traveller);
            let avatar = traveller.avatar.id;
            let left = self.seats.get_mut(&avatar).map(|seat| {
                seat.since = None;
                std::mem::replace(&mut seat.region, region)
            });
            self.push(region, Command::Enter(traveller));
            match left {
                Some(left) => self.forward(avatar, left, region, &mut output.strays),
                // It left the world in the very tick in which it crossed: it must not come back.
                None => {
                    self.push(region, Command::Leave { avatar });
                }
            }
        }
        for stray in output.strays.drain(..) {
            let avatar = self.follows((from, tick), &stray);
            if let Some(seat) = avatar.and_then(|avatar| self.seat(avatar)) {
                self.pass(seat.region, stray);
            }
        }
        for (region, ripple) in output.ripples.drain(..) {
            self.spread(region, ripple);
        }
    }

    /// Lets a region perceive what its neighbour's step put out; what was meant for one that is no
    /// more is perceived by all that have a part of its place.
    fn spread(&mut self, region: RegionIndex, ripple: Arc<Ripple>) {
        if self.next.contains_key(&region) {
            self.push(region, Command::Ripple(ripple));
            return;
        }
        for heir in self.regions.heirs(region) {
            // Said to two quarters that are one by now, it is heard once.
            if !self.is_waiting(heir.index, &ripple) {
                self.push(heir.index, Command::Ripple(Arc::clone(&ripple)));
            }
        }
    }

    fn is_waiting(&self, region: RegionIndex, ripple: &Ripple) -> bool {
        self.waiting(region)
            .any(|command| matches!(command, Command::Ripple(waiting) if **waiting == *ripple))
    }

    /// Takes what can be perceived in a region and waits for its next step.
    pub fn take_ripples(&mut self, region: RegionIndex) -> Vec<Arc<Ripple>> {
        let Some(input) = self.next.get_mut(&region) else { return Vec::new() };
        let is_ripple = |command: &mut Command| matches!(command, Command::Ripple(_));
        let ripples = input.commands.extract_if(.., is_ripple).filter_map(|command| {
            if let Command::Ripple(ripple) = command { Some(ripple) } else { None }
        });
        ripples.collect()
    }

    /// Shows a region what its neighbour tells; what was meant for one that is no more is shown to
    /// all that have a part of its place.
    fn show(&mut self, region: RegionIndex, batch: GhostBatch) {
        if self.next.contains_key(&region) {
            // One that begins anew is told everything anew.
            if !self.lost.contains(&region) {
                self.push(region, Command::Ghosts(batch));
            }
            return;
        }
        for heir in self.regions.heirs(region) {
            if self.lost.contains(&heir.index) {
                continue;
            }
            let mut batch = batch.clone();
            if self.regions.former(region).is_some_and(|was| was.width < heir.width) {
                // Who left a quarter's sight may be in that of the whole.
                (batch.left, batch.is_whole) = (Vec::new(), false);
            }
            self.push(heir.index, Command::Ghosts(batch));
        }
    }

    /// Returns where somebody goes who was sent to `region`, which may be no more.
    fn destination(&self, region: RegionIndex, traveller: &Traveller) -> RegionIndex {
        let change = self.change.as_ref().filter(|change| change.gone.contains(&region));
        let target = traveller.errand.as_ref().and_then(|(_, act)| act.target);
        if let Some(owner) = target.and_then(|target| change?.owners.get(&target)) {
            return *owner;
        }
        let place = traveller.avatar.body.position();
        self.regions.heir(region, place).unwrap_or_else(|| self.regions.index_of(place))
    }

    /// Returns whether every region has been told how the world is divided.
    #[must_use]
    pub fn is_division_known(&self) -> bool {
        let waiting = |input: &StepInput| {
            input.commands.iter().any(|command| matches!(command, Command::Redivide(_)))
        };
        !self.next.values().any(waiting)
    }

    /// Returns who is on the way into some regions' shards.
    #[must_use]
    pub fn coming(&self, regions: &[RegionIndex]) -> BTreeSet<EntityId> {
        let waiting = regions.iter().flat_map(|&region| self.waiting(region));
        waiting.filter_map(entering).collect()
    }

    /// Goes by another division of the world, and lets everyone know who has not just come to be.
    ///
    /// What waits for regions that are no more waits for those that have their places, in the same
    /// order. Returns whose everything is that was, or was on its way, there.
    pub fn redivide(&mut self, change: &Arc<Redivision>) -> BTreeMap<EntityId, RegionIndex> {
        self.regions = change.regions.clone();
        self.change = Some(Arc::clone(change));
        let mut homes = change.owners.clone();
        let mut waiting = Vec::new();
        for &gone in &change.gone {
            self.lost.remove(&gone);
            waiting.extend(self.next.remove(&gone).map(|input| (gone, input)));
        }
        for region in self.next.keys().copied().collect::<Vec<_>>() {
            self.push(region, Command::Redivide(Arc::clone(change)));
        }
        for &new in &change.new {
            self.next.insert(new, StepInput::default());
        }
        for (gone, input) in waiting {
            for command in input.commands {
                self.pass_on(change, gone, command, &mut homes);
            }
            for (avatar, datagram) in input.inputs {
                let home = homes.get(&avatar).copied().unwrap_or_else(|| change.first());
                if let Some(next) = self.next.get_mut(&home) {
                    next.inputs.push((avatar, datagram));
                }
            }
        }
        for (avatar, seat) in &mut self.seats {
            if change.gone.contains(&seat.region) {
                seat.region = homes.get(avatar).copied().unwrap_or_else(|| change.first());
            }
        }
        homes
    }

    /// Lets what waited for a region that is no more wait for whoever has its place.
    fn pass_on(
        &mut self,
        change: &Redivision,
        gone: RegionIndex,
        command: Command,
        homes: &mut BTreeMap<EntityId, RegionIndex>,
    ) {
        match command {
            Command::Enter(traveller) => {
                let home = self.destination(gone, &traveller);
                homes.insert(traveller.avatar.id, home);
                self.push(home, Command::Enter(traveller));
            }
            Command::Things(things) => {
                let (mut placed, rest): (Vec<Thing>, Vec<Thing>) =
                    things.into_iter().partition(|thing| thing.place().is_some());
                for thing in placed.drain(..) {
                    let place = thing.place().unwrap_or_default();
                    let home = change.owner(gone, thing.id, place);
                    homes.insert(thing.id, home);
                    self.push(home, Command::Things(vec![thing]));
                }
                for thing in rest {
                    let container = match thing.holder {
                        Holder::Inside(container) | Holder::Held(container) => container,
                        Holder::Placed { .. } => thing.id,
                    };
                    let home = homes.get(&container).copied().unwrap_or_else(|| change.first());
                    homes.insert(thing.id, home);
                    self.push(home, Command::Things(vec![thing]));
                }
            }
            // What parts of one region tell each other is nothing once it is one.
            Command::Ghosts(batch) if change.gone.contains(&batch.from) => {}
            Command::Ghosts(batch) => self.show(gone, batch),
            Command::Ground(chunk) => {
                for &new in &change.new {
                    self.push(new, Command::Ground(Arc::clone(&chunk)));
                }
            }
            // Every border of a new shard begins anew: whoever is behind it is told everything.
            Command::TellAnew(_) => {}
            // No shard is packed up for a change before everyone knows of the last one.
            Command::Redivide(_) => {}
            // Those in the old shards perceived it when these were taken apart.
            Command::Ripple(_) => {}
            Command::Leave { .. }
            | Command::Attach { .. }
            | Command::Detach { .. }
            | Command::Do { .. }
            | Command::Cancel { .. }
            | Command::Say { .. }
            | Command::Wear { .. }
            | Command::Hide { .. }
            | Command::Place { .. }
            | Command::EndOffer { .. } => {
                let home = command.avatar().and_then(|avatar| homes.get(&avatar)).copied();
                self.pass(home.unwrap_or_else(|| change.first()), command);
            }
        }
    }

    /// Returns the avatar that a command which found nobody in the step of `from` still is for.
    ///
    /// A shard whose answers are late is asked for more before it is known who has left it, and
    /// they may be back by then; and who ended an offer does not know where the other party is by
    /// now.
    fn follows(&self, (from, tick): (RegionIndex, Tick), stray: &Command) -> Option<EntityId> {
        let avatar = stray.avatar()?;
        let seat = self.seat(avatar)?;
        if seat.region == from && seat.since.is_some_and(|since| since <= tick) {
            return None;
        }
        let is_meant = match stray {
            Command::Attach { client, .. } => seat.client == Some(*client),
            Command::Detach { .. } => seat.client.is_none(),
            // Whoever was to leave has, and may be back as somebody new.
            Command::Leave { .. } => false,
            Command::Do { .. }
            | Command::Cancel { .. }
            | Command::Say { .. }
            | Command::Wear { .. }
            | Command::Hide { .. }
            | Command::Place { .. }
            | Command::EndOffer { .. } => true,
            Command::Enter(_)
            | Command::Ground(_)
            | Command::Things(_)
            | Command::Ghosts(_)
            | Command::TellAnew(_)
            | Command::Redivide(_)
            | Command::Ripple(_) => false,
        };
        is_meant.then_some(avatar)
    }

    /// Sends what names an avatar after it: what its old shard could not apply, then what waits.
    fn forward(
        &mut self,
        avatar: EntityId,
        left: RegionIndex,
        region: RegionIndex,
        strays: &mut Vec<Command>,
    ) {
        let names_it = |command: &mut Command| command.avatar() == Some(avatar);
        let mut following: Vec<Command> = strays.extract_if(.., names_it).collect();
        let mut inputs = Vec::new();
        if let Some(waiting) = self.next.get_mut(&left) {
            following.extend(waiting.commands.extract_if(.., names_it));
            inputs.extend(waiting.inputs.extract_if(.., |(whose, _)| *whose == avatar));
        }
        if let Some(next) = self.next.get_mut(&region) {
            next.commands.append(&mut following);
            next.inputs.append(&mut inputs);
        }
    }
}

/// Returns whom a command brings into a shard.
fn entering(command: &Command) -> Option<EntityId> {
    if let Command::Enter(traveller) = command { Some(traveller.avatar.id) } else { None }
}

#[cfg(test)]
mod tests;
