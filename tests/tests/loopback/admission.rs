//! Who comes in, and what those are told who do not.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use protocol::close::CloseCode;
use protocol::io::connection::OpenError;
use protocol::io::trust::TrustError;
use protocol::io::{ConnectError, ConnectOptions, ServerKey};
use protocol::message::common::Audience;
use protocol::session::{Answer, Outcome};
use server::token;
use tests::guest::{Guest, options, refused, run};
use tests::process::ServerProcess;

use super::{EASY, server};

/// Checks that `options` are refused with this code and these words.
async fn check(options: ConnectOptions, expected: (CloseCode, &str)) -> Result<()> {
    let error = refused(options).await?;
    let ConnectError::Refused { code, why, .. } = error else { bail!("not refused: {error}") };
    assert_eq!((code, why.as_str()), expected);
    Ok(())
}

/// Mints a token with these flags; returns its bytes.
fn mint(server: &ServerProcess, flags: &[&str]) -> Result<Vec<u8>> {
    let printed = server.ask(&[&["token", "mint"], flags].concat())?;
    let is_token = |word: &&str| word.len() > 100;
    let text = printed.split_whitespace().find(is_token);
    Ok(token::from_text(text.with_context(|| format!("no token in:\n{printed}"))?)?)
}

#[test]
fn another_server_than_the_pinned_one_is_not_talked_to() -> Result<()> {
    run(async {
        let server = server()?;
        let pinned = ServerKey([7; 32]);
        let other = ConnectOptions { server_key: Some(pinned), ..options(&server, "Ada")? };
        let error = refused(other).await?;
        let ConnectError::Open(OpenError::Trust(TrustError::Mismatch { shown, .. })) = error else {
            bail!("{error}")
        };
        assert_eq!(shown, server.key());
        Ok(())
    })
}

#[test]
fn a_token_is_refused_once_it_is_forged_expired_or_revoked() -> Result<()> {
    run(async {
        let server = server()?;
        let with = |token: &[u8]| -> Result<ConnectOptions> {
            Ok(ConnectOptions { token: Some(token.to_vec()), ..options(&server, "Ada")? })
        };
        let good = mint(&server, &["--role", "moderator", "--note", "for Ada"])?;
        let short = mint(&server, &["--for", "1s"])?;
        let ada = Guest::enter(&server, with(&good)?).await?;
        assert_eq!(ada.client.look(|view| view.welcome.role.clone()), "moderator");
        ada.client.leave().await;

        let admin = token::from_text(server.token().context("the first start shows one")?)?;
        let ada = Guest::enter(&server, with(&admin)?).await?;
        assert_eq!(ada.client.look(|view| view.welcome.role.clone()), "admin");
        ada.client.leave().await;

        let changed = "the token was not made by this server, or was changed or cut short";
        let mut forged = good.clone();
        if let Some(byte) = forged.last_mut() {
            *byte ^= 1;
        }
        check(with(&forged)?, (CloseCode::TokenForged, changed)).await?;
        check(with(&good[..good.len() / 2])?, (CloseCode::TokenForged, changed)).await?;
        check(with(b"rubbish")?, (CloseCode::TokenForged, changed)).await?;

        let list = server.ask(&["token", "list"])?;
        let line = list.lines().find(|line| line.contains("for Ada")).context("in the list")?;
        let id = line.split_whitespace().find(|word| word.starts_with("t-")).context("an id")?;
        server.ask(&["token", "revoke", id])?;
        let why = "the token was revoked; ask the operator for a new one";
        check(with(&good)?, (CloseCode::TokenRevoked, why)).await?;

        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let why = "the token is expired; ask the operator for a new one";
        check(with(&short)?, (CloseCode::TokenExpired, why)).await?;

        let other = ServerProcess::start(&[])?;
        let foreign = mint(&other, &[])?;
        check(with(&foreign)?, (CloseCode::TokenForged, changed)).await
    })
}

#[test]
fn a_banned_person_is_put_out_and_stays_out_until_the_ban_is_lifted() -> Result<()> {
    run(async {
        let server = server()?;
        let me = ConnectOptions { reconnects: false, ..options(&server, "Ada")? };
        let mut ada = Guest::enter(&server, me.clone()).await?;
        let witness = Guest::join(&server, "Ben").await?;
        server.ask(&["player", "ban", "Ada", "--for", "1h", "--why", "shouting"])?;
        let outcome = ada.ends().await?;
        let is_banned = matches!(
            &outcome,
            Outcome::Refused { code: CloseCode::Banned, why, .. } if why.contains("shouting")
        );
        assert!(is_banned, "{outcome:?}");
        let error = refused(me.clone()).await?;
        let ConnectError::Refused { code: CloseCode::Banned, why, retry_after_s } = error else {
            bail!("{error}")
        };
        assert_eq!(why, "shouting");
        assert!(retry_after_s.is_some_and(|seconds| (3_500..=3_600).contains(&seconds)));
        assert!(matches!(witness.say(Audience::Nearby, "oh").await?, Answer::Done { .. }));

        server.ask(&["player", "unban", &ada.person().to_string()])?;
        Guest::enter(&server, me).await?;
        Ok(())
    })
}

#[test]
fn a_full_world_says_so_and_keeps_places_for_those_who_look_after_it() -> Result<()> {
    run(async {
        let server = ServerProcess::start(&["server.clients_max=1", EASY[2], EASY[3]])?;
        let _first = Guest::join(&server, "Ada").await?;
        let error = refused(options(&server, "Ben")?).await?;
        assert_eq!(error.to_string(), "refused: all 1 places are taken (try again in 30 s)");
        let token = mint(&server, &["--role", "moderator"])?;
        let staff = ConnectOptions { token: Some(token), ..options(&server, "Cleo")? };
        Guest::enter(&server, staff).await?;
        Ok(())
    })
}

#[test]
fn names_are_checked_and_kept_apart() -> Result<()> {
    run(async {
        let server = server()?;
        let named = |name: &str| options(&server, name);
        let why = "the name contains the invisible character U+202E";
        check(named("Ada\u{202E}")?, (CloseCode::Unauthorized, why)).await?;
        for name in ["", " ", &"a".repeat(33), "A\u{7}da"] {
            let error = refused(named(name)?).await?;
            let expected = "a name has 1 to 32 characters and no control characters";
            assert_eq!(error.to_string(), expected, "{name:?}");
        }
        let ada = Guest::join(&server, "Ada").await?;
        let other = Guest::join(&server, "ada").await?;
        let shown = ada
            .until("the other Ada", |view| {
                let names = view.replica.entities().filter_map(client_viewer::words::person_name);
                names.into_iter().next()
            })
            .await?;
        assert_ne!(shown.to_lowercase(), "ada", "two of one name cannot be told apart");
        assert_ne!(ada.person(), other.person());
        Ok(())
    })
}

#[test]
fn a_world_that_is_not_hosted_and_guests_that_are_not_wanted_are_refused() -> Result<()> {
    run(async {
        let server =
            ServerProcess::start(&["admission.guests=nobody", "admission.newcomers=nobody"])?;
        let elsewhere =
            ConnectOptions { world: Some("w-1234".to_owned()), ..options(&server, "Ada")? };
        let error = refused(elsewhere).await?;
        let ConnectError::Refused { code, .. } = error else { bail!("{error}") };
        assert_eq!(code, CloseCode::World);
        let why = "people without a token or a role are not let in; connect with a token, or ask \
                   the operator to set admission.newcomers";
        check(options(&server, "Ada")?, (CloseCode::Unauthorized, why)).await?;
        let guest = ConnectOptions { identity: None, ..options(&server, "Ada")? };
        let why = "guests are not let in; connect with a token, or ask the operator to set \
                   admission.guests";
        check(guest, (CloseCode::Unauthorized, why)).await?;
        let resume = ConnectOptions { resume: Some(vec![1; 80]), ..options(&server, "Ada")? };
        let why = "the resume ticket was not made by this server; connect without it";
        check(resume, (CloseCode::Unauthorized, why)).await?;
        let token = mint(&server, &[])?;
        let invited = ConnectOptions { token: Some(token), ..options(&server, "Ada")? };
        Guest::enter(&server, invited).await?;
        Ok(())
    })
}
