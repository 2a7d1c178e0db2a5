//! A world that moves to another port while people are in it: they are told where to go on, and
//! go on there in the same avatars.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use protocol::close::CloseCode;
use protocol::io::{Client, ClientEvent, ConnectOptions};
use protocol::message::ServerMessage;
use protocol::rules::{Act, Verb};
use protocol::session::Outcome;
use tests::guest::{Guest, PATIENCE, options, run};
use tests::process::{ServerProcess, free_ports, plain, text, viewer};

/// Returns the welcome with which somebody's stay goes on elsewhere, and what they were told
/// before.
async fn goes_on(guest: &mut Guest) -> Result<(bool, Vec<String>)> {
    let mut told = Vec::new();
    let resumed = async {
        loop {
            match guest.client.event().await {
                Some(ClientEvent::Resumed(welcome)) => return Ok(welcome.resumed),
                Some(ClientEvent::Interrupted { why, .. }) => told.push(why),
                Some(ClientEvent::Ended(outcome)) => bail!("it ended: {outcome:?}; {told:?}"),
                Some(ClientEvent::Said(message)) => {
                    let is_farewell = matches!(*message, ServerMessage::Farewell(_));
                    ensure!(!is_farewell, "{message:?}");
                }
                Some(ClientEvent::Begun { .. } | ClientEvent::Ground { .. }) => {}
                None => bail!("it ended without a word"),
            }
        }
    };
    let resumed = tokio::time::timeout(2 * PATIENCE, resumed).await;
    Ok((resumed.context("nobody comes back")??, told))
}

#[test]
fn a_world_moves_to_another_port_and_everybody_goes_on_there() -> Result<()> {
    run(async {
        let mut server = ServerProcess::start(&[])?;
        let mut ada = Guest::join(&server, "Ada").await?;
        // A passing guest has nothing but the ticket.
        let passing = ConnectOptions { identity: None, ..options(&server, "Ben")? };
        let mut ben = Guest::enter(&server, passing).await?;
        let kind = ada.kind("apple")?;
        let (apple, at) = ada.nearest("apple").await?;
        ada.go_to(at, 60).await?;
        ada.does(Act::on(Verb::Take, apple)).await?;
        let held = ada.held("apple").await?;
        let (adas, bens, place) = (ada.avatar(), ben.avatar(), ada.rest().await?);
        let (port, _) = free_ports()?;
        let next = format!("127.0.0.1:{port}");
        // Not on the thread of the clients, who have a second to hear it.
        let moved = tokio::task::spawn_blocking(move || -> Result<ServerProcess> {
            server.ask(&["stop", "--why", "moving", "--redirect", &next])?;
            server.serve_next_at(port)?;
            Ok(server)
        });
        for (guest, avatar) in [(&mut ada, adas), (&mut ben, bens)] {
            let (is_resumed, told) = goes_on(guest).await?;
            ensure!(is_resumed, "a new stay began");
            let first = told.first().map(String::as_str);
            ensure!(first == Some("the session goes on elsewhere"), "{told:?}");
            ensure!(guest.avatar() == avatar, "{} is {} now", avatar, guest.avatar());
        }
        ensure!(ada.position().is_within(place, 5), "{:?}, not {place:?}", ada.position());
        ensure!(ada.held("apple").await?.id == held.id, "what she held stayed behind");
        ada.does_on_new_ground(Act::on(Verb::Drop, held.id)).await?;
        ben.until("the apple", |view| view.replica.nearest_of(kind).map(drop)).await?;
        ada.sees("Ben").await?;
        let server = moved.await??;
        ensure!(server.address().port() == port, "{}", server.address());
        Ok(())
    })
}

#[test]
fn a_viewer_who_is_sent_to_where_nothing_comes_says_so_when_its_time_is_over() -> Result<()> {
    run(async {
        let mut server = ServerProcess::start(&[])?;
        let ben = Guest::join(&server, "Ben").await?;
        let out = server.folder().path().join("ada.jsonl");
        let mut command = Command::new(viewer()?);
        command.args(["--headless", "--seconds", "8", "--name", "Ada"]);
        command.args(["--connect", &server.address().to_string()]);
        command.args(["--server-key", &server.key().to_string()]).arg("--out").arg(&out);
        let ada = plain(&mut command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        ben.sees("Ada").await?;
        let (port, _) = free_ports()?;
        server.ask(&["stop", "--redirect", &format!("127.0.0.1:{port}")])?;
        ensure!(server.ends()?.success(), "it stopped in good order");
        let output = ada.wait_with_output()?;
        let (lines, said) = (std::fs::read_to_string(&out)?, text(&output.stderr));
        ensure!(output.status.code() == Some(11), "{}: {said}\n{lines}", output.status);
        ensure!(said.contains("no connection: "), "{said}");
        ensure!(lines.contains(r#""outcome":"lost""#), "{lines}");
        Ok(())
    })
}

#[test]
fn whoever_is_sent_to_a_stranger_does_not_trust_it() -> Result<()> {
    run(async {
        let mut server = ServerProcess::start(&[])?;
        // Another world with an identity of its own, at the address they are sent to.
        let stranger = ServerProcess::start(&[])?;
        let mut eve = options(&server, "Eve")?;
        // Somebody who trusts whom they see first.
        eve.server_key = None;
        let mut eve = Guest { client: Box::pin(Client::connect(eve)).await? };
        server.ask(&["stop", "--redirect", &stranger.address().to_string()])?;
        let outcome = eve.ends().await?;
        let Outcome::Lost { code: CloseCode::Protocol, why } = &outcome else {
            bail!("{outcome:?}");
        };
        ensure!(why.contains("identity"), "{why}");
        ensure!(server.ends()?.success(), "it stopped in good order");
        let players = stranger.ask(&["player", "list"])?;
        ensure!(!players.contains("Eve"), "{players}");
        Ok(())
    })
}
