//! Starts that cannot be, and disks that fill: each says what is wrong and what to do, and nothing
//! is lost by it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use protocol::rules::{Act, Args, Verb, Why};
use protocol::session::Answer;
use server::admission::rates::{HandshakeRates, SessionRates};
use server::config::Settings;
use tests::guest::{Guest, run};
use tests::process::{Folder, ServerProcess, command, free_ports, text};

/// Starts that are stopped as soon as they are announced: a gap of a tenth of a millisecond shows.
const STOPPED_AT_ONCE: u32 = 8;

/// What a start prints that must fail, and its exit code.
fn refused(folder: &Path, flags: &[&str]) -> Result<(Option<i32>, String)> {
    let (udp, tcp) = free_ports()?;
    let (listen, http) =
        (format!("--listen=127.0.0.1:{udp}"), format!("server.http=127.0.0.1:{tcp}"));
    let own = ["serve", &listen, "--set", &http];
    let output = command(folder, &[&own, flags].concat())?;
    assert!(!output.status.success(), "it started");
    Ok((output.status.code(), text(&output.stderr)))
}

fn check(found: &(Option<i32>, String), code: i32, words: &[&str]) {
    let (status, said) = found;
    assert_eq!(*status, Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is missing in:\n{said}");
    }
}

#[test]
fn a_second_server_on_the_same_world_is_refused_with_the_number_of_the_first() -> Result<()> {
    let server = ServerProcess::start(&[])?;
    let pid = server.pid().context("it runs")?.to_string();
    let found = refused(server.folder().path(), &[])?;
    check(&found, 5, &[&format!("is in use by process {pid}"), "stop it first"]);
    Ok(())
}

#[test]
fn ports_in_use_are_named_with_the_setting_to_change() -> Result<()> {
    let server = ServerProcess::start(&[])?;
    let folder = Folder::make()?;
    let listen = format!("--set=server.listen={}", server.address());
    let output = command(folder.path(), &["serve", &listen, "--set", "server.http=127.0.0.1:0"])?;
    let found = (output.status.code(), text(&output.stderr));
    let words = [format!("cannot listen on {} for clients", server.address())];
    check(&found, 1, &[&words[0], "choose another `server.listen`, or stop what uses it"]);
    let http = format!("server.http={}", server.http());
    let found = refused(folder.path(), &["--set", &http])?;
    check(&found, 1, &[&server.http().to_string(), "choose another `server.http`"]);
    Ok(())
}

#[test]
fn a_typo_in_the_settings_is_found_with_its_place_and_what_was_meant() -> Result<()> {
    let folder = Folder::make()?;
    let found = refused(folder.path(), &["--set", "server.lisen=0.0.0.0:1"])?;
    check(&found, 2, &["server.lisen", "server.listen"]);
    let found = refused(folder.path(), &["--set", "chat.nearby_m=far"])?;
    check(&found, 2, &["chat.nearby_m", "must be a whole number from 1 to 1000"]);
    let file = folder.path().join("ecumene.toml");
    std::fs::write(&file, "[chat]\nnearby_m = 30\nwisper_m = 2\n")?;
    let found = refused(folder.path(), &[])?;
    check(&found, 2, &["ecumene.toml:3", "wisper_m", "whisper_m"]);
    Ok(())
}

/// Makes a world, stops it, spoils one of its files, and returns how the next start fails.
fn spoiled(file: &str) -> Result<(Option<i32>, String)> {
    let mut server = ServerProcess::start(&[])?;
    assert!(server.stop()?.success(), "{}", server.log());
    let path = newest_file(&server.world().join(file));
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    std::fs::write(&path, vec![0x5A; bytes.len().max(64)])?;
    let found = refused(server.folder().path(), &[])?;
    assert!(path.is_file(), "nothing is deleted");
    Ok(found)
}

/// The file itself, or `db` in that folder.
fn newest_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("db") } else { path.to_owned() }
}

#[test]
fn a_stop_right_after_the_banner_is_one_in_good_order() -> Result<()> {
    let mut server = ServerProcess::start(&[])?;
    for start in 0..STOPPED_AT_ONCE {
        assert_eq!(server.stop()?.code(), Some(0), "start {start}:\n{}", server.log());
        server.restart()?;
    }
    Ok(())
}

#[test]
fn damaged_files_are_named_and_left_alone() -> Result<()> {
    check(&spoiled("db")?, 1, &["db", "is damaged", "restore a backup"]);
    check(&spoiled("identity.key")?, 1, &["identity.key", "put the file back from a backup"]);
    check(&spoiled("world.toml")?, 2, &["world.toml"]);
    check(&spoiled("access.json")?, 1, &["access.json"]);
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_be_so() -> Result<()> {
    let found = refused(Path::new("/proc/ecumene"), &[])?;
    check(&found, 1, &["/proc/ecumene"]);
    let folder = Folder::make()?;
    std::fs::write(folder.path().join("home"), "a file where the folder should be")?;
    check(&refused(folder.path(), &[])?, 1, &["home"]);
    Ok(())
}

/// A small disk of its own, for whoever may mount one.
struct Disk(Folder);

impl Disk {
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn mount(size: &str) -> Result<Option<Self>> {
        let folder = Folder::make()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        if !is_mounted {
            eprintln!("SKIPPED: only root may mount a small disk, so a full one was not tested");
        }
        Ok(is_mounted.then_some(Self(folder)))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk stays");
    }
}

#[test]
fn a_full_disk_refuses_acts_until_there_is_room_and_loses_nothing() -> Result<()> {
    let Some(disk) = Disk::mount("96m")? else { return Ok(()) };
    let inside = disk.0.path().join("worlds");
    std::fs::create_dir(&inside)?;
    let settings = ["admission.handshakes_burst=1000"];
    run(async {
        let folder = Arc::new(Folder::at(inside));
        let mut server = ServerProcess::start_in(Arc::clone(&folder), &settings)?;
        let ada = Guest::join(&server, "Ada").await?;
        let (cup, at) = ada.nearest("cup").await?;
        ada.go_to(at, 150).await?;
        let ballast = disk.0.path().join("ballast");
        fill(&ballast)?;
        let take = || Act::on(Verb::Take, cup).with(Args::Count(1));
        // What cannot be written is not acknowledged; what is asked for then is refused.
        let (_, pending) = ada.client.begin(take())?;
        let mut refusals = 0;
        for _ in 0..20 {
            let (_, answer) = ada.client.begin(take())?;
            let answer = tokio::time::timeout(std::time::Duration::from_secs(1), answer).await;
            refusals += u32::from(matches!(answer, Ok(Ok(Answer::Refused(Why::TooMany { .. })))));
            if 0 < refusals {
                break;
            }
        }
        assert!(0 < refusals, "a full disk was not noticed; log:\n{}", server.log());
        assert!(server.is_running(), "a full disk ended the server:\n{}", server.log());
        let mut pending = pending;
        assert!(pending.try_recv().is_err(), "acknowledged what is not on disk");
        std::fs::remove_file(&ballast)?;
        let since = ada.client.look(|view| view.replica.clock().newest());
        server.restart()?;
        let back = |view: &protocol::io::View| {
            (view.session.is_in() && since < view.replica.log().holding_since).then_some(())
        };
        ada.until_patiently("coming back", back).await?;
        // Where she stood was not written either.
        ada.go_to(at, 150).await?;
        // Whether it was written or not, there is one cup fewer to take or there is not.
        match ada.act(take()).await? {
            Answer::Done { .. } | Answer::Refused(Why::NotThere) => drop(ada.held("cup").await?),
            answer @ (Answer::Refused(_) | Answer::Unknown) => anyhow::bail!("{answer:?}"),
        }
        Ok(())
    })
}

/// Writes until nothing more fits.
fn fill(path: &Path) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    let block = vec![7; 64 * 1024];
    while file.write_all(&block).is_ok() {}
    Ok(())
}

#[test]
fn a_clock_that_jumps_locks_nobody_out() {
    let config = Settings::defaults().config;
    let hour_ms = 3_600_000;
    let now_ms = 1_000 * hour_ms;
    let mut session = SessionRates::new(&config, now_ms);
    let mut handshakes = HandshakeRates::new(&config, now_ms);
    let address = "192.0.2.1".parse().expect("an address");
    for at_ms in [now_ms, now_ms + 24 * hour_ms, now_ms - 24 * hour_ms, 0, now_ms] {
        assert!(session.message(at_ms).is_ok(), "a message at {at_ms}");
        assert!(session.chat(at_ms).is_ok(), "a word at {at_ms}");
        assert!(handshakes.take(address, at_ms).is_ok(), "a handshake at {at_ms}");
    }
}
