//! A process that has the right to run shards, and says what cannot be of those it runs.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use protocol::ids::ChunkId;
use protocol::io::connection::{Destination, open_as};
use protocol::message::common::Audience;
use server::io::link::Incoming;
use server::io::transport::RecvStream;
use server::link::{self, Down, FRAME_BYTES_MAX, LINK_ALPN, PROGRAM, Up};
use server::region::RegionIndex;
use server::shard::batch::StepOutput;
use server::shard::viewer::ClientKey;
use tests::guest::{Guest, run};
use tests::process::ServerProcess;
use tokio::time::timeout;

/// A region in a corner, in which nobody is.
const CORNER: RegionIndex = RegionIndex(8);

/// How long a lie may go unnoticed.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_process_that_lies_of_its_steps_is_given_up_and_the_world_goes_on() -> Result<()> {
    let lies: [fn(&mut StepOutput); 3] = [
        // A frame of bytes that are not there, one that ends before it begins, and ground for a
        // region that never was.
        |output| output.frames.push((ClientKey(1), 9)),
        |output| {
            output.frame_bytes = vec![0; 9];
            output.frames.extend([(ClientKey(1), 9), (ClientKey(1), 3)]);
        },
        |output| output.wanted.push((RegionIndex(900), ChunkId::at(0, 0, 0), 0)),
    ];
    run(async {
        let mut server = super::server()?;
        let minted = server.ask(&["token", "mint", "--shards"])?;
        let token = server::token::from_text(minted.lines().next().context("a token")?)?;
        for (number, lie) in lies.into_iter().enumerate() {
            let ended = timeout(PATIENCE, lie_once(&server, &token, lie)).await;
            let ended = ended.with_context(|| format!("lie {number}:\n{}", server.log()))?;
            ended.with_context(|| format!("lie {number}:\n{}", server.log()))?;
        }
        let ada = Guest::join(&server, "Ada").await?;
        ada.say(Audience::Nearby, "still here").await?;
        ensure!(!server.log().contains("panicked"), "{}", server.log());
        ensure!(server.stop()?.success());
        Ok(())
    })
}

/// Joins, makes a step of what it is given, and says something else of it; returns once the server
/// has given it up and shown it out.
async fn lie_once(server: &ServerProcess, token: &[u8], lie: fn(&mut StepOutput)) -> Result<()> {
    let destination = Destination {
        address: server.address().to_string(),
        server_key: Some(server.key()),
        ..Destination::default()
    };
    let mut opened = open_as(&destination, LINK_ALPN).await?;
    let join = Up::Join { program: PROGRAM.into(), token: token.to_vec(), regions: vec![CORNER] };
    opened.send.write_all(&link::write(&join)?).await?;
    let mut heard = Incoming(RecvStream::Quinn(opened.receive));
    loop {
        match heard.next::<Down>(FRAME_BYTES_MAX).await? {
            Some(Down::Greeting { .. } | Down::Terms(_) | Down::Host { .. }) => {}
            Some(Down::Step { region, input }) => {
                let (tick, took) = (input.tick, Duration::from_micros(10));
                let mut output = StepOutput { epoch: input.epoch, ..StepOutput::default() };
                lie(&mut output);
                let lie = Up::Stepped { region, tick, output, took };
                opened.send.write_all(&link::write(&lie)?).await?;
                break;
            }
            Some(Down::Ended { why }) => bail!("given up before: {why}"),
            Some(Down::Pack { .. }) => bail!("asked for the shard"),
            None => bail!("the server ended it"),
        }
    }
    opened.connection.closed().await;
    Ok(())
}
