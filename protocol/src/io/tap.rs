//! Listening in on one's own connection: every byte that is said, as it comes and goes.
//!
//! A [`Tap`] is given to the client; [`FileTap`] records to a file. It changes nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::client::ConnectOptions;
use super::clock::now_us;
use crate::capture::{self, Channel, MAGIC, Record};
use crate::session::Outcome;

/// Hears everything that a client says and is told.
pub trait Tap: Send + Sync {
    /// Takes note of some bytes. It is called while the client waits: it must be quick.
    fn hear(&self, record: &Record<'_>);
}

/// Records a session to a file, for its owner alone: tokens and tickets are in it.
#[derive(Debug)]
pub struct FileTap {
    begun_us: u64,
    /// Nothing after a failure, which is reported once.
    file: Mutex<Option<File>>,
}

impl FileTap {
    /// Begins a new recording at `path`, which must not exist.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(MAGIC)?;
        Ok(Self { begun_us: now_us(), file: Mutex::new(Some(file)) })
    }
}

impl Tap for FileTap {
    fn hear(&self, record: &Record<'_>) {
        let at_us = record.at_us.saturating_sub(self.begun_us);
        let mut bytes = Vec::with_capacity(capture::HEAD_BYTES + record.bytes.len());
        capture::write(&Record { at_us, ..*record }, &mut bytes);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = file.as_mut() else { return };
        if let Err(error) = open.write_all(&bytes) {
            tracing::warn!(%error, "the recording ends here");
            *file = None;
        }
    }
}

impl ConnectOptions {
    /// Lets the tap hear how a connection ended.
    pub(super) fn tapped_end(&self, outcome: &Outcome) {
        let words = match outcome {
            Outcome::Left => "left".to_owned(),
            Outcome::Refused { code, why, .. } => format!("refused ({code:?}): {why}"),
            Outcome::Lost { code, why } => format!("lost ({code:?}): {why}"),
        };
        self.tapped(false, Channel::Note, words.as_bytes());
    }

    /// Lets the tap hear some bytes, if there is one.
    pub(super) fn tapped(&self, from_client: bool, channel: Channel, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            tap.hear(&Record { from_client, channel, stream: 0, at_us: now_us(), bytes });
        }
    }
}
