//! Which dependencies may be used: their licences, their source and the ones nobody wants.
//!
//! The rules stand in `.deny.toml`, which cargo-deny reads as well; here they are checked on
//! every run of the suite, from `cargo metadata`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::edges::members;
use crate::source::Problem;

const OUR_LICENCE: &str = "MIT OR Apache-2.0";

/// The part of `.deny.toml` that is checked here.
#[derive(Debug, Deserialize)]
pub struct Policy {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Sources {
    #[serde(rename = "allow-registry")]
    registries: Vec<String>,
}

impl Policy {
    /// Reads the policy from the text of `.deny.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// Returns the packages that the policy refuses.
pub fn check(metadata: &Value, policy: &Policy) -> Vec<Problem> {
    let ours = members(metadata);
    let exceptions: BTreeMap<&str, &[String]> =
        policy.licenses.exceptions.iter().map(|one| (one.name.as_str(), &one.allow[..])).collect();
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        let mut refuse = |what: String| problems.push(Problem::at("Cargo.lock", 0, what));
        if ours.contains(&package) {
            if licence != OUR_LICENCE {
                refuse(format!("{name} is ours: `license.workspace = true` in its Cargo.toml"));
            }
            continue;
        }
        let more = exceptions.get(name).copied().unwrap_or_default();
        let allowed = |id: &str| policy.licenses.allow.iter().chain(more).any(|one| one == id);
        if !permits(licence, &allowed) {
            refuse(format!(
                "{name} is under `{licence}`: use another crate, or allow it in .deny.toml"
            ));
        }
        let source = package["source"].as_str().unwrap_or("a folder");
        let source = source.strip_prefix("registry+").unwrap_or(source);
        if !policy.sources.registries.iter().any(|one| one == source) {
            refuse(format!("{name} comes from {source}: take it from crates.io"));
        }
        if let Some(banned) = policy.bans.deny.iter().find(|one| one.name == name) {
            refuse(format!("{name} is banned: {}", banned.reason));
        }
    }
    problems
}

/// Whether an SPDX expression leaves a choice made of allowed licences only.
///
/// Understands `OR`, `AND`, `WITH`, brackets and the old `/` for `OR`.
fn permits(expression: &str, allowed: &impl Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let answer = either(&mut rest, allowed);
    answer.unwrap_or(false) && rest.is_empty()
}

fn either(words: &mut &[&str], allowed: &impl Fn(&str) -> bool) -> Option<bool> {
    let mut answer = both(words, allowed)?;
    while let Some(rest) = next_is(words, "OR") {
        *words = rest;
        answer |= both(words, allowed)?;
    }
    Some(answer)
}

fn both(words: &mut &[&str], allowed: &impl Fn(&str) -> bool) -> Option<bool> {
    let mut answer = one(words, allowed)?;
    while let Some(rest) = next_is(words, "AND") {
        *words = rest;
        answer &= one(words, allowed)?;
    }
    Some(answer)
}

fn one(words: &mut &[&str], allowed: &impl Fn(&str) -> bool) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let answer = either(words, allowed)?;
        *words = next_is(words, ")")?;
        return Some(answer);
    }
    let Some(rest) = next_is(words, "WITH") else { return Some(allowed(first)) };
    let (exception, rest) = rest.split_first()?;
    *words = rest;
    Some(allowed(&format!("{first} WITH {exception}")))
}

fn next_is<'a, 'b>(words: &&'a [&'b str], word: &str) -> Option<&'a [&'b str]> {
    words.split_first().filter(|(first, _)| **first == word).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0 WITH LLVM-exception"]
        exceptions = [{ crate = "tables", allow = ["Unicode-3.0"] }]
        [bans]
        deny = [{ crate = "openssl", reason = "rustls is here" }]
        [sources]
        allow-registry = ["https://example.org/index"]
    "#;

    fn check_one(name: &str, licence: Option<&str>, source: Option<&str>) -> Vec<String> {
        let policy = Policy::parse(POLICY).expect("a policy");
        let package = json!({ "id": name, "name": name, "license": licence, "source": source });
        let metadata = json!({ "workspace_members": ["ours"], "packages": [package] });
        check(&metadata, &policy).into_iter().map(|problem| problem.what).collect()
    }

    #[test]
    fn a_licence_has_to_be_allowed() {
        let index = Some("registry+https://example.org/index");
        assert_eq!(check_one("a", Some("MIT"), index), [""; 0]);
        assert_eq!(check_one("tables", Some("MIT AND Unicode-3.0"), index), [""; 0]);
        assert_eq!(check_one("a", Some("MIT AND Unicode-3.0"), index).len(), 1);
        assert_eq!(check_one("a", None, index).len(), 1);
        assert_eq!(check_one("ours", Some("GPL-3.0"), None).len(), 1);
    }

    #[test]
    fn a_source_and_a_name_can_be_refused() {
        assert_eq!(check_one("a", Some("MIT"), Some("git+https://example.org/a")).len(), 1);
        assert_eq!(check_one("a", Some("MIT"), None).len(), 1);
        let banned = check_one("openssl", Some("MIT"), Some("registry+https://example.org/index"));
        assert_eq!(banned, ["openssl is banned: rustls is here"]);
    }

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        let permits = |text: &str| permits(text, &|id| ["MIT", "A WITH e"].contains(&id));
        for good in [
            "MIT",
            "GPL OR MIT",
            "GPL/MIT",
            "(GPL OR MIT) AND MIT",
            "A WITH e",
            "MIT OR GPL AND GPL",
        ] {
            assert!(permits(good), "{good}");
        }
        for bad in [
            "",
            "GPL",
            "MIT AND GPL",
            "A",
            "MIT AND (GPL OR BSD)",
            "(MIT",
            "MIT)",
            "MIT WITH",
            "MIT OR",
        ] {
            assert!(!permits(bad), "{bad}");
        }
    }
}
