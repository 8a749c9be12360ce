//! A little engine: starts workers under the filter and lets the plane answer them.

use crate::port;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SIGKILL, killpg};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{Gid, Pid, Uid, dup2_stdin, setgid, setgroups, setuid};
use stanch::core::WorkerId;
use stanch::linux::plane::{Address, Plane, PlaneEvent, ProbeTarget, Served};
use stanch::linux::seccomp::{self, NotifyFd};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    pub plane: Plane,
    pub events: Vec<PlaneEvent>,
    workers: Vec<Worker>,
}

struct Worker {
    id: WorkerId,
    child: Child,
    notify: NotifyFd,
}

impl Stage {
    pub fn new(listen: &[&str]) -> Self {
        let listen = listen.iter().map(|text| Address::Inet(text.parse().unwrap())).collect();
        Self { plane: Plane::new(listen, None), events: Vec::new(), workers: Vec::new() }
    }

    /// Runs `command` under the filter, as `uid` if given.
    pub fn start(&mut self, id: WorkerId, command: &[&str], uid: Option<u32>) {
        let (child, notify) = launch(command, &id.to_string(), uid).unwrap();
        self.workers.push(Worker { id, child, notify });
    }

    /// Starts a worker and waits until it calls listen.
    pub fn start_listening(&mut self, id: WorkerId, command: &[&str]) {
        self.start(id, command, None);
        self.until(&format!("{id} listens"), |stage| stage.listens(id));
    }

    pub fn listens(&self, id: WorkerId) -> bool {
        self.events
            .iter()
            .any(|event| matches!(event, PlaneEvent::Listening { worker, .. } if *worker == id))
    }

    /// Answers what waits now.
    pub fn turn(&mut self) {
        for worker in &self.workers {
            loop {
                match self.plane.serve(worker.id, &worker.notify).unwrap() {
                    Served::Idle => break,
                    Served::Quiet => {}
                    Served::Event(event) => self.events.push(event),
                }
            }
        }
    }

    /// Answers the workers until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Stage) -> bool) {
        let start = Instant::now();
        loop {
            self.turn();
            if done(self) {
                return;
            }
            let events = &self.events;
            assert!(start.elapsed() < PATIENCE, "never: {what}; events: {events:?}");
            self.wait();
        }
    }

    pub fn pid(&self, id: WorkerId) -> Pid {
        Pid::from_raw(self.worker(id).child.id() as i32)
    }

    fn worker(&self, id: WorkerId) -> &Worker {
        self.workers.iter().find(|worker| worker.id == id).unwrap()
    }

    /// Waits for the end of a worker; its exit code, if it had one.
    pub fn reap(&mut self, id: WorkerId) -> Option<i32> {
        let mut status = None;
        self.until(&format!("{id} ends"), |stage| {
            let worker = stage.workers.iter_mut().find(|worker| worker.id == id).unwrap();
            status = worker.child.try_wait().unwrap();
            status.is_some()
        });
        self.workers.retain(|worker| worker.id != id);
        status.unwrap().code()
    }

    /// SIGKILL to the whole tree, then tells the plane.
    pub fn kill(&mut self, id: WorkerId) {
        killpg(self.pid(id), SIGKILL).unwrap();
        self.reap(id);
        self.plane.release(id).unwrap();
    }

    /// Connects to one chosen worker; what it says.
    pub fn probe(&self, id: WorkerId) -> String {
        let target = self.plane.probe_target(id).expect("the worker has bound");
        heard(through(target).unwrap()).unwrap()
    }

    /// Asks until this worker answers. In a thread, since the worker may need answers meanwhile.
    pub fn ask_until(&mut self, address: SocketAddr, answer: &str) {
        self.until(&format!("{answer} answers on {address}"), |stage| {
            let said = std::thread::scope(|scope| {
                let asked = scope.spawn(|| ask(address));
                while !asked.is_finished() {
                    stage.turn();
                    stage.wait();
                }
                asked.join().unwrap()
            });
            said.is_ok_and(|said| said == answer)
        });
    }

    /// Until a worker calls, but not for long: what is waited for may come without a call.
    fn wait(&self) {
        let mut fds: Vec<PollFd> = self
            .workers
            .iter()
            .map(|worker| PollFd::new(worker.notify.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut fds, 5u8).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = killpg(Pid::from_raw(worker.child.id() as i32), SIGKILL);
            let _ = worker.child.wait();
        }
    }
}

/// What the server at `address` says to a connection.
pub fn ask(address: SocketAddr) -> io::Result<String> {
    heard(TcpStream::connect(address)?)
}

pub fn heard(mut stream: TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A connection to one worker.
pub fn through(target: ProbeTarget) -> io::Result<TcpStream> {
    use nix::sys::socket::{SockaddrStorage, connect};
    let socket = target.socket()?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    connect(stream.as_raw_fd(), &SockaddrStorage::from(target.destination))?;
    Ok(stream)
}

/// A port that is free on all addresses and that no client gets by chance.
pub fn free_port() -> u16 {
    port::free_port(&[Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()])
}

/// A listener that would share its port.
pub fn sharing_listener(address: SocketAddr) -> OwnedFd {
    use nix::sys::socket::*;
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::ReusePort, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    listen(&fd, Backlog::MAXALLOWABLE).unwrap();
    fd
}

/// Has this test binary install the filter on itself, send the notify descriptor and execute
/// `command`: what the launcher of stanch does.
fn launch(command: &[&str], id: &str, uid: Option<u32>) -> io::Result<(Child, NotifyFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut launcher = Command::new(std::env::current_exe()?);
    launcher
        .args(["--ignored", "--exact", "stage::launcher_step", "--nocapture"])
        .env("PLANE_COMMAND", serde_json::to_string(command)?)
        .env("PLANE_ID", id)
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .process_group(0);
    if let Some(uid) = uid {
        launcher.env("PLANE_UID", uid.to_string());
    }
    let child = launcher.spawn()?;
    // Our copy of its end must go, or the end of the launcher would not be seen.
    drop(launcher);
    ours.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message =
        recvmsg::<()>(ours.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let fd = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = fd.ok_or_else(|| io::Error::other("the launcher ended without a descriptor"))?;
    Ok((child, owned(fd)))
}

/// The one thing that a test cannot say without `unsafe`; gone when these tests start their workers
/// through the launcher of stanch itself.
#[allow(unsafe_code)]
fn owned(fd: i32) -> NotifyFd {
    // SAFETY: recvmsg has just made the descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }.into()
}

/// Not a test: what [`launch`] runs.
#[test]
#[ignore = "runs in the processes that the other tests start"]
fn launcher_step() {
    let Ok(command) = std::env::var("PLANE_COMMAND") else { return };
    let command: Vec<String> = serde_json::from_str(&command).unwrap();
    if let Ok(uid) = std::env::var("PLANE_UID") {
        let id: u32 = uid.parse().unwrap();
        setgroups(&[]).unwrap();
        setgid(Gid::from_raw(id)).unwrap();
        setuid(Uid::from_raw(id)).unwrap();
    }
    let listener = seccomp::install(!nix::unistd::geteuid().is_root()).unwrap();
    let fds = [listener.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(0, &[IoSlice::new(b"n")], &rights, MsgFlags::empty(), None).unwrap();
    dup2_stdin(File::open("/dev/null").unwrap()).unwrap();
    panic!("{}", Command::new(&command[0]).args(&command[1..]).exec());
}
