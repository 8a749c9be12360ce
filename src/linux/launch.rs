//! The launcher step: what runs between the start of a process and the start of the worker's command
//! in it. The supervisor's side is [`spawn`](super::spawn).
//!
//! The supervisor starts its own executable file again (`/proc/self/exe __launch`, so it is the very
//! same version even after an upgrade of the package). What must happen in the new process then
//! happens here, in an ordinary program with one thread that may allocate and explain itself, instead
//! of between `fork` and `exec` where it may do neither.
//!
//! # Order
//!
//! | stage | why there |
//! | --- | --- |
//! | session | before anything is known: a Ctrl-C at the supervisor's terminal does not hit a launcher |
//! | plan | waits for the supervisor, which may first put this pid into a cgroup and open its pidfd |
//! | environment | all memory that `execve` needs is taken before `limits` can make it scarce |
//! | limits, priority | raising them needs the supervisor's privileges |
//! | filter | without `no_new_privs` it needs CAP_SYS_ADMIN, which `user` takes away. It traps only `bind`, `listen` and `shutdown`, and nothing after it calls these |
//! | user | as late as the privileges are needed |
//! | directory | as the worker's user: one that it cannot enter is told here, not by the application |
//! | listeners, stdio, signals | cannot depend on anything of the above but `nofile` |
//! | exec | the supervisor is told `Executing`, with the filter's notify descriptor, then silence |
//!
//! Descriptor 0 is the control socket until `stdio`; 1 and 2 are the worker's from the beginning.
//! When the supervisor dies while a launcher waits, the socket ends and so does the launcher:
//! nothing runs unsupervised.

pub(in crate::linux) mod control;
mod exec;
mod fault;
mod plan;
mod stage;
mod user;

pub use fault::Stage;
pub use plan::{Credentials, Environment, Limit, Plan, Takeover};
pub use user::{Account, AccountError, Login};

use control::Report;
use exec::Image;
use fault::Fault;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

/// Runs the launcher step in this process; returns only when the command could not be started (the
/// supervisor has been told) or when the supervisor is gone.
pub fn main() -> ExitCode {
    // Without it `/proc/self/exe` shows as "exe" in ps and top.
    let _ = nix::sys::prctl::set_name(c"stanch-launch");
    // The supervisor blocked all of them for the time before this program.
    let _ = SigSet::empty().thread_set_mask();
    let stdin = io::stdin();
    match receive(stdin.as_fd()) {
        Ok(Some(order)) => {
            let Err(fault) = follow(order.plan, order.image, order.sockets, order.control.as_fd());
            tell(order.control.as_fd(), fault)
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(fault) => tell(stdin.as_fd(), fault),
    }
}

/// What the supervisor wants, ready to be done.
struct Order {
    plan: Plan,
    image: Image,
    sockets: Vec<OwnedFd>,
    control: OwnedFd,
}

/// Waits for the order; `None` when the supervisor went away instead.
fn receive(control: BorrowedFd<'_>) -> Result<Option<Order>, Fault> {
    stage::session()?;
    let Some(packet) = control::receive(control).map_err(|errno| {
        let fault = Stage::Plan.fault(errno, "could not receive the plan from the supervisor");
        match errno {
            Errno::ENOBUFS => fault.hint("stanch's own limit of open files is too low"),
            Errno::ENOTSOCK => fault.hint("stanch starts this step itself; it is not for people"),
            _ => fault,
        }
    })?
    else {
        return Ok(None);
    };
    let garbled = |error: io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EBADMSG as i32));
        Stage::Plan.fault(errno, format!("could not read the plan: {error}"))
    };
    let mut fds = packet.fds.into_iter();
    let file = fds.next().ok_or_else(|| garbled(io::ErrorKind::InvalidData.into()))?;
    let (plan, names): (Plan, Vec<String>) = control::from_file(file).map_err(garbled)?;
    let image = Image::new(&plan, &names)?;
    let sockets = fds.map(|fd| stage::move_up(fd, names.len())).collect::<Result<_, _>>()?;
    let copy = control.try_clone_to_owned().map_err(garbled)?;
    let control = stage::move_up(copy, names.len())?;
    Ok(Some(Order { plan, image, sockets, control }))
}

/// Does it all, in the order of the table above.
fn follow(
    plan: Plan,
    image: Image,
    sockets: Vec<OwnedFd>,
    control: BorrowedFd<'_>,
) -> Result<Infallible, Fault> {
    stage::limits(&plan.limits)?;
    stage::priority(plan.nice, plan.umask)?;
    let notify = stage::filter(plan.takeover)?;
    if let Some(credentials) = &plan.credentials {
        user::become_user(credentials)?;
    }
    if let Some(directory) = &plan.directory {
        stage::directory(directory)?;
    }
    stage::listeners(sockets)?;
    stage::stdio()?;
    stage::signals()?;
    // A supervisor that is gone by now shall not get a worker.
    control::report(control, &Report::Executing, notify)
        .map_err(|errno| Stage::Exec.fault(errno, "could not tell the supervisor"))?;
    image.execute()
}

/// Tells the supervisor why, or people if there is none (somebody ran this step by hand).
fn tell(control: BorrowedFd<'_>, fault: Fault) -> ExitCode {
    let told = control::report(control, &Report::Failed(fault.clone()), None);
    if told == Err(Errno::ENOTSOCK) {
        eprintln!("stanch: {}", fault.hint.unwrap_or(fault.what));
    }
    ExitCode::from(control::FAILED)
}
