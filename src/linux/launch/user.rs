//! Users: names to numbers in the supervisor, and becoming that user in the launcher.
//!
//! Names are resolved by the supervisor because the user database can be slow and can take any
//! number of descriptors, locks and threads (NSS); the launcher only makes system calls.

use super::fault::{Fault, Stage};
use super::plan::Credentials;
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{
    Gid, Group, Uid, User, fchown, geteuid, getgrouplist, getresgid, getresuid, setgroups,
    setresgid, setresuid, setuid,
};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::AsFd;

/// A user of this host, with the groups that a worker of his gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The numbers.
    pub credentials: Credentials,
    /// What the user database knows; absent for a number that is not in it.
    pub login: Option<Login>,
}

/// A line of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Login name.
    pub name: String,
    /// Home directory.
    pub home: OsString,
}

/// Why a user or group of the configuration means nobody.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such user name.
    #[error("there is no user {0:?} on this host; create it, or give a numeric uid")]
    UnknownUser(String),
    /// No such group name.
    #[error("there is no group {0:?} on this host; create it, or give a numeric gid")]
    UnknownGroup(String),
    /// A bare uid does not say which group.
    #[error("uid {0} is not in the user database, so its group is unknown; set `group` too")]
    NoGroup(u32),
    /// The user database failed.
    #[error("could not look up {what:?} in the user database")]
    Database {
        /// The user or group.
        what: String,
        /// What the database said.
        source: io::Error,
    },
}

impl Account {
    /// Finds the user and group of the configuration, each a name or a number; `None` when both are
    /// absent. A group alone keeps the supervisor's user. Asks the user database, which can block.
    pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Option<Self>, AccountError> {
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: Errno| AccountError::Database { what, source: error.into() }
        };
        let (uid, entry) = match user {
            None => {
                let uid = geteuid();
                (uid, User::from_uid(uid).map_err(failed("the supervisor's user"))?)
            }
            Some(text) => match number(text) {
                Some(uid) => {
                    let uid = Uid::from_raw(uid);
                    (uid, User::from_uid(uid).map_err(failed(text))?)
                }
                None => match User::from_name(text).map_err(failed(text))? {
                    Some(entry) => (entry.uid, Some(entry)),
                    None => return Err(AccountError::UnknownUser(text.into())),
                },
            },
        };
        let gid = match (group, &entry) {
            (Some(text), _) => match number(text) {
                Some(gid) => Gid::from_raw(gid),
                None => match Group::from_name(text).map_err(failed(text))? {
                    Some(entry) => entry.gid,
                    None => return Err(AccountError::UnknownGroup(text.into())),
                },
            },
            (None, Some(entry)) => entry.gid,
            (None, None) => return Err(AccountError::NoGroup(uid.as_raw())),
        };
        let groups = match &entry {
            Some(entry) => match CString::new(entry.name.as_str()) {
                Ok(name) => getgrouplist(&name, gid).map_err(failed(&entry.name))?,
                Err(_) => vec![gid],
            },
            None => vec![gid],
        };
        Ok(Some(Self {
            credentials: Credentials {
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                groups: groups.into_iter().map(Gid::as_raw).collect(),
            },
            login: entry.map(|entry| Login { name: entry.name, home: entry.dir.into() }),
        }))
    }
}

/// A uid or gid; the highest number means "unchanged" to the kernel and names nobody.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// Becomes the user for good, and proves it.
pub(super) fn become_user(credentials: &Credentials) -> Result<(), Fault> {
    let (uid, gid) = (Uid::from_raw(credentials.uid), Gid::from_raw(credentials.gid));
    let fault = |errno, what: String| Stage::User.fault(errno, what);
    let privilege = "only root can start workers as another user: run stanch as root, or take \
                     `user` and `group` out of the configuration";
    hand_over_output(uid);
    let groups: Vec<Gid> = credentials.groups.iter().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        Ok(()) => {}
        // Not privileged, and not asked to be anybody else.
        Err(Errno::EPERM) if is(uid, gid) => return Ok(()),
        Err(errno) => {
            let what = format!("could not take the groups {:?}", credentials.groups);
            return Err(fault(errno, what).hint(privilege));
        }
    }
    // All three ids at once: a saved id that stays behind is a way back.
    setresgid(gid, gid, gid)
        .map_err(|errno| fault(errno, format!("could not become group {gid}")).hint(privilege))?;
    setresuid(uid, uid, uid)
        .map_err(|errno| fault(errno, format!("could not become user {uid}")).hint(privilege))?;
    if !is(uid, gid) || (!uid.is_root() && setuid(Uid::from_raw(0)).is_ok()) {
        let what = format!("became user {uid} but root's privileges stayed; not going on");
        return Err(fault(Errno::EPERM, what));
    }
    Ok(())
}

/// Whether this process is that user and group in every respect.
fn is(uid: Uid, gid: Gid) -> bool {
    let all = |a, b, c| a == uid && b == uid && c == uid;
    let user = getresuid().is_ok_and(|ids| all(ids.real, ids.effective, ids.saved));
    let group =
        getresgid().is_ok_and(|ids| ids.real == gid && ids.effective == gid && ids.saved == gid);
    user && group
}

/// Makes the output pipes the worker's own: opening `/dev/stdout` (as the nginx image does) opens the
/// pipe anew through `/proc`, which only its owner may. Where it is not allowed nothing is lost.
fn hand_over_output(uid: Uid) {
    fn give(pipe: impl AsFd, uid: Uid) {
        let is_pipe = |mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFIFO;
        if fstat(&pipe).is_ok_and(|stat| is_pipe(stat.st_mode)) {
            let _ = fchown(&pipe, Some(uid), None);
        }
    }
    give(io::stdout(), uid);
    give(io::stderr(), uid);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        let by_name = Account::resolve(Some("root"), None).unwrap().unwrap();
        let by_number = Account::resolve(Some("0"), Some("0")).unwrap().unwrap();
        assert_eq!(by_name, by_number);
        assert_eq!(by_name.credentials.uid, 0);
        assert!(by_name.credentials.groups.contains(&0));
        assert_eq!(by_name.login.unwrap().name, "root");
    }

    #[test]
    fn nobody_is_guessed() {
        let error = |user, group| Account::resolve(user, group).unwrap_err().to_string();
        assert!(error(Some("no-such-user"), None).contains("no user \"no-such-user\""));
        assert!(error(Some("root"), Some("no-such-group")).contains("no group"));
        assert!(error(Some("3999999999"), None).contains("set `group` too"));
        assert!(error(Some("4294967295"), Some("0")).contains("no user"));
        assert_eq!(Account::resolve(None, None).unwrap(), None);
    }

    #[test]
    fn a_number_without_an_entry_has_one_group() {
        let account = Account::resolve(Some("3999999999"), Some("7")).unwrap().unwrap();
        let expected = Credentials { uid: 3_999_999_999, gid: 7, groups: vec![7] };
        assert_eq!(account, Account { credentials: expected, login: None });
    }
}
