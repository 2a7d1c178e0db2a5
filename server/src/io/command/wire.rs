//! `ecumene wire`: reads a recorded session from a file and explains it line by line.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::Path;

use protocol::capture::{self, BadCapture, MAGIC};

use super::failed;
use crate::cli::{Exit, Failure};
use crate::wire::Explainer;

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Writes what the session recorded in `file` says, one line each.
///
/// # Errors
/// When the file cannot be read or is no recording; damage within it is explained in its place.
pub fn dump(
    file: &Path,
    as_json: bool,
    secrets: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let about = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("{}: {error}", file.display()))
    };
    let mut source = File::open(file).map_err(|error| about(&error))?;
    let mut magic = [0; MAGIC.len()];
    if source.read_exact(&mut magic).is_err() || magic != *MAGIC {
        return Err(about(&BadCapture::Magic));
    }
    let mut explainer = if secrets { Explainer::with_secrets() } else { Explainer::new() };
    let (mut pending, mut read) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        let count = source.read(&mut read).map_err(|error| about(&error))?;
        if count == 0 {
            break;
        }
        pending.extend_from_slice(read.get(..count).unwrap_or_default());
        let taken = tell(&mut explainer, &pending, as_json, out)
            .map_err(|error| about(&error))?
            .map_err(|error| failed(&error))?;
        pending.drain(..taken);
    }
    if pending.is_empty() {
        return Ok(Exit::Done);
    }
    // The recorder was stopped in the middle of a record; all before it was told.
    let cut = format!("the last {} bytes are a record that was cut off", pending.len());
    Err(about(&cut))
}

/// Tells all whole records at the front of `bytes`; returns how many bytes they take up.
fn tell(
    explainer: &mut Explainer,
    bytes: &[u8],
    as_json: bool,
    out: &mut dyn Write,
) -> Result<std::io::Result<usize>, BadCapture> {
    let mut taken = 0;
    while let Some((record, size)) = capture::split(bytes.get(taken..).unwrap_or_default())? {
        taken += size;
        for line in explainer.explain(&record) {
            let text = if as_json { line.json().to_string() } else { line.text() };
            if let Err(error) = writeln!(out, "{text}") {
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(taken))
}
