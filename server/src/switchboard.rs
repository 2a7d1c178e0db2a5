//! What goes to which shard next: the routes between clients, avatars and regions.
//!
//! It sorts commands into the batches of the coming tick and what steps put out into the batches
//! of the one after. It sends nothing and knows no connection.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::EntityId;
use protocol::input::InputDatagram;
use protocol::units::{Position, Tick};

use crate::region::{RegionIndex, Regions};
use crate::shard::batch::{Command, StepInput, StepOutput};
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
}

/// The routes of one world.
#[derive(Debug)]
pub struct Switchboard {
    regions: Regions,
    next: Vec<StepInput>,
    seats: BTreeMap<EntityId, Seat>,
    drivers: BTreeMap<ClientKey, EntityId>,
    /// Commands that found no room.
    pub dropped: u64,
}

impl Switchboard {
    /// Returns the routes of an empty world.
    #[must_use]
    pub fn new(regions: Regions) -> Self {
        Self {
            regions,
            next: (0..regions.count()).map(|_| StepInput::default()).collect(),
            seats: BTreeMap::new(),
            drivers: BTreeMap::new(),
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

    /// Returns whether an avatar is still on its way into a region's shard.
    #[must_use]
    pub fn is_entering(&self, region: RegionIndex, avatar: EntityId) -> bool {
        self.waiting(region).any(
            |command| matches!(command, Command::Enter(traveller) if traveller.avatar.id == avatar),
        )
    }

    /// Returns whether what an avatar's client asked still waits for a region's next step.
    #[must_use]
    pub fn is_asked(&self, region: RegionIndex, avatar: EntityId, request: u32) -> bool {
        self.waiting(region)
            .any(|command| command.avatar() == Some(avatar) && command.request() == Some(request))
    }

    fn waiting(&self, region: RegionIndex) -> impl Iterator<Item = &Command> {
        self.next.get(usize::from(region.0)).into_iter().flat_map(|input| &input.commands)
    }

    /// Puts commands before all that wait for a region, whose shard begins anew with them.
    pub fn begin_anew(&mut self, region: RegionIndex, mut first: Vec<Command>) {
        let Some(input) = self.next.get_mut(usize::from(region.0)) else { return };
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
        self.seats.insert(avatar, Seat { region, client: None });
        self.push(region, command);
    }

    /// Seats a client's driver at an avatar; returns the client that drove it before.
    pub fn drive(&mut self, avatar: EntityId, client: ClientKey) -> Option<ClientKey> {
        let seat = self.seats.get_mut(&avatar)?;
        let before = seat.client.replace(client);
        if let Some(before) = before {
            self.drivers.remove(&before);
        }
        self.drivers.insert(client, avatar);
        before
    }

    /// Unseats a client; returns the avatar it drove, which stays.
    pub fn release(&mut self, client: ClientKey) -> Option<EntityId> {
        let avatar = self.drivers.remove(&client)?;
        if let Some(seat) = self.seats.get_mut(&avatar) {
            seat.client = None;
        }
        Some(avatar)
    }

    /// Takes an avatar out of the world.
    pub fn leave(&mut self, avatar: EntityId) {
        let Some(seat) = self.seats.remove(&avatar) else { return };
        if let Some(client) = seat.client {
            self.drivers.remove(&client);
        }
        self.push(seat.region, Command::Leave { avatar });
    }

    /// Queues a command for the shard of an avatar; returns whether there is one with room.
    pub fn command(&mut self, avatar: EntityId, command: Command) -> bool {
        self.seat(avatar).is_some_and(|seat| self.push(seat.region, command))
    }

    /// Queues a command for a region's shard; returns whether there was room.
    pub fn push(&mut self, region: RegionIndex, command: Command) -> bool {
        let Some(input) = self.next.get_mut(usize::from(region.0)) else { return false };
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
        );
        if input.commands.len() >= COMMANDS_MAX && !is_vital {
            self.dropped += 1;
            return false;
        }
        input.commands.push(command);
        true
    }

    /// Queues what a client sent for its avatar; from one that drives nothing it is nothing.
    pub fn input(&mut self, client: ClientKey, datagram: InputDatagram) {
        let Some(avatar) = self.driven_by(client) else { return };
        let Some(seat) = self.seat(avatar) else { return };
        let input = self.next.get_mut(usize::from(seat.region.0));
        if let Some(input) = input.filter(|input| input.inputs.len() < INPUTS_MAX) {
            input.inputs.push((avatar, datagram));
        }
    }

    /// Takes the batch of a region for `tick`.
    pub fn take(&mut self, region: RegionIndex, tick: Tick) -> StepInput {
        let next = self.next.get_mut(usize::from(region.0)).map(std::mem::take);
        StepInput { tick, ..next.unwrap_or_default() }
    }

    /// Takes what a step of a region that is made up for needs: the inputs of those who are there.
    ///
    /// Whoever enters, and all that is asked, waits for the last step: somebody who comes from next
    /// door has made the steps before there.
    pub fn take_missed(&mut self, region: RegionIndex, tick: Tick) -> StepInput {
        let Some(next) = self.next.get_mut(usize::from(region.0)) else {
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
            | Command::Ripple(_)
            | Command::EndOffer { .. } => None,
        };
        let coming: BTreeSet<EntityId> = next.commands.iter().filter_map(begins).collect();
        let is_there = |(avatar, _): &mut (EntityId, InputDatagram)| !coming.contains(avatar);
        let inputs = next.inputs.extract_if(.., is_there).collect();
        StepInput { tick, inputs, ..StepInput::default() }
    }

    /// Sorts what a step put out for other shards into their next batches.
    ///
    /// A traveller's commands and inputs follow it, in the order in which they came; requests also
    /// when they come too late for that. Commands for somebody who is nowhere any more are dropped.
    pub fn absorb(&mut self, output: &mut StepOutput) {
        for (region, batch) in output.ghosts.drain(..) {
            self.push(region, Command::Ghosts(batch));
        }
        for (region, thing) in output.things.drain(..) {
            self.push(region, Command::Things(vec![thing]));
        }
        for (region, traveller) in output.travellers.drain(..) {
            let avatar = traveller.avatar.id;
            let left =
                self.seats.get_mut(&avatar).map(|seat| std::mem::replace(&mut seat.region, region));
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
            // Who ended an offer does not know where the other party is by now; and a shard whose
            // process is late is asked for somebody who has gone on already.
            let follows = stray.request().is_some() || matches!(stray, Command::EndOffer { .. });
            if let Some(avatar) = stray.avatar().filter(|_| follows) {
                self.command(avatar, stray);
            }
        }
        for (region, ripple) in output.ripples.drain(..) {
            self.push(region, Command::Ripple(ripple));
        }
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
        if let Some(waiting) = self.next.get_mut(usize::from(left.0)) {
            following.extend(waiting.commands.extract_if(.., names_it));
            inputs.extend(waiting.inputs.extract_if(.., |(whose, _)| *whose == avatar));
        }
        if let Some(next) = self.next.get_mut(usize::from(region.0)) {
            next.commands.append(&mut following);
            next.inputs.append(&mut inputs);
        }
    }
}
