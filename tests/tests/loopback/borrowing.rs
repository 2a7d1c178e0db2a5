//! Lending and borrowing as people do it: with two viewers, their scripts and their exit codes.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use protocol::io::{ConnectOptions, Identity};
use serde_json::Value;
use tests::guest::{Guest, options, run};
use tests::process::{Folder, ServerProcess, plain, text, viewer};

use super::server;

/// The viewer's exit code for an avatar that is not to be had.
const NOT_LENT: i32 = 13;

/// Somebody who visits with the viewer's program.
struct Person<'a> {
    server: &'a ServerProcess,
    folder: Folder,
    name: &'static str,
}

impl<'a> Person<'a> {
    fn new(server: &'a ServerProcess, name: &'static str) -> Result<Self> {
        let person = Self { server, folder: Folder::make()?, name };
        let made = plain(&mut Command::new(viewer()?))
            .args(["identity", "new"])
            .arg(person.identity())
            .output()?;
        ensure!(made.status.success(), "{}", text(&made.stderr));
        Ok(person)
    }

    fn identity(&self) -> PathBuf {
        self.folder.path().join("identity.pem")
    }

    /// Returns the command that carries out `script` in the world.
    fn command(&self, script: &str, arguments: &[&str]) -> Result<Command> {
        let path = self.folder.path().join("script.txt");
        std::fs::write(&path, script)?;
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "60"]).arg(viewer()?).arg("--headless");
        command.args(["--connect", &self.server.address().to_string()]);
        command.args(["--server-key", &self.server.key().to_string(), "--name", self.name]);
        command.arg("--known-servers").arg(self.folder.path().join("known"));
        command.arg("--identity").arg(self.identity()).arg("--script").arg(path).args(arguments);
        plain(&mut command);
        Ok(command)
    }

    fn visits(&self, script: &str, arguments: &[&str]) -> Result<Output> {
        self.command(script, arguments)?.output().context("run the viewer")
    }

    /// Carries out a script that must end well; returns what was seen.
    fn does(&self, script: &str, arguments: &[&str]) -> Result<Vec<Value>> {
        let output = self.visits(script, arguments)?;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "{}: {}\n{out}{err}", self.name, output.status);
        out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Tries to drive an avatar that is not to be had; returns what the viewer says of it.
    fn cannot_drive(&self, avatar: &str) -> Result<String> {
        let output = self.visits("look", &["--drive", avatar])?;
        assert_eq!(output.status.code(), Some(NOT_LENT), "{}", text(&output.stderr));
        Ok(text(&output.stderr))
    }

    /// Returns the options to come in as the same person with the library.
    fn options(&self) -> Result<ConnectOptions> {
        let identity = Some(Arc::new(Identity::load(&self.identity())?));
        Ok(ConnectOptions { identity, ..options(self.server, self.name)? })
    }
}

/// Returns a field of the first line of a kind.
fn field(lines: &[Value], kind: &str, name: &str) -> Result<String> {
    let line = lines.iter().find(|line| line["type"] == kind);
    let found = line.and_then(|line| line[name].as_str());
    Ok(found.with_context(|| format!("no {name} of {kind} in {lines:?}"))?.to_owned())
}

#[test]
fn an_avatar_is_lent_driven_and_taken_back_with_two_viewers() -> Result<()> {
    let server = server()?;
    let (ada, ben) = (Person::new(&server, "Ada")?, Person::new(&server, "Ben")?);
    let ben_id = field(&ben.does("look", &[])?, "welcome", "person")?;

    let script = format!("lend to {ben_id} for 10m\nexpect done\nlendings\nexpect done");
    let lent = ada.does(&script, &[])?;
    let avatar = field(&lent, "welcome", "avatar")?;
    let told = field(&lent, "answer", "text")?;
    let expected = format!("{avatar} is lent to {ben_id} for ");
    assert!(told.starts_with(&expected), "{told}");
    let answers: Vec<&Value> = lent.iter().filter(|line| line["type"] == "answer").collect();
    assert!(answers[1]["text"].as_str().is_some_and(|text| text.starts_with(&expected)));

    let driven = ben.does("walk north 2m\nsay \"not mine\"\nexpect done", &["--drive", &avatar])?;
    assert_eq!(field(&driven, "welcome", "avatar")?, avatar);
    assert_eq!(field(&driven, "welcome", "person")?, ben_id);

    let script = format!("recall {ben_id}\nexpect done");
    let told = field(&ada.does(&script, &[])?, "answer", "text")?;
    assert_eq!(told, format!("{avatar} is lent to nobody"));
    let why = ben.cannot_drive(&avatar)?;
    assert_eq!(
        why,
        format!("not to be driven: avatar {avatar} is not lent to you; ask its owner\n")
    );
    Ok(())
}

#[test]
fn an_owner_who_comes_in_ends_the_borrowers_visit() -> Result<()> {
    let server = server()?;
    let (ada, ben) = (Person::new(&server, "Ada")?, Person::new(&server, "Ben")?);
    let ben_id = field(&ben.does("look", &[])?, "welcome", "person")?;
    let lent = ada.does(&format!("lend to {ben_id} for 1h\nexpect done"), &[])?;
    let avatar = field(&lent, "welcome", "avatar")?;

    let mut driving = ben.command("wait 50s", &["--drive", &avatar])?;
    let mut driving = driving.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut seen = BufReader::new(driving.stdout.take().context("its output")?).lines();
    let first = seen.next().context("a welcome")??;
    assert!(first.contains("\"welcome\""), "{first}");
    let reading = std::thread::spawn(move || seen.map_while(Result::ok).count());

    run(async {
        let owner = Guest::enter(&server, ada.options()?).await?;
        assert_eq!(owner.avatar().to_string(), avatar);
        let why = ben.cannot_drive(&avatar)?;
        let expected = "not to be driven: the avatar is being driven by somebody else\n";
        assert_eq!(why, expected);
        Ok(())
    })?;
    let output = driving.wait_with_output()?;
    assert_eq!(output.status.code(), Some(NOT_LENT), "{}", text(&output.stderr));
    let why = text(&output.stderr);
    assert_eq!(why, "not to be driven: the avatar's owner came in and drives it\n");
    assert!(reading.join().is_ok());
    Ok(())
}
