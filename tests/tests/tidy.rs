//! Keeps the repository's shape: which crate knows which, which word is said where, what every
//! file and page owes its reader.
//!
//! Each rule is a function from text to [`source::Problem`]s in `tidy/`, with tests beside it that
//! show it failing; here they meet the repository. It is never asked whether the code works.

#[path = "tidy/edges.rs"]
mod edges;
#[path = "tidy/licences.rs"]
mod licences;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/requirements.rs"]
mod requirements;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::fs;

use source::{Problem, files, metadata, root};

#[test]
fn crates_know_only_those_below_them() {
    settle(edges::check(&metadata()));
}

#[test]
fn every_word_is_said_where_it_belongs() {
    settle(files("rs").iter().flat_map(words::check).collect());
}

#[test]
fn every_file_says_what_it_owns() {
    settle(files("rs").iter().flat_map(shape::opening).collect());
}

#[test]
fn no_file_holds_too_much() {
    let sources = files("rs");
    for file in sources.iter().filter(|file| shape::is_long(file)) {
        println!("{}: {} lines: are these two ideas?", file.path, file.text.lines().count());
    }
    settle(sources.iter().flat_map(shape::length).collect());
}

#[test]
fn modules_are_named_after_themselves() {
    settle(files("rs").iter().flat_map(shape::module_name).collect());
}

#[test]
fn every_test_runs() {
    settle(files("rs").iter().flat_map(shape::ignored_tests).collect());
}

#[test]
fn every_bound_has_a_reason() {
    settle(files("rs").iter().flat_map(shape::bounds).collect());
}

#[test]
fn every_dependency_may_be_used() {
    let deny = fs::read_to_string(root().join(".deny.toml")).expect("read .deny.toml");
    let policy = licences::Policy::parse(&deny).expect("parse .deny.toml");
    settle(licences::check(&metadata(), &policy));
}

#[test]
fn the_repository_is_complete() {
    settle(pages::missing(|path| root().join(path).exists()));
}

#[test]
fn links_lead_somewhere() {
    let read = |path: &str| {
        let path = root().join(path);
        // A picture has no headings to look for; that it is there is enough.
        path.exists().then(|| fs::read_to_string(path).unwrap_or_default())
    };
    settle(files("md").iter().flat_map(|page| pages::links(page, read)).collect());
}

#[test]
fn commands_on_pages_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("read Makefile");
    let mut problems = pages::undescribed_targets(&makefile);
    problems.extend(files("md").iter().flat_map(|page| pages::commands(page, &makefile)));
    settle(problems);
}

#[test]
fn alerts_watch_metrics_that_exist() {
    let alerts = fs::read_to_string(root().join("packaging/alerts.yml")).expect("read alerts.yml");
    settle(pages::alert_metrics(&alerts, &files("rs")));
}

#[test]
fn requirements_point_at_what_exists() {
    let list = requirements_list();
    settle(list.check(|path| fs::read_to_string(root().join(path)).ok()));
}

#[test]
fn requirements_page_is_current() {
    let path = root().join("docs/requirements.md");
    let page = requirements_list().page();
    if std::env::var_os("ECUMENE_BLESS").is_some() {
        fs::write(&path, &page).expect("write docs/requirements.md");
    }
    let stands = fs::read_to_string(&path).unwrap_or_default();
    assert!(stands == page, "docs/requirements.md is out of date: run `make requirements`");
}

fn requirements_list() -> requirements::List {
    let text = fs::read_to_string(root().join("docs/requirements.toml")).expect("read the list");
    requirements::List::parse(&text).expect("parse docs/requirements.toml")
}

/// Fails with every problem on a line of its own.
fn settle(problems: Vec<Problem>) {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} problem(s):\n{}", lines.len(), lines.join("\n"));
}
