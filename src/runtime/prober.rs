//! Is the worker ready; does it still answer. A probe reaches one chosen worker through the steering
//! program (see `linux::plane`), whether it is in the traffic or not.

use super::lock::lock;
use super::message::Message;
use super::notices::Notices;
use crate::config::{Config, ListenAddress, ListenMode, ReadyWhen};
use crate::core::{Event, WorkerId};
use crate::linux::plane::{Plane, ProbeTarget};
use crate::linux::sockdiag;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// From one readiness probe to the next: quick, because a replacement waits for it.
const READY_PAUSE: Duration = Duration::from_millis(20);
/// A worker that has not bound an address by then may be none that listens.
const BIND_PATIENCE: Duration = Duration::from_secs(1);
/// How often to ask whether the worker has accepted: first, and at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(1);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(20);

/// Probes one worker.
pub(super) struct Prober {
    pub worker: WorkerId,
    /// What it was started with.
    pub config: Arc<Config>,
    /// What is in force.
    pub news: watch::Receiver<Arc<Config>>,
    pub plane: Arc<Mutex<Plane>>,
    /// A probe found its supervised address.
    pub reached: bool,
    /// Turns true when the worker has a supervised address.
    pub bound: watch::Receiver<bool>,
    /// Tells when the worker says that it is ready.
    pub notices: Notices,
    pub events: mpsc::Sender<Message>,
}

/// A probe on its way to the worker's queue, until it has arrived or is given up.
struct OnItsWay<'a> {
    plane: &'a Mutex<Plane>,
    socket: Arc<OwnedFd>,
}

impl<'a> OnItsWay<'a> {
    fn to(worker: WorkerId, plane: &'a Mutex<Plane>, socket: OwnedFd) -> Self {
        let socket = Arc::new(socket);
        lock(plane).probe_begins(worker, Arc::clone(&socket));
        Self { plane, socket }
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        lock(self.plane).probe_ends(&self.socket);
    }
}

/// Whom to connect to.
enum Target {
    /// One chosen worker.
    Steered(ProbeTarget),
    /// Whoever listens there.
    Address(SocketAddr),
    Unix(PathBuf),
    /// Nobody: the application has no address that stanch knows of.
    Nobody,
    /// It had one, and another has that now.
    Lost,
}

/// What came of a probe that reached the worker.
enum Answer {
    /// It accepted the connection, or there is nobody to ask.
    Accepted,
    /// It answered the request with this status.
    Status(u16),
}

impl Answer {
    /// A status below 400 is a good one.
    fn judge(&self, path: Option<&str>) -> Result<(), String> {
        match self {
            Answer::Status(status) if *status >= 400 => {
                Err(format!("GET {} was answered {status}", path.unwrap_or_default()))
            }
            Answer::Accepted | Answer::Status(_) => Ok(()),
        }
    }
}

impl Prober {
    /// Probes until the worker is ready, then for its liveness, until aborted.
    pub async fn run(mut self) {
        if self.until_ready().await {
            self.watch().await;
        }
    }

    /// Probes a worker that was verified ready for its liveness, until aborted.
    pub async fn watch(mut self) {
        let path = self.config.health.path.clone();
        loop {
            let config = Arc::clone(&self.news.borrow_and_update());
            let due = async {
                match config.settings.health.failures {
                    0 => pending().await,
                    _ => sleep(config.health.interval).await,
                }
            };
            tokio::select! {
                () = due => {
                    let worker = self.worker;
                    let event = match self.target() {
                        Target::Lost => Event::Unreachable { worker },
                        target => {
                            let limit = config.health.timeout;
                            let answer = self.probe(target, path.as_deref(), limit).await;
                            let answered = matches!(answer, Ok(Answer::Status(_)));
                            let outcome = answer.and_then(|answer| answer.judge(path.as_deref()));
                            Event::Probed { worker, outcome, answered }
                        }
                    };
                    self.tell(event).await;
                }
                news = self.news.changed() => if news.is_err() {
                    return;
                },
            }
        }
    }

    /// Whether it became ready.
    async fn until_ready(&mut self) -> bool {
        if self.config.listen.mode == ListenMode::Takeover {
            const ERROR: &str = "it has bound no supervised address";
            const HINT: &str = "for a program that does not listen, set [listen] mode = \"none\"";
            let worker = self.worker;
            let obstacle = |error: String| Event::Obstacle { worker, error };
            self.tell(obstacle(ERROR.to_owned())).await;
            let bound = match timeout(BIND_PATIENCE, self.has_bound()).await {
                Ok(bound) => bound,
                Err(_) => {
                    self.tell(obstacle(format!("{ERROR} ({HINT})"))).await;
                    self.has_bound().await
                }
            };
            if !bound {
                // No process is left that could: the worker's exit tells the rest.
                return false;
            }
        }
        let ready = match self.config.ready.when {
            ReadyWhen::Http => self.until_answering(Some(self.config.ready.path.clone())).await,
            ReadyWhen::Listen => self.until_answering(None).await,
            ReadyWhen::Notify => {
                let error = "it has not said READY=1 to NOTIFY_SOCKET".to_owned();
                self.tell(Event::Obstacle { worker: self.worker, error }).await;
                self.notices.said_ready(self.worker).await
            }
        };
        if ready {
            self.tell(Event::Ready { worker: self.worker }).await;
        }
        ready
    }

    /// Probes until one succeeds.
    async fn until_answering(&mut self, path: Option<String>) -> bool {
        let mut obstacle = match &path {
            Some(path) => format!("it has not answered GET {path}"),
            None => "it listens, and has accepted no connection".to_owned(),
        };
        let (worker, error) = (self.worker, obstacle.clone());
        self.tell(Event::Obstacle { worker, error }).await;
        loop {
            let limit = self.config.settings.ready_timeout;
            let answer = self.probe(self.target(), path.as_deref(), limit).await;
            match answer.and_then(|answer| answer.judge(path.as_deref())) {
                Ok(()) => return true,
                Err(error) if error != obstacle => {
                    obstacle = error.clone();
                    self.tell(Event::Obstacle { worker: self.worker, error }).await;
                }
                Err(_) => {}
            }
            sleep(READY_PAUSE).await;
        }
    }

    /// Waits until the worker has a supervised address; false when none of its processes is left that
    /// could have.
    async fn has_bound(&mut self) -> bool {
        self.bound.wait_for(|bound| *bound).await.is_ok()
    }

    async fn tell(&self, event: Event) {
        let _ = self.events.send(event.into()).await;
    }

    /// One probe: an HTTP GET, or without a path a connection that the worker accepts.
    async fn probe(
        &mut self,
        target: Target,
        path: Option<&str>,
        limit: Duration,
    ) -> Result<Answer, String> {
        self.reached |= matches!(target, Target::Steered(_));
        let probe = async {
            match (target, path) {
                (Target::Nobody, _) => Ok(Answer::Accepted),
                (Target::Lost, _) => Err("it has no supervised address any more".to_owned()),
                (Target::Unix(socket), None) => {
                    connect_unix(&socket).await.map(|_| Answer::Accepted)
                }
                (Target::Unix(socket), Some(path)) => {
                    get(connect_unix(&socket).await?, "localhost", path).await
                }
                (Target::Steered(target), None) => accepted(self.connect(&target).await?).await,
                (Target::Steered(target), Some(path)) => {
                    let host = target.destination.to_string();
                    get(self.connect(&target).await?, &host, path).await
                }
                (Target::Address(address), None) => accepted(connect(address).await?).await,
                (Target::Address(address), Some(path)) => {
                    get(connect(address).await?, &address.to_string(), path).await
                }
            }
        };
        match timeout(limit, probe).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
        }
    }

    /// Connects to the worker. Its queue may be full, so that the packets of the probe are dropped.
    async fn connect(&self, target: &ProbeTarget) -> Result<TcpStream, String> {
        let destination = target.destination;
        let failed = |error: std::io::Error| format!("cannot connect to {destination}: {error}");
        let socket: OwnedFd = target.socket().map_err(|errno| failed(errno.into()))?;
        let watched = socket.try_clone().map_err(failed)?;
        let _on_its_way = OnItsWay::to(self.worker, &self.plane, watched);
        let socket = TcpSocket::from_std_stream(socket.into());
        socket.connect(destination).await.map_err(failed)
    }

    fn target(&self) -> Target {
        let steered = || {
            let plane = lock(&self.plane);
            plane.probe_target(self.worker)
        };
        let configured = self.config.listen.addresses.first();
        match (self.config.listen.mode, configured) {
            (ListenMode::Takeover | ListenMode::Inherit, Some(ListenAddress::Unix(path))) => {
                Target::Unix(path.clone())
            }
            (ListenMode::Takeover | ListenMode::Inherit, _) => match steered() {
                Some(target) => Target::Steered(target),
                None if self.reached => Target::Lost,
                None => Target::Nobody,
            },
            (ListenMode::Port | ListenMode::None, None) => Target::Nobody,
            (_, Some(ListenAddress::Unix(path))) => Target::Unix(path.clone()),
            (ListenMode::Port, Some(ListenAddress::Tcp(_))) => {
                let own = self.config.listen.own_address(self.worker.slot);
                own.map_or(Target::Nobody, |address| Target::Address(reachable(address)))
            }
            // With several workers there is no telling who would answer.
            (ListenMode::None, Some(ListenAddress::Tcp(_))) if self.config.settings.workers > 1 => {
                Target::Nobody
            }
            (ListenMode::None, Some(ListenAddress::Tcp(address))) => {
                Target::Address(reachable(*address))
            }
        }
    }
}

/// Where to connect to reach who listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => {
            let loopback = match ip {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            };
            SocketAddr::new(loopback, address.port())
        }
        _ => address,
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address)
        .await
        .map_err(|error| format!("cannot connect to {address}: {error}"))
}

async fn connect_unix(path: &std::path::Path) -> Result<UnixStream, String> {
    let failed = |error| format!("cannot connect to {}: {error}", path.display());
    UnixStream::connect(path).await.map_err(failed)
}

/// Waits until the server's side of the connection is accepted. The kernel completes the handshake by
/// itself, so a connection alone says nothing about the worker.
async fn accepted(stream: TcpStream) -> Result<Answer, String> {
    let failed = |error: std::io::Error| format!("cannot see whether it accepts: {error}");
    let server = stream.peer_addr().map_err(failed)?;
    let client = stream.local_addr().map_err(failed)?;
    let mut pause = ACCEPT_PAUSE;
    loop {
        if sockdiag::accepted(server, client).map_err(failed)? == Some(true) {
            return Ok(Answer::Accepted);
        }
        sleep(pause).await;
        pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
    }
}

async fn get<S>(stream: S, host: &str, path: &str) -> Result<Answer, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("GET {path} failed: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = hyper::Request::get(path)
        .header("host", host)
        .header("user-agent", concat!("stanch/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("GET {path} is not possible: {error}"))?;
    // The connection is driven here, not in a task, so that it ends with the probe. A small answer to
    // `connection: close` and the end of the connection come in one poll: its end is no failure by
    // itself, and without an answer the request fails.
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended.map_err(failed)?;
            answer.await
        }
    };
    let answer = answer.map_err(failed)?;
    Ok(Answer::Status(answer.status().as_u16()))
}
