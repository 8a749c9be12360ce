//! The control socket as a file: made for its owner alone, one supervisor each, gone at the end.
//!
//! Three tricks:
//!
//! - **No moment with wider rights.** `bind` gives the socket file the mode of the *socket's* inode
//!   less the umask (`unix_bind_bsd` in the kernel's net/unix/af_unix.c), so `fchmod` on the socket
//!   before `bind` decides it. The umask belongs to the whole process, and changing it would race
//!   with every other thread that makes a file.
//! - **Two that start at once.** A stale socket can only be told from a live one by connecting, and
//!   between that and the `unlink` another supervisor may have bound. So all of it happens under an
//!   exclusive flock(2) on `PATH.lock`, held for life. The kernel drops it when the process ends,
//!   however it ends. The lock file stays: removing it would let two processes each lock "the" file
//!   under one name. It holds the pid of its owner, for messages.
//! - **Who listens.** `SO_PEERCRED` on the connecting side names the process that called `listen`
//!   (unix(7)).

use crate::config::UNIX_PATH_MAX;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, getsockopt, sockopt::PeerCredentials,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, geteuid};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections that wait for `accept`; more get `EAGAIN`.
const BACKLOG: i32 = 64;

/// Why the control socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel's limit.
    #[error(
        "the control socket's path has {length} bytes and Unix sockets allow {UNIX_PATH_MAX}: {}; \
         set a shorter one with --socket or [control] socket", path.display()
    )]
    TooLong {
        /// The path asked for.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The parent folder is missing and could not be made, or could not be looked at.
    #[error("cannot make the folder {} for the control socket", folder.display())]
    Folder {
        /// The parent folder.
        folder: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Others could put a socket of their own in the place of ours.
    #[error(
        "the folder {} {flaw}, so others could replace the control socket in it; correct the \
         folder, or set another path with --socket or [control] socket", folder.display()
    )]
    UnsafeFolder {
        /// The parent folder.
        folder: PathBuf,
        /// What is wrong with it.
        flaw: String,
    },
    /// The lock file could not be opened, locked or written.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another supervisor holds the path.
    #[error(
        "another stanch{} serves on {path}; stop it with `stanch stop --socket {path}`, or give this \
         one another control socket (--socket)", pid_words(*pid), path = path.display()
    )]
    InUse {
        /// The control socket.
        path: PathBuf,
        /// The other supervisor, where known.
        pid: Option<i32>,
    },
    /// Something that is not ours to remove.
    #[error("{} is in the way of the control socket and is not a socket; move it away", path.display())]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// A socket stands there that this user may not speak to.
    #[error("{} is the socket of another user; give this stanch another one (--socket)", path.display())]
    Foreign {
        /// The path asked for.
        path: PathBuf,
    },
    /// It is not known whether the socket that stands there lives.
    #[error("cannot tell whether the socket {} is in use", path.display())]
    Probe {
        /// The path asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket of a supervisor that died could not be removed.
    #[error("cannot remove the stale socket {}", path.display())]
    Stale {
        /// The path asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket could not be made, bound or listened on.
    #[error("cannot make the control socket {}", path.display())]
    Bind {
        /// The path asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn pid_words(pid: Option<i32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
}

/// A control socket that listens (non-blocking); its file goes when this is dropped.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    file: SocketFile,
}

impl Control {
    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The listener, and the file that must outlive its use.
    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }

    /// Of its [`parts`](Self::into_parts).
    pub(super) fn of_parts(listener: UnixListener, file: SocketFile) -> Self {
        Self { listener, file }
    }

    /// What a program needs that takes it over ([`again`](Self::again)): where it stands, and the
    /// descriptors of the listener and of the lock. The file stays when this is forgotten.
    pub fn parts(&self) -> (ControlFile, [BorrowedFd<'_>; 2]) {
        let SocketFile { path, identity, lock } = &self.file;
        let file = ControlFile { path: path.clone(), identity: *identity };
        (file, [self.listener.as_fd(), lock.as_fd()])
    }

    /// Takes over what another program made, and locked.
    ///
    /// # Errors
    /// The descriptors are not those of a control socket.
    pub fn again(file: ControlFile, [listener, lock]: [OwnedFd; 2]) -> io::Result<Self> {
        let ControlFile { path, identity } = file;
        // The lock belongs to the open file, so it is ours already.
        let lock = Flock::lock(File::from(lock), FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| errno)?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        Ok(Self { listener, file: SocketFile { path, identity, lock } })
    }
}

/// Where a control socket stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControlFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// The socket's file and its lock.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, to leave alone what another put there after ours was removed by hand.
    identity: (u64, u64),
    /// Released after the file is removed: fields drop after `Drop::drop`.
    lock: Flock<File>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: Metadata| (found.dev(), found.ino()) == self.identity;
        if self.path.symlink_metadata().is_ok_and(ours)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the control socket stays behind");
        }
    }
}

/// Makes the control socket at `path`, mode 0600, and the folder around it where missing. A socket
/// whose supervisor died is replaced; a live one, or anything else in the way, is left alone.
pub fn bind(path: &Path) -> Result<Control, SocketError> {
    let length = path.as_os_str().len();
    if length > UNIX_PATH_MAX {
        return Err(SocketError::TooLong { path: path.into(), length });
    }
    prepare_folder(path)?;
    let lock = lock(path)?;
    let in_use = |pid| SocketError::InUse { path: path.into(), pid };
    match presence(path).map_err(|source| SocketError::Probe { path: path.into(), source })? {
        Presence::Missing => {}
        // A live one without the lock: somebody removed the lock file.
        Presence::Live { pid } => return Err(in_use(pid)),
        Presence::Forbidden => return Err(SocketError::Foreign { path: path.into() }),
        Presence::NotASocket => return Err(SocketError::NotASocket { path: path.into() }),
        Presence::Stale => std::fs::remove_file(path)
            .map_err(|source| SocketError::Stale { path: path.into(), source })?,
    }
    let failed = |source| SocketError::Bind { path: path.into(), source };
    let listener = listen(path).map_err(|errno| match errno {
        Errno::EADDRINUSE => in_use(None),
        other => failed(other.into()),
    })?;
    let made = path.symlink_metadata().map_err(failed)?;
    let identity = (made.dev(), made.ino());
    Ok(Control { listener, file: SocketFile { path: path.into(), identity, lock } })
}

fn listen(path: &Path) -> Result<UnixListener, Errno> {
    let socket = stream_socket()?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path)?)?;
    nix::sys::socket::listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(UnixListener::from(socket))
}

fn stream_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Makes the parent folder and refuses one where another user could replace the socket: made by
/// that user beforehand (as anybody can in /tmp), or writable by all without the sticky bit.
fn prepare_folder(path: &Path) -> Result<(), SocketError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |source| SocketError::Folder { folder: folder.into(), source };
    let me = geteuid();
    // Everybody may see which supervisors the system runs; the socket itself is for its owner.
    let mode = if me.is_root() { 0o755 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(failed)?;
    let named = folder.symlink_metadata().map_err(failed)?;
    let meant = folder.metadata().map_err(failed)?;
    let flaw = [&named, &meant]
        .into_iter()
        .map(|found| Uid::from_raw(found.uid()))
        .find(|owner| !owner.is_root() && *owner != me)
        .map(|owner| format!("belongs to uid {owner}"))
        .or_else(|| {
            let open_to_all = meant.mode() & 0o1002 == 0o002;
            open_to_all.then(|| "can be written by everybody".to_owned())
        });
    match flaw {
        Some(flaw) => Err(SocketError::UnsafeFolder { folder: folder.into(), flaw }),
        None => Ok(()),
    }
}

/// Takes the lock of a socket's path for this process and writes its pid there.
fn lock(socket: &Path) -> Result<Flock<File>, SocketError> {
    let mut name: OsString = socket.into();
    name.push(".lock");
    let path = PathBuf::from(name);
    let failed = |source| SocketError::Lock { path: path.clone(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0).map_err(failed)?;
            writeln!(lock, "{}", std::process::id()).map_err(failed)?;
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let written =
                file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(SocketError::InUse { path: socket.into(), pid: written })
        }
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// What stands at the path of a control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Missing,
    /// A socket that somebody listens on.
    Live {
        /// The listening process, where the kernel tells.
        pid: Option<i32>,
    },
    /// A socket that nobody listens on.
    Stale,
    /// A socket that this user may not connect to.
    Forbidden,
    /// A file, a folder, a symbolic link.
    NotASocket,
}

/// Looks at the path of a control socket, without waiting for anybody.
pub fn presence(path: &Path) -> io::Result<Presence> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Presence::Missing),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => return Ok(Presence::NotASocket),
        Ok(_) => {}
    }
    let socket = stream_socket()?;
    let address = UnixAddr::new(path)?;
    match nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address) {
        Ok(()) => {
            let peer = getsockopt(&socket, PeerCredentials).ok();
            // A process outside of our pid namespace is shown as 0.
            let pid = peer.map(|peer| peer.pid()).filter(|pid| *pid > 0);
            Ok(Presence::Live { pid })
        }
        // The backlog is full: somebody listens and is slow.
        Err(Errno::EAGAIN) => Ok(Presence::Live { pid: None }),
        Err(Errno::ECONNREFUSED) => Ok(Presence::Stale),
        Err(Errno::ENOENT) => Ok(Presence::Missing),
        Err(Errno::EACCES | Errno::EPERM) => Ok(Presence::Forbidden),
        Err(errno) => Err(errno.into()),
    }
}
