//! Reaching one chosen worker.
#![allow(unsafe_code)]

use super::group::Group;
use super::socket;
use crate::linux::steering::{self, PROBE_FLOW_LABEL, PROBE_MEMBERS6, PROBE_TRAFFIC_CLASS};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, socket as open,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// How a connection of this host reaches one worker, whether it is admitted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Bind to this first (any port). `::` for IPv6, where the flow label of `destination` steers.
    pub source: IpAddr,
    /// Then connect to this.
    pub destination: SocketAddr,
}

impl ProbeTarget {
    /// Reaches member `index` of the group. Over IPv4 wherever the group takes that, which a
    /// dual-stack one does unless another group has IPv4 on its port.
    pub(super) fn new(group: &Group, index: usize, ipv4_elsewhere: bool) -> Option<Self> {
        let dual_stack = !group.key.v6only && !ipv4_elsewhere;
        let index = u16::try_from(index).ok()?;
        let (ip, port) = (group.key.address.ip(), group.key.address.port());
        let v4 = match ip.to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Some(Ipv4Addr::LOCALHOST),
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(ip) if ip.is_unspecified() && dual_stack => Some(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => None,
        };
        if let Some(ip) = v4 {
            let source = steering::probe_source(index).into();
            return Some(Self { source, destination: SocketAddr::new(ip.into(), port) });
        }
        let SocketAddr::V6(bound) = group.key.address else { return None };
        let ip = if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { *bound.ip() };
        let label = PROBE_FLOW_LABEL | u32::from(index);
        let destination = SocketAddrV6::new(ip, port, label.to_be(), bound.scope_id()).into();
        (index < PROBE_MEMBERS6)
            .then_some(Self { source: Ipv6Addr::UNSPECIFIED.into(), destination })
    }

    /// A non-blocking socket that is ready to connect to `destination`.
    ///
    /// # Errors
    /// What the kernel said to making it; `EPERM` or `ENOBUFS` when it grants no more flow labels.
    pub fn socket(&self) -> Result<OwnedFd, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let family = match self.destination {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let probe = open(family, SockType::Stream, flags, SockProtocol::Tcp)?;
        match self.destination {
            SocketAddr::V4(_) => {
                // The port is chosen at connect, when the kernel knows which are free for this pair.
                const IP_BIND_ADDRESS_NO_PORT: libc::c_int = 24;
                socket::set(&probe, libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)?;
                let source = SockaddrStorage::from(SocketAddr::new(self.source, 0));
                bind(probe.as_fd().as_raw_fd(), &source)?;
            }
            SocketAddr::V6(destination) => {
                let class = PROBE_TRAFFIC_CLASS as libc::c_int;
                socket::set(&probe, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class)?;
                lease_flow_label(&probe, destination)?;
                socket::set(&probe, libc::IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)?;
            }
        }
        Ok(probe)
    }
}

// linux/in6.h
const IPV6_FLOWLABEL_MGR: libc::c_int = 32;
const IPV6_FLOWINFO_SEND: libc::c_int = 33;

/// The kernel sends a flow label of one's own choice only from a socket that has leased it; several
/// sockets may share the lease, which ends with the last of them (net/ipv6/ip6_flowlabel.c).
fn lease_flow_label(probe: &OwnedFd, destination: SocketAddrV6) -> Result<(), Errno> {
    /// struct in6_flowlabel_req
    #[repr(C)]
    struct Request {
        destination: [u8; 16],
        label: u32,
        action: u8,
        share: u8,
        flags: u16,
        expires_s: u16,
        linger_s: u16,
        padding: u32,
    }
    const GET: u8 = 0;
    const SHARE_WITH_ANY: u8 = 255;
    const CREATE: u16 = 1;
    let request = Request {
        destination: destination.ip().octets(),
        label: destination.flowinfo(),
        action: GET,
        share: SHARE_WITH_ANY,
        flags: CREATE,
        expires_s: 0,
        linger_s: 0,
        padding: 0,
    };
    // SAFETY: the kernel reads a request of the given size, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            probe.as_raw_fd(),
            libc::IPPROTO_IPV6,
            IPV6_FLOWLABEL_MGR,
            (&raw const request).cast(),
            size_of::<Request>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}
