//! The control socket between the supervisor and a launcher.
//!
//! It is a `SOCK_SEQPACKET` pair: one send is one receive, so there are no half messages to glue
//! together and none to wait for. What could outgrow a packet, the plan with its environment,
//! travels as an anonymous file (`memfd`) whose descriptor is in the packet: so no send here can
//! block, however large the environment is.
//!
//! - supervisor → launcher, once: [`GO`], with the plan's file and the listening sockets.
//! - launcher → supervisor: a [`Report`]: `Executing` (with the filter's notify descriptor, if there
//!   is one) just before `execve`, or `Failed`. A failure can still follow `Executing`.
//!   When not even the launcher could be executed, an errno in four bytes takes its place.
//! - End of file: the socket is close-on-exec, so after `Executing` it says that the command runs;
//!   before it, that the launcher died.
//!
//! Both ends are the same executable file, so the messages need no version.
#![allow(unsafe_code)]

use super::fault::Fault;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The supervisor's only message; everything is in its descriptors.
pub(in crate::linux) const GO: &[u8] = b"go";

/// The most descriptors that the kernel takes in one packet (`SCM_MAX_FD`).
pub(in crate::linux) const MOST_FDS: usize = 253;

/// No packet is longer: the words of a fault are shortened.
const LONGEST_PACKET: usize = 32 * 1024;

/// The exit code of a launcher that failed: a fault of stanch itself, as everywhere; the reason went
/// over the control socket.
pub(in crate::linux) const FAILED: u8 = 70;

/// What a process sends that could not even become a launcher, and so cannot write JSON.
pub(in crate::linux) fn errno_packet(errno: i32) -> [u8; 4] {
    errno.to_ne_bytes()
}

/// The errno of such a packet; no [`Report`] is as short.
pub(in crate::linux) fn errno(bytes: &[u8]) -> Option<Errno> {
    Some(Errno::from_raw(i32::from_ne_bytes(bytes.try_into().ok()?)))
}

/// What a launcher tells.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::linux) enum Report {
    /// Everything is set up; `execve` is next.
    Executing,
    /// The worker will not run.
    Failed(Fault),
}

/// One message and the descriptors that came with it.
pub(in crate::linux) struct Packet {
    pub bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// Both ends, close-on-exec and blocking.
pub(in crate::linux) fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one packet. A peer that is gone gives `EPIPE`, never a signal.
pub(in crate::linux) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> nix::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
    let bytes = [IoSlice::new(bytes)];
    sendmsg::<()>(socket.as_raw_fd(), &bytes, rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives one packet; `None` when the peer is gone. Gives `ENOBUFS` when a descriptor did not fit
/// in this process (its limit of open files).
pub(in crate::linux) fn receive(socket: BorrowedFd<'_>) -> nix::Result<Option<Packet>> {
    let mut bytes = vec![0; LONGEST_PACKET];
    let mut space = cmsg_space!([RawFd; MOST_FDS]);
    let (length, fds) = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => {
                let mut fds = Vec::new();
                for part in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = part {
                        // SAFETY: the kernel has just made these descriptors for us; nobody else
                        // in this process knows their numbers.
                        fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break (message.bytes, fds);
            }
            // A peer that leaves without having read what we sent leaves an error in front of what
            // it sent; the kernel tells it once (`sock_error`), the next call gets the message.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(error) => return Err(error),
        }
    };
    // No message is empty, so this is the end.
    if length == 0 {
        return Ok(None);
    }
    bytes.truncate(length);
    Ok(Some(Packet { bytes, fds }))
}

/// Writes `value` as JSON into a file without a name, to be read from its beginning.
pub(in crate::linux) fn into_file(value: &impl Serialize) -> io::Result<OwnedFd> {
    let noexec = MFdFlags::from_bits_retain(nix::libc::MFD_NOEXEC_SEAL);
    // Hosts with `vm.memfd_noexec=2` insist on the flag, kernels before 6.3 do not know it.
    let fd = match memfd_create(c"stanch-plan", MFdFlags::MFD_CLOEXEC | noexec) {
        Err(Errno::EINVAL) => memfd_create(c"stanch-plan", MFdFlags::MFD_CLOEXEC)?,
        other => other?,
    };
    let mut file = File::from(fd);
    file.write_all(&serde_json::to_vec(value)?)?;
    Ok(file.into())
}

/// Reads what [`into_file`] wrote.
pub(in crate::linux) fn from_file<T: for<'a> Deserialize<'a>>(fd: OwnedFd) -> io::Result<T> {
    use std::os::unix::fs::FileExt;
    let file = File::from(fd);
    // The offset is shared with the writer and stands at the end: read at positions instead.
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Tells the supervisor.
pub(in crate::linux) fn report(
    socket: BorrowedFd<'_>,
    report: &Report,
    notify: Option<OwnedFd>,
) -> nix::Result<()> {
    let bytes = serde_json::to_vec(report).expect("a report has no maps and no foreign strings");
    let fds: Vec<_> = notify.iter().map(AsFd::as_fd).collect();
    send(socket, &bytes, &fds)
}
