//! Whether the kernel's program picks the worker: two listening sockets of this very process in one
//! group, of which one is admitted, and probes to each of them.

use super::check::Check;
use super::worker::connect_to;
use super::{Host, PATIENCE, free_address};
use crate::config::ListenMode;
use crate::core::WorkerId;
use crate::core::words::chain;
use crate::linux::plane::{Address, Plane};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Chance alone gets that many right once in 2^32.
const ROUNDS: u32 = 16;

const FOUND: &str = "attached a program to a group of two sockets: connections reached the admitted \
                     one, probes the chosen one";
const WORKS: &str = "a new worker gets no connection before it is verified ready, and one that is \
                     replaced gets none any more";
const BROKEN: &str = "connections cannot be kept from a worker that is not ready, nor can one worker \
                      be probed";

/// Over IPv4.
pub(super) async fn over_ipv4(host: &Host) -> Check {
    let name = "steering";
    let check = match steer(Ipv4Addr::LOCALHOST.into()).await {
        Ok(()) => Check::ok(name, FOUND, WORKS),
        Err(trouble) => Check::missing(
            name,
            trouble,
            BROKEN,
            "Linux 4.6 or later, net.core.optmem_max of 20480 or more, and a sandbox that passes \
             SO_ATTACH_REUSEPORT_CBPF on; run it outside of another stanch, which takes its sockets",
        ),
    };
    let mode = host.config.listen.mode;
    check.needed(matches!(mode, ListenMode::Takeover | ListenMode::Inherit))
}

/// Over IPv6, where the host has it.
pub(super) async fn over_ipv6() -> Check {
    let name = "steering_ipv6";
    let ip = Ipv6Addr::LOCALHOST.into();
    if let Err(error) = free_address(ip) {
        return Check::limited(
            name,
            format!("no socket could be bound to ::1: {error}"),
            "workers cannot listen on IPv6 addresses here, with or without stanch",
            "net.ipv6.conf.all.disable_ipv6 = 0, where IPv6 is wanted",
        );
    }
    match steer(ip).await {
        Ok(()) => Check::ok(name, FOUND, WORKS),
        Err(trouble) => Check::missing(
            name,
            trouble,
            format!("over IPv6, {BROKEN}"),
            "listen on IPv4 too, then probes go there; a sandbox must pass IPV6_FLOWLABEL_MGR on",
        ),
    }
}

/// Tries it; what went wrong, in words.
async fn steer(ip: IpAddr) -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    let address = free_address(ip).map_err(failed("no port is free"))?;
    let mut plane = Plane::new(vec![Address::Inet(address)], None);
    let workers = [1, 2].map(|generation| WorkerId::new(0, generation));
    let mut listeners = Vec::new();
    for worker in workers {
        let inherited = plane.inherit_fds(worker).map_err(|error| chain(&error))?;
        for (_, socket) in inherited {
            let listener = std::net::TcpListener::from(socket);
            let listener = listener
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener))
                .map_err(failed("a listening socket cannot be waited for"))?;
            listeners.push((worker, listener));
        }
    }
    plane.admit(workers[0]).map_err(|error| chain(&error))?;
    for round in 0..ROUNDS {
        for (worker, listener) in &listeners {
            let target = plane.probe_target(*worker).ok_or("a worker has no probe target")?;
            let probe = connect_to(&target).await.map_err(failed("a probe could not connect"))?;
            if !reaches(probe, listener).await.map_err(failed("a probe"))? {
                return Err(format!("probe {round} of worker {worker} reached another one"));
            }
        }
        let client = TcpStream::connect(address).await.map_err(failed("cannot connect"))?;
        if !reaches(client, &listeners[0].1).await.map_err(failed("a connection"))? {
            return Err(format!("connection {round} reached a worker that was not admitted"));
        }
    }
    Ok(())
}

/// Whether the connection came to this listener.
async fn reaches(client: TcpStream, listener: &TcpListener) -> io::Result<bool> {
    let came: SocketAddr = match timeout(PATIENCE, listener.accept()).await {
        Ok(accepted) => accepted?.1,
        // It waits at the other one.
        Err(_) => return Ok(false),
    };
    let ours = client.local_addr()?;
    Ok((came.ip(), came.port()) == (ours.ip(), ours.port()))
}
