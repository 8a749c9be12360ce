//! Connections: whether they can be seen, and whether one of a worker can be hung up.

use super::check::Check;
use super::worker::request;
use super::{Host, PATIENCE, free_address};
use crate::core::WorkerId;
use crate::core::words::chain;
use crate::linux::launch::Takeover;
use crate::linux::sockdiag;
use crate::linux::tree::{Orphans, Tree};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Between two attempts to connect to a server that starts.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether sock_diag tells a connection that waits from one that was accepted.
pub(super) async fn seen() -> Check {
    let name = "connections";
    match timeout(PATIENCE, see()).await {
        Ok(Ok(())) => Check::ok(
            name,
            "saw over sock_diag that a connection waited, and that it was accepted",
            "readiness is a connection that the worker accepts; a drain knows what is still open",
        ),
        Ok(Err(error)) => unseen(name, error.to_string()),
        Err(_) => unseen(name, "no connection could be accepted in time".to_owned()),
    }
}

fn unseen(name: &'static str, trouble: String) -> Check {
    Check::missing(
        name,
        format!("asked sock_diag for a connection of its own: {trouble}"),
        "a worker is not verified to accept connections (use [ready] when = \"http\"), and a drain \
         always takes drain_timeout",
        "a kernel with CONFIG_INET_DIAG (modprobe tcp_diag), and a sandbox that allows netlink sockets",
    )
}

async fn see() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let server = listener.local_addr()?;
    let client = TcpStream::connect(server).await?;
    let accepted = || sockdiag::accepted(server, client.local_addr()?);
    let before = accepted()?;
    let _connection = listener.accept().await?;
    match (before, accepted()?) {
        (Some(false), Some(true)) => Ok(()),
        (before, after) => Err(io::Error::other(format!(
            "accepted: {before:?} before it was, {after:?} afterwards"
        ))),
    }
}

/// Whether a kept connection of a worker can be closed from outside.
pub(super) async fn hung_up(host: &Host) -> Check {
    let name = "hang_up";
    let outcome = timeout(PATIENCE, hang_up(host)).await;
    match outcome.unwrap_or_else(|_| Err("it took too long".to_owned())) {
        Ok(()) => Check::ok(
            name,
            "ended a kept connection of the built-in server, which closed it",
            "connections on which nobody waits for an answer do not hold up a drain",
        ),
        Err(trouble) => Check::limited(
            name,
            format!("tried to end a kept connection of the built-in server: {trouble}"),
            "kept connections that the server does not close at its stop signal are cut at \
             drain_timeout",
            "allow pidfd_getfd on the workers: CAP_SYS_PTRACE (docker run --cap-add SYS_PTRACE), or \
             a seccomp profile with it",
        ),
    }
}

async fn hang_up(host: &Host) -> Result<(), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let address = free_address(Ipv4Addr::LOCALHOST.into()).map_err(failed("no port is free"))?;
    let id = WorkerId::new(0, 1);
    let worker = host.serve(id, address, Takeover::Off).await.map_err(|error| chain(&error))?;
    let mut client = connect(address).await;
    // Answered once, so that the server knows of it and waits for more.
    request(&mut client, "keep-alive").await.map_err(failed("no request could be sent"))?;
    let mut answer = [0; 1024];
    client.read(&mut answer).await.map_err(failed("no answer"))?;
    let connections = sockdiag::accepted_inodes(&[address]).map_err(failed("not to be seen"))?;
    let leader = host.procfs.identify(worker.process.pid()).ok_or("the server is not in /proc")?;
    let (procfs, orphans) = (host.procfs.clone(), Orphans::default());
    let mut tree = Tree::new(procfs, orphans, leader, id.to_string(), None);
    if connections.is_empty() || tree.hang_up(&connections) != connections {
        return Err("its descriptor could not be had (pidfd_getfd)".to_owned());
    }
    loop {
        match client.read(&mut answer).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("the connection broke: {error}")),
        }
    }
}

/// Connects as soon as the server listens.
async fn connect(address: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return stream,
            Err(_) => sleep(PAUSE).await,
        }
    }
}
