//! Where evidence is kept: a folder beside the store, `NAME.evidence` for `NAME.db`.
//!
//! > `NAME.evidence/INCIDENT/SLOT.GENERATION/PART/FILE.gz`
//!
//! Files and not rows: a heap snapshot of a gigabyte has no place in a database that every event waits
//! for, and whoever has nothing but a shell can read these too (`zcat`). Only the supervisor's user can
//! (folders 0700, files 0600).
//!
//! A part comes into being as a *draft*, a folder of its own, and gets its name when all of it is on
//! disk: what has a name is whole. Drafts that a dead supervisor left are removed at the next start.
//! When all takes more than `keep`, the oldest parts go, and a sixteenth more than must, because finding them
//! takes a look at all.

use crate::core::evidence::Part;
use crate::core::{IncidentId, WorkerId};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

const DRAFT: &str = ".draft-";
/// More workers of one name in one incident are not told apart.
const NAMESAKES: u32 = 1000;
/// No kernel's is longer.
const TICK: Duration = Duration::from_millis(10);
/// What is removed beyond what must be, as a part of all that is kept.
const SPARE: u64 = 16;
/// Removed after one look at all parts: there may be tens of thousands, and only so many are remembered.
const OLDEST: usize = 64;

/// Heaps of text shrink to a tenth at the fastest level, at some 100 MB/s; the slower ones gain little.
const LEVEL: Compression = Compression::fast();

/// The folder of the evidence that belongs to the store at this path.
pub fn evidence_folder(store: &Path) -> PathBuf {
    store.with_extension("evidence")
}

/// Keeps evidence.
#[derive(Debug)]
pub struct Locker {
    folder: PathBuf,
    keep_bytes: AtomicU64,
    drafts: AtomicU64,
    /// What all parts take, once they were counted: not less than that, and more where somebody else
    /// removed some. One at a time makes room.
    taken: Mutex<Option<u64>>,
    /// When this life of the supervisor began.
    pub(super) since: SystemTime,
}

/// A part that is being written; it is gone if it is dropped before it is sealed.
#[derive(Debug)]
pub struct Draft<'a> {
    locker: &'a Locker,
    folder: PathBuf,
    target: PathBuf,
    files: u64,
}

/// A file of a draft: what is written to it is compressed.
#[derive(Debug)]
pub struct DraftFile(GzEncoder<BufWriter<File>>);

/// What came of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its files.
    pub files: u64,
    /// What they take.
    pub bytes: u64,
    /// Older parts that had to go, and what they took.
    pub removed: (u64, u64),
}

/// A part that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Of which incident.
    pub incident: IncidentId,
    /// Of which worker: `SLOT.GENERATION`.
    pub worker: String,
    /// Which part.
    pub part: String,
    /// When it was complete, UTC.
    pub at: Timestamp,
    /// Its files, by name.
    pub files: Vec<KeptFile>,
    path: PathBuf,
}

/// A file of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptFile {
    /// Its name, without `.gz`.
    pub name: String,
    /// Its size; of more than 4 GiB the rest beyond the last whole 4 GiB.
    pub bytes: u64,
    /// What it takes, compressed.
    pub stored_bytes: u64,
}

impl Locker {
    /// Keeps so many bytes beside the store at this path. Touches nothing yet, but for what a dead
    /// supervisor left half done.
    pub fn new(store: &Path, keep_bytes: u64) -> Self {
        let folder = evidence_folder(store);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if is_left_behind(&entry.file_name().to_string_lossy()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let keep_bytes = AtomicU64::new(keep_bytes);
        // The file system's clock may be a tick behind.
        let since = SystemTime::now().checked_sub(TICK).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { folder, keep_bytes, drafts: AtomicU64::default(), taken: Mutex::default(), since }
    }

    /// Keeps so many bytes from the next part on.
    pub fn set_keep(&self, bytes: u64) {
        self.keep_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Begins a part. Of a worker that has the name of an earlier one in the same incident (a log that was not
    /// written at the end does not tell the last generations) it lies beside that one's: `1.1-2`.
    ///
    /// # Errors
    /// What the kernel said to the folder; and that there is such a part already.
    pub fn draft(
        &self,
        incident: &IncidentId,
        worker: WorkerId,
        part: Part,
    ) -> io::Result<Draft<'_>> {
        let of_incident = self.folder.join(&incident.0);
        let beside = (2..NAMESAKES).map(|number| format!("{worker}-{number}"));
        let names = std::iter::once(worker.to_string()).chain(beside);
        let mut folders = names.map(|name| of_incident.join(name));
        let folder = folders.find(|folder| self.is_free(folder));
        let target = folder.ok_or(ErrorKind::AlreadyExists)?.join(part.as_str());
        if target.exists() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(format!("{DRAFT}{}-{number}", std::process::id()));
        make_folder(&folder)?;
        Ok(Draft { locker: self, folder, target, files: 0 })
    }

    /// Whether a worker's folder is not there, or from this life of the supervisor.
    fn is_free(&self, folder: &Path) -> bool {
        match fs::metadata(folder) {
            // Where the file system does not tell, the name is taken for one life's.
            Ok(metadata) => metadata.created().map_or(true, |at| at >= self.since),
            Err(_) => true,
        }
    }

    /// Removes the oldest parts if all take too much with one more of so many bytes; how many, and what they
    /// took.
    fn make_room(&self, added: u64) -> (u64, u64) {
        let keep = self.keep_bytes.load(Ordering::Relaxed);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.map(|known| known + added);
        let mut removed = (0, 0);
        while taken.is_none_or(|known| known > keep) {
            let (mut total, oldest) = self.count();
            let target = if total > keep { keep - keep / SPARE } else { total };
            let before = removed;
            for (.., bytes, path) in oldest {
                if total <= target {
                    break;
                }
                if fs::remove_dir_all(&path).is_ok() {
                    total -= bytes;
                    removed = (removed.0 + 1, removed.1 + bytes);
                }
                // Those that are empty now.
                for above in path.ancestors().skip(1).take(2) {
                    let _ = fs::remove_dir(above);
                }
            }
            *taken = Some(total);
            if removed == before {
                break;
            }
        }
        removed
    }

    /// What all parts take; the oldest, with their age and what each takes.
    fn count(&self) -> (u64, Vec<(i64, i64, u64, PathBuf)>) {
        let mut total = 0;
        let mut oldest = BinaryHeap::new();
        for path in parts(&self.folder) {
            let Ok(made) = fs::metadata(&path) else { continue };
            let bytes = size(&path);
            total += bytes;
            oldest.push((made.mtime(), made.mtime_nsec(), bytes, path));
            if oldest.len() > OLDEST {
                oldest.pop();
            }
        }
        (total, oldest.into_sorted_vec())
    }
}

impl Draft<'_> {
    /// A new file; `name` is cut to what is harmless in a name.
    pub fn create(&mut self, name: &str) -> io::Result<DraftFile> {
        let path = self.folder.join(format!("{}.gz", harmless(name)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.files += 1;
        Ok(DraftFile(GzEncoder::new(BufWriter::new(file), LEVEL)))
    }

    /// A whole file.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.create(name)?;
        file.write_all(bytes)?;
        file.finish()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.files == 0
    }

    /// The draft gets its name, and older parts make room.
    pub fn seal(self) -> io::Result<Sealed> {
        if let Some(above) = self.target.parent() {
            make_folder(above)?;
        }
        fs::rename(&self.folder, &self.target)?;
        let bytes = size(&self.target);
        let removed = self.locker.make_room(bytes);
        Ok(Sealed { files: self.files, bytes, removed })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // Nothing is there any more if it was sealed.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl DraftFile {
    /// All of it is on disk.
    pub fn finish(self) -> io::Result<()> {
        let file = self.0.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()
    }
}

impl Write for DraftFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// All parts that are kept beside the store at this path, the oldest first. A folder that is not there
/// has none.
///
/// # Errors
/// What the kernel said to the folder.
pub fn kept(store: &Path) -> io::Result<Vec<Kept>> {
    let folder = evidence_folder(store);
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => drop(other?),
    }
    let mut found: Vec<Kept> = parts(&folder).filter_map(Kept::of).collect();
    found.sort_by(|a, b| (a.at, &a.path).cmp(&(b.at, &b.path)));
    Ok(found)
}

impl Kept {
    fn of(path: PathBuf) -> Option<Self> {
        let mut names = path.iter().rev().map(|name| name.to_string_lossy().into_owned());
        let (part, worker, incident) = (names.next()?, names.next()?, names.next()?);
        let at = Timestamp::try_from(fs::metadata(&path).ok()?.modified().ok()?).ok()?;
        let mut files: Vec<KeptFile> = fs::read_dir(&path)
            .ok()?
            .flatten()
            .filter_map(|entry| KeptFile::of(&entry.path()))
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Self { incident: IncidentId(incident), worker, part, at, files, path })
    }

    /// What all its files take.
    pub fn stored_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.stored_bytes).sum()
    }

    /// A file of it, uncompressed.
    ///
    /// # Errors
    /// What the kernel said; reading says so if the file is damaged.
    pub fn read(&self, file: &KeptFile) -> io::Result<impl Read + use<>> {
        Ok(MultiGzDecoder::new(File::open(self.path.join(format!("{}.gz", file.name)))?))
    }

    /// Writes its files to `folder/INCIDENT/WORKER/PART/`, uncompressed; the folder that they are in.
    ///
    /// # Errors
    /// What the kernel said; nothing that is there is written over.
    pub fn extract(&self, folder: &Path) -> io::Result<PathBuf> {
        let folder = folder.join(&self.incident.0).join(&self.worker).join(&self.part);
        make_folder(&folder)?;
        for file in &self.files {
            let path = folder.join(&file.name);
            let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            io::copy(&mut self.read(file)?, &mut to)?;
        }
        Ok(folder)
    }
}

impl KeptFile {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gz")?.to_owned();
        let mut file = File::open(path).ok()?;
        let stored_bytes = file.metadata().ok()?.len();
        // The last four bytes are the size (RFC 1952).
        let mut size = [0; 4];
        file.seek(SeekFrom::End(-4)).ok()?;
        file.read_exact(&mut size).ok()?;
        Some(Self { name, bytes: u32::from_le_bytes(size).into(), stored_bytes })
    }
}

/// Whether this is a draft, `.draft-PID-NUMBER`, of a process that is not there any more. One that has our
/// own pid is from before: in a container it is always the same.
fn is_left_behind(name: &str) -> bool {
    let pid = name.strip_prefix(DRAFT).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
    pid.is_some_and(|pid| {
        pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists()
    })
}

/// The folders of all parts, as they are found.
fn parts(folder: &Path) -> impl Iterator<Item = PathBuf> {
    below(folder.to_owned()).flat_map(below).flat_map(below)
}

/// The folders in one, but hidden ones.
fn below(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let hidden = |name: &OsStr| name.to_string_lossy().starts_with('.');
    let visible = move |path: &PathBuf| path.is_dir() && !path.file_name().is_some_and(hidden);
    entries.map(|entry| entry.path()).filter(visible)
}

/// What a part takes on disk; a file takes whole blocks.
fn size(part: &Path) -> u64 {
    let entries = fs::read_dir(part).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Letters, digits and `.-_` stay; the rest, and a dot at the beginning, become `_`.
fn harmless(name: &str) -> String {
    let plain = |(at, c): (usize, char)| match c {
        '.' if at == 0 => '_',
        c if c.is_ascii_alphanumeric() || "._-".contains(c) => c,
        _ => '_',
    };
    name.chars().take(200).enumerate().map(plain).collect()
}
