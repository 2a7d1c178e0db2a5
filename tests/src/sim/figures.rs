//! What is counted in one run, so that a run in which nothing went wrong is not taken for a proof.

use super::host::Host;

/// Figures of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Ticks.
    pub ticks: u64,
    /// Hand-offs from shard to shard.
    pub crossings: u64,
    /// Shards that moved to another process, or home.
    pub moves: u64,
    /// Processes that were lost, and whose regions began anew.
    pub takeovers: u64,
    /// Regions that were split.
    pub splits: u64,
    /// Times that four regions were merged.
    pub merges: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Entries of the journal that power cuts took, none of them confirmed to anybody.
    pub lost_entries: u64,
    /// Times at which the disk took nothing.
    pub disk_troubles: u64,
    /// Lines that were cut for a while.
    pub cuts: u64,
    /// Connections that broke.
    pub breaks: u64,
    /// Stays that ended in good order.
    pub leaves: u64,
    /// Times somebody came in.
    pub entries: u64,
    /// Requests carried out.
    pub done: u64,
    /// Requests refused.
    pub refused: u64,
    /// Frames seen, each state in it held against the truth.
    pub frames: u64,
    /// Predictions held against the server's body while nothing disturbed them.
    pub predictions: u64,
}

impl Figures {
    /// Adds what a server did in its time.
    pub const fn count(&mut self, host: &Host) {
        self.crossings += host.crossings;
        self.splits += host.splits;
        self.merges += host.merges;
    }

    /// Returns the lesser of both, figure by figure.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self {
            ticks: self.ticks.min(other.ticks),
            crossings: self.crossings.min(other.crossings),
            moves: self.moves.min(other.moves),
            takeovers: self.takeovers.min(other.takeovers),
            splits: self.splits.min(other.splits),
            merges: self.merges.min(other.merges),
            kills: self.kills.min(other.kills),
            power_cuts: self.power_cuts.min(other.power_cuts),
            lost_entries: self.lost_entries.min(other.lost_entries),
            disk_troubles: self.disk_troubles.min(other.disk_troubles),
            cuts: self.cuts.min(other.cuts),
            breaks: self.breaks.min(other.breaks),
            leaves: self.leaves.min(other.leaves),
            entries: self.entries.min(other.entries),
            done: self.done.min(other.done),
            refused: self.refused.min(other.refused),
            frames: self.frames.min(other.frames),
            predictions: self.predictions.min(other.predictions),
        }
    }
}
