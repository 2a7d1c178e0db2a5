//! From what was typed to what a server starts with: the world's folder, its manifest, the
//! settings, the identity and what operators decided.
//!
//! Also what commands do on the files of a world whose server does not run. Serving itself is the
//! host's, see `crate::io::host`.

use std::path::{Path, PathBuf};

use crate::admin::decisions::{Context, DecisionError, NobodyIsIn, decide};
use crate::admin::{AdminReply, AdminRequest};
use crate::admission::Role;
use crate::admission::access::{ACCESS_FILE, Access, AccessError};
use crate::config::{Input, Mistakes, Settings};
use crate::identity::Identity;
use crate::io::files::{self, FileError};
use crate::io::record::RecordTo;
use crate::io::{clock, rng, telemetry};
use crate::token::{Mint, Purpose};
use crate::world::{self, MANIFEST_FILE, Manifest, Wish, WorldError};

/// Name of the configuration file, beside the worlds and in each of their folders.
pub const CONFIG_FILE: &str = "ecumene.toml";

/// How long the first admin token is good: long enough to set up others.
const FIRST_TOKEN_S: u64 = 30 * 24 * 3600;

/// What keeps a server from starting, or a command from being carried out on files.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Settings that are not understood.
    #[error("{0}")]
    Settings(#[from] Mistakes),
    /// A log filter that is none.
    #[error("{place}: `telemetry.level`: {why}")]
    Level {
        /// Where it is set.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A file that was named is not there.
    #[error("there is no file {}", path.display())]
    NoSuchFile {
        /// Its path.
        path: PathBuf,
    },
    /// A file or folder that cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A manifest that is none, or a world that cannot be.
    #[error(transparent)]
    World(#[from] WorldError),
    /// There is no such world.
    #[error("there is no world `{name}` in {}; {hint}", root.display())]
    NoSuchWorld {
        /// Its name.
        name: String,
        /// Where it was looked for.
        root: PathBuf,
        /// What there is, or what to type.
        hint: String,
    },
    /// There is such a world already.
    #[error("there is a world `{name}` in {} already", root.display())]
    WorldExists {
        /// Its name.
        name: String,
        /// Where.
        root: PathBuf,
    },
    /// What operators decided cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The first token cannot be made.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// The world's folder is in use, or its store refuses.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// What was typed about where things are and what is set.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The folder of all worlds; nothing takes the default.
    pub root: Option<PathBuf>,
    /// The configuration file; nothing looks in the working folder, then beside the worlds.
    pub config: Option<PathBuf>,
    /// The world; nothing takes the one that the settings name.
    pub world: Option<String>,
    /// `(flag as typed, key, value)`.
    pub flags: Vec<(String, String, String)>,
}

impl Place {
    /// Returns the folder of all worlds.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(files::default_root)
    }

    /// Reads the settings from every source; call it again to reload.
    ///
    /// # Errors
    /// [`LaunchError`] naming file, line and column; whoever wrote the settings is at fault.
    pub fn settings(&self) -> Result<Settings, LaunchError> {
        let mut layers: Vec<(String, String)> = self.general_file()?.into_iter().collect();
        let name = match &self.world {
            Some(name) => name.clone(),
            None => self.layer(&layers)?.config.world.name,
        };
        world::check_name(&name)?;
        layers.extend(read(&self.root().join(&name).join(CONFIG_FILE))?);
        let settings = self.layer(&layers)?;
        telemetry::check_filter(&settings.config.telemetry.level).map_err(|bad| {
            let place = settings.source("telemetry.level").map(ToString::to_string);
            LaunchError::Level { place: place.unwrap_or_default(), why: bad.to_string() }
        })?;
        Ok(settings)
    }

    /// Returns the settings of `layers`, the environment and the flags.
    fn layer(&self, layers: &[(String, String)]) -> Result<Settings, LaunchError> {
        let environment = files::environment();
        let files = layers.iter().map(|(path, text)| Input::File { path, text });
        let variables = environment.iter().map(|(name, value)| Input::Environment { name, value });
        let flags = self.flags.iter().map(|(flag, key, value)| Input::Flag { flag, key, value });
        let world = self.world.iter().map(|value| Input::Flag {
            flag: "--world",
            key: "world.name",
            value,
        });
        let inputs: Vec<_> = files.chain(variables).chain(flags).chain(world).collect();
        Ok(Settings::layer(&inputs)?)
    }

    fn general_file(&self) -> Result<Option<(String, String)>, LaunchError> {
        if let Some(path) = &self.config {
            let found = read(path)?;
            return found.map(Some).ok_or_else(|| LaunchError::NoSuchFile { path: path.clone() });
        }
        if let Some(found) = read(Path::new(CONFIG_FILE))? {
            return Ok(Some(found));
        }
        Ok(read(&self.root().join(CONFIG_FILE))?)
    }

    /// Returns the world's folder and its manifest.
    ///
    /// # Errors
    /// [`LaunchError::NoSuchWorld`] with those that there are, or a damaged manifest.
    pub fn world(&self, settings: &Settings) -> Result<(PathBuf, Manifest), LaunchError> {
        let name = &settings.config.world.name;
        world::check_name(name)?;
        let data = self.root().join(name);
        let Some(manifest) = manifest(&data)? else {
            let worlds = worlds(&self.root())?;
            let hint = match worlds.is_empty() {
                true => format!("make it with: ecumene world new {name}"),
                false => {
                    let names: Vec<_> = worlds.iter().map(|world| world.name.as_str()).collect();
                    format!("there are: {}", names.join(", "))
                }
            };
            return Err(LaunchError::NoSuchWorld { name: name.clone(), root: self.root(), hint });
        };
        Ok((data, manifest))
    }

    /// Makes a new world's folder and manifest.
    ///
    /// # Errors
    /// [`LaunchError::WorldExists`], a bad name, or the disk's refusal.
    pub fn make_world(&self, mut wish: Wish) -> Result<(PathBuf, Manifest), LaunchError> {
        let name = wish.name.clone();
        // The next start may be in another working folder.
        wish.terrain = wish.terrain.map(|path| files::absolute(Path::new(&path)));
        let version = env!("CARGO_PKG_VERSION");
        let made = Manifest::new(wish, rng::random(), version, clock::unix_s())?;
        let data = self.root().join(&name);
        if manifest(&data)?.is_some() {
            return Err(LaunchError::WorldExists { name, root: self.root() });
        }
        files::make_private_folder(&data)?;
        files::write_text(&data.join(MANIFEST_FILE), &made.to_text())?;
        Ok((data, made))
    }
}

fn read(path: &Path) -> Result<Option<(String, String)>, FileError> {
    Ok(files::read_text(path)?.map(|text| (path.display().to_string(), text)))
}

fn manifest(data: &Path) -> Result<Option<Manifest>, LaunchError> {
    let text = files::read_text(&data.join(MANIFEST_FILE))?;
    Ok(text.map(|text| Manifest::read(&text)).transpose()?)
}

/// Returns the worlds in folder `root`, by name.
///
/// # Errors
/// [`LaunchError`] when the folder or a manifest in it cannot be read.
pub fn worlds(root: &Path) -> Result<Vec<Manifest>, LaunchError> {
    let mut worlds = Vec::new();
    for name in files::folders(root)? {
        worlds.extend(manifest(&root.join(name))?);
    }
    Ok(worlds)
}

/// Everything a server starts with.
#[derive(Debug)]
pub struct ServeOptions {
    /// The settings with their sources.
    pub settings: Settings,
    /// Where the settings came from, to read them again.
    pub place: Place,
    /// The world's folder.
    pub data: PathBuf,
    /// What stays the same for as long as the world exists.
    pub manifest: Manifest,
    /// Who this server is.
    pub identity: Identity,
    /// What operators decided.
    pub access: Access,
    /// A token to print once, on a world's first start.
    pub first_token: Option<String>,
    /// What is to be recorded.
    pub record: Option<RecordTo>,
}

/// Prepares a server for the world that `place` names, which is made if there is none yet.
///
/// # Errors
/// [`LaunchError`], before anything listens.
pub fn prepare(place: Place, seed: Option<u64>) -> Result<ServeOptions, LaunchError> {
    let settings = place.settings()?;
    let (data, manifest) = match place.world(&settings) {
        Ok(found) => found,
        Err(LaunchError::NoSuchWorld { name, .. }) => {
            let random = || u64::from_le_bytes(rng::random());
            let terrain = settings.config.world.terrain.clone();
            place.make_world(Wish {
                name,
                seed: seed.unwrap_or_else(random),
                terrain: Some(terrain).filter(|terrain| !terrain.is_empty()),
                rating: "everyone".to_owned(),
            })?
        }
        Err(other) => return Err(other),
    };
    if let Some(seed) = seed {
        manifest.check_seed(seed)?;
    }
    let identity = files::identity(&data)?;
    let mut access = read_access(&data)?;
    let first_token = first_token(&data, &manifest, &identity, &mut access)?;
    let record = None;
    Ok(ServeOptions { settings, place, data, manifest, identity, access, first_token, record })
}

/// Returns an admin token if nobody was ever given one; [`keep_first_token`] makes that known.
fn first_token(
    data: &Path,
    manifest: &Manifest,
    identity: &Identity,
    access: &mut Access,
) -> Result<Option<String>, LaunchError> {
    if files::exists(&data.join(ACCESS_FILE)) {
        return Ok(None);
    }
    let request = AdminRequest::TokenMint {
        purpose: Purpose::People,
        role: Role::Admin,
        person: None,
        lasts_s: FIRST_TOKEN_S,
        note: "printed at the first start".to_owned(),
    };
    let minted = decide_now(manifest, identity, access, &request);
    let Some(AdminReply::Minted { token, .. }) = minted.transpose()? else { return Ok(None) };
    Ok(Some(token))
}

/// Writes down that the first token was made, by its id alone; call it just before showing it.
///
/// A start that fails before this leaves nothing behind, so the next one makes another.
///
/// # Errors
/// [`FileError`] when the disk refuses.
pub fn keep_first_token(data: &Path, access: &Access) -> Result<(), FileError> {
    if files::exists(&data.join(ACCESS_FILE)) {
        // The running server wrote it down together with something newer.
        return Ok(());
    }
    write_access(data, access)
}

/// Returns what operators decided about the world in folder `data`.
///
/// # Errors
/// [`LaunchError`] when the file is damaged or cannot be read.
pub fn read_access(data: &Path) -> Result<Access, LaunchError> {
    Ok(Access::read(files::read_text(&data.join(ACCESS_FILE))?.as_deref())?)
}

/// Writes down what operators decided, durably.
///
/// # Errors
/// [`FileError`] when the disk refuses.
pub fn write_access(data: &Path, access: &Access) -> Result<(), FileError> {
    files::write_secret(&data.join(ACCESS_FILE), &access.to_text())
}

fn decide_now(
    manifest: &Manifest,
    identity: &Identity,
    access: &mut Access,
    request: &AdminRequest,
) -> Option<Result<AdminReply, DecisionError>> {
    let mint = Mint::new(identity);
    let context = Context {
        mint: &mint,
        world: manifest.id,
        now_s: clock::unix_s(),
        seed: rng::random(),
        named: &NobodyIsIn,
    };
    decide(access, request, &context)
}

/// Carries out a request about decisions on the files of a world whose server does not run;
/// nothing if the request needs a server.
///
/// # Errors
/// [`LaunchError::Store`] with `InUse` when a server has started meanwhile, or what the request
/// itself fails at.
pub fn decide_on_files(
    data: &Path,
    manifest: &Manifest,
    request: &AdminRequest,
) -> Result<Option<AdminReply>, LaunchError> {
    let _lock = crate::io::store::folder::DataFolder::take(data)?;
    decide_locked(data, manifest, request)
}

/// As [`decide_on_files`], by whoever holds the folder's lock.
///
/// # Errors
/// What the request itself fails at.
pub fn decide_locked(
    data: &Path,
    manifest: &Manifest,
    request: &AdminRequest,
) -> Result<Option<AdminReply>, LaunchError> {
    let identity = files::identity(data)?;
    let mut access = read_access(data)?;
    let reply = decide_now(manifest, &identity, &mut access, request).transpose()?;
    if reply.is_some() && !request.only_looks() {
        write_access(data, &access)?;
    }
    Ok(reply)
}

#[cfg(test)]
mod tests;
