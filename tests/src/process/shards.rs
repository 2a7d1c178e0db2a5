//! A process that runs shards for a server: started with a token, told to end, killed or frozen.
//!
//! What it says and its log are kept like a server's.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};

use anyhow::{Context as _, Result, bail};

use super::{
    Log, OUTPUT_LINES_MAX, START, ServerProcess, binary, each_line, end, pass_on, plain, signal,
    wait,
};

/// A process that runs shards for a server.
#[derive(Debug)]
pub struct ShardProcess {
    child: Option<Child>,
    lines: Receiver<String>,
    log: Log,
    /// Reads the log to its end.
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Drop for ShardProcess {
    fn drop(&mut self) {
        if self.kill_9().is_err() {
            tracing::warn!("a shard process was gone before it was killed");
        }
    }
}

impl ShardProcess {
    /// Starts a process that joins `server` with `token` for `regions`, such as `4,5`.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub fn start(server: &ServerProcess, token: &str, regions: &str) -> Result<Self> {
        let (address, key) = (server.address().to_string(), server.key().to_string());
        let mut command = Command::new(binary()?);
        command.args(["shard", "--join", &address, "--server-key", &key, "--regions", regions]);
        // It has a folder for its settings alone, of which there are none.
        command.arg("--data").arg(server.folder().path().join("shards"));
        let piped = plain(&mut command).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.env("ECUMENE_TOKEN", token).spawn().context("start a process")?;
        let log = Log::default();
        let reader = child.stderr.take().map(|stderr| {
            let log = log.clone();
            std::thread::spawn(move || each_line(stderr, |line| log.push(line)))
        });
        let (send, lines) = mpsc::sync_channel(OUTPUT_LINES_MAX);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || pass_on(stdout, &send));
        }
        Ok(Self { child: Some(child), lines, log, reader })
    }

    /// Returns the newest lines of its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Returns its number, nothing once it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until it says something that begins like this.
    ///
    /// # Errors
    /// When it does not in time; with its log.
    pub fn says(&self, beginning: &str) -> Result<()> {
        loop {
            let Ok(line) = self.lines.recv_timeout(START) else {
                bail!("it does not say `{beginning}`; its log:\n{}", self.log.text());
            };
            if line.starts_with(beginning) {
                return Ok(());
            }
        }
    }

    /// Kills it without warning, as `kill -9` does.
    ///
    /// # Errors
    /// The system's.
    pub fn kill_9(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().context("kill the process")?;
        child.wait().context("wait for the killed process")?;
        Ok(())
    }

    /// Lets it stand still, as one does whose machine swaps, or go on.
    ///
    /// # Errors
    /// The system's, or that it does not run.
    pub fn freeze(&self, is_frozen: bool) -> Result<()> {
        let child = self.child.as_ref().context("the process does not run")?;
        signal(child.id(), if is_frozen { libc::SIGSTOP } else { libc::SIGCONT })
    }

    /// Tells it to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let child = self.child.take().context("the process does not run")?;
        end(child, &self.log)
    }

    /// Waits until it ends by itself; returns how, and what it said to its end.
    ///
    /// # Errors
    /// When it runs on.
    pub fn ends(&mut self) -> Result<(ExitStatus, String)> {
        let child = self.child.take().context("the process does not run")?;
        let status = wait(child)?.context("the process runs on")?;
        // Its last words may still be in the pipe.
        if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            bail!("whoever read the log panicked");
        }
        Ok((status, self.log.text()))
    }
}
