//! The operators' socket: where commands reach the running server.
//!
//! A Unix socket in the world's folder, which only its owner can enter; the kernel names the
//! caller, and nobody but the folder's owner and root is heard. One connection carries one
//! request and its replies, one JSON object per line. Carrying out is the host's, see [`Operate`].

mod client;
mod server;
#[cfg(test)]
mod tests;
pub mod top;

use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

use crate::admin::{AdminReply, AdminRequest, Progress};

pub use client::{CallError, call};
pub use server::{ListenError, Listener};

/// Name of the socket in a world's folder.
pub const SOCKET_FILE: &str = "admin.sock";

/// Progress that waits to be sent; newer progress is dropped until some was.
const PROGRESS_MAX: usize = 8;

/// Who asks, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The user.
    pub uid: u32,
    /// The process, where the kernel knows.
    pub pid: Option<i32>,
}

/// Carries out requests: the host.
pub trait Operate: Send + Sync + 'static {
    /// Begins to carry out `request` and returns; the answer goes to `replies`, at any time.
    ///
    /// Dropping `replies` without an answer tells the operator that the request was lost.
    fn operate(&self, operator: Operator, request: AdminRequest, replies: Replies);
}

/// Where the answer to one request goes.
#[derive(Debug)]
pub struct Replies {
    progress: mpsc::Sender<Progress>,
    last: oneshot::Sender<AdminReply>,
}

impl Replies {
    /// Says how far the request is; may be called at any rate, from any thread.
    pub fn progress(&self, progress: Progress) {
        // Newer progress supersedes what the operator's terminal was too slow to take.
        drop(self.progress.try_send(progress));
    }

    /// Answers the request.
    pub fn end(self, reply: AdminReply) {
        if self.last.send(reply).is_err() {
            tracing::debug!("the operator went away before the answer");
        }
    }
}

fn replies() -> (Replies, mpsc::Receiver<Progress>, oneshot::Receiver<AdminReply>) {
    let (progress, progressing) = mpsc::channel(PROGRESS_MAX);
    let (last, ended) = oneshot::channel();
    (Replies { progress, last }, progressing, ended)
}

/// Returns the socket of the world in folder `data`.
#[must_use]
pub fn socket(data: &Path) -> PathBuf {
    data.join(SOCKET_FILE)
}
