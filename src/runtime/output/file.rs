//! The file that the workers' output goes to.
//!
//! A file that cannot be written (a full disk, a folder that is gone) stops nobody: lines are dropped
//! and counted, it is tried again every second, and both the file and stanch's own log say how many are
//! missing. When it is large or old enough it is set aside under its own name and the time, compressed
//! by a thread beside the writer, and the oldest of those go.

use super::super::lock::lock;
use crate::config::Rotate;
use crate::core::words::chain;
use crate::store::beside;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// A file that cannot be written is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// It may have anything in it that a program prints.
const MODE: u32 = 0o640;

/// The file, opened when a line comes.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    rotate: Rotate,
    open: Option<Open>,
    /// Lines that are missing and not yet told of.
    lost: u64,
    /// The line that tells of them.
    missing: fn(u64) -> String,
    /// When to try again what failed.
    retry: Option<Instant>,
    /// Held by who compresses.
    tidying: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Open {
    /// Locked: two that write and rename the same file would destroy each other's lines.
    file: Flock<File>,
    size: u64,
    begun: SystemTime,
    /// The size at which it is set aside.
    rotate_at: u64,
    /// Whatever else stands there, a device or a pipe, is not set aside.
    is_regular: bool,
}

impl LogFile {
    /// At this path. What an earlier supervisor did not get to compress is done now.
    pub fn new(path: PathBuf, rotate: Rotate, missing: fn(u64) -> String) -> Self {
        let file = Self {
            path,
            rotate,
            open: None,
            lost: 0,
            missing,
            retry: None,
            tidying: Arc::default(),
        };
        file.tidy();
        file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines that are missing in it, and not yet told of.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Goes on with other rules.
    pub fn follow(&mut self, rotate: Rotate, missing: fn(u64) -> String) {
        (self.rotate, self.missing) = (rotate, missing);
        if let Some(open) = &mut self.open {
            open.rotate_at = rotate.size.0;
        }
        self.tidy();
    }

    /// The next line opens it anew.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Appends a line with its end, or counts it as lost.
    pub fn append(&mut self, line: &[u8]) {
        if self.retry.is_some_and(|at| Instant::now() < at) {
            self.lost += 1;
            return;
        }
        let lost = self.lost;
        match self.try_append(line) {
            Ok(()) => {
                if self.retry.take().is_some() {
                    let path = self.path.display();
                    tracing::warn!(%path, lost, "the workers' output is written again");
                }
            }
            Err(error) => {
                if self.retry.is_none() {
                    let path = self.path.display();
                    tracing::error!(
                        %path,
                        error = chain(&error),
                        "the workers' output cannot be written; its lines are dropped and counted until \
                         it can"
                    );
                }
                self.lost += 1;
                self.retry = Some(Instant::now() + RETRY);
                if let Some(torn) = self.open.take() {
                    torn.cut_back();
                }
            }
        }
    }

    fn try_append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| open.is_due(&self.rotate)) {
            self.set_aside();
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::at(&self.path, self.rotate.size.0)?),
        };
        // Both or none: what broke off is cut back.
        let told = if self.lost > 0 { (self.missing)(self.lost) } else { String::new() };
        open.write(&[told.as_bytes(), line].concat())?;
        self.lost = 0;
        Ok(())
    }

    /// No line may follow: tells now how many are missing. Gives the number if even that cannot be written.
    pub fn settle(&mut self) -> u64 {
        if self.lost > 0 && self.try_append(b"").is_err() {
            return std::mem::take(&mut self.lost);
        }
        0
    }

    /// Renames the file; the next line begins another. One that cannot be renamed goes on, and is tried
    /// again when as much has come to it once more.
    fn set_aside(&mut self) {
        let aside = name_of(&self.path, Timestamp::now());
        match fs::rename(&self.path, &aside) {
            Ok(()) => {
                self.open = None;
                self.tidy();
            }
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "the file cannot be set aside; it grows on");
                if let Some(open) = &mut self.open {
                    open.rotate_at = open.size + self.rotate.size.0;
                    open.begun = SystemTime::now();
                }
            }
        }
    }

    /// Compresses what was set aside and deletes the oldest, beside the writer.
    fn tidy(&self) {
        let (path, keep) = (self.path.clone(), self.rotate.keep as usize);
        let tidying = Arc::clone(&self.tidying);
        let task = move || {
            let _alone = lock(&tidying);
            if let Err(error) = tidy(&path, keep) {
                let path = path.display();
                tracing::warn!(%path, %error, "old output of the workers cannot be tidied up");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("stanch-tidy".into()).spawn(task) {
            tracing::warn!(%error, "no thread to compress the workers' old output");
        }
    }
}

impl Open {
    fn at(path: &Path, rotate_at: u64) -> io::Result<Self> {
        // Non-blocking: nobody may read from a pipe that stands there.
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        let mut options = OpenOptions::new();
        options.append(true).read(true).create(true).mode(MODE).custom_flags(flags);
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
                options.open(path)?
            }
            file => file?,
        };
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            let whose = "another program has it locked: do two applications write to it?";
            if errno == Errno::EWOULDBLOCK { io::Error::other(whose) } else { errno.into() }
        })?;
        let about = file.metadata()?;
        let begun = about.created().or_else(|_| about.modified())?;
        let (size, is_regular) = (about.len(), about.is_file());
        let mut open = Self { file, size, begun, rotate_at, is_regular };
        // What broke off, when the disk was full or the host went down, is no beginning of a line.
        let mut last = *b"\n";
        if open.size > 0 && open.file.read_at(&mut last, open.size - 1).is_ok() && last != *b"\n" {
            open.write(b"\n")?;
        }
        Ok(open)
    }

    fn is_due(&self, rotate: &Rotate) -> bool {
        let old = || self.begun.elapsed().is_ok_and(|age| age >= rotate.age);
        self.is_regular && self.size > 0 && (self.size >= self.rotate_at || old())
    }

    /// Takes back the part of a line that was written before the disk was full.
    fn cut_back(&self) {
        if self.is_regular {
            let _ = self.file.set_len(self.size);
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_all(text)?;
        self.size += text.len() as u64;
        Ok(())
    }
}

/// `shop.log.20261122T054000.123Z`; with `-001` and so on while that is taken.
fn name_of(path: &Path, now: Timestamp) -> PathBuf {
    let time = now.strftime("%Y%m%dT%H%M%S%.3fZ");
    let named = |end: &str| beside(path, &format!(".{time}{end}"));
    let is_free = |name: &PathBuf| !name.exists() && !compressed(name).exists();
    let more = (1..1000).map(|number| named(&format!("-{number:03}")));
    [named("")].into_iter().chain(more).find(is_free).unwrap_or_else(|| named("-more"))
}

fn compressed(name: &Path) -> PathBuf {
    beside(name, ".gz")
}

/// The files of a log that were set aside, oldest first, by the names that they got then: those that have
/// been compressed since have `.gz` behind it.
///
/// # Errors
/// What the system said to listing the folder; one that is not there is empty.
pub fn set_aside(path: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(BTreeSet::new());
    };
    let entries = match fs::read_dir(folder) {
        // It is made with the first line.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    let name = name.to_string_lossy();
    let is_time = |end: &str| end.len() >= 16 && end.starts_with(|c: char| c.is_ascii_digit());
    let name_then = |entry: io::Result<fs::DirEntry>| {
        let file = entry.ok()?.file_name();
        let file = file.to_str()?;
        let file = file.strip_suffix(".gz").unwrap_or(file);
        let end = file.strip_prefix(&*name)?.strip_prefix('.')?;
        (is_time(end) && !end.ends_with(".part")).then(|| folder.join(file))
    };
    Ok(entries.filter_map(name_then).collect())
}

/// Opens a file of [`set_aside`], to be read as it was; `None` when it is gone, for its age.
///
/// # Errors
/// What the system said to opening it.
pub fn open_aside(name: &Path) -> io::Result<Option<Box<dyn Read>>> {
    let opened = |path: &Path| match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    // In the order in which it comes to be: the compressed one is there before the other goes.
    if let Some(file) = opened(name)? {
        return Ok(Some(Box::new(file)));
    }
    let file = opened(&compressed(name))?;
    Ok(file.map(|file| Box::new(MultiGzDecoder::new(file)) as Box<dyn Read>))
}

fn tidy(path: &Path, keep: usize) -> io::Result<()> {
    loop {
        let aside = set_aside(path)?;
        let gone = aside.len().saturating_sub(keep);
        for file in aside.iter().take(gone).flat_map(|name| [name.clone(), compressed(name)]) {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let Some(next) = aside.iter().skip(gone).find(|name| name.exists()) else {
            return Ok(());
        };
        compress(next)?;
    }
}

fn compress(name: &Path) -> io::Result<()> {
    let whole = compressed(name);
    let part = beside(&whole, ".part");
    let write = || {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(MODE).open(&part)?;
        let mut encoder = GzEncoder::new(file, Compression::default());
        io::copy(&mut File::open(name)?, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        fs::rename(&part, &whole)
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    fs::remove_file(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::units::Bytes;

    fn rotate(size: u64, keep: u32) -> Rotate {
        Rotate { size: Bytes(size), age: Duration::from_secs(3600), keep }
    }

    fn missing(lines: u64) -> String {
        format!("stanch: {lines} lines are missing here\n")
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_large_file_is_set_aside_compressed_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/shop.log");
        let mut log = LogFile::new(path.clone(), rotate(20, 2), missing);
        for number in 0..50 {
            log.append(format!("line {number:04}\n").as_bytes());
        }
        let _alone = log.tidying.lock();
        tidy(&path, 2).unwrap();
        let aside = set_aside(&path).unwrap();
        let is_compressed = |name: &&PathBuf| !name.exists() && compressed(name).exists();
        assert_eq!((aside.iter().filter(is_compressed).count(), aside.len()), (2, 2), "{aside:?}");
        let mut all = String::new();
        for name in &aside {
            open_aside(name).unwrap().unwrap().read_to_string(&mut all).unwrap();
        }
        all += &text(&path);
        assert_eq!(all, "line 0044\nline 0045\nline 0046\nline 0047\nline 0048\nline 0049\n");
    }

    #[test]
    fn an_old_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.log");
        let mut log = LogFile::new(
            path.clone(),
            Rotate { age: Duration::ZERO, ..rotate(1 << 20, 9) },
            missing,
        );
        log.append(b"one\n");
        log.append(b"two\n");
        assert_eq!(text(&path), "two\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_when_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.log");
        fs::create_dir(&path).unwrap();
        let mut log = LogFile::new(path.clone(), rotate(1 << 20, 2), missing);
        log.append(b"one\n");
        log.append(b"two\n");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "torn").unwrap();
        log.append(b"three\n");
        assert_eq!(text(&path), "torn", "it is not tried again for each line");
        log.retry = Some(Instant::now());
        log.append(b"four\n");
        assert_eq!(text(&path), "torn\nstanch: 3 lines are missing here\nfour\n");
    }

    #[test]
    fn the_last_word_is_how_many_are_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.log");
        fs::create_dir(&path).unwrap();
        let mut log = LogFile::new(path.clone(), rotate(1 << 20, 2), missing);
        log.append(b"one\n");
        assert_eq!((log.settle(), log.settle()), (1, 0), "nobody else will tell of them");
        log.append(b"two\n");
        fs::remove_dir(&path).unwrap();
        assert_eq!(log.settle(), 0);
        assert_eq!(text(&path), "stanch: 1 lines are missing here\n", "without a pause");
    }

    #[test]
    fn a_file_of_another_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.log");
        let mut one = LogFile::new(path.clone(), rotate(1 << 20, 2), missing);
        let mut other = LogFile::new(path.clone(), rotate(1 << 20, 2), missing);
        one.append(b"one\n");
        other.append(b"other\n");
        assert_eq!((text(&path), other.lost), ("one\n".into(), 1));
        one.close();
        other.retry = None;
        other.append(b"other\n");
        assert_eq!(text(&path), "one\nstanch: 1 lines are missing here\nother\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("shop.log"), folder.path().join("moved"));
        let mut log = LogFile::new(path.clone(), rotate(1 << 20, 2), missing);
        log.append(b"one\n");
        fs::rename(&path, &moved).unwrap();
        log.append(b"two\n");
        log.close();
        log.append(b"three\n");
        assert_eq!((text(&moved), text(&path)), ("one\ntwo\n".into(), "three\n".into()));
    }
}
