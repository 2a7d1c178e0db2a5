//! Commands as typed, on files alone, with their exact words and exit codes.

use clap::Parser as _;

use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Types a line and returns what came of it.
    fn types(&self, line: &str) -> Result<(Exit, String), Failure> {
        let data = self.0.path().display().to_string();
        let words = ["ecumene", "--data", &data].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
        let mut out = Vec::new();
        let exit = run(cli, &mut out)?;
        Ok((exit, String::from_utf8_lossy(&out).into_owned()))
    }

    fn done(&self, line: &str) -> String {
        let (exit, text) = self.types(line).unwrap();
        assert_eq!(exit, Exit::Done, "{text}");
        text
    }

    fn fails(&self, line: &str) -> (Exit, String) {
        let failure = self.types(line).unwrap_err();
        (failure.exit, failure.message)
    }
}

#[test]
fn a_world_is_made_shown_and_drawn() {
    let home = Home::new();
    assert_eq!(home.done("world list"), "no world yet; make one with: ecumene world new home\n");
    let made = home.done("world new sea --seed 7");
    assert!(made.starts_with("made the world `sea` (w-"), "{made}");
    assert!(made.ends_with("run it with: ecumene serve --world sea\n"), "{made}");
    assert!(home.done("world list").contains("sea    w-"));
    assert!(home.done("world info --world sea").contains("seed = \"7\""));
    let png = home.0.path().join("map.png");
    home.done(&format!("world preview --world sea --pixels 32 --out {}", png.display()));
    assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));
    let (exit, why) = home.fails("world preview --world sea --pixels 0 --out x.png");
    assert_eq!(exit, Exit::Usage, "{why}");
}

#[test]
fn tokens_and_bans_work_on_files() {
    let home = Home::new();
    home.done("world new home --seed 7");
    let minted = home.done("token mint --role moderator --for 1d --note Ada");
    let token = minted.lines().next().unwrap();
    assert!(minted.contains(" for a moderator, good for 1d. It is shown this once"), "{minted}");
    let id = minted.lines().last().unwrap().rsplit(' ').next().unwrap();
    let narrowed = home.done(&format!("token narrow {token} --role visitor"));
    assert_ne!(narrowed.trim(), token);
    home.done(&format!("token revoke {id}"));
    assert!(home.done("token list").contains("revoked  Ada"));
    assert_eq!(home.done("player ban p-1f"), "p-1f is banned until that is lifted\n");
    assert!(home.done("player bans").contains("p-1f  until lifted"));
    assert_eq!(home.done("player unban p-1f"), "p-1f may come in again\n");
    assert_eq!(home.fails("player unban p-1f"), (Exit::Refused, "p-1f is not banned".to_owned()));
}

#[test]
fn operators_decide_also_over_a_damaged_store() {
    let home = Home::new();
    home.done("world new home --seed 7");
    home.done("player ban p-1f");
    assert!(home.done("audit").contains("player ban p-1f"));
    let data = crate::io::store::folder::DataFolder::take(&home.0.path().join("home")).unwrap();
    data.write_mark(crate::store::Number(1_000_000)).unwrap();
    drop(data);
    assert!(home.fails("audit").1.contains("is damaged"));
    assert_eq!(home.done("player ban p-2f"), "p-2f is banned until that is lifted\n");
    let minted = home.done("token mint");
    let id = minted.lines().last().unwrap().rsplit(' ').next().unwrap();
    home.done(&format!("token revoke {id}"));
    let (exit, why) = home.fails("player erase p-1f --yes");
    assert_eq!((exit, why.contains("is damaged")), (Exit::Failed, true), "{why}");
}

#[test]
fn the_world_is_backed_up_checked_and_restored_without_a_server() {
    let home = Home::new();
    home.done("world new home --seed 7");
    home.done("token mint");
    let file = home.0.path().join("monday.backup");
    let file = file.display();
    home.done(&format!("backup --to {file}"));
    assert!(home.done(&format!("verify --backup {file}")).ends_with(" all sound\n"));
    assert!(home.done("verify").ends_with(" all sound\n"));
    assert!(home.done("compact").contains("records kept"));
    home.done(&format!("restore {file} --into monday"));
    assert!(home.done("token list --world monday").contains("member"));
    let identity = |name: &str| files_identity(&home, name);
    assert_eq!(identity("home"), identity("monday"));
    let (exit, why) = home.fails(&format!("restore {file} --into monday"));
    assert_eq!(exit, Exit::Failed, "{why}");
}

fn files_identity(home: &Home, world: &str) -> String {
    files::identity(&home.0.path().join(world)).unwrap().public().to_string()
}

#[test]
fn what_needs_a_server_says_so_and_a_busy_world_too() {
    let home = Home::new();
    home.done("world new home --seed 7");
    let data = home.0.path().join("home");
    let absent =
        format!("no server runs the world in {}; start it with: ecumene serve", data.display());
    for line in [
        "status",
        "stop",
        "announce hi",
        "player list",
        "player kick p-1",
        "shards",
        "shards split 4",
        "reload",
    ] {
        assert_eq!(home.fails(line), (Exit::NotRunning, absent.clone()), "{line}");
    }
    // A backup opens the store, which makes the database that the others look for.
    home.done(&format!("backup --to {}/first.backup", home.0.path().display()));
    let _server = crate::io::store::folder::DataFolder::take(&data).unwrap();
    for line in ["token mint", "compact", "verify", "backup --to x.backup"] {
        let (exit, why) = home.fails(line);
        assert_eq!(exit, Exit::Busy, "{why}");
        assert!(why.contains("is in use by process"), "{why}");
    }
}

#[test]
fn settings_are_shown_and_mistakes_refused_as_usage() {
    let home = Home::new();
    assert!(home.done("config --set chat.nearby_m=30").contains(
        "nearby_m = 30                            # command line --set chat.nearby_m=30\n",
    ));
    let (exit, why) = home.fails("config --set chat.nerby_m=30");
    assert_eq!(exit, Exit::Usage);
    assert_eq!(
        why,
        "--set chat.nerby_m=30: unknown setting `chat.nerby_m`; did you mean `chat.nearby_m`?",
    );
    let (exit, why) = home.fails("serve --listen here");
    assert_eq!(exit, Exit::Usage);
    assert!(
        why.starts_with("--listen here: `server.listen` is \"here\", must be an address"),
        "{why}"
    );
    let (exit, why) = home.fails("world new My_World");
    assert_eq!(exit, Exit::Usage, "{why}");
    let (exit, why) = home.fails("token narrow nonsense");
    assert_eq!(exit, Exit::Usage, "{why}");
}
