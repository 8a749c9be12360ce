//! Memory: who can hold a worker's limit, and what is known of the host's.

use super::check::Check;
use super::worker::spawn_words;
use super::{Host, PATIENCE};
use crate::core::words::chain;
use crate::core::{OomKiller, WorkerId, pace};
use crate::linux::cgroup::{Enforcement, Leaf, Leaves, Limits, MemoryGroup, Unavailable};
use crate::linux::launch::{Environment, Plan};
use crate::linux::pressure::{self, Stalls};
use nix::unistd::{Pid, getpid};
use std::os::fd::AsFd;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

const MIB: u64 = 1024;

/// The limit of the process that the kernel shall kill.
const LIMIT_KIB: u64 = 24 * MIB;

/// What one processor touches to be measured.
const MEASURED_KIB: u64 = 128 * MIB;

/// Who holds hard limits, tried on a process that grows as fast as it can.
pub(super) async fn limit(host: &Host) -> Check {
    let name = "memory_limit";
    let leaves = Leaves::open(&host.procfs, "doctor");
    let limits = Limits::strongest(&host.procfs, "doctor", leaves.as_ref().ok(), Some(LIMIT_KIB));
    let not_v2 = match &leaves {
        Ok(leaves) => leaves.without_memory(),
        Err(why) => Some(why),
    };
    let enforced_by = limits.enforcement();
    if enforced_by != Enforcement::Polling {
        match kernel_kills(host, leaves.as_ref().ok(), &limits).await {
            Ok(peak) => {
                let found = format!(
                    "a process that grew without end was killed by the kernel at its limit of {} \
                     MiB ({enforced_by}; peak {peak})",
                    LIMIT_KIB / MIB
                );
                let means = "no worker gets beyond memory.hard_limit, however fast it grows; the end \
                             of one that tried is told from other kills";
                return match not_v2.filter(|_| enforced_by == Enforcement::Cgroup1) {
                    None => Check::ok(name, found, means),
                    Some(why) => Check::limited(
                        name,
                        format!("{found}; no cgroup2: {}", chain(why)),
                        format!(
                            "{means}. A worker takes up to 20 ms longer to start, and of a tree over \
                             the limit the kernel kills one process, stanch the others"
                        ),
                        why.remedy(),
                    ),
                };
            }
            Err(trouble) => {
                let found = format!("{enforced_by} was chosen, and did not hold: {trouble}");
                let means = "hard limits do not hold as they should";
                return Check::missing(name, found, means, "report this with the kernel's log");
            }
        }
    }
    let why = |why: Option<&Unavailable>| why.map_or("no reason".to_owned(), |why| chain(why));
    let found = format!("cgroup2: {}; cgroup v1: {}", why(not_v2), why(limits.without_v1()));
    let remedy = not_v2.map_or("set Delegate=yes in the systemd unit", |why| why.remedy());
    Check::limited(name, found, polling_means(host).await, remedy)
}

/// The bound that polling gives, with this host's own rate.
async fn polling_means(host: &Host) -> String {
    let assumed = pace::FASTEST_KIB_S / MIB;
    let shortest_ms = pace::SHORTEST.as_millis();
    let overshoot = |mib_s: u64| mib_s * u64::try_from(shortest_ms).unwrap_or(0) / 1000;
    let measured = match fill_rate(host).await {
        Ok(mib_s) => format!(
            "one processor was measured to fill {mib_s} MiB/s here: up to {} MiB",
            overshoot(mib_s)
        ),
        Err(trouble) => format!("this host's rate could not be measured: {trouble}"),
    };
    format!(
        "hard limits are held by looking: every {shortest_ms} ms near the limit, for a process that \
         fills up to {assumed} MiB/s. What it gets beyond is what it fills in {shortest_ms} ms and \
         until the kill ({measured}), more on a busy host, with several threads that fill at once, and \
         by up to 50 ms when the supervisor waits for its disk"
    )
}

/// Has the kernel kill a process at its limit; gives the peak.
async fn kernel_kills(
    host: &Host,
    leaves: Option<&Leaves>,
    limits: &Limits,
) -> Result<String, String> {
    let worker = WorkerId::new(0, 2);
    let leaf = leaves.map(|leaves| leaves.create(worker)).transpose();
    let leaf = leaf.map_err(|error| chain(&error))?;
    let group = limits.group(worker, leaf.as_ref()).map_err(|error| chain(&error))?;
    let mut group = group.ok_or("no group was made")?;
    let said = fill(host, LIMIT_KIB * 4, leaf.as_ref(), Some(&group)).await?;
    if !said.is_empty() {
        return Err(format!("a process got {} MiB", LIMIT_KIB * 4 / MIB));
    }
    match group.oom() {
        Some(OomKiller::Limit) => {}
        other => return Err(format!("the process ended, and the kernel's word is {other:?}")),
    }
    Ok(group.peak_kib().map_or("unknown".to_owned(), |kib| format!("{} MiB", kib / MIB)))
}

/// What one processor fills, in MiB a second.
async fn fill_rate(host: &Host) -> Result<u64, String> {
    let said = fill(host, MEASURED_KIB, None, None).await?;
    let micros: u64 = said.trim().parse().map_err(|_| "it was killed".to_owned())?;
    Ok(MEASURED_KIB / MIB * 1_000_000 / micros.max(1))
}

/// What `__fill` said, which is nothing if it was killed.
async fn fill(
    host: &Host,
    kib: u64,
    leaf: Option<&Leaf>,
    group: Option<&MemoryGroup>,
) -> Result<String, String> {
    let worker = WorkerId::new(0, 2);
    let plan = Plan {
        arguments: vec!["__fill".into(), format!("{kib}KiB").into()],
        environment: Environment::inherited(),
        ..Plan::new(worker, super::worker::PROGRAM)
    };
    let folder = leaf.and_then(|leaf| leaf.folder().ok());
    let mut misplaced = None;
    let process = host.launch_in(&plan, folder.as_ref().map(AsFd::as_fd), |launching| {
        let pid = Pid::from_raw(launching.pid());
        let into_leaf = leaf.filter(|_| !launching.placed()).map_or(Ok(()), |leaf| leaf.add(pid));
        let placed = into_leaf.and_then(|()| group.map_or(Ok(()), |group| group.add(pid)));
        misplaced = placed.err();
    });
    let mut process = process.await.map_err(|error| spawn_words(&error))?;
    if let Some(error) = misplaced {
        return Err(chain(&error));
    }
    let stdout = process.output.take().ok_or("it has no output")?.stdout;
    let mut stdout = pipe::Receiver::from_owned_fd(stdout).map_err(|error| error.to_string())?;
    let mut said = String::new();
    match timeout(PATIENCE, stdout.read_to_string(&mut said)).await {
        Ok(Ok(_)) => Ok(said),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it did not end in time".to_owned()),
    }
}

/// Whether the kernel tells when processes wait for memory.
pub(super) async fn pressure(host: &Host) -> Check {
    let name = "memory_pressure";
    let available_kib = pressure::available_kib(&host.procfs);
    let available = available_kib.map_or("unknown".to_owned(), |kib| format!("{} MiB", kib / MIB));
    match Stalls::watch(&host.procfs) {
        Ok(_) => Check::ok(
            name,
            format!("the kernel took a trigger on /proc/pressure/memory; available: {available}"),
            "when the host runs short of memory, the worst leaker is replaced first",
        ),
        Err(error) => Check::limited(
            name,
            format!("a trigger on /proc/pressure/memory: {error}; available: {available}"),
            "that the host runs short of memory is seen only when less than a twentieth is available",
            "boot with psi=1 (a kernel with CONFIG_PSI); in a container make /proc/pressure writable",
        ),
    }
}

/// Whether a worker could be swapped out.
pub(super) fn swap(host: &Host) -> Check {
    let (found, means) = match pressure::swap_kib(&host.procfs).unwrap_or(0) {
        0 => ("the host has none".to_owned(), "a limit of memory is a limit of all"),
        kib => (
            format!("the host has {} MiB", kib / MIB),
            "limits count what is swapped out too; under cgroup2 a worker with a hard limit is not \
             swapped",
        ),
    };
    Check::ok("swap", found, means)
}

/// Who goes first when the host is out of memory.
pub(super) fn oom_score(host: &Host) -> Check {
    let name = "oom_score";
    let own = pressure::oom_score_adj(&host.procfs, getpid()).unwrap_or(0);
    let lowered = pressure::set_oom_score_adj(&host.procfs, getpid(), own - 1);
    match lowered {
        Ok(()) => {
            let _ = pressure::set_oom_score_adj(&host.procfs, getpid(), own);
            Check::ok(
                name,
                "the supervisor's could be lowered, and put back",
                "when the host is out of memory, the OOM killer takes a worker rather than stanch",
            )
        }
        Err(error) => Check::limited(
            name,
            format!("tried to lower the supervisor's: {error}"),
            "when the host is out of memory, the workers' scores are raised, so that the OOM killer \
             takes one of them first; nothing protects stanch beyond that",
            "give stanch CAP_SYS_RESOURCE (docker run --cap-add SYS_RESOURCE, or \
             AmbientCapabilities=CAP_SYS_RESOURCE in the unit)",
        ),
    }
}
