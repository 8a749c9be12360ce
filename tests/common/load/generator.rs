//! The loop that sends requests and reads answers: edge-triggered epoll on one thread, because the
//! machine is shared with the servers that it measures.

use super::{Failure, Pace, Plan, Style, Tally, response};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::prctl::set_timerslack;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often time-outs and the word to stop are looked at.
const TICK: Duration = Duration::from_millis(50);
const EVENTS_AT_ONCE: usize = 64;

/// Sends the requests of a plan until its end or until told to stop; then waits for the answers
/// that are under way.
pub fn run(plan: &Plan, stop: &AtomicBool, tally: &Mutex<Tally>) -> io::Result<()> {
    // The clock is what an open loop measures by: no 50 µs of leeway for this thread's timers.
    set_timerslack(1)?;
    let connection = match plan.style {
        Style::Connect => "close",
        Style::KeepAlive => "keep-alive",
    };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n",
        plan.path, plan.address
    );
    let mut generator = Generator {
        plan,
        tally,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        request: request.into_bytes(),
        clients: (0..plan.clients).map(|_| Client::default()).collect(),
        idle: (0..plan.clients).collect(),
        begun: 0,
        start: Instant::now(),
    };
    generator.run(stop)
}

struct Generator<'a> {
    plan: &'a Plan,
    tally: &'a Mutex<Tally>,
    epoll: Epoll,
    /// The bytes of each request.
    request: Vec<u8>,
    clients: Vec<Client>,
    /// Clients without a request; the one that has rested longest comes first.
    idle: VecDeque<usize>,
    /// Requests begun so far.
    begun: u64,
    start: Instant,
}

#[derive(Default)]
struct Client {
    connection: Option<Connection>,
    exchange: Option<Exchange>,
    /// What has come of the answer.
    received: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    established: bool,
    /// It has carried an answer before.
    reused: bool,
}

/// A request under way.
struct Exchange {
    /// When it should have begun; latency counts from here.
    due: Instant,
    /// The time-out counts from here.
    begun: Instant,
}

impl Generator<'_> {
    fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let mut ticked = self.start;
        let mut stopped = false;
        loop {
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                stopped = stop.load(Ordering::Relaxed);
                self.expire(ticked);
            }
            let mut next = if stopped { None } else { self.next_due() };
            // Each idle client once: one whose request fails at once must not keep the others from
            // their events.
            for _ in 0..self.idle.len() {
                let Some(due) = next.filter(|due| *due <= Instant::now()) else { break };
                let Some(client) = self.idle.pop_front() else { break };
                self.begin(client, due)?;
                next = self.next_due();
            }
            if next.is_none() && self.idle.len() == self.clients.len() {
                return Ok(());
            }
            let until_next = next
                .filter(|_| !self.idle.is_empty())
                .map_or(TICK, |due| due.saturating_duration_since(Instant::now()).min(TICK));
            let found = self.wait(&mut events, until_next)?;
            for event in &events[..found] {
                let client = usize::try_from(event.data()).expect("it was one");
                self.drive(client, event.events())?;
            }
        }
    }

    /// When the next request is due; none when there are no more.
    fn next_due(&self) -> Option<Instant> {
        if self.plan.requests.is_some_and(|requests| self.begun >= requests) {
            return None;
        }
        let due = match self.plan.pace {
            Pace::Closed => Instant::now(),
            Pace::Open(rate) => self.start + Duration::from_secs_f64(self.begun as f64 / rate),
        };
        let after_end = |duration| due.duration_since(self.start) >= duration;
        (!self.plan.duration.is_some_and(after_end)).then_some(due)
    }

    /// Waits for events. The time-out of epoll itself is in whole milliseconds, too coarse for a
    /// schedule.
    fn wait(&self, events: &mut [EpollEvent], timeout: Duration) -> io::Result<usize> {
        let found = self.epoll.wait(events, EpollTimeout::ZERO)?;
        if found > 0 || timeout.is_zero() {
            return Ok(found);
        }
        let mut poll = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut poll, Some(timeout.into()), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(self.epoll.wait(events, EpollTimeout::ZERO)?),
            Err(error) => Err(error.into()),
        }
    }

    /// A client begins a request.
    fn begin(&mut self, index: usize, due: Instant) -> io::Result<()> {
        self.begun += 1;
        let client = &mut self.clients[index];
        client.exchange = Some(Exchange { due, begun: Instant::now() });
        client.received.clear();
        match client.connection {
            Some(_) => self.send(index),
            None => self.connect(index),
        }
    }

    /// Opens a new connection for a client, in place of the one that it had.
    fn connect(&mut self, index: usize) -> io::Result<()> {
        self.clients[index].connection = None;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let address = SockaddrStorage::from(self.plan.address);
        let family = match self.plan.address.is_ipv4() {
            true => AddressFamily::Inet,
            false => AddressFamily::Inet6,
        };
        let socket = socket(family, SockType::Stream, flags, None)?;
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => {
                self.fail(index, connect_failure(error), &format!("connect: {error}"));
                return Ok(());
            }
        }
        let interest = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll.add(&socket, EpollEvent::new(interest, index as u64))?;
        let stream = TcpStream::from(socket);
        self.clients[index].connection =
            Some(Connection { stream, established: false, reused: false });
        Ok(())
    }

    /// Goes on after an event.
    fn drive(&mut self, index: usize, flags: EpollFlags) -> io::Result<()> {
        let ended =
            flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        let readable = ended || flags.contains(EpollFlags::EPOLLIN);
        let client = &mut self.clients[index];
        let Some(connection) = &mut client.connection else { return Ok(()) };
        if client.exchange.is_none() {
            if readable {
                // The server is done with it: the next request opens another.
                client.connection = None;
            }
            return Ok(());
        }
        if !connection.established {
            if let Some(error) = connection.stream.take_error()? {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
                self.fail(index, connect_failure(errno), &format!("connect: {error}"));
                return Ok(());
            }
            connection.established = true;
            self.send(index)?;
        }
        if readable { self.receive(index, ended) } else { Ok(()) }
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = &mut self.clients[index].connection else { return Ok(()) };
        match connection.stream.write(&self.request) {
            Ok(written) if written == self.request.len() => Ok(()),
            Ok(_) => {
                self.fail(index, Failure::Other, "a request longer than the send buffer");
                Ok(())
            }
            Err(error) => self.broken(index, &format!("send: {error}")),
        }
    }

    /// Reads what is there; with edge-triggered events, to the last byte, or to the end where the
    /// server has `ended` the connection.
    fn receive(&mut self, index: usize, ended: bool) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let client = &mut self.clients[index];
            let Some(connection) = &mut client.connection else { return Ok(()) };
            let read = match connection.stream.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return self.broken(index, &format!("receive: {error}")),
            };
            client.received.extend_from_slice(&buffer[..read]);
            let at_end = read == 0;
            match response::parse(&client.received, at_end) {
                Ok(Some(answer)) => {
                    self.finish(index, &answer, ended);
                    return Ok(());
                }
                Ok(None) if at_end => return self.broken(index, "receive: end of the connection"),
                Ok(None) if read == buffer.len() || ended => {}
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.fail(index, Failure::Other, &error);
                    return Ok(());
                }
            }
        }
    }

    /// A whole answer has come.
    fn finish(&mut self, index: usize, answer: &response::Answer, ended: bool) {
        let client = &mut self.clients[index];
        let excess = client.received.len() - answer.length;
        if excess > 0 {
            let details = format!("{excess} bytes more than the answer has");
            return self.fail(index, Failure::Other, &details);
        }
        if !(200..300).contains(&answer.status) {
            let details = format!("status {}", answer.status);
            return self.fail(index, Failure::Status, &details);
        }
        if self.plan.style == Style::Connect || answer.last || ended {
            client.connection = None;
        }
        if let Some(connection) = &mut client.connection {
            connection.reused = true;
        }
        if let Some(exchange) = client.exchange.take() {
            self.tally.lock().expect("no one panics with it").answered(exchange.due);
        }
        self.idle.push_back(index);
    }

    /// The connection has ended before the whole answer had come.
    fn broken(&mut self, index: usize, details: &str) -> io::Result<()> {
        let client = &self.clients[index];
        let reused = client.connection.as_ref().is_some_and(|connection| connection.reused);
        if !client.received.is_empty() {
            self.fail(index, Failure::Partial, details);
        } else if reused {
            self.tally.lock().expect("no one panics with it").retried += 1;
            return self.connect(index);
        } else {
            self.fail(index, Failure::Reset, details);
        }
        Ok(())
    }

    /// Counts the request of a client as failed, and closes its connection.
    fn fail(&mut self, index: usize, failure: Failure, details: &str) {
        let client = &mut self.clients[index];
        let reused = client.connection.take().is_some_and(|connection| connection.reused);
        if let Some(exchange) = client.exchange.take() {
            let details = format!(
                "after {:?}, {} bytes, reused {reused}: {details}",
                exchange.begun.elapsed(),
                client.received.len(),
            );
            self.tally.lock().expect("no one panics with it").fail(failure, &details);
        }
        self.idle.push_back(index);
    }

    /// Gives up the requests that took too long.
    fn expire(&mut self, now: Instant) {
        for index in 0..self.clients.len() {
            let exchange = self.clients[index].exchange.as_ref();
            if exchange.is_some_and(|it| now.duration_since(it.begun) >= self.plan.timeout) {
                self.fail(index, Failure::Timeout, "no whole answer");
            }
        }
    }
}

fn connect_failure(error: Errno) -> Failure {
    match error {
        Errno::ECONNREFUSED => Failure::Refused,
        Errno::ECONNRESET => Failure::Reset,
        Errno::ETIMEDOUT => Failure::Timeout,
        _ => Failure::Other,
    }
}
