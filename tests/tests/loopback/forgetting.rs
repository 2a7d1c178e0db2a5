//! What is kept of people ends: an operator erases somebody, and guests who stay away are
//! forgotten. Nothing brings it back, and nobody else loses anything.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use protocol::close::CloseCode;
use protocol::ids::{ContentHash, EntityId, PersonId};
use protocol::io::{AssetError, ConnectError, ConnectOptions, Sharing};
use protocol::message::asset::AssetAudience;
use protocol::message::common::Lending;
use protocol::rules::{Act, Verb};
use protocol::session::{Answer, Outcome};
use server::assets::rows as asset_rows;
use server::io::clock::unix_s;
use server::io::forget::record_of;
use server::io::lobby::for_each_record;
use server::io::store::{SledStore, StoreOptions};
use server::people::PersonRecord;
use server::rows;
use server::store::{Batch, Store, Tree};
use tests::guest::{Guest, PATIENCE, options, refused, run};
use tests::process::{ServerProcess, text};

use super::server;

/// The exit code of a command that the server refused.
const REFUSED: i32 = 3;

const DAY_S: u64 = 86_400;

fn key_file(world: &Path, person: PersonId) -> PathBuf {
    world.join("keys").join(format!("{:016x}", person.0))
}

/// Returns what is stored of somebody in a world that nobody runs.
fn stored(world: &Path, person: PersonId) -> Result<Option<PersonRecord>> {
    let store = SledStore::open(world, StoreOptions::default(), &mut |_, _| {})?;
    let record = record_of(&store, person)?;
    store.close()?;
    Ok(record)
}

async fn lend(owner: &Guest, to: PersonId) -> Result<()> {
    let lending = Lending { avatar: owner.avatar(), to, ends_at: unix_s() + 1_000 };
    let lent = owner.client.lend(lending).await?;
    ensure!(matches!(lent, Answer::Done { .. }), "{lent:?}");
    Ok(())
}

async fn check_is_not_lent(me: &ConnectOptions, avatar: EntityId) -> Result<()> {
    let driving = ConnectOptions { drive: Some(avatar), reconnects: false, ..me.clone() };
    let ConnectError::Refused { code, why, .. } = refused(driving).await? else {
        bail!("not refused as it should be");
    };
    assert_eq!(code, CloseCode::Unauthorized, "{why}");
    assert!(why.ends_with("is not lent to you; ask its owner"), "{why}");
    Ok(())
}

/// Gives somebody something to hold.
async fn gather(guest: &Guest) -> Result<()> {
    let (brushwood, at) = guest.nearest("brushwood").await?;
    guest.go_to(at, 120).await?;
    guest.does(Act::on(Verb::Gather, brushwood)).await?;
    guest.held("wood").await?;
    Ok(())
}

#[test]
fn the_erased_come_back_as_newcomers_and_no_backup_brings_anything_back() -> Result<()> {
    run(async {
        let mut server = server()?;
        let (ada, ben, cleo) =
            (options(&server, "Ada")?, options(&server, "Ben")?, options(&server, "Cleo")?);
        let as_ben = Guest::enter(&server, ben.clone()).await?;
        let mut as_ada = Guest::enter(&server, ada.clone()).await?;
        let as_cleo = Guest::enter(&server, cleo.clone()).await?;
        let (person, old_avatar) = (as_ada.person(), as_ada.avatar());
        let (of_ben, of_cleo) = (as_ben.avatar(), as_cleo.avatar());
        gather(&as_ada).await?;
        lend(&as_ada, as_ben.person()).await?;
        // Ben is away and Cleo is here when it ends what they lend.
        lend(&as_ben, person).await?;
        lend(&as_cleo, person).await?;
        as_ben.client.leave().await;
        let key = key_file(&server.world(), person);
        assert!(key.is_file());
        let backup = server.folder().path().join("old.backup");
        server.ask(&["backup", "--to", &backup.display().to_string()])?;

        let told = server.ask(&["player", "erase", &person.to_string(), "--yes"])?;
        assert!(told.starts_with(&format!("everything kept of {person} is erased")), "{told}");
        assert!(!key.exists(), "their key is gone as soon as that is confirmed");
        let outcome = as_ada.ends().await?;
        let is_put_out = matches!(outcome, Outcome::Refused { code: CloseCode::Kicked, .. });
        assert!(is_put_out, "{outcome:?}");

        check_is_not_lent(&ben, old_avatar).await?;
        check_is_not_lent(&ada, of_ben).await?;
        check_is_not_lent(&ada, of_cleo).await?;
        let newcomer = Guest::enter(&server, ada.clone()).await?;
        assert_eq!(newcomer.person(), person, "who they are is their key's to say");
        assert_ne!(newcomer.avatar(), old_avatar, "all else is new");
        assert!(newcomer.holding().is_empty());
        newcomer.client.leave().await;
        as_cleo.client.leave().await;

        assert!(server.stop()?.success());
        let told = server.ask(&["restore", &backup.display().to_string(), "--into", "old"])?;
        assert!(told.contains("without 2 of people who were erased"), "{told}");
        let restored = server.folder().path().join("old");
        assert_eq!(stored(&restored, person)?, None, "her old record stays shut");
        assert!(stored(&server.world(), person)?.is_some(), "her new one does not");
        Ok(())
    })
}

/// Returns whose grants are listed in the store of a world that nobody runs.
fn sharers(world: &Path) -> Result<Vec<PersonId>> {
    let store = SledStore::open(world, StoreOptions::default(), &mut |_, _| {})?;
    let mut found = Vec::new();
    for_each_record(&store, Tree::Assets, &asset_rows::grants_prefix(), |key, _| {
        found.extend(asset_rows::grant_id(key).map(|(_, owner)| owner));
        Ok(())
    })?;
    store.close()?;
    Ok(found)
}

#[test]
fn what_the_erased_share_goes_with_them_and_can_be_shared_anew() -> Result<()> {
    run(async {
        let mut server = server()?;
        let (ada, ben) = (options(&server, "Ada")?, options(&server, "Ben")?);
        let as_ada = Guest::enter(&server, ada.clone()).await?;
        let as_ben = Guest::enter(&server, ben).await?;
        let cleo = Guest::join(&server, "Cleo").await?;
        let share = async |guest: &Guest, bytes: &[u8]| -> Result<ContentHash> {
            let all = AssetAudience::Everyone;
            let sharing = Sharing::new(bytes, ("image/png", "hat.png"), all, 0)?;
            guest.client.assets().share(&sharing, |_, _| {}).await?;
            Ok(sharing.offer.hash)
        };
        let fetch = async |hash| cleo.client.assets().fetch(hash, |_, _| {}).await;
        let (of_both, of_ada) = (share(&as_ada, b"a hat").await?, share(&as_ada, b"mine").await?);
        share(&as_ben, b"a hat").await?;
        let (person, of_ben) = (as_ada.person(), as_ben.person());

        server.ask(&["player", "erase", &person.to_string(), "--yes"])?;
        assert_eq!(fetch(of_ada).await, Err(AssetError::Withheld));
        assert_eq!(fetch(of_both).await?.bytes, b"a hat", "as Ben shares it");
        let list = server.ask(&["asset", "list"])?;
        assert!(!list.contains(&person.to_string()), "{list}");

        let newcomer = Guest::enter(&server, ada).await?;
        assert_eq!(newcomer.person(), person);
        share(&newcomer, b"mine").await?;
        assert_eq!(fetch(of_ada).await?.bytes, b"mine");
        assert!(server.stop()?.success());
        assert_eq!(sharers(&server.world())?.len(), 2);
        server.ask(&["player", "erase", &of_ben.to_string(), "--yes"])?;
        assert_eq!(sharers(&server.world())?, [person]);
        Ok(())
    })
}

/// Gives somebody a key and no records, in a world that nobody runs.
fn leave_key(world: &Path, person: PersonId) -> Result<()> {
    let store = SledStore::open(world, StoreOptions::default(), &mut |_, _| {})?;
    store.enroll(person)?;
    store.close()?;
    Ok(())
}

#[test]
fn somebody_is_erased_while_no_server_runs() -> Result<()> {
    run(async {
        let mut server = server()?;
        let (ada, ben) = (options(&server, "Ada")?, options(&server, "Ben")?);
        let as_ada = Guest::enter(&server, ada.clone()).await?;
        let as_ben = Guest::enter(&server, ben.clone()).await?;
        let (person, old_avatar, of_ben) = (as_ada.person(), as_ada.avatar(), as_ben.avatar());
        lend(&as_ben, person).await?;
        as_ada.client.leave().await;
        as_ben.client.leave().await;
        assert!(server.stop()?.success());

        let question = server.command(&["player", "erase", &person.to_string()])?;
        assert!(!question.status.success(), "nobody is at the terminal");
        assert!(text(&question.stderr).contains("say --yes"), "{}", text(&question.stderr));
        assert!(key_file(&server.world(), person).is_file(), "and nothing was erased");
        server.ask(&["player", "erase", &person.to_string(), "--yes"])?;
        assert!(!key_file(&server.world(), person).exists());
        // What a cut-short command left behind is something, if only a key or a role.
        leave_key(&server.world(), person)?;
        server.ask(&["player", "erase", &person.to_string(), "--yes"])?;
        assert!(!key_file(&server.world(), person).exists());
        server.ask(&["player", "role", &person.to_string(), "moderator"])?;
        server.ask(&["player", "erase", &person.to_string(), "--yes"])?;
        let again = server.command(&["player", "erase", &person.to_string(), "--yes"])?;
        assert_eq!(again.status.code(), Some(REFUSED));
        let why = text(&again.stderr);
        assert_eq!(why, format!("ecumene: nothing is kept of {person}\n"));

        server.restart()?;
        check_is_not_lent(&ada, of_ben).await?;
        let newcomer = Guest::enter(&server, ada).await?;
        assert_ne!(newcomer.avatar(), old_avatar);
        let unknown = server.command(&["player", "erase", "p-1234", "--yes"])?;
        assert_eq!(unknown.status.code(), Some(REFUSED), "{}", text(&unknown.stdout));
        server.ask(&["player", "role", "p-1234", "moderator"])?;
        server.ask(&["player", "erase", "p-1234", "--yes"])?;
        Ok(())
    })
}

/// Moves the last visit of somebody into the past, while no server runs.
fn age(world: &Path, person: PersonId, days: u64) -> Result<()> {
    let store = SledStore::open(world, StoreOptions::default(), &mut |_, _| {})?;
    let record = record_of(&store, person)?.context("somebody who was here")?;
    let seen_s = record.seen_s - days * DAY_S;
    let mut batch = Batch::new();
    let row = rows::person_row(&PersonRecord { seen_s, ..record });
    batch.put(Tree::People, rows::person_key(person), row);
    store.append(batch)?;
    store.close()?;
    Ok(())
}

/// Adds a guest who is in everything like another one, while no server runs.
fn add_guest(world: &Path, person: PersonId, like: PersonId) -> Result<()> {
    let store = SledStore::open(world, StoreOptions::default(), &mut |_, _| {})?;
    let record = record_of(&store, like)?.context("somebody who was here")?;
    store.enroll(person)?;
    let mut batch = Batch::new();
    let row = rows::person_row(&PersonRecord { person, ..record });
    batch.put(Tree::People, rows::person_key(person), row);
    store.append(batch)?;
    store.close()?;
    Ok(())
}

#[test]
fn guests_who_stay_away_are_forgotten_and_nobody_else() -> Result<()> {
    run(async {
        let mut server =
            ServerProcess::start(&[&super::EASY[..], &["admission.guest_days=3"]].concat())?;
        let with_key = options(&server, "Ada")?;
        let guest =
            |name: &str| ConnectOptions { identity: None, name: name.into(), ..with_key.clone() };
        let mut people = Vec::new();
        for options in [guest("Gone"), guest("Back"), with_key.clone()] {
            let visitor = Guest::enter(&server, options).await?;
            people.push(visitor.person());
            visitor.client.leave().await;
        }
        let [gone, back, ada] = people[..] else { bail!("three people") };
        assert!(server.stop()?.success());
        age(&server.world(), gone, 4)?;
        age(&server.world(), back, 2)?;
        age(&server.world(), ada, 400)?;
        // They are looked through in the order of ids: nobody is forgotten after this one.
        let last = PersonId(u64::MAX);
        add_guest(&server.world(), last, gone)?;

        server.restart()?;
        let is_over = async {
            while key_file(&server.world(), last).exists() {
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_over).await.context("the last guest is still kept")?;
        assert!(!key_file(&server.world(), gone).exists());
        assert!(server.stop()?.success());
        assert_eq!(stored(&server.world(), gone)?, None);
        for kept in [back, ada] {
            assert!(key_file(&server.world(), kept).is_file());
            assert!(stored(&server.world(), kept)?.is_some());
        }
        Ok(())
    })
}
