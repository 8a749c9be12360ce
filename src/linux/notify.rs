//! The notification protocol of service managers (`sd_notify(3)`): datagrams of `NAME=VALUE` lines to the
//! socket that `NOTIFY_SOCKET` names. Both ends: [`Inbox`] is a manager's, [`Manager`] a service's.
//!
//! - The inbox has an abstract name that the kernel chose (`unix(7)`, autobind): no file, so it is
//!   reached from every mount namespace, root directory and user, and the names of several supervisors
//!   do not collide. It is not reached from another network namespace than the supervisor's.
//! - Anybody can send to it. Who did is told by the kernel (`SO_PASSCRED`): the sender's pid, as the
//!   reader sees it. Only who has CAP_SYS_ADMIN over the reader's pid namespace can give another.
//! - A datagram is peeked at first, with no room for descriptors: the kernel then installs none in this
//!   process, and keeps those that were passed in the queue. So `FDSTORE=1` stores nothing, and who waits
//!   for the end of a pipe passed with `BARRIER=1` (`systemd-notify` does) waits until
//!   [`Inbox::discard`], while its process can still be looked up.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, getsockname, recv,
    sendmsg, setsockopt, socket,
};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The longest datagram that is understood; the protocol's own bound.
const LONGEST: usize = 4096;

/// The longest status, in characters.
const STATUS_MAX: usize = 200;

/// What a service says of itself. What is not known (`FDSTORE`, `ERRNO`, `EXTEND_TIMEOUT_USEC` …) is
/// passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`: it has started.
    pub ready: bool,
    /// `STOPPING=1`: it is about to end.
    pub stopping: bool,
    /// `WATCHDOG=1`: it lives.
    pub ping: bool,
    /// `STATUS=`: what it does, for people; one line without control characters, at most 200 characters.
    pub status: Option<String>,
    /// `MAINPID=`: whom it wants to be taken for its main process.
    pub main_pid: Option<Pid>,
}

impl Notice {
    /// Reads the text of a datagram, whatever it is.
    pub fn parse(text: &[u8]) -> Self {
        let mut notice = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            let Some(at) = line.iter().position(|&byte| byte == b'=') else { continue };
            match (&line[..at], &line[at + 1..]) {
                (b"READY", b"1") => notice.ready = true,
                (b"STOPPING", b"1") => notice.stopping = true,
                (b"WATCHDOG", b"1") => notice.ping = true,
                (b"STATUS", status) => notice.status = Some(clean(status)),
                (b"MAINPID", pid) => {
                    let pid = std::str::from_utf8(pid).ok().and_then(|pid| pid.parse().ok());
                    notice.main_pid = pid.filter(|pid| *pid > 0).map(Pid::from_raw);
                }
                _ => {}
            }
        }
        notice
    }
}

/// Nothing that a terminal would obey, and no more than fits.
fn clean(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    // Marks that turn the direction of what is around them.
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let harmless = text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c });
    harmless.take(STATUS_MAX).collect::<String>().trim().to_owned()
}

/// A datagram and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The sender, if it has a pid here.
    pub sender: Option<Pid>,
    /// What it says; nothing, if the datagram was longer than the protocol allows.
    pub notice: Notice,
}

/// A socket that services tell about themselves.
#[derive(Debug)]
pub struct Inbox {
    socket: OwnedFd,
    address: OsString,
}

impl Inbox {
    /// A new one; it does not block.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        setsockopt(&socket, PassCred, &true)?;
        bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        Self::again(socket)
    }

    /// One that this process was handed.
    ///
    /// # Errors
    /// It is no such socket.
    pub fn again(socket: OwnedFd) -> Result<Self, Errno> {
        let name: UnixAddr = getsockname(socket.as_raw_fd())?;
        let name = name.as_abstract().ok_or(Errno::EADDRNOTAVAIL)?;
        let address = OsString::from_vec([b"@", name].concat());
        Ok(Self { socket, address })
    }

    /// Has the tokio runtime wait for datagrams.
    ///
    /// # Errors
    /// What the runtime's epoll said.
    pub fn registered(self: Arc<Self>) -> io::Result<AsyncFd<Arc<Self>>> {
        // SAFETY: the descriptor is owned, also by what is registered, so it stays open and the same for
        // as long as it is.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// What `NOTIFY_SOCKET` shall be.
    pub fn address(&self) -> &OsStr {
        &self.address
    }

    /// The next datagram, which stays in the queue until [`discard`](Self::discard); `None` when there is
    /// none.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn peek(&self) -> Result<Option<Letter>, Errno> {
        #[repr(C, align(8))]
        struct Control([u8; 32]);
        // As much as the credentials take, and nothing else.
        // SAFETY: CMSG_SPACE is arithmetic.
        const ROOM: usize =
            unsafe { libc::CMSG_SPACE(mem::size_of::<libc::ucred>() as libc::c_uint) as usize };
        const { assert!(ROOM <= mem::size_of::<Control>()) };
        let mut text = [0_u8; LONGEST];
        let mut control = Control([0; 32]);
        let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
        // SAFETY: msghdr is plain data, all zeros are valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = ROOM as _;
        // SAFETY: the header points to buffers of the given lengths, which outlive the call.
        let length =
            unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, libc::MSG_PEEK) };
        let length = match Errno::result(length) {
            Ok(length) => length as usize,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let whole = header.msg_flags & libc::MSG_TRUNC == 0;
        let notice = if whole { Notice::parse(&text[..length]) } else { Notice::default() };
        Ok(Some(Letter { sender: sender(&header), notice }))
    }

    /// Takes the datagram that was peeked at out of the queue, and closes what was passed with it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn discard(&self) -> Result<(), Errno> {
        // Without room for control messages descriptors go no further.
        recv(self.socket.as_raw_fd(), &mut [], MsgFlags::empty()).map(drop)
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Inbox {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Who sent what this header was filled with.
fn sender(header: &libc::msghdr) -> Option<Pid> {
    // SAFETY: the kernel filled the header, and its control buffer lives in the caller.
    let first = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    let is_credentials =
        first.cmsg_level == libc::SOL_SOCKET && first.cmsg_type == libc::SCM_CREDENTIALS;
    // SAFETY: CMSG_LEN is arithmetic.
    let length = unsafe { libc::CMSG_LEN(mem::size_of::<libc::ucred>() as libc::c_uint) };
    if !is_credentials || (first.cmsg_len as usize) < length as usize {
        return None;
    }
    // SAFETY: a message of this type and length holds a ucred, perhaps not aligned.
    let credentials = unsafe { libc::CMSG_DATA(first).cast::<libc::ucred>().read_unaligned() };
    Some(Pid::from_raw(credentials.pid)).filter(|pid| pid.as_raw() > 0)
}

/// The service manager of this process.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: UnixAddr,
}

impl Manager {
    /// The one that `NOTIFY_SOCKET` names, a path or `@` and an abstract name; it may come and go.
    ///
    /// # Errors
    /// It is no such name, or there is no socket to be had.
    pub fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => UnixAddr::new_abstract(abstract_name)?,
            [b'/', ..] => UnixAddr::new(name)?,
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Tells it something: lines like `READY=1`.
    ///
    /// # Errors
    /// It does not listen, or does not come to read (`WouldBlock`): this never waits.
    pub fn tell(&self, lines: &str) -> io::Result<()> {
        self.send(lines, &[])
    }

    /// Has it keep this open file under this name, and pass it to the next process of the service: see
    /// [`fdstore`](super::fdstore). What it has already is not kept twice.
    ///
    /// # Errors
    /// As of [`tell`](Self::tell). That it keeps none, or not so many, is not told.
    pub fn keep(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fds = [fd.as_raw_fd()];
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), &[ControlMessage::ScmRights(&fds)])
    }

    /// Has it close what it keeps under this name.
    ///
    /// # Errors
    /// As of [`tell`](Self::tell).
    pub fn forget(&self, name: &str) -> io::Result<()> {
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"))
    }

    fn send(&self, lines: &str, passed: &[ControlMessage<'_>]) -> io::Result<()> {
        let (lines, flags) = ([IoSlice::new(lines.as_bytes())], MsgFlags::MSG_NOSIGNAL);
        sendmsg(self.socket.as_raw_fd(), &lines, passed, flags, Some(&self.address))?;
        Ok(())
    }
}

/// What a service says when it begins to read its configuration anew; `READY=1` ends it.
///
/// # Errors
/// The clock cannot be read.
pub fn reloading() -> Result<String, Errno> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()))
}

/// How long the manager waits for `WATCHDOG=1`, from `WATCHDOG_USEC` and `WATCHDOG_PID`; `None` if it does
/// not wait for this process.
pub fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let usec: u64 = usec.filter(|_| meant)?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn client(inbox: &Inbox) -> Manager {
        Manager::at(inbox.address()).unwrap()
    }

    #[test]
    fn what_is_told_arrives_with_its_sender() {
        let inbox = Inbox::open().unwrap();
        assert_eq!(inbox.peek(), Ok(None));
        client(&inbox).tell("READY=1\nSTATUS=at your service\nMAINPID=17\nX_OWN=1\nREADY").unwrap();
        let notice = Notice {
            ready: true,
            status: Some("at your service".into()),
            main_pid: Some(Pid::from_raw(17)),
            ..Notice::default()
        };
        let letter = Letter { sender: Some(nix::unistd::getpid()), notice };
        assert_eq!(inbox.peek(), Ok(Some(letter.clone())));
        assert_eq!(inbox.peek(), Ok(Some(letter)), "it stays until it is discarded");
        inbox.discard().unwrap();
        assert_eq!(inbox.peek(), Ok(None));
    }

    #[test]
    fn a_datagram_that_is_too_long_says_nothing() {
        let inbox = Inbox::open().unwrap();
        let long = format!("READY=1\nSTATUS={}", "x".repeat(LONGEST));
        client(&inbox).tell(&long).unwrap();
        assert_eq!(inbox.peek().unwrap().unwrap().notice, Notice::default());
        inbox.discard().unwrap();
        assert_eq!(inbox.peek(), Ok(None));
    }

    #[test]
    fn descriptors_are_closed_when_it_is_discarded_and_never_installed() {
        let inbox = Inbox::open().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let fds = [writer.as_fd().as_raw_fd()];
        let name = inbox.address().as_bytes();
        let address = UnixAddr::new_abstract(&name[1..]).unwrap();
        let text = [IoSlice::new(b"BARRIER=1")];
        let passed = [ControlMessage::ScmRights(&fds)];
        sendmsg(sender.as_raw_fd(), &text, &passed, MsgFlags::empty(), Some(&address)).unwrap();
        drop(writer);
        let ended = |reader: &std::io::PipeReader| {
            let mut fds = [nix::poll::PollFd::new(reader.as_fd(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut fds, 0_u8).unwrap() > 0
        };
        assert_eq!(inbox.peek().unwrap().unwrap().sender, Some(nix::unistd::getpid()));
        assert!(!ended(&reader), "the sender waits while it is being looked up");
        inbox.discard().unwrap();
        assert!(ended(&reader));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_manager_is_found_by_path_too_and_none_is_an_error_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = Manager::at(path.as_os_str()).unwrap();
        assert!(manager.tell("READY=1").is_err());
        let socket = UnixDatagram::bind(&path).unwrap();
        manager.tell("READY=1").unwrap();
        let mut text = [0; 16];
        let length = socket.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");
        assert!(Manager::at(OsStr::new("vsock:2:1")).is_err());
        // Nobody reads: it is told so, and does not wait.
        assert!((0..10_000).any(|_| manager.tell("WATCHDOG=1").is_err()));
    }

    #[test]
    fn the_watchdog_is_for_whom_it_is_meant() {
        let own = std::process::id().to_string();
        assert_eq!(watchdog(Some("3000000"), None), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(Some("3000000"), Some(&own)), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(Some("3000000"), Some("1")), None);
        assert_eq!(watchdog(Some("0"), None), None);
        assert_eq!(watchdog(Some("soon"), None), None);
        assert_eq!(watchdog(None, None), None);
    }

    #[test]
    fn a_reload_is_said_with_the_time() {
        let text = reloading().unwrap();
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in proptest::collection::vec(any::<u8>(), 0..LONGEST)) {
            Notice::parse(&text);
        }

        /// Lines that nearly mean something.
        #[test]
        fn near_garbage_never_panics_and_a_status_is_harmless(
            lines in proptest::collection::vec(
                ("(READY|STATUS|MAINPID|WATCHDOG|STOPPING|FDSTORE|)", "=?", any::<Vec<u8>>()), 0..6)
        ) {
            let mut text = Vec::new();
            for (name, equals, value) in &lines {
                text.extend([name.as_bytes(), equals.as_bytes(), value, b"\n"].concat());
            }
            let notice = Notice::parse(&text);
            if let Some(status) = notice.status {
                prop_assert!(status.chars().count() <= STATUS_MAX);
                prop_assert!(!status.chars().any(char::is_control), "{status:?}");
            }
            prop_assert!(notice.main_pid.is_none_or(|pid| pid.as_raw() > 0));
        }

        #[test]
        fn what_is_meant_is_understood(status in "[a-zä-ü =0-9]{0,40}", pid in 1..i32::MAX, ready: bool, ping: bool) {
            let mut text = format!("STATUS={status}\nMAINPID={pid}\n");
            if ready { text += "READY=1\n"; }
            if ping { text += "WATCHDOG=1"; }
            let notice = Notice::parse(text.as_bytes());
            prop_assert_eq!(notice, Notice {
                ready,
                ping,
                stopping: false,
                status: Some(status.trim().to_owned()),
                main_pid: Some(Pid::from_raw(pid)),
            });
        }
    }
}
