//! A receiver of webhooks that does as it is told.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it does about a request.
pub enum Reaction {
    /// Says this, and closes.
    Answer(&'static str),
    /// The same.
    Text(String),
    /// Says this and no more, for ever.
    AnswerAndHang(&'static str),
    /// Says nothing, for ever.
    Hang,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Instant,
    pub path: String,
    pub head: String,
    pub body: Value,
}

impl Received {
    /// A header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// A server on loopback; its threads end with the test.
pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

/// From the path, and how often it was asked for before.
type React = dyn Fn(&str, usize) -> Reaction + Send + Sync;

impl Receiver {
    pub fn start(react: impl Fn(&str, usize) -> Reaction + Send + Sync + 'static) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), react)
    }

    /// At an address that is free.
    pub fn at(
        address: SocketAddr,
        react: impl Fn(&str, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::serve(address, Arc::new(react), |stream, attend| attend(Box::new(stream)))
    }

    /// One that speaks TLS.
    pub fn tls(
        key: &Path,
        certificate: &Path,
        react: impl Fn(&str, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        let config = Arc::new(config);
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        Self::serve(address, Arc::new(react), move |stream, attend| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            attend(Box::new(StreamOwned::new(connection, stream)));
        })
    }

    fn serve(
        address: SocketAddr,
        react: Arc<React>,
        wrap: impl Fn(TcpStream, &dyn Fn(Box<dyn Stream>)) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let received = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&received);
        let wrap = Arc::new(wrap);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (react, received) = (Arc::clone(&react), Arc::clone(&shared));
                let wrap = Arc::clone(&wrap);
                std::thread::spawn(move || {
                    wrap(stream, &|stream| attend(stream, &*react, &received));
                });
            }
        });
        Self { address, received }
    }

    /// All that came, oldest first.
    pub fn all(&self) -> Vec<Received> {
        self.received.lock().expect("no thread panicked").clone()
    }

    /// What came for a path.
    pub fn of(&self, path: &str) -> Vec<Received> {
        self.all().into_iter().filter(|received| received.path == path).collect()
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn attend(mut stream: Box<dyn Stream>, react: &React, received: &Mutex<Vec<Received>>) {
    // A handshake that fails has no request.
    let Some(request) = read(&mut *stream) else { return };
    let reaction = {
        let mut received = received.lock().expect("no thread panicked");
        let nth = received.iter().filter(|other| other.path == request.path).count();
        let reaction = react(&request.path, nth);
        received.push(request);
        reaction
    };
    let say = |stream: &mut dyn Stream, text: &str| {
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    };
    match reaction {
        Reaction::Answer(text) => say(&mut *stream, text),
        Reaction::Text(text) => say(&mut *stream, &text),
        Reaction::AnswerAndHang(text) => {
            say(&mut *stream, text);
            loop {
                std::thread::park();
            }
        }
        Reaction::Hang => loop {
            std::thread::park();
        },
    }
}

fn read(stream: &mut dyn Stream) -> Option<Received> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
            let request = Received {
                at: Instant::now(),
                path: head.split(' ').nth(1)?.to_owned(),
                head,
                body: Value::Null,
            };
            let length: usize = request.header("content-length")?.parse().ok()?;
            if let Some(body) = bytes.get(end + 4..end + 4 + length) {
                return Some(Received { body: serde_json::from_slice(body).ok()?, ..request });
            }
        }
        match stream.read(&mut piece).ok()? {
            0 => return None,
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
