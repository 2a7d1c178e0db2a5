//! Commands on the files of a world whose server does not run.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Bar, World, say};
use crate::admin::{AdminReply, AdminRequest};
use crate::admission::access::ACCESS_FILE;
use crate::cli::{Exit, Failure};
use crate::config::Settings;
use crate::io::clock;
use crate::io::files::{self, IDENTITY_FILE};
use crate::io::launch::{Place, decide_on_files};
use crate::io::store::{SledStore, StoreOptions, check, restore as restoring, rewrite};
use crate::world::{MANIFEST_FILE, Manifest};

/// Folder for backups in a world's folder, unless the settings name another.
const BACKUPS_FOLDER: &str = "backups";

/// Carries out `request` on the files; nothing if it needs a server.
pub(super) fn ask(
    world: &World,
    request: &AdminRequest,
    bar: &Bar,
) -> Result<Option<AdminReply>, Failure> {
    if let AdminRequest::Backup { to } = request {
        return backup(world, to.as_deref(), bar).map(Some);
    }
    if *request == AdminRequest::Verify {
        let show = &mut |done, total| bar.count("reading", done, total);
        let report = check::verify(&world.data, &StoreOptions::default(), show)?;
        let (records, problems) = (report.records, report.problems);
        return Ok(Some(AdminReply::Verified { records, problems }));
    }
    Ok(decide_on_files(&world.data, &world.manifest, request)?)
}

fn backup(world: &World, to: Option<&str>, bar: &Bar) -> Result<AdminReply, Failure> {
    let now_s = clock::unix_s();
    let to = match to {
        Some(path) => PathBuf::from(path),
        None => {
            let folder = backup_folder(&world.settings, &world.data);
            files::make_private_folder(&folder)?;
            folder.join(format!("ecumene-{now_s}.backup"))
        }
    };
    let show = &mut |done, total| bar.count("writing", done, total);
    let store = SledStore::open(&world.data, StoreOptions::default(), show)?;
    let written = store.backup(&to, now_s, show);
    store.close()?;
    written?;
    Ok(AdminReply::Done(format!("wrote {}", to.display())))
}

/// Returns where scheduled and nameless backups go.
fn backup_folder(settings: &Settings, data: &Path) -> PathBuf {
    let configured = &settings.config.store.backup_dir;
    if configured.is_empty() { data.join(BACKUPS_FOLDER) } else { PathBuf::from(configured) }
}

/// Makes the world `into` from the backup `file`, as a copy of the world that `place` names.
pub(super) fn restore(
    place: &Place,
    file: &Path,
    into: &str,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    crate::world::check_name(into).map_err(|bad| Failure::new(Exit::Usage, bad))?;
    let World { data: live, manifest, .. } = World::find(place)?;
    let data = place.root().join(into);
    let bar = Bar::default();
    let show = &mut |done, total| bar.count("restoring", done, total);
    let options = StoreOptions::default();
    let restored = restoring::restore(file, &data, Some(&live), &options, show)?;
    bar.finish();
    files::make_private_folder(&data)?;
    let manifest = Manifest { name: into.to_owned(), ..manifest };
    for name in [IDENTITY_FILE, ACCESS_FILE] {
        if let Some(text) = files::read_text(&live.join(name))? {
            files::write_secret(&data.join(name), &text)?;
        }
    }
    // Last, as a folder without it is no world.
    files::write_text(&data.join(MANIFEST_FILE), &manifest.to_text())?;
    say(
        out,
        &format!(
            "restored {} records into the world `{into}`, without {} of people who were erased\n\
             run it with: ecumene serve --world {into}\n",
            restored.records, restored.erased,
        ),
    )
}

pub(super) fn verify_backup(file: &Path, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bar = Bar::default();
    let show = &mut |done, total| bar.count("reading", done, total);
    let found = restoring::verify_backup(file, &StoreOptions::default(), show)?;
    bar.finish();
    say(out, &format!("{} records read, all sound\n", found.records))
}

pub(super) fn compact(data: &Path, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bar = Bar::default();
    let show = &mut |done, total| bar.count("rewriting", done, total);
    let done = rewrite::compact(data, &StoreOptions::default(), show)?;
    bar.finish();
    let kb = |bytes: u64| bytes / 1_000;
    say(
        out,
        &format!(
            "{} KB became {} KB: {} records kept, {} of erased people dropped\n",
            kb(done.bytes_before),
            kb(done.bytes_after),
            done.records,
            done.dropped,
        ),
    )
}

impl From<files::FileError> for Failure {
    fn from(error: files::FileError) -> Self {
        Self::new(Exit::Failed, error)
    }
}
