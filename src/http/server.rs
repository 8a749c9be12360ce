//! The control API's server: one small task a connection, so that a client that is slow, silent or
//! gone costs nobody else anything. What it asks of the engine goes through the engine's own bounded
//! queue.
//!
//! The socket's mode keeps others out already; the uid of the peer is checked all the same, because a
//! mode can be widened by hand and a descriptor can be passed on. `SO_PEERCRED` (unix(7)) holds the
//! effective uid that the peer had when it called `connect`, written by the kernel.

use super::socket::Control;
use crate::core::reload::Then;
use crate::core::{Command, Refusal, Reply, Slot};
use crate::runtime::{Ended, Handle};
use crate::wire::{self, Answer};
use axum::Json;
use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

/// Connections served at the same time; the next ones wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 64;
/// The largest body, and the largest head, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// How long a client may take over the head of a request, and again over its body.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the first request of a connection is waited for once the server is to end.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// How long answers may take on their way out once the server is to end.
const GRACE: Duration = Duration::from_secs(3);
/// The longest name of somebody who looks at an incident, in bytes.
const NAME: usize = 200;
/// The pause after a failed `accept`: when descriptors run out it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything that can be asked.
const ROUTES: [&str; 11] = [
    "GET /v1/status",
    "POST /v1/restart",
    "POST /v1/drain",
    "POST /v1/scale",
    "POST /v1/reload",
    "POST /v1/deploy",
    "POST /v1/upgrade",
    "POST /v1/stop",
    "POST /v1/pause",
    "POST /v1/resume",
    "POST /v1/incidents/ack",
];

/// Why the control API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The runtime would not take the socket.
    #[error("cannot serve the control socket {}", path.display())]
    Register {
        /// The control socket.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// What becomes of the socket when the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Its file is removed; who connects is refused.
    ForGood,
    /// Another program serves on it: who connects waits.
    HandOver,
}

/// Serves the control API until `shutdown` ends. Then it takes no new connection, and lets the requests
/// under way get their answers (3 s at most: the engine gives them before it ends, so only a client
/// that does not read takes longer). The socket comes back if it is to be handed over.
pub async fn serve(
    control: Control,
    handle: Handle,
    shutdown: impl Future<Output = Closing>,
) -> Result<Option<Control>, ServeError> {
    let routes = |peer: Peer| routes(Desk { handle: handle.clone(), peer });
    serve_with(control, shutdown, routes).await
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
struct Peer {
    /// In words, for the audit log.
    by: String,
    /// The connection once more, for an answer that another program gives.
    connection: Arc<OwnedFd>,
    /// Has this one let go of it without an answer.
    let_go: Arc<Notify>,
}

/// [`serve`] with the routes of a peer as a parameter.
async fn serve_with(
    control: Control,
    shutdown: impl Future<Output = Closing>,
    routes: impl Fn(Peer) -> Router,
) -> Result<Option<Control>, ServeError> {
    let path = control.path().to_owned();
    let (listener, file) = control.into_parts();
    let listener = UnixListener::from_std(listener)
        .map_err(|source| ServeError::Register { path: path.clone(), source })?;
    let owner = nix::unistd::geteuid().as_raw();
    let (closing, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let closes = loop {
        tokio::select! {
            closes = &mut shutdown => break closes,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    if let Some((router, let_go)) = admit(&stream, owner, &routes) {
                        connections.spawn(converse(stream, router, let_go, closing.subscribe()));
                    }
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "control socket: accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    };
    let kept = match closes {
        Closing::ForGood => {
            drop(listener);
            None
        }
        Closing::HandOver => Some(listener.into_std()),
    };
    closing.send_replace(true);
    let answers = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(GRACE, answers).await.is_err() {
        tracing::warn!(count = connections.len(), "control connections cut at the end");
        connections.shutdown().await;
    }
    let kept = kept.transpose().map_err(|source| ServeError::Register { path, source })?;
    Ok(kept.map(|listener| Control::of_parts(listener, file)))
}

/// A panic in a handler ends its own connection and nothing else.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a control connection ended by a fault of stanch");
    }
}

/// What this peer may ask; `None` when the kernel does not say who it is.
fn admit(
    stream: &UnixStream,
    owner: u32,
    routes: impl Fn(Peer) -> Router,
) -> Option<(Router, Arc<Notify>)> {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "control connection refused: unknown peer");
            return None;
        }
    };
    let uid = peer.uid();
    // A process outside of our pid namespace is shown as 0.
    let by = match peer.pid().filter(|pid| *pid > 0) {
        Some(pid) => format!("uid {uid} (pid {pid})"),
        None => format!("uid {uid}"),
    };
    let let_go = Arc::<Notify>::default();
    if uid == 0 || uid == owner {
        let again = stream.as_fd().try_clone_to_owned();
        let connection = again
            .inspect_err(|error| tracing::warn!(%error, by, "control connection refused"))
            .ok()?;
        let (connection, let_go) = (Arc::new(connection), Arc::clone(&let_go));
        let peer = Peer { by, connection, let_go: Arc::clone(&let_go) };
        return Some((routes(peer), let_go));
    }
    tracing::warn!(by, "control connection refused: neither root nor the supervisor's user");
    let message =
        format!("uid {uid} may not ask this supervisor anything: only uid {owner} and root may");
    let refuse = move || async move { no(StatusCode::FORBIDDEN, message) };
    Some((Router::new().fallback(refuse), let_go))
}

/// Serves one connection to its end; at the closing of the server, to the end of its request.
async fn converse(
    stream: UnixStream,
    router: Router,
    let_go: Arc<Notify>,
    mut closing: watch::Receiver<bool>,
) {
    let (asked, router) = (Arc::<Notify>::default(), TowerToHyperService::new(router));
    let asks = Arc::clone(&asked);
    let service = service_fn(move |request| {
        asks.notify_one();
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_BYTES)
        // Who has said all may close their side, as `nc` does at the end of its input, and still hear.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let conversation = async {
        tokio::select! {
            ended = &mut connection => ended,
            () = closed(&mut closing) => {
                // The first question of who has just connected is on its way: it would be cut off.
                tokio::select! {
                    ended = &mut connection => return ended,
                    () = asked.notified() => {}
                    () = tokio::time::sleep(FIRST_PATIENCE) => {}
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = tokio::select! {
        ended = conversation => ended,
        () = let_go.notified() => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "control connection");
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the server is gone: the same.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// What a handler needs: the engine, and who asks.
#[derive(Clone)]
struct Desk {
    handle: Handle,
    peer: Peer,
}

fn routes(desk: Desk) -> Router {
    let plain = |command: Command| {
        post(move |State(desk): State<Desk>, Sent(order): Sent<wire::Plain>| async move {
            desk.carry_out(command, order.wait).await
        })
    };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/restart", post(restart))
        .route("/v1/drain", post(drain))
        .route("/v1/scale", post(scale))
        .route("/v1/reload", post(reload))
        .route("/v1/deploy", post(deploy))
        .route("/v1/upgrade", post(upgrade))
        .route("/v1/stop", plain(Command::Stop))
        .route("/v1/pause", plain(Command::Pause))
        .route("/v1/resume", plain(Command::Resume))
        .route("/v1/incidents/ack", post(acknowledge))
        .fallback(|| async { lost(StatusCode::NOT_FOUND, "there is no such route") })
        .method_not_allowed_fallback(|| async {
            lost(StatusCode::METHOD_NOT_ALLOWED, "this route has another method")
        })
        .with_state(desk)
}

async fn status(State(desk): State<Desk>) -> Response {
    match desk.handle.status().await {
        Ok(status) => Json(status).into_response(),
        Err(ended) => unanswered(ended),
    }
}

async fn restart(State(desk): State<Desk>, Sent(order): Sent<wire::Restart>) -> Response {
    desk.carry_out(Command::Restart { slot: order.slot.map(Slot) }, order.wait).await
}

async fn drain(State(desk): State<Desk>, Sent(order): Sent<wire::Drain>) -> Response {
    desk.carry_out(Command::Drain { slot: Slot(order.slot) }, order.wait).await
}

async fn scale(State(desk): State<Desk>, Sent(order): Sent<wire::Scale>) -> Response {
    desk.carry_out(Command::Scale { workers: order.workers }, order.wait).await
}

async fn reload(State(desk): State<Desk>, Sent(order): Sent<wire::Reload>) -> Response {
    let then = if order.roll { Then::Roll } else { Then::Keep };
    awaited(desk.handle.reload(desk.peer.by, then).await, true).await
}

async fn deploy(State(desk): State<Desk>, Sent(order): Sent<wire::Plain>) -> Response {
    awaited(desk.handle.reload(desk.peer.by, Then::Deploy).await, order.wait).await
}

/// A refusal is answered here. Else another program takes the place of this one before there is an
/// answer, and gives it on the same connection.
async fn upgrade(State(desk): State<Desk>, Sent(order): Sent<wire::Plain>) -> Response {
    let Peer { by, connection, let_go } = desk.peer;
    let connection = if order.wait { connection.try_clone().ok() } else { None };
    let outcome = match desk.handle.upgrade(by, connection).await {
        Ok(outcome) => outcome,
        Err(ended) => return unanswered(ended),
    };
    if !order.wait {
        return taken_on();
    }
    match outcome.await {
        Ok(reply) => replied(reply),
        Err(_) => {
            let_go.notify_one();
            std::future::pending().await
        }
    }
}

/// Answers the request of a connection that another program has left to this one.
pub async fn answer_late(connection: OwnedFd, reply: oneshot::Receiver<Reply>) -> io::Result<()> {
    let stream = std::os::unix::net::UnixStream::from(connection);
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    // Dropped unanswered: so is the connection.
    let Ok(reply) = reply.await else { return Ok(()) };
    let (head, body) = replied(reply).into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        head.status,
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await
}

async fn acknowledge(State(desk): State<Desk>, Sent(order): Sent<wire::Acknowledge>) -> Response {
    let wire::Acknowledge { incident, by } = order;
    let by = by.map(|by| by.trim().to_owned()).filter(|by| !by.is_empty());
    let presentable = |text: &String| text.len() <= NAME && !text.chars().any(char::is_control);
    if !presentable(&incident) || !by.iter().all(presentable) {
        let message = format!("a name has {NAME} bytes at most, and no control characters");
        return no(StatusCode::BAD_REQUEST, message);
    }
    desk.carry_out(Command::Acknowledge { incident, by }, true).await
}

impl Desk {
    async fn carry_out(self, command: Command, wait: bool) -> Response {
        awaited(self.handle.submit(self.peer.by, command).await, wait).await
    }
}

/// The answer to what the engine was asked for.
async fn awaited(asked: Result<oneshot::Receiver<Reply>, Ended>, wait: bool) -> Response {
    let outcome = match asked {
        Ok(outcome) => outcome,
        Err(ended) => return unanswered(ended),
    };
    if !wait {
        return taken_on();
    }
    match outcome.await {
        Ok(reply) => replied(reply),
        Err(_) => {
            let message = "the supervisor ended before this was done".to_owned();
            no(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }
}

fn taken_on() -> Response {
    let message = "taken on; what becomes of it is in the audit log".to_owned();
    answer(StatusCode::ACCEPTED, true, message)
}

fn replied(reply: Reply) -> Response {
    match reply {
        Ok(message) => answer(StatusCode::OK, true, message),
        Err(Refusal::No(message)) => no(StatusCode::CONFLICT, message),
        Err(Refusal::Wrong(message)) => no(StatusCode::BAD_REQUEST, message),
    }
}

fn unanswered(ended: Ended) -> Response {
    no(StatusCode::SERVICE_UNAVAILABLE, ended.to_string())
}

/// The JSON body of a request, whatever content type it claims (curl's `-d` claims a form); an empty
/// one is `{}`. The error names the field.
struct Sent<T>(T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Sent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let body = Limited::new(request.into_body(), MAX_BYTES).collect();
        let Ok(body) = tokio::time::timeout(PATIENCE, body).await else {
            let message = format!("the body did not arrive within {PATIENCE:?}");
            return Err(no(StatusCode::REQUEST_TIMEOUT, message));
        };
        let body = match body {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let message = format!("the body is larger than {MAX_BYTES} bytes");
                return Err(no(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            Err(error) => return Err(no(StatusCode::BAD_REQUEST, error.to_string())),
        };
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        match Json::from_bytes(text) {
            Ok(Json(sent)) => Ok(Sent(sent)),
            Err(error) => Err(no(StatusCode::BAD_REQUEST, error.body_text())),
        }
    }
}

fn answer(code: StatusCode, ok: bool, message: String) -> Response {
    (code, Json(Answer { ok, message, routes: Vec::new() })).into_response()
}

fn no(code: StatusCode, message: String) -> Response {
    answer(code, false, message)
}

fn lost(code: StatusCode, message: &str) -> Response {
    let routes = ROUTES.map(str::to_owned).to_vec();
    (code, Json(Answer { ok: false, message: message.to_owned(), routes })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(path: &std::path::Path, route: &str) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let request = format!("GET {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_request_only() {
        let folder = tempfile::tempdir().unwrap();
        let control = super::super::bind(&folder.path().join("x.sock")).unwrap();
        let path = control.path().to_owned();
        let router = |_| {
            Router::new()
                .route("/well", get(|| async { "well" }))
                .route("/panic", get(|| async { panic!("on purpose") as &str }))
        };
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let until = async {
            let _ = ended.await;
            Closing::ForGood
        };
        let server = tokio::spawn(serve_with(control, until, router));
        assert_eq!(ask(&path, "/panic").await, "");
        assert!(ask(&path, "/well").await.ends_with("well"));
        drop(end);
        server.await.unwrap().unwrap();
    }
}
