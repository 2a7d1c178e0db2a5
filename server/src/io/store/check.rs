//! `verify`: reads everything that is stored and says what is not as it was written.
//!
//! Every record's checksum, every seal whose key is there, every large value, every key file, the
//! tallies (is anything missing or old?) and the mark (does the database reach as far as it did?).
//! Looking at files that nobody has open happens on a copy, because sled repairs what it opens.

use std::fs;
use std::path::Path;

use crate::io::keys::KeyFolder;
use crate::io::store::blobs::Blobs;
use crate::io::store::engine::Engine;
use crate::io::store::folder::{DataFolder, folder_bytes, free_bytes, io_error, remove_folder};
use crate::io::store::rewrite::sealed_with;
use crate::io::store::snapshot::Snapshot;
use crate::io::store::{SledStore, StoreOptions};
use crate::store::record::{self, BlobName};
use crate::store::tally::Tallies;
use crate::store::{Key, Number, StoreError, Stored, Tree, batch, intake};

/// Problems that are spelled out; all are counted.
const PROBLEMS_SHOWN_MAX: usize = 100;
/// Records read at a time from a copy.
const PAGE_RECORDS: usize = 1_024;

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The last batch in the database.
    pub number: Number,
    /// Records read, the store's own included.
    pub records: u64,
    /// How many of them lie in files of their own.
    pub blobs: u64,
    /// How many belong to people who were erased.
    pub erased: u64,
    /// The first hundred problems, one line each.
    pub problems: Vec<String>,
    /// How many problems there are.
    pub problems_total: u64,
}

impl Report {
    /// Returns whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems_total == 0
    }

    fn add(&mut self, problem: impl std::fmt::Display) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_SHOWN_MAX {
            self.problems.push(problem.to_string());
        }
    }
}

struct Check<'a> {
    keys: &'a KeyFolder,
    blobs: &'a Blobs,
    report: Report,
    counted: Tallies,
    noted: Option<Tallies>,
}

impl Check<'_> {
    fn record(&mut self, tree: Tree, key: &Key, bytes: &[u8]) {
        self.report.records += 1;
        self.counted.change(tree, None, Some(bytes));
        let framed = match record::decode(tree, key.as_bytes(), bytes) {
            Ok(framed) => framed,
            Err(error) => return self.report.add(format!("{} {key:?}: {error}", tree.name())),
        };
        if tree == Tree::Meta && *key == intake::own_key("tallies") {
            self.noted = Tallies::parse(framed.body);
        }
        self.report.blobs += u64::from(framed.form.is_blob);
        match batch::read(tree, key, bytes, self.keys, |name| self.blobs.read(name)) {
            Ok(Stored::Live(_)) => {}
            Ok(Stored::Erased(_)) => self.erased(tree, key, bytes),
            Err(error) => self.report.add(error),
        }
    }

    /// Counts a record that cannot be opened: as erased if the ledger says so.
    fn erased(&mut self, tree: Tree, key: &Key, bytes: &[u8]) {
        let blobs = self.blobs;
        let read = |hash, length| blobs.read(BlobName { hash, length }).ok();
        let sealed = sealed_with(tree, key, bytes, read);
        if sealed.is_some_and(|id| self.keys.erased().contains(&id)) {
            self.report.erased += 1;
        } else {
            self.report.add(format!("{} {key:?}: the key of its owner is missing", tree.name()));
        }
    }

    fn finish(mut self) -> Result<Report, StoreError> {
        for problem in self.keys.check()? {
            self.report.add(problem);
        }
        match self.noted {
            Some(noted) => {
                let wrong = Tree::ALL.into_iter().filter(|&t| noted.of(t) != self.counted.of(t));
                for tree in wrong {
                    let (noted, counted) = (noted.of(tree).records, self.counted.of(tree).records);
                    self.report.add(format!(
                        "tree `{}` holds {counted} records that are not the {noted} last written",
                        tree.name(),
                    ));
                }
            }
            None => self.report.add("the tallies are missing"),
        }
        Ok(self.report)
    }
}

impl SledStore {
    /// Reads everything stored as of one moment, while others go on. `progress` hears records
    /// done and in all.
    ///
    /// # Errors
    /// When the store is in trouble; what is wrong with records is in the report.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, StoreError> {
        let shared = &self.shared;
        let mut check = check(&shared.keys, &shared.blobs);
        let total = shared.with_engine(|engine| Ok(engine.tallies().records()))?;
        let snapshot = Snapshot::begin(shared)?;
        for tree in Tree::ALL {
            snapshot.read(tree, |key, bytes| {
                check.record(tree, &key, &bytes);
                progress(check.report.records.min(total), total);
                Ok::<(), StoreError>(())
            })?;
        }
        check.report.number = snapshot.number();
        drop(snapshot);
        check.finish()
    }
}

/// Reads everything in a data folder that nobody has open, changing nothing in its database.
/// `progress` hears records done and in all.
///
/// # Errors
/// [`StoreError::InUse`], no room for a copy of the database, or that there is no data folder.
/// Whatever is wrong with the data is in the report.
pub fn verify(
    data: &Path,
    options: &StoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, StoreError> {
    exists(data)?;
    let folder = DataFolder::take(data)?;
    let copy = data.join("db.verify");
    remove_folder(&copy)?;
    has_room(&folder)?;
    copy_folder(&folder.db(), &copy)?;
    let outcome = verify_copy(&folder, &copy, options, progress);
    remove_folder(&copy)?;
    outcome.or_else(|error| {
        let is_about_data = matches!(error, StoreError::Damaged { .. } | StoreError::Io { .. });
        if !is_about_data {
            return Err(error);
        }
        let mut report = Report::default();
        report.add(error);
        Ok(report)
    })
}

fn verify_copy(
    folder: &DataFolder,
    copy: &Path,
    options: &StoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, StoreError> {
    let (keys, blobs) = (KeyFolder::open(folder.path())?, Blobs::new(folder.path()));
    let engine = Engine::open(copy, options.cache_bytes)?;
    let mut check = check(&keys, &blobs);
    let read = read_copy(&engine, &mut check, progress);
    check.report.number = engine.applied();
    if let Err(error) = read {
        check.report.add(error);
    }
    match folder.read_mark() {
        Ok(Some(mark)) if engine.applied() < mark => {
            let applied = engine.applied();
            check.report.add(format!("it ends at batch {applied}, and {mark} were durable"));
        }
        Ok(_) => {}
        Err(error) => check.report.add(error),
    }
    if engine.number("schema")?.is_none() {
        check.report.add("the schema number is missing");
    }
    engine.close();
    check.finish()
}

fn read_copy(
    engine: &Engine,
    check: &mut Check<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    let total = engine.tallies().records();
    for tree in Tree::ALL {
        let mut after = None;
        loop {
            let page = engine.page(tree, after.as_ref(), PAGE_RECORDS)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            page.iter().for_each(|(key, bytes)| check.record(tree, key, bytes));
            progress(check.report.records.min(total), total);
        }
    }
    Ok(())
}

fn check<'a>(keys: &'a KeyFolder, blobs: &'a Blobs) -> Check<'a> {
    let (report, counted) = (Report::default(), Tallies::default());
    Check { keys, blobs, report, counted, noted: None }
}

/// Refuses to work on a data folder that is not there, instead of making one.
///
/// # Errors
/// When there is no database.
pub fn exists(data: &Path) -> Result<(), StoreError> {
    let there = ["db", "db.new", "db.old"].iter().any(|name| data.join(name).is_dir());
    let why = || StoreError::Io {
        what: "cannot read",
        path: data.into(),
        why: "it is no data folder: there is no `db` in it".into(),
    };
    there.then_some(()).ok_or_else(why)
}

fn has_room(folder: &DataFolder) -> Result<(), StoreError> {
    let needed = folder_bytes(&folder.db());
    match free_bytes(folder.path()) {
        Some(free) if free < needed => {
            Err(StoreError::Full { path: folder.path().into(), free, needed })
        }
        Some(_) | None => Ok(()),
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::create_dir(to).map_err(|e| io_error("cannot make", to, &e))?;
    let entries = fs::read_dir(from).map_err(|e| io_error("cannot list", from, &e))?;
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            let copied = fs::copy(entry.path(), &target);
            copied.map_err(|e| io_error("cannot copy", &entry.path(), &e))?;
        }
    }
    Ok(())
}
