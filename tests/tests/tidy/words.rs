//! Which word may be said where: technology in `io/` and `render/`, actors in `actors/`, clocks
//! and sockets nowhere in pure code.
//!
//! Reads the sources of the crates; test modules, examples and the crate `tests` may say anything.

use crate::source::{Problem, Source};

/// Paths that reach outside the process, or name a technology behind a trait of ours.
const OUTSIDE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "llama_cpp_2",
    "quinn",
    "quinn_proto",
    "sled",
    "socket2",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "tantivy",
    "tokio::fs",
    "tokio::net",
    "wgpu",
];

/// Paths of the actor system.
const ACTORS: &[&str] = &["actix", "actix_rt", "actix_web"];

/// Names in `std::net` and `std::process` that only describe and touch nothing.
const HARMLESS: &[&str] = &[
    "AddrParseError",
    "ExitCode",
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
];

/// Returns the words in `source` that belong elsewhere.
pub fn check(source: &Source) -> Vec<Problem> {
    let Some(place) = Place::of(&source.path) else { return Vec::new() };
    let mut problems = Vec::new();
    for (line, path) in paths(source) {
        if !place.outside && OUTSIDE.iter().any(|word| says(&path, word)) && !is_harmless(&path) {
            let what = format!("`{path}` belongs in io/ or render/: take it as an argument here");
            problems.push(Problem::at(&source.path, line, what));
        }
        if !place.actors && ACTORS.iter().any(|word| says(&path, word)) {
            let what =
                format!("`{path}` belongs in actors/: keep this file plain state and effects");
            problems.push(Problem::at(&source.path, line, what));
        }
    }
    problems
}

/// What may be said in a file.
#[derive(Clone, Copy)]
struct Place {
    outside: bool,
    actors: bool,
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let (krate, inside) = path.split_once("/src/")?;
        if krate == "tests" || inside.ends_with("tests.rs") {
            return None;
        }
        let under = |folder: &str| {
            inside.contains(&format!("{folder}/")) || inside == format!("{folder}.rs")
        };
        let binary = inside == "main.rs" || inside.starts_with("bin/");
        let io = under("io");
        Some(Self {
            outside: binary || io || under("render"),
            actors: binary || io || under("actors"),
        })
    }
}

fn is_harmless(path: &str) -> bool {
    path.starts_with("std::")
        && path.split("::").nth(2).is_some_and(|name| HARMLESS.contains(&name))
}

/// Whether `path` is `word` or lies below it; a word with a capital also matches in the middle.
fn says(path: &str, word: &str) -> bool {
    let starts =
        path.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    starts || word.starts_with(char::is_uppercase) && path.ends_with(&format!("::{word}"))
}

/// Returns every `a::b::c` in the code with its line, `use` lists written out in full.
fn paths(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut import: Option<(usize, String)> = None;
    for (line, code) in source.code() {
        if import.is_none() && is_import(code) {
            import = Some((line, String::new()));
        }
        let Some((begun, text)) = &mut import else {
            found.extend(mentions(code).map(|path| (line, path)));
            continue;
        };
        text.push_str(code);
        if code.contains(';') {
            let tree = text.split_once("use ").map_or("", |(_, tree)| tree);
            let mut leaves = Vec::new();
            expand("", tree.split(';').next().unwrap_or(""), &mut leaves);
            found.extend(leaves.into_iter().map(|path| (*begun, path)));
            import = None;
        }
    }
    found
}

fn is_import(code: &str) -> bool {
    let code = code.trim_start();
    code.starts_with("use ") || code.starts_with("pub") && code.contains(" use ")
}

fn mentions(code: &str) -> impl Iterator<Item = String> {
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.contains("::")).map(|word| word.trim_matches(':').to_owned())
}

/// Writes `a::{b, c::{d, e as f}}` out as `a::b`, `a::c::d`, `a::c::e`.
fn expand(prefix: &str, tree: &str, leaves: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once('{') {
        let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
        let prefix = format!("{prefix}{}", head.trim());
        for part in split_top(inner) {
            expand(&prefix, part, leaves);
        }
        return;
    }
    let name = tree.split(" as ").next().unwrap_or("").trim();
    match name {
        "" => {}
        "self" => leaves.push(prefix.trim_end_matches("::").to_owned()),
        _ => leaves.push(format!("{prefix}{name}")),
    }
}

/// Splits at commas that lie in no inner list.
fn split_top(list: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let mut parts = Vec::new();
    let mut begun = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&list[begun..at]);
                begun = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[begun..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let source = Source { path: path.into(), text: text.into() };
        check(&source).into_iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn pure_code_reads_no_disk_clock_or_socket() {
        let pure = "persona/src/task.rs";
        assert_eq!(lines(pure, "\nlet a = std::fs::read(path);"), [2]);
        assert_eq!(lines(pure, "let now = Instant::now();"), [1]);
        assert_eq!(lines(pure, "let now = std::time::Instant::now();"), [1]);
        assert_eq!(lines(pure, "use std::thread;"), [1]);
        assert_eq!(lines(pure, "fn f(tree: &sled::Tree) {}"), [1]);
        assert_eq!(lines("persona/src/io/store.rs", "use sled::Tree;\nuse std::fs;"), NOTHING);
        assert_eq!(lines("client-viewer/src/render/sky.rs", "use wgpu::Device;"), NOTHING);
        assert_eq!(lines("server/src/main.rs", "use std::fs;\nuse actix::System;"), NOTHING);
    }

    #[test]
    fn imports_in_lists_are_seen() {
        let list = "use std::{\n    collections::BTreeMap,\n    net::{SocketAddr, UdpSocket},\n};";
        assert_eq!(lines("npc/src/mind.rs", list), [1]);
        assert_eq!(lines("npc/src/mind.rs", "use std::{fmt, fs as disk};"), [1]);
        assert_eq!(lines("npc/src/mind.rs", "pub use std::net::{self, IpAddr};"), [1]);
    }

    #[test]
    fn an_address_is_no_socket() {
        assert_eq!(lines("server/src/config.rs", "use std::net::{IpAddr, SocketAddr};"), NOTHING);
        assert_eq!(lines("server/src/config.rs", "let a: std::net::SocketAddr;"), NOTHING);
        assert_eq!(lines("server/src/config.rs", "let a = std::net::TcpStream::connect;"), [1]);
    }

    #[test]
    fn actors_stay_in_their_folder() {
        assert_eq!(lines("npc/src/mind.rs", "use actix::prelude::*;"), [1]);
        assert_eq!(lines("npc/src/mind/plan.rs", "#[actix::main]"), [1]);
        assert_eq!(lines("npc/src/actors/npc.rs", "use actix::prelude::*;"), NOTHING);
        assert_eq!(lines("npc/src/actors/npc.rs", "use std::fs;"), [1]);
    }

    #[test]
    fn comments_tests_and_look_alikes_are_free() {
        assert_eq!(
            lines("npc/src/mind.rs", "// std::fs\n/// [`sled::Tree`]\nuse crate::actix_like::A;"),
            NOTHING
        );
        assert_eq!(
            lines("npc/src/mind.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}"),
            NOTHING
        );
        assert_eq!(lines("npc/src/mind/tests.rs", "use std::fs;"), NOTHING);
        assert_eq!(lines("tests/src/relay.rs", "use std::net::UdpSocket;"), NOTHING);
        assert_eq!(lines("protocol/tests/golden.rs", "use std::fs;"), NOTHING);
    }
}
