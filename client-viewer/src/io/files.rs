//! Files that a viewer reads and writes, and where they are by default.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use protocol::limits::ASSET_BYTES_MAX;
use serde_json::Value;

use crate::map::Picture;
use crate::script::{self, Line};

/// Returns the folder of a person's settings: `ecumene` in `$XDG_CONFIG_HOME` or `~/.config`.
#[must_use]
pub fn settings_folder() -> PathBuf {
    let from = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let base = from("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || from("HOME").map(|home| PathBuf::from(home).join(".config"));
    base.or_else(home).unwrap_or_default().join("ecumene")
}

/// Reads a script.
///
/// # Errors
/// When the file cannot be read, or every line that is bad.
pub fn read_script(path: &Path) -> Result<Vec<Line>> {
    let length = fs::metadata(path).with_context(|| format!("read {}", path.display()))?.len();
    if script::SCRIPT_BYTES_MAX as u64 <= length {
        bail!("{} is {length} bytes, at most {}", path.display(), script::SCRIPT_BYTES_MAX);
    }
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    match script::parse(&text) {
        Ok(lines) => Ok(lines),
        Err(bad) => {
            let complaints: Vec<String> = bad.iter().map(ToString::to_string).collect();
            bail!("{}:\n{}", path.display(), complaints.join("\n"));
        }
    }
}

/// Reads a file that is to be shared; returns its name and its bytes.
///
/// # Errors
/// When it cannot be read, or is longer than any asset.
pub fn read_asset(path: &Path) -> Result<(String, Vec<u8>)> {
    let length = fs::metadata(path).with_context(|| format!("read {}", path.display()))?.len();
    if ASSET_BYTES_MAX < length {
        bail!("{} is {length} bytes, at most {ASSET_BYTES_MAX}", path.display());
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} has no name", path.display()))?.to_owned();
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok((name, bytes))
}

/// Writes a file that was fetched: what stood there before stands until all of it is written.
///
/// # Errors
/// When it cannot be written.
pub fn write_asset(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut half = path.as_os_str().to_owned();
    half.push(".part");
    let half = PathBuf::from(half);
    let written = fs::write(&half, bytes).and_then(|()| fs::rename(&half, path));
    if written.is_err() {
        // It may not even have been made.
        drop(fs::remove_file(&half));
    }
    written.with_context(|| format!("write {}", path.display()))
}

/// Where JSON lines go: a file, or standard output.
pub struct Out {
    to: BufWriter<Box<dyn Write>>,
}

impl Out {
    /// Opens the file at `path`, or standard output without one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let to: Box<dyn Write> = match path {
            Some(path) => {
                Box::new(File::create(path).with_context(|| format!("write {}", path.display()))?)
            }
            None => Box::new(io::stdout()),
        };
        Ok(Self { to: BufWriter::new(to) })
    }

    /// Writes one line and hands it on at once, for those who read along.
    ///
    /// # Errors
    /// When the file or pipe takes no more.
    pub fn write(&mut self, line: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.to, line)?;
        self.to.write_all(b"\n")?;
        self.to.flush()
    }
}

/// Writes a picture as PNG.
///
/// # Errors
/// When the file cannot be written.
pub fn write_png(path: &Path, picture: Picture) -> Result<()> {
    let Picture { width, height, pixels } = picture;
    let image = image::RgbImage::from_raw(width, height, pixels);
    let image = image.context("a picture has three bytes a pixel")?;
    image
        .save_with_format(path, image::ImageFormat::Png)
        .with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_replaces_what_stood_there_or_leaves_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hat.png");
        fs::write(&file, b"old and long").unwrap();
        write_asset(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        // A folder cannot be replaced by a file.
        let full = folder.path().join("full");
        fs::create_dir(&full).unwrap();
        assert!(write_asset(&full, b"new").is_err());
        assert!(full.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no half is left");
    }
}
