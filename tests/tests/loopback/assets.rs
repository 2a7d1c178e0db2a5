//! Sharing files: whoever they are meant for gets them, whole and true, and nobody else learns
//! that they are there.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use protocol::asset::RULES_MEDIA;
use protocol::close::CloseCode;
use protocol::frame;
use protocol::ids::ContentHash;
use protocol::io::{AssetError, ConnectError, ConnectOptions, Fetched, Sharing};
use protocol::limits::{ASSET_BYTES_MAX, ASSET_FRAME_BYTES_MAX};
use protocol::message::asset::{
    AssetAudience, AssetFound, AssetKept, AssetRefused, AssetWanted, AssetWhy, AssetWithheld,
    FetchAsset, OfferAsset,
};
use protocol::message::{AssetReply, AssetRequest};
use protocol::rules::RuleBook;
use quinn::{RecvStream, SendStream};
use server::io::clock::unix_s;
use tests::guest::{Guest, PATIENCE, options, refused, run};
use tests::process::ServerProcess;
use tests::relay::{Impairment, Relay};

use super::{EASY, server};
use tests::siege::raw::Raw;

/// Longer than a server waits for an idle stream.
const IDLE: Duration = Duration::from_secs(60);

/// Slow enough that a server can be killed in the middle of some megabytes.
const FAR: Impairment = Impairment {
    loss_permille: 0,
    delay_ms: 40,
    jitter_ms: 0,
    reorder_permille: 0,
    duplicate_permille: 0,
};

/// Returns so many bytes that look like no others.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut random = 1_u64 + u64::from(seed);
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn sharing(bytes: &[u8], audience: AssetAudience, keep_s: u32) -> Result<Sharing> {
    Ok(Sharing::new(bytes, ("image/png", "hat.png"), audience, keep_s)?)
}

async fn share(guest: &Guest, bytes: &[u8], audience: AssetAudience) -> Result<ContentHash> {
    let sharing = sharing(bytes, audience, 0)?;
    let until = guest.client.assets().share(&sharing, |_, _| {}).await?;
    assert!(unix_s() < until, "kept until {until}");
    Ok(sharing.offer.hash)
}

async fn fetch(guest: &Guest, hash: ContentHash) -> Result<Fetched, AssetError> {
    guest.client.assets().fetch(hash, |_, _| {}).await
}

/// A stream of one asset, without manners of its own.
struct Stream {
    send: SendStream,
    receive: RecvStream,
    bytes: Vec<u8>,
}

impl Stream {
    async fn open(raw: &Raw, request: &AssetRequest) -> Result<Self> {
        let (mut send, receive) = raw.connection().open_bi().await?;
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        send.write_all(&bytes).await?;
        Ok(Self { send, receive, bytes: Vec::new() })
    }

    async fn read(&mut self) -> Result<bool> {
        let read = tokio::time::timeout(IDLE, self.receive.read_chunk(65_536, true));
        let chunk = read.await.context("nothing to read")??;
        self.bytes.extend(chunk.iter().flat_map(|chunk| chunk.bytes.to_vec()));
        Ok(chunk.is_some())
    }

    async fn reply(&mut self) -> Result<AssetReply> {
        loop {
            if let Some((frame, taken)) = frame::split(&self.bytes, ASSET_FRAME_BYTES_MAX)? {
                let reply = AssetReply::read(frame)?.context("an unknown reply")?;
                self.bytes.drain(..taken);
                return Ok(reply);
            }
            if !self.read().await? {
                bail!("the stream ended without a reply");
            }
        }
    }

    /// Returns all that is left of the stream.
    async fn rest(&mut self) -> Result<Vec<u8>> {
        while self.read().await? {}
        Ok(std::mem::take(&mut self.bytes))
    }
}

fn offer(bytes: &[u8]) -> OfferAsset {
    OfferAsset {
        hash: ContentHash::of(bytes),
        length: bytes.len() as u64,
        media: "image/png".into(),
        name: "hat.png".into(),
        audience: AssetAudience::Everyone,
        keep_s: 0,
    }
}

#[test]
fn what_is_shared_is_fetched_by_those_it_is_meant_for_and_by_nobody_else() -> Result<()> {
    run(async {
        let mut server = server()?;
        let (as_ada, as_ben) = (options(&server, "Ada")?, options(&server, "Ben")?);
        let ada = Guest::enter(&server, as_ada.clone()).await?;
        let ben = Guest::enter(&server, as_ben.clone()).await?;
        let cleo = Guest::join(&server, "Cleo").await?;
        let for_all = share(&ada, &noise(300_000, 1), AssetAudience::Everyone).await?;
        let for_ben = AssetAudience::Persons(vec![ben.person()]);
        let for_ben = share(&ada, &noise(5_000, 2), for_ben).await?;
        let for_ada = share(&ada, b"a secret", AssetAudience::Owner).await?;

        let got = fetch(&cleo, for_all).await?;
        assert_eq!((got.bytes, got.media.as_str()), (noise(300_000, 1), "image/png"));
        assert_eq!((got.name.as_str(), got.until.is_some()), ("hat.png", true));
        assert_eq!(fetch(&ben, for_ben).await?.bytes, noise(5_000, 2));
        assert_eq!(fetch(&ada, for_ada).await?.bytes, b"a secret");
        for (who, hash) in [(&cleo, for_ben), (&cleo, for_ada), (&ben, for_ada)] {
            assert_eq!(fetch(who, hash).await, Err(AssetError::Withheld));
        }
        let nowhere = ContentHash::of(b"never shared");
        assert_eq!(fetch(&cleo, nowhere).await, Err(AssetError::Withheld));

        // All of that is still so after a restart.
        server.stop()?;
        server.restart()?;
        let ben = Guest::enter(&server, as_ben).await?;
        assert_eq!(fetch(&ben, for_all).await?.bytes, noise(300_000, 1));
        assert_eq!(fetch(&ben, for_ben).await?.bytes, noise(5_000, 2));
        assert_eq!(fetch(&ben, for_ada).await, Err(AssetError::Withheld));

        // Somebody else who has the same bytes may show them to whom they like.
        let also_ben = share(&ben, b"a secret", AssetAudience::Everyone).await?;
        assert_eq!(also_ben, for_ada);
        let dora = Guest::join(&server, "Dora").await?;
        assert_eq!(fetch(&dora, for_ada).await?.bytes, b"a secret");
        ben.client.assets().withdraw(for_ada).await?;
        assert_eq!(fetch(&dora, for_ada).await, Err(AssetError::Withheld));
        assert_eq!(ben.client.assets().withdraw(for_ada).await, Err(AssetError::Withheld));
        let ada = Guest::enter(&server, as_ada).await?;
        assert_eq!(fetch(&ada, for_ada).await?.bytes, b"a secret");
        Ok(())
    })
}

#[test]
fn a_stranger_hears_the_same_words_as_about_nothing_at_all() -> Result<()> {
    run(async {
        let server = server()?;
        let ada = Guest::join(&server, "Ada").await?;
        let secret = share(&ada, b"a secret", AssetAudience::Owner).await?;
        let nowhere = ContentHash::of(b"never shared");
        let stranger = Raw::enter(&server).await?;
        let mut answers = Vec::new();
        for hash in [secret, nowhere] {
            for offset in [0, 4, u64::MAX] {
                let request = FetchAsset { hash, offset }.into();
                let mut stream = Stream::open(&stranger, &request).await?;
                stream.send.finish()?;
                let mut expected = Vec::new();
                AssetReply::from(AssetWithheld { hash }).write(&mut expected);
                assert_eq!(stream.rest().await?, expected);
                answers.push(expected.len());
            }
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "of one length");
        Ok(())
    })
}

#[test]
fn a_cut_transfer_goes_on_where_it_stopped() -> Result<()> {
    run(async {
        let server = server()?;
        let content = noise(1_000_000, 3);
        let raw = Raw::enter(&server).await?;
        let mut stream = Stream::open(&raw, &offer(&content).into()).await?;
        assert_eq!(stream.reply().await?, AssetWanted { from: 0 }.into());
        // A second one beside it is refused, and harms it not.
        let mut other = Stream::open(&raw, &offer(b"other").into()).await?;
        let refused = other.reply().await?;
        assert!(matches!(&refused, AssetReply::AssetRefused(it) if is_busy(it.why)), "{refused:?}");
        stream.send.write_all(&content[..700_000]).await?;
        // Ended early, so that all that was sent is taken in; a reset may overtake it.
        stream.send.finish()?;
        let short = AssetRefused { why: AssetWhy::Short { got: 700_000 } };
        assert_eq!(stream.reply().await?, short.into());
        let mut stream = Stream::open(&raw, &offer(&content).into()).await?;
        assert_eq!(stream.reply().await?, AssetWanted { from: 700_000 }.into());
        stream.send.write_all(&content[700_000..]).await?;
        stream.send.finish()?;
        let kept = stream.reply().await?;
        assert!(
            matches!(kept, AssetReply::AssetKept(AssetKept { until }) if 0 < until),
            "{kept:?}"
        );

        let fetch = FetchAsset { hash: ContentHash::of(&content), offset: 900_000 };
        let mut stream = Stream::open(&raw, &fetch.into()).await?;
        let found = stream.reply().await?;
        let AssetReply::AssetFound(AssetFound { length, .. }) = found else { bail!("{found:?}") };
        assert_eq!((length, stream.rest().await?), (1_000_000, content[900_000..].to_vec()));
        let behind = FetchAsset { hash: ContentHash::of(&content), offset: 1_000_001 };
        let mut stream = Stream::open(&raw, &behind.into()).await?;
        let why = AssetWhy::Offset { length: 1_000_000 };
        assert_eq!(stream.reply().await?, AssetRefused { why }.into());
        Ok(())
    })
}

#[test]
fn a_client_goes_on_fetching_after_the_server_was_killed() -> Result<()> {
    run(async {
        let mut server = server()?;
        let content = noise(12_000_000, 4);
        let ada = Guest::join(&server, "Ada").await?;
        let hash = share(&ada, &content, AssetAudience::Everyone).await?;
        let relay = Relay::start(server.address(), FAR, 7)?;
        let direct = options(&server, "Ben")?;
        let far = ConnectOptions { address: relay.address().to_string(), ..direct };
        let ben = Guest::enter(&server, far).await?;
        let (reached, most) = (tokio::sync::Notify::new(), Cell::new(0));
        let progress = |got: u64, of: u64| {
            assert!(most.get() <= got, "what was there is not fetched again");
            assert_eq!(of, 12_000_000);
            most.set(got);
            if 500_000 < got {
                reached.notify_one();
            }
        };
        let assets = ben.client.assets();
        let fetching = assets.fetch(hash, progress);
        let killing = async {
            reached.notified().await;
            let before = most.get();
            server.kill_9()?;
            assert!(before < 12_000_000, "killed too late");
            server.restart()
        };
        let (fetched, killed) = tokio::join!(fetching, killing);
        killed?;
        assert_eq!(fetched?.bytes, content);
        Ok(())
    })
}

#[test]
fn bytes_that_are_not_those_of_the_hash_are_kept_by_nobody() -> Result<()> {
    run(async {
        let server = server()?;
        let content = noise(100_000, 5);
        let raw = Raw::enter(&server).await?;
        let mut damaged = content.clone();
        damaged[50_000] ^= 1;
        let longer = [content.as_slice(), b"!"].concat();
        for sent in [damaged, longer] {
            let mut stream = Stream::open(&raw, &offer(&content).into()).await?;
            assert_eq!(stream.reply().await?, AssetWanted { from: 0 }.into());
            stream.send.write_all(&sent).await?;
            // The server may have stopped the stream by now.
            drop(stream.send.finish());
            let refused = AssetRefused { why: AssetWhy::Corrupt };
            assert_eq!(stream.reply().await?, refused.into());
        }
        let ada = Guest::join(&server, "Ada").await?;
        let missing = fetch(&ada, ContentHash::of(&content)).await;
        assert_eq!(missing, Err(AssetError::Withheld));
        // Whoever has the true bytes is believed, from the first of them on.
        share(&ada, &content, AssetAudience::Everyone).await?;
        Ok(())
    })
}

#[test]
fn too_much_of_anything_is_refused_with_what_would_be_taken() -> Result<()> {
    run(async {
        let own = ["assets.person_mb=1", "assets.person_count=2", "assets.asset_mb=1"];
        let types = ["assets.media=image/*", "assets.total_mb=2", "assets.keep_hours=1"];
        let settings: Vec<&str> = EASY.into_iter().chain(own).chain(types).collect();
        let server = ServerProcess::start(&settings)?;
        let ada = Guest::join(&server, "Ada").await?;
        let refused = async |sharing: Sharing| {
            ada.client.assets().share(&sharing, |_, _| {}).await.map_err(|error| match error {
                AssetError::Refused(why) => why,
                other @ (AssetError::Withheld
                | AssetError::Corrupt
                | AssetError::Protocol(_)
                | AssetError::Lost(_)) => panic!("{other}"),
            })
        };
        let all = AssetAudience::Everyone;
        let long = sharing(&noise(1_048_577, 6), all.clone(), 0)?;
        assert_eq!(refused(long).await, Err(AssetWhy::Length { max: 1_048_576 }));
        let text = Sharing::new(b"hi".as_slice(), ("text/plain", "hi.txt"), all.clone(), 0)?;
        assert_eq!(refused(text).await, Err(AssetWhy::Media));
        let until = refused(sharing(&noise(1_000_000, 7), all.clone(), 0)?).await;
        let hour = unix_s() + 3_600;
        assert!(until.is_ok_and(|until| (hour - 60..=hour).contains(&until)), "{until:?}");
        let more = sharing(&noise(100_000, 8), all.clone(), 0)?;
        let quota = AssetWhy::Quota { bytes_left: 48_576, assets_left: 1 };
        assert_eq!(refused(more).await, Err(quota));
        assert!(refused(sharing(b"a", all.clone(), 0)?).await.is_ok());
        let third = refused(sharing(b"b", all.clone(), 0)?).await;
        assert_eq!(third, Err(AssetWhy::Quota { bytes_left: 48_575, assets_left: 0 }));
        // What nobody can send is not even asked for.
        assert!(Sharing::new(b"".as_slice(), ("image/png", "no.png"), all.clone(), 0).is_err());

        server.ask(&["player", "mute", &ada.person().to_string()])?;
        assert_eq!(refused(sharing(b"a", all, 0)?).await, Err(AssetWhy::Muted));
        Ok(())
    })
}

#[test]
fn visitors_fetch_and_do_not_share() -> Result<()> {
    run(async {
        let settings: Vec<&str> =
            EASY.into_iter().chain(["admission.role_default=visitor"]).collect();
        let server = ServerProcess::start(&settings)?;
        let ada = Guest::join(&server, "Ada").await?;
        let sharing = sharing(b"a", AssetAudience::Everyone, 0)?;
        let shared = ada.client.assets().share(&sharing, |_, _| {}).await;
        assert_eq!(shared, Err(AssetError::Refused(AssetWhy::Forbidden)));
        let book = fetch(&ada, RuleBook::starter().hash()).await?;
        assert_eq!((book.media.as_str(), book.until), (RULES_MEDIA, None));
        assert_eq!(RuleBook::from_archive(&book.bytes)?, RuleBook::starter());
        Ok(())
    })
}

#[test]
fn what_is_over_is_given_to_nobody() -> Result<()> {
    run(async {
        let server = server()?;
        let ada = Guest::join(&server, "Ada").await?;
        let sharing = sharing(b"for a moment", AssetAudience::Everyone, 2)?;
        let until = ada.client.assets().share(&sharing, |_, _| {}).await?;
        let mut found = 0;
        loop {
            let before = unix_s();
            match fetch(&ada, sharing.offer.hash).await {
                Ok(_) => assert!(before < until, "given {} s too late", before - until),
                Err(AssetError::Withheld) => break,
                Err(
                    other @ (AssetError::Refused(_)
                    | AssetError::Corrupt
                    | AssetError::Protocol(_)
                    | AssetError::Lost(_)),
                ) => bail!(other),
            }
            found += 1;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(until <= unix_s() && found < 100, "{found}");
        Ok(())
    })
}

#[test]
fn promises_and_rubbish_cost_next_to_nothing_and_end() -> Result<()> {
    run(async {
        let server = server()?;
        let raw = Raw::enter(&server).await?;
        let promise = OfferAsset { length: ASSET_BYTES_MAX, ..offer(b"much") };
        let mut silent = Stream::open(&raw, &promise.into()).await?;
        assert_eq!(silent.reply().await?, AssetWanted { from: 0 }.into());
        // Three more streams that say nothing: no further one can be opened.
        let mut mute = Vec::new();
        for _ in 0..3 {
            let (mut send, receive) = raw.connection().open_bi().await?;
            send.write_all(&[0x20]).await?;
            mute.push((send, receive));
        }
        let fifth = tokio::time::timeout(Duration::from_millis(500), raw.connection().open_bi());
        assert!(fifth.await.is_err(), "a fifth stream");
        // The server ends all of them by itself.
        let short = AssetRefused { why: AssetWhy::Short { got: 0 } };
        assert_eq!(silent.reply().await?, short.into());
        for (_, mut receive) in mute {
            let ended = tokio::time::timeout(IDLE, receive.read_to_end(1_000)).await;
            assert!(ended.context("a mute stream stands")?.is_ok_and(|bytes| bytes.is_empty()));
        }
        // Rubbish ends the connection, with what was wrong.
        let (mut send, _receive) = raw.connection().open_bi().await?;
        send.write_all(&[0x20, 0x80, 0x03, 1, 2, 3]).await?;
        let (code, why) = raw.closed().await?;
        assert_eq!(code, Some(CloseCode::Protocol));
        assert!(why.contains("0x8020 has a malformed body of 3 bytes"), "{why}");
        let ada = Guest::join(&server, "Ada").await?;
        share(&ada, b"fine", AssetAudience::Everyone).await?;
        Ok(())
    })
}

/// Fetches handed out at once, and of one client.
const TURNS: (usize, usize) = (16, 2);

#[test]
fn the_rules_take_no_turn_from_those_who_come_in() -> Result<()> {
    run(async {
        let server = server()?;
        let ada = Guest::join(&server, "Ada").await?;
        let hash = share(&ada, &noise(8_000_000, 9), AssetAudience::Everyone).await?;
        let request = || AssetRequest::from(FetchAsset { hash, offset: 0 });
        let mut clients = Vec::new();
        for _ in 0..=TURNS.0 / TURNS.1 {
            clients.push(Raw::enter(&server).await?);
        }
        let [newcomer, slow @ ..] = clients.as_slice() else { bail!("some clients") };
        // They take the head of what they fetch, and then nothing.
        let mut held = Vec::new();
        for raw in slow.iter().flat_map(|raw| vec![raw; TURNS.1]) {
            let mut stream = Stream::open(raw, &request()).await?;
            let found = stream.reply().await?;
            assert!(matches!(found, AssetReply::AssetFound(_)), "{found:?}");
            held.push(stream);
        }
        let mut waiting = Stream::open(newcomer, &request()).await?;
        let rules = RuleBook::starter().hash();
        let request = FetchAsset { hash: rules, offset: 0 }.into();
        let mut fetching = Stream::open(newcomer, &request).await?;
        tokio::select! {
            found = fetching.reply() => {
                let found = found?;
                assert!(matches!(found, AssetReply::AssetFound(_)), "{found:?}");
            }
            reply = waiting.reply() => bail!("there was a turn left: {reply:?}"),
        }
        Ok(())
    })
}

const fn is_busy(why: AssetWhy) -> bool {
    matches!(why, AssetWhy::TooMany { .. })
}

#[test]
fn operators_see_and_remove_what_people_share() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben) = (Guest::join(&server, "Ada").await?, Guest::join(&server, "Ben").await?);
        assert_eq!(server.ask(&["asset", "list"])?, "nobody shares anything\n");
        let hash = share(&ada, b"a hat", AssetAudience::Everyone).await?;
        share(&ben, b"a hat", AssetAudience::Owner).await?;
        let list = server.ask(&["asset", "list"])?;
        assert_eq!(list.matches(&hash.to_string()).count(), 2, "{list}");
        assert!(list.contains("image/png") && list.contains("everyone"), "{list}");
        let of_ada = ada.person().to_string();
        server.ask(&["asset", "remove", &hash.to_string(), "--owner", &of_ada])?;
        assert_eq!(fetch(&ada, hash).await, Err(AssetError::Withheld));
        assert!(fetch(&ben, hash).await.is_ok());
        server.ask(&["asset", "remove", &hash.to_string()])?;
        assert_eq!(fetch(&ben, hash).await, Err(AssetError::Withheld));
        let again = server.command(&["asset", "remove", &hash.to_string()])?;
        assert!(!again.status.success());
        Ok(())
    })
}

/// Gives a server's world rules of its own: the starter's with another kind.
fn write_rules(server: &ServerProcess, kind: &str) -> Result<RuleBook> {
    let text = format!(
        "{}\n[[kind]]\nid = 999\nname = \"{kind}\"\nportable = true\n",
        RuleBook::starter_text()
    );
    std::fs::write(server.world().join("rules.toml"), &text)?;
    let manifest = server.world().join("world.toml");
    let world = std::fs::read_to_string(&manifest)?;
    std::fs::write(&manifest, world.replace("\"starter\"", "\"rules.toml\""))?;
    Ok(RuleBook::parse(&text)?)
}

#[test]
fn a_world_with_rules_of_its_own_hands_them_out() -> Result<()> {
    run(async {
        let mut server = server()?;
        let me = options(&server, "Ada")?;
        let ada = Guest::enter(&server, me.clone()).await?;
        assert!(ada.kind("orrery").is_err());
        server.stop()?;
        let book = write_rules(&server, "orrery")?;
        server.restart()?;
        // One who was there before learns the rules anew as they come back.
        let known = |view: &protocol::io::View| {
            (view.book.hash() == book.hash()).then(|| Arc::clone(&view.book))
        };
        let learned = ada.until_patiently("the new rules", known).await?;
        assert_eq!(*learned, book);
        let ben = Guest::join(&server, "Ben").await?;
        assert_eq!(ben.kind("orrery")?, protocol::rules::KindId(999));
        Ok(())
    })
}

#[test]
fn a_client_that_cannot_have_the_rules_says_so() -> Result<()> {
    run(async {
        let mut server = server()?;
        server.stop()?;
        let book = write_rules(&server, "orrery")?;
        server.restart()?;
        // A client without assets is let in, and has to know the rules from elsewhere.
        let settings = ConnectOptions { reconnects: false, ..options(&server, "Ada")? };
        let settings = ConnectOptions { features: Some(1), ..settings };
        let error = tokio::time::timeout(PATIENCE, refused(settings)).await??;
        let ConnectError::Rules { hash, ref why } = error else { bail!("{error}") };
        assert_eq!((hash, why.as_str()), (book.hash(), "the server hands out no assets"));
        let told = error.to_string();
        assert!(told.starts_with("the world has rules of its own ("), "{told}");
        Ok(())
    })
}
