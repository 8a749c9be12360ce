//! Sockets that a worker inherits; the workers are listeners in this process.

use crate::stage::{PATIENCE, free_port, heard, through};
use crate::{id, local};
use stanch::core::{Weight, WorkerId};
use stanch::linux::fdstore::Kept;
use stanch::linux::plane::{Address, Listening, Plane, PlaneError};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

fn inode(socket: impl AsFd) -> u64 {
    nix::sys::stat::fstat(socket).unwrap().st_ino
}

fn plane(listen: &[SocketAddr]) -> Plane {
    Plane::new(listen.iter().copied().map(Address::Inet).collect(), None)
}

fn inherit(plane: &mut Plane, worker: WorkerId) -> TcpListener {
    let mut fds = plane.inherit_fds(worker).unwrap();
    let listener = TcpListener::from(fds.remove(0).1);
    listener.set_nonblocking(true).unwrap();
    listener
}

/// How many connections wait at each listener; they are closed.
fn accepted<const N: usize>(listeners: [&TcpListener; N]) -> [usize; N] {
    listeners.map(|listener| std::iter::from_fn(|| listener.accept().ok()).count())
}

fn connect(address: SocketAddr, times: usize) -> Vec<TcpStream> {
    (0..times).map(|_| TcpStream::connect(address).unwrap()).collect()
}

#[test]
fn connections_spread_over_the_admitted() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    let [a, b, c] = [1, 2, 3].map(|generation| inherit(&mut plane, id(generation)));
    plane.admit(id(1), Weight::FULL).unwrap();
    plane.admit(id(3), Weight::FULL).unwrap();
    let _clients = connect(address, 400);
    let [a, b, c] = accepted([&a, &b, &c]);
    assert_eq!((a + c, b), (400, 0));
    assert!(a > 100 && c > 100, "by chance, fairly: {a} and {c}");
}

#[test]
fn none_of_two_thousand_reaches_the_diverted() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    let [a, b] = [1, 2].map(|generation| inherit(&mut plane, id(generation)));
    plane.admit(id(1), Weight::FULL).unwrap();
    plane.admit(id(2), Weight::FULL).unwrap();
    plane.divert(id(1)).unwrap();
    let mut reached = [0, 0];
    for _ in 0..20 {
        let _clients = connect(address, 100);
        let now = accepted([&a, &b]);
        reached = [reached[0] + now[0], reached[1] + now[1]];
    }
    assert_eq!(reached, [0, 2000]);
}

#[test]
fn waiting_counts_what_was_not_accepted() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    let listener = inherit(&mut plane, id(1));
    assert_eq!(plane.waiting(id(1)).unwrap(), 0);
    let _clients = connect(address, 7);
    assert_eq!(plane.waiting(id(1)).unwrap(), 7);
    listener.accept().unwrap();
    assert_eq!(plane.waiting(id(1)).unwrap(), 6);
    assert_eq!(plane.waiting(id(2)).unwrap(), 0, "another worker's");
}

#[test]
fn a_free_socket_is_kept_for_the_next_worker_and_blocks_again() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    let first = inode(inherit(&mut plane, id(1)));
    let second = inode(inherit(&mut plane, id(2)));
    assert_ne!(first, second);
    plane.release(id(1)).unwrap();
    let kept = TcpListener::from(plane.inherit_fds(id(3)).unwrap().remove(0).1);
    assert_eq!(inode(&kept), first);
    let flags = nix::fcntl::fcntl(&kept, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & nix::libc::O_NONBLOCK, 0, "a server that inherits expects it so");
}

#[test]
fn each_address_has_a_name_and_a_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let [one, two] = [free_port(), free_port()];
    let both_families: SocketAddr = format!("[::]:{one}").parse().unwrap();
    let v4: SocketAddr = format!("0.0.0.0:{one}").parse().unwrap();
    let listen = [
        Address::Inet(both_families),
        Address::Inet(v4),
        Address::Inet(local(two)),
        Address::Unix(path.clone()),
    ];
    let mut plane = Plane::new(listen.to_vec(), Some(16));
    let fds = plane.inherit_fds(id(1)).unwrap();
    let names: Vec<&str> = fds.iter().map(|(name, _)| name.as_str()).collect();
    let tcp = format!("tcp-{one}");
    assert_eq!(names, [&tcp, &tcp, &format!("tcp-{two}"), "unix-app.sock"]);
    assert_eq!(plane.listeners(), listen);
    let v6only = nix::sys::socket::getsockopt(&fds[0].1, nix::sys::socket::sockopt::Ipv6V6Only);
    assert_eq!(v6only, Ok(true), "IPv4 has a socket of its own");

    let again = plane.inherit_fds(id(2)).unwrap();
    let inodes = |fds: &[(String, std::os::fd::OwnedFd)]| -> Vec<u64> {
        fds.iter().map(|(_, fd)| inode(fd)).collect()
    };
    let (first, second) = (inodes(&fds), inodes(&again));
    assert!(first[..3].iter().zip(&second[..3]).all(|(one, two)| one != two));
    assert_eq!(first[3], second[3], "workers share a path");
    let unix = UnixListener::from(fds.into_iter().next_back().unwrap().1);
    UnixStream::connect(&path).unwrap();
    unix.accept().unwrap();

    plane.close().unwrap();
    assert!(!path.exists());
}

#[test]
fn an_address_in_use_is_an_error_with_its_owner() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plane = plane(&[stranger.local_addr().unwrap()]);
    let error = plane.inherit_fds(id(1)).unwrap_err();
    assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
    assert!(matches!(error, PlaneError::Listen { .. }));
}

#[test]
fn a_member_that_nobody_holds_gets_nothing_while_another_is_admitted() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    let [a, b] = [1, 2].map(|generation| inherit(&mut plane, id(generation)));
    plane.admit(id(1), Weight::FULL).unwrap();
    plane.admit(id(2), Weight::FULL).unwrap();
    plane.release(id(1)).unwrap();
    let _clients = connect(address, 100);
    assert_eq!(accepted([&a, &b]), [0, 100]);
}

/// What a service manager would have of it.
fn kept(plane: &Plane) -> Vec<Kept> {
    let again = |(name, fd): (String, BorrowedFd<'_>)| Kept {
        name,
        fd: fd.try_clone_to_owned().expect("a descriptor is free"),
    };
    plane.worth_keeping().into_iter().map(again).collect()
}

#[test]
fn what_was_kept_has_its_queue_and_its_place() {
    let address = local(free_port());
    let mut dying = plane(&[address]);
    let [a, b] = [1, 2].map(|generation| inherit(&mut dying, id(generation)));
    dying.admit(id(2), Weight::FULL).unwrap();
    let _clients = connect(address, 5);
    let (mut kept, second) = (kept(&dying), inode(&b));
    drop((dying, a, b));
    // As of a unit of the type socket.
    let stranger = TcpListener::bind(local(free_port())).unwrap();
    kept.push(Kept { name: "app.socket".into(), fd: stranger.into() });

    let mut next = plane(&[address]);
    next.take_kept(kept);
    assert_eq!(next.worth_keeping().len(), 2);
    assert_eq!(next.settle_adopted(Some(&Listening::now().unwrap())), []);
    let queue = next.queue(&Address::Inet(address)).unwrap();
    assert_eq!((queue.queued, queue.dropped), (5, 0), "own probes turn nobody away");
    let first = inherit(&mut next, id(3));
    assert_eq!((inode(&first), accepted([&first])), (second, [5]), "the longest queue first");
    let other = inherit(&mut next, id(4));
    next.admit(id(4), Weight::FULL).unwrap();
    let _clients = connect(address, 20);
    assert_eq!(accepted([&first, &other]), [0, 20]);
}

#[test]
fn one_that_is_given_up_ends_though_somebody_has_a_descriptor_of_it() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    drop(inherit(&mut plane, id(1)));
    plane.release(id(1)).unwrap();
    let _kept = kept(&plane);
    drop(connect(address, 1));
    plane.close().unwrap();
    let refused = TcpStream::connect(address).expect_err("nobody would ever accept it");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn those_that_start_stand_in_while_nobody_is_admitted() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    let [a, b, c] = [1, 2, 3].map(|generation| inherit(&mut plane, id(generation)));
    plane.admit(id(1), Weight::FULL).unwrap();
    plane.divert(id(1)).unwrap();
    plane.release(id(2)).unwrap();
    let _clients = connect(address, 100);
    assert_eq!(accepted([&a, &b, &c]), [0, 0, 100], "not the diverted, not the free one");
}

#[test]
fn steering_changes_under_load_lose_nothing() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    let listeners = [1, 2, 3].map(|generation| inherit(&mut plane, id(generation)));
    for generation in [1, 2, 3] {
        plane.admit(id(generation), Weight::FULL).unwrap();
    }
    std::thread::scope(|scope| {
        let client = scope.spawn(|| -> io::Result<()> {
            for _ in 0..3000 {
                assert_eq!(heard(TcpStream::connect(address)?)?, "");
            }
            Ok(())
        });
        let (start, mut turn) = (Instant::now(), 0);
        while !client.is_finished() {
            assert!(start.elapsed() < PATIENCE);
            plane.divert(id(1 + turn % 3)).unwrap();
            accepted(listeners.each_ref());
            plane.admit(id(1 + turn % 3), Weight::FULL).unwrap();
            turn += 1;
        }
        client.join().unwrap().expect("no connection fails");
    });
}

#[test]
fn a_probe_is_not_led_astray_by_a_group_of_many() {
    let address = local(free_port());
    let mut plane = plane(&[address]);
    let listeners: Vec<_> = (0..300).map(|worker| inherit(&mut plane, id(worker))).collect();
    for worker in 0..300 {
        plane.admit(id(worker), Weight::FULL).unwrap();
    }
    for chosen in [0, 1, 255, 256, 299] {
        let _client = through(plane.probe_target(id(chosen)).unwrap()).unwrap();
        assert_eq!(accepted([&listeners[chosen as usize]]), [1], "member {chosen}");
    }
}
