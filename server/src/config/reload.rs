//! What a configuration that is read again changes at once, and what waits for the next start.

use super::{Config, Effect, KEYS, Settings};

/// The outcome of reading the configuration again.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// The configuration in force from now on.
    pub settings: Settings,
    /// Keys whose new values are in force.
    pub applied: Vec<&'static str>,
    /// Keys whose new values need a restart; the old ones stay in force.
    pub restart: Vec<&'static str>,
}

impl Reload {
    /// Returns the configuration in force from now on.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.settings.config
    }
}

/// Returns what `new` changes in a server that runs with `old`.
#[must_use]
pub fn reload(old: &Settings, new: &Settings) -> Reload {
    let mut values = old.values.clone();
    let mut applied = Vec::new();
    let mut restart = Vec::new();
    for key in KEYS {
        let wanted = &new.values[key.name];
        if old.values[key.name].0 == wanted.0 {
            // The same value may come from another place now.
            values.insert(key.name, wanted.clone());
            continue;
        }
        match key.effect {
            Effect::Live => {
                values.insert(key.name, wanted.clone());
                applied.push(key.name);
            }
            Effect::Restart => restart.push(key.name),
        }
    }
    Reload { settings: Settings::from_values(values), applied, restart }
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::*;

    #[test]
    fn live_settings_apply_and_others_wait() {
        let text = "[server]\nlisten = \"127.0.0.1:9\"\nclients_max = 5\n[world]\ntick_hz = 20\n";
        let old = Settings::defaults();
        let new = Settings::layer(&[Input::File { path: "e.toml", text }]).unwrap();
        let outcome = reload(&old, &new);
        assert_eq!(outcome.applied, ["server.clients_max"]);
        assert_eq!(outcome.restart, ["server.listen"]);
        assert_eq!(outcome.config().server.clients_max, 5);
        assert_eq!(outcome.config().server.listen, old.config.server.listen);
        assert_eq!(outcome.settings.source("world.tick_hz").unwrap().to_string(), "e.toml:5");
    }

    #[test]
    fn reading_the_same_again_changes_nothing() {
        let settings = Settings::defaults();
        let outcome = reload(&settings, &settings);
        assert!(outcome.applied.is_empty() && outcome.restart.is_empty());
        assert_eq!(outcome.settings, settings);
    }
}
