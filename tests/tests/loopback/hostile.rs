//! Clients that break the protocol: each is told how and put out, and nobody else notices.

use anyhow::{Context, Result};
use protocol::close::CloseCode;
use protocol::frame;
use protocol::io::connection::close_of;
use protocol::message::client::{Do, Wear};
use protocol::message::common::{Appearance, Audience};
use protocol::message::{ClientMessage, ServerMessage};
use protocol::rules::{Act, Verb, Why};
use protocol::session::Answer;
use protocol::utterance::Utterance;
use tests::guest::{Guest, run};
use tests::process::ServerProcess;
use tests::siege::raw::{Raw, bytes_of, connect, hello};

use super::{EASY, server};

/// Words said at once: fewer than may wait for an answer.
const BREATH: usize = 50;

/// Something that is refused whatever the world is like.
fn act(request: u32) -> ClientMessage {
    Do { request, act: Act::new(Verb::Take) }.into()
}

fn framed(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(kind, body, &mut bytes);
    bytes
}

/// A frame's header that promises so many bytes.
fn header(kind: u16, length: usize) -> Vec<u8> {
    framed(kind, &vec![0; length]).drain(..2 + 3).collect()
}

/// Checks that somebody else can still act and speak.
async fn check_goes_on(witness: &Guest, server: &mut ServerProcess) -> Result<()> {
    assert!(server.is_running(), "the server died:\n{}", server.log());
    assert_eq!(witness.cannot(Act::new(Verb::Take)).await?, Why::NoTarget);
    assert!(matches!(witness.say(Audience::Nearby, "fine").await?, Answer::Done { .. }));
    Ok(())
}

#[test]
fn what_breaks_the_protocol_is_answered_with_a_code_and_the_reason() -> Result<()> {
    run(async {
        let mut server = server()?;
        let witness = Guest::join(&server, "Ben").await?;
        let cases: [(&str, bool, Vec<u8>, &str); 9] = [
            ("an act before hello", false, bytes_of(&act(1)), "expected Hello first, got Do"),
            (
                "a hello too long",
                false,
                header(0x8001, 20_000),
                "frame of kind 0x8001 says it is 20000 bytes long, at most 8192 allowed",
            ),
            (
                "a length without end",
                false,
                vec![1, 0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
                "frame of kind 0x8001 has a length of more than four bytes",
            ),
            (
                "a hello of rubbish",
                false,
                framed(0x8001, &[0xAA; 100]),
                "message of kind 0x8001 has a malformed body of 100 bytes",
            ),
            (
                "an unknown kind that must be known",
                true,
                framed(0x8FFF, b"new"),
                "message of kind 0x8fff is required but unknown to this version",
            ),
            (
                "a message too long",
                true,
                header(0x8004, 70_000),
                "frame of kind 0x8004 says it is 70000 bytes long, at most 65536 allowed",
            ),
            (
                "an act of rubbish",
                true,
                framed(0x8002, &[0xFF; 64]),
                "message of kind 0x8002 has a malformed body of 64 bytes",
            ),
            ("a second hello", true, bytes_of(&hello()), "hello was said already"),
            (
                "looks beyond the bound",
                true,
                bytes_of(&ClientMessage::from(Wear {
                    appearance: Appearance { recipe: vec![0; 257], ..Appearance::default() },
                })),
                "an appearance recipe has 256 bytes at most",
            ),
        ];
        for (case, is_in, bytes, why) in cases {
            let mut raw =
                if is_in { Raw::enter(&server).await? } else { Raw::open(&server).await? };
            raw.write(&bytes).await?;
            let closed = raw.closed().await?;
            assert_eq!(closed, (Some(CloseCode::Protocol), why.to_owned()), "{case}");
        }
        check_goes_on(&witness, &mut server).await
    })
}

#[test]
fn an_unknown_kind_that_may_be_skipped_is_skipped() -> Result<()> {
    run(async {
        let server = server()?;
        let mut raw = Raw::open(&server).await?;
        raw.write(&[framed(0x0FFF, b"from the future"), bytes_of(&hello())].concat()).await?;
        raw.until_welcome().await?;
        raw.write(&[framed(0x0FFE, b""), bytes_of(&act(7)), bytes_of(&act(7))].concat()).await?;
        let mut refusals = Vec::new();
        while refusals.len() < 2 {
            if let ServerMessage::Refused(refused) = raw.next().await? {
                refusals.push((refused.request, refused.why));
            }
        }
        let expected = [(7, Why::OutOfOrder), (7, Why::NoTarget)];
        refusals.sort_by_key(|(_, why)| *why != Why::OutOfOrder);
        assert_eq!(refusals, expected, "a number is used once");
        Ok(())
    })
}

#[test]
fn rubbish_datagrams_are_ignored_and_hurt_nobody() -> Result<()> {
    run(async {
        let mut server = server()?;
        let witness = Guest::join(&server, "Ben").await?;
        let mut raw = Raw::enter(&server).await?;
        let mut seed = 1_u32;
        for length in (0..1_100).step_by(3) {
            let rubbish: Vec<u8> = (0..length)
                .map(|at| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if at == 0 { 0x80 } else { seed.to_le_bytes()[3] }
                })
                .collect();
            raw.connection().send_datagram(rubbish.into())?;
            tokio::task::yield_now().await;
        }
        raw.write(&bytes_of(&act(1))).await?;
        while !matches!(raw.next().await?, ServerMessage::Refused(_)) {}
        check_goes_on(&witness, &mut server).await
    })
}

#[test]
fn another_version_of_the_protocol_is_not_spoken() -> Result<()> {
    run(async {
        let server = server()?;
        let error =
            connect((&server).into(), b"ecumene/99", 65_536).await.err().context("connected")?;
        let error = error.downcast::<quinn::ConnectionError>()?;
        let (_, why) = close_of(&error);
        let expected = "the server speaks another version of the protocol than `ecumene/1`; use \
                        a client and a server of the same version";
        assert_eq!(why, expected);
        Ok(())
    })
}

#[test]
fn one_who_says_nothing_is_not_waited_for() -> Result<()> {
    run(async {
        let server = server()?;
        let raw = Raw::open(&server).await?;
        let closed = raw.closed().await?;
        assert_eq!(closed, (Some(CloseCode::Protocol), "no hello within 5 s".to_owned()));
        Ok(())
    })
}

#[test]
fn one_who_ends_the_control_stream_keeps_no_connection() -> Result<()> {
    run(async {
        let server = server()?;
        let mut raw = Raw::enter(&server).await?;
        raw.finish();
        let closed = raw.closed().await?;
        assert_eq!(closed, (Some(CloseCode::Goodbye), "the control stream ended".to_owned()));
        Ok(())
    })
}

#[test]
fn one_who_does_not_read_is_put_out_and_one_who_shouts_too() -> Result<()> {
    run(async {
        let fast = ["admission.messages_per_s=10000", "admission.messages_burst=10000"];
        let mut server = ServerProcess::start(&[EASY.as_slice(), &fast].concat())?;
        let witness = Guest::join(&server, "Ben").await?;
        let mut deaf = Raw::open_with(&server, 2_048).await?;
        deaf.write(&bytes_of(&hello())).await?;
        let mut said = 0;
        while deaf.connection().close_reason().is_none() && said < 2_000 {
            let words = || Utterance::plain("blah ".repeat(40));
            let answers: Vec<_> = (0..BREATH)
                .map(|_| witness.client.begin_say(Audience::Nearby, words()))
                .collect::<std::result::Result<_, _>>()?;
            for (_, answer) in answers {
                answer.await?;
            }
            said += BREATH;
        }
        let closed = deaf.closed().await?;
        let why = "the client does not read what it is told".to_owned();
        assert_eq!(closed, (Some(CloseCode::Flooding), why), "after {said} words");
        check_goes_on(&witness, &mut server).await
    })
}

#[test]
fn a_flood_of_requests_is_refused_and_then_ended() -> Result<()> {
    run(async {
        let mut server = server()?;
        let witness = Guest::join(&server, "Ben").await?;
        let mut raw = Raw::enter(&server).await?;
        let flood: Vec<u8> = (1..1_000).flat_map(|request| bytes_of(&act(request))).collect();
        // The server may close while we still write.
        drop(raw.write(&flood).await);
        let closed = raw.closed().await?;
        let why = "too many messages in too short a time".to_owned();
        assert_eq!(closed, (Some(CloseCode::Flooding), why));
        check_goes_on(&witness, &mut server).await
    })
}
