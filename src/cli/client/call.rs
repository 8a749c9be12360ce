//! One request over the control socket.

use crate::cli::Failure;
use crate::http::socket::{Presence, presence};
use crate::wire::{Answer, Status};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use nix::unistd::{Uid, User};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// How long a supervisor may take over `status`; commands take as long as they take.
const STATUS_PATIENCE: Duration = Duration::from_secs(10);
/// How long the socket may stay after a stop was answered.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// How a request to a supervisor can fail.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum CallError {
    #[error("no supervisor is running at {}: there is no such socket", path.display())]
    NoSocket { path: PathBuf },
    #[error("no supervisor is running at {}: nobody listens there, the last one died", path.display())]
    Dead { path: PathBuf },
    #[error("{} is not a socket", path.display())]
    NotASocket { path: PathBuf },
    #[error(
        "may not speak to the supervisor at {}, which belongs to {owner}; run this as that user or \
         as root", path.display()
    )]
    Denied { path: PathBuf, owner: String },
    #[error("cannot connect to the supervisor at {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the supervisor at {} does not answer", path.display())]
    Silent { path: PathBuf },
    #[error(
        "the supervisor at {} went away before it answered; what it did until then is in \
         `stanch incidents events`", path.display()
    )]
    Closed { path: PathBuf },
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Wrong(String),
    #[error("the supervisor at {} is ending: {message}", path.display())]
    Ending { path: PathBuf, message: String },
    #[error("cannot understand the supervisor at {}, which may have another version: {what}", path.display())]
    Garbled { path: PathBuf, what: String },
    #[error("cannot start the client: {0}")]
    Runtime(io::Error),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::NoSocket { .. }
            | CallError::Dead { .. }
            | CallError::NotASocket { .. }
            | CallError::Denied { .. }
            | CallError::Connect { .. }
            | CallError::Silent { .. }
            | CallError::Closed { .. }
            | CallError::Ending { .. } => Failure::Unreachable(text),
            CallError::Refused(_) => Failure::Refused(text),
            CallError::Wrong(_) => Failure::Usage(text),
            CallError::Garbled { .. } | CallError::Runtime(_) => Failure::Fault(text),
        }
    }
}

/// Asks for the state of everything.
pub(in crate::cli) fn status(socket: &Path) -> Result<Status, CallError> {
    let request = request(Method::GET, "/v1/status", Bytes::new());
    let (code, body) = run(async {
        match tokio::time::timeout(STATUS_PATIENCE, exchange(socket, request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Silent { path: socket.into() }),
        }
    })?;
    if code == StatusCode::OK { parse(socket, &body) } else { Err(refusal(socket, code, &body)) }
}

/// Has a command carried out; the text is what was done.
pub(super) fn order(
    socket: &Path,
    route: &str,
    order: &impl Serialize,
) -> Result<String, CallError> {
    let garbled = |what| CallError::Garbled { path: socket.into(), what };
    let body = serde_json::to_vec(order).map_err(|error| garbled(error.to_string()))?;
    let (code, body) = run(exchange(socket, request(Method::POST, route, body.into())))?;
    match code {
        StatusCode::OK | StatusCode::ACCEPTED => Ok(parse::<Answer>(socket, &body)?.message),
        _ => Err(refusal(socket, code, &body)),
    }
}

/// Waits for a supervisor that has stopped to take its socket away, as the last thing that it does;
/// false if the socket lives on. One that was killed leaves a dead socket.
pub(super) fn wait_until_gone(socket: &Path) -> bool {
    let deadline = Instant::now() + END_PATIENCE;
    loop {
        let seen = presence(socket);
        if matches!(seen, Ok(Presence::Missing)) {
            return true;
        }
        if Instant::now() >= deadline {
            return matches!(seen, Ok(Presence::Stale));
        }
        // Nothing notifies of a listener that closes; a few looks are all there is to do.
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn run<T>(work: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CallError::Runtime)?;
    runtime.block_on(work)
}

fn request(method: Method, route: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = route.parse().expect("routes are literals of this crate");
    let host = hyper::header::HeaderValue::from_static("stanch");
    request.headers_mut().insert(hyper::header::HOST, host);
    request
}

async fn exchange(
    socket: &Path,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), CallError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unconnected(socket, error))?;
    let closed = |_| CallError::Closed { path: socket.into() };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(closed)?;
    // Ends with the runtime; its error is the request's as well.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(closed)?;
    let (head, body) = response.into_parts();
    Ok((head.status, body.collect().await.map_err(closed)?.to_bytes()))
}

fn unconnected(socket: &Path, source: io::Error) -> CallError {
    let path = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => CallError::NoSocket { path },
        io::ErrorKind::ConnectionRefused if is_socket(&path) => CallError::Dead { path },
        io::ErrorKind::ConnectionRefused => CallError::NotASocket { path },
        io::ErrorKind::PermissionDenied => CallError::Denied { owner: owner(&path), path },
        // The backlog is full: it has stopped accepting.
        io::ErrorKind::WouldBlock => CallError::Silent { path },
        _ => CallError::Connect { path, source },
    }
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.file_type().is_socket())
}

/// Whose socket this is, in words.
fn owner(path: &Path) -> String {
    let Ok(found) = path.symlink_metadata() else { return "another user".to_owned() };
    let uid = Uid::from_raw(found.uid());
    match User::from_uid(uid) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        _ => format!("uid {uid}"),
    }
}

fn parse<T: DeserializeOwned>(socket: &Path, body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body)
        .map_err(|error| CallError::Garbled { path: socket.into(), what: error.to_string() })
}

fn refusal(socket: &Path, code: StatusCode, body: &[u8]) -> CallError {
    let path = socket.to_owned();
    let message = match parse::<Answer>(socket, body) {
        Ok(answer) => answer.message,
        Err(error) => return error,
    };
    match code {
        StatusCode::CONFLICT => CallError::Refused(message),
        StatusCode::BAD_REQUEST => CallError::Wrong(message),
        StatusCode::FORBIDDEN => CallError::Denied { owner: owner(&path), path },
        StatusCode::SERVICE_UNAVAILABLE => CallError::Ending { path, message },
        _ => CallError::Garbled { path, what: format!("{code}: {message}") },
    }
}
