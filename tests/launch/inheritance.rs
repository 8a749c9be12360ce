//! Which descriptors a worker has, and which it has not.

use crate::harness::*;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use stanch::linux::launch::{Plan, Takeover};
use stanch::linux::spawn::{Launcher, Listener, Output, Progress};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

/// Lists the shell's own descriptors, one `number -> target` a line.
fn lister() -> Plan {
    let list = r#"cd /proc/$$/fd; for fd in 0 1 2 3 4 5 6 7 8 9; do
        [ -e $fd ] && echo "$fd -> $(readlink $fd)"; done; ls"#;
    let mut plan = plan("/bin/sh", &["-c", list]);
    plan.environment.set("PATH", "/usr/bin:/bin");
    plan
}

#[tokio::test]
async fn only_stdio_is_open() {
    // One leaks from whoever started the supervisor, at a low and at a high number; the disguise
    // leaks one more.
    let leak = std::fs::File::open("/etc/passwd").unwrap();
    fcntl(&leak, FcntlArg::F_DUPFD(700)).unwrap();
    fcntl(&leak, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let launcher = disguised("os.set_inheritable(program, True); os.set_inheritable(0, True)");
    let output = finish(launcher.spawn(), &lister()).await.unwrap();
    let output = String::from_utf8(output).unwrap();
    assert!(output.starts_with("0 -> /dev/null\n1 -> pipe:"), "{output}");
    let listed: Vec<_> = output.lines().skip(3).collect();
    assert_eq!(listed, ["0", "1", "2"], "{output}");
}

#[tokio::test]
async fn listening_sockets_follow_the_protocol() {
    let reader = r#"
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ["LISTEN_PID"]
assert os.environ["LISTEN_FDS"] == "2", os.environ["LISTEN_FDS"]
names = os.environ["LISTEN_FDNAMES"].split(":")
for fd, name in enumerate(names, 3):
    assert os.get_inheritable(fd)
    peer, _ = socket.socket(fileno=fd).accept()
    peer.sendall(name.encode())
    peer.close()
for fd in range(5, 1000):
    try: os.fstat(fd)
    except OSError: continue
    raise SystemExit(f"{fd} is open")
"#;
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let names = ["web", "[::]:8080"];
    let listeners: Vec<_> = std::iter::zip(names, &sockets)
        .map(|(name, socket)| Listener { name, socket: socket.as_fd() })
        .collect();
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let mut plan = plan("python3", &["-c", reader]);
    plan.environment.set("LISTEN_FDS", "77");
    // They answer from the queue: connected before the worker exists.
    let mut clients = addresses.map(|address| TcpStream::connect(address).unwrap());
    finish_with(spawn(), &plan, &listeners).await.unwrap();
    let answers = clients.each_mut().map(|client| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    assert_eq!(answers, ["web", "[__]_8080"]);
}

#[tokio::test]
async fn pipes_do_not_block_and_do_not_leak() {
    let mut launching = spawn();
    let pipes = launching.take_pipes().unwrap();
    for pipe in [&pipes.stdout, &pipes.stderr] {
        let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_NONBLOCK));
        let flags = FdFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
    assert!(launching.take_pipes().is_none());
    let mut inherited = Launcher::at(STANCH).spawn("title", Output::Inherit, None).unwrap();
    assert!(inherited.take_pipes().is_none());
    for launching in [launching, inherited] {
        let pid = launching.pid();
        drop(launching);
        reap(pid).await;
    }
}

#[tokio::test]
async fn the_filter_is_handed_over_before_the_first_bind() {
    let unprivileged = nix::unistd::geteuid().is_root().then(|| disguised("nobody()"));
    let mut launching = unprivileged.as_ref().map_or_else(spawn, |launcher| launcher.spawn());
    let script = "import os, socket; print(os.listdir('/proc/self/fd'), flush=True)
socket.socket().bind(('127.0.0.1', 0))";
    let mut plan = plan("python3", &["-c", script]);
    plan.takeover = Takeover::NoNewPrivileges;
    launching.proceed(&plan, &[]).unwrap();
    let Progress::Executing { notify: Some(notify) } = launching.next(deadline()).await.unwrap()
    else {
        panic!("no notify descriptor")
    };
    until_running(&mut launching).await.unwrap();
    // Readable means: the worker waits in `bind` for an answer.
    let mut polled = [nix::poll::PollFd::new(notify.as_fd(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut polled, 20_000u16).unwrap(), 1);
    assert!(polled[0].any().unwrap());
    // Nobody answers any more: ENOSYS, and Python ends with an exception.
    drop(notify);
    let output = String::from_utf8(read_output(&mut launching).await).unwrap();
    assert_eq!(output, "['0', '1', '2', '3']\n", "3 is the listing itself");
    let end = reap(launching.pid()).await;
    assert!(matches!(end, nix::sys::wait::WaitStatus::Exited(_, 1)), "{end:?}");
}
