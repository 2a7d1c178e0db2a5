//! What goes wrong, as it is planned.

use std::sync::Arc;

use server::hosting::LinkId;
use server::link::{Up, write};
use server::region::{Change, RegionIndex};
use server::store::memory::Fault as DiskFault;

use super::super::breaks::Break;
use super::super::host::{self, Host};
use super::super::plan::{End, Fault, REST_US};
use super::super::process::Process;
use super::super::truth::Check;
use super::super::walker::Stage;
use super::{Event, RESTART_US, ServerEvent, World};

/// Time after which a change that could not be is tried again.
const AGAIN_US: u64 = 150_000;

impl World {
    pub(super) fn tell(&mut self, what: &dyn std::fmt::Debug) {
        let tick = self.host.as_ref().map_or(self.last_tick, |host| host.tick);
        self.story.push(format!(
            "{:>6} ms, tick {:>4}: {what:?}",
            self.queue.now_us() / 1_000,
            tick.0
        ));
    }

    /// Notes that a walker's line or place is disturbed until then.
    pub(super) fn disturb(&mut self, index: usize, until_us: u64) {
        self.disturbed_us[index] = self.disturbed_us[index].max(until_us);
    }

    pub(super) fn strike(&mut self, fault: Fault) -> Check {
        let now_us = self.queue.now_us();
        if !matches!(fault, Fault::Divide { .. }) {
            self.tell(&fault);
        }
        match fault {
            Fault::Join { regions, end } => self.join(regions, end)?,
            Fault::Divide { which, merges } => self.divide(which, merges)?,
            Fault::DiskTrouble { is_full } => {
                let Some(host) = &self.host else { return Ok(()) };
                let trouble = if is_full { DiskFault::Full } else { DiskFault::Fail };
                host.store.set_fault(trouble);
                self.figures.disk_troubles += 1;
                self.disk_trouble_us = now_us;
                let delay_us = self.timing.between(100_000, 2_500_000);
                self.queue.after(delay_us, Event::DiskWell);
            }
            Fault::PowerCut => {
                // What is written lately is in the disk's cache alone when the power goes.
                let stall_us = self.timing.below(1_200_000);
                self.stall_until_us = now_us + stall_us;
                self.holds_writes = self.timing.one_in(2);
                self.queue.after(stall_us, Event::PowerGoes);
            }
            Fault::Overload => {
                self.overload_until_us = now_us + self.timing.between(2_000_000, 4_000_000);
            }
            Fault::Cut { walker, us } => {
                let index = walker as usize;
                self.figures.cuts += 1;
                self.disturb(index, now_us + us);
                let connection = self.walkers[index].connection;
                if let Some(line) = self.connections.get_mut(&connection) {
                    line.up.cut_until_us = now_us + us;
                    line.down.cut_until_us = now_us + us;
                }
            }
            Fault::Break { walker, noticed_us } => {
                let index = walker as usize;
                if self.walkers[index].stage == Stage::Out {
                    return Ok(());
                }
                self.figures.breaks += 1;
                let connection = self.walkers[index].connection;
                if let Some(line) = self.connections.get_mut(&connection) {
                    line.up.cut_until_us = u64::MAX / 2;
                    line.down.cut_until_us = u64::MAX / 2;
                }
                self.server_after(noticed_us, ServerEvent::ConnectionLost(connection));
                self.client_gives_up(connection);
            }
            Fault::Leave { walker } => {
                let index = walker as usize;
                if self.walkers[index].stage == Stage::In {
                    self.figures.leaves += 1;
                    if self.timing.one_in(2) {
                        // What was done last is read by nobody for a while.
                        self.stall_until_us = now_us + self.timing.below(1_000_000);
                        self.holds_writes = true;
                    }
                    self.walkers[index].leave();
                }
            }
        }
        Ok(())
    }

    pub(super) fn join(&mut self, wanted: u64, end: End) -> Check {
        let Some(host) = &mut self.host else {
            self.join_later(wanted, end);
            return Ok(());
        };
        let all: Vec<RegionIndex> = host.regions.indices().collect();
        let first = self.timing.below(all.len() as u64);
        let regions = (0..wanted).map(|it| all[((first + it) % all.len() as u64) as usize]);
        let regions: Vec<RegionIndex> = regions.collect();
        let Some(link) = host.join(&regions)? else {
            self.join_later(wanted, end);
            return Ok(());
        };
        self.tell(&(link, &regions));
        self.processes.insert(link, Process::new(self.seed, self.next_process));
        self.next_process += 1;
        self.figures.moves += wanted;
        let delay_us = self.timing.between(1_500_000, 4_000_000);
        self.queue.after(delay_us, Event::End(link, end));
        Ok(())
    }

    /// Lets a process come a little later that came while the server was down, or while what it
    /// asked for was on its way.
    fn join_later(&mut self, regions: u64, end: End) {
        if self.queue.now_us() < REST_US {
            self.queue.after(AGAIN_US, Event::Fault(Fault::Join { regions, end }));
        }
    }

    /// Splits the first region from the `which`-th on that can be, or merges four; when none can be
    /// at the moment, a little later.
    fn divide(&mut self, which: u64, merges: bool) -> Check {
        let Some(host) = &mut self.host else {
            self.divide_later(which, merges);
            return Ok(());
        };
        let all: Vec<RegionIndex> = host.regions.indices().collect();
        let turned = (0..all.len()).map(|it| all[(it + which as usize) % all.len()]);
        for region in turned {
            let change = if merges { Change::Merge(region) } else { Change::Split(region) };
            if host.begin_division(change)? {
                self.tell(&change);
                return Ok(());
            }
        }
        self.divide_later(which, merges);
        Ok(())
    }

    fn divide_later(&mut self, which: u64, merges: bool) {
        if self.queue.now_us() < REST_US {
            self.queue.after(AGAIN_US, Event::Fault(Fault::Divide { which, merges }));
        }
    }

    pub(super) fn end_process(&mut self, link: LinkId, end: End) -> Check {
        let now_us = self.queue.now_us();
        self.tell(&(link, end));
        let Some(process) = self.processes.get_mut(&link) else {
            if end == End::Killed {
                // The power was cut before; every world has one that is killed.
                self.join_later(1, end);
            }
            return Ok(());
        };
        match end {
            End::Departs => {
                let frame = write(&Up::Leave).map_err(|error| error.to_string())?;
                let delay_us = process.up_at(now_us) - now_us;
                self.server_after(delay_us, ServerEvent::LinkUp(link, frame));
            }
            End::Killed => {
                process.is_alive = false;
                self.figures.kills += 1;
                // The connection breaks at once, or the silence is noticed first.
                let delay_us = self.timing.between(1_000, 2_000_000);
                self.server_after(delay_us, ServerEvent::LinkBroken(link));
            }
            End::Muted => {
                process.mute_until_us = now_us + self.timing.between(200_000, 2_500_000);
            }
        }
        Ok(())
    }

    pub(super) fn cut_power(&mut self) -> Check {
        self.tell(&"the power goes");
        let Some(host) = self.host.take() else { return Ok(()) };
        self.figures.power_cuts += 1;
        self.figures.count(&host);
        self.last_tick = host.tick;
        let Host { store, mut truth, mut saboteur, .. } = host;
        let store = Arc::new(store.crash());
        if saboteur.strikes(Break::TearBatch, 1) {
            truth.tear(&store)?;
        }
        let lost = truth.survive(host::stored_things(&store)?)?;
        self.figures.lost_entries += lost as u64;
        self.between = Some((store, truth, saboteur));
        self.processes.clear();
        let connections: Vec<u64> = self.connections.keys().copied().collect();
        for connection in connections {
            let Some(line) = self.connections.get_mut(&connection) else { continue };
            line.client = None;
            let walker = &self.walkers[line.walker];
            if walker.connection == connection && walker.stage != Stage::Out {
                line.down.cut_until_us = u64::MAX / 2;
                let delay_us = self.timing.between(100_000, 2_000_000);
                self.queue.after(delay_us, Event::ClientGivesUp(connection));
            } else {
                self.connections.remove(&connection);
            }
        }
        let delay_us = self.timing.between(RESTART_US.0, RESTART_US.1);
        self.queue.after(delay_us, Event::Restart);
        Ok(())
    }
}
