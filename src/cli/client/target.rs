//! Which supervisor a command means.

use super::call;
use crate::cli::{Failure, place};
use crate::http::Places;
use crate::http::places::lives;
use std::path::{Path, PathBuf};

/// The options that choose a supervisor.
#[derive(clap::Args, Default)]
pub(super) struct Target {
    /// The config file of the supervisor
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub config: Option<PathBuf>,
    /// The control socket of the supervisor; without it and --config, the only one that runs
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl Target {
    /// The socket of the supervisor that is meant; it is an error if that may be several.
    pub fn one(&self, places: &Places) -> Result<PathBuf, Failure> {
        let mut sockets = self.all(places)?;
        if sockets.len() > 1 {
            let list: Vec<_> =
                sockets.iter().map(|path| format!("\n  --socket {}", path.display())).collect();
            return Err(Failure::Usage(format!(
                "several supervisors are running; say which one is meant:{}",
                list.concat()
            )));
        }
        sockets.pop().ok_or_else(|| none(places))
    }

    /// Whether none in particular is meant.
    pub fn is_any(&self) -> bool {
        self.socket.is_none() && self.config.is_none()
    }

    /// The sockets of all supervisors that may be meant: one at least.
    pub fn all(&self, places: &Places) -> Result<Vec<PathBuf>, Failure> {
        if let Some(path) = &self.socket {
            return Ok(vec![path.clone()]);
        }
        if let Some(file) = &self.config {
            return Ok(vec![socket_of_config(file, places)?]);
        }
        let sockets = places.discover();
        if sockets.is_empty() { Err(none(places)) } else { Ok(sockets) }
    }
}

fn none(places: &Places) -> Failure {
    let folders: Vec<_> =
        places.folders().iter().map(|folder| folder.display().to_string()).collect();
    Failure::Unreachable(format!(
        "no supervisor is running: no live socket in {}; if it has another one, give \
         --config FILE or --socket PATH",
        folders.join(", ")
    ))
}

/// The control socket of the application that a config file describes: `control.socket`, else the
/// live socket named after `app.name`. What runs may have been started before the file came to say that, and
/// keeps its place until it is started again: then it is known by the file.
fn socket_of_config(file: &Path, places: &Places) -> Result<PathBuf, Failure> {
    let config = place::config_of(file)?;
    let named = config.control.socket.or_else(|| places.find(&config.app.name));
    if let Some(live) = named.as_ref().filter(|path| lives(path)) {
        return Ok(live.clone());
    }
    let file = place::lasting(file)?;
    let is_of_file = |socket: &PathBuf| {
        call::status(socket).is_ok_and(|status| status.config.as_ref() == Some(&file))
    };
    places.discover().into_iter().find(is_of_file).or(named).ok_or_else(|| none(places))
}
