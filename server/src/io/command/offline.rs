//! Commands on the files of a world whose server does not run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::{Handle, Runtime};

use super::{Bar, World, say};
use crate::admin::{AdminReply, AdminRequest, Who};
use crate::admission::access::ACCESS_FILE;
use crate::admission::bans::Subject;
use crate::audit as trail;
use crate::cli::{Exit, Failure};
use crate::config::Settings;
use crate::io::audit::{self, Auditor};
use crate::io::files::{self, IDENTITY_FILE};
use crate::io::launch::{Place, decide_locked, decide_on_files, read_access, write_access};
use crate::io::operator::people::erased;
use crate::io::store::{SledStore, StoreOptions, check, restore as restoring, rewrite};
use crate::io::{clock, forget};
use crate::rows;
use crate::store::{Batch, Store, StoreError, Tree};
use crate::world::{MANIFEST_FILE, Manifest};

/// Folder for backups in a world's folder, unless the settings name another.
const BACKUPS_FOLDER: &str = "backups";

/// Carries out `request` on the files; nothing if it needs a server.
pub(super) fn ask(
    world: &World,
    request: &AdminRequest,
    bar: &Bar,
) -> Result<Option<AdminReply>, Failure> {
    match request {
        AdminRequest::Backup { .. }
        | AdminRequest::Erase { .. }
        | AdminRequest::Ban { .. }
        | AdminRequest::Unban { .. }
        | AdminRequest::Mute { .. }
        | AdminRequest::Unmute { .. }
        | AdminRequest::Role { .. }
        | AdminRequest::TokenMint { .. }
        | AdminRequest::TokenRevoke { .. } => return change(world, request, bar).map(Some),
        AdminRequest::Audit { last } => {
            let store = open(world, bar)?;
            let reply = audit::reply(&*store, *last);
            close(store)?;
            return Ok(Some(reply));
        }
        AdminRequest::Status
        | AdminRequest::PlayerList
        | AdminRequest::Kick { .. }
        | AdminRequest::BanList
        | AdminRequest::Move { .. }
        | AdminRequest::Announce { .. }
        | AdminRequest::TokenList
        | AdminRequest::Stop { .. }
        | AdminRequest::Reload
        | AdminRequest::Verify
        | AdminRequest::AssetList { .. }
        | AdminRequest::AssetRemove { .. }
        | AdminRequest::ShardSplit { .. }
        | AdminRequest::ShardMerge { .. }
        | AdminRequest::ShardMove { .. }
        | AdminRequest::ShardList => {}
    }
    if *request == AdminRequest::Verify {
        let show = &mut |done, total| bar.count("reading", done, total);
        let report = check::verify(&world.data, &StoreOptions::default(), show)?;
        let (records, problems) = (report.records, report.problems);
        return Ok(Some(AdminReply::Verified { records, problems }));
    }
    Ok(decide_on_files(&world.data, &world.manifest, request)?)
}

fn open(world: &World, bar: &Bar) -> Result<Arc<SledStore>, Failure> {
    let show = &mut |done, total| bar.count("reading", done, total);
    Ok(Arc::new(SledStore::open(&world.data, StoreOptions::default(), show)?))
}

fn close(store: Arc<SledStore>) -> Result<(), StoreError> {
    if let Some(store) = Arc::into_inner(store) {
        store.close()?;
    }
    Ok(())
}

/// Carries out what changes something, and writes it down before and after. What operators decide
/// needs no store: it is done also where nothing can be written down.
fn change(world: &World, request: &AdminRequest, bar: &Bar) -> Result<AdminReply, Failure> {
    let needs_store = matches!(request, AdminRequest::Backup { .. } | AdminRequest::Erase { .. });
    let store = match open(world, bar) {
        Ok(store) => store,
        Err(failure) if needs_store || failure.exit == Exit::Busy => return Err(failure),
        Err(failure) => {
            warn_unwritten(&failure);
            return decided(decide_on_files(&world.data, &world.manifest, request)?);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error))?;
    let who = match files::own_uid() {
        Some(uid) => format!("uid {uid}, no server"),
        None => "no server".to_owned(),
    };
    let target = trail::target(request).and_then(|who| match who {
        Who::Subject(subject) => Some(trail::subject(subject)),
        Who::Name(_) => None,
    });
    let what = trail::words(request, target.as_deref());
    let begun = Auditor::open(Arc::clone(&store) as Arc<dyn Store>).and_then(|auditor| {
        let entry = runtime.block_on(auditor.begin(who, what))?;
        Ok((auditor, entry))
    });
    let begun = begun.inspect_err(|error| warn_unwritten(error)).ok();
    let done = carry_out(world, request, (&store, &runtime), bar);
    let reply = done.as_ref().map_or_else(|bad| AdminReply::Failed(bad.to_string()), Clone::clone);
    if let Some((auditor, entry)) = begun {
        let ended = runtime.block_on(auditor.end(entry, &reply));
        drop(auditor);
        // What was done is told all the same: a token is shown this once.
        ended.and_then(|()| close(store)).unwrap_or_else(|error| warn_unwritten(&error));
    }
    done
}

/// Says that something is done and not written down.
#[expect(clippy::print_stderr, reason = "a warning beside the answer")]
fn warn_unwritten(why: &dyn std::error::Error) {
    eprintln!("ecumene: what is done is not written down (`ecumene audit`): {why}");
}

fn decided(reply: Option<AdminReply>) -> Result<AdminReply, Failure> {
    reply.ok_or_else(|| Failure::new(Exit::Failed, "this is no decision"))
}

fn carry_out(
    world: &World,
    request: &AdminRequest,
    (store, runtime): (&Arc<SledStore>, &Runtime),
    bar: &Bar,
) -> Result<AdminReply, Failure> {
    if let AdminRequest::Backup { to } = request {
        return backup(world, to.as_deref(), store, bar);
    }
    if let AdminRequest::Erase { who } = request {
        let reply = erase(world, who, &**store, runtime.handle())?;
        runtime.block_on(store.flush())?;
        return Ok(reply);
    }
    decided(decide_locked(&world.data, &world.manifest, request)?)
}

/// Erases what is kept of somebody. Nobody is in while no server runs.
fn erase(
    world: &World,
    who: &Who,
    store: &dyn Store,
    runtime: &Handle,
) -> Result<AdminReply, Failure> {
    let person = match who {
        Who::Subject(Subject::Person(person)) => *person,
        Who::Subject(Subject::Key(key)) => key.person(),
        Who::Subject(Subject::Address(_)) | Who::Name(_) => {
            let why = format!("while no server runs, `{who}` is nobody; use their id (p-1f)");
            return Err(Failure::new(Exit::Refused, why));
        }
    };
    let mut count = forget::forget(store, person, runtime)?;
    let before = read_access(&world.data)?;
    let mut access = before.clone();
    access.forget(person);
    if access != before {
        write_access(&world.data, &access)?;
        count += 1;
    }
    for mut lender in forget::people_who(store, |record| record.lends_to(person))? {
        lender.recall(person);
        count += 1;
        let mut batch = Batch::new();
        let key = rows::person_key(lender.person);
        batch.put(Tree::People, key, rows::person_row(&lender));
        store.append(batch)?;
    }
    if count == 0 {
        return Ok(AdminReply::Failed(format!("nothing is kept of {person}")));
    }
    Ok(AdminReply::Done(erased(person)))
}

fn backup(
    world: &World,
    to: Option<&str>,
    store: &SledStore,
    bar: &Bar,
) -> Result<AdminReply, Failure> {
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
    store.backup(&to, now_s, show)?;
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
