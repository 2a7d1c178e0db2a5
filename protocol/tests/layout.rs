//! The byte tables of `docs/wire.md` are the layouts that the compiler knows.
//!
//! `ECUMENE_BLESS=1 cargo test --release -p protocol --test layout` writes the generated sections
//! anew. What the messages mean is written by hand around them.

#[path = "layout/bodies.rs"]
mod bodies;
#[path = "layout/page.rs"]
mod page;
#[path = "layout/schema.rs"]
mod schema;
#[path = "layout/sources.rs"]
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use protocol::message::{AssetReply, AssetRequest, ClientMessage, ServerMessage};
use sources::Sources;

#[test]
fn the_page_shows_the_layouts_of_this_code() {
    let path = page_path();
    let stands = fs::read_to_string(&path).expect("read docs/wire.md");
    let current = page::with_sections(&stands, &sections());
    if std::env::var_os("ECUMENE_BLESS").is_some() {
        fs::write(&path, &current).expect("write docs/wire.md");
        return;
    }
    let differs = stands.lines().zip(current.lines()).position(|(old, new)| old != new);
    assert!(
        stands == current,
        "docs/wire.md is out of date from line {}: run ECUMENE_BLESS=1 cargo test --release \
         -p protocol --test layout",
        differs.map_or(0, |line| line + 1)
    );
}

#[test]
fn every_message_has_a_table() {
    let structs = bodies::structs();
    let assets = AssetRequest::KINDS.iter().chain(AssetReply::KINDS);
    for (kind, name) in ClientMessage::KINDS.iter().chain(ServerMessage::KINDS).chain(assets) {
        let table = structs.iter().find(|table| table.name == *name);
        assert_eq!(table.and_then(|table| table.kind), Some(*kind), "{name}");
    }
}

#[test]
fn every_named_type_has_a_table() {
    let names: Vec<&str> = bodies::structs()
        .iter()
        .map(|table| table.name)
        .chain(bodies::enums().iter().map(|table| table.name))
        .chain(bodies::scalars().iter().map(|scalar| scalar.name))
        .collect();
    for text in bodies::structs().iter().flat_map(|table| &table.rows).map(|row| &row.what) {
        for name in text.split(|c: char| !c.is_alphanumeric()) {
            let is_named = name.starts_with(|c: char| c.is_ascii_uppercase());
            assert!(!is_named || names.contains(&name), "{name} in {text}");
        }
    }
}

fn sections() -> Vec<(&'static str, String)> {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    vec![
        ("client messages", page::messages(ClientMessage::KINDS, &sources)),
        ("server messages", page::messages(ServerMessage::KINDS, &sources)),
        ("asset requests", page::messages(AssetRequest::KINDS, &sources)),
        ("asset replies", page::messages(AssetReply::KINDS, &sources)),
        ("scalars", page::scalars(&sources)),
        ("shared parts", page::shared(&sources)),
        ("choices", page::choices(&sources)),
        ("verbs", page::verbs(&sources)),
        ("close codes", page::close_codes(&sources)),
        ("limits", page::limits(&sources)),
    ]
}

fn page_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wire.md")
}
