//! Listening on a path. All workers share the one socket: a Unix-domain socket is in no
//! `SO_REUSEPORT` group, so nothing steers, and whoever accepts first has the connection. Nor can one
//! worker be probed: that the path takes a connection is all that readiness means there.

use super::socket;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket as open,
};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A socket that listens on a path, which is removed with it.
#[derive(Debug)]
pub(super) struct PathListener {
    pub path: PathBuf,
    pub socket: OwnedFd,
    pub inode: u64,
}

impl PathListener {
    /// Listens on `path`, in the place of a dead socket if one is there.
    pub fn new(path: &Path, backlog: Option<u32>) -> Result<Self, Errno> {
        let address = UnixAddr::new(path)?;
        let socket = open(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        match bind(socket.as_raw_fd(), &address) {
            Err(Errno::EADDRINUSE) if is_dead(path, &address) => {
                fs::remove_file(path).map_err(super::caller::errno)?;
                bind(socket.as_raw_fd(), &address)?;
            }
            result => result?,
        }
        let backlog = backlog.and_then(|backlog| Backlog::new(i32::try_from(backlog).ok()?).ok());
        listen(&socket, backlog.unwrap_or(Backlog::MAXALLOWABLE))?;
        let inode = socket::inode(&socket)?;
        Ok(Self { path: path.to_owned(), socket, inode })
    }
}

impl Drop for PathListener {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The inode of the socket that listens on `path` (`/proc/net/unix`: number, references, protocol, flags,
/// type, state, inode, path), if one does.
pub(super) fn listener(path: &Path) -> Option<u64> {
    /// `__SO_ACCEPTCON` (include/uapi/linux/net.h).
    const LISTENS: &str = "00010000";
    let text = fs::read("/proc/net/unix").ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (flags, inode) = (words.nth(3)?, words.nth(2)?);
        let here = line.ends_with(&format!(" {}", path.display()));
        (here && flags == LISTENS).then(|| inode.parse().ok())?
    })
}

/// Whether `path` is a socket that nobody listens on any more. Without blocking: a full queue is a
/// sign of life too.
fn is_dead(path: &Path, address: &UnixAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let refused = open(AddressFamily::Unix, SockType::Stream, flags, None)
        .is_ok_and(|probe| connect(probe.as_raw_fd(), address) == Err(Errno::ECONNREFUSED));
    is_socket && refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        drop(UnixListener::bind(&path).unwrap());
        let listener = PathListener::new(&path, None).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(PathListener::new(&path, None).unwrap_err(), Errno::EADDRINUSE);
        assert_eq!(super::listener(&path), Some(listener.inode));
        assert_eq!(super::listener(&folder.path().join("other.sock")), None);
        drop(listener);
        assert!(!path.exists(), "removed with the listener");
        fs::write(&path, "precious").unwrap();
        assert_eq!(PathListener::new(&path, None).unwrap_err(), Errno::EADDRINUSE);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
