//! A bot of its own in fifty lines: comes in, greets whoever is near, and paces up and down.
//!
//! Run it with `cargo run --release -p client-viewer --example bot -- HOST:PORT [SERVER-KEY]`.
//! It uses nothing but the SDK in `protocol::io`.

#![expect(clippy::print_stdout, reason = "what a bot does is for whoever runs it")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use client_viewer::io::headless::decode_ground;
use protocol::input::Input;
use protocol::io::{Client, ClientEvent, ConnectOptions};
use protocol::message::ServerMessage;
use protocol::message::common::Audience;
use protocol::message::server::Being;
use protocol::units::Yaw;
use protocol::utterance::Utterance;

/// How long the bot stays.
const STAY: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().context("say where the server is: HOST:PORT")?;
    let mut options = ConnectOptions::new(address, "Paula the bot");
    options.server_key = args.next().map(|key| key.parse()).transpose()?;
    options.ground = Some(Arc::new(decode_ground));
    let mut client = Box::pin(Client::connect(options)).await?;
    println!("in as {}", client.look(|view| view.welcome.avatar));

    let mut greeted = BTreeSet::new();
    let mut turn = tokio::time::interval(Duration::from_secs(3));
    let mut heading = Yaw::EAST;
    let end = tokio::time::Instant::now() + STAY;
    while tokio::time::Instant::now() < end {
        tokio::select! {
            _ = turn.tick() => {
                heading = if heading == Yaw::EAST { Yaw::WEST } else { Yaw::EAST };
                client.set_input(Input { forward: 127, yaw: heading, ..Input::default() });
                let names: Vec<String> = client.look(|view| {
                    view.replica.entities().filter_map(|entity| match &entity.being {
                        Being::Avatar { name, .. } => Some(name.clone()),
                        Being::Thing { .. } => None,
                    }).collect()
                });
                for name in names.into_iter().filter(|name| greeted.insert(name.clone())) {
                    let words = Utterance::plain(format!("Good day, {name}!"));
                    println!("greeting {name}: {:?}", client.say(Audience::Nearby, words).await?);
                }
            }
            event = client.event() => match event {
                Some(ClientEvent::Said(message)) => if let ServerMessage::Heard(heard) = *message {
                    println!("{}: {}", heard.name, heard.utterance.text());
                },
                Some(ClientEvent::Ended(outcome)) => println!("ended: {outcome:?}"),
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
    println!("ended: {:?}", client.leave().await);
    Ok(())
}
