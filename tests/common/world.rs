//! Hosts that forbid something: each script takes a right away for good and executes its arguments.

use std::process::Command;

/// Answers `pidfd_getfd` with EPERM, as Docker's default profile does.
pub const WITHOUT_GETFD: &str = r#"
import ctypes, os, struct, sys
step = lambda code, jt, jf, k: struct.pack("HBBI", code, jt, jf, k)
PIDFD_GETFD, ALLOW, EPERM = 438, 0x7FFF0000, 0x00050001
code = step(0x20, 0, 0, 0) + step(0x15, 0, 1, PIDFD_GETFD) + step(6, 0, 0, EPERM) + step(6, 0, 0, ALLOW)
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2
libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
assert libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Has a seccomp listener already, of which the kernel allows one. It traps nothing.
pub const TRAPPED: &str = r#"
import ctypes, os, platform, struct, sys
buffer = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER, NEW_LISTENER = 38, 1, 8
SECCOMP = {"x86_64": 317, "aarch64": 277}[platform.machine()]
libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
listener = libc.syscall(SECCOMP, SET_MODE_FILTER, NEW_LISTENER, program)
assert listener >= 0, ctypes.get_errno()
os.set_inheritable(listener, True)
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Loses CAP_SYS_PTRACE, as a container without it has it. Only root can.
pub const WITHOUT_PTRACE: &str = r#"
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_SYS_PTRACE = 24, 19
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Root that may do nothing more than its files allow, as in a container that drops all capabilities.
pub const WITHOUT_CAPABILITIES: &str = r#"
import ctypes, os, sys
PR_CAPBSET_DROP = 24
libc = ctypes.CDLL(None)
for capability in range(64):
    libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// A network namespace in which the queue of a listener that stops is moved. Only root can.
pub const MIGRATING: &str = r#"
import ctypes, fcntl, os, socket, struct, sys
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1
assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0, ctypes.get_errno()
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
with open("/proc/sys/net/ipv4/tcp_migrate_req", "w") as setting:
    setting.write("1")
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// A memory cgroup of its own beside the test's, where cgroup v1 has the memory controller: a limit of
/// the test's own group is not in the way, and groups left behind are found. Elsewhere, nothing. Its
/// name is in `STANCH_TEST`, as all processes of the place have it.
pub const OWN_MEMORY: &str = r#"
import os, sys
group = "/sys/fs/cgroup/memory/stanch-test-" + os.path.basename(os.environ["STANCH_TEST"])
if os.path.exists("/sys/fs/cgroup/memory/memory.limit_in_bytes"):
    os.makedirs(group, exist_ok=True)
    with open(group + "/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// PID 1 of a container: a PID namespace of its own, a root of which only the place can be written, and a
/// user that no database knows and who has no home. Ends as PID 1 does. Only root can.
pub const CONTAINER: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
def mount(source, target, kind, flags):
    done = libc.mount(source, target.encode(), kind, ctypes.c_ulong(flags), None)
    assert done == 0, (target, ctypes.get_errno())
assert libc.unshare(CLONE_NEWNS | CLONE_NEWPID) == 0, ctypes.get_errno()
child = os.fork()
if child:
    ended = os.WEXITSTATUS if (status := os.waitpid(child, 0)[1]) & 0x7F == 0 else os.WTERMSIG
    sys.exit(ended(status))
place = os.environ["STANCH_TEST"]
mount(None, "/", None, MS_REC | MS_PRIVATE)
mount(place.encode(), place, None, MS_BIND)
mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY)
mount(b"proc", "/proc", b"proc", 0)
for name in ["HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]:
    os.environ.pop(name, None)
os.chdir(place)
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Becomes nobody. Only root can.
pub const UNPRIVILEGED: &str = r#"
import os, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
if not os.access(sys.argv[1], os.X_OK):
    sys.exit("not accessible")
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// The program in such a world; its arguments come behind.
pub fn confined(world: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", world]).arg(program);
    command
}
