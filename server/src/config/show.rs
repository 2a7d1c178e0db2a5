//! The printed configuration: every value, its meaning and its source, as TOML.

use std::fmt::Write as _;

use super::layer::Values;
use super::{Effect, GROUPS, KEYS};

/// Column at which the source of a value stands, past most values.
const SOURCE_COLUMN: usize = 40;

/// Returns `values` as a page that can be saved as `ecumene.toml`.
pub(super) fn page(values: &Values) -> String {
    let mut page = String::new();
    for (group, doc) in GROUPS {
        line(&mut page, &format!("#{doc}"));
        line(&mut page, &format!("[{group}]"));
        let in_group = |name: &str| name.split_once('.').is_some_and(|(of, _)| of == *group);
        for key in KEYS.iter().filter(|key| in_group(key.name)) {
            let (value, source) = &values[key.name];
            let field = &key.name[group.len() + 1..];
            let restart = match key.effect {
                Effect::Live => "",
                Effect::Restart => " (needs a restart)",
            };
            line(&mut page, &format!("#{}{restart}", key.doc));
            let setting = format!("{field} = {value}");
            line(&mut page, &format!("{setting:SOURCE_COLUMN$} # {source}"));
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a string takes all text");
}

#[cfg(test)]
mod tests {
    use super::super::{Input, Settings};

    #[test]
    fn the_page_reads_back_as_the_same_configuration() {
        let flag = Input::Flag { flag: "--set", key: "server.name", value: "A \"quoted\" # place" };
        let settings = Settings::layer(&[flag]).unwrap();
        let page = settings.to_toml();
        let again = Settings::layer(&[Input::File { path: "e.toml", text: &page }]).unwrap();
        assert_eq!(again.config, settings.config);
    }

    #[test]
    fn the_page_says_what_a_setting_means_and_where_it_came_from() {
        let page = Settings::defaults().to_toml();
        assert!(page.starts_with("# Where the server listens and how many it takes.\n[server]\n"));
        assert!(page.contains("\n# Ticks per second. (needs a restart)\ntick_hz = 20 "), "{page}");
        assert!(page.contains("# default\n"));
    }
}
