//! Whether the kernel's program picks the worker: two listening sockets of this very process in one
//! group, of which one is admitted, and probes to each of them.

use super::check::Check;
use super::worker::connect_to;
use super::{Host, PATIENCE, free_address};
use crate::config::ListenMode;
use crate::core::words::chain;
use crate::core::{Weight, WorkerId};
use crate::linux::plane::{Address, Plane};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The kernel moves a queue while the listener is being closed, so it has moved by then.
const MOVED: Duration = Duration::from_millis(100);

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

/// Whether a queue moves when its worker is gone.
pub(super) async fn moving_queues() -> Check {
    let name = "moving_queues";
    match moves().await {
        Ok(true) => Check::ok(
            name,
            "a connection that waited at one of two sockets was accepted at the other, when the \
             first one's worker was gone",
            "connections that wait for a worker that dies or hangs are served by the others at once",
        ),
        Ok(false) => Check::limited(
            name,
            "a connection that waited at one of two sockets stayed there when its worker was gone",
            "connections that wait for a worker that dies or hangs are served when its replacement \
             is up",
            "sysctl net.ipv4.tcp_migrate_req=1 (Linux 5.14 or later; it is the host's, or the \
             container's, and stanch does not set it)",
        ),
        Err(trouble) => Check::missing(
            name,
            trouble,
            "what becomes of connections that wait for a worker that dies is not known",
            "see what steering says",
        ),
    }
}

/// Tries it; what went wrong, in words.
async fn moves() -> Result<bool, String> {
    let Pair { mut plane, workers, listeners, address } = Pair::new(Ipv4Addr::LOCALHOST.into())?;
    plane.admit(workers[0], Weight::FULL).map_err(|error| chain(&error))?;
    let _client = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    plane.admit(workers[1], Weight::FULL).map_err(|error| chain(&error))?;
    plane.release(workers[0]).map_err(|error| chain(&error))?;
    // Either it moved at once, or it never will.
    Ok(timeout(MOVED, listeners[1].1.accept()).await.is_ok())
}

/// Two workers of one address, with a socket each in this process.
struct Pair {
    plane: Plane,
    workers: [WorkerId; 2],
    listeners: Vec<(WorkerId, TcpListener)>,
    address: SocketAddr,
}

impl Pair {
    fn new(ip: IpAddr) -> Result<Self, String> {
        let address = free_address(ip).map_err(|error| format!("no port is free: {error}"))?;
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
                    .map_err(|error| format!("a listening socket cannot be waited for: {error}"))?;
                listeners.push((worker, listener));
            }
        }
        Ok(Self { plane, workers, listeners, address })
    }
}

/// Tries it; what went wrong, in words.
async fn steer(ip: IpAddr) -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    let Pair { mut plane, workers, listeners, address } = Pair::new(ip)?;
    plane.admit(workers[0], Weight::FULL).map_err(|error| chain(&error))?;
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
