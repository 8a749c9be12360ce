//! Worker trees of real processes, with a cgroup of their own and without.

mod world;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid};
use stanch::core::WorkerId;
use stanch::linux::cgroup::Leaf;
use stanch::linux::mark::MARK_VARIABLE;
use stanch::linux::procfs::{ProcessId, Procfs};
use stanch::linux::spawn::{Launcher, Output};
use stanch::linux::tree::{Orphans, Tree};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::process::Command;
use world::{World, is_alive, living_children, until};

const MIB_IN_KIB: u64 = 1024;

fn set<const N: usize>(pids: [Pid; N]) -> BTreeSet<Pid> {
    BTreeSet::from(pids)
}

/// A test without a cgroup and one with, of the same body.
macro_rules! both {
    ($(#[$doc:meta])* $name:ident, $body:expr) => {
        mod $name {
            use super::*;
            $(#[$doc])*
            #[test]
            fn by_kinship() {
                let body: fn(World) = $body;
                body(World::plain());
            }
            #[test]
            fn by_cgroup() {
                let body: fn(World) = $body;
                if let Some(world) = World::with_cgroups() {
                    body(world);
                }
            }
        }
    };
}

both!(every_descendant_is_a_member, |mut world| {
    let mut worker = world.start(
        r#"
def grandchild():
    say("grandchild")
    pause()
def first():
    threading.Thread(target=lambda: child(grandchild)).start()
    say("first")
    pause()
def second():
    say("second")
    os.execvp("sleep", ["a (b) c", "1000"])
child(first); child(second)
say("leader")
pause()
"#,
    );
    let expected = set(["leader", "first", "second", "grandchild"].map(|name| world.said(name)));
    assert!(expected.contains(&worker.leader.pid));
    assert_eq!(worker.pids(), expected);

    assert_eq!(worker.tree.kill_all(), 4);
    until("all are dead", || worker.tree.is_empty());
    assert!(!expected.iter().any(|&pid| is_alive(pid)));
});

both!(a_daemon_that_was_never_seen_before_is_a_member, |mut world| {
    world.reap();
    let mut worker = world.start(
        r#"
def run():
    close_all()
    say("daemon")
    pause()
def exec():
    say("program")
    os.execvp("sleep", ["sleep", "1000"])
daemon(run); daemon(exec)
pause()
"#,
    );
    let (daemon, program) = (world.said("daemon"), world.said("program"));
    assert_eq!(Procfs::default().stat(daemon).unwrap().parent, getpid());
    // While it executes the kernel shows an empty environment.
    let expected = set([worker.leader.pid, daemon, program]);
    until("all are found", || worker.pids() == expected);

    // The leader's end is not the tree's.
    kill(worker.leader.pid, Signal::SIGKILL).unwrap();
    until("the leader is reaped", || worker.tree.leader_state().is_none());
    assert_eq!(worker.pids(), set([daemon, program]));
    assert!(!worker.tree.is_empty());
    worker.tree.kill_all();
    until("all are dead", || worker.tree.is_empty());
    assert!(!is_alive(daemon) && !is_alive(program));
});

both!(a_member_that_drops_mark_parent_and_session_stays_one, |mut world| {
    let mut worker = world.start(
        r#"
def run():
    say("seen")
    heard("go")
    os.setsid()
    heard("orphaned")
    os.execvp("env", ["env", "-i", "sleep", "1000"])
def parent():
    child(run)
    heard("go")
child(parent)
pause()
"#,
    );
    let seen = world.said("seen");
    assert!(worker.pids().contains(&seen));
    world.tell("go");
    let procfs = Procfs::default();
    until("it is an orphan", || procfs.stat(seen).unwrap().parent == getpid());
    world.tell("orphaned");
    until("it has no environment", || {
        std::fs::read_to_string(format!("/proc/{seen}/comm")).unwrap() == "sleep\n"
    });
    assert_eq!(procfs.environment(seen, MARK_VARIABLE), None);
    assert_eq!(worker.pids(), set([worker.leader.pid, seen]));
});

both!(an_orphan_of_the_session_is_a_member_without_a_mark, |mut world| {
    let mut worker = world.start(
        r#"
def run():
    say("orphan")
    os.execvp("env", ["env", "-i", "sleep", "1000"])
os.waitpid(child(lambda: child(run)), 0)
pause()
"#,
    );
    let orphan = world.said("orphan");
    let procfs = Procfs::default();
    until("it is an orphan without an environment", || {
        std::fs::read_to_string(format!("/proc/{orphan}/comm")).unwrap() == "sleep\n"
            && procfs.stat(orphan).unwrap().parent == getpid()
    });
    assert_eq!(worker.pids(), set([worker.leader.pid, orphan]));
});

both!(other_workers_and_other_children_are_left_alone, |mut world| {
    let script =
        |name: &str| format!("def run():\n  say(\"{name}\")\n  pause()\ndaemon(run)\npause()");
    let mut one = world.start(&script("one"));
    let mut other = world.start(&script("other"));
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let (mine, others) = (world.said("one"), world.said("other"));
    let procfs = Procfs::default();
    until("both are orphans", || {
        [mine, others].iter().all(|&pid| procfs.stat(pid).unwrap().parent == getpid())
    });
    // Twice, because what is known of strangers is remembered.
    for _ in 0..2 {
        assert_eq!(one.pids(), set([one.leader.pid, mine]));
        assert_eq!(other.pids(), set([other.leader.pid, others]));
    }
    one.tree.kill_all();
    until("one is dead", || one.tree.is_empty());
    assert!(is_alive(others) && is_alive(other.leader.pid));
    assert!(is_alive(Pid::from_raw(bystander.id() as i32)));
    bystander.kill().unwrap();
    bystander.wait().unwrap();
});

#[test]
fn the_cgroup_knows_whom_kinship_cannot() {
    let Some(mut world) = World::with_cgroups() else { return };
    let mut worker = world.start(
        r#"
def run():
    say("unknown")
    os.execvp("env", ["env", "-i", "sleep", "1000"])
daemon(run)
pause()
"#,
    );
    let unknown = world.said("unknown");
    let procfs = Procfs::default();
    until("it is an orphan without an environment", || {
        std::fs::read_to_string(format!("/proc/{unknown}/comm")).unwrap() == "sleep\n"
            && procfs.stat(unknown).unwrap().parent == getpid()
    });
    // The first sample looks everywhere, the second only where it is cheap.
    for _ in 0..2 {
        assert_eq!(worker.tree.sample().processes, Some(2));
    }
    assert_eq!(worker.pids(), set([worker.leader.pid, unknown]));
    let mut without = Tree::new(procfs, Orphans::default(), worker.leader, "test:0.1".into(), None);
    assert_eq!(without.members(), [worker.leader]);
}

#[test]
fn what_left_its_cgroup_is_found_by_kinship() {
    let Some(mut world) = World::with_cgroups() else { return };
    let mut worker = world.start(
        r#"
def run():
    say("child")
    pause()
child(run)
pause()
"#,
    );
    let child = world.said("child");
    let leaf = world.leaf_folder(1);
    let own = leaf.parent().unwrap().parent().unwrap();
    std::fs::write(own.join("cgroup.procs"), child.to_string()).unwrap();
    let listed = std::fs::read_to_string(leaf.join("cgroup.procs")).unwrap();
    assert_eq!(listed.trim(), worker.leader.pid.to_string());

    assert_eq!(worker.pids(), set([worker.leader.pid, child]));
    worker.tree.kill_all();
    until("all are dead", || worker.tree.is_empty());
    assert!(!is_alive(child));
}

#[test]
fn a_leaf_goes_with_the_cgroups_that_the_worker_made_in_it() {
    let Some(mut world) = World::with_cgroups() else { return };
    let leaf: Leaf = world.leaves.as_ref().unwrap().create(WorkerId::new(7, 1)).unwrap();
    let folder = world.leaf_folder(1).parent().unwrap().join("worker-7.1");
    let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = Pid::from_raw(process.id() as i32);
    assert_eq!(leaf.populated(), Some(false));
    std::fs::create_dir_all(folder.join("own/deeper")).unwrap();
    std::fs::write(folder.join("own/deeper/cgroup.procs"), pid.to_string()).unwrap();
    assert_eq!(leaf.populated(), Some(true));
    assert_eq!(leaf.procs(), Some(vec![pid]));
    assert!(leaf.remove().is_err());
    assert!(leaf.kill());
    process.wait().unwrap();
    until("the cgroup is empty", || leaf.populated() == Some(false));
    drop(leaf);
    assert!(!folder.exists());
    drop(world.leaves.take());
    assert!(!folder.parent().unwrap().exists());
}

both!(pages_shared_by_forks_count_once, |mut world| {
    let mut worker = world.start(
        r#"
data = b"x" * (100 << 20)
def run(number):
    say(f"child{number}")
    if number == 0:
        heard("grow")
        more = b"y" * (50 << 20)
        say("grown")
    pause()
for number in range(4):
    child(lambda: run(number))
pause()
"#,
    );
    for number in 0..4 {
        world.said(&format!("child{number}"));
    }
    let near = |value: u64, mib: u64| {
        let expected = mib * MIB_IN_KIB;
        assert!(value.abs_diff(expected) < expected / 5, "{value} KiB, not about {expected} KiB");
    };
    let sample = worker.tree.sample();
    assert_eq!(sample.processes, Some(5));
    assert!(sample.rss_kib.unwrap() > 500 * MIB_IN_KIB);
    let before = sample.rss_anon_kib.unwrap();
    // Five interpreters have some pages of their own.
    near(before, 110);

    // What one of them adds is its own and counts whole, at once: nothing is measured anew.
    world.tell("grow");
    world.said("grown");
    near(worker.tree.sample().rss_anon_kib.unwrap() - before, 50);
});

#[test]
fn pages_of_a_new_program_count_whole() {
    let mut world = World::plain();
    let mut worker = world.start(
        r#"
data = b"x" * (100 << 20)
script = """
import os, signal
data = b"y" * (60 << 20)
open(os.environ["FOLDER"] + "/running", "w").close()
signal.pause()
"""
child(lambda: os.execvp("python3", ["python3", "-c", script]))
pause()
"#,
    );
    until("the program runs", || world.folder.path().join("running").exists());
    let anon = worker.tree.sample().rss_anon_kib.unwrap();
    assert!(anon > 150 * MIB_IN_KIB, "{anon} KiB");
}

#[test]
fn a_fork_does_not_look_as_if_the_tree_had_doubled() {
    let mut world = World::plain();
    let mut worker = world.start(
        r#"
data = b"x" * (100 << 20)
def run(name):
    say(name)
    pause()
child(lambda: run("first"))
heard("go")
for number in range(8):
    child(lambda: run(f"later{number}"))
pause()
"#,
    );
    world.said("first");
    // The first sample measures; then comes a pause, in which the forks fall.
    let before = worker.tree.sample().rss_anon_kib.unwrap();
    world.tell("go");
    for number in 0..8 {
        world.said(&format!("later{number}"));
    }
    let sample = worker.tree.sample();
    assert_eq!(sample.processes, Some(10));
    let after = sample.rss_anon_kib.unwrap();
    assert!(after.abs_diff(before) < 30 * MIB_IN_KIB, "{before} KiB, then {after} KiB");
}

#[test]
fn a_sample_sums_over_the_tree_and_ends_with_it() {
    let mut world = World::plain();
    let mut worker = world.start(
        r#"
def run():
    files = [open("/dev/null") for _ in range(100)]
    threading.Thread(target=pause, daemon=True).start()
    say("child")
    pause()
child(run)
pause()
"#,
    );
    world.said("child");
    let sample = worker.tree.sample();
    assert_eq!(sample.processes, Some(2));
    assert_eq!(sample.threads, Some(3));
    assert!((106..120).contains(&sample.fds.unwrap()), "{:?}", sample.fds);
    assert!(sample.rss_anon_kib.unwrap() < sample.rss_kib.unwrap());
    assert!(sample.rss_file_kib.unwrap() > 0);

    worker.tree.kill_all();
    until("all are dead", || worker.tree.is_empty());
    let sample = worker.tree.sample();
    assert_eq!(sample.processes, Some(0));
    assert_eq!((sample.rss_kib, sample.rss_anon_kib, sample.fds), (None, None, None));
}

#[test]
fn cpu_time_of_an_orphan_stays_counted() {
    let mut world = World::plain();
    world.reap();
    let mut worker = world.start(
        r#"
def run():
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    say("burnt")
    heard("end")
daemon(run)
pause()
"#,
    );
    let burnt = world.said("burnt");
    let before = worker.tree.sample().cpu_ticks.unwrap();
    assert!(before >= 30, "{before}");
    world.tell("end");
    until("the orphan is reaped", || Procfs::default().stat(burnt).is_none());
    let sample = worker.tree.sample();
    assert_eq!(sample.processes, Some(1));
    assert!(sample.cpu_ticks.unwrap() >= before);
}

#[test]
fn zombies_do_not_count_as_live() {
    let mut world = World::plain();
    let mut worker = world.start("child(lambda: say(\"zombie\"))\npause()");
    let zombie = world.said("zombie");
    let procfs = Procfs::default();
    until("it is a zombie", || procfs.stat(zombie).unwrap().state == 'Z');
    assert_eq!(worker.pids(), set([worker.leader.pid]));
    assert_eq!(worker.tree.sample().processes, Some(1));

    kill(worker.leader.pid, Signal::SIGSTOP).unwrap();
    until("the leader is stopped", || worker.tree.leader_state() == Some('T'));
    kill(worker.leader.pid, Signal::SIGKILL).unwrap();
    until("the leader is a zombie", || worker.tree.leader_state() == Some('Z'));
    assert!(worker.tree.is_empty());
}

#[test]
fn a_signal_reaches_all_members() {
    let mut world = World::plain();
    let mut worker = world.start(
        r#"
def run(name):
    signal.signal(signal.SIGUSR1, lambda *_: say(name + "-got-it"))
    say(name)
    pause()
child(lambda: run("one")); child(lambda: run("two"))
run("leader")
"#,
    );
    for name in ["one", "two", "leader"] {
        world.said(name);
    }
    assert_eq!(worker.tree.signal_all(Signal::SIGUSR1), 3);
    for name in ["one", "two", "leader"] {
        world.said(&format!("{name}-got-it"));
    }
}

/// The pid of a worker that has ended may belong to anybody.
#[test]
fn the_next_owner_of_a_pid_is_not_touched() {
    let _world = World::plain();
    let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
    let id = Procfs::default().identify(Pid::from_raw(process.id() as i32)).unwrap();
    let past = ProcessId { start_time_ticks: id.start_time_ticks - 1, ..id };
    let mut tree = Tree::new(Procfs::default(), Orphans::default(), past, "test:0.1".into(), None);
    assert_eq!(tree.signal_all(Signal::SIGKILL), 0);
    assert_eq!(tree.kill_all(), 0);
    assert!(tree.is_empty());
    assert_eq!(tree.leader_state(), None);
    assert_eq!(tree.sample().rss_kib, None);
    assert!(is_alive(id.pid));
    process.kill().unwrap();
    process.wait().unwrap();
}

both!(children_that_only_their_parent_tells_are_killed_too, |mut world| {
    world.reap();
    // Once their parent is dead nothing tells whose they are; and before it there are many others to
    // be killed, in which time it has more.
    let mut worker = world.start(
        r#"
def run():
    os.setsid()
    os.execvp("env", ["env", "-i", "sleep", "1000"])
def parent():
    say("parent")
    for number in range(1500):
        child(run)
        time.sleep(0.002)
    say("done")
    pause()
for number in range(200):
    child(pause)
child(parent)
pause()
"#,
    );
    world.said("parent");
    until("it forks", || worker.pids().len() > 220);
    worker.tree.kill_all();
    until("all are dead", || worker.tree.is_empty());
    assert_eq!(living_children(), []);
    // It was stopped, not waited out.
    assert!(!world.folder.path().join("done").exists());
});

both!(a_tree_that_keeps_forking_is_killed_whole, |mut world| {
    world.reap();
    // Four families: each member forks a successor, hands on, and ends; some daemonize on the way.
    let mut worker = world.start(
        r#"
open(f"{folder}/generations", "w").close()
def run(generation):
    while True:
        with open(f"{folder}/generations", "a") as file:
            file.write(".")
        if generation % 3 == 0:
            os.setsid() if os.getpid() != os.getsid(0) else None
        generation += 1
        if os.fork():
            if generation % 2:
                child(lambda: time.sleep(0.01))
                time.sleep(0.005)
            os._exit(0)
for family in range(4):
    child(lambda: run(family))
say("forking")
while True:
    os.wait()
"#,
    );
    world.said("forking");
    let generations = world.folder.path().join("generations");
    let born = || std::fs::metadata(&generations).unwrap().len();
    until("it forks", || born() > 200);
    assert!(worker.tree.kill_all() > 0);
    until("all are dead", || worker.tree.is_empty());
    let then = born();
    assert_eq!(living_children(), []);
    assert_eq!(born(), then);
});

#[test]
fn a_launcher_is_born_in_its_leaf() {
    let Some(mut world) = World::with_cgroups() else { return };
    let leaf = world.leaves.as_ref().unwrap().create(WorkerId::new(7, 1)).unwrap();
    let folder = leaf.folder().unwrap();
    let launcher = Launcher::at(env!("CARGO_BIN_EXE_stanch"));
    let born = launcher.spawn("stanch: born", Output::Inherit, Some(folder.as_fd())).unwrap();
    let pid = Pid::from_raw(born.pid());
    assert!(born.placed());
    assert_eq!(leaf.procs(), Some(vec![pid]));
    drop(born);
    waitpid(pid, None).unwrap();
    drop((folder, leaf));

    // A folder that is no cgroup: the process is made all the same, and the caller is told.
    let nowhere = std::fs::File::open("/").unwrap();
    let born = launcher.spawn("stanch: born", Output::Inherit, Some(nowhere.as_fd())).unwrap();
    assert!(!born.placed());
    let pid = Pid::from_raw(born.pid());
    drop(born);
    waitpid(pid, None).unwrap();
    drop(world.leaves.take());
}
