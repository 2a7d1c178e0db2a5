//! What the crate's own sources say about types, fields and constants: their doc comments.
//!
//! Reads `///` above definitions, nothing more of Rust than that.

use std::fs;
use std::path::Path;

/// The sources of the crate.
pub struct Sources {
    files: Vec<String>,
}

impl Sources {
    /// Reads every source file under `folder`.
    pub fn read(folder: &Path) -> Self {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let mut entries: Vec<_> = fs::read_dir(&folder)
                .expect("read the sources")
                .map(|entry| entry.expect("read the sources").path())
                .collect();
            entries.sort();
            for path in entries {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    found.push(path);
                }
            }
        }
        // Messages and rules first: some share their names with what other modules call theirs.
        let first = ["message", "rules"].map(|name| folder.join(name));
        found.sort_by_key(|path| !first.iter().any(|first| path.starts_with(first)));
        let read = |path| fs::read_to_string(path).expect("read a source");
        Self { files: found.iter().map(read).collect() }
    }

    /// Returns what is said above the struct or enum `name`.
    pub fn of_type(&self, name: &str) -> String {
        let (lines, at) = self.definition(name);
        above(&lines, at).unwrap_or_else(|| panic!("{name} has no doc comment"))
    }

    /// Returns what is said above a field or variant of `name`.
    pub fn of_part(&self, name: &str, part: &str) -> String {
        let (lines, start) = self.definition(name);
        let indent = indent_of(lines[start]);
        let ends = |line: &&str| line.trim() == "}" && indent_of(line) == indent;
        let within = lines[start + 1..].iter().take_while(|line| !ends(line)).count();
        let found = (start + 1..=start + within).find(|&at| names(lines[at], part));
        let at = found.unwrap_or_else(|| panic!("{name} has no {part}"));
        above(&lines, at).unwrap_or_else(|| panic!("{name}.{part} has no doc comment"))
    }

    /// Returns the public constants of the file that opens with `opening`: names and docs.
    pub fn constants(&self, opening: &str) -> Vec<(String, String)> {
        let file = self.files.iter().find(|file| file.starts_with(opening)).expect("the file");
        let lines: Vec<&str> = file.lines().collect();
        let constants = lines.iter().enumerate().filter_map(|(at, line)| {
            let name = line.strip_prefix("pub const ")?.split(':').next()?;
            Some((name.to_owned(), above(&lines, at)?))
        });
        constants.collect()
    }

    /// Returns the lines of the file that defines `name`, and at which line.
    fn definition(&self, name: &str) -> (Vec<&str>, usize) {
        let found = self.files.iter().find_map(|file| {
            let lines: Vec<&str> = file.lines().collect();
            let at = lines.iter().position(|line| {
                let line = line.trim().trim_start_matches("pub ");
                let rest = line.strip_prefix("struct ").or_else(|| line.strip_prefix("enum "));
                let rest = rest.and_then(|rest| rest.strip_prefix(name));
                rest.is_some_and(|rest| rest.starts_with([' ', '(']))
            })?;
            Some((lines, at))
        });
        found.or_else(|| self.in_macro(name)).unwrap_or_else(|| panic!("no definition of {name}"))
    }

    /// Finds a type declared by a macro call, where its name stands alone behind its docs.
    fn in_macro(&self, name: &str) -> Option<(Vec<&str>, usize)> {
        self.files.iter().find_map(|file| {
            let lines: Vec<&str> = file.lines().collect();
            let at = lines.iter().position(|line| line.trim().starts_with(&format!("{name}, \"")));
            Some((lines, at?))
        })
    }
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether `line` declares the field or variant `part`.
fn names(line: &str, part: &str) -> bool {
    let line = line.trim().trim_start_matches("pub ");
    let rest = line.strip_prefix(part);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ',', '(', ' ']))
}

/// Returns the doc comment above line `at`, as one line.
fn above(lines: &[&str], at: usize) -> Option<String> {
    let mut docs = Vec::new();
    let mut depth = 0_usize;
    for line in lines[..at].iter().rev().map(|line| line.trim()) {
        // Attributes stand between, on several lines even.
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if line.ends_with(")]") && !line.starts_with("#[") {
            depth += 1;
        } else if depth > 0 {
            depth -= usize::from(line.starts_with("#["));
        } else if !line.starts_with("#[") {
            break;
        }
    }
    docs.reverse();
    let paragraph: Vec<&str> = docs.into_iter().take_while(|doc| !doc.is_empty()).collect();
    (!paragraph.is_empty()).then(|| unlinked(&paragraph.join(" ")))
}

/// Turns links to other items into their plain names.
fn unlinked(doc: &str) -> String {
    let mut text = doc.to_owned();
    while let Some(start) = text.find("](") {
        let end = text[start..].find(')').map_or(text.len(), |end| start + end + 1);
        text.replace_range(start..end, "]");
    }
    text.replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}
