//! The workers' processes: whether they can be held together, become another user, and open files.

use super::Host;
use super::check::Check;
use super::worker::{Process, spawn_words};
use crate::core::WorkerId;
use crate::core::words::chain;
use crate::linux::cgroup::{Leaves, Unavailable};
use crate::linux::launch::{Account, Credentials};
use crate::linux::spawn::Output;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{Uid, geteuid};
use std::os::fd::AsFd;

const ESCAPE: &str = "a worker's processes are known by kinship: one that daemonizes, clears its \
                      environment and executes between two looks survives a stop";

/// How sure it is that nothing of a worker survives.
pub(super) fn tree(host: &Host) -> Check {
    let name = "process_tree";
    let leaves = match Leaves::open(&host.procfs, "doctor") {
        Ok(leaves) => leaves,
        Err(why) => return by_kinship(name, &why),
    };
    match place(host, &leaves) {
        Ok(Placed { born: true, killed: true }) => Check::ok(
            name,
            "a process was born in a cgroup of its own, and killed with all of it at once",
            "nothing of a worker survives a stop, whatever it does",
        ),
        Ok(Placed { born, killed }) => {
            let mut means = Vec::new();
            if !born {
                means.push("the kernel takes 10 to 25 ms more to start a worker");
            }
            if !killed {
                means.push("a worker that forks quickly takes longer to kill");
            }
            let how = if born { "was born in" } else { "was moved into" };
            let killed = if killed { "can" } else { "cannot" };
            Check::limited(
                name,
                format!("a process {how} a cgroup of its own, which {killed} be killed at once"),
                format!("nothing of a worker survives a stop; {}", means.join("; ")),
                "Linux 5.7 for clone3 into a cgroup, 5.14 for cgroup.kill, and a container profile \
                 that allows clone3",
            )
        }
        Err(trouble) => Check::limited(
            name,
            format!("a cgroup could be made, and no process put into it: {trouble}"),
            ESCAPE,
            "the folder above it must be writable too: Delegate=yes in the systemd unit",
        ),
    }
}

fn by_kinship(name: &'static str, why: &Unavailable) -> Check {
    let found = format!("no cgroup for a worker: {}", chain(why));
    Check::limited(name, found, ESCAPE, why.remedy())
}

/// Where a process stands that was started in a cgroup.
struct Placed {
    /// It was made there, not moved there.
    born: bool,
    /// The kernel killed all of the cgroup.
    killed: bool,
}

fn place(host: &Host, leaves: &Leaves) -> Result<Placed, String> {
    let leaf = leaves.create(WorkerId::new(0, 1)).map_err(|error| chain(&error))?;
    let folder = leaf.folder().map_err(|error| error.to_string())?;
    let launching = host
        .launcher
        .spawn("stanch: doctor", Output::Pipes, Some(folder.as_fd()))
        .map_err(|error| chain(&error))?;
    // Dropped before the leaf, which goes when it is empty.
    let process = Process::of(&launching);
    let born = launching.placed();
    if !born {
        leaf.add(process.pid()).map_err(|error| chain(&error))?;
    }
    match leaf.procs() {
        Some(procs) if procs.contains(&process.pid()) => Ok(Placed { born, killed: leaf.kill() }),
        _ => Err("it is not listed there".to_owned()),
    }
}

/// Whether workers can run as another user.
pub(super) async fn user(host: &Host) -> Check {
    let name = "user";
    let app = &host.config.app;
    let wanted = app.user.is_some() || app.group.is_some();
    let credentials = match Account::resolve(app.user.as_deref(), app.group.as_deref()) {
        Ok(Some(account)) => account.credentials,
        Ok(None) => somebody_else(),
        Err(error) => {
            let means = "no worker can start";
            let remedy = "create the user, or correct [app] user and group";
            return Check::missing(name, chain(&error), means, remedy).needed(true);
        }
    };
    let Credentials { uid, gid, .. } = credentials;
    let mut plan = host.plan(WorkerId::new(0, 1), &["--version"]);
    plan.credentials = Some(credentials);
    let check = match host.launch(&plan).await {
        Ok(_) => Check::ok(
            name,
            format!("a process became user {uid}, group {gid}, for good"),
            "[app] user works: the workers need not have stanch's rights",
        ),
        Err(error) => Check::missing(
            name,
            format!("tried to start a process as user {uid}, group {gid}: {}", spawn_words(&error)),
            "[app] user and group cannot be set; the workers run as stanch's own user",
            "run stanch as root, or give it CAP_SETUID and CAP_SETGID; in a user namespace the user \
             must be mapped",
        ),
    };
    check.needed(wanted)
}

/// A user without rights whom this process is not.
fn somebody_else() -> Credentials {
    const NOBODY: u32 = 65534;
    let id = if geteuid() == Uid::from_raw(NOBODY) { NOBODY - 1 } else { NOBODY };
    Credentials { uid: id, gid: id, groups: vec![id] }
}

/// Descriptors of the supervisor for a worker: two pipes of output, its filter, a socket for each
/// address, and two files for each process of its tree.
const FILES_A_WORKER: u64 = 16;
/// Those that it has anyway: store, control socket, clients, runtime.
const FILES_OF_ITS_OWN: u64 = 64;

/// Whether descriptors suffice.
pub(super) fn open_files(host: &Host) -> Check {
    let name = "open_files";
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(errno) => {
            let found = format!("the limit could not be read: {errno}");
            let remedy = "a sandbox must pass getrlimit(2) on";
            return Check::limited(name, found, "it is not known whether it suffices", remedy);
        }
    };
    let shown = |limit| match limit {
        RLIM_INFINITY => "unlimited".to_owned(),
        limit => limit.to_string(),
    };
    let workers = host.config.settings.workers;
    let wanted = FILES_OF_ITS_OWN + FILES_A_WORKER * u64::from(workers);
    let found = format!("soft limit {}, hard limit {}", shown(soft), shown(hard));
    let means = format!(
        "stanch takes about {wanted} for {workers} worker(s), a worker one for each connection; \
         workers inherit the limit unless [limits] nofile says otherwise"
    );
    match soft >= wanted {
        true => Check::ok(name, found, means),
        false => {
            let remedy = format!("LimitNOFILE= in the unit, or ulimit -n: {wanted} or more");
            Check::limited(name, found, means, remedy)
        }
    }
}
