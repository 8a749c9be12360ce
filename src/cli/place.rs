//! Where things are: what a config file says of them, and the defaults.

use super::{Failure, check};
use crate::config::{self, Config};
use crate::core::words::chain;
use crate::http::Places;
use crate::store;
use std::path::{Path, PathBuf};

/// The text of a config file.
pub fn read_config(path: &Path) -> Result<String, Failure> {
    check::read(path).map_err(|error| Failure::Usage(chain(&error)))
}

/// A config file, judged.
pub fn config_of(path: &Path) -> Result<Config, Failure> {
    let text = read_config(path)?;
    config::parse(&text, path).map_err(|errors| Failure::Usage(errors.report()))
}

/// Where the audit log of an application is.
pub fn store_path(config: &Config) -> PathBuf {
    let default = || store::default_path(&config.app.name, |name| std::env::var_os(name));
    config.store.path.clone().unwrap_or_else(default)
}

/// Where control sockets stand on this host, for this user.
pub fn sockets() -> Places {
    Places::of(nix::unistd::geteuid(), std::env::var_os("XDG_RUNTIME_DIR"))
}
