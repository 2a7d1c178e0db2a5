//! Small files: read whole, written so that a crash leaves the old or the new one, never a half.
//!
//! Also the folders they lie in, and the environment that says where those are. Whoever calls
//! decides what is in a file; the database is `io::store`'s.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::identity::{BadIdentity, Identity};

/// Name of the identity file in a world's folder.
pub const IDENTITY_FILE: &str = "identity.key";

/// Bytes of a small file: a configuration or a manifest takes 64 KB at most.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Bytes of the environment variables' values that are read: paths and settings are short.
const VARIABLE_BYTES_MAX: usize = 8 * 1024;

/// A file or folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refuses.
    #[error("cannot {what} {}: {}", path.display(), reason(source))]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Others could read a secret.
    #[error("{} can be read by others (mode {mode:o}); run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The identity file holds something else.
    #[error("{} {source}; put the file back from a backup, or remove it to start as a new server that old clients will not trust", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadIdentity,
    },
    /// A file is larger than anything of its kind.
    #[error("{} is longer than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Says what an operator can do about the commonest refusals.
fn reason(error: &io::Error) -> String {
    const OURS: [(ErrorKind, &str); 3] = [
        (
            ErrorKind::PermissionDenied,
            "permission denied; it must belong to the user who runs the server",
        ),
        (ErrorKind::NotFound, "no such file or folder"),
        (ErrorKind::StorageFull, "no space is left on the disk"),
    ];
    let known = OURS.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or_else(|| error.to_string(), |(_, words)| (*words).to_owned())
}

/// Turns an [`io::Error`] into one that says what was tried on which path.
pub(crate) fn refused(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Refused { what, path, source }
}

/// Returns the text of `path`, nothing if there is no such file.
///
/// # Errors
/// [`FileError`] when it is there and cannot be read as text.
pub fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused("read", path)(error)),
    };
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(refused("read", path))?;
    if FILE_BYTES_MAX < text.len() as u64 {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    Ok(Some(text))
}

/// Writes `text` to `path`, durably: after a crash the file is as before or as now.
///
/// # Errors
/// [`FileError`] when the disk refuses.
pub fn write_text(path: &Path, text: &str) -> Result<(), FileError> {
    write_with(path, text, 0o644)
}

/// Writes a secret to `path` like [`write_text`], readable by its owner alone.
///
/// # Errors
/// [`FileError`] when the disk refuses.
pub fn write_secret(path: &Path, text: &str) -> Result<(), FileError> {
    write_with(path, text, 0o600)
}

fn write_with(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let half = path.with_extension("new");
    let mut open = OpenOptions::new();
    let opened = open.write(true).create(true).truncate(true).mode(mode).open(&half);
    let mut file = opened.map_err(refused("write", &half))?;
    let mut write = || {
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&half, path)
    };
    write().map_err(refused("write", path))?;
    sync_name_of(path).map_err(refused("sync the name of", path))
}

/// Makes the name of `path` durable: a new name is lost with the power until its folder is synced.
fn sync_name_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new("."))).and_then(|folder| folder.sync_all())
}

/// Makes the folder `path` with everything above it, and its name durable: whatever is kept in it
/// would be lost with the name. What is new is for its owner alone.
///
/// # Errors
/// The system's.
pub fn make_folder_durably(path: &Path) -> io::Result<()> {
    let missing = missing_folders(path);
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    missing.iter().try_for_each(|new| sync_name_of(new))?;
    // Whoever made it before may have been killed before its name was durable. A folder above it
    // that is not ours to read was not made by this program.
    if missing.is_empty()
        && let Err(error) = sync_name_of(path)
    {
        tracing::debug!(%error, "the folder's own name is taken to be durable");
    }
    Ok(())
}

/// Makes the folder `path` with everything above it, durably and for its owner alone.
///
/// # Errors
/// [`FileError`] when the disk refuses.
pub fn make_private_folder(path: &Path) -> Result<(), FileError> {
    make_folder_durably(path).map_err(refused("make the folder", path))?;
    let own = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    own.map_err(refused("use the folder", path))
}

/// Returns the folders from `path` upwards that are not there yet.
fn missing_folders(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
    above.take_while(|folder| !folder.exists()).map(Path::to_owned).collect()
}

/// Returns the names of the folders in `path`, in order; none if there is no such folder.
///
/// # Errors
/// [`FileError`] when it is there and cannot be read.
pub fn folders(path: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refused("list", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(refused("list", path))?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Returns whether there is anything at `path`.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// Returns `path` from the root of the file system, whether or not there is anything.
#[must_use]
pub fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Writes `bytes` to `path`, in place of what was there.
///
/// # Errors
/// [`FileError`] when the disk refuses.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fs::write(path, bytes).map_err(refused("write", path))
}

/// Returns the server's identity from the world's folder `data`, made on the first call.
///
/// # Errors
/// [`FileError`] when the file is damaged, can be read by others, or the disk refuses.
pub fn identity(data: &Path) -> Result<Identity, FileError> {
    let path = data.join(IDENTITY_FILE);
    let Some(text) = read_text(&path)? else {
        let identity = Identity::from_seed(super::rng::random());
        write_secret(&path, &identity.to_text())?;
        return Ok(identity);
    };
    let mode = fs::metadata(&path).map_err(refused("read", &path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path, mode });
    }
    Identity::read(&text).map_err(|source| FileError::Identity { path, source })
}

/// Returns the environment variables whose names begin with `ECUMENE_`, in order.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let ours = |(name, value): &(String, String)| {
        name.starts_with("ECUMENE_") && value.len() <= VARIABLE_BYTES_MAX
    };
    let mut variables: Vec<_> = std::env::vars_os().filter_map(text).filter(ours).collect();
    variables.sort();
    variables
}

/// Returns the folder that holds all worlds: `$ECUMENE_HOME`, or `ecumene` among the user's data.
#[must_use]
pub fn default_root() -> PathBuf {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let shared = || folder("XDG_DATA_HOME").map(|data| data.join("ecumene"));
    let home = || folder("HOME").map(|home| home.join(".local/share/ecumene"));
    folder("ECUMENE_HOME").or_else(shared).or_else(home).unwrap_or_else(|| "ecumene".into())
}

/// Returns the user whom this process runs as, where the system tells.
#[must_use]
pub fn own_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").ok().map(|own| own.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept_for_its_owner() {
        let data = tempfile::tempdir().unwrap();
        let first = identity(data.path()).unwrap().public();
        assert_eq!(identity(data.path()).unwrap().public(), first);
        let mode = fs::metadata(data.path().join(IDENTITY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_exposed_or_damaged_identity_is_refused_with_what_to_do() {
        let data = tempfile::tempdir().unwrap();
        identity(data.path()).unwrap();
        let path = data.path().join(IDENTITY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let shown = path.display();
        assert_eq!(
            identity(data.path()).unwrap_err().to_string(),
            format!("{shown} can be read by others (mode 644); run: chmod 600 {shown}"),
        );
        write_secret(&path, "something else").unwrap();
        assert_eq!(
            identity(data.path()).unwrap_err().to_string(),
            format!(
                "{shown} is no identity file: expected \"ecumene identity 1\" and a line of 64 \
                 hexadecimal digits; put the file back from a backup, or remove it to start as a \
                 new server that old clients will not trust"
            ),
        );
    }

    #[test]
    fn writing_again_leaves_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        write_text(&path, "a long first text").unwrap();
        write_text(&path, "short").unwrap();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("short"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_there_is_no_error_and_what_is_no_text_is_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_text(&folder.path().join("none")).unwrap().is_none());
        assert!(folders(&folder.path().join("none")).unwrap().is_empty());
        let path = folder.path().join("b");
        fs::write(&path, [0xFF, 0xFE]).unwrap();
        assert!(read_text(&path).is_err());
        let long = folder.path().join("c");
        fs::write(&long, vec![b' '; 300_000]).unwrap();
        assert!(matches!(read_text(&long), Err(FileError::TooLong { .. })));
    }
}
