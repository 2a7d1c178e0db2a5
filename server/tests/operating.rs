//! The program as an operator meets it: what it prints, asks and returns to the shell.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails with its test")]

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Types a line; the folder of worlds is `root`.
fn types(root: &Path, line: &str) -> Output {
    command(root, line).output().unwrap()
}

fn command(root: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecumene"));
    command.arg("--data").arg(root).args(line.split(' ')).current_dir(root);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ECUMENE_") {
            command.env_remove(name);
        }
    }
    command
}

fn check(root: &Path, line: &str, exit: i32, words: &str) {
    let output = types(root, line);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{line}: {said}");
    assert!(said.contains(words), "{line}: {words}\nis missing in\n{said}");
}

/// A running server and the banner that it printed.
struct Server {
    child: Child,
    banner: String,
}

impl Server {
    /// Waits for the process to end by itself and returns its exit code; nothing after 20 s.
    fn ended(&mut self) -> Option<i32> {
        for _ in 0..400 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

const ANY_PORT: &str = "serve --seed 7 --listen 127.0.0.1:0 --set server.http=127.0.0.1:0";

fn serve(root: &Path) -> Server {
    let mut command = command(root, ANY_PORT);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut banner = String::new();
    // The last block of the banner says how to open the world.
    while !banner.contains("ecumene serve --listen") {
        banner += &lines.next().expect("the banner is whole").unwrap();
        banner.push('\n');
    }
    Server { child, banner }
}

#[test]
fn a_server_says_where_it_is_answers_and_stops() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let mut server = serve(root);
    assert!(server.banner.contains("  connect   127.0.0.1:"), "{}", server.banner);
    assert!(server.banner.contains("  Admin token, good for 30 days."), "{}", server.banner);
    check(root, "status", 0, "store durable at ");
    check(root, "player list", 0, "nobody is in\n");
    check(root, "token mint --role moderator", 0, " for a moderator, good for 30d.");
    check(root, "token list", 0, "printed at the first start");
    check(root, "player kick Bob", 3, "nobody called `Bob` is in; use their id (p-1f)");
    check(root, "reload", 0, "nothing changed\n");
    check(root, ANY_PORT, 5, " is in use by process ");
    check(root, "compact", 5, " is in use by process ");
    check(root, "top", 2, "`ecumene top` needs a terminal; use `ecumene status` in scripts\n");
    check(root, "stop", 0, "the server stops");
    assert_eq!(server.ended(), Some(0));
    check(root, "status", 4, "; start it with: ecumene serve\n");
    check(root, "token list", 0, "moderator");
    assert!(!serve(root).banner.contains("Admin token"));
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let http = "--set server.http=127.0.0.1:0";
    check(
        root,
        &format!("serve --listen {address} {http}"),
        1,
        &format!("ecumene: cannot listen on {address} for clients: "),
    );
    check(
        root,
        "serve --listen localhost",
        2,
        "ecumene: --listen localhost: `server.listen` is \"localhost\", must be an address and a \
         port such as \"127.0.0.1:4433\" or \"[::]:4433\"\n",
    );
    check(root, "serve --world Home", 2, "ecumene: `Home` is no name for a world: ");
    std::fs::write(root.join("ecumene.toml"), "[server]\nlisen = 1\n").unwrap();
    check(
        root,
        "serve",
        2,
        "ecumene: ecumene.toml:2:1: unknown setting `server.lisen`; did you mean `server.listen`?\n",
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let no_folder = elsewhere.path().join("file");
    std::fs::write(&no_folder, "").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ecumene"))
        .arg("--data")
        .arg(&no_folder)
        .arg("status")
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "ecumene: cannot read {}/ecumene.toml: Not a directory (os error 20)\n",
            no_folder.display()
        ),
    );
}
