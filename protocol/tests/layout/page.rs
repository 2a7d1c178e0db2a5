//! The generated sections of `docs/wire.md`, and their places between markers.

use std::fmt::Write as _;

use protocol::close::CloseCode;
use protocol::limits::*;
use protocol::rules::VERBS;
use protocol::rules::limits as rules;
use protocol::utterance::{CLAUSES_MAX, START_MS_MAX, UTTERANCE_CHARS_MAX};

use crate::bodies;
use crate::schema::{Enum, Row, Struct};
use crate::sources::Sources;

/// Returns `page` with each section's text between its markers.
pub fn with_sections(page: &str, sections: &[(&str, String)]) -> String {
    let mut page = page.to_owned();
    for (name, text) in sections {
        let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
        let start = page.find(&begin).unwrap_or_else(|| panic!("the page lacks {begin}"));
        let start = start + begin.len();
        let length = page[start..].find(&end).unwrap_or_else(|| panic!("the page lacks {end}"));
        page.replace_range(start..start + length, &format!("\n{}\n\n", text.trim()));
    }
    page
}

/// Returns the tables of one direction's messages.
pub fn messages(kinds: &[(u16, &str)], sources: &Sources) -> String {
    let all = bodies::structs();
    let mut text = String::new();
    for (kind, name) in kinds {
        let table = all.iter().find(|table| table.name == *name).expect("every message is listed");
        let required = if kind & 0x8000 == 0 { "may be skipped" } else { "required" };
        line(&mut text, format_args!("### {kind:#06x} {name}\n"));
        line(&mut text, format_args!("{} ({required})\n", sources.of_type(name)));
        struct_table(&mut text, table, sources);
    }
    text
}

/// Returns the tables of the structs that messages are made of.
pub fn shared(sources: &Sources) -> String {
    let mut text = String::new();
    for table in bodies::structs().iter().filter(|table| table.kind.is_none()) {
        line(&mut text, format_args!("### {}\n", table.name));
        line(&mut text, format_args!("{}\n", sources.of_type(table.name)));
        struct_table(&mut text, table, sources);
    }
    text
}

/// Returns the table of named numbers.
pub fn scalars(sources: &Sources) -> String {
    let mut text = "| name | bytes | layout | meaning |\n|---|---|---|---|\n".to_owned();
    for scalar in bodies::scalars() {
        let meaning = sources.of_type(scalar.name);
        let (name, bytes, what) = (scalar.name, scalar.bytes, scalar.what);
        line(&mut text, format_args!("| {name} | {bytes} | {what} | {meaning} |"));
    }
    text
}

/// Returns the tables of the enums, `Verb` aside.
pub fn choices(sources: &Sources) -> String {
    let mut text = String::new();
    for choice in bodies::enums().iter().filter(|choice| choice.name != "Verb") {
        line(&mut text, format_args!("### {}\n", choice.name));
        line(&mut text, format_args!("{}\n", sources.of_type(choice.name)));
        choice_table(&mut text, choice, sources);
    }
    text
}

/// Returns the table of verbs.
pub fn verbs(sources: &Sources) -> String {
    let mut text =
        "| tag | verb | what it takes | reach, cm | takes, ms | noticed, cm | while busy \
                    | what it does |\n|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    let all = bodies::enums();
    let verb = all.iter().find(|choice| choice.name == "Verb").expect("verbs are listed");
    assert_eq!(verb.bytes, 1);
    for (row, (name, _)) in VERBS.iter().zip(&verb.variants) {
        let doc = sources.of_part("Verb", name);
        let (tag, busy) = (row.verb as u8, if row.while_busy { "yes" } else { "no" });
        line(
            &mut text,
            format_args!(
                "| {tag} | {} | {} | {} | {} | {} | {busy} | {doc} |",
                row.name, row.takes, row.reach_cm, row.ms, row.noticed_cm
            ),
        );
    }
    text
}

/// Returns the table of close codes.
pub fn close_codes(sources: &Sources) -> String {
    let mut text =
        "| code | name | meaning | come back with the ticket |\n|---|---|---|---|\n".to_owned();
    for code in CloseCode::ALL {
        let (number, name) = (code.number(), format!("{code:?}"));
        let doc = sources.of_part("CloseCode", &name);
        let back = if code.is_worth_resuming() { "yes" } else { "no" };
        line(&mut text, format_args!("| {number} | {name} | {doc} | {back} |"));
    }
    text
}

/// Returns the table of bounds.
pub fn limits(sources: &Sources) -> String {
    macro_rules! values {
        ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as u64)),*] };
    }
    let values = values!(
        DATAGRAM_BYTES_MAX,
        MESSAGE_BYTES_MAX,
        HELLO_BYTES_MAX,
        TRACKED_MAX,
        NAME_CHARS_MAX,
        TOKEN_BYTES_MAX,
        TICKET_BYTES_MAX,
        RECIPE_BYTES_MAX,
        CAPABILITIES_MAX,
        CAPABILITY_BYTES_MAX,
        CHANNEL_CHARS_MAX,
        CHUNKS_WANTED_MAX,
        CHUNK_BYTES_MAX,
        ASSET_BYTES_MAX,
        ASSET_FRAME_BYTES_MAX,
        ASSET_PERSONS_MAX,
        ASSET_MEDIA_BYTES_MAX,
        ASSET_NAME_CHARS_MAX,
        ANNOUNCED_MAX,
    );
    let mut text = "| bound | value | what |\n|---|---|---|\n".to_owned();
    for (name, doc) in sources.constants("//! Every bound of the protocol") {
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.unwrap_or_else(|| panic!("{name} is not listed in page.rs"));
        line(&mut text, format_args!("| `{name}` | {value} | {doc} |"));
    }
    let more = [
        ("CLAUSES_MAX", CLAUSES_MAX as u64, "Clauses of one utterance."),
        (
            "UTTERANCE_CHARS_MAX",
            UTTERANCE_CHARS_MAX as u64,
            "Characters of one utterance, all clauses together.",
        ),
        (
            "START_MS_MAX",
            START_MS_MAX.into(),
            "The latest start and the longest duration of a clause, in milliseconds.",
        ),
        (
            "TEXT_CHARS_MAX",
            rules::TEXT_CHARS_MAX as u64,
            "Characters written on a sign or pinned to a board.",
        ),
        ("OFFER_LOTS_MAX", rules::OFFER_LOTS_MAX as u64, "Lots on one side of an exchange."),
        ("HELD_STACKS_MAX", rules::HELD_STACKS_MAX as u64, "Stacks somebody can hold."),
    ];
    for (name, value, doc) in more {
        line(&mut text, format_args!("| `{name}` | {value} | {doc} |"));
    }
    text
}

fn struct_table(text: &mut String, table: &Struct, sources: &Sources) {
    line(text, format_args!("| offset | bytes | field | type | meaning |"));
    line(text, format_args!("|---|---|---|---|---|"));
    for row in &table.rows {
        let meaning = sources.of_part(table.name, row.name);
        let Row { offset, bytes, name, what } = row;
        line(text, format_args!("| {offset} | {bytes} | {name} | {what} | {meaning} |"));
    }
    line(text, format_args!("| {} | | | | end |\n", table.bytes));
}

fn choice_table(text: &mut String, choice: &Enum, sources: &Sources) {
    line(text, format_args!("{} bytes.\n", choice.bytes));
    line(text, format_args!("| tag | variant | behind the tag: offset, field, type | meaning |"));
    line(text, format_args!("|---|---|---|---|"));
    for (tag, (variant, rows)) in choice.variants.iter().enumerate() {
        let fields: Vec<String> = rows.iter().map(described).collect();
        let meaning = sources.of_part(choice.name, variant);
        line(text, format_args!("| {tag} | {variant} | {} | {meaning} |", fields.join("; ")));
    }
    line(text, format_args!(""));
}

fn described(row: &Row) -> String {
    let Row { offset, name, what, .. } = row;
    if name.is_empty() { format!("{offset} {what}") } else { format!("{offset} {name}: {what}") }
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    writeln!(text, "{args}").expect("strings take any text");
}
