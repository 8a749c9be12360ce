//! Addresses for servers under test.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::sync::Mutex;

/// The first port of the first block. The last one of the last is below those that the kernel gives to
/// clients, of which a connection may take one at any moment.
const FIRST: u16 = 11_000;
const BLOCKS: u16 = 1000;
const LENGTH: u16 = 20;

/// Ports that no other test is given while this process lives, told by a name that only one can have.
struct Block {
    _name: UnixListener,
    ports: Range<u16>,
}

impl Block {
    fn claim() -> Self {
        let first = (std::process::id() % u32::from(BLOCKS)) as u16;
        let claimed = (0..BLOCKS).find_map(|step| {
            let number = (first + step) % BLOCKS;
            let name = Name::from_abstract_name(format!("stanch-tests-ports-{number}")).ok()?;
            let begin = FIRST + number * LENGTH;
            let ports = begin..begin + LENGTH;
            Some(Self { _name: UnixListener::bind_addr(&name).ok()?, ports })
        });
        claimed.expect("a thousand blocks are enough for all tests at once")
    }
}

/// Whether a server that does not set `SO_REUSEADDR` can bind there: the standard library's listeners do, and
/// so do not see connections of an earlier test that wait for their end.
fn is_free(address: SocketAddr) -> bool {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    made.is_ok_and(|made| bind(made.as_raw_fd(), &SockaddrStorage::from(address)).is_ok())
}

/// A port that no other test is given, and that is free on these addresses.
pub fn free_port(addresses: &[IpAddr]) -> u16 {
    static MINE: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let mut mine = MINE.lock().expect("no test panics here");
    loop {
        let mut ports = mine.last_mut().map(|block| &mut block.ports).into_iter().flatten();
        let free = |port: &u16| addresses.iter().all(|ip| is_free(SocketAddr::new(*ip, *port)));
        if let Some(port) = ports.find(free) {
            return port;
        }
        drop(ports);
        mine.push(Block::claim());
    }
}

/// A loopback address that nobody listens on.
pub fn free_address() -> SocketAddr {
    let here = Ipv4Addr::LOCALHOST.into();
    SocketAddr::new(here, free_port(&[here]))
}
