//! HTTP clients over `std::net` that tell apart how a request fails.

use super::load::{self, Pace, Plan, Style, Tally};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a request of a [`Load`] may take before it counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests a second of each client of a [`Load`].
const RATE: f64 = 200.0;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: String,
    /// The server ends the connection after it.
    pub last: bool,
}

impl Response {
    /// The number in the body; the test servers answer with their pid.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        assert_eq!(self.status, 200, "{self:?}");
        self.body.trim().parse().unwrap_or_else(|_| panic!("no pid in {self:?}"))
    }
}

/// How a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listened.
    Refused,
    /// The connection ended before the whole answer had come.
    Reset,
    /// No answer in time.
    Timeout,
    /// Anything else, in words.
    Other(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::ConnectionRefused => Fault::Refused,
            K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof => {
                Fault::Reset
            }
            K::WouldBlock | K::TimedOut => Fault::Timeout,
            _ => Fault::Other(error.to_string()),
        }
    }
}

/// One connection to a server, for as many requests as the server allows.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; every later step has the same time-out.
    pub fn open(address: SocketAddr, timeout: Duration) -> Result<Self, Fault> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request without waiting for the answer.
    pub fn send(&mut self, path: &str, style: Style) -> Result<(), Fault> {
        let connection = match style {
            Style::Connect => "close",
            Style::KeepAlive => "keep-alive",
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// Reads an answer. The body has a `Content-Length`, or ends with the connection.
    pub fn receive(&mut self) -> Result<Response, Fault> {
        let status_line = self.line()?;
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok())
            .ok_or_else(|| Fault::Other(format!("not a status line: {status_line:?}")))?;
        let mut length = None;
        let mut last = status_line.starts_with("HTTP/1.0");
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("content-length", value) => length = value.parse::<u64>().ok(),
                ("connection", value) => last |= value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        match length {
            Some(length) => {
                let read = (&mut self.stream).take(length).read_to_end(&mut body)?;
                if (read as u64) < length {
                    return Err(Fault::Reset);
                }
            }
            None => {
                last = true;
                self.stream.read_to_end(&mut body)?;
            }
        }
        Ok(Response { status, body: String::from_utf8_lossy(&body).into_owned(), last })
    }

    /// A request and its answer; the connection stays open where the server agrees.
    pub fn get(&mut self, path: &str) -> Result<Response, Fault> {
        self.send(path, Style::KeepAlive)?;
        self.receive()
    }

    /// Reads up to a line with these words.
    pub fn receive_until(&mut self, words: &str) -> Result<(), Fault> {
        while !self.line()?.contains(words) {}
        Ok(())
    }

    fn line(&mut self) -> Result<String, Fault> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 || !line.ends_with('\n') {
            return Err(Fault::Reset);
        }
        Ok(line.trim_end().to_owned())
    }
}

/// One request on a connection of its own.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<Response, Fault> {
    let mut connection = Connection::open(address, timeout)?;
    connection.send(path, Style::Connect)?;
    connection.receive()
}

/// Clients that ask for `/` until told to stop, so many requests a second that a gap of some
/// milliseconds shows, and so few that the machine is left to the servers.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    generator: Option<JoinHandle<io::Result<()>>>,
}

impl Load {
    /// Begins.
    pub fn start(address: SocketAddr, style: Style, clients: usize) -> Self {
        let plan = Plan {
            address,
            path: "/".into(),
            style,
            clients,
            pace: Pace::Open(RATE * clients as f64),
            timeout: REQUEST_TIMEOUT,
            requests: None,
            duration: None,
        };
        let tally = Arc::new(Mutex::new(Tally::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let generator = {
            let (tally, stop) = (tally.clone(), stop.clone());
            std::thread::spawn(move || load::run(&plan, &stop, &tally))
        };
        Self { tally, stop, generator: Some(generator) }
    }

    /// What became of the requests so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().expect("the generator does not panic").clone()
    }

    /// Waits until so many more requests were answered well.
    #[track_caller]
    pub fn wait_for(&self, more: u64) {
        let goal = self.tally().ok + more;
        super::wait_until(super::PATIENCE, "more requests answered", || {
            (self.tally().ok >= goal).then_some(())
        });
    }

    /// Ends, once the requests under way are answered, and tells what became of all.
    pub fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(generator) = self.generator.take() {
            let result = generator.join().expect("the generator does not panic");
            result.expect("the generator has sockets and epoll");
        }
        self.tally()
    }
}

/// A test that fails must not leave its clients behind in the other tests' process.
impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
