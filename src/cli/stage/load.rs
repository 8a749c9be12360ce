//! Visitors: clients that ask at a fixed rate, and count every request however it ends.
//!
//! Half of them open a connection for each request, as `curl` or a load balancer without keep-alive
//! does. The others keep theirs, as browsers do, and open a new one after some requests, so that the
//! traffic spreads anew over workers that came later.
//!
//! A server may close a kept connection at any moment between two requests, also while the next one
//! is on its way. A client cannot know whether that one was seen, but GET may be sent twice, so it
//! asks again on a new connection (RFC 9110, section 9.2.2; RFC 9112, section 9.3.1). That is counted
//! apart, as `reconnected`: the visitor sees nothing of it. Everything else that is not a whole
//! answer with a status of 2xx or 3xx has failed; on a connection of its own nothing is ever asked twice.

use crate::core::words::chain;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests after which a client opens a new connection by itself: few, so that no worker gets much
/// more of the kept connections than another.
const REQUESTS_A_CONNECTION: u32 = 6;
/// How many failures are kept word for word.
const ERRORS_KEPT: usize = 5;
/// How many of the newest latencies are kept: all of a drill, and no memory for each request of a week.
const LATENCIES_KEPT: usize = 100_000;

/// How hard to ask.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// What is asked for, in turn; at least one.
    pub paths: Vec<Uri>,
    /// Clients with a connection for each request.
    pub fresh_clients: u32,
    /// Clients that keep theirs.
    pub kept_clients: u32,
    /// Requests a second, all clients together.
    pub rate_rps: u32,
}

/// Why a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listened.
    Refused,
    /// The connection ended before the whole answer had come.
    Reset,
    /// No answer in time.
    TimedOut,
    /// Neither 2xx nor 3xx.
    BadStatus(StatusCode),
    /// Something else, on this side.
    Other,
}

/// What came of the requests so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Whole answers with a status of 2xx or 3xx.
    pub ok: u64,
    /// Nobody listened.
    pub refused: u64,
    /// Cut off.
    pub reset: u64,
    /// Not answered in time.
    pub timed_out: u64,
    /// Answered with an error.
    pub bad_status: u64,
    /// Failed on this side.
    pub other: u64,
    /// Kept connections that the server closed and the client opened anew; no request was lost by it.
    pub reconnected: u64,
    /// The first failures in words, each once.
    pub errors: Vec<String>,
    /// Of the newest answers.
    latencies_us: VecDeque<u32>,
}

impl Tally {
    /// Requests that were lost.
    pub fn failed(&self) -> u64 {
        self.refused + self.reset + self.timed_out + self.bad_status + self.other
    }

    /// All requests that ended.
    pub fn requests(&self) -> u64 {
        self.ok + self.failed()
    }

    /// The latency, in ms, that this part (0 to 1) of the newest answers did not exceed; nearest rank.
    pub fn latency_ms(&self, part: f64) -> Option<f64> {
        let mut latencies: Vec<u32> = self.latencies_us.iter().copied().collect();
        let rank = (part * latencies.len() as f64).ceil() as usize;
        let index = rank.max(1).min(latencies.len()).checked_sub(1)?;
        let (_, latency, _) = latencies.select_nth_unstable(index);
        Some(f64::from(*latency) / 1000.0)
    }

    /// The figures of a report.
    pub fn json(&self) -> Value {
        json!({
            "ok": self.ok,
            "failed": self.failed(),
            "refused": self.refused,
            "reset": self.reset,
            "timed_out": self.timed_out,
            "bad_status": self.bad_status,
            "other": self.other,
            "reconnected": self.reconnected,
            "p50_ms": self.latency_ms(0.5),
            "p99_ms": self.latency_ms(0.99),
            "errors": self.errors,
        })
    }

    fn add(&mut self, outcome: Result<Duration, Lost>) {
        let lost = match outcome {
            Ok(latency) => {
                self.ok += 1;
                if self.latencies_us.len() == LATENCIES_KEPT {
                    self.latencies_us.pop_front();
                }
                self.latencies_us.push_back(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
                return;
            }
            Err(lost) => lost,
        };
        *match lost.fault {
            Fault::Refused => &mut self.refused,
            Fault::Reset => &mut self.reset,
            Fault::TimedOut => &mut self.timed_out,
            Fault::BadStatus(_) => &mut self.bad_status,
            Fault::Other => &mut self.other,
        } += 1;
        let error = lost.to_string();
        if self.errors.len() < ERRORS_KEPT && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

/// A request that was lost.
#[derive(Debug)]
struct Lost {
    fault: Fault,
    /// What it happened on: a new or a kept connection, at which step.
    step: &'static str,
    what: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.fault {
            Fault::Refused => "refused",
            Fault::Reset => "reset",
            Fault::TimedOut => "timed out",
            Fault::BadStatus(_) => "bad status",
            Fault::Other => "failed",
        };
        write!(f, "{word} {}: {}", self.step, self.what)
    }
}

impl Lost {
    fn new(step: &'static str, error: &(dyn Error + 'static)) -> Self {
        let (mut kind, mut root) = (None, error);
        while let Some(source) = root.source() {
            root = source;
        }
        if let Some(io) = root.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        let cut = error.downcast_ref::<hyper::Error>().is_some_and(|error| {
            error.is_incomplete_message() || error.is_canceled() || error.is_closed()
        });
        use io::ErrorKind as K;
        let fault = match kind {
            Some(K::ConnectionRefused) => Fault::Refused,
            Some(K::TimedOut) => Fault::TimedOut,
            Some(K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof) => {
                Fault::Reset
            }
            _ if cut => Fault::Reset,
            _ => Fault::Other,
        };
        Self { fault, step, what: chain(error) }
    }
}

/// Running clients.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    /// The clients go on as long as it lives.
    going: watch::Sender<()>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts the clients, on the current runtime.
    pub fn start(plan: Plan) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (going, end) = watch::channel(());
        let mut clients = JoinSet::new();
        let count = plan.fresh_clients + plan.kept_clients;
        let step = Duration::from_secs(1) / plan.rate_rps.max(1);
        let paths: Arc<[Uri]> = plan.paths.into();
        for number in 0..count {
            let client = Client {
                address: plan.address,
                paths: Arc::clone(&paths),
                turn: number as usize,
                keeps: number >= plan.fresh_clients,
                kept: None,
                tally: Arc::clone(&tally),
            };
            // They take turns.
            clients.spawn(client.ask(step * number, step * count, end.clone()));
        }
        Self { tally, going, clients }
    }

    /// The figures so far.
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Lets every client end its request, and gives the last figures.
    pub async fn stop(self) -> Tally {
        let Self { tally, going, mut clients } = self;
        drop(going);
        while clients.join_next().await.is_some() {}
        lock(&tally).clone()
    }
}

/// A client that panicked has counted nothing half.
fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client {
    address: SocketAddr,
    paths: Arc<[Uri]>,
    /// Which of the paths is next.
    turn: usize,
    keeps: bool,
    kept: Option<Kept>,
    tally: Arc<Mutex<Tally>>,
}

struct Kept {
    sender: SendRequest<Empty<Bytes>>,
    requests: u32,
}

impl Client {
    async fn ask(mut self, first: Duration, every: Duration, mut end: watch::Receiver<()>) {
        let mut turns = tokio::time::interval_at(tokio::time::Instant::now() + first, every);
        // What was missed while the server was slow is not asked for in one burst.
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // An answer that took long has left turns overdue.
                biased;
                _ = end.changed() => return,
                _ = turns.tick() => {}
            }
            self.turn = (self.turn + 1) % self.paths.len().max(1);
            let begun = Instant::now();
            let outcome = match tokio::time::timeout(PATIENCE, self.request()).await {
                Ok(outcome) => outcome.map(|()| begun.elapsed()),
                Err(_) => {
                    self.kept = None;
                    let what = format!("no whole answer within {} s", PATIENCE.as_secs());
                    Err(Lost { fault: Fault::TimedOut, step: "waiting", what })
                }
            };
            lock(&self.tally).add(outcome);
        }
    }

    async fn request(&mut self) -> Result<(), Lost> {
        if let Some(mut kept) = self.kept.take() {
            match kept.sender.send_request(self.get()).await {
                Ok(response) => return self.finish("on a kept connection", kept, response).await,
                // No answer began, so the server closed it between two requests.
                Err(_) => lock(&self.tally).reconnected += 1,
            }
        }
        let stream = TcpStream::connect(self.address)
            .await
            .map_err(|error| Lost::new("connecting", &error))?;
        // Without it the kernel may wait for more to send; a failure costs time only.
        let _ = stream.set_nodelay(true);
        let step = "on a new connection";
        let lost = |error: hyper::Error| Lost::new(step, &error);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // Ends with the sender; its error is the request's as well.
        tokio::spawn(connection);
        let response = sender.send_request(self.get()).await.map_err(lost)?;
        self.finish(step, Kept { sender, requests: 0 }, response).await
    }

    /// Reads the answer to its end, and keeps the connection for the next request.
    async fn finish(
        &mut self,
        step: &'static str,
        mut kept: Kept,
        response: hyper::Response<hyper::body::Incoming>,
    ) -> Result<(), Lost> {
        let status = response.status();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| Lost::new(step, &error))?;
        }
        kept.requests += 1;
        if self.keeps && kept.requests < REQUESTS_A_CONNECTION {
            self.kept = Some(kept);
        }
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        Err(Lost { fault: Fault::BadStatus(status), step, what: status.to_string() })
    }

    fn get(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        if let Some(path) = self.paths.get(self.turn) {
            *request.uri_mut() = path.clone();
        }
        if let Ok(host) = HeaderValue::from_str(&self.address.to_string()) {
            request.headers_mut().insert(HOST, host);
        }
        request
    }
}
