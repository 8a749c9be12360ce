//! An HTTP POST, over TLS where the URL says so.
//!
//! A connection each time: alerts are rare, and what is kept open is kept in memory. The same goes for
//! the root certificates, which are loaded for the one handshake.

use crate::core::words::is_own_host;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// So much of an answer is read, in bytes; only what failed is read at all.
const ANSWER: usize = 4096;
/// An answer's head says what it means; for its body nobody waits longer.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// What is sent.
pub(super) struct Post {
    pub url: Uri,
    /// In place of the URL's own.
    pub path: Option<&'static str>,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// Whether the URL, a header or the body holds a secret.
    pub secret: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    /// The host that a redirect names.
    pub location: Option<String>,
    /// The beginning of the body.
    pub excerpt: String,
}

/// Why nothing came back. No variant holds more of the URL than its host.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("its URL must begin with https:// (or http://) and name a host")]
    Url,
    #[error(
        "a secret would travel to {host} in the clear: use https://, which only the host itself does \
         without"
    )]
    Clear { host: String },
    #[error("a header cannot hold its token")]
    Header,
    #[error("cannot connect to {host}")]
    Connect { host: String, source: io::Error },
    #[error(
        "this host has no root certificates: install ca-certificates, or set SSL_CERT_FILE for stanch"
    )]
    NoRoots,
    #[error("cannot speak TLS")]
    Tls(#[source] rustls::Error),
    #[error("no TLS connection to {host}")]
    Handshake { host: String, source: io::Error },
    #[error("{host} does not speak HTTP as it should")]
    Http { host: String, source: hyper::Error },
}

impl PostError {
    /// Whether another try would end alike.
    pub fn is_final(&self) -> bool {
        matches!(self, PostError::Url | PostError::Clear { .. } | PostError::Header)
    }
}

/// Sends it and waits for the answer; the caller has the clock.
pub(super) async fn post(request: Post) -> Result<Answer, PostError> {
    let host = request.url.host().ok_or(PostError::Url)?.to_owned();
    let tls = match request.url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(PostError::Url),
    };
    if request.secret && !tls && !is_own_host(&host) {
        return Err(PostError::Clear { host });
    }
    let port = request.url.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let message = message(request, &host)?;
    let connect = |source| PostError::Connect { host: host.clone(), source };
    let stream = TcpStream::connect((name.as_str(), port)).await.map_err(connect)?;
    if !tls {
        return exchange(stream, message, host).await;
    }
    let server = ServerName::try_from(name).map_err(|_| PostError::Url)?;
    let connector = TlsConnector::from(Arc::new(tls_config()?));
    let stream = connector
        .connect(server, stream)
        .await
        .map_err(|source| PostError::Handshake { host: host.clone(), source })?;
    drop(connector);
    exchange(stream, message, host).await
}

fn tls_config() -> Result<ClientConfig, PostError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        for error in found.errors {
            tracing::warn!(%error, "root certificates");
        }
        return Err(PostError::NoRoots);
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(PostError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn message(request: Post, host: &str) -> Result<Request<Full<Bytes>>, PostError> {
    let own = request.url.path_and_query().map_or("/", |path| path.as_str());
    let path = request.path.unwrap_or(own);
    let authority = match request.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let mut message = Request::new(Full::new(Bytes::from(request.body)));
    *message.method_mut() = Method::POST;
    *message.uri_mut() = path.parse().map_err(|_| PostError::Url)?;
    let fixed = [
        ("host", authority),
        ("content-type", "application/json".to_owned()),
        ("user-agent", concat!("stanch/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("connection", "close".to_owned()),
    ];
    for (name, value) in fixed.into_iter().chain(request.headers) {
        let value = HeaderValue::from_str(&value).map_err(|_| PostError::Header)?;
        message.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(message)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    message: Request<Full<Bytes>>,
    host: String,
) -> Result<Answer, PostError> {
    let http = |source| PostError::Http { host: host.clone(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    // Ends with this exchange, whose error is its own too.
    let connection = AbortOnDrop(tokio::spawn(connection));
    let answer = sender.send_request(message).await.map_err(http)?;
    let answer = read(answer).await;
    drop(connection);
    Ok(answer)
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The head, and of an answer that is no success the beginning of the body, if it comes soon.
async fn read(answer: Response<Incoming>) -> Answer {
    let (head, body) = answer.into_parts();
    let location = head.headers.get("location").and_then(|value| value.to_str().ok());
    let location = location.and_then(|text| Some(text.parse::<Uri>().ok()?.host()?.to_owned()));
    let mut excerpt = Vec::new();
    if !head.status.is_success() {
        let mut body = Limited::new(body, ANSWER);
        let read = async {
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data() {
                    excerpt.extend_from_slice(&data);
                }
            }
        };
        let _ = timeout(BODY_PATIENCE, read).await;
    }
    Answer {
        status: head.status,
        retry_after: retry_after(&head.headers, Timestamp::now()),
        location,
        excerpt: String::from_utf8_lossy(&excerpt).into_owned(),
    }
}

/// RFC 9110, section 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(at.duration_since(now).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        let asked = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            let headers = [(HeaderName::from_static("retry-after"), value)].into_iter().collect();
            retry_after(&headers, now).map(|pause| pause.as_secs())
        };
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("Sun, 22 Nov 2026 08:01:30 GMT"), Some(90));
        assert_eq!(asked("Sun, 22 Nov 2026 07:00:00 GMT"), Some(0));
        assert_eq!(asked("soon"), None);
    }

    #[tokio::test]
    async fn a_secret_does_not_leave_in_the_clear() {
        let request = |url: &str, secret| Post {
            url: url.parse().unwrap(),
            path: None,
            headers: Vec::new(),
            body: String::new(),
            secret,
        };
        let error = post(request("http://hooks.example/s3cret", true)).await.unwrap_err();
        assert!(matches!(&error, PostError::Clear { host } if host == "hooks.example"), "{error}");
        // Nobody listens on port 1: a refused connection is a try that was made.
        for (url, secret) in [("http://127.0.0.1:1/", true), ("http://[::1]:1/", true)] {
            let error = post(request(url, secret)).await.unwrap_err();
            assert!(matches!(error, PostError::Connect { .. }), "{url}: {error}");
        }
        assert!(matches!(post(request("ftp://x/", false)).await, Err(PostError::Url)));
    }
}
