//! Reads the script language. Every complaint names the line, what is wrong and the right form.

use protocol::ids::{BadHash, ContentHash};
use protocol::units::Yaw;

use super::{
    COMMANDS, Command, Destination, EXPECT_MS_DEFAULT, EXPECTATIONS, Expectation, Facing,
    LEND_S_MAX, LINE_CHARS_MAX, Line, Listener, Readers, SCRIPT_BYTES_MAX, SECONDS_MAX, Verb,
};

/// The farthest a line may name, in metres: what a [`Position`](protocol::units::Position) holds.
const METRES_MAX: f64 = 20_000_000.0;

/// The most of one thing a line may name.
const COUNT_MAX: u32 = 1_000_000;

/// A line that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub why: String,
}

/// Returns the lines of a script that say something.
///
/// # Errors
/// Every bad line at once, in order.
pub fn parse(text: &str) -> Result<Vec<Line>, Vec<BadLine>> {
    if SCRIPT_BYTES_MAX < text.len() {
        let why = format!("the script is longer than {SCRIPT_BYTES_MAX} bytes");
        return Err(vec![BadLine { line: 1, why }]);
    }
    let (mut lines, mut bad) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        match parse_line(index + 1, line) {
            Ok(Some(line)) => lines.push(line),
            Ok(None) => {}
            Err(error) => bad.push(error),
        }
    }
    if bad.is_empty() { Ok(lines) } else { Err(bad) }
}

/// Returns what one line says, nothing for an empty line or a comment.
///
/// # Errors
/// [`BadLine`] with the right form.
pub fn parse_line(number: usize, line: &str) -> Result<Option<Line>, BadLine> {
    let said = words(line).and_then(|words| {
        let Some((first, rest)) = words.split_first() else { return Ok(None) };
        command(&first.text, rest).map(Some)
    });
    match said {
        Ok(command) => Ok(command.map(|command| Line { number, command })),
        Err(why) => Err(BadLine { line: number, why }),
    }
}

/// A word, and whether it stood in quotes.
#[derive(Clone, Debug)]
struct Word {
    text: String,
    quoted: bool,
}

fn words(line: &str) -> Result<Vec<Word>, String> {
    if LINE_CHARS_MAX < line.chars().count() {
        return Err(format!("longer than {LINE_CHARS_MAX} characters"));
    }
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => break,
            '"' => {
                let (text, after) = quoted(&rest[1..])?;
                words.push(Word { text, quoted: true });
                rest = after;
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (text, after) = rest.split_at(end);
                words.push(Word { text: text.to_owned(), quoted: false });
                rest = after;
            }
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

/// Splits a quoted text behind its opening quote: `\"` and `\\` stand for themselves.
fn quoted(rest: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut letters = rest.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((text, &rest[at + 1..])),
            '\\' => match letters.next() {
                Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                _ => return Err("after \\ comes \" or \\".to_owned()),
            },
            _ => text.push(letter),
        }
    }
    Err("the quote is not closed: put a \" at the end of the text".to_owned())
}

fn command(name: &str, rest: &[Word]) -> Result<Command, String> {
    let name = name.to_lowercase();
    let Some((_, form, _)) = COMMANDS.iter().find(|(known, ..)| *known == name) else {
        let known = COMMANDS.iter().map(|(known, ..)| *known);
        return Err(format!("unknown command `{name}`{}", suggestion(&name, known)));
    };
    let mut args = Args { rest, form };
    let command = arguments(&name, &mut args)?;
    args.end()?;
    Ok(command)
}

fn arguments(name: &str, args: &mut Args<'_>) -> Result<Command, String> {
    let spoken = |to, args: &mut Args<'_>| Ok(Command::Speak { to, text: args.text()? });
    let act = |verb, args: &mut Args<'_>| {
        let (count, thing) = args.amount()?;
        Ok(Command::Act { verb, thing, count })
    };
    match name {
        "walk" => Ok(Command::Go { to: destination(args)?, run: false }),
        "run" => Ok(Command::Go { to: destination(args)?, run: true }),
        "follow" => {
            let name = args.word("whom to follow")?;
            let for_ms = if args.take_word("for") { Some(args.duration_ms()?) } else { None };
            Ok(Command::Follow { name, for_ms })
        }
        "face" => {
            let word = args.word("a direction or a name")?;
            Ok(Command::Face(heading(&word).map_or(Facing::Name(word), Facing::Heading)))
        }
        "jump" => Ok(Command::Jump),
        "stop" => Ok(Command::Stop),
        "wait" => Ok(Command::Wait { ms: args.duration_ms()? }),
        "say" => spoken(Listener::Nearby, args),
        "whisper" => spoken(Listener::Whisper, args),
        "tell" => spoken(Listener::Name(args.word("whom to tell")?), args),
        "channel" => spoken(Listener::Channel(args.word("a channel")?), args),
        "take" => act(Verb::Take, args),
        "drop" => act(Verb::Drop, args),
        "use" => act(Verb::Use, args),
        "open" => act(Verb::Open, args),
        "gather" => act(Verb::Gather, args),
        "make" => act(Verb::Make, args),
        "build" => act(Verb::Build, args),
        "read" => act(Verb::Read, args),
        "give" => {
            let name = args.word("to whom")?;
            let (count, thing) = args.amount()?;
            Ok(Command::Give { name, thing, count })
        }
        "greet" => Ok(Command::Greet { name: args.word("whom to greet")? }),
        "emote" => Ok(Command::Emote { gesture: args.word("a gesture such as wave")? }),
        "offer" => {
            let name = args.word("to whom")?;
            let give = args.amount()?;
            args.need_word("for")?;
            Ok(Command::Offer { name, give, want: args.amount()? })
        }
        "accept" => Ok(Command::Accept { name: args.optional_word() }),
        "decline" => Ok(Command::Decline { name: args.optional_word() }),
        "lend" => {
            args.need_word("to")?;
            let to = args.word("to whom")?;
            args.need_word("for")?;
            Ok(Command::Lend { to, for_s: args.long_duration_s()? })
        }
        "recall" => Ok(Command::Recall { from: args.word("from whom")? }),
        "lendings" => Ok(Command::Lendings),
        "share" => share(args),
        "fetch" => {
            let hash = args.hash()?;
            args.need_word("to")?;
            Ok(Command::Fetch { hash, file: args.word("a file")? })
        }
        "unshare" => Ok(Command::Unshare { hash: args.hash()? }),
        "expect" => expectation(args),
        "look" => Ok(Command::Look),
        "leave" => Ok(Command::Leave),
        _ => Err(format!("`{name}` cannot be carried out")),
    }
}

fn share(args: &mut Args<'_>) -> Result<Command, String> {
    let file = args.word("a file")?;
    args.need_word("with")?;
    let with = if args.take_word("everyone") {
        Readers::Everyone
    } else if args.take_word("me") {
        Readers::Me
    } else {
        let mut names = vec![args.word("everyone, me or a name")?];
        while !args.next_is("for")
            && let Some(name) = args.optional_word()
        {
            names.push(name);
        }
        Readers::Names(names)
    };
    let for_ms = if args.take_word("for") { Some(args.duration_ms()?) } else { None };
    Ok(Command::Share { file, with, for_ms })
}

fn destination(args: &mut Args<'_>) -> Result<Destination, String> {
    if args.take_word("to") {
        let (x, z) = (args.metres_cm("X in metres")?, args.metres_cm("Z in metres")?);
        return Ok(Destination::Point { x, z });
    }
    let word = args.word("`to` or a direction")?;
    let Some(heading) = heading(&word) else {
        let known = DIRECTIONS.iter().map(|(known, _)| *known);
        let hint = suggestion(&word.to_lowercase(), known);
        return Err(args.wrong(&format!("`{word}` is no direction{hint}")));
    };
    Ok(Destination::Way { heading, cm: args.metres_cm("a distance such as 10m")? })
}

const DIRECTIONS: &[(&str, Yaw)] = &[
    ("north", Yaw::NORTH),
    ("northeast", Yaw(0x2000)),
    ("east", Yaw::EAST),
    ("southeast", Yaw(0x6000)),
    ("south", Yaw::SOUTH),
    ("southwest", Yaw(0xA000)),
    ("west", Yaw::WEST),
    ("northwest", Yaw(0xE000)),
];

fn heading(word: &str) -> Option<Yaw> {
    let word = word.to_lowercase();
    DIRECTIONS.iter().find(|(known, _)| *known == word).map(|&(_, yaw)| yaw)
}

fn expectation(args: &mut Args<'_>) -> Result<Command, String> {
    let word = args.word("what to expect")?.to_lowercase();
    let Some((_, form)) = EXPECTATIONS.iter().find(|(known, _)| *known == word) else {
        let known = EXPECTATIONS.iter().map(|(known, _)| *known);
        return Err(format!("cannot expect `{word}`{}", suggestion(&word, known)));
    };
    args.form = form;
    let what = match word.as_str() {
        "heard" => Expectation::Heard { text: args.text()?, from: args.optional_after("from")? },
        "holding" => {
            let (count, thing) = args.amount()?;
            Expectation::Holding { thing, count }
        }
        "done" => Expectation::Done,
        "refused" => Expectation::Refused,
        "sees" => Expectation::Sees { name: args.word("a name or a thing")? },
        "near" if args.next_is_number() => Expectation::NearPoint {
            x: args.metres_cm("X in metres")?,
            z: args.metres_cm("Z in metres")?,
            cm: args.reach_cm()?,
        },
        "near" => Expectation::NearName { name: args.word("a name")?, cm: args.reach_cm()? },
        "offer" => Expectation::Offer { from: args.optional_after("from")? },
        "event" => {
            Expectation::Event { verb: args.word("a verb")?, by: args.optional_after("by")? }
        }
        _ => return Err(format!("cannot expect `{word}`")),
    };
    let within = args.take_word("within");
    let within_ms = if within { args.duration_ms()? } else { EXPECT_MS_DEFAULT };
    Ok(Command::Expect { what, within_ms })
}

/// The words behind a command, taken one by one.
struct Args<'a> {
    rest: &'a [Word],
    form: &'static str,
}

impl Args<'_> {
    fn wrong(&self, why: &str) -> String {
        format!("{why}; the form is: {}", self.form)
    }

    fn next(&mut self, what: &str) -> Result<Word, String> {
        let Some((first, rest)) = self.rest.split_first() else {
            return Err(self.wrong(&format!("{what} is missing")));
        };
        self.rest = rest;
        Ok(first.clone())
    }

    fn word(&mut self, what: &str) -> Result<String, String> {
        self.next(what).map(|word| word.text)
    }

    fn optional_word(&mut self) -> Option<String> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first.text.clone())
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let Some((first, rest)) = self.rest.split_first() else { return false };
        let found = !first.quoted && first.text.eq_ignore_ascii_case(wanted);
        if found {
            self.rest = rest;
        }
        found
    }

    fn next_is(&self, wanted: &str) -> bool {
        let next = self.rest.first();
        next.is_some_and(|word| !word.quoted && word.text.eq_ignore_ascii_case(wanted))
    }

    fn hash(&mut self) -> Result<ContentHash, String> {
        let word = self.word("a hash")?;
        word.parse().map_err(|bad: BadHash| self.wrong(&format!("`{word}` is no hash: {bad}")))
    }

    fn need_word(&mut self, wanted: &str) -> Result<(), String> {
        if self.take_word(wanted) {
            return Ok(());
        }
        Err(self.wrong(&format!("`{wanted}` is missing")))
    }

    fn optional_after(&mut self, keyword: &str) -> Result<Option<String>, String> {
        if !self.take_word(keyword) {
            return Ok(None);
        }
        self.word("a name").map(Some)
    }

    fn next_is_number(&self) -> bool {
        self.rest.first().is_some_and(|word| !word.quoted && metres(&word.text).is_some())
    }

    fn text(&mut self) -> Result<String, String> {
        let word = self.next("a text in quotes")?;
        if !word.quoted {
            return Err(self.wrong(&format!("put the text in quotes: \"{} ...\"", word.text)));
        }
        if word.text.trim().is_empty() {
            return Err(self.wrong("the text is empty"));
        }
        Ok(word.text)
    }

    fn amount(&mut self) -> Result<(u32, String), String> {
        let mut word = self.word("a thing")?;
        let mut count = 1;
        if word.starts_with(|letter: char| letter.is_ascii_digit()) {
            count = match word.parse() {
                Ok(count @ 1..=COUNT_MAX) => count,
                _ => return Err(self.wrong(&format!("`{word}` is no number of things"))),
            };
            word = self.word("a thing")?;
        } else if word.eq_ignore_ascii_case("nearest") {
            word = self.word("a thing")?;
        }
        Ok((count, word.to_lowercase()))
    }

    #[expect(clippy::cast_possible_truncation, reason = "bounded by METRES_MAX")]
    fn metres_cm(&mut self, what: &str) -> Result<i32, String> {
        let word = self.word(what)?;
        let Some(metres) = metres(&word) else {
            return Err(self.wrong(&format!("`{word}` is no number of metres")));
        };
        Ok((metres * 100.0).round() as i32)
    }

    fn reach_cm(&mut self) -> Result<u32, String> {
        let cm = self.metres_cm("a distance such as 2m")?;
        u32::try_from(cm).map_err(|_| self.wrong("a distance is not below zero"))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and SECONDS_MAX"
    )]
    fn duration_ms(&mut self) -> Result<u32, String> {
        let word = self.word("a time such as 2s")?;
        let (digits, unit_s) = match word.strip_suffix("ms") {
            Some(digits) => (digits, 0.001),
            None => (word.strip_suffix('s').unwrap_or(&word), 1.0),
        };
        let seconds = digits.parse().map(|number: f64| number * unit_s);
        match seconds {
            Ok(seconds) if (0.0..=f64::from(SECONDS_MAX)).contains(&seconds) => {
                Ok((seconds * 1_000.0).round() as u32)
            }
            _ => Err(self.wrong(&format!(
                "`{word}` is no time of 0 to {SECONDS_MAX} seconds, such as 2s or 500ms"
            ))),
        }
    }

    fn long_duration_s(&mut self) -> Result<u64, String> {
        let word = self.word("a time such as 10m")?;
        let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
        let seconds = units.iter().find_map(|&(unit, unit_s)| {
            let number: u64 = word.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(unit_s)
        });
        seconds.filter(|seconds| (1..=LEND_S_MAX).contains(seconds)).ok_or_else(|| {
            let days = LEND_S_MAX / 86_400;
            self.wrong(&format!("`{word}` is no time up to {days}d, such as 90s, 10m, 2h or 7d"))
        })
    }

    fn end(&self) -> Result<(), String> {
        match self.rest.first() {
            None => Ok(()),
            Some(extra) => Err(self.wrong(&format!("`{}` is too much", extra.text))),
        }
    }
}

fn metres(word: &str) -> Option<f64> {
    let number: f64 = word.strip_suffix('m').unwrap_or(word).parse().ok()?;
    (number.abs() <= METRES_MAX).then_some(number)
}

/// Returns `; did you mean ..` for the nearest known word, or the list when none is near.
fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let nearest = known.clone().map(|known| (distance(word, known), known)).min();
    match nearest {
        Some((distance, nearest)) if 3 * distance <= nearest.len() + 1 => {
            format!("; did you mean `{nearest}`?")
        }
        _ => format!("; known are: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// How many letters must be added, left out, changed or swapped with a neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (row[j + 1] + 1).min(next[j] + 1).min(row[j] + usize::from(a != b));
            let swapped = 0 < i && 0 < j && *a == to[j - 1] && from[i - 1] == *b;
            if swapped {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}
