//! The real servers, and how each is started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A server of `tests/servers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    NodeHttp,
    NodeExpress,
    Gunicorn,
    Uvicorn,
    Go,
    PythonHttp,
}

/// A command line with the variables that it needs.
#[derive(Clone, Debug)]
pub struct App {
    pub command: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
}

impl Server {
    /// All of them.
    pub const ALL: [Server; 6] = [
        Server::NodeHttp,
        Server::NodeExpress,
        Server::Gunicorn,
        Server::Uvicorn,
        Server::Go,
        Server::PythonHttp,
    ];

    /// How it is started on an address.
    pub fn app(self, address: SocketAddr) -> App {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let file = |name: &str| path_text(&servers().join(name));
        let own = |program: &str, script: &str| App::new([program, &file(script), &host, &port]);
        match self {
            Server::NodeHttp => own("node", "node-http/server.js"),
            Server::NodeExpress => {
                let mut app = own("node", "node-express/server.js");
                app.environment.push(("NODE_PATH", installed("node-express/node_modules")));
                app
            }
            // Threads, because its plain worker knows no keep-alive.
            Server::Gunicorn => App::new([
                &installed("venv/bin/gunicorn"),
                "--chdir",
                &file("gunicorn"),
                "--bind",
                &address.to_string(),
                "--worker-class",
                "gthread",
                "--threads",
                "8",
                // Its path is the same for all gunicorns of a user.
                "--no-control-socket",
                "app:application",
            ]),
            Server::Uvicorn => App::new([
                &installed("venv/bin/uvicorn"),
                "--app-dir",
                &file("uvicorn"),
                "--host",
                &host,
                "--port",
                &port,
                "--no-access-log",
                "app:app",
            ]),
            Server::Go => App::new([&installed("go-server"), &host, &port]),
            Server::PythonHttp => own("python3", "python-http/server.py"),
        }
    }
}

/// The server that misbehaves in one way; see `tests/servers/faulty/worker.py`.
pub fn faulty(fault: &str, address: SocketAddr) -> App {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let script = path_text(&servers().join("faulty/worker.py"));
    App::new(["python3", &script, fault, &host, &port])
}

impl App {
    /// A command line without variables of its own.
    pub fn new<const N: usize>(command: [&str; N]) -> Self {
        Self { command: command.map(str::to_owned).to_vec(), environment: Vec::new() }
    }

    /// The keys of the `[app]` table, and `[app.environment]` after it.
    pub fn toml(&self, name: &str, workers: u32) -> String {
        // Rust writes these strings as TOML does: nothing in them needs an escape that differs.
        let mut text = format!(
            "[app]\nname = {name:?}\nworkers = {workers}\ncommand = {:?}\n[app.environment]\n",
            self.command
        );
        for (key, value) in &self.environment {
            text += &format!("{key} = {value:?}\n");
        }
        text
    }
}

/// The folder `tests/servers`.
pub fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

/// A path in the cache that `tests/install` fills. A server that is missing fails the test: one that
/// was skipped would look like one that passed.
#[track_caller]
pub fn installed(name: &str) -> String {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("STANCH_TESTS_CACHE").unwrap_or_else(|| {
        let caches = variable("XDG_CACHE_HOME")
            .or_else(|| Some(variable("HOME")?.join(".cache")))
            .expect("HOME is set");
        caches.join("stanch-tests")
    });
    let path = cache.join(name);
    assert!(path.exists(), "{} is missing: run tests/install first", path.display());
    path_text(&path)
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("the path is UTF-8").to_owned()
}
