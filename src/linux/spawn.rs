//! Starting a worker, the supervisor's side; what happens in the new process is in
//! [`launch`](super::launch).
//!
//! 1. [`Launcher::spawn`] gives a [`Launching`] with the pid at once. The process does nothing yet:
//!    the supervisor can put it into a cgroup and open its pidfd before it runs a byte of the worker.
//! 2. [`Launching::proceed`] sends the plan. It never blocks.
//! 3. [`Launching::next`] is awaited twice: [`Progress::Executing`], with the filter's notify
//!    descriptor (listen to it now, the worker's first `bind` can come at any moment and waits for
//!    the answer), then [`Progress::Running`]; or an error that names the stage.
//!
//! Nothing here waits for the process (`waitpid`): whoever reaps the supervisor's children sees its
//! end, also that of a launcher which failed (exit code 70). Dropping a [`Launching`] ends the
//! launcher, unless it has executed the command already.
//!
//! # Cost
//!
//! Measured with `cargo test --release --test launch -- --ignored --nocapture cost` (Linux 6.18, two
//! virtual processors shared with other work, so the least of 300 rounds is quoted; a supervisor of
//! 100 MiB): `true` through `posix_spawn` 0.46 ms until it is reaped, through the launcher 1.44 ms;
//! of these the supervisor is held for 0.08 ms, in [`Launcher::spawn`]. The millisecond between is a
//! second `execve`, the dynamic loader, Rust's start and the command line's parser.
#![allow(unsafe_code)]

mod fork;
mod pipes;

pub use pipes::{reopen, waiting};

use super::launch::control::{self, Report};
use super::launch::{Plan, Stage};
use super::nofile;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Why a worker does not run. [`SpawnError::stage`] names the step in one word.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Before there was a process: no control socket.
    #[error("could not make the control socket of a new worker")]
    Socket(#[source] io::Error),
    /// There is no process.
    #[error("could not start the launcher {}", program.display())]
    Start {
        /// The launcher's executable file.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The plan could not be handed over; the launcher ends by itself.
    #[error("could not send its plan to launcher {pid}")]
    Send {
        /// The launcher.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The launcher gave up, and says why.
    #[error("{what}{}", hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Refused {
        /// The step that failed.
        stage: Stage,
        /// What could not be done, on what.
        what: String,
        /// What to do about it, where that can be told.
        hint: Option<String>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The launcher ended and could not say why.
    #[error(
        "launcher {pid} died before it could start the command; its end was not its own (killed, or \
         out of memory: see the limits `as` and `data`, and the kernel's log)"
    )]
    Died {
        /// The launcher.
        pid: i32,
    },
    /// It took too long; the process is still there and must be killed.
    #[error("launcher {pid} did not start the command in time")]
    Overdue {
        /// The launcher.
        pid: i32,
    },
    /// The launcher could not be understood; the process may still be there.
    #[error("could not read from launcher {pid}")]
    Receive {
        /// The launcher.
        pid: i32,
        /// What the kernel or the decoder said.
        source: io::Error,
    },
}

impl SpawnError {
    /// The step that failed, for the event: that of the launcher, or `spawn`.
    pub fn stage(&self) -> &'static str {
        match self {
            SpawnError::Refused { stage, .. } => stage.as_str(),
            SpawnError::Socket(_)
            | SpawnError::Start { .. }
            | SpawnError::Send { .. }
            | SpawnError::Died { .. }
            | SpawnError::Overdue { .. }
            | SpawnError::Receive { .. } => "spawn",
        }
    }
}

/// Where the worker's standard output and error go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into two pipes, see [`Launching::take_pipes`].
    Pipes,
    /// Where the supervisor's own go.
    Inherit,
}

/// The read ends of a worker's output; non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Pipes {
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// A socket to be inherited.
#[derive(Clone, Copy, Debug)]
pub struct Listener<'a> {
    /// Its name in `LISTEN_FDNAMES`; a colon in it becomes `_`, because it separates names there.
    pub name: &'a str,
    /// The bound and listening socket; the worker shares it with the supervisor.
    pub socket: BorrowedFd<'a>,
}

/// How far a launch is.
#[derive(Debug)]
pub enum Progress {
    /// All is set up and the command is about to be executed.
    Executing {
        /// The takeover filter's notify descriptor, if the plan asked for one.
        notify: Option<OwnedFd>,
    },
    /// The command runs (or has ended already: its exit tells).
    Running,
}

/// Starts launchers.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Default for Launcher {
    /// The running executable file itself.
    fn default() -> Self {
        Self::at("/proc/self/exe")
    }
}

impl Launcher {
    /// A launcher that is the `stanch` of this path.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// Starts a process that waits for its plan. `title` is its name in `ps` until then, such as
    /// `stanch: launching app slot 2`; `cgroup` is the folder of the cgroup to be born in.
    pub fn spawn(
        &self,
        title: &str,
        output: Output,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Launching, SpawnError> {
        let (ours, theirs) = control::pair().map_err(|errno| SpawnError::Socket(errno.into()))?;
        nonblocking(&ours).map_err(SpawnError::Socket)?;
        let started = |source| SpawnError::Start { program: self.program.clone(), source };
        let word = |bytes: &[u8]| CString::new(bytes).map_err(|error| started(error.into()));
        let program = word(self.program.as_os_str().as_bytes())?;
        let title = word(title.as_bytes())?;
        let pipes = match output {
            Output::Pipes => {
                Some((pipes::make().map_err(started)?, pipes::make().map_err(started)?))
            }
            Output::Inherit => None,
        };
        let child = fork::start(
            &fork::Image {
                program: &program,
                arguments: &[&title, c"__launch"],
                stdio: [
                    Some(theirs.as_fd()),
                    pipes.as_ref().map(|(stdout, _)| stdout.1.as_fd()),
                    pipes.as_ref().map(|(_, stderr)| stderr.1.as_fd()),
                ],
            },
            cgroup,
        );
        let child = child.map_err(|errno| started(errno.into()))?;
        Ok(Launching {
            pid: child.pid,
            placed: child.placed,
            program: self.program.clone(),
            control: ours,
            pipes: pipes.map(|(stdout, stderr)| Pipes { stdout: stdout.0, stderr: stderr.0 }),
            executing: false,
        })
    }
}

fn nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// A process on its way to become a worker.
#[derive(Debug)]
pub struct Launching {
    pid: i32,
    placed: bool,
    program: PathBuf,
    control: OwnedFd,
    pipes: Option<Pipes>,
    executing: bool,
}

impl Launching {
    /// The process: the launcher's pid, and the worker's.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it was born in the cgroup that was asked for. False before Linux 5.7, and where a
    /// container forbids `clone3`.
    pub fn placed(&self) -> bool {
        self.placed
    }

    /// The worker's output, once; `None` if it is inherited.
    pub fn take_pipes(&mut self) -> Option<Pipes> {
        self.pipes.take()
    }

    /// Tells the launcher what to become. A launcher that has ended meanwhile is no error here:
    /// [`next`](Self::next) tells why it did.
    pub fn proceed(&self, plan: &Plan, listeners: &[Listener<'_>]) -> Result<(), SpawnError> {
        let failed = |source| SpawnError::Send { pid: self.pid, source };
        if listeners.len() >= control::MOST_FDS {
            return Err(failed(io::Error::other(
                "there are too many listening sockets, 252 can go",
            )));
        }
        let names: Vec<&str> = listeners.iter().map(|listener| listener.name).collect();
        let mut plan = plan.clone();
        if plan.limits.iter().all(|limit| limit.name != "nofile") {
            plan.limits.extend(nofile::of_workers());
        }
        let file = control::into_file(&(plan, names)).map_err(failed)?;
        let sockets = listeners.iter().map(|listener| listener.socket);
        let fds: Vec<_> = std::iter::once(file.as_fd()).chain(sockets).collect();
        match control::send(self.control.as_fd(), control::GO, &fds) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Waits for the next step, until `deadline` at the latest: [`Progress::Executing`], then
    /// [`Progress::Running`]. Cancel-safe. Needs a tokio runtime with I/O and time.
    pub async fn next(&mut self, deadline: Instant) -> Result<Progress, SpawnError> {
        let pid = self.pid;
        let failed = |source| SpawnError::Receive { pid, source };
        // SAFETY: the borrow keeps the descriptor open for as long as it is registered.
        let control =
            unsafe { AsyncFd::register_with_interest(self.control.as_fd(), Interest::READABLE) };
        let control = control.map_err(|error| failed(error.into()))?;
        let receive =
            control.async_io(Interest::READABLE, |socket| Ok(control::receive(socket.as_fd())?));
        let packet = match tokio::time::timeout_at(deadline, receive).await {
            Ok(received) => received.map_err(failed)?,
            Err(_) => return Err(SpawnError::Overdue { pid }),
        };
        let Some(packet) = packet else {
            return if self.executing {
                Ok(Progress::Running)
            } else {
                Err(SpawnError::Died { pid })
            };
        };
        if let Some(errno) = control::errno(&packet.bytes) {
            return Err(SpawnError::Start { program: self.program.clone(), source: errno.into() });
        }
        match serde_json::from_slice(&packet.bytes).map_err(|error| failed(error.into()))? {
            Report::Executing => {
                self.executing = true;
                Ok(Progress::Executing { notify: packet.fds.into_iter().next() })
            }
            Report::Failed(fault) => Err(SpawnError::Refused {
                stage: fault.stage,
                what: fault.what,
                hint: fault.hint,
                source: io::Error::from_raw_os_error(fault.errno),
            }),
        }
    }
}
