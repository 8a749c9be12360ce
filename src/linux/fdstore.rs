//! The descriptors that a service manager keeps for a service, what systemd calls its file descriptor store
//! (<https://systemd.io/FILE_DESCRIPTOR_STORE/>). What is sent there (`FDSTORE=1` in sd_notify(3), here
//! [`Manager::keep`]) outlives the process, and comes to the next one as descriptors 3, 4 …, which
//! `LISTEN_FDS` counts and `LISTEN_FDNAMES` names (sd_listen_fds(3)).
//!
//! What comes is a copy: it stays in the store until it is [removed](Manager::forget) by its name, until
//! the service is stopped, or until it reports an error or hang-up, as a listening socket does that was
//! shut down.
#![allow(unsafe_code)]

use super::handover::claim;
#[cfg(doc)]
use super::notify::Manager;
use std::env;
use std::os::fd::{OwnedFd, RawFd};

/// What says what comes. It is for one process, so none of it is for workers.
const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// The number of the first.
const FIRST: RawFd = 3;

/// A descriptor that was kept.
#[derive(Debug)]
pub struct Kept {
    /// What it was kept under; `unknown` where the manager tells no names.
    pub name: String,
    /// A copy of it, close-on-exec.
    pub fd: OwnedFd,
}

/// What comes to this process from its service manager. Takes the variables out of the environment, and can
/// be asked once: to be called before there is a second thread.
pub fn received() -> Vec<Kept> {
    let [pid, count, names, _] = VARIABLES.map(|name| env::var(name).ok());
    for name in VARIABLES {
        // SAFETY: the process has one thread, so nobody reads the environment meanwhile.
        unsafe { env::remove_var(name) };
    }
    let promised = promised(pid.as_deref(), count.as_deref(), names.as_deref());
    // Where nothing is open the count was wrong, and nothing more will come.
    promised.map_while(|(number, name)| Some(Kept { name, fd: claim(number).ok()? })).collect()
}

/// The numbers and names, as the variables say.
fn promised(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
) -> impl Iterator<Item = (RawFd, String)> {
    let own = std::process::id();
    let ours = pid.and_then(|pid| pid.parse().ok()) == Some(own);
    let count = count.filter(|_| ours).and_then(|count| count.parse().ok()).unwrap_or(0);
    let names = names.unwrap_or_default().split(':').filter(|name| !name.is_empty());
    (FIRST..).zip(names.chain(std::iter::repeat("unknown")).map(str::to_owned)).take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_to_another_process_is_not_taken() {
        let own = std::process::id().to_string();
        let all = |pid: &str, count: &str, names| -> Vec<(RawFd, String)> {
            promised(Some(pid), Some(count), names).collect()
        };
        let two = [(3, "a".to_owned()), (4, "b".to_owned())];
        assert_eq!(all(&own, "2", Some("a:b")), two);
        assert_eq!(all(&own, "1", Some("a:b")), two[..1]);
        assert_eq!(all(&own, "2", None)[1], (4, "unknown".to_owned()));
        assert_eq!(all("1", "2", Some("a:b")), []);
        assert_eq!(all(&own, "-1", Some("a:b")), []);
        assert_eq!(promised(None, Some("2"), None).count(), 0);
    }
}
