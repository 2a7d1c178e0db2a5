//! Clients newer and older than the server: both use what both know.

use anyhow::Result;
use protocol::message::ClientMessage;
use protocol::message::client::Hello;
use protocol::message::common::{Capability, features};
use protocol::message::server::Welcome;
use tests::guest::run;

use super::server;
use tests::siege::raw::{Raw, bytes_of, hello};

/// Comes in with this hello and returns the welcome.
async fn welcome(change: impl FnOnce(&mut Hello)) -> Result<Welcome> {
    let server = server()?;
    let mut raw = Raw::open(&server).await?;
    let ClientMessage::Hello(mut said) = hello() else { unreachable!("hello says hello") };
    change(&mut said);
    raw.write(&bytes_of(&said.into())).await?;
    raw.until_welcome().await
}

#[test]
fn a_newer_client_is_let_in_with_what_both_know() -> Result<()> {
    run(async {
        let capability =
            |name: &str, value: &str| Capability { name: name.to_owned(), value: value.to_owned() };
        let welcome = welcome(|hello| {
            hello.minor = 99;
            hello.features = u64::MAX;
            hello.capabilities = vec![capability("teleport", "beam/9")];
        })
        .await?;
        assert_eq!(welcome.features & !features::ALL, 0, "{:#x}", welcome.features);
        assert!(welcome.capabilities.is_empty(), "{:?}", welcome.capabilities);
        Ok(())
    })
}

#[test]
fn a_client_that_can_do_nothing_special_is_asked_for_nothing_special() -> Result<()> {
    run(async {
        let welcome = welcome(|hello| hello.features = 0).await?;
        assert_eq!(welcome.features, 0);
        assert_eq!(welcome.pace_permille, 1_000);
        Ok(())
    })
}
