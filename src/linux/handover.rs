//! Another program takes the place of this one in the same process (`execve(2)`): what goes along, and
//! how.
//!
//! The pid, the children, the role of sub-reaper and the environment stay by themselves, and so does each
//! descriptor that is not close-on-exec. What the successor must know of them travels as JSON in a sealed
//! file without a name (`memfd_create(2)`), whose number is in [`VARIABLE`]; the file names the
//! descriptors by their numbers, which exec does not change.
//!
//! `execve` ends all other threads wherever they are, and sets caught signals back to what they do by
//! default, which is to end the process. So all signals are blocked before; those that come meanwhile wait
//! until the successor catches them and [allows](allow_signals) them again.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::fstat;
use nix::unistd::execve;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names the descriptor of the document for the successor, which removes it at once.
pub const VARIABLE: &str = "STANCH_HANDOVER";

/// The layout of the document. A program that knows another one says so when it is tried.
pub const FORMAT: u32 = 1;

/// The descriptors that go along.
#[derive(Debug, Default)]
pub struct Luggage(Vec<Option<OwnedFd>>);

/// A descriptor in the luggage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(usize);

impl Luggage {
    /// Adds a second descriptor of the same open file.
    ///
    /// # Errors
    /// The limit of open files is reached.
    pub fn put(&mut self, fd: impl AsFd) -> io::Result<Place> {
        self.0.push(Some(fd.as_fd().try_clone_to_owned()?));
        Ok(Place(self.0.len() - 1))
    }

    /// Takes one out.
    ///
    /// # Errors
    /// `NotFound` when there is none at this place, or no more.
    pub fn take(&mut self, place: Place) -> io::Result<OwnedFd> {
        let fd = self.0.get_mut(place.0).and_then(Option::take);
        fd.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "a descriptor was not handed over")
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Document<T> {
    format: u32,
    /// By place; none for one that was taken out.
    descriptors: Vec<Option<RawFd>>,
    state: T,
}

/// A document with what it names.
#[derive(Debug)]
pub struct Parcel {
    document: OwnedFd,
    luggage: Luggage,
}

impl Parcel {
    /// Writes the document of `state`, which names its descriptors by their places.
    ///
    /// # Errors
    /// There is no memory, or no descriptor, for the file.
    pub fn pack(state: &impl Serialize, luggage: Luggage) -> io::Result<Self> {
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map(AsRawFd::as_raw_fd);
        let descriptors = luggage.0.iter().map(number).collect();
        let text = serde_json::to_vec(&Document { format: FORMAT, descriptors, state })?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let noexec = MFdFlags::from_bits_retain(nix::libc::MFD_NOEXEC_SEAL);
        // Hosts with `vm.memfd_noexec=2` insist on the flag, kernels before 6.3 do not know it.
        let file = match memfd_create(c"stanch-handover", flags | noexec) {
            Err(Errno::EINVAL) => memfd_create(c"stanch-handover", flags)?,
            other => other?,
        };
        let mut file = File::from(file);
        file.write_all(&text)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
        Ok(Self { document: file.into(), luggage })
    }

    /// What the one before has left for this process, if it did. Takes [`VARIABLE`] out of the
    /// environment: to be called before there is a second thread.
    ///
    /// # Errors
    /// The variable names no document, or one in another format, or a descriptor is missing.
    pub fn received() -> io::Result<Option<Self>> {
        let Some(number) = std::env::var_os(VARIABLE) else { return Ok(None) };
        // SAFETY: the process has one thread, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(VARIABLE) };
        let number = number.to_str().and_then(|number| number.parse().ok());
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        let document = claim(number)?;
        let Document { descriptors, .. } =
            read::<Document<serde::de::IgnoredAny>>(again(&document)?)?;
        let claimed = descriptors.into_iter().map(|number| number.map(claim).transpose());
        let luggage = Luggage(claimed.collect::<io::Result<_>>()?);
        Ok(Some(Self { document, luggage }))
    }

    /// What was packed.
    ///
    /// # Errors
    /// It cannot be read, or understood.
    pub fn open<T: DeserializeOwned>(self) -> io::Result<(T, Luggage)> {
        let Document { state, .. } = read(again(&self.document)?)?;
        Ok((state, self.luggage))
    }

    /// The document alone, to be read from its beginning.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn document(&self) -> io::Result<File> {
        again(&self.document)
    }

    /// Has `program` take this one's place, with these arguments (the name it is called by is the first)
    /// and this environment. Returns only if that fails: then all is as before.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn execute(&self, program: &Path, arguments: &[OsString]) -> io::Result<Infallible> {
        let word = |word: &OsStr| CString::new(word.as_bytes()).map_err(io::Error::from);
        let program = word(program.as_os_str())?;
        let arguments =
            arguments.iter().map(|argument| word(argument)).collect::<io::Result<Vec<_>>>()?;
        let own = OsString::from(format!("{VARIABLE}={}", self.document.as_raw_fd()));
        let variables = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
        let variables = variables.map(|(name, value)| [name, value].join(OsStr::new("=")));
        let environment =
            variables.chain([own]).map(|text| word(&text)).collect::<io::Result<Vec<_>>>()?;
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let executed =
            self.close_on_exec(false).and_then(|()| execve(&program, &arguments, &environment));
        let closed = self.close_on_exec(true);
        mask.thread_set_mask()?;
        let executed = executed?;
        closed?;
        match executed {}
    }

    fn close_on_exec(&self, close: bool) -> Result<(), Errno> {
        let flag = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
        let all = self.luggage.0.iter().flatten().chain([&self.document]);
        let mut each = all.map(|fd| fcntl(fd, FcntlArg::F_SETFD(flag)).map(drop));
        each.try_for_each(|outcome| outcome)
    }
}

/// Reads a document, as a program that is being tried does.
///
/// # Errors
/// It has another format, or holds something else.
pub fn try_document<T: DeserializeOwned>(document: impl Read) -> io::Result<T> {
    read::<Document<T>>(document).map(|document| document.state)
}

fn read<T: DeserializeOwned>(mut document: impl Read) -> io::Result<T> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let mut text = Vec::new();
    document.read_to_end(&mut text)?;
    let Format { format } = serde_json::from_slice(&text)?;
    if format != FORMAT {
        return Err(io::Error::other(format!("format {format} is not known here, {FORMAT} is")));
    }
    Ok(serde_json::from_slice(&text)?)
}

/// The same file, read from its beginning: the place in an open file is shared.
fn again(document: &OwnedFd) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", document.as_raw_fd()))
}

/// Makes a descriptor that was inherited this process's own, close-on-exec.
pub(super) fn claim(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is one that the process was started with, and named once; if nothing is open
    // there the next call says so, and nothing is closed.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and nothing in this process owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets signals through again that were blocked when this program took its place.
///
/// # Errors
/// What the kernel said.
pub fn allow_signals() -> io::Result<()> {
    Ok(SigSet::all().thread_unblock()?)
}

/// A program file as it is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Device, inode, size, and when it was last changed: another file has others.
    identity: [i64; 5],
}

impl Program {
    /// The file that is there now.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        let (dev, ino) = (found.dev().cast_signed(), found.ino().cast_signed());
        let size = found.size().cast_signed();
        let identity = [dev, ino, size, found.mtime(), found.mtime_nsec()];
        Ok(Self { path: path.to_owned(), identity })
    }

    /// Whether it is still there, and the same.
    pub fn is_there(&self) -> bool {
        Self::at(&self.path).is_ok_and(|now| now == *self)
    }
}

/// The path under which this program was called, where a newer one will be found: the first argument if
/// that is this very file, also by way of a link that may lead elsewhere later; else where the kernel says
/// that it is.
pub fn own_path() -> Option<PathBuf> {
    const REPLACED: &[u8] = b" (deleted)";
    let running = File::open("/proc/self/exe").and_then(|file| Ok(fstat(file)?)).ok()?;
    let is_this = |path: &PathBuf| {
        let same = |found: std::fs::Metadata| {
            (found.dev(), found.ino()) == (running.st_dev, running.st_ino)
        };
        path.metadata().is_ok_and(same)
    };
    let called = std::env::args_os().next().map(PathBuf::from)?;
    let candidates: Vec<PathBuf> = match called.components().count() {
        1 => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|folder| folder.join(&called)).collect()
        }
        _ => vec![called],
    };
    let found =
        candidates.into_iter().find(is_this).and_then(|path| std::path::absolute(path).ok());
    found.or_else(|| {
        let link = std::fs::read_link("/proc/self/exe").ok()?;
        let bytes = link.as_os_str().as_bytes();
        let bytes = bytes.strip_suffix(REPLACED).unwrap_or(bytes);
        Some(PathBuf::from(OsStr::from_bytes(bytes)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_found_again() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut luggage = Luggage::default();
        let place = luggage.put(&writer).unwrap();
        drop(writer);
        let parcel = Parcel::pack(&("state", place), luggage).unwrap();
        let tried: (String, Place) = try_document(parcel.document().unwrap()).unwrap();
        assert_eq!(tried.0, "state");
        let ((text, place), mut luggage) = parcel.open::<(String, Place)>().unwrap();
        assert_eq!(text, "state");
        let writer = luggage.take(place).unwrap();
        assert!(luggage.take(place).is_err(), "it is there once");
        File::from(writer).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn another_format_is_refused() {
        let text = br#"{"format": 2, "descriptors": [], "state": {"what": "ever"}}"#;
        let error = try_document::<String>(&text[..]).unwrap_err();
        assert_eq!(error.to_string(), "format 2 is not known here, 1 is");
        assert!(try_document::<String>(&b"x"[..]).is_err());
    }

    #[test]
    fn a_failed_execution_changes_nothing() {
        let mut luggage = Luggage::default();
        luggage.put(io::stderr()).unwrap();
        let parcel = Parcel::pack(&(), luggage).unwrap();
        let before = SigSet::thread_get_mask().unwrap();
        let error = parcel.execute(Path::new("/nowhere/stanch"), &["stanch".into()]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        for fd in parcel.luggage.0.iter().flatten().chain([&parcel.document]) {
            assert_eq!(fcntl(fd, FcntlArg::F_GETFD).unwrap(), FdFlag::FD_CLOEXEC.bits());
        }
    }

    #[test]
    fn a_program_that_was_replaced_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "one").unwrap();
        let program = Program::at(&path).unwrap();
        assert!(program.is_there());
        std::fs::write(folder.path().join("new"), "two").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(!program.is_there());
    }
}
