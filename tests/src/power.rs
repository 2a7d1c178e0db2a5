//! Power cuts, full disks and disks that fail or lie, for programs that keep files: what was not
//! synced is taken back when the power goes.
//!
//! The disk is `power/shim.c`, a library that is built here and preloaded into the program; its
//! head says what it simulates and what not. What the program must have kept is the tests' to say.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};

use crate::process::{Folder, text};

/// How a process ends whose power was cut.
pub const CUT_EXIT: i32 = 86;

/// The signal on which the power goes with the next change.
pub const CUT_SIGNAL: i32 = libc::SIGUSR2;

/// The disk, in C: a Rust library would call itself for every file it touches.
const SHIM: &str = include_str!("power/shim.c");

/// What goes wrong in one run of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the dice grow from.
    pub seed: u64,
    /// Of a thousand changes that no sync covered, how many reach the disk all the same.
    pub keep_permille: u32,
    /// The change at which the power goes; 0 for only when told.
    pub cut_at: u64,
    /// The change from which on the disk is full, and for how many; 0 for never.
    pub full: (u64, u64),
    /// The change from which on the next sync fails; 0 for never.
    pub fail_at: u64,
    /// The disk says that data are safe and does nothing.
    pub lies: bool,
}

/// A disk whose power can be cut: all below [`Power::root`] is on it.
#[derive(Debug)]
pub struct Power {
    folder: Folder,
    library: PathBuf,
}

impl Power {
    /// Makes an empty disk.
    ///
    /// # Errors
    /// When the library cannot be built, or the system's.
    pub fn make() -> Result<Self> {
        let library = library()?;
        let folder = Folder::make()?;
        for name in ["root", "shadow"] {
            std::fs::create_dir(folder.path().join(name)).context("make a disk")?;
        }
        Ok(Self { folder, library })
    }

    /// Returns the folder that is on the disk.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Returns the lines that say what each cut took back.
    #[must_use]
    pub fn report(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("report")).unwrap_or_default()
    }

    /// Puts a program that is about to start onto the disk.
    pub fn under(&self, command: &mut Command, plan: &Plan) {
        for (name, value) in self.variables(plan) {
            command.env(name, value);
        }
    }

    /// Returns the variables that do so.
    #[must_use]
    pub fn variables(&self, plan: &Plan) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD", path(&self.library)),
            ("POWER_ROOT", path(&self.root())),
            ("POWER_SHADOW", path(&self.folder.path().join("shadow"))),
            ("POWER_REPORT", path(&self.folder.path().join("report"))),
            ("POWER_SEED", plan.seed.to_string()),
            ("POWER_KEEP", plan.keep_permille.to_string()),
            ("POWER_CUT_AT", plan.cut_at.to_string()),
            ("POWER_FULL_AT", plan.full.0.to_string()),
            ("POWER_FULL_FOR", plan.full.1.to_string()),
            ("POWER_FAIL_AT", plan.fail_at.to_string()),
            ("POWER_LIE", u8::from(plan.lies).to_string()),
        ]
    }
}

/// Returns the library, built beside the program that asks unless it is there already.
///
/// A C compiler is at hand wherever this repository builds: ring needs one.
fn library() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let name =
        format!("power-{:016x}", BuildHasherDefault::<DefaultHasher>::default().hash_one(SHIM));
    let library = own.with_file_name(format!("{name}.so"));
    if library.is_file() {
        return Ok(library);
    }
    let folder = Folder::make()?;
    let source = folder.path().join("shim.c");
    std::fs::write(&source, SHIM).context("write the disk's source")?;
    // Another test may build it at the same time: it gets its name when it is whole.
    static BUILDS: AtomicU64 = AtomicU64::new(0);
    let build = BUILDS.fetch_add(1, Ordering::Relaxed);
    let part = own.with_file_name(format!("{name}-{}-{build}.part", std::process::id()));
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&part).arg(&source);
    let output = command.args(["-ldl", "-lpthread"]).output().context("run the C compiler")?;
    ensure!(output.status.success(), "the disk does not build:\n{}", text(&output.stderr));
    std::fs::rename(&part, &library).context("name the disk's library")?;
    Ok(library)
}
