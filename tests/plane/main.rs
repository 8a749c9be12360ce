//! The traffic plane with real processes: servers of many habits, started under the real filter,
//! handed over again and again. Python and node are wanted; what is not installed is skipped.

mod confined;
mod inherit;
#[allow(dead_code)]
#[path = "../common/port.rs"]
mod port;
mod stage;
#[allow(dead_code)]
#[path = "../common/world.rs"]
mod world;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{SockaddrStorage, connect};
use stage::{PATIENCE, Stage, ask, free_port, heard, through};
use stanch::core::{Weight, WorkerId};
use stanch::linux::plane::{Address, Plane, PlaneEvent, Queue};
use stanch::linux::sockdiag;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plane/servers.py");

fn id(generation: u64) -> WorkerId {
    WorkerId::new(0, generation)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A server of `servers.py`.
fn python(kind: &str, host: &str, port: u16) -> Vec<String> {
    let port = port.to_string();
    ["python3", "-IS", SERVERS, kind, host, &port].map(String::from).to_vec()
}

/// A stage on which the first worker serves; where, and by which command.
fn serving() -> (Stage, SocketAddr, Vec<String>) {
    let port = free_port();
    let address = local(port);
    let mut stage = Stage::new(&[&address.to_string()]);
    let command = python("plain", "127.0.0.1", port);
    stage.start_listening(id(1), &words(&command));
    stage.plane.admit(id(1), Weight::FULL).unwrap();
    (stage, address, command)
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

/// Hands over twice: from the first worker, whose socket is adopted, to a second beside it, then to a
/// third that gets the first one's socket.
fn hands_over(command: &[String], host: &str, port: u16) {
    let command = &words(command);
    let mut stage = Stage::new(&[&SocketAddr::new(host.parse().unwrap(), port).to_string()]);
    let address = local(port);
    stage.start_listening(id(1), command);
    stage.plane.admit(id(1), Weight::FULL).unwrap();
    stage.ask_until(address, "0.1");
    stage.start_listening(id(2), command);
    stage.plane.admit(id(2), Weight::FULL).unwrap();
    stage.plane.divert(id(1)).unwrap();
    for _ in 0..5 {
        stage.ask_until(address, "0.2");
        assert_eq!(ask(address).unwrap(), "0.2", "steered past the diverted one");
    }
    stage.kill(id(1));
    stage.start_listening(id(3), command);
    stage.plane.admit(id(3), Weight::FULL).unwrap();
    stage.plane.divert(id(2)).unwrap();
    stage.ask_until(address, "0.3");
    stage.kill(id(2));
    for _ in 0..5 {
        assert_eq!(ask(address).unwrap(), "0.3");
    }
}

macro_rules! servers {
    ($($name:ident: $kind:literal on $host:literal,)*) => {
        mod hands_over {
            use super::*;
            $(#[test]
            fn $name() {
                let port = free_port();
                super::hands_over(&python($kind, $host, port), $host, port);
            })*
        }
    };
}

servers! {
    plain: "plain" on "127.0.0.1",
    wildcard: "plain" on "0.0.0.0",
    reuse_address: "reuse" on "0.0.0.0",
    blocking: "blocking" on "127.0.0.1",
    nonblocking: "nonblocking" on "127.0.0.1",
    epoll_before_bind: "epoll_first" on "127.0.0.1",
    asyncio: "asynchronous" on "127.0.0.1",
    http_server: "http" on "0.0.0.0",
    dual_stack: "dual" on "::",
    multipath_tcp: "multipath" on "127.0.0.1",
    prefork: "prefork" on "127.0.0.1",
    asks_twice: "twice" on "127.0.0.1",
    tries_the_port_first: "rebind" on "127.0.0.1",
}

/// One socket for each family, as asyncio makes them when it is given no host.
fn hands_over_both_families() {
    let port = free_port();
    let command = python("asynchronous", "", port);
    hands_over(&command, "0.0.0.0", port);
    let mut stage = Stage::new(&[&format!("0.0.0.0:{port}")]);
    for generation in [1, 2] {
        stage.start(id(generation), &words(&command), None);
        stage.until("it listens on both", |stage| {
            let listens = |event: &&PlaneEvent| {
                matches!(event, PlaneEvent::Listening { worker, .. } if *worker == id(generation))
            };
            stage.events.iter().filter(listens).count() == 2
        });
        stage.plane.admit(id(generation), Weight::FULL).unwrap();
    }
    stage.plane.divert(id(1)).unwrap();
    for address in [local(port), (Ipv6Addr::LOCALHOST, port).into()] {
        for _ in 0..20 {
            assert_eq!(ask(address).unwrap(), "0.2", "on {address}");
        }
    }
}

#[test]
fn hands_over_sockets_of_both_families() {
    hands_over_both_families();
}

fn node(arguments: &[&str]) -> Option<Vec<String>> {
    let found = std::process::Command::new("node").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: no node");
    }
    found.then(|| [&["node"], arguments].concat().into_iter().map(String::from).collect())
}

#[test]
fn hands_over_node() {
    let port = free_port();
    let listen = format!("listen({port})");
    let script = "require('net').createServer(c => c.end(process.env.PLANE_ID)).".to_owned();
    if let Some(command) = node(&["-e", &(script + &listen)]) {
        hands_over(&command, "::", port);
    }
}

#[test]
fn hands_over_a_node_cluster() {
    let port = free_port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plane/cluster.js");
    if let Some(command) = node(&[script, &port.to_string()]) {
        hands_over(&command, "::", port);
    }
}

#[test]
fn the_first_socket_is_adopted_and_a_kept_one_serves_again() {
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    let command = python("sockets", "127.0.0.1", port);
    let read = |text: String| -> Vec<String> { text.split(' ').map(String::from).collect() };
    stage.start_listening(id(1), &words(&command));
    let first = read(stage.probe(id(1)));
    assert_eq!(first[0], first[1], "its own socket");
    stage.start_listening(id(2), &words(&command));
    let second = read(stage.probe(id(2)));
    assert_eq!(second[0], second[1], "its own again: the first is in use");
    assert_ne!(first[1], second[1], "two live workers share no socket");
    assert_eq!((first[2].as_str(), second[2].as_str()), ("1", "0"), "SO_KEEPALIVE as each set it");
    stage.kill(id(1));
    stage.start_listening(id(3), &words(&command));
    let third = read(stage.probe(id(3)));
    assert_eq!(third[1], first[1], "the kept one");
    assert_ne!(third[0], third[1]);
    assert_eq!(third[2], "0", "options before bind are not lost with the socket");
    assert_eq!(third[3], "False", "close-on-exec, as its own was");
    assert_eq!(stage.plane.listeners(), [Address::Inet(local(port))]);
}

#[test]
fn fifty_hand_overs_refuse_and_reset_nobody() {
    let (mut stage, address, command) = serving();
    let stop = AtomicBool::new(false);
    let client = || -> io::Result<BTreeMap<String, u32>> {
        let mut answers = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            *answers.entry(ask(address)?).or_default() += 1;
            // Leaves the processors to the workers that start.
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(answers)
    };
    let answers = std::thread::scope(|scope| {
        // Stops the clients also when an assertion fails here.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let clients = [scope.spawn(client), scope.spawn(client)];
        let stopped = Stop(&stop);
        for generation in 2..=51 {
            let (old, new) = (id(generation - 1), id(generation));
            stage.start_listening(new, &words(&command));
            assert_eq!(stage.probe(new), new.to_string());
            stage.plane.admit(new, Weight::FULL).unwrap();
            stage.plane.divert(old).unwrap();
            stage.until("the queue is empty", |stage| {
                sockdiag::syn_recv(address).unwrap() == 0 && stage.plane.waiting(old).unwrap() == 0
            });
            kill(stage.pid(old), Signal::SIGTERM).unwrap();
            assert_eq!(stage.reap(old), Some(0));
            stage.plane.release(old).unwrap();
        }
        drop(stopped);
        clients.map(|client| client.join().unwrap())
    });
    let answers = answers.map(|answers| answers.expect("no connection fails"));
    let heard: BTreeMap<&str, u32> = answers.iter().flatten().map(|(k, v)| (&**k, *v)).collect();
    assert!(heard.len() > 25, "most generations served somebody: {heard:?}");
}

/// Worker 1 does not accept what waits for it; worker 2 does, and is admitted behind it.
struct Stuck {
    stage: Stage,
    address: SocketAddr,
    queued: Vec<TcpStream>,
}

impl Stuck {
    fn new() -> Self {
        let port = free_port();
        let address = local(port);
        let mut stage = Stage::new(&[&address.to_string()]);
        stage.start_listening(id(1), &words(&python("deaf", "127.0.0.1", port)));
        stage.start_listening(id(2), &words(&python("plain", "127.0.0.1", port)));
        stage.plane.admit(id(1), Weight::FULL).unwrap();
        let queued = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        stage.until("all are queued", |stage| stage.plane.waiting(id(1)).unwrap() == 20);
        stage.plane.admit(id(2), Weight::FULL).unwrap();
        Self { stage, address, queued }
    }

    /// A third one comes, and serves all that waited.
    fn start_the_next(&mut self) {
        let command = python("plain", "127.0.0.1", self.address.port());
        self.stage.start_listening(id(3), &words(&command));
        for connection in self.queued.drain(..) {
            assert_eq!(heard(connection).unwrap(), "0.3", "served by the next worker");
        }
    }
}

#[test]
fn the_queue_of_a_killed_worker_survives() {
    let mut stuck = Stuck::new();
    stuck.stage.kill(id(1));
    for _ in 0..50 {
        assert_eq!(ask(stuck.address).unwrap(), "0.2", "steering moved on");
    }
    stuck.start_the_next();
}

#[test]
fn the_queue_of_a_hung_worker_goes_to_its_replacement() {
    let mut stuck = Stuck::new();
    stuck.stage.plane.divert(id(1)).unwrap();
    stuck.stage.plane.abandon(id(1)).unwrap();
    stuck.start_the_next();
    stuck.stage.kill(id(1));
    assert_eq!(ask(stuck.address).unwrap(), "0.2", "its end moved nothing");
}

#[test]
fn who_hung_has_its_queue_again_when_nobody_came() {
    let port = free_port();
    let address = local(port);
    let mut stage = Stage::new(&[&address.to_string()]);
    let command = python("plain", "127.0.0.1", port);
    let command = words(&command);
    stage.start_listening(id(1), &command);
    stage.plane.admit(id(1), Weight::FULL).unwrap();
    stage.plane.abandon(id(1)).unwrap();
    assert!(stage.plane.probe_target(id(1)).is_some(), "nobody has it yet");
    stage.start_listening(id(2), &command);
    assert!(stage.plane.probe_target(id(1)).is_none(), "the next one has it");
    stage.kill(id(2));
    assert!(stage.plane.probe_target(id(1)).is_some(), "and has it no more");
    stage.plane.reclaim(id(1)).unwrap();
    stage.start_listening(id(3), &command);
    stage.kill(id(3));
    for _ in 0..50 {
        assert_eq!(ask(address).unwrap(), "0.1", "it shares with nobody");
    }
}

#[test]
fn connections_wait_while_no_worker_lives() {
    let port = free_port();
    let address = local(port);
    let mut stage = Stage::new(&[&address.to_string()]);
    let command = python("plain", "127.0.0.1", port);
    // Two kept sockets: all that wait must wait on the one that the next worker gets.
    for generation in [1, 2] {
        stage.start_listening(id(generation), &words(&command));
        stage.plane.admit(id(generation), Weight::FULL).unwrap();
    }
    stage.kill(id(1));
    stage.kill(id(2));
    let waiting: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    stage.start_listening(id(3), &words(&command));
    for connection in waiting {
        assert_eq!(heard(connection).unwrap(), "0.3");
    }
}

#[test]
fn what_waits_for_the_only_worker_and_what_comes_after_its_end_is_the_next_ones() {
    let (mut stage, address, command) = serving();
    kill(stage.pid(id(1)), Signal::SIGSTOP).unwrap();
    let mut waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    // As the core has it done at a crash; the rest of the tree is gone a moment later.
    stage.plane.abandon(id(1)).unwrap();
    stage.plane.divert(id(1)).unwrap();
    waiting.extend((0..3).map(|_| TcpStream::connect(address).unwrap()));
    stage.kill(id(1));
    stage.start_listening(id(2), &words(&command));
    for connection in waiting {
        assert_eq!(heard(connection).unwrap(), "0.2");
    }
}

#[test]
fn the_only_worker_is_diverted_too() {
    let (mut stage, address, command) = serving();
    assert_eq!(ask(address).unwrap(), "0.1");
    stage.plane.divert(id(1)).unwrap();
    let waiting = TcpStream::connect(address).unwrap();
    assert_eq!(stage.plane.waiting(id(1)).unwrap(), 0, "not with the diverted one");
    stage.start_listening(id(2), &words(&command));
    assert_eq!(heard(waiting).unwrap(), "0.2");
}

#[test]
fn a_probe_reaches_the_chosen_worker_diverted_or_not() {
    for host in ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::", "::1"] {
        let port = free_port();
        let kind = if host == "::" { "dual" } else { "plain" };
        let command = python(kind, host, port);
        let bound = SocketAddr::new(host.parse().unwrap(), port);
        let mut stage = Stage::new(&[&bound.to_string()]);
        let all = [1, 2, 3, 4].map(id);
        for worker in all {
            assert_eq!(stage.plane.probe_target(worker), None, "has bound nothing yet");
            stage.start_listening(worker, &words(&command));
        }
        stage.plane.admit(id(1), Weight::FULL).unwrap();
        stage.plane.admit(id(2), Weight::FULL).unwrap();
        stage.plane.divert(id(2)).unwrap();
        for _ in 0..20 {
            for worker in all {
                assert_eq!(stage.probe(worker), worker.to_string(), "on {host}");
            }
        }
        let elsewhere = if host == "::" || host == "0.0.0.0" { "127.0.0.1" } else { host };
        let elsewhere = SocketAddr::new(elsewhere.parse().unwrap(), port);
        for _ in 0..20 {
            assert_eq!(ask(elsewhere).unwrap(), "0.1", "on {host}: only a probe does");
        }
    }
}

#[test]
fn a_probe_tells_a_worker_that_accepts_from_one_that_only_listens() {
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    stage.start_listening(id(1), &words(&python("deaf", "127.0.0.1", port)));
    stage.start_listening(id(2), &words(&python("plain", "127.0.0.1", port)));
    let probe = |worker| {
        let stream = through(stage.plane.probe_target(worker).unwrap()).unwrap();
        (stream.peer_addr().unwrap(), stream.local_addr().unwrap(), stream)
    };
    let (server, us, _deaf) = probe(id(1));
    assert_eq!(sockdiag::accepted(server, us).unwrap(), Some(false));
    let (server, us, plain) = probe(id(2));
    heard(plain).unwrap();
    assert_ne!(sockdiag::accepted(server, us).unwrap(), Some(false));
}

#[test]
fn a_worker_of_another_user_is_handed_over() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let nobody = Some(65534);
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    let command = python("plain", "127.0.0.1", port);
    for (generation, uid) in [(1, nobody), (2, None), (3, nobody)] {
        stage.start(id(generation), &words(&command), uid);
        stage.until("it listens", |stage| stage.listens(id(generation)));
        stage.plane.admit(id(generation), Weight::FULL).unwrap();
        assert_eq!(stage.probe(id(generation)), format!("0.{generation}"));
    }
    stage.plane.divert(id(1)).unwrap();
    for _ in 0..200 {
        assert_ne!(ask(local(port)).unwrap(), "0.1", "all in one group, whoever made the socket");
    }
    stage.kill(id(1));
    stage.start(id(4), &words(&command), nobody);
    stage.until("the kept one serves", |stage| stage.listens(id(4)));
    assert_eq!(stage.probe(id(4)), "0.4");
}

#[test]
fn a_port_in_use_is_reported_with_its_owner() {
    let port = free_port();
    let address = local(port);
    // One that would share the port must not be taken for a member either.
    let _stranger = stage::sharing_listener(address);
    let mut stage = Stage::new(&[&address.to_string()]);
    stage.start(id(1), &words(&python("plain", "127.0.0.1", port)), None);
    assert_eq!(stage.reap(id(1)), Some(Errno::EADDRINUSE as i32));
    let [PlaneEvent::BindFailed { worker, address: wanted, errno, owner }] = &stage.events[..]
    else {
        panic!("{:?}", stage.events)
    };
    assert_eq!((*worker, *wanted, *errno), (id(1), address, Errno::EADDRINUSE));
    assert_eq!(owner.as_ref().map(|owner| owner.pid), Some(std::process::id() as i32));
}

#[test]
fn everything_else_passes() {
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    let command = python("others", "127.0.0.1", port);
    stage.start(id(1), &words(&command), None);
    stage.until("it listens", |stage| stage.listens(id(1)));
    let not_here = Errno::EADDRNOTAVAIL as i32;
    let expected = format!("[True, True] [{not_here}, {not_here}]");
    assert_eq!(stage.probe(id(1)), expected, "ports of others, errors of what cannot be bound");
    assert_eq!(stage.plane.listeners(), [Address::Inet(local(port))]);
}

#[test]
fn an_address_that_is_not_configured_is_the_workers_own() {
    let port = free_port();
    let mut stage = Stage::new(&["127.0.0.1:9"]);
    let command = python("plain", "127.0.0.1", port);
    stage.start(id(1), &words(&command), None);
    stage.ask_until(local(port), "0.1");
    stage.start(id(2), &words(&command), None);
    assert_eq!(stage.reap(id(2)), Some(Errno::EADDRINUSE as i32));
    assert_eq!(stage.events, []);
}

#[test]
fn without_a_configured_address_every_port_is_supervised() {
    let mut stage = Stage::new(&[]);
    let ports = [free_port(), free_port()];
    for generation in [1, 2] {
        for (slot, port) in (0..).zip(ports) {
            let worker = WorkerId::new(slot, generation);
            stage.start_listening(worker, &words(&python("plain", "127.0.0.1", port)));
            assert_eq!(stage.probe(worker), worker.to_string());
        }
    }
    assert_eq!(stage.plane.listeners(), ports.map(|port| Address::Inet(local(port))));
    let new: Vec<bool> = stage.events.iter().filter_map(first_of_its_kind).collect();
    assert_eq!(new, [true, true, false, false], "told for each port once");
}

/// Whether a bind was the first of its address.
fn first_of_its_kind(event: &PlaneEvent) -> Option<bool> {
    match event {
        PlaneEvent::Bound { new, .. } => Some(*new),
        _ => None,
    }
}

#[test]
fn an_ignored_port_is_the_workers_own() {
    let [ignored, port] = [free_port(), free_port()];
    let mut stage = Stage::new(&[]);
    stage.plane = Plane::new(Vec::new(), None).ignoring(vec![ignored]);
    let command = python("plain", "127.0.0.1", ignored);
    stage.start(id(1), &words(&command), None);
    stage.ask_until(local(ignored), "0.1");
    stage.start(id(2), &words(&command), None);
    assert_eq!(stage.reap(id(2)), Some(Errno::EADDRINUSE as i32));
    assert_eq!(stage.events, []);
    stage.start_listening(id(3), &words(&python("plain", "127.0.0.1", port)));
    assert_eq!(stage.plane.listeners(), [Address::Inet(local(port))]);
}

#[test]
fn a_queue_is_told_with_its_limit_and_what_found_it_full() {
    let port = free_port();
    let address = Address::Inet(local(port));
    let mut plane = Plane::new(vec![address.clone()], Some(2));
    assert_eq!(plane.queue(&address), None, "nothing is bound");
    let _held = [1, 2].map(|generation| plane.inherit_fds(id(generation)).unwrap());
    plane.admit(id(1), Weight::FULL).unwrap();
    assert_eq!(plane.queue(&address), Some(Queue { queued: 0, limit: 2, dropped: 0 }));
    let patience = Duration::from_millis(100);
    let _clients: Vec<_> =
        (0..5).map(|_| TcpStream::connect_timeout(&local(port), patience)).collect();
    let queue = plane.queue(&address).unwrap();
    assert_eq!((queue.queued, queue.limit), (3, 2), "the kernel lets one more in");
    assert!(queue.dropped > 0, "{queue:?}");

    // A probe is no user, neither on its way nor given up, whoever has the socket by then.
    let users = plane.turned_away();
    let target = plane.probe_target(id(1)).unwrap();
    let destination = SockaddrStorage::from(target.destination);
    let [probe, user] = [(); 2].map(|()| Arc::new(target.socket().unwrap()));
    plane.probe_begins(id(1), Arc::clone(&probe));
    assert_eq!(connect(probe.as_raw_fd(), &destination), Err(Errno::EINPROGRESS));
    assert_eq!(plane.turned_away(), users);
    assert_eq!(connect(user.as_raw_fd(), &destination), Err(Errno::EINPROGRESS));
    let deadline = Instant::now() + PATIENCE;
    while plane.turned_away() == users {
        assert!(Instant::now() < deadline, "such a packet finds no place");
    }
    drop(user);
    let users = plane.turned_away();
    plane.abandon(id(1)).unwrap();
    plane.inherit_fds(id(3)).unwrap();
    plane.probe_ends(&probe);
    assert_eq!(plane.turned_away(), users);
}

#[test]
fn a_listener_survives_shutdown_by_its_worker() {
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    stage.start_listening(id(1), &words(&python("shutting", "127.0.0.1", port)));
    stage.plane.admit(id(1), Weight::FULL).unwrap();
    stage.ask_until(local(port), "0.1");
}

#[test]
fn a_new_release_may_bind_another_family() {
    let port = free_port();
    let mut stage = Stage::new(&[&format!("0.0.0.0:{port}")]);
    for (generation, kind, host) in
        [(1, "plain", "0.0.0.0"), (2, "dual", "::"), (3, "plain", "0.0.0.0")]
    {
        stage.start_listening(id(generation), &words(&python(kind, host, port)));
        stage.plane.admit(id(generation), Weight::FULL).unwrap();
        assert_eq!(stage.probe(id(generation)), format!("0.{generation}"));
        if generation > 1 {
            assert_eq!(stage.probe(id(generation - 1)), format!("0.{}", generation - 1));
            stage.plane.divert(id(generation - 1)).unwrap();
            stage.kill(id(generation - 1));
        }
        for _ in 0..20 {
            assert_eq!(ask(local(port)).unwrap(), format!("0.{generation}"));
        }
    }
}

#[test]
fn close_gives_the_port_free() {
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    stage.start_listening(id(1), &words(&python("plain", "127.0.0.1", port)));
    stage.plane.admit(id(1), Weight::FULL).unwrap();
    stage.plane.close().unwrap();
    stage.plane.divert(id(1)).unwrap();
    assert_eq!(ask(local(port)).unwrap(), "0.1", "the worker still has it");
    stage.plane.let_go(id(1)).unwrap();
    assert_eq!(ask(local(port)).unwrap(), "0.1", "the worker alone has it");
    kill(stage.pid(id(1)), Signal::SIGTERM).unwrap();
    stage.reap(id(1));
    assert_eq!(ask(local(port)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    TcpListener::bind(local(port)).unwrap();
}
