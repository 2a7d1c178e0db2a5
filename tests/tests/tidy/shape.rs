//! What every source file owes its reader: an opening line, a bearable length, bounds with
//! reasons, tests that run.
//!
//! Looks at one file at a time.

use crate::source::{Problem, Source};

/// Lines of a file that still holds one idea.
const LINES_MAX: usize = 700;

/// Lines from which a file is worth a second look.
const LINES_USUAL_MAX: usize = 400;

/// Every file opens with `//!`.
pub fn opening(source: &Source) -> Vec<Problem> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    let what = "open with `//!`: what this file owns and what it is never asked to do";
    vec![Problem::at(&source.path, 1, what)]
}

/// Whether a file is worth a second look.
pub fn is_long(source: &Source) -> bool {
    LINES_USUAL_MAX < source.text.lines().count()
}

/// No file is longer than [`LINES_MAX`].
pub fn length(source: &Source) -> Vec<Problem> {
    let lines = source.text.lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    let what = format!("{lines} lines, at most {LINES_MAX}: split it by question or by phase");
    vec![Problem::at(&source.path, 0, what)]
}

/// `foo.rs` stands beside `foo/`; there is no `mod.rs`.
///
/// What several test programs of a crate share is the exception: `tests/foo.rs` would be a program.
pub fn module_name(source: &Source) -> Vec<Problem> {
    let Some(folder) = source.path.strip_suffix("/mod.rs") else { return Vec::new() };
    if folder.rsplit_once('/').is_some_and(|(above, _)| above.ends_with("/tests")) {
        return Vec::new();
    }
    vec![Problem::at(&source.path, 0, format!("name it {folder}.rs"))]
}

/// No test is switched off.
pub fn ignored_tests(source: &Source) -> Vec<Problem> {
    let lines = source.text.lines().enumerate();
    let ignored = lines.filter(|(_, line)| line.trim_start().starts_with("#[ignore"));
    let what = "no test is ignored: assert today's behaviour and say what is wrong with it";
    ignored.map(|(at, _)| Problem::at(&source.path, at + 1, what)).collect()
}

/// Every bound says in a doc comment where it comes from, and its qualifier stands last.
pub fn bounds(source: &Source) -> Vec<Problem> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut problems = Vec::new();
    for (line, code) in source.code() {
        let Some(name) = constant(code) else { continue };
        if let Some(rest) = name.strip_prefix("MAX_") {
            let what = format!("the qualifier comes last: {rest}_MAX");
            problems.push(Problem::at(&source.path, line, what));
        }
        if name.ends_with("_MAX") && !is_documented(&lines[..line - 1]) {
            let what = format!("say above {name} in `///` which sum makes this number");
            problems.push(Problem::at(&source.path, line, what));
        }
    }
    problems
}

fn constant(code: &str) -> Option<&str> {
    let (before, after) = code.split_once("const ")?;
    let before = before.trim();
    if !before.is_empty() && !before.starts_with("pub") {
        return None;
    }
    let (name, _) = after.split_once(':')?;
    name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_').then_some(name)
}

/// Whether the lines above an item end in its doc comment, attributes aside.
fn is_documented(above: &[&str]) -> bool {
    let item = above.iter().rev().find(|line| !line.trim_start().starts_with("#["));
    item.is_some_and(|line| line.trim_start().starts_with("///"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_file_without_an_opening_is_found() {
        assert_eq!(opening(&source("a.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(opening(&source("a.rs", "// What\n//! Late\n")).len(), 1);
        assert_eq!(opening(&source("a.rs", "//! What it owns.\n")), []);
    }

    #[test]
    fn a_swallowed_file_is_found() {
        let lines = |count: usize| source("a.rs", &"x\n".repeat(count));
        assert_eq!(length(&lines(LINES_MAX)), []);
        assert_eq!(length(&lines(LINES_MAX + 1)).len(), 1);
        assert!(!is_long(&lines(LINES_USUAL_MAX)) && is_long(&lines(LINES_USUAL_MAX + 1)));
    }

    #[test]
    fn a_module_file_named_mod_is_found() {
        let found = module_name(&source("npc/src/mind/mod.rs", ""));
        assert_eq!(found[0].what, "name it npc/src/mind.rs");
        assert_eq!(module_name(&source("npc/src/mod_like.rs", "")), []);
        assert_eq!(module_name(&source("npc/tests/shared/mod.rs", "")), []);
        assert_eq!(module_name(&source("npc/tests/shared/deep/mod.rs", "")).len(), 1);
    }

    #[test]
    fn an_ignored_test_is_found() {
        assert_eq!(
            ignored_tests(&source("a.rs", "#[test]\n    #[ignore = \"slow\"]\n"))[0].line,
            2
        );
        assert_eq!(ignored_tests(&source("a.rs", "// no #[ignore] here\n")), []);
    }

    #[test]
    fn a_bound_without_a_reason_is_found() {
        let found = |text: &str| bounds(&source("limits.rs", text)).len();
        assert_eq!(found("pub const QUEUE_MAX: usize = 4;"), 1);
        assert_eq!(found("// why\npub const QUEUE_MAX: usize = 4;"), 1);
        assert_eq!(found("/// Four cores.\npub const QUEUE_MAX: usize = 4;"), 0);
        assert_eq!(
            found("/// Four cores.\n#[doc(hidden)]\n    pub(crate) const QUEUE_MAX: u8 = 4;"),
            0
        );
        assert_eq!(found("/// Four cores.\nconst MAX_QUEUE: usize = 4;"), 1);
        assert_eq!(found("pub const fn largest_MAX(a: u8) -> u8 { a }"), 0);
    }
}
