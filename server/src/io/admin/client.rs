//! The command line's end of the operators' socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::socket;
use crate::admin::{AdminLine, AdminReply, AdminRequest, Call, Progress, REPLY_BYTES_MAX, VERSION};

/// What the system says of a socket that nobody listens on, or that is not there.
const ABSENT: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No server runs this world.
    #[error("no server runs the world in {0}; start it with: ecumene serve")]
    NotRunning(String),
    /// The folder is somebody else's.
    #[error("the world in {0} belongs to another user; run this command as that user")]
    NotYours(String),
    /// The connection broke.
    #[error("the server went away before it answered: {0}")]
    Broken(#[from] io::Error),
    /// The answer makes no sense.
    #[error("the server's answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Asks the server that runs the world in folder `data`, and waits for its answer.
///
/// # Errors
/// [`CallError`]; a refusal by the server is an answer, [`AdminReply::Failed`].
pub fn call(
    data: &Path,
    request: AdminRequest,
    mut on_progress: impl FnMut(Progress),
) -> Result<AdminReply, CallError> {
    let shown = || data.display().to_string();
    let mut stream = match UnixStream::connect(socket(data)) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(CallError::NotYours(shown()));
        }
        Err(error) if ABSENT.contains(&error.kind()) => return Err(CallError::NotRunning(shown())),
        Err(error) => return Err(CallError::Broken(error)),
    };
    let mut line = serde_json::to_vec(&Call { version: VERSION, request })?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut bounded = reader.by_ref().take(REPLY_BYTES_MAX as u64);
        if bounded.read_until(b'\n', &mut line)? == 0 {
            return Err(CallError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line)? {
            AdminLine::Progress(progress) => on_progress(progress),
            AdminLine::Reply(reply) => return Ok(reply),
        }
    }
}
