//! Reads elevation files: `.hgt`, and `.hgt.zip` archives that hold one.
//!
//! Owns the file and archive formats and their bounds; what the samples mean is the business of
//! [`tile`](crate::tile) and [`survey`](crate::survey).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use protocol::ids::ContentHash;

use crate::limits::{ARCHIVE_BYTES_MAX, ARCHIVE_FILES_MAX, TILE_BYTES_MAX};
use crate::survey::{Geo, OutsideTile, Survey};
use crate::tile::{BadTile, Tile};

/// A file that gives no ground.
#[derive(Debug, thiserror::Error)]
pub enum BadDem {
    /// The name promises nothing that is read here.
    #[error(
        "{path} is not elevation: expected an SRTM tile such as N43E007.hgt or N43E007.hgt.zip"
    )]
    Kind {
        /// File given.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("read {path}")]
    Read {
        /// File given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any tile.
    #[error("{path} has more than {max} bytes, which no elevation tile has")]
    TooLarge {
        /// File given.
        path: PathBuf,
        /// Bytes at most.
        max: u64,
    },
    /// The archive is broken or holds no tile.
    #[error("{path} is not an archive with one .hgt file in it: {why}")]
    Archive {
        /// File given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The samples make no tile.
    #[error("{path}: {source}")]
    Tile {
        /// File given.
        path: PathBuf,
        /// Why.
        source: BadTile,
    },
    /// The wanted origin is elsewhere.
    #[error(transparent)]
    Origin(#[from] OutsideTile),
}

/// Returns the ground of the tile at `path`, around `origin` or else around the dry and level
/// place nearest to the tile's centre.
///
/// # Errors
/// When the file is no tile or the origin lies outside it; the operator is told what is expected.
pub fn load(path: &Path, origin: Option<Geo>) -> Result<Survey, BadDem> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kind = name.to_ascii_lowercase();
    let (name, bytes) = if kind.ends_with(".hgt") {
        (name, read_bounded(path, TILE_BYTES_MAX)?)
    } else if kind.ends_with(".hgt.zip") {
        unpack(path, name, read_bounded(path, ARCHIVE_BYTES_MAX)?)?
    } else {
        return Err(BadDem::Kind { path: path.into() });
    };
    let tile =
        Tile::parse(&name, &bytes).map_err(|source| BadDem::Tile { path: path.into(), source })?;
    let content = ContentHash::of(&bytes);
    match origin {
        Some(origin) => Ok(Survey::around(tile, content, origin)?),
        None => Ok(Survey::of(tile, content)),
    }
}

fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, BadDem> {
    let failed = |source| BadDem::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if max < bytes.len() as u64 {
        return Err(BadDem::TooLarge { path: path.into(), max });
    }
    Ok(bytes)
}

/// Returns the one tile in an archive, under the name that says where it lies: the archive's own,
/// or the inner one if the archive was renamed.
fn unpack(path: &Path, name: String, bytes: Vec<u8>) -> Result<(String, Vec<u8>), BadDem> {
    let broken = |why: String| BadDem::Archive { path: path.into(), why };
    let mut archive =
        zip::ZipArchive::new(io::Cursor::new(bytes)).map_err(|error| broken(error.to_string()))?;
    if ARCHIVE_FILES_MAX < archive.len() {
        return Err(broken(format!("it holds {} files", archive.len())));
    }
    let is_tile = |name: &str| name.to_ascii_lowercase().ends_with(".hgt");
    let tiles: Vec<String> =
        archive.file_names().filter(|n| is_tile(n)).map(str::to_owned).collect();
    let [inner] = tiles.as_slice() else {
        return Err(broken(format!("it holds {} of them", tiles.len())));
    };
    let file = archive.by_name(inner).map_err(|error| broken(error.to_string()))?;
    let mut tile = Vec::new();
    // The bound holds whatever the archive claims about itself.
    file.take(TILE_BYTES_MAX + 1)
        .read_to_end(&mut tile)
        .map_err(|error| broken(error.to_string()))?;
    if TILE_BYTES_MAX < tile.len() as u64 {
        return Err(BadDem::TooLarge { path: path.into(), max: TILE_BYTES_MAX });
    }
    let inner_name = inner.rsplit('/').next().unwrap_or(inner);
    let name = if Tile::is_name(&name) { name } else { inner_name.to_owned() };
    Ok((name, tile))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use proptest::prelude::*;
    use protocol::ids::ChunkId;

    use super::*;
    use crate::chunk::{decode, encode};
    use crate::terrain::Terrain;
    use crate::tile::tests::synthetic;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, bytes) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).expect("starts");
            zip.write_all(bytes).expect("writes");
        }
        zip.finish().expect("ends").into_inner()
    }

    /// Loads a file of this name and content; returns what the operator reads.
    fn check(name: &str, bytes: &[u8], expected: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("writes");
        let said = match load(&path, None) {
            Ok(survey) => survey.describe(),
            Err(error) => error.to_string().replace(&*path.to_string_lossy(), "FILE"),
        };
        assert!(said.starts_with(expected), "{said}");
    }

    #[test]
    fn tiles_are_read_plain_and_zipped() {
        let tile = synthetic();
        check("N10E020.hgt", &tile, "measured ground around 10.5000N 20.5000E");
        let zipped = archive(&[("N10E020.hgt", &tile), ("README", b"public domain")]);
        check("N10E020.hgt.zip", &zipped, "measured ground around 10.5000N 20.5000E");
        check("S11W021.SRTMGL3.hgt.zip", &zipped, "measured ground around 10.5000S 20.5000W");
        check("mine.hgt.zip", &zipped, "measured ground around 10.5000N 20.5000E");
    }

    #[test]
    fn anything_else_is_refused_with_what_is_expected() {
        check("hills.dem", b"", "FILE is not elevation: expected an SRTM tile such as N43E007.hgt");
        check("hills.hgt", &synthetic(), "FILE: \"hills.hgt\" does not name a tile");
        check("N10E020.hgt", b"short", "FILE: a tile is 2884802 bytes (1201 x 1201 samples) or");
        check("N10E020.hgt.zip", b"PK", "FILE is not an archive with one .hgt file in it: ");
        let empty = archive(&[("README", b"nothing here")]);
        check(
            "N10E020.hgt.zip",
            &empty,
            "FILE is not an archive with one .hgt file in it: it holds 0",
        );
        let bomb = archive(&[("N10E020.hgt", &vec![0; 30_000_000])]);
        check("N10E020.hgt.zip", &bomb, "FILE has more than 25934402 bytes");
        check("N10E020.hgt", &vec![0; 26_000_000], "FILE has more than 25934402 bytes");
        let gone = load(Path::new("nowhere/N10E020.hgt"), None).map(|_| ());
        assert!(matches!(gone, Err(BadDem::Read { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_file_makes_the_reader_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..2_048),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let mut damaged = archive(&[("N10E020.hgt", &bytes)]);
            *at.get_mut(&mut damaged) = byte;
            for (name, bytes) in [("N10E020.hgt", &bytes), ("N10E020.hgt.zip", &damaged)] {
                let path = folder.path().join(name);
                fs::write(&path, bytes).expect("writes");
                prop_assert!(load(&path, None).is_err());
            }
        }
    }

    #[test]
    fn an_operator_chooses_the_origin() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("N10E020.hgt");
        fs::write(&path, synthetic()).expect("writes");
        let at = |latitude| load(&path, Some(Geo { latitude, longitude: 20.75 }));
        let survey = at(10.25).expect("inside");
        assert_eq!(survey.describe(), "measured ground around 10.2500N 20.7500E");
        assert_ne!(survey.fingerprint(), at(10.26).expect("inside").fingerprint());
        assert!(matches!(at(11.25), Err(BadDem::Origin(_))));
    }

    #[test]
    fn real_tiles_give_dry_origins_and_small_chunks() {
        let folder = std::env::var_os("ECUMENE_DEM").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/dem"),
            PathBuf::from,
        );
        let Ok(files) = fs::read_dir(&folder) else {
            println!("SKIPPED: no elevation in {} (set ECUMENE_DEM)", folder.display());
            return;
        };
        for path in files.map(|file| file.expect("reads").path()) {
            let name = path.to_string_lossy().into_owned();
            let loaded = load(&path, None);
            if !name.ends_with(".hgt.zip") {
                assert!(matches!(loaded, Err(BadDem::Kind { .. })), "{name}");
                continue;
            }
            let survey = loaded.expect("a tile");
            assert!(300 < survey.height_cm(0, 0), "{name} begins in the sea");
            for (x, z) in [(0, 0), (-1, 0), (40, -60), (-300, 200)] {
                let chunk = survey.chunk(ChunkId { level: 0, x, z }).expect("in the world");
                let bytes = encode(&chunk);
                assert!(bytes.len() < 3_500, "{name}: {} bytes", bytes.len());
                assert_eq!(decode(&bytes).as_ref(), Ok(&chunk));
            }
        }
    }
}
