//! Tables of good and bad lines.

use protocol::units::Yaw;

use super::*;

fn good(line: &str, expected: Command) {
    let parsed = parse_line(7, line);
    assert_eq!(parsed, Ok(Some(Line { number: 7, command: expected })), "{line}");
}

fn bad(line: &str, expected: &str) {
    let error = parse_line(7, line).expect_err(line).to_string();
    assert!(error.starts_with("line 7: "), "{error}");
    assert!(error.contains(expected), "{line}: {error}");
}

fn act(verb: Verb, count: u32, thing: &str) -> Command {
    Command::Act { verb, thing: thing.to_owned(), count }
}

#[test]
fn lines_that_move() {
    let point = Destination::Point { x: 1_250, z: -300 };
    good("walk to 12.5 -3", Command::Go { to: point, run: false });
    good("RUN to 12.5m -3m", Command::Go { to: point, run: true });
    let way = Destination::Way { heading: Yaw::NORTH, cm: 1_000 };
    good("walk north 10m", Command::Go { to: way, run: false });
    let way = Destination::Way { heading: Yaw(0xA000), cm: 50 };
    good("run SouthWest 0.5m", Command::Go { to: way, run: true });
    good("follow Ada", Command::Follow { name: "Ada".into(), for_ms: None });
    let follow = Command::Follow { name: "Ada L".into(), for_ms: Some(10_000) };
    good("follow \"Ada L\" for 10s", follow);
    good("face west", Command::Face(Facing::Heading(Yaw::WEST)));
    good("face Ada", Command::Face(Facing::Name("Ada".into())));
    good("jump", Command::Jump);
    good("stop # now", Command::Stop);
    good("wait 250ms", Command::Wait { ms: 250 });
    good("wait 2", Command::Wait { ms: 2_000 });
}

#[test]
fn lines_that_speak() {
    let speak = |to, text: &str| Command::Speak { to, text: text.to_owned() };
    good("say \"hello # there\"", speak(Listener::Nearby, "hello # there"));
    good("say \"a \\\"b\\\" \\\\\"", speak(Listener::Nearby, "a \"b\" \\"));
    good("whisper \"psst\"", speak(Listener::Whisper, "psst"));
    good("tell Ada \"hi\"", speak(Listener::Name("Ada".into()), "hi"));
    good("channel trade \"wood?\"", speak(Listener::Channel("trade".into()), "wood?"));
}

#[test]
fn lines_that_share() {
    let share = |with, for_ms| Command::Share { file: "a hat.glb".into(), with, for_ms };
    good("share \"a hat.glb\" with everyone", share(Readers::Everyone, None));
    good("share \"a hat.glb\" with ME for 60s", share(Readers::Me, Some(60_000)));
    let names = Readers::Names(vec!["Ada".into(), "for".into(), "p-1f".into()]);
    good("share \"a hat.glb\" with Ada \"for\" p-1f for 2s", share(names, Some(2_000)));
    let hash = ContentHash([0xAB; 32]);
    let digits = hash.to_string();
    good(&format!("fetch {digits} to hat.glb"), Command::Fetch { hash, file: "hat.glb".into() });
    good(&format!("unshare {digits}"), Command::Unshare { hash });
    bad("share hat.glb", "`with` is missing; the form is: share FILE with");
    bad("share hat.glb with", "everyone, me or a name is missing");
    bad("fetch abc to hat.glb", "`abc` is no hash: a hash is written as 64 hexadecimal digits");
    bad(&format!("fetch {digits}"), "`to` is missing");
}

#[test]
fn lines_that_act() {
    good("take NEAREST apple", act(Verb::Take, 1, "apple"));
    good("take 3 Apple", act(Verb::Take, 3, "apple"));
    good("drop 2 wood", act(Verb::Drop, 2, "wood"));
    good("use well", act(Verb::Use, 1, "well"));
    good("open door", act(Verb::Open, 1, "door"));
    good("gather tree", act(Verb::Gather, 1, "tree"));
    good("make plank", act(Verb::Make, 1, "plank"));
    good("build fence", act(Verb::Build, 1, "fence"));
    good("read board", act(Verb::Read, 1, "board"));
    good("give Ada 2 apple", Command::Give { name: "Ada".into(), thing: "apple".into(), count: 2 });
    good("greet Ada", Command::Greet { name: "Ada".into() });
    good("emote wave", Command::Emote { gesture: "wave".into() });
    let offer =
        Command::Offer { name: "Ada".into(), give: (2, "wood".into()), want: (1, "apple".into()) };
    good("offer Ada 2 wood for 1 apple", offer.clone());
    good("offer Ada 2 wood for apple", offer);
    good("accept", Command::Accept { name: None });
    good("accept Ada", Command::Accept { name: Some("Ada".into()) });
    good("decline", Command::Decline { name: None });
    good("look", Command::Look);
    good("leave", Command::Leave);
}

#[test]
fn lines_that_lend() {
    let lend = |to: &str, for_s| Command::Lend { to: to.into(), for_s };
    good("lend to Ben for 10m", lend("Ben", 600));
    good("LEND to p-1f FOR 90s", lend("p-1f", 90));
    good("lend to \"Ben L\" for 2d", lend("Ben L", 172_800));
    good("recall Ben", Command::Recall { from: "Ben".into() });
    good("lendings", Command::Lendings);
    bad("lend Ben for 10m", "`to` is missing; the form is: lend to NAME-OR-ID for 10m");
    bad("lend to Ben", "`for` is missing");
    for time in ["0s", "10", "1.5h", "91d", "99999999999999999999d", "forever"] {
        bad(&format!("lend to Ben for {time}"), &format!("`{time}` is no time up to 90d"));
    }
    bad("recall", "from whom is missing");
    bad("lendings Ben", "`Ben` is too much");
}

#[test]
fn lines_that_expect() {
    let expect = |what, within_ms| Command::Expect { what, within_ms };
    let heard = Expectation::Heard { text: "hello".into(), from: Some("Ada".into()) };
    good("expect heard \"hello\" from Ada within 9s", expect(heard, 9_000));
    let holding = Expectation::Holding { thing: "wood".into(), count: 2 };
    good("expect holding 2 wood", expect(holding, EXPECT_MS_DEFAULT));
    good("expect done", expect(Expectation::Done, EXPECT_MS_DEFAULT));
    good("expect refused within 500ms", expect(Expectation::Refused, 500));
    let sees = Expectation::Sees { name: "Ada".into() };
    good("expect sees Ada", expect(sees, EXPECT_MS_DEFAULT));
    let near = Expectation::NearPoint { x: 100, z: 200, cm: 150 };
    good("expect near 1 2 1.5m", expect(near, EXPECT_MS_DEFAULT));
    let near = Expectation::NearName { name: "Ada".into(), cm: 200 };
    good("expect near Ada 2m", expect(near, EXPECT_MS_DEFAULT));
    let offer = Expectation::Offer { from: Some("Ada".into()) };
    good("expect offer from Ada", expect(offer, EXPECT_MS_DEFAULT));
    let event = Expectation::Event { verb: "gather".into(), by: None };
    good("expect event gather within 0s", expect(event, 0));
}

#[test]
fn bad_lines_say_what_would_be_right() {
    bad("wlak north 10m", "did you mean `walk`?");
    bad("dance", "known are: walk, run");
    bad("walk", "`to` or a direction is missing; the form is: walk to X Z");
    bad("walk nroth 10m", "`nroth` is no direction; did you mean `north`?");
    bad("walk to 1", "Z in metres is missing");
    bad("walk to x 1", "`x` is no number of metres");
    bad("walk to inf 1", "`inf` is no number of metres");
    bad("walk to 1e12 1", "`1e12` is no number of metres");
    bad("wait", "a time such as 2s is missing");
    bad("wait -1s", "`-1s` is no time of 0 to 3600 seconds");
    bad("wait 2h", "`2h` is no time");
    bad("wait NaN", "`NaN` is no time");
    bad("say hello", "put the text in quotes: \"hello ...\"");
    bad("say \"hello", "the quote is not closed");
    bad("say \"a\\n\"", "after \\ comes");
    bad("say \" \"", "the text is empty");
    bad("take 0 apple", "`0` is no number of things");
    bad("take 99999999 apple", "`99999999` is no number of things");
    bad("take", "a thing is missing");
    bad("offer Ada 2 wood 1 apple", "`for` is missing; the form is: offer NAME N THING for");
    bad("jump high", "`high` is too much; the form is: jump");
    bad("expect", "what to expect is missing");
    bad("expect herd \"x\"", "cannot expect `herd`; did you mean `heard`?");
    bad("expect near 1 2 -3m", "a distance is not below zero");
    bad(&"x".repeat(LINE_CHARS_MAX + 1), "longer than 1024 characters");
}

#[test]
fn every_bad_line_is_reported_and_empty_ones_are_skipped() {
    let errors = parse("walk\n\n# fine\nsay\nlook").expect_err("two bad lines");
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 4]);
    let lines = parse("\n  look\n# no\nleave").expect("fine");
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 4]);
    assert!(parse(&"x".repeat(SCRIPT_BYTES_MAX + 1)).is_err());
}

#[test]
fn every_command_of_the_table_is_known() {
    for (name, ..) in COMMANDS {
        let complaint = parse_line(1, name).err().map(|error| error.why).unwrap_or_default();
        let known = !complaint.contains("unknown") && !complaint.contains("cannot be carried out");
        assert!(known, "{complaint}");
    }
    for (name, form) in EXPECTATIONS {
        assert!(form.starts_with(&format!("expect {name}")), "{form}");
    }
}

#[test]
fn headings_are_the_ones_of_the_world() {
    let way = |line: &str| match parse_line(1, line) {
        Ok(Some(Line {
            command: Command::Go { to: Destination::Way { heading, .. }, .. },
            ..
        })) => heading.direction(),
        other => panic!("{other:?}"),
    };
    assert_eq!(way("walk north 1m"), (0, -32_767));
    assert_eq!(way("walk east 1m"), (32_767, 0));
    assert_eq!(way("walk south 1m").1, 32_767);
    assert_eq!(way("walk west 1m").0, -32_767);
}
