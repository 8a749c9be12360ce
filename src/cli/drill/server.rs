//! `stanch __leaky-server`: the shop of the drills, with the bug that they are about.
//!
//! `GET /` lists products and opens a session for a visitor without a cookie. Sessions live in the
//! process and nothing ever ends one: express-session's `MemoryStore`, a module-level `dict`, a cache
//! without a bound. Apart from that it is a well-behaved server, so that a lost request in a drill is
//! stanch's fault: at SIGTERM it stops accepting, answers what it has, and ends.

use crate::cli::Failure;
use crate::cli::stage::end_with;
use crate::core::units::Bytes as Size;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use signal_hook::consts::SIGTERM;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, LocalSet};

/// How long a connection that was just accepted may take over its first request once the server ends.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// The pause after a failed `accept`: when descriptors run out it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PRODUCTS: [(&str, &str); 6] = [
    ("Enamel mug", "11.90"),
    ("Desk lamp", "48.00"),
    ("Notebook, dotted", "7.50"),
    ("Wool blanket", "89.00"),
    ("Pour-over kettle", "64.90"),
    ("Canvas bag", "19.00"),
];

/// The options of `stanch __leaky-server`.
#[derive(clap::Args)]
pub struct Args {
    /// Where it listens
    #[arg(long)]
    pub address: SocketAddr,
    /// What a session holds
    #[arg(long)]
    pub session: Size,
    /// End with the thread that started it, of this process, however that ends
    #[arg(long, value_name = "PID")]
    pub parent: Option<i32>,
}

/// Runs the server until SIGTERM.
pub fn run(args: Args) -> Result<(), Failure> {
    let fault = |error: io::Error| {
        Failure::Fault(format!("the leaking server at {} cannot run: {error}", args.address))
    };
    if let Some(parent) = args.parent {
        end_with(parent, Signal::SIGKILL).map_err(fault)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(fault)?.block_on(LocalSet::new().run_until(serve(&args))).map_err(fault)
}

async fn serve(args: &Args) -> io::Result<()> {
    let mut signals = signal_hook_tokio::Signals::new([SIGTERM])?;
    let listener = TcpListener::bind(args.address).await?;
    let shop = Rc::new(Shop::new(args.session));
    let (ending, _) = watch::channel(());
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            _ = futures_util::StreamExt::next(&mut signals) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    open.spawn_local(converse(stream, Rc::clone(&shop), ending.subscribe()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
    drop(listener);
    // The receivers see the sender go.
    drop(ending);
    while open.join_next().await.is_some() {}
    Ok(())
}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, shop: Rc<Shop>, mut ending: watch::Receiver<()>) {
    let asked = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        asked.notify_one();
        let answer = shop.answer(request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut connection =
        pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ended is the client's to count.
        _ = connection.as_mut() => return,
        _ = ending.changed() => {}
    }
    // hyper closes a connection on which nothing was read yet, though its request may be on the way;
    // a request that is known of is answered first.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = tokio::time::timeout(FIRST_REQUEST, asked.notified()) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The application.
struct Shop {
    page: Bytes,
    session_bytes: usize,
    sessions: std::cell::RefCell<HashMap<u64, Vec<u8>>>,
}

impl Shop {
    fn new(session: Size) -> Self {
        let rows = PRODUCTS.map(|(name, price)| format!("<li>{name} <b>€{price}</b></li>\n"));
        let page = format!(
            "<!doctype html>\n<title>Corner Shop</title>\n<h1>Corner Shop</h1>\n<ul>\n{}</ul>\n",
            rows.concat()
        );
        Self {
            page: page.into(),
            session_bytes: usize::try_from(session.0).unwrap_or(usize::MAX),
            sessions: Default::default(),
        }
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/" => {
                let session = self.open_session();
                let mut response = Response::new(Full::new(self.page.clone()));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
                if let Ok(cookie) = format!("sid={session:016x}; Path=/; HttpOnly").parse() {
                    headers.insert(SET_COOKIE, cookie);
                }
                response
            }
            // Which worker it is, for `stanch doctor`.
            "/worker" => {
                let mark = std::env::var("STANCH_WORKER").unwrap_or_default();
                Response::new(Full::new(mark.into()))
            }
            // Probes are no visitors.
            "/health" => Response::new(Full::new(Bytes::from_static(b"ok\n"))),
            _ => {
                let mut response = Response::new(Full::new(Bytes::from_static(b"not found\n")));
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    /// The bug: nobody ever takes one out again.
    fn open_session(&self) -> u64 {
        let mut sessions = self.sessions.borrow_mut();
        let id = sessions.len() as u64;
        // Not zero: pages that nobody wrote to would take no memory.
        sessions.insert(id, vec![0xA5; self.session_bytes]);
        id
    }
}
