//! What two people do in a world, and what they may not.

use anyhow::Result;
use protocol::close::CloseCode;
use protocol::io::{Client, ConnectOptions};
use protocol::message::client::Degree;
use protocol::message::common::Audience;
use protocol::rules::{Act, Args, Emote, Lot, Portion, RuleBook, Verb, Why};
use protocol::session::{Answer, Outcome};
use protocol::units::Position;
use tests::guest::{Guest, options, run};

use super::server;

fn place(east_m: i32, south_m: i32) -> Position {
    Position::new(east_m * 100, 0, south_m * 100)
}

#[test]
fn people_see_each_other_walk_and_hear_each_other_talk() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben) = (Guest::join(&server, "Ada").await?, Guest::join(&server, "Ben").await?);
        // Newcomers stand anywhere around the well.
        ada.go_to(place(-7, 5), 60).await?;
        ben.sees("Ada").await?;
        let before = ada.position();
        ada.go_to(place(4, -3), 60).await?;
        let at = ada.position();
        let has_come = |view: &protocol::io::View| {
            let (_, state) = view.replica.named("Ada")?.newest();
            (state.position.is_within(at, 30) && state.velocity == [0; 3]).then_some(())
        };
        ben.until("Ada where she says she is", has_come).await?;
        assert!(!before.is_within(at, 200), "she walked");

        assert!(matches!(ada.say(Audience::Nearby, "good day").await?, Answer::Done { .. }));
        ben.hears("good day").await?;
        ada.hears("good day").await?;

        // A whisper carries three metres, and Ben is farther off.
        ben.go_to(place(-4, 3), 60).await?;
        ada.say(Audience::Whisper, "come closer").await?;
        let to_ben = Audience::Person(ben.person());
        ada.say(to_ben, "for you alone").await?;
        ben.hears("for you alone").await?;
        assert!(!ben.heard("come closer"), "words come in order, so this one did not come");
        ben.go_to(ada.position(), 150).await?;
        ada.say(Audience::Whisper, "psst").await?;
        ben.hears("psst").await?;

        let channel = || Audience::Channel("gardeners".into());
        assert_eq!(ada.say(channel(), "hm").await?, Answer::Refused(Why::Forbidden));
        ada.client.tune("gardeners", true)?;
        ben.client.tune("gardeners", true)?;
        // The answer to a later request shows that the earlier message was heard.
        ben.does(Act::new(Verb::Emote).with(Args::Emote(Emote::Wave))).await?;
        ada.say(channel(), "roses are out").await?;
        ben.hears("roses are out").await?;
        assert!(matches!(ada.client.leave().await, Outcome::Left));
        ben.until("Ada to be gone", |view| view.replica.named("Ada").is_none().then_some(()))
            .await?;
        Ok(())
    })
}

#[test]
fn one_who_is_muted_is_not_heard_and_one_who_is_blocked_is_not_seen() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben) = (Guest::join(&server, "Ada").await?, Guest::join(&server, "Ben").await?);
        let person = ben.person_named("Ada").await?;
        assert_eq!(person, ada.person());
        ben.client.ignore(person, Degree::Mute)?;
        ben.does(Act::new(Verb::Emote).with(Args::Emote(Emote::Wave))).await?;
        ada.say(Audience::Nearby, "can you hear me").await?;
        let direct = ada.say(Audience::Person(ben.person()), "hello").await?;
        assert_eq!(direct, Answer::Refused(Why::NotThere), "as if he were away");
        ben.client.ignore(person, Degree::None)?;
        ben.does(Act::new(Verb::Emote).with(Args::Emote(Emote::Wave))).await?;
        ada.say(Audience::Nearby, "and now").await?;
        ben.hears("and now").await?;
        assert!(!ben.heard("can you hear me"));

        ben.client.ignore(person, Degree::Block)?;
        let gone = |name: &'static str| {
            move |view: &protocol::io::View| view.replica.named(name).is_none().then_some(())
        };
        ben.until("Ada to be hidden", gone("Ada")).await?;
        ada.until("Ben to be hidden", gone("Ben")).await?;
        ben.client.ignore(person, Degree::None)?;
        ben.sees("Ada").await?;
        ada.sees("Ben").await?;
        Ok(())
    })
}

#[test]
fn things_are_taken_gathered_made_given_and_traded() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben) = (Guest::join(&server, "Ada").await?, Guest::join(&server, "Ben").await?);
        let (cup, at) = ada.nearest("cup").await?;
        ada.go_to(at, 150).await?;
        ada.does(Act::on(Verb::Take, cup).with(Args::Count(1))).await?;
        ada.held("cup").await?;
        let (well, at) = ada.nearest("well").await?;
        ada.go_to(at, 220).await?;
        ada.does(Act::on(Verb::Use, well)).await?;
        ada.held("cup of water").await?;
        ada.without("cup").await?;

        let (patch, at) = ben.nearest("flower patch").await?;
        ben.go_to(at, 150).await?;
        ben.does(Act::on(Verb::Gather, patch)).await?;
        let flower = ben.held("flower").await?;
        assert_eq!(flower.count, 1);

        ben.go_to(ada.position(), 150).await?;
        let give = Args::Moved { thing: flower.id, count: 1 };
        ben.does(Act::on(Verb::Give, ada.avatar()).with(give)).await?;
        let flower = ada.held("flower").await?;
        ben.without("flower").await?;

        // Ben has an axe and wants the flower for it.
        let water = ada.held("cup of water").await?;
        let deal = Args::Deal {
            give: vec![Portion { thing: flower.id, count: 1 }],
            want: vec![Lot { kind: ben.kind("bucket")?, count: 1 }],
        };
        ada.does(Act::on(Verb::Offer, ben.avatar()).with(deal)).await?;
        let offer = ben
            .until("an offer", |view| view.replica.log().offers.front().map(|offer| offer.id))
            .await?;
        let accept = Act::new(Verb::Accept).with(Args::Offer(offer));
        assert!(matches!(ben.cannot(accept.clone()).await?, Why::Missing { count: 1, .. }));
        let (bucket, at) = ben.nearest("bucket").await?;
        ben.go_to(at, 150).await?;
        ben.does(Act::on(Verb::Take, bucket).with(Args::Count(1))).await?;
        ben.held("bucket").await?;
        ben.go_to(ada.position(), 200).await?;
        ben.does(accept.clone()).await?;
        ben.held("flower").await?;
        ada.held("bucket").await?;
        ada.without("flower").await?;
        ben.without("bucket").await?;
        assert_eq!(ben.cannot(accept).await?, Why::NoSuchOffer, "a trade happens once");
        ada.does(Act::on(Verb::Drop, water.id)).await?;
        ada.without("cup of water").await?;
        ben.nearest("cup of water").await?;
        Ok(())
    })
}

#[test]
fn a_wreath_is_made_by_hand_of_what_was_gathered() -> Result<()> {
    run(async {
        let server = server()?;
        let ada = Guest::join(&server, "Ada").await?;
        for (kind, times) in [("flower patch", 4), ("flower patch", 1), ("tall grass", 1)] {
            gather(&ada, kind, times).await?;
        }
        let recipe = RuleBook::starter().recipe_named("wreath").expect("in the book").id;
        ada.does(Act::new(Verb::Make).with(Args::Recipe(recipe))).await?;
        ada.held("wreath").await?;
        ada.without("flower").await?;
        Ok(())
    })
}

/// Gathers from the nearest thing of a kind that has something left.
async fn gather(guest: &Guest, kind: &str, times: u32) -> Result<()> {
    let wanted = guest.kind(kind)?;
    let mut spent = Vec::new();
    let mut done = 0;
    while done < times {
        let is_next = |entity: &&protocol::replica::Entity| match entity.being {
            protocol::message::server::Being::Thing { kind, .. } => {
                kind == wanted && !spent.contains(&entity.id)
            }
            protocol::message::server::Being::Avatar { .. } => false,
        };
        let found = guest
            .until(kind, |view| {
                let found = view.replica.nearest(is_next)?;
                Some((found.id, found.newest().1.position))
            })
            .await?;
        guest.go_to(found.1, 150).await?;
        match guest.act(Act::on(Verb::Gather, found.0)).await? {
            Answer::Done { .. } => done += 1,
            Answer::Refused(Why::Spent { .. }) => spent.push(found.0),
            answer @ (Answer::Refused(_) | Answer::Unknown) => anyhow::bail!("{kind}: {answer:?}"),
        }
    }
    Ok(())
}

#[test]
fn the_board_is_read_and_a_door_is_opened_for_all_to_see() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben) = (Guest::join(&server, "Ada").await?, Guest::join(&server, "Ben").await?);
        let (board, at) = ada.nearest("notice board").await?;
        ada.go_to(place(-5, 7), 100).await?;
        let why = ada.cannot(Act::on(Verb::Read, board)).await?;
        assert!(matches!(why, Why::TooFar { reach_cm: 400, .. }), "{why:?}");
        ada.go_to(at, 300).await?;
        let text = ada.does(Act::on(Verb::Read, board)).await?.unwrap_or_default();
        assert!(text.contains("Welcome! Draw water at the well"), "{text}");

        let (door, at) = ben.nearest("door").await?;
        let is_open = |view: &protocol::io::View| {
            let state = view.replica.entity(door)?.newest().1;
            (state.flags & protocol::state::flags::OPEN != 0).then_some(())
        };
        ben.go_to(at, 180).await?;
        ben.does(Act::on(Verb::Open, door)).await?;
        ben.until("the door open", is_open).await?;
        ada.until("the door open", is_open).await?;
        assert_eq!(ben.cannot(Act::on(Verb::Open, door)).await?, Why::Already);
        Ok(())
    })
}

#[test]
fn whoever_comes_back_is_who_they_were_where_they_were_with_what_they_had() -> Result<()> {
    run(async {
        let server = server()?;
        let me = options(&server, "Ada")?;
        let ada = Guest::enter(&server, me.clone()).await?;
        let (person, avatar) = (ada.person(), ada.avatar());
        let (cup, at) = ada.nearest("cup").await?;
        ada.go_to(at, 150).await?;
        ada.does(Act::on(Verb::Take, cup).with(Args::Count(1))).await?;
        let cup = ada.held("cup").await?;
        ada.go_to(place(6, 3), 60).await?;
        let at = ada.position();
        // Where she stands is looked at four times a second.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(ada.client.leave().await, Outcome::Left);

        let ada = Guest::enter(&server, me).await?;
        assert_eq!((ada.person(), ada.avatar()), (person, avatar));
        assert!(ada.position().is_within(at, 50), "{:?} is not {at:?}", ada.position());
        assert_eq!(ada.held("cup").await?.id, cup.id);
        Ok(())
    })
}

#[test]
fn what_cannot_be_done_is_refused_and_says_why() -> Result<()> {
    run(async {
        let server = server()?;
        let (ada, ben) = (Guest::join(&server, "Ada").await?, Guest::join(&server, "Ben").await?);
        let (axe, _) = ada.nearest("axe").await?;
        let (well, at) = ada.nearest("well").await?;
        ben.sees("Ada").await?;
        let why = ada.cannot(Act::on(Verb::Take, axe)).await?;
        assert!(matches!(why, Why::TooFar { reach_cm: 250, .. }), "{why:?}");
        assert_eq!(ada.cannot(Act::new(Verb::Take)).await?, Why::NoTarget);
        assert_eq!(ada.cannot(Act::new(Verb::Accept)).await?, Why::BadArgs);
        let nothing = Act::on(Verb::Take, protocol::ids::EntityId(12_345));
        assert_eq!(ada.cannot(nothing).await?, Why::NotThere);
        ada.go_to(ben.position(), 150).await?;
        let give = Args::Moved { thing: axe, count: 1 };
        let why = ada.cannot(Act::on(Verb::Give, ben.avatar()).with(give)).await?;
        assert!(matches!(why, Why::NotHolding { held: 0 }), "{why:?}");

        ada.go_to(at, 200).await?;
        assert_eq!(ada.cannot(Act::on(Verb::Take, well)).await?, Why::NotPortable);

        let name = ada.client.look(|view| view.welcome.person.to_string());
        server.ask(&["player", "mute", &name, "--for", "1h"])?;
        let said = ada.say(Audience::Nearby, "but").await?;
        assert_eq!(said, Answer::Refused(Why::Muted));
        server.ask(&["player", "unmute", &name])?;
        assert!(matches!(ada.say(Audience::Nearby, "at last").await?, Answer::Done { .. }));
        ben.hears("at last").await?;
        Ok(())
    })
}

#[test]
fn who_talks_or_asks_too_fast_is_slowed_down_and_told_so() -> Result<()> {
    run(async {
        let server = tests::process::ServerProcess::start(&[])?;
        let ada = Guest::join(&server, "Ada").await?;
        let mut refused = 0;
        for _ in 0..8 {
            match ada.say(Audience::Nearby, "again").await? {
                Answer::Done { .. } => {}
                Answer::Refused(Why::TooMany { retry_ms }) => {
                    assert!((1..=1_000).contains(&retry_ms), "{retry_ms}");
                    refused += 1;
                }
                answer @ (Answer::Refused(_) | Answer::Unknown) => anyhow::bail!("{answer:?}"),
            }
        }
        assert!((1..=3).contains(&refused), "{refused} of 8, and 5 are free at once");
        Ok(())
    })
}

#[test]
fn a_second_connection_of_the_same_person_replaces_the_first() -> Result<()> {
    run(async {
        let server = server()?;
        let me = ConnectOptions { reconnects: false, ..options(&server, "Ada")? };
        let mut first = Guest::enter(&server, me.clone()).await?;
        let second = Guest::enter(&server, me).await?;
        assert_eq!(second.avatar(), first.avatar());
        let outcome = first.ends().await?;
        let is_replaced = matches!(
            &outcome,
            Outcome::Refused { code: CloseCode::Replaced, why, .. }
                if why == "the same person came in from elsewhere"
        );
        assert!(is_replaced, "{outcome:?}");
        assert!(second.client.look(|view| view.session.is_in()));
        let client: Client = second.client;
        assert_eq!(client.leave().await, Outcome::Left);
        Ok(())
    })
}
