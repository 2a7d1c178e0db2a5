//! The server's end of the operators' socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Operate, Operator, replies, socket};
use crate::admin::{
    AdminLine, AdminReply, AdminRequest, Call, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, VERSION,
};

/// Requests under way at once: a few operators, each with a live view and a backup.
const CALLS_MAX: usize = 16;

/// Time in which a caller must have said what it wants, and take each line of the answer.
const LINE_TIME: Duration = Duration::from_secs(10);

/// Pause after the system refused a connection, so that a lack of files is no busy loop.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// A socket that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the operators' socket {}: {why}", path.display())]
pub struct ListenError {
    path: PathBuf,
    why: String,
}

/// The open socket; dropping it removes the file.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl Listener {
    /// Opens the socket of the world in folder `data`, whose lock the caller holds: what an
    /// earlier server left behind is replaced.
    ///
    /// # Errors
    /// [`ListenError`] when the folder's path is too long for a socket, or the system refuses.
    pub fn open(data: &Path) -> Result<Self, ListenError> {
        let path = socket(data);
        let failed = |error: io::Error| {
            let why = if error.kind() == io::ErrorKind::InvalidInput {
                "its path is longer than the 107 bytes a socket can have; use a shorter --data"
                    .to_owned()
            } else {
                error.to_string()
            };
            ListenError { path: path.clone(), why }
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let owner = fs::metadata(data).map_err(failed)?.uid();
        // The folder is its owner's alone, so nobody slips in before the mode is set.
        fs::set_permissions(data, Permissions::from_mode(0o700)).map_err(failed)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path, owner })
    }

    /// Hears operators until dropped or cancelled; a stuck one holds up nobody else.
    pub async fn serve(self, host: Arc<dyn Operate>) {
        let places = Arc::new(Semaphore::new(CALLS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an operator");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    continue;
                }
            };
            let (host, owner) = (Arc::clone(&host), self.owner);
            tokio::spawn(async move {
                if let Err(error) = answer(stream, owner, host.as_ref()).await {
                    tracing::debug!(%error, "an operator went away");
                }
                drop(place);
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the operators' socket is gone already");
        }
    }
}

async fn answer(stream: UnixStream, owner: u32, host: &dyn Operate) -> io::Result<()> {
    let caller = stream.peer_cred()?;
    let operator = Operator { uid: caller.uid(), pid: caller.pid() };
    let (reader, mut writer) = stream.into_split();
    if operator.uid != owner && operator.uid != 0 {
        tracing::warn!(uid = operator.uid, "somebody else's operator was refused");
        let why = format!("only user {owner}, who owns the world, is heard here");
        return send(&mut writer, &failed(why)).await;
    }
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX as u64));
    timeout(LINE_TIME, reader.read_until(b'\n', &mut line)).await??;
    let request = match read(&line) {
        Ok(request) => request,
        Err(why) => return send(&mut writer, &failed(why)).await,
    };
    if !request.only_looks() {
        let (uid, pid, name) = (operator.uid, operator.pid, request.name());
        tracing::info!(target: "audit", uid, pid, request = name, "an operator asks");
    }
    let (to_host, mut progressing, mut ended) = replies();
    host.operate(operator, request, to_host);
    let last = loop {
        tokio::select! {
            biased;
            Some(progress) = progressing.recv() => {
                send(&mut writer, &AdminLine::Progress(progress)).await?;
            }
            last = &mut ended => break last,
        }
    };
    let lost = || failed("the server dropped the request; see its log".to_owned());
    send(&mut writer, &last.map_or_else(|_| lost(), AdminLine::Reply)).await
}

const fn failed(why: String) -> AdminLine {
    AdminLine::Reply(AdminReply::Failed(why))
}

fn read(line: &[u8]) -> Result<AdminRequest, String> {
    if REQUEST_BYTES_MAX <= line.len() {
        return Err(format!("the request is longer than {REQUEST_BYTES_MAX} bytes"));
    }
    let other = "this `ecumene` is of another version than the server; use the server's";
    // The version is read on its own, as the words of another version may not be readable.
    let spoken: serde_json::Value =
        serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
    if spoken.get("version").and_then(serde_json::Value::as_u64) != Some(u64::from(VERSION)) {
        return Err(other.to_owned());
    }
    let call: Call =
        serde_json::from_value(spoken).map_err(|error| format!("not a request: {error}"))?;
    Ok(call.request)
}

async fn send(writer: &mut tokio::net::unix::OwnedWriteHalf, line: &AdminLine) -> io::Result<()> {
    let mut line = serde_json::to_vec(line)?;
    if REPLY_BYTES_MAX <= line.len() {
        let why = format!("the answer is {} bytes long, at most {REPLY_BYTES_MAX}", line.len());
        line = serde_json::to_vec(&failed(why))?;
    }
    line.push(b'\n');
    timeout(LINE_TIME, writer.write_all(&line)).await?
}
