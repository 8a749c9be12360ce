//! What the kernel knows of TCP sockets, asked over `NETLINK_SOCK_DIAG` (`sock_diag(7)`); needs no
//! privilege, also for sockets of other users.
//!
//! - A server's side of a connection has inode 0 until somebody calls accept: the file of the socket
//!   is only made then. This is how a prober tells a worker that accepts from one whose connections
//!   just pile up, without a word of the application's protocol.
//! - A connection does not know the listener that it came through (children are hashed by their
//!   addresses alone), so connections of a worker are counted by the inodes that its processes hold.
//! - An exact question that finds no connection falls back to the listener on the local address,
//!   which must not be taken for the connection.
//! - A dump is not a snapshot: counts may be off by what happened meanwhile. Its cost is a walk over
//!   the kernel's whole table of connections (milliseconds on a large host), so it is for a slow
//!   rate. The kernel filters by state and local port.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
/// The attribute with a `struct tcp_info`.
const INFO: u16 = 2;

// TCP states (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// Lengths of nlmsghdr, inet_diag_req_v2 and inet_diag_msg (linux/inet_diag.h).
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ANSWER: usize = 72;

/// One socket, as a dump tells it.
struct Socket {
    state: u8,
    local: SocketAddr,
    remote: SocketAddr,
    inode: u32,
    /// Bytes received that nobody has read, and bytes sent that the peer has not acknowledged.
    receive_queue: u32,
    send_queue: u32,
    traffic: Option<Traffic>,
}

/// What `struct tcp_info` (linux/tcp.h) says of the data of a connection.
struct Traffic {
    /// Since data was last sent, data was last received, and an acknowledgement was.
    sent_ago_ms: u32,
    received_ago_ms: u32,
    acknowledged_ago_ms: u32,
    segments_received: u32,
    segments_sent: u32,
}

impl Traffic {
    fn parse(info: &[u8]) -> Option<Self> {
        let at = |offset| (info.len() >= offset + 4).then(|| u32_at(info, offset));
        Some(Self {
            sent_ago_ms: at(44)?,
            received_ago_ms: at(52)?,
            acknowledged_ago_ms: at(56)?,
            segments_received: at(152)?,
            segments_sent: at(156)?,
        })
    }

    /// Whether the last data went from the server to the client.
    fn server_was_last(&self) -> bool {
        match self.sent_ago_ms.cmp(&self.received_ago_ms) {
            Ordering::Less => true,
            Ordering::Greater => false,
            // A client that has nothing to say acknowledges apart, most often after 40 ms; an
            // acknowledgement behind its own last data is one of an answer.
            Ordering::Equal if self.acknowledged_ago_ms < self.received_ago_ms => true,
            Ordering::Equal if self.segments_received > self.segments_sent => false,
            Ordering::Equal => self.sent_ago_ms >= SAME_TICK_MS,
        }
    }
}

/// A connection of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The socket's, on the server's side.
    pub inode: u64,
    /// Whether the last bytes were the server's and the client has had all of them. What the server
    /// still computes behind a first part of its answer cannot be seen.
    pub answered: bool,
    /// Whether the server sends much more than it is asked for, and did so lately: a stream, or a large
    /// answer that may not be complete.
    pub streams: bool,
}

/// The kernel's clock for connections ticks every 1 to 10 ms (`CONFIG_HZ`), so an answer and the next
/// request can bear the same time. Who cannot be told apart otherwise counts as answered when nothing
/// has come for so long.
const SAME_TICK_MS: u32 = 1000;

/// A server may send headers and body apart, and a small body in parts; more data segments than this
/// for each that was received, over the life of the connection, is a stream or a large answer …
const SEGMENTS_AN_ANSWER: u32 = 4;

/// … of which there may come more, until this long none did.
const SILENCE_MS: u32 = 5000;

impl Connection {
    fn of(socket: &Socket) -> Self {
        let inode = u64::from(socket.inode);
        let Some(traffic) = &socket.traffic else {
            return Self { inode, answered: false, streams: false };
        };
        let nothing_queued = socket.receive_queue == 0 && socket.send_queue == 0;
        Self {
            inode,
            answered: nothing_queued && traffic.server_was_last(),
            streams: traffic.segments_sent / SEGMENTS_AN_ANSWER > traffic.segments_received
                && traffic.sent_ago_ms < SILENCE_MS,
        }
    }

    /// Whether the client waits for something, as far as can be seen.
    pub fn awaits(&self) -> bool {
        !self.answered || self.streams
    }
}

/// Whether a process has accepted the server's side of the connection between `local` (the server)
/// and `remote` (the client): `Some(false)` while it waits in the accept queue or is still shaking
/// hands, `None` when the kernel knows of no such connection.
///
/// # Errors
/// What the kernel said to the question, `ENOENT` (no such connection) excepted.
pub fn accepted(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<bool>> {
    let (local, remote) = (canonical(local), canonical(remote));
    let fd = ask(&request(local.ip().into(), !0, Some((local, remote)), local.port()))?;
    let mut found = None;
    match each(&fd, |socket| found = Some(socket)) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    Ok(found.filter(|socket| canonical(socket.remote) == remote).map(|socket| match socket.state {
        SYN_RECV | ESTABLISHED | CLOSE_WAIT => socket.inode != 0,
        // The server has closed it, so it had been accepted; the inode is gone again.
        _ => true,
    }))
}

/// The open connections to `addresses` whose server's side is one of `inodes` (those of the sockets
/// that a process tree holds). Half-closed ones that the server may still answer are among them.
///
/// # Errors
/// What the kernel said to the dump.
pub fn connections(addresses: &[SocketAddr], inodes: &HashSet<u64>) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    // A dump walks the kernel's whole table of connections, half a millisecond when it is empty; a
    // crashed worker's replacement need not wait for an answer that is known.
    let addresses = if inodes.is_empty() { &[] } else { addresses };
    open(addresses, |socket| {
        if inodes.contains(&u64::from(socket.inode)) {
            found.push(Connection::of(&socket));
        }
    })?;
    Ok(found)
}

/// The inodes of the connections to `addresses` that somebody has accepted; half-closed ones are among
/// them, those in an accept queue are not.
///
/// # Errors
/// What the kernel said to the dump, one for each port and family.
pub fn accepted_inodes(addresses: &[SocketAddr]) -> io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    open(addresses, |socket| {
        if socket.inode != 0 {
            inodes.insert(u64::from(socket.inode));
        }
    })?;
    Ok(inodes)
}

/// The server's side of every open or half-closed connection to `addresses`.
fn open(addresses: &[SocketAddr], mut visit: impl FnMut(Socket)) -> io::Result<()> {
    for port in ports(addresses) {
        dump(port, 1 << ESTABLISHED | 1 << CLOSE_WAIT, |socket| {
            if addresses.iter().any(|address| covers(*address, socket.local)) {
                visit(socket);
            }
        })?;
    }
    Ok(())
}

/// Connections to `address` whose handshake is not complete. Which member of a group they will reach
/// is not known.
///
/// # Errors
/// What the kernel said to the dump.
pub fn syn_recv(address: SocketAddr) -> io::Result<u64> {
    let mut count = 0;
    dump(address.port(), 1 << SYN_RECV, |socket| {
        count += u64::from(covers(address, socket.local));
    })?;
    Ok(count)
}

/// The inodes of the sockets that listen on `port`, on any address.
///
/// # Errors
/// What the kernel said to the dump.
pub fn listeners(port: u16) -> io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    dump(port, 1 << LISTEN, |socket| {
        inodes.insert(u64::from(socket.inode));
    })?;
    Ok(inodes)
}

/// Every socket that listens, by its inode, and where.
///
/// # Errors
/// What the kernel said to the dump.
pub fn listening() -> io::Result<HashMap<u64, SocketAddr>> {
    const ANY_PORT: u16 = 0;
    let mut found = HashMap::new();
    dump(ANY_PORT, 1 << LISTEN, |socket| {
        found.insert(u64::from(socket.inode), socket.local);
    })?;
    Ok(found)
}

fn ports(addresses: &[SocketAddr]) -> BTreeSet<u16> {
    addresses.iter().map(SocketAddr::port).collect()
}

/// Whether a connection to `local` came through a listener on `listener`.
fn covers(listener: SocketAddr, local: SocketAddr) -> bool {
    let (listener, local) = (canonical(listener), canonical(local));
    listener.port() == local.port()
        && match listener.ip() {
            // `::` may be dual stack; over-counting beside a 0.0.0.0 group is cut by the inodes.
            IpAddr::V6(ip) if ip.is_unspecified() => true,
            IpAddr::V4(ip) if ip.is_unspecified() => local.is_ipv4(),
            ip => ip == local.ip(),
        }
}

/// IPv4 clients of a dual-stack socket show up as `::ffff:a.b.c.d`; scopes are left out.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn dump(port: u16, states: u32, mut visit: impl FnMut(Socket)) -> io::Result<()> {
    for family in [Family::V4, Family::V6] {
        let fd = ask(&request(family, states, None, port))?;
        match each(&fd, &mut visit) {
            // A kernel without IPv6 has no answer for that family.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl From<IpAddr> for Family {
    fn from(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// A message that asks for one connection, or for a dump without `exact`.
fn request(
    family: Family,
    states: u32,
    exact: Option<(SocketAddr, SocketAddr)>,
    port: u16,
) -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | if exact.is_none() { libc::NLM_F_DUMP } else { 0 };
    let mut message = Vec::with_capacity(HEADER + REQUEST);
    message.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    let family = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    // INET_DIAG_INFO, as a bit.
    message.extend([family as u8, libc::IPPROTO_TCP as u8, 1 << (INFO - 1), 0]);
    message.extend(states.to_ne_bytes());
    message.extend(port.to_be_bytes());
    message.extend(exact.map_or(0, |(_, remote)| remote.port()).to_be_bytes());
    for ip in [exact.map(|(local, _)| local.ip()), exact.map(|(_, remote)| remote.ip())] {
        let mut bytes = [0; 16];
        match ip {
            Some(IpAddr::V4(ip)) => bytes[..4].copy_from_slice(&ip.octets()),
            Some(IpAddr::V6(ip)) => bytes = ip.octets(),
            None => {}
        }
        message.extend(bytes);
    }
    message.extend(0u32.to_ne_bytes());
    // INET_DIAG_NOCOOKIE: whichever socket has these addresses.
    message.extend([0xff; 8]);
    message
}

fn ask(message: &[u8]) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    send(fd.as_raw_fd(), message, MsgFlags::empty())?;
    Ok(fd)
}

/// Reads the answer to one question. The kernel answers at once, so this does not block for long.
fn each(fd: &OwnedFd, mut visit: impl FnMut(Socket)) -> Result<(), Errno> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while rest.len() >= HEADER {
            let size = u32_at(rest, 0) as usize;
            if size < HEADER || size > rest.len() {
                return Err(Errno::EBADMSG);
            }
            let body = &rest[HEADER..size];
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                MESSAGE_DONE => return Ok(()),
                MESSAGE_ERROR => {
                    let code = if body.len() < 4 { 0 } else { u32_at(body, 0) as i32 };
                    return if code == 0 { Ok(()) } else { Err(Errno::from_raw(-code)) };
                }
                _ => visit(parse(body).ok_or(Errno::EBADMSG)?),
            }
            // The parts of a dump are marked; the answer to an exact question stands alone.
            if i32::from(u16::from_ne_bytes([rest[6], rest[7]])) & libc::NLM_F_MULTI == 0 {
                return Ok(());
            }
            rest = &rest[size.next_multiple_of(4).min(rest.len())..];
        }
    }
}

fn parse(body: &[u8]) -> Option<Socket> {
    if body.len() < ANSWER {
        return None;
    }
    let address = |port: usize, ip: usize| {
        let port = u16::from_be_bytes([body[port], body[port + 1]]);
        let bytes: [u8; 16] = body[ip..ip + 16].try_into().ok()?;
        let ip = if i32::from(body[0]) == libc::AF_INET {
            Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
        } else {
            Ipv6Addr::from(bytes).into()
        };
        Some(SocketAddr::new(ip, port))
    };
    Some(Socket {
        state: body[1],
        local: address(4, 8)?,
        remote: address(6, 24)?,
        inode: u32_at(body, 68),
        receive_queue: u32_at(body, 56),
        send_queue: u32_at(body, 60),
        traffic: attribute(&body[ANSWER..], INFO).and_then(Traffic::parse),
    })
}

/// The content of the first attribute of this type (netlink(7)).
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    const HEAD: usize = 4;
    while bytes.len() >= HEAD {
        let size = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        if size < HEAD || size > bytes.len() {
            return None;
        }
        if u16::from_ne_bytes([bytes[2], bytes[3]]) == wanted {
            return Some(&bytes[HEAD..size]);
        }
        bytes = &bytes[size.next_multiple_of(4).min(bytes.len())..];
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn inode(socket: impl AsFd) -> u64 {
        nix::sys::stat::fstat(socket).unwrap().st_ino
    }

    fn pair(listener: &TcpListener, host: &str) -> TcpStream {
        TcpStream::connect((host, listener.local_addr().unwrap().port())).unwrap()
    }

    #[test]
    fn a_connection_is_accepted_when_somebody_accepts_it() {
        for (bound, host) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "::1")]
        {
            let listener = TcpListener::bind(bound).unwrap();
            let client = pair(&listener, host);
            let (local, remote) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
            assert_eq!(accepted(local, remote).unwrap(), Some(false), "{bound}");
            let server = listener.accept().unwrap();
            assert_eq!(accepted(local, remote).unwrap(), Some(true), "{bound}");
            drop(server);
            assert_eq!(
                accepted(local, remote).unwrap(),
                Some(true),
                "{bound}: closed by the server"
            );
        }
    }

    #[test]
    fn the_listener_is_not_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        assert_eq!(accepted(local, "127.0.0.1:9".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn connections_are_counted_by_inode_and_address() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients = [pair(&listener, "127.0.0.1"), pair(&listener, "::1")];
        let elsewhere = pair(&other, "127.0.0.1");
        assert_eq!(
            connections(&[address], &HashSet::from([0])).unwrap().len(),
            2,
            "waiting: inode 0"
        );
        let servers = [listener.accept().unwrap().0, listener.accept().unwrap().0];
        let stranger = other.accept().unwrap().0;
        let mut inodes: HashSet<u64> = servers.iter().map(inode).collect();
        inodes.insert(inode(&stranger));
        inodes.insert(inode(&elsewhere));
        inodes.extend(clients.iter().map(inode));
        assert_eq!(connections(&[address], &inodes).unwrap().len(), 2);
        assert_eq!(connections(&[address], &HashSet::new()).unwrap().len(), 0);
        assert_eq!(accepted_inodes(&[address]).unwrap(), servers.iter().map(inode).collect());
        assert_eq!(accepted_inodes(&[]).unwrap(), HashSet::new());
        let v4_only = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        assert_eq!(connections(&[v4_only], &inodes).unwrap().len(), 1);
    }

    #[test]
    fn listeners_are_found_by_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listeners(port).unwrap(), HashSet::from([inode(&listener)]));
    }

    #[test]
    fn handshakes_under_way_are_counted() {
        // TCP_DEFER_ACCEPT keeps a connection in SYN_RECV until its first byte arrives.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        defer_accept(&listener, 60);
        let address = listener.local_addr().unwrap();
        assert_eq!(syn_recv(address).unwrap(), 0);
        let _client = pair(&listener, "127.0.0.1");
        assert_eq!(syn_recv(address).unwrap(), 1);
        let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), address.port()));
        assert_eq!(syn_recv(elsewhere).unwrap(), 0);
    }

    fn defer_accept(listener: &TcpListener, seconds: libc::c_int) {
        let size = size_of_val(&seconds) as libc::socklen_t;
        // SAFETY: the value is an int of the given size, and outlives the call.
        let result = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                size,
            )
        };
        assert_eq!(result, 0);
    }
}
