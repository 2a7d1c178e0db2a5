//! A hosted world's manifest: what stays the same for as long as the world exists.
//!
//! One small TOML file in the world's folder. What an operator tunes is in [`crate::config`];
//! what happens in the world is in the store.

use protocol::ids::WorldId;
use protocol::units::Position;
use serde::{Deserialize, Serialize};

use crate::identity::short_hash;

/// Name of the manifest in a world's folder.
pub const MANIFEST_FILE: &str = "world.toml";

/// Letters of a world's name: it is a folder's name, too.
pub const NAME_CHARS_MAX: usize = 32;

/// Metres from the origin within which a world may begin: half of the widest world.
const SPAWN_M_MAX: i32 = 60_000;

/// What stays the same for as long as a world exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The world's id, as sessions and tokens name it.
    #[serde(with = "id_text")]
    pub id: WorldId,
    /// Its name, which is its folder's name.
    pub name: String,
    /// What its ground grows from.
    #[serde(with = "seed_text")]
    pub seed: u64,
    /// The table of things and recipes: `starter`, or a file in the world's folder.
    pub rules: String,
    /// Whom it is meant for, such as `everyone` or `mature`.
    pub rating: String,
    /// Where newcomers begin: metres east and south of the origin.
    pub spawn_m: [i32; 2],
    /// `generated`, or the file of ground heights it was made with.
    pub terrain: String,
    /// Version of the server that made it.
    pub made_with: String,
    /// Unix time in seconds at which it was made.
    pub made_s: u64,
}

/// What a new world shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its name.
    pub name: String,
    /// What its ground grows from.
    pub seed: u64,
    /// A file of ground heights instead of generated ground.
    pub terrain: Option<String>,
    /// Whom it is meant for.
    pub rating: String,
}

/// A manifest that is none, or a world that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// The name is no folder's name.
    #[error(
        "`{0}` is no name for a world: use 1 to {NAME_CHARS_MAX} small letters, digits and hyphens"
    )]
    BadName(String),
    /// The file is damaged.
    #[error("{MANIFEST_FILE} cannot be read: {0}")]
    Damaged(String),
    /// The world begins outside of itself.
    #[error("{MANIFEST_FILE}: spawn_m is {0:?}, at most {SPAWN_M_MAX} m from the origin")]
    SpawnTooFar([i32; 2]),
    /// A seed was asked for that the world does not have.
    #[error(
        "the world `{name}` grew from seed {has}, not {asked}; make another with `ecumene world new`"
    )]
    OtherSeed {
        /// The world.
        name: String,
        /// Its seed.
        has: u64,
        /// The seed asked for.
        asked: u64,
    },
}

impl Manifest {
    /// Returns the manifest of a new world; `nonce` keeps its id apart from those of all others.
    ///
    /// # Errors
    /// [`WorldError::BadName`]; the operator is at fault.
    pub fn new(
        wish: Wish,
        nonce: [u8; 32],
        made_with: &str,
        made_s: u64,
    ) -> Result<Self, WorldError> {
        check_name(&wish.name)?;
        Ok(Self {
            id: WorldId(short_hash(&nonce)),
            name: wish.name,
            seed: wish.seed,
            rules: "starter".to_owned(),
            rating: wish.rating,
            spawn_m: [0, 0],
            terrain: wish.terrain.unwrap_or_else(|| "generated".to_owned()),
            made_with: made_with.to_owned(),
            made_s,
        })
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// [`WorldError`]; whoever edited the file is at fault.
    pub fn read(text: &str) -> Result<Self, WorldError> {
        let damaged = |error: toml::de::Error| {
            let line = error
                .span()
                .map_or(1, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            WorldError::Damaged(format!("line {line}: {}", error.message().replace('\n', ", ")))
        };
        let manifest: Self = toml::from_str(text).map_err(damaged)?;
        check_name(&manifest.name)?;
        if manifest.spawn_m.iter().any(|metres| SPAWN_M_MAX < metres.saturating_abs()) {
            return Err(WorldError::SpawnTooFar(manifest.spawn_m));
        }
        Ok(manifest)
    }

    /// Returns the text of the manifest.
    ///
    /// # Panics
    /// Never: every part has a text form.
    #[must_use]
    pub fn to_text(&self) -> String {
        let head =
            "# A world of Ecumene. `spawn_m` and `rating` may be edited while it is stopped.\n";
        head.to_owned() + &toml::to_string(self).expect("every part has a text form")
    }

    /// Returns where newcomers begin, at the height 0; the ground says how high it is there.
    #[must_use]
    pub const fn spawn(&self) -> Position {
        let [x_m, z_m] = self.spawn_m;
        Position { x: x_m * 100, y: 0, z: z_m * 100 }
    }

    /// Checks that the world grew from `seed`.
    ///
    /// # Errors
    /// [`WorldError::OtherSeed`].
    pub fn check_seed(&self, seed: u64) -> Result<(), WorldError> {
        if self.seed == seed {
            return Ok(());
        }
        Err(WorldError::OtherSeed { name: self.name.clone(), has: self.seed, asked: seed })
    }
}

/// Checks that `name` can name a world and its folder.
///
/// # Errors
/// [`WorldError::BadName`].
pub fn check_name(name: &str) -> Result<(), WorldError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_good = (1..=NAME_CHARS_MAX).contains(&name.len()) && !name.starts_with('-');
    if is_good && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(WorldError::BadName(name.chars().take(2 * NAME_CHARS_MAX).collect()))
}

/// Ids as people see them everywhere.
mod id_text {
    use protocol::ids::WorldId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(id: &WorldId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<WorldId, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Seeds as text: TOML's numbers end at 2^63.
mod seed_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(seed)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str) -> Wish {
        Wish { name: name.to_owned(), seed: u64::MAX, terrain: None, rating: "everyone".to_owned() }
    }

    fn manifest() -> Manifest {
        Manifest::new(wish("home"), [1; 32], "0.1.0", 1_800_000_000).unwrap()
    }

    #[test]
    fn a_manifest_reads_back_with_the_largest_seed() {
        let manifest = manifest();
        assert_eq!(Manifest::read(&manifest.to_text()), Ok(manifest));
    }

    #[test]
    fn names_are_folders_and_nothing_else() {
        for good in ["home", "a", "my-world-2", &"x".repeat(32)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "..", "a/b", "Home", "a b", "-a", "é", &"x".repeat(33)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert_eq!(
            check_name("My World").unwrap_err().to_string(),
            "`My World` is no name for a world: use 1 to 32 small letters, digits and hyphens",
        );
    }

    #[test]
    fn damage_is_told_with_its_line() {
        let text = manifest().to_text().replace("rating =", "ratting =");
        let error = Manifest::read(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("world.toml cannot be read: line 6: unknown field `ratting`"),
            "{error}"
        );
        let far = Manifest { spawn_m: [i32::MIN, 0], ..manifest() };
        assert_eq!(Manifest::read(&far.to_text()), Err(WorldError::SpawnTooFar([i32::MIN, 0])));
    }

    #[test]
    fn a_world_keeps_its_seed() {
        assert_eq!(manifest().check_seed(u64::MAX), Ok(()));
        assert_eq!(
            manifest().check_seed(7).unwrap_err().to_string(),
            "the world `home` grew from seed 18446744073709551615, not 7; make another with \
             `ecumene world new`",
        );
    }
}
