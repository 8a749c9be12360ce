//! `stanch run`.

use super::succession::{self, Leaves, Start};
use super::{Failure, place};
use crate::config::{self, Config, Overrides};
use crate::core::Command;
use crate::core::words::chain;
use crate::http::{self, Closing, Control, SocketError};
use crate::linux::{fdstore, nofile};
use crate::runtime::{
    self, Begin, Departure, Destination, End, Handle, Origin, Output, ReadConfig,
};
use crate::store::{Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Requests of operators that may wait for the engine.
const REQUESTS: usize = 64;

/// How long the end waits for the disk.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the end waits for tasks that are on their way out.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How long a lock may be held by a supervisor that is dead: a process that it was just starting has its
/// descriptors until it executes.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Run workers and supervise them, in the foreground
///
/// The command is started in each slot as it is; under the default mode, takeover, it need not know
/// of stanch. Flags win over the config file.
#[derive(clap::Args)]
pub struct Args {
    /// The config file; without it flags and defaults say everything
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the application [default: from the command]
    #[arg(long)]
    name: Option<String>,
    /// Number of workers
    #[arg(short, long, value_name = "N")]
    workers: Option<u32>,
    /// Address to supervise, such as 0.0.0.0:8000; may be repeated [default: auto, the TCP ports that
    /// the workers bind]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// How workers get their listening sockets: takeover, inherit, port or none
    #[arg(long)]
    mode: Option<String>,
    /// Where workers run
    #[arg(long, value_name = "DIR")]
    directory: Option<String>,
    /// As whom workers run
    #[arg(long)]
    user: Option<String>,
    /// Label of the application's version
    #[arg(long)]
    release: Option<String>,
    /// A worker over it is replaced with overlap, such as 512MiB
    #[arg(long, value_name = "SIZE")]
    soft_limit: Option<String>,
    /// A worker over it is killed at once and replaced
    #[arg(long, value_name = "SIZE")]
    hard_limit: Option<String>,
    /// Over it the worker that has grown most is replaced
    #[arg(long, value_name = "SIZE")]
    total_limit: Option<String>,
    /// Ready when a GET of this path is answered
    #[arg(long, value_name = "PATH")]
    ready_path: Option<String>,
    /// Alive as long as a GET of this path is answered
    #[arg(long, value_name = "PATH")]
    health_path: Option<String>,
    /// The audit log's file
    #[arg(long, value_name = "FILE")]
    store: Option<String>,
    /// The control socket
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,
    /// Begin as after `stanch pause`: what would have been done to workers is written down as
    /// `action_withheld`, and not done; `stanch resume` ends that
    #[arg(long)]
    dry_run: bool,
    /// The command of a worker
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs `stanch run`, until all workers have ended.
pub fn run(args: Args) -> Result<(), Failure> {
    let dry_run = args.dry_run;
    // While there is one thread only.
    let received = succession::received()?;
    let kept = fdstore::received();
    let source = Source::of(args)?;
    let origin = Origin::of_process(source.file.clone());
    let mut config = source.config()?;
    let destination =
        Destination::of(&config, &place::store_path(&config)).map_err(Failure::Usage)?;
    let output = Output::start(&config.log, destination)
        .map_err(|error| Failure::Fault(format!("cannot start the output thread: {error}")))?;
    runtime::trace(output.clone());
    let mut start = match received {
        Some(received) => received.start()?,
        None => {
            if let Err(error) = nofile::raise() {
                tracing::debug!(%error, "the limit of open files stays as it is");
            }
            Start { control: control_socket(&config)?, dry_run, kept, ..Start::default() }
        }
    };
    loop {
        let store = open_store(&config, start.succeeds())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::Fault(format!("cannot start the async runtime: {error}")))?;
        let setting = Setting { config, source: &source, origin: &origin, output: &output, store };
        let ended = runtime.block_on(supervise(setting, start));
        // Tasks take their cgroups along; who still reads from a disk or a pipe that hangs (a
        // configuration, a program) is not waited for.
        runtime.shutdown_timeout(LAST_PATIENCE);
        match ended.inspect_err(|_| output.flush())? {
            (End::Stopped(store), _) => {
                close(store, &output);
                return Ok(());
            }
            (End::Leaving(departure), control) => {
                let Departure { store, estate, luggage, program, connection, config: old } =
                    *departure;
                close(store, &output);
                let leaves = Leaves { estate, luggage, control, connection };
                // Only if nothing takes its place does this one go on.
                start = leaves.execute(&program, &origin.arguments)?;
                config = Config::clone(&old);
            }
        }
    }
}

fn close(store: Store, output: &Output) {
    let lost = store.close(STORE_PATIENCE);
    if lost > 0 {
        tracing::error!(lost, "events could not be written to the audit log before the end");
    }
    output.flush();
}

/// What supervision goes on in.
struct Setting<'a> {
    config: Config,
    source: &'a Source,
    origin: &'a Origin,
    output: &'a Output,
    store: Store,
}

/// The engine is a task of its own: should it fail, this says so and ends with a fault, and the
/// workers serve on. Gives back the control socket if it is to be handed over.
async fn supervise(setting: Setting<'_>, start: Start) -> Result<(End, Option<Control>), Failure> {
    let Setting { config, source, origin, output, store } = setting;
    let (handle, requests) = Handle::new(REQUESTS);
    if start.dry_run {
        // Read before anything can have become due.
        let _ = handle.submit("run --dry-run".to_owned(), Command::Pause).await;
    }
    let (close_faces, closing) = oneshot::channel::<()>();
    let faces = start.control.map(|control| {
        let shutdown = async {
            match closing.await {
                Ok(()) => Closing::HandOver,
                // The engine has ended.
                Err(_) => Closing::ForGood,
            }
        };
        tokio::spawn(http::serve(control, handle.clone(), shutdown))
    });
    // The faces have the last ones: who hands over waits until nobody asks any more.
    drop(handle);
    let begin = Begin {
        config,
        read_config: source.clone().read_again(),
        store,
        output: output.clone(),
        requests,
        close_faces,
        origin: origin.clone(),
        inheritance: start.inheritance,
        early: start.early,
        kept: start.kept,
    };
    let inherited = start.connection.zip(start.answer);
    if let Some((connection, reply)) = inherited {
        tokio::spawn(async move {
            if let Err(error) = http::answer_late(connection, reply).await {
                tracing::debug!(%error, "who asked for the upgrade was not answered");
            }
        });
    }
    let outcome = tokio::spawn(runtime::run(begin)).await;
    let control = match faces {
        Some(faces) => match faces.await {
            Ok(Ok(control)) => control,
            Ok(Err(error)) => {
                tracing::warn!(error = chain(&error), "control API");
                None
            }
            Err(_) => None,
        },
        None => None,
    };
    match outcome {
        Ok(Ok(end)) => Ok((end, control)),
        Ok(Err(error)) => Err(Failure::Fault(chain(&error))),
        Err(error) => Err(Failure::Fault(format!(
            "the engine ended by a fault of stanch; the workers serve on without supervision: {error}"
        ))),
    }
}

/// What says the configuration: read once at the start, and again at each reload.
#[derive(Clone)]
pub(super) struct Source {
    /// Absolute: it is found again whatever becomes of the current directory.
    file: Option<PathBuf>,
    flags: Overrides,
}

impl Source {
    pub fn of(args: Args) -> Result<Self, Failure> {
        let file = args.config.as_deref().map(place::lasting).transpose()?;
        let flags = Overrides {
            command: (!args.command.is_empty()).then_some(args.command),
            name: args.name,
            workers: args.workers,
            listen: (!args.listen.is_empty()).then_some(args.listen),
            mode: args.mode,
            directory: args.directory,
            user: args.user,
            release: args.release,
            soft_limit: args.soft_limit,
            hard_limit: args.hard_limit,
            total_limit: args.total_limit,
            ready_path: args.ready_path,
            health_path: args.health_path,
            store: args.store,
            socket: args.socket,
        };
        Ok(Self { file, flags })
    }

    /// What the file says now, with the flags.
    pub fn config(&self) -> Result<Config, Failure> {
        let text = self.file.as_deref().map(place::read_config).transpose()?;
        let source = self.file.as_deref().unwrap_or(Path::new(""));
        let mut config = config::build(text.as_deref(), source, &self.flags)
            .map_err(|errors| Failure::Usage(errors.report()))?;
        config.store.path = Some(place::store_path(&config));
        place::with_release(config)
    }

    fn read_again(self) -> Option<ReadConfig> {
        self.file.is_some().then(|| {
            let read = move || {
                let fault = |failure: Failure| failure.message().unwrap_or_default().to_owned();
                self.config().map_err(fault)
            };
            Arc::new(read) as ReadConfig
        })
    }
}

/// Supervision goes on without a control socket, unless another stanch has it or the operator named
/// the path.
fn control_socket(config: &Config) -> Result<Option<Control>, Failure> {
    let places = place::sockets();
    let named = config.control.socket.clone();
    let Some(path) = named.clone().or_else(|| places.default_socket(&config.app.name)) else {
        tracing::warn!("no folder for a control socket can be written; there will be none");
        return Ok(None);
    };
    let in_use = |error: &SocketError| matches!(error, SocketError::InUse { .. });
    match patiently(in_use, || http::bind(&path)) {
        Ok(control) => Ok(Some(control)),
        Err(error @ SocketError::InUse { .. }) => Err(Failure::Usage(chain(&error))),
        Err(error) if named.is_some() => Err(Failure::Usage(chain(&error))),
        Err(error) => {
            tracing::warn!(error = chain(&error), "there will be no control socket");
            Ok(None)
        }
    }
}

/// Supervision goes on without a store: events wait in memory until it can be opened. But not beside
/// another supervisor of the same one: two would start two sets of workers. Who `succeeds` a supervisor
/// has the workers already.
fn open_store(config: &Config, succeeds: bool) -> Result<Store, Failure> {
    let path = place::store_path(config);
    let retention = config.store.retention;
    if let Some(folder) = path.parent() {
        // If it cannot be made, opening says so.
        let _ = std::fs::create_dir_all(folder);
    }
    let detached = |error: StoreError| {
        tracing::error!(
            path = %path.display(),
            error = chain(&error),
            "the audit log cannot be opened; supervision goes on, events wait in memory"
        );
        Store::detached(&path, retention, error)
    };
    let locked = |error: &StoreError| matches!(error, StoreError::Locked { .. });
    match patiently(locked, || Store::open(&path, retention)) {
        Err(error) if locked(&error) && !succeeds => Err(Failure::Usage(chain(&error))),
        opened => opened.or_else(detached).map_err(|error| Failure::Fault(chain(&error))),
    }
}

/// Tries again while somebody else has what is wanted.
fn patiently<T, E>(taken: impl Fn(&E) -> bool, attempt: impl Fn() -> Result<T, E>) -> Result<T, E> {
    const PAUSE: Duration = Duration::from_millis(20);
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match attempt() {
            Err(error) if taken(&error) && Instant::now() < until => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}
