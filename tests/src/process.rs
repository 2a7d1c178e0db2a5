//! A real server process: started on free ports and a folder of its own, killed without warning,
//! started again on the same files.
//!
//! Also processes that run shards for it. It runs the binary that lies beside the tests, building
//! it first if it is older than the library they link. `ECUMENE_BIN` names another one. What
//! clients do to it is the tests'.

mod shards;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use protocol::io::ServerKey;

pub use self::shards::ShardProcess;
use crate::power::{CUT_EXIT, CUT_SIGNAL, Plan, Power};

/// How long a start may take: a tenth of a second alone, more beside a build on every core.
const START: Duration = Duration::from_secs(30);

/// How long a stop in good order may take.
const STOP: Duration = Duration::from_secs(20);

/// How often one looks where a region runs, and how long one waits before looking again.
const PLACE_LOOKS: u32 = 200;
const PLACE_LOOK: Duration = Duration::from_millis(50);

/// Lines of its log that are kept for the message of a failed test.
const LOG_LINES_MAX: usize = 60;

/// Lines of its output that may wait: the banner has twenty.
const OUTPUT_LINES_MAX: usize = 1_024;

/// A folder of a test's own, removed with it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty folder that nobody else uses.
    ///
    /// # Errors
    /// The system's.
    pub fn make() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ecumene-tests-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Takes a folder that is there already; it is removed as one's own would be.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "a test's folder stays");
        }
    }
}

/// What the banner says.
#[derive(Clone, Debug)]
struct Banner {
    listen: SocketAddr,
    http: SocketAddr,
    key: ServerKey,
    token: Option<String>,
}

/// A server that runs, or will run again.
#[derive(Debug)]
pub struct ServerProcess {
    folder: Arc<Folder>,
    arguments: Vec<String>,
    banner: Banner,
    token: Option<String>,
    child: Option<Child>,
    log: Log,
    environment: Vec<(&'static str, String)>,
    /// The core that `taskset` keeps it on when it is started again, if it is not to use all.
    pub core: Option<u32>,
}

/// The newest lines of a server's log.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>, Arc<AtomicU32>);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.kill_9().is_err() {
            tracing::warn!("a server was gone before it was killed");
        }
    }
}

impl ServerProcess {
    /// Starts a server on a new folder, with `settings` such as `chat.nearby_m=30`.
    ///
    /// # Errors
    /// When it does not say in time that it is ready; with the end of its log.
    pub fn start(settings: &[&str]) -> Result<Self> {
        Self::start_in(Arc::new(Folder::make()?), settings)
    }

    /// Starts a server on a new folder, in a world with its own rules: the text of a rule book.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_rules(rules: &str, settings: &[&str]) -> Result<Self> {
        let folder = Folder::make()?;
        ask(folder.path(), &["world", "new", "home", "--seed", "7"])?;
        let home = folder.path().join("home");
        let manifest = home.join("world.toml");
        let text = std::fs::read_to_string(&manifest).context("read the world's manifest")?;
        let changed = text.replace("rules = \"starter\"", "rules = \"rules.toml\"");
        ensure!(changed != text, "{} names no rules", manifest.display());
        std::fs::write(&manifest, changed).context("write the world's manifest")?;
        std::fs::write(home.join("rules.toml"), rules).context("write the world's rules")?;
        Self::start_in(Arc::new(folder), settings)
    }

    /// Starts a server on a folder that may have been used before.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in(folder: Arc<Folder>, settings: &[&str]) -> Result<Self> {
        Self::start_with(folder, settings, &[])
    }

    /// Starts a server with more arguments, such as `--record FILE`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(folder: Arc<Folder>, settings: &[&str], more: &[&str]) -> Result<Self> {
        Self::start_as(folder, settings, more, Vec::new())
    }

    /// Starts a server on a disk whose power can be cut.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(power: &Power, plan: &Plan, settings: &[&str]) -> Result<Self> {
        let worlds = power.root().join("worlds");
        std::fs::create_dir(&worlds).context("make a folder for the server")?;
        Self::start_as(Arc::new(Folder::at(worlds)), settings, &[], power.variables(plan))
    }

    fn start_as(
        folder: Arc<Folder>,
        settings: &[&str],
        more: &[&str],
        environment: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let (udp, tcp) = free_ports()?;
        let mut arguments =
            vec!["serve".into(), format!("--listen=127.0.0.1:{udp}"), "--seed=7".into()];
        let own = format!("server.http=127.0.0.1:{tcp}");
        for setting in settings.iter().copied().chain([own.as_str()]) {
            arguments.extend(["--set".to_owned(), setting.to_owned()]);
        }
        arguments.extend(more.iter().map(|&more| more.to_owned()));
        let log = Log::default();
        let (child, banner) = spawn(&folder, &arguments, (&environment, None), &log)?;
        let token = banner.token.clone();
        Ok(Self {
            folder,
            arguments,
            banner,
            token,
            child: Some(child),
            log,
            environment,
            core: None,
        })
    }

    /// Returns where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.banner.listen
    }

    /// Returns where the page for operators is.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.banner.http
    }

    /// Returns the key that clients pin.
    #[must_use]
    pub fn key(&self) -> ServerKey {
        self.banner.key
    }

    /// Returns the admin token that the first start printed.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Returns the folder of its worlds.
    #[must_use]
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Returns the folder of its world.
    #[must_use]
    pub fn world(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Returns its process, nothing while it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns the newest lines of its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Returns how often it panicked somewhere, caught or not, since its first start.
    #[must_use]
    pub fn panics(&self) -> u32 {
        self.log.1.load(Ordering::Relaxed)
    }

    /// Returns whether it runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kills it without warning, as `kill -9` does.
    ///
    /// # Errors
    /// The system's.
    pub fn kill_9(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().context("kill the server")?;
        child.wait().context("wait for the killed server")?;
        Ok(())
    }

    /// Cuts the power of the disk it was started on.
    ///
    /// # Errors
    /// When it does not end by that.
    pub fn cut_power(&mut self) -> Result<()> {
        let child = self.child.take().context("the server does not run")?;
        signal(child.id(), CUT_SIGNAL)?;
        let status = wait(child)?.context("its power was cut and it runs on")?;
        ensure!(status.code() == Some(CUT_EXIT), "its power was cut, it ended with {status}");
        Ok(())
    }

    /// Starts it again with the same files and addresses.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill_9()?;
        let how = (self.environment.as_slice(), self.core);
        let (child, banner) = spawn(&self.folder, &self.arguments, how, &self.log)?;
        ensure!(banner.key == self.banner.key, "the server's identity changed with a restart");
        self.child = Some(child);
        self.banner = banner;
        Ok(())
    }

    /// Waits until it has ended, which it was told, and serves the same world at another UDP port.
    ///
    /// # Errors
    /// When it runs on, or as [`Self::start`].
    pub fn serve_next_at(&mut self, port: u16) -> Result<()> {
        let ended = self.ends()?;
        ensure!(ended.success(), "{ended}; its log:\n{}", self.log.text());
        let listen = |argument: &&mut String| argument.starts_with("--listen=");
        let argument = self.arguments.iter_mut().find(listen).context("it listens somewhere")?;
        *argument = format!("--listen=127.0.0.1:{port}");
        self.restart()
    }

    /// Waits until it has ended, which it was told; returns how.
    ///
    /// # Errors
    /// When it runs on.
    pub fn ends(&mut self) -> Result<ExitStatus> {
        wait(self.child.take().context("the server does not run")?)?.context("it runs on")
    }

    /// Stops it in good order and returns how it ended.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        end(self.child.take().context("the server does not run")?, &self.log)
    }

    /// Runs another command of the same program on the same files, such as `token mint`.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        command(self.folder.path(), arguments)
    }

    /// As [`Self::command`]; returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        ask(self.folder.path(), arguments)
    }

    /// As [`Self::ask`], on a thread of its own: whoever lives on this one goes on meanwhile.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_beside(&self, arguments: &[&str]) -> Result<String> {
        let folder = Arc::clone(&self.folder);
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let asked = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            ask(folder.path(), &arguments)
        });
        asked.await.context("ask the server")?
    }

    /// Mints a token, such as one for `--shards` or `--role admin`; returns it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn mint(&self, what: &[&str]) -> Result<String> {
        let minted = self.ask(&[&["token", "mint"], what].concat())?;
        Ok(minted.lines().next().context("a token")?.to_owned())
    }

    /// Returns where a region runs, as operators are shown it: `here` or an address; nothing before
    /// they are shown anything.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn place(&self, region: &str) -> Result<String> {
        let shards = self.ask_beside(&["shards"]).await?;
        let line = shards.lines().find(|line| line.split_whitespace().next() == Some(region));
        Ok(line.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned())
    }

    /// Waits until a region runs where it should.
    ///
    /// # Errors
    /// When it does not after many looks, with the log; or as [`Self::ask`].
    pub async fn runs_at(&self, region: &str, is_right: impl Fn(&str) -> bool) -> Result<()> {
        for _ in 0..PLACE_LOOKS {
            if is_right(&self.place(region).await?) {
                return Ok(());
            }
            tokio::time::sleep(PLACE_LOOK).await;
        }
        bail!("region {region} runs at {}; log:\n{}", self.place(region).await?, self.log())
    }
}

fn ask(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = command(folder, arguments)?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{arguments:?}: {}\n{out}{err}", output.status);
    Ok(out)
}

/// Tells a process to end in good order, and waits until it has.
fn end(child: Child, log: &Log) -> Result<ExitStatus> {
    let pid = child.id();
    signal(pid, libc::SIGTERM)?;
    match wait(child)? {
        Some(status) => Ok(status),
        None => {
            signal(pid, libc::SIGKILL)?;
            bail!("it did not stop within {STOP:?}; its log:\n{}", log.text())
        }
    }
}

/// Waits for the end of a process, with patience.
fn wait(mut child: Child) -> Result<Option<ExitStatus>> {
    // The wait is on a thread of its own, so that it can be given up.
    let (send, ended) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        // Nobody listens any more after the time is up.
        drop(send.send(child.wait()));
    });
    Ok(ended.recv_timeout(STOP).ok().transpose()?)
}

/// Runs a command of the program on the worlds in `folder`, and waits for its end.
///
/// # Errors
/// When it cannot be run at all, or does not end in time.
pub fn command(folder: &Path, arguments: &[&str]) -> Result<Output> {
    // A server that starts against all expectation must not run on.
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "20"]).arg(binary()?).args(arguments).arg("--data").arg(folder);
    plain(&mut command).output().context("run the server's program")
}

/// Returns bytes as text for people.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a UDP and a TCP port that nobody uses right now.
///
/// # Errors
/// The system's.
pub fn free_ports() -> Result<(u16, u16)> {
    let udp = UdpSocket::bind("127.0.0.1:0").context("find a free UDP port")?;
    let tcp = TcpListener::bind("127.0.0.1:0").context("find a free TCP port")?;
    Ok((udp.local_addr()?.port(), tcp.local_addr()?.port()))
}

/// Returns the server's program.
///
/// # Errors
/// When it is not there and cannot be built.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let find = || match std::env::var_os("ECUMENE_BIN") {
        Some(path) => Ok(path.into()),
        None => find("server", "ecumene", "libserver.rlib"),
    };
    let found = BINARY.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.clone().map_err(|why| anyhow!(why))
}

/// Returns the viewer's program.
///
/// # Errors
/// As [`binary`].
pub fn viewer() -> Result<PathBuf> {
    static VIEWER: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let find = || find("client-viewer", "ecumene-viewer", "libclient_viewer.rlib");
    let found = VIEWER.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.clone().map_err(|why| anyhow!(why))
}

/// Returns the program `name` of `package` beside this test, built anew if `library`, which the
/// tests link, is newer.
fn find(package: &str, name: &str, library: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this test")?;
    // target/release/deps/loopback-0123 or target/release/ecumene-soak
    let folder = own.ancestors().find(|folder| folder.join("deps").is_dir());
    let folder = folder.with_context(|| format!("{} lies in no target folder", own.display()))?;
    let path = folder.join(name);
    let age = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
    if age(&path) < age(&folder.join(library)) || !path.is_file() {
        build(folder, package, name)?;
    }
    ensure!(path.is_file(), "{} is not there; run: cargo build -p {package}", path.display());
    Ok(path)
}

/// Builds the program with the profile of the tests. Cargo itself keeps two builds apart.
fn build(folder: &Path, package: &str, name: &str) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "-p", package, "--bin", name]);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().context("run cargo")?;
    ensure!(output.status.success(), "{name} does not build:\n{}", text(&output.stderr));
    Ok(())
}

/// Keeps settings of whoever runs the tests away from the server.
pub fn plain(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ECUMENE_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null())
}

fn spawn(
    folder: &Folder,
    arguments: &[String],
    (environment, core): (&[(&'static str, String)], Option<u32>),
    log: &Log,
) -> Result<(Child, Banner)> {
    let mut command = match core {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &core.to_string()]).arg(binary()?);
            command
        }
        None => Command::new(binary()?),
    };
    command.args(arguments).arg("--data").arg(folder.path()).current_dir(folder.path());
    let piped = plain(&mut command).stdout(Stdio::piped()).stderr(Stdio::piped());
    piped.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut child = piped.spawn().context("start the server")?;
    if let Some(stderr) = child.stderr.take() {
        let log = log.clone();
        std::thread::spawn(move || each_line(stderr, |line| log.push(line)));
    }
    let (send, lines) = mpsc::sync_channel(OUTPUT_LINES_MAX);
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || pass_on(stdout, &send));
    }
    match read_banner(&lines) {
        Ok(banner) => Ok((child, banner)),
        Err(error) => {
            // It may have ended already, which is why it said nothing.
            drop(child.kill());
            child.wait().context("wait for a server that did not start")?;
            Err(error.context(format!("the server did not start; its log:\n{}", log.text())))
        }
    }
}

fn pass_on(stdout: impl Read, to: &SyncSender<String>) {
    each_line(stdout, |line| {
        // After the banner nobody reads; the pipe is emptied all the same.
        drop(to.try_send(line));
    });
}

fn each_line(from: impl Read, mut with: impl FnMut(String)) {
    BufReader::new(from).lines().map_while(io::Result::ok).for_each(&mut with);
}

/// Reads the banner up to its hints, after which the server is ready.
fn read_banner(lines: &Receiver<String>) -> Result<Banner> {
    let (mut listen, mut http, mut key, mut token) = (None, None, None, None);
    let mut is_token = false;
    loop {
        let line = match lines.recv_timeout(START) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!("not ready within {START:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended before it was ready"),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            ["connect", address] => listen = Some(address.parse()?),
            ["identity", shown] => key = Some(shown.parse()?),
            ["page", url] => {
                let address = url.trim_start_matches("http://").trim_end_matches('/');
                http = Some(address.parse()?);
            }
            ["Admin", "token,", ..] => is_token = true,
            [shown] if is_token => token = Some(shown.to_owned()),
            ["In", "another", "terminal:"] => break,
            _ => {}
        }
    }
    Ok(Banner {
        listen: listen.context("no address in the banner")?,
        http: http.context("no page in the banner")?,
        key: key.context("no identity in the banner")?,
        token,
    })
}

impl Log {
    fn push(&self, line: String) {
        if line.contains("panicked at") {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while LOG_LINES_MAX <= lines.len() {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

#[expect(unsafe_code, reason = "the standard library sends no other signal than kill")]
fn signal(pid: u32, signal: i32) -> Result<()> {
    let pid = libc::pid_t::try_from(pid).context("a process number")?;
    // SAFETY: `kill` takes two numbers and touches no memory; the process is a child of ours that
    // was not waited for, so the number is still its own.
    let sent = unsafe { libc::kill(pid, signal) };
    ensure!(sent == 0, "cannot signal the server: {}", io::Error::last_os_error());
    Ok(())
}
