//! What every page owes its reader: links that lead somewhere, commands that exist, alerts on
//! metrics that are there.
//!
//! Says nothing about style.

use std::collections::BTreeSet;

use crate::source::{Problem, Source};

/// Files a visitor of the repository looks for.
const EXPECTED: &[&str] = &[
    ".ci/run",
    ".deny.toml",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Dockerfile",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "docs",
    "examples",
];

/// What Prometheus adds to the name of a metric.
const SUFFIXES: &[&str] = &["_total", "_bucket", "_count", "_sum", "_info"];

/// Returns the expected files that are not there.
pub fn missing(exists: impl Fn(&str) -> bool) -> Vec<Problem> {
    let gone = EXPECTED.iter().filter(|path| !exists(path));
    gone.map(|path| Problem::at(path, 0, "is missing: visitors look for it")).collect()
}

/// Returns the links of a page that lead nowhere inside the repository.
///
/// `read` gives a file's text, an empty one for a folder.
pub fn links(page: &Source, read: impl Fn(&str) -> Option<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (line, target) in prose(&page.text).flat_map(|(line, text)| targets(line, text)) {
        if target.contains(':') {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if path.is_empty() { page.path.clone() } else { resolve(&page.path, path) };
        let Some(text) = read(&path) else {
            problems.push(Problem::at(&page.path, line, format!("{path} does not exist")));
            continue;
        };
        let is_heading = || prose(&text).any(|(_, line)| slug(line) == anchor);
        if !anchor.is_empty() && path.ends_with(".md") && !is_heading() {
            let what = format!("{path} has no heading `#{anchor}`");
            problems.push(Problem::at(&page.path, line, what));
        }
    }
    problems
}

/// Returns the `make` commands of a page that the Makefile does not know.
pub fn commands(page: &Source, makefile: &str) -> Vec<Problem> {
    let known: BTreeSet<&str> = make_targets(makefile).map(|(_, name, _)| name).collect();
    let mut problems = Vec::new();
    for (line, text, fenced) in lines(&page.text) {
        let typed = text.trim_start().trim_start_matches("$ ").strip_prefix("make ");
        let spans = text.split("`make ").skip(1);
        for rest in spans.chain(typed.filter(|_| fenced)) {
            let name = rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next();
            let name = name.unwrap_or_default();
            if !name.is_empty() && !known.contains(name) {
                let what = format!("`make {name}` is no target of the Makefile");
                problems.push(Problem::at(&page.path, line, what));
            }
        }
    }
    problems
}

/// Returns the targets that `make help` would not show.
pub fn undescribed_targets(makefile: &str) -> Vec<Problem> {
    let silent = make_targets(makefile).filter(|(_, _, rest)| !rest.contains("## "));
    let what = |name: &str| format!("describe `{name}` after `## `, so that `make help` lists it");
    silent.map(|(line, name, _)| Problem::at("Makefile", line, what(name))).collect()
}

/// Returns the metrics in alert rules that no source file names.
pub fn alert_metrics(alerts: &str, sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, line) in alerts.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("ecumene_")) {
            let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            let quoted = [format!("\"{name}\""), format!("\"{base}\"")];
            let in_crate = |source: &&Source| source.path.contains("/src/");
            let named = |source: &Source| quoted.iter().any(|quoted| source.text.contains(quoted));
            if !sources.iter().filter(in_crate).any(named) {
                let what = format!("no source file names the metric {name}");
                problems.push(Problem::at("packaging/alerts.yml", at + 1, what));
            }
        }
    }
    problems
}

/// Returns the lines outside fenced blocks, numbered.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    lines(page).filter(|(_, _, fenced)| !fenced).map(|(line, text, _)| (line, text))
}

/// Returns the numbered lines and whether each lies in a fenced block; the fences are left out.
fn lines(page: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut fenced = false;
    page.lines().enumerate().filter_map(move |(at, text)| {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        Some((at + 1, text, fenced))
    })
}

fn targets(line: usize, text: &str) -> Vec<(usize, &str)> {
    let after = text.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| (line, target)).collect()
}

/// Returns `link` as seen from the repository's root, given the page it stands on.
fn resolve(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns the anchor that a heading gets on a forge; nothing for other lines.
fn slug(line: &str) -> String {
    let title = line.trim_start_matches('#');
    if title.len() == line.len() {
        return String::new();
    }
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Returns line, name and the rest of each rule that people can call.
fn make_targets(makefile: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    makefile.lines().enumerate().filter_map(|(at, line)| {
        let (name, rest) = line.split_once(':')?;
        let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        (named && !rest.starts_with('=')).then_some((at + 1, name, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Source {
        Source { path: "docs/page.md".into(), text: text.into() }
    }

    #[test]
    fn a_missing_file_is_found() {
        assert_eq!(missing(|_| true), []);
        assert_eq!(missing(|path| path != "README.md")[0].file, "README.md");
    }

    #[test]
    fn a_dead_link_is_found() {
        let read = |path: &str| (path == "docs/wire.md").then(|| "# The Wire: v1\n".to_owned());
        let dead = |text: &str| links(&page(text), read).len();
        assert_eq!(dead("[a](wire.md) [b](../docs/wire.md) [c](https://example.org)"), 0);
        assert_eq!(dead("[a](wire.md#the-wire-v1)"), 0);
        assert_eq!(dead("[a](wire.md#the-wire)"), 1);
        assert_eq!(dead("[a](gone.md) and [b](../wire.md)"), 2);
        assert_eq!(dead("```\n[a](gone.md)\n```"), 0);
    }

    #[test]
    fn a_command_nobody_can_type_is_found() {
        let makefile = "NAME := x\nrun: setup ## start\nbare-test: ## prove\n";
        let wrong = |text: &str| commands(&page(text), makefile).len();
        assert_eq!(wrong("Type `make run` or `make bare-test`."), 0);
        assert_eq!(wrong("```\n$ make run ARGS=\"--help\"\nmake start\n```"), 1);
        assert_eq!(wrong("Type `make start`."), 1);
        assert_eq!(wrong("make sure that it runs"), 0);
    }

    #[test]
    fn a_target_without_help_is_found() {
        assert_eq!(undescribed_targets("run: setup ## start\nA := b\n\tcp a: b\n"), []);
        assert_eq!(undescribed_targets("run: setup\n")[0].line, 1);
    }

    #[test]
    fn an_alert_on_nothing_is_found() {
        let source =
            |text: &str| Source { path: "server/src/metrics.rs".into(), text: text.into() };
        let sources = [source("counter!(\"ecumene_ticks_late\")")];
        assert_eq!(alert_metrics("expr: rate(ecumene_ticks_late_total[5m]) > 1", &sources), []);
        assert_eq!(alert_metrics("\nexpr: ecumene_tick > 1", &sources)[0].line, 2);
        assert_eq!(alert_metrics("# ecumene_tick", &sources), []);
    }
}
