//! The list of requirements: complete, honest, and shown on a page.
//!
//! `docs/requirements.toml` is the source. Whether a test proves its requirement is for people to
//! judge; here it is checked that module, test and the way to reach it exist.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use crate::source::Problem;

const FILE: &str = "docs/requirements.toml";

/// Chapters in the page's order, and how many requirements each one has.
const CHAPTERS: &[(&str, usize)] =
    &[("AV", 12), ("EN", 14), ("NP", 11), ("PE", 12), ("AF", 22), ("AS", 6), ("GA", 9), ("US", 9)];

/// Every requirement, by id.
#[derive(Debug, Deserialize)]
pub struct List {
    chapters: BTreeMap<String, String>,
    #[serde(flatten)]
    requirements: BTreeMap<String, Requirement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    level: Level,
    says: String,
    /// Absent while the requirement is open.
    met: Option<Met>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Required,
    Recommended,
    Optional,
    Described,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Met {
    /// The file that meets it.
    module: String,
    /// `FILE::FUNCTION` of the test that proves it.
    test: String,
    /// What a user types or opens to have it.
    reach: String,
}

impl List {
    /// Reads the list from the text of `docs/requirements.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Returns what is missing, unknown, or called met without being there.
    pub fn check(&self, read: impl Fn(&str) -> Option<String>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |what: String| problems.push(Problem::at(FILE, 0, what));
        for id in ids().filter(|id| !self.requirements.contains_key(id)) {
            wrong(format!("{id} is missing: every requirement is listed, met or open"));
        }
        for (id, requirement) in &self.requirements {
            if !ids().any(|known| known == *id) {
                wrong(format!("{id} is in neither source: is it a slip of the pen?"));
            }
            let Some(met) = &requirement.met else { continue };
            if read(&met.module).is_none() {
                wrong(format!("{id}: module {} does not exist", met.module));
            }
            if !test_exists(&met.test, &read) {
                wrong(format!("{id}: test {} does not exist; write FILE::FUNCTION", met.test));
            }
            if met.reach.trim().is_empty() {
                wrong(format!("{id}: say how a user reaches it, or leave it open"));
            }
        }
        problems
    }

    /// Returns `docs/requirements.md`.
    pub fn page(&self) -> String {
        let mut page = String::from(
            "# Requirements\n\n\
             Generated from [requirements.toml](requirements.toml) by `make requirements`; the tidy\n\
             test keeps both in step.\n\n\
             ITU is the Technical Specification ITU FGMV-22 (capabilities and requirements of\n\
             generative artificial intelligence in metaverse applications and services); 3GPP\n\
             FS_AVATAR is the study on avatars in real-time communication. A requirement is *met* when\n\
             a user can reach it and the named test proves it; everything else is *open*.\n\n",
        );
        page.push_str("| chapter | met | open |\n|---|---|---|\n");
        for (chapter, count) in CHAPTERS {
            let met = self.of(chapter, *count).filter(|(_, one)| one.met.is_some()).count();
            let title = self.title(chapter);
            writeln!(page, "| {title} | {met} | {} |", count - met).expect("a string grows");
        }
        for (chapter, count) in CHAPTERS {
            write!(page, "\n## {}\n\n", self.title(chapter)).expect("a string grows");
            page.push_str(
                "| id | level | requirement | state | module | test | how to reach it |\n",
            );
            page.push_str("|---|---|---|---|---|---|---|\n");
            for (id, requirement) in self.of(chapter, *count) {
                page.push_str(&requirement.row(&id));
            }
        }
        page
    }

    fn title(&self, chapter: &str) -> &str {
        self.chapters.get(chapter).map_or("(untitled)", String::as_str)
    }

    fn of(&self, chapter: &str, count: usize) -> impl Iterator<Item = (String, &Requirement)> {
        let ids = (1..=count).map(move |number| format!("{chapter}{number}"));
        ids.filter_map(|id| self.requirements.get(&id).map(|requirement| (id, requirement)))
    }
}

impl Requirement {
    fn row(&self, id: &str) -> String {
        let level = match self.level {
            Level::Required => "required",
            Level::Recommended => "recommended",
            Level::Optional => "optional",
            Level::Described => "described",
        };
        let state = self.met.as_ref().map_or_else(
            || "open | | | |".to_owned(),
            |met| format!("met | `{}` | `{}` | {} |", met.module, met.test, met.reach),
        );
        format!("| {id} | {level} | {} | {state}\n", self.says.replace('|', "\\|"))
    }
}

fn ids() -> impl Iterator<Item = String> {
    let all = |(chapter, count): &(&str, usize)| {
        let chapter = (*chapter).to_owned();
        (1..=*count).map(move |number| format!("{chapter}{number}"))
    };
    CHAPTERS.iter().flat_map(all)
}

/// Whether `FILE::FUNCTION` names a function that the test harness runs.
fn test_exists(name: &str, read: &impl Fn(&str) -> Option<String>) -> bool {
    let Some((file, function)) = name.split_once("::") else { return false };
    let Some(text) = read(file) else { return false };
    let opening = format!("fn {function}(");
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let at = lines
        .iter()
        .position(|line| line.strip_prefix("async ").unwrap_or(line).starts_with(&opening));
    let Some(at) = at else { return false };
    let mut above = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
    // `#[test]`, `#[tokio::test]`, `#[actix::test]`.
    let in_macro = || lines[..at].iter().rev().any(|line| line.starts_with("proptest!"));
    above.any(|line| line.starts_with("#[") && line.contains("test")) || in_macro()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> String {
        let mut text = String::from("[chapters]\nAV = \"Avatars\"\n");
        for id in ids() {
            write!(text, "[{id}]\nlevel = \"required\"\nsays = \"a | b\"\n")
                .expect("a string grows");
        }
        text
    }

    fn wrong(text: &str) -> Vec<String> {
        let read = |path: &str| match path {
            "a.rs" => Some("#[test]\nfn it_works() {}\n\nfn helper() {}\n".to_owned()),
            _ => None,
        };
        let list = List::parse(text).expect("a list");
        list.check(read).into_iter().map(|problem| problem.what).collect()
    }

    fn met(module: &str, test: &str, reach: &str) -> Vec<String> {
        let line = format!("met = {{ module = {module:?}, test = {test:?}, reach = {reach:?} }}\n");
        wrong(&whole().replacen("[AV2]", &format!("{line}[AV2]"), 1))
    }

    #[test]
    fn a_forgotten_or_invented_requirement_is_found() {
        assert_eq!(wrong(&whole()), [""; 0]);
        let swapped = whole().replace("[NP11]", "[NP12]");
        assert_eq!(wrong(&swapped).len(), 2);
    }

    #[test]
    fn nothing_is_met_without_module_test_and_a_way_there() {
        assert_eq!(met("a.rs", "a.rs::it_works", "`make run`"), [""; 0]);
        assert_eq!(met("b.rs", "a.rs::it_works", "`make run`").len(), 1);
        assert_eq!(met("a.rs", "a.rs::helper", "`make run`").len(), 1);
        assert_eq!(met("a.rs", "a.rs::gone", "`make run`").len(), 1);
        assert_eq!(met("a.rs", "it_works", "`make run`").len(), 1);
        assert_eq!(met("a.rs", "a.rs::it_works", " ").len(), 1);
    }

    #[test]
    fn the_page_counts_and_escapes() {
        let list = List::parse(&whole()).expect("a list");
        assert!(list.page().contains("| Avatars | 0 | 12 |"));
        assert!(list.page().contains("| AV1 | required | a \\| b | open | | | |\n"));
        assert!(List::parse("[chapters]\n[AV1]\nlevel = \"vital\"\nsays = \"\"\n").is_err());
    }
}
