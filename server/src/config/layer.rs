//! Layers of settings: a file over the defaults, the environment over the file, flags over all.
//!
//! Nothing that is not understood is skipped: a misspelt setting would silently keep its default.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::{GROUPS, KEYS, Key, Source};

/// Edits up to which a misspelt name is taken for another: a letter or two, or two swapped.
const TYPO_EDITS_MAX: usize = 3;

/// Bytes of a configuration file: every key with its comment takes 8 KB, eight times over.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// One place that settings come from.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A configuration file.
    File {
        /// Its path, for messages.
        path: &'a str,
        /// What is in it.
        text: &'a str,
    },
    /// An environment variable; those that are no setting are passed over.
    Environment {
        /// Its name.
        name: &'a str,
        /// Its value.
        value: &'a str,
    },
    /// A flag of the command line.
    Flag {
        /// The flag as typed, for messages.
        flag: &'a str,
        /// The key it sets.
        key: &'a str,
        /// The value as typed.
        value: &'a str,
    },
}

/// Something wrong in one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Mistake {
    /// File, line and column, or the variable or flag.
    pub place: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Everything wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

pub(super) type Values = BTreeMap<&'static str, (Value, Source)>;

/// Returns the environment variable that sets `key`, such as `ECUMENE_SERVER_LISTEN`.
#[must_use]
pub fn variable(key: &str) -> String {
    format!("ECUMENE_{}", key.replace('.', "_").to_uppercase())
}

pub(super) fn defaults() -> Values {
    let value = |key: &Key| key.default.parse().ok().and_then(|value| key.kind.check(value).ok());
    let entry = |key: &Key| (value(key).expect("defaults pass their checks"), Source::Default);
    KEYS.iter().map(|key| (key.name, entry(key))).collect()
}

pub(super) fn layer(inputs: &[Input<'_>]) -> Result<Values, Mistakes> {
    let mut values = defaults();
    let mut mistakes = Vec::new();
    for input in inputs {
        let (found, wrong) = match *input {
            Input::File { path, text } => read_file(path, text),
            Input::Environment { name, value } => read_variable(name, value),
            Input::Flag { flag, key, value } => read_flag(flag, key, value),
        };
        values.extend(found);
        mistakes.extend(wrong);
    }
    if mistakes.is_empty() { Ok(values) } else { Err(Mistakes(mistakes)) }
}

fn read_variable(name: &str, value: &str) -> (Values, Vec<Mistake>) {
    let key = KEYS.iter().find(|key| variable(key.name) == name);
    let place = format!("environment {name}");
    if let Some(key) = key {
        return one(key, key.kind.read(value), place, Source::Environment(name.to_owned()));
    }
    let is_group = |group: &str| name.starts_with(&format!("{}_", variable(group)));
    if !GROUPS.iter().any(|(group, _)| is_group(group)) {
        return (Values::new(), Vec::new());
    }
    let variables: Vec<_> = KEYS.iter().map(|key| variable(key.name)).collect();
    let problem = unknown("setting", name, variables.iter().map(String::as_str));
    (Values::new(), vec![Mistake { place, problem }])
}

fn read_flag(flag: &str, name: &str, value: &str) -> (Values, Vec<Mistake>) {
    let Some(key) = find(name) else {
        let problem = unknown("setting", name, KEYS.iter().map(|key| key.name));
        return (Values::new(), vec![Mistake { place: flag.to_owned(), problem }]);
    };
    one(key, key.kind.read(value), flag.to_owned(), Source::Flag(flag.to_owned()))
}

fn read_file(path: &str, text: &str) -> (Values, Vec<Mistake>) {
    let whole = |problem| (Values::new(), vec![Mistake { place: path.to_owned(), problem }]);
    if CONFIG_BYTES_MAX < text.len() {
        return whole(format!("is {} bytes long, at most {CONFIG_BYTES_MAX}", text.len()));
    }
    let file = File { path, text };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let problem = error.message().replace('\n', ", ");
            let place = file.place(&error.span().unwrap_or(0..0));
            return (Values::new(), vec![Mistake { place, problem }]);
        }
    };
    let mut values = Values::new();
    let mut mistakes = Vec::new();
    for (group, fields) in table.get_ref() {
        let name = group.get_ref().as_ref();
        if !GROUPS.iter().any(|(known, _)| *known == name) {
            let problem = unknown("group", name, GROUPS.iter().map(|(known, _)| *known));
            mistakes.push(Mistake { place: file.place(&group.span()), problem });
            continue;
        }
        let DeValue::Table(fields) = fields.get_ref() else {
            let problem = format!("`{name}` is a group: write [{name}] and its settings below");
            mistakes.push(Mistake { place: file.place(&group.span()), problem });
            continue;
        };
        for (field, value) in fields {
            let name = format!("{name}.{}", field.get_ref());
            let (found, wrong) = match find(&name) {
                Some(key) => {
                    let source =
                        Source::File { path: path.to_owned(), line: file.at(&field.span()).0 };
                    one(key, plain(value.get_ref()), file.place(&value.span()), source)
                }
                None => {
                    let problem = unknown("setting", &name, KEYS.iter().map(|key| key.name));
                    (Values::new(), vec![Mistake { place: file.place(&field.span()), problem }])
                }
            };
            values.extend(found);
            mistakes.extend(wrong);
        }
    }
    (values, mistakes)
}

/// A file's name and text, to say where something stands in it.
struct File<'a> {
    path: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn at(&self, span: &Range<usize>) -> (usize, usize) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        (line, column)
    }

    fn place(&self, span: &Range<usize>) -> String {
        let (line, column) = self.at(span);
        format!("{}:{line}:{column}", self.path)
    }
}

fn one(key: &Key, value: Value, place: String, source: Source) -> (Values, Vec<Mistake>) {
    match key.kind.check(value) {
        Ok(value) => (Values::from([(key.name, (value, source))]), Vec::new()),
        Err(wrong) => {
            let problem = format!("`{}` {wrong}", key.name);
            (Values::new(), vec![Mistake { place, problem }])
        }
    }
}

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Returns the plain value of a parsed one; what no setting can hold becomes text that fails.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let whole = i64::from_str_radix(number.as_str(), number.radix());
            whole.map_or_else(|_| Value::String(number.to_string()), Value::Integer)
        }
        DeValue::Float(number) => {
            let real = number.as_str().parse();
            real.map_or_else(|_| Value::String(number.to_string()), Value::Float)
        }
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(moment) => Value::Datetime(*moment),
        DeValue::Array(_) => Value::Array(Vec::new()),
        DeValue::Table(_) => Value::Table(toml::Table::new()),
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|candidate| (edits(name, candidate), candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= TYPO_EDITS_MAX => {
            format!("unknown {what} `{name}`; did you mean `{candidate}`?")
        }
        _ => format!("unknown {what} `{name}`; `ecumene config` lists all there are"),
    }
}

/// Returns how many letters to change, add or drop to make `a` of `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn file(text: &str) -> Input<'_> {
        Input::File { path: "ecumene.toml", text }
    }

    fn refused(inputs: &[Input<'_>]) -> String {
        Settings::layer(inputs).unwrap_err().to_string()
    }

    #[test]
    fn the_stronger_source_wins_and_is_remembered() {
        let text = "[server]\nclients_max = 10\n\n[chat]\nnearby_m = 7\nwhisper_m = 2\n";
        let environment = Input::Environment { name: "ECUMENE_CHAT_NEARBY_M", value: "8" };
        let name = Input::Environment { name: "ECUMENE_SERVER_NAME", value: "A place" };
        let flag = Input::Flag { flag: "--set", key: "chat.whisper_m", value: "4" };
        let settings = Settings::layer(&[file(text), environment, name, flag]).unwrap();
        assert_eq!(settings.config.server.clients_max, 10);
        assert_eq!(settings.config.chat.nearby_m, 8);
        assert_eq!(settings.config.chat.whisper_m, 4);
        assert_eq!(settings.config.server.name, "A place");
        let source = |key| settings.source(key).unwrap().to_string();
        assert_eq!(source("server.clients_max"), "ecumene.toml:2");
        assert_eq!(source("chat.nearby_m"), "environment ECUMENE_CHAT_NEARBY_M");
        assert_eq!(source("chat.whisper_m"), "command line --set");
        assert_eq!(source("world.tick_hz"), "default");
    }

    #[test]
    fn a_typo_is_refused_with_its_place_and_the_nearest_name() {
        assert_eq!(
            refused(&[file("[server]\n  lisen = \"127.0.0.1:1\"\n")]),
            "ecumene.toml:2:3: unknown setting `server.lisen`; did you mean `server.listen`?",
        );
        assert_eq!(
            refused(&[file("[chta]\nnearby_m = 1\n")]),
            "ecumene.toml:1:2: unknown group `chta`; did you mean `chat`?",
        );
        assert_eq!(
            refused(&[file("[server]\ncolour = 1\n")]),
            "ecumene.toml:2:1: unknown setting `server.colour`; `ecumene config` lists all there are",
        );
        let flag = Input::Flag { flag: "--set chat.nerby_m=3", key: "chat.nerby_m", value: "3" };
        assert_eq!(
            refused(&[flag]),
            "--set chat.nerby_m=3: unknown setting `chat.nerby_m`; did you mean `chat.nearby_m`?",
        );
        assert_eq!(
            refused(&[Input::Environment { name: "ECUMENE_CHAT_NERBY_M", value: "3" }]),
            "environment ECUMENE_CHAT_NERBY_M: unknown setting `ECUMENE_CHAT_NERBY_M`; \
             did you mean `ECUMENE_CHAT_NEARBY_M`?",
        );
    }

    #[test]
    fn a_bad_value_is_refused_where_it_stands_and_all_are_named_at_once() {
        let text = "[server]\nclients_max = 0\nlisten = \"here\"\n[world]\nshards_per_side = 4\n";
        assert_eq!(
            refused(&[file(text)]),
            "ecumene.toml:2:15: `server.clients_max` is 0, must be a whole number from 1 to 20000\n\
             ecumene.toml:3:10: `server.listen` is \"here\", must be an address and a port such as \
             \"127.0.0.1:4433\" or \"[::]:4433\"\n\
             ecumene.toml:5:19: `world.shards_per_side` is 4, must be an odd number from 1 to 15",
        );
    }

    #[test]
    fn broken_toml_and_endless_files_are_refused_with_their_place() {
        let broken = refused(&[file("[server]\nname = \n")]);
        assert!(broken.starts_with("ecumene.toml:2:"), "{broken}");
        assert!(refused(&[file("server = 3")]).contains("`server` is a group"));
        let long = " ".repeat(CONFIG_BYTES_MAX + 1);
        assert_eq!(refused(&[file(&long)]), "ecumene.toml: is 65537 bytes long, at most 65536");
    }

    #[test]
    fn variables_of_others_are_passed_over() {
        let other = Input::Environment { name: "ECUMENE_HOME", value: "/srv" };
        assert_eq!(Settings::layer(&[other]).unwrap(), Settings::defaults());
    }
}
