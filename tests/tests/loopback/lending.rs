//! Driving somebody else's avatar: only while it is lent, and not a moment longer.

use anyhow::{Context, Result, bail};
use protocol::close::CloseCode;
use protocol::ids::EntityId;
use protocol::io::{ConnectError, ConnectOptions};
use protocol::message::client::Degree;
use protocol::message::common::{Audience, Lending};
use protocol::rules::Why;
use protocol::session::{Answer, Outcome};
use protocol::units::Yaw;
use server::io::clock::{unix_ms, unix_s};
use tests::guest::{Guest, options, refused, run};
use tests::process::ServerProcess;

use super::server;

/// Who comes as somebody and drives this avatar.
fn driving(me: &ConnectOptions, avatar: EntityId) -> ConnectOptions {
    ConnectOptions { drive: Some(avatar), reconnects: false, ..me.clone() }
}

async fn check_is_not_lent(me: ConnectOptions) -> Result<()> {
    let error = refused(me).await?;
    let ConnectError::Refused { code, why, .. } = error else { bail!("{error}") };
    assert_eq!(code, CloseCode::Unauthorized, "{why}");
    assert!(why.ends_with("is not lent to you; ask its owner"), "{why}");
    Ok(())
}

async fn check_has_ended(driver: &mut Guest) -> Result<()> {
    let outcome = driver.ends().await?;
    let why = "the right to drive this avatar has ended".to_owned();
    let ended = Outcome::Refused { code: CloseCode::LendingEnded, why, retry_after_s: None };
    assert_eq!(outcome, ended);
    Ok(())
}

/// Lends an avatar to somebody and leaves it.
async fn lend(
    server: &ServerProcess,
    owner: &ConnectOptions,
    to: &Guest,
    ends_at: u64,
) -> Result<EntityId> {
    let owner = Guest::enter(server, owner.clone()).await?;
    let avatar = owner.avatar();
    let lent = owner.client.lend(Lending { avatar, to: to.person(), ends_at }).await?;
    assert!(matches!(lent, Answer::Done { .. }), "{lent:?}");
    owner.client.leave().await;
    Ok(avatar)
}

#[test]
fn a_lent_avatar_is_driven_until_it_is_recalled() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben, cleo) =
            (options(&server, "Ada")?, options(&server, "Ben")?, options(&server, "Cleo")?);
        let as_ada = Guest::enter(&server, ada.clone()).await?;
        let as_ben = Guest::enter(&server, ben.clone()).await?;
        check_is_not_lent(driving(&cleo, as_ada.avatar())).await?;
        let lending =
            Lending { avatar: as_ada.avatar(), to: as_ben.person(), ends_at: unix_s() + 100 };
        let not_his = as_ben.client.lend(lending).await?;
        assert_eq!(not_his, Answer::Refused(Why::Forbidden), "only its owner lends an avatar");

        // Cleo lends hers to Ada and Ada lends hers to Ben, so that Ada can recall it while he
        // drives it: one who comes in as herself takes her own avatar back by that alone.
        let of_cleo = lend(&server, &cleo, &as_ada, unix_s() + 100).await?;
        as_ada.client.leave().await;
        let of_ada = lend(&server, &ada, &as_ben, unix_s() + 100).await?;
        as_ben.client.leave().await;
        let mut ben_drives = Guest::enter(&server, driving(&ben, of_ada)).await?;
        assert_eq!(ben_drives.avatar(), of_ada);
        let before = ben_drives.position();
        ben_drives.walk(Yaw::EAST);
        ben_drives
            .until("the avatar to walk", |view| {
                (!view.replica.body().position().is_within(before, 100)).then_some(())
            })
            .await?;

        let ada_drives = Guest::enter(&server, driving(&ada, of_cleo)).await?;
        let recalled = ada_drives.client.recall(of_ada, ben_drives.person()).await?;
        assert!(matches!(recalled, Answer::Done { .. }), "{recalled:?}");
        check_has_ended(&mut ben_drives).await?;
        check_is_not_lent(driving(&ben, of_ada)).await
    })
}

#[test]
fn a_borrower_speaks_in_their_own_name() -> Result<()> {
    run(async {
        let server = ServerProcess::start(&[&super::EASY[..], &["chat.nearby_m=100"]].concat())?;
        let (ada, ben) = (options(&server, "Ada")?, options(&server, "Ben")?);
        let cleo = Guest::join(&server, "Cleo").await?;
        let as_ben = Guest::enter(&server, ben.clone()).await?;
        let of_ada = lend(&server, &ada, &as_ben, unix_s() + 100).await?;
        as_ben.client.leave().await;
        let driver = Guest::enter(&server, driving(&ben, of_ada)).await?;
        cleo.sees("Ada").await?;
        driver.say(Audience::Nearby, "it is only me").await?;
        cleo.hears("it is only me").await?;
        let heard = cleo.client.look(|view| view.replica.log().heard.back().cloned());
        let heard = heard.context("something was heard")?;
        assert_eq!((heard.person, heard.name.as_str()), (driver.person(), "Ben"));
        assert_eq!(heard.avatar, Some(of_ada), "the words come from where Ada's avatar stands");

        // Who does not want to hear Ben does not hear him through Ada's avatar either.
        cleo.client.ignore(driver.person(), Degree::Mute)?;
        // What is done in order by one session is done when the next thing is answered.
        cleo.say(Audience::Nearby, "not you").await?;
        driver.say(Audience::Nearby, "psst").await?;
        driver.client.leave().await;
        let owner = Guest::enter(&server, ada).await?;
        owner.say(Audience::Nearby, "and now it is me").await?;
        cleo.hears("and now it is me").await?;
        assert!(!cleo.heard("psst"));
        Ok(())
    })
}

#[test]
fn a_lending_ends_by_itself_in_its_second() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben) = (options(&server, "Ada")?, options(&server, "Ben")?);
        let as_ben = Guest::enter(&server, ben.clone()).await?;
        let ends_at = unix_s() + 3;
        let avatar = lend(&server, &ada, &as_ben, ends_at).await?;
        as_ben.client.leave().await;
        let mut driver = Guest::enter(&server, driving(&ben, avatar)).await?;
        check_has_ended(&mut driver).await?;
        let late_ms = unix_ms().saturating_sub(1_000 * ends_at);
        assert!(ends_at <= unix_s() && late_ms < 1_000, "{late_ms} ms late");
        check_is_not_lent(driving(&ben, avatar)).await?;
        let ada = Guest::enter(&server, ada).await?;
        assert_eq!(ada.avatar(), avatar, "it is hers again, and was all along");
        Ok(())
    })
}

#[test]
fn a_lending_that_is_made_shorter_ends_for_who_drives_already() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben, cleo) =
            (options(&server, "Ada")?, options(&server, "Ben")?, options(&server, "Cleo")?);
        let as_ada = Guest::enter(&server, ada.clone()).await?;
        let as_ben = Guest::enter(&server, ben.clone()).await?;
        let of_cleo = lend(&server, &cleo, &as_ada, unix_s() + 100).await?;
        as_ada.client.leave().await;
        let of_ada = lend(&server, &ada, &as_ben, unix_s() + 100).await?;
        let to = as_ben.person();
        as_ben.client.leave().await;
        let mut driver = Guest::enter(&server, driving(&ben, of_ada)).await?;
        let ada_drives = Guest::enter(&server, driving(&ada, of_cleo)).await?;
        let shorter = Lending { avatar: of_ada, to, ends_at: unix_s() + 2 };
        let lent = ada_drives.client.lend(shorter).await?;
        assert!(matches!(lent, Answer::Done { .. }), "{lent:?}");
        check_has_ended(&mut driver).await?;
        check_is_not_lent(driving(&ben, of_ada)).await
    })
}

#[test]
fn the_owner_takes_a_lent_avatar_back_by_coming_in() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben) = (options(&server, "Ada")?, options(&server, "Ben")?);
        let as_ben = Guest::enter(&server, ben.clone()).await?;
        let avatar = lend(&server, &ada, &as_ben, unix_s() + 100).await?;
        as_ben.client.leave().await;
        let mut driver = Guest::enter(&server, driving(&ben, avatar)).await?;
        let owner = Guest::enter(&server, ada).await?;
        assert_eq!(owner.avatar(), avatar);
        let outcome = driver.ends().await?;
        let is_replaced = matches!(outcome, Outcome::Refused { code: CloseCode::Replaced, .. });
        assert!(is_replaced, "{outcome:?}");
        let error = refused(driving(&ben, avatar)).await?.to_string();
        assert!(error.contains("the avatar is being driven by somebody else"), "{error}");
        Ok(())
    })
}
