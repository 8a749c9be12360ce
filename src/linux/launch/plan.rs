//! What a worker shall be, decided by the supervisor before its launcher goes on.

use crate::core::WorkerId;
use crate::linux::procfs::Procfs;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fmt;

/// Everything a launcher needs to become the worker. Words and paths are bytes as the kernel takes
/// them: they need not be UTF-8.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Who it will be, or whom it is for; the launcher adds it to the environment as `STANCH_WORKER`
    /// (`SLOT.GENERATION`), `STANCH_SLOT` and `STANCH_GENERATION`.
    pub worker: WorkerId,
    /// By which the processes of its tree are known, see [`mark`](crate::linux::mark); in the
    /// environment as well.
    pub mark: String,
    /// The command: a path when it holds a slash (relative to `directory`), else a name that is
    /// searched in the `PATH` of `environment`. Also the worker's `argv[0]`.
    pub program: OsString,
    /// The command's arguments, from `argv[1]` on.
    pub arguments: Vec<OsString>,
    /// The whole environment but for what the launcher adds: the worker's marks and `LISTEN_*`.
    pub environment: Environment,
    /// Working directory; entered as the worker's user. The supervisor's own when absent.
    pub directory: Option<OsString>,
    /// The user to become; the supervisor's own when absent.
    pub credentials: Option<Credentials>,
    /// File mode bits that new files do not get, such as 0o022; inherited when absent.
    pub umask: Option<u32>,
    /// Niceness, -20 to 19; inherited when absent.
    pub nice: Option<i32>,
    /// Resource limits; others are inherited.
    pub limits: Vec<Limit>,
    /// Whether `bind`, `listen` and `shutdown` of the worker are trapped.
    pub takeover: Takeover,
}

impl Plan {
    /// The plainest plan: this command with no arguments and an empty environment.
    pub fn new(worker: WorkerId, program: impl Into<OsString>) -> Self {
        Self {
            worker,
            mark: worker.to_string(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Environment::default(),
            directory: None,
            credentials: None,
            umask: None,
            nice: None,
            limits: Vec::new(),
            takeover: Takeover::Off,
        }
    }
}

/// Whether the takeover filter is installed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Takeover {
    /// No filter.
    Off,
    /// With the supervisor's CAP_SYS_ADMIN; sudo and file capabilities go on working in the worker.
    Privileged,
    /// With `PR_SET_NO_NEW_PRIVS`, which anybody may do.
    NoNewPrivileges,
}

impl Takeover {
    /// The better way that this process may go: without `no_new_privs` where it has CAP_SYS_ADMIN,
    /// bit 21 of `CapEff` (capabilities(7)).
    pub fn strongest(procfs: &Procfs) -> Self {
        const CAP_SYS_ADMIN: u32 = 21;
        let capabilities = procfs.mask("self", "CapEff");
        match capabilities.is_some_and(|all| all & (1 << CAP_SYS_ADMIN) != 0) {
            true => Takeover::Privileged,
            false => Takeover::NoNewPrivileges,
        }
    }
}

/// One resource limit (rlimit), in the unit of that resource as `setrlimit(2)` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// `as`, `core`, `cpu`, `data`, `fsize`, `locks`, `memlock`, `msgqueue`, `nice`, `nofile`,
    /// `nproc`, `rss`, `rtprio`, `rttime`, `sigpending` or `stack`.
    pub name: String,
    /// What is enforced; absent is unlimited.
    pub soft: Option<u64>,
    /// How far the worker may raise it itself; absent is unlimited.
    pub hard: Option<u64>,
}

/// User and groups as the kernel knows them, see [`Account::resolve`](super::user::Account::resolve).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
}

/// Environment variables. `Debug` shows their names only: values are often secrets.
///
/// Built in layers, a later one wins: [`Environment::inherited`], then
/// [`set_account`](Environment::set_account), then what the configuration says.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment(Vec<(OsString, OsString)>);

/// What a service manager told the supervisor about the supervisor: not true of a worker.
const SUPERVISORS_OWN: &[&str] = &["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

impl Environment {
    /// The supervisor's own environment, without what is meant for the supervisor itself
    /// (`NOTIFY_SOCKET`, `WATCHDOG_*`; the launcher takes care of `LISTEN_*`).
    pub fn inherited() -> Self {
        let own = |name: &OsStr| SUPERVISORS_OWN.iter().any(|own| name == *own);
        Self(std::env::vars_os().filter(|(name, _)| !own(name)).collect())
    }

    /// Sets a variable, in place of what it was.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        self.remove(&name);
        self.0.push((name, value));
    }

    /// Takes a variable out.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) {
        self.0.retain(|(other, _)| other != name.as_ref());
    }

    /// The value of a variable.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.iter().find(|(other, _)| other == name.as_ref()).map(|(_, value)| value.as_os_str())
    }

    /// All variables, no name twice.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Sets `USER`, `LOGNAME` and `HOME`; what the user database does not know is taken out, so
    /// that a worker never believes to be at home at the supervisor's.
    pub fn set_account(&mut self, account: &super::user::Account) {
        for name in ["USER", "LOGNAME", "HOME"] {
            self.remove(name);
        }
        if let Some(login) = &account.login {
            self.set("USER", &login.name);
            self.set("LOGNAME", &login.name);
            self.set("HOME", &login.home);
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_keeps_secrets() {
        let mut plan = Plan::new(WorkerId::new(0, 1), "true");
        plan.environment.set("API_TOKEN", "hunter2");
        let text = format!("{plan:?}");
        assert!(text.contains("API_TOKEN") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_later_layer_wins() {
        let mut environment = Environment::default();
        environment.set("HOME", "/root");
        environment.set("HOME", "/srv");
        assert_eq!(environment.get("HOME"), Some(OsStr::new("/srv")));
        assert_eq!(environment.iter().count(), 1);
    }
}
