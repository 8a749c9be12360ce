//! Real workers for the checks: processes that come through the launcher, above all the built-in
//! server.

use super::{Host, PATIENCE};
use crate::core::WorkerId;
use crate::core::words::chain;
use crate::linux::launch::{Environment, Plan, Takeover};
use crate::linux::plane::ProbeTarget;
use crate::linux::spawn::{Launching, Output, Pipes, Progress, SpawnError};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// This very program, also after its file was replaced, and whoever may not see its path.
pub(super) const PROGRAM: &str = "/proc/self/exe";

/// No answer of the built-in server is longer.
const LONGEST_ANSWER: u64 = 4096;

/// A child; killed and reaped when dropped.
pub(super) struct Process(Pid);

impl Process {
    /// The one that is being launched.
    pub fn of(launching: &Launching) -> Self {
        Self(Pid::from_raw(launching.pid()))
    }

    pub fn pid(&self) -> Pid {
        self.0
    }

    /// Sends a signal: the pid is its own until it is reaped here.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(self.0, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// A worker that runs.
pub(super) struct Worker {
    pub process: Process,
    /// The takeover filter's notify descriptor.
    pub notify: Option<OwnedFd>,
    /// Open, so that it may write.
    pub output: Option<Pipes>,
}

impl Host {
    /// A plan for this program with these arguments, as the workers' user.
    pub fn plan(&self, worker: WorkerId, arguments: &[&str]) -> Plan {
        Plan {
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Environment::inherited(),
            credentials: self.credentials.clone(),
            ..Plan::new(worker, PROGRAM)
        }
    }

    /// Starts a worker, and sees it through to its `execve`.
    pub async fn launch(&self, plan: &Plan) -> Result<Worker, SpawnError> {
        self.launch_in(plan, None, |_| ()).await
    }

    /// The same in a cgroup; `placed` is told the launcher before it runs.
    pub async fn launch_in(
        &self,
        plan: &Plan,
        cgroup: Option<BorrowedFd<'_>>,
        placed: impl FnOnce(&Launching),
    ) -> Result<Worker, SpawnError> {
        let mut launching = self.launcher.spawn("stanch: doctor", Output::Pipes, cgroup)?;
        let process = Process::of(&launching);
        placed(&launching);
        launching.proceed(plan, &[])?;
        let deadline = Instant::now() + PATIENCE;
        let mut filter = None;
        while let Progress::Executing { notify } = launching.next(deadline).await? {
            filter = notify;
        }
        Ok(Worker { process, notify: filter, output: launching.take_pipes() })
    }

    /// Starts the built-in server.
    pub async fn serve(
        &self,
        worker: WorkerId,
        address: SocketAddr,
        takeover: Takeover,
    ) -> Result<Worker, SpawnError> {
        let (address, parent) = (address.to_string(), std::process::id().to_string());
        let arguments =
            ["__leaky-server", "--address", &address, "--session", "1B", "--parent", &parent];
        self.launch(&Plan { takeover, ..self.plan(worker, &arguments) }).await
    }
}

/// Why a worker did not start, without the hint that names this very command.
pub(super) fn spawn_words(error: &SpawnError) -> String {
    let what = match error {
        SpawnError::Refused { what, source, .. } => {
            format!("{what}: {}", errno_words(errno(source)))
        }
        other => chain(other),
    };
    format!("stage {}: {what}", error.stage())
}

/// What the kernel said.
pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// `EBUSY (Device or resource busy)`
pub(super) fn errno_words(errno: Errno) -> String {
    format!("{errno:?} ({})", errno.desc())
}

/// Asks whoever answers at the address which worker it is.
pub(super) async fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    request(&mut stream, "close").await?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((_, worker)) => Ok(worker.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Sends the question of [`ask`]; `connection` is what shall become of the connection.
pub(super) async fn request(stream: &mut TcpStream, connection: &str) -> io::Result<()> {
    let text = format!("GET /worker HTTP/1.1\r\nhost: doctor\r\nconnection: {connection}\r\n\r\n");
    stream.write_all(text.as_bytes()).await
}

/// A connection to one chosen worker.
pub(super) async fn connect_to(target: &ProbeTarget) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(target.socket()?.into());
    socket.connect(target.destination).await
}
