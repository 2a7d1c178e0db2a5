//! Where the host pins the picture of the world and operators read it.
//!
//! The tick thread never waits here: it notes each tick in a ring of atomics, and swaps in a new
//! picture only if no reader is in the way at that instant. Percentiles are the reader's work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{LogTail, Status, TickHistory, TickMs};

/// Real time between two pictures: 4 a second look smooth on the page, which interpolates.
pub const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// The board: shared as an [`Arc`] by the host, the page and the admin socket.
#[derive(Debug, Default)]
pub struct StatusBoard {
    history: TickHistory,
    picture: RwLock<Arc<Status>>,
    /// Pictures pinned so far; a reader sends again only when it has changed.
    pinned: AtomicU64,
    /// Microseconds of the host's clock at which the next picture is wanted.
    due_micros: AtomicU64,
    /// Bytes of the store on disk, as last measured.
    store_bytes: AtomicU64,
    log: Arc<LogTail>,
}

impl StatusBoard {
    /// Returns an empty board, not ready, that shows the lines of `log`.
    #[must_use]
    pub fn new(log: Arc<LogTail>) -> Self {
        let why_not_ready = "the world is not loaded yet".to_owned();
        let empty = Status { why_not_ready, ..Status::default() };
        Self { picture: RwLock::new(Arc::new(empty)), log, ..Self::default() }
    }

    /// Notes that one tick took `step` and ended at `now` (since the host began).
    ///
    /// Returns whether a new picture is wanted. A world of several loops notes its slowest one.
    pub fn tick(&self, step: Duration, now: Duration) -> bool {
        self.history.record(step);
        u128::from(self.due_micros.load(Ordering::Relaxed)) <= now.as_micros()
    }

    /// Pins a new picture, built because [`Self::tick`] asked for one at `now`.
    ///
    /// The fields that the board itself fills may be left at their defaults. If a reader holds the
    /// board at this very instant the picture is dropped, and the next tick is asked for another.
    pub fn publish(&self, status: Status, now: Duration) {
        let status = Arc::new(status.bounded());
        let Ok(mut picture) = self.picture.try_write() else { return };
        *picture = status;
        drop(picture);
        let due = now.saturating_add(PUBLISH_EVERY).as_micros();
        self.due_micros.store(u64::try_from(due).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.pinned.fetch_add(1, Ordering::Release);
    }

    /// Pins that the world takes no newcomers, and why; for use outside the tick thread too.
    pub fn not_ready(&self, why: &str) {
        let mut picture = self.picture.write().unwrap_or_else(PoisonError::into_inner);
        let status = Arc::make_mut(&mut picture);
        status.ready = false;
        why.clone_into(&mut status.why_not_ready);
        drop(picture);
        self.pinned.fetch_add(1, Ordering::Release);
    }

    /// Returns the newest picture with the ticks filled in.
    #[must_use]
    pub fn read(&self) -> Status {
        let mut status = Status::clone(&self.pinned_status());
        status.tick_history = self.history.ms();
        status.tick_ms = TickMs::of(&status.tick_history);
        status.store.bytes = self.store_bytes.load(Ordering::Relaxed);
        status
    }

    /// Notes how many bytes the store takes up on disk; measured off the tick thread.
    pub fn note_store_bytes(&self, bytes: u64) {
        self.store_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns whether newcomers can come in; if not, why.
    ///
    /// # Errors
    /// The reason, in words for an operator.
    pub fn readiness(&self) -> Result<(), String> {
        let status = self.pinned_status();
        if status.ready { Ok(()) } else { Err(status.why_not_ready.clone()) }
    }

    /// Returns how many pictures were pinned so far.
    #[must_use]
    pub fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Acquire)
    }

    /// Returns the log that the page shows.
    #[must_use]
    pub fn log(&self) -> &LogTail {
        &self.log
    }

    /// The lock is held for as long as it takes to count up one reference.
    fn pinned_status(&self) -> Arc<Status> {
        Arc::clone(&self.picture.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_picture_is_asked_for_four_times_a_second() {
        let board = StatusBoard::default();
        let mut published = 0;
        for tick in 0..200_u64 {
            let now = MS * 50 * u32::try_from(tick).unwrap();
            if board.tick(MS, now) {
                published += 1;
                board.publish(Status { tick, ..Status::default() }, now);
            }
        }
        assert_eq!(published, 40, "10 seconds of ticks");
        assert_eq!((board.pinned(), board.read().tick), (40, 195));
    }

    #[test]
    fn the_board_fills_in_the_ticks() {
        let board = StatusBoard::default();
        for step in [1, 9, 5] {
            board.tick(MS * step, MS);
        }
        let status = board.read();
        assert_eq!(status.tick_history, [1.0, 9.0, 5.0]);
        assert_eq!((status.tick_ms.p50, status.tick_ms.max), (5.0, 9.0));
    }

    #[test]
    fn a_board_is_ready_only_when_the_host_says_so() {
        let board = StatusBoard::new(Arc::default());
        assert_eq!(board.readiness(), Err("the world is not loaded yet".to_owned()));
        board.publish(Status { ready: true, ..Status::default() }, MS);
        assert_eq!(board.readiness(), Ok(()));
        board.not_ready("the server stops");
        assert_eq!(board.readiness(), Err("the server stops".to_owned()));
    }

    #[test]
    fn a_reader_in_the_way_costs_a_picture_and_no_time() {
        let board = StatusBoard::default();
        let held = board.picture.read().unwrap();
        board.publish(Status { tick: 7, ..Status::default() }, MS);
        drop(held);
        assert_eq!(board.read().tick, 0);
        assert!(board.tick(MS, MS), "the next tick is asked again");
        board.publish(Status { tick: 8, ..Status::default() }, MS);
        assert_eq!(board.read().tick, 8);
    }
}
