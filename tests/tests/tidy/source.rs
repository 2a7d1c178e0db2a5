//! The repository as text: its files, the code in them, and cargo's account of the crates.
//!
//! Knows no rule.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Something to put right, and where.
#[derive(Debug, PartialEq)]
pub struct Problem {
    /// Path from the repository's root.
    pub file: String,
    /// Line from 1; 0 speaks of the whole file.
    pub line: usize,
    /// What is wrong and what to do instead.
    pub what: String,
}

impl Problem {
    /// Returns a problem at `line` of `file`.
    pub fn at(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.file, self.what);
        }
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A text file of the repository.
#[derive(Debug)]
pub struct Source {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// Returns the numbered lines of code: without line comments and without the tests at the end.
    pub fn code(&self) -> Vec<(usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0].trim() == "#[cfg(test)]"
                && pair[1].starts_with("mod ")
                && pair[1].trim_end().ends_with('{')
        });
        let end = tests.unwrap_or(lines.len());
        let code = lines[..end].iter().enumerate();
        code.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or(""))).collect()
    }
}

/// Returns the repository's root.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests crate lies in the repository").to_path_buf()
}

/// Returns the repository's files that end in `extension`, in order of their paths.
pub fn files(extension: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root(), extension, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(root()).expect("walked from the root");
        let name = inside.to_string_lossy().replace('\\', "/");
        Source { path: name, text: fs::read_to_string(&path).expect("read a source file") }
    };
    paths.into_iter().map(read).collect()
}

/// Collects files below `folder`, leaving out what is hidden or built.
fn walk(folder: &Path, extension: &str, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("read a folder of the repository") {
        let path = entry.expect("read a folder's entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            walk(&path, extension, paths);
        } else if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
}

/// Returns `cargo metadata` for this machine's target, from what is already downloaded.
pub fn metadata() -> Value {
    let target = format!("--filter-platform={}", host());
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--format-version=1", &target])
        .current_dir(root())
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata speaks JSON")
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("run rustc -vV");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.expect("rustc names its host").to_owned()
}

#[test]
fn code_leaves_out_comments_and_the_tests_at_the_end() {
    let text = "let a; // std::fs\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}\n";
    let source = Source { path: "x.rs".into(), text: text.into() };
    assert_eq!(source.code(), [(1, "let a; ")]);
}
