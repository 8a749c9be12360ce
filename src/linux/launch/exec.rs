//! Finding and executing the command, and saying in words why it did not work.
//!
//! The search is our own instead of `execvpe(3)`, which gives one error number for the whole `PATH`
//! and hands a file that is no program to `/bin/sh`.

use super::fault::{Fault, Stage};
use super::plan::Plan;
use crate::linux::mark::MARK_VARIABLE;
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{execve, geteuid, getpid};
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where a name is searched when the worker's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What a service manager told the supervisor about *its* descriptors.
const LISTEN: &[&str] = &["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// The command as `execve` takes it. Made before the limits are set: afterwards there may be no
/// memory to make it.
pub(super) struct Image {
    program: OsString,
    /// As searched; `None` for a command that is a path.
    search: Option<OsString>,
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Image {
    /// Puts the words together; `listeners` are the names of the sockets to come.
    pub(super) fn new(plan: &Plan, listeners: &[String]) -> Result<Self, Fault> {
        let mut words = std::iter::once(&plan.program).chain(&plan.arguments).enumerate();
        let arguments = words.try_fold(Vec::new(), |mut all, (index, word)| {
            let fault = || match index {
                0 => "the command's name holds a NUL byte".to_owned(),
                _ => format!("argument {index} of the command holds a NUL byte"),
            };
            all.push(c_string(word.as_bytes(), fault)?);
            Ok(all)
        })?;
        let (search, candidates) = candidates(plan)?;
        Ok(Self {
            program: plan.program.clone(),
            search,
            candidates,
            arguments,
            environment: environment(plan, listeners)?,
        })
    }

    /// Becomes the command.
    pub(super) fn execute(&self) -> Result<Infallible, Fault> {
        // A PATH goes on after what may not be executed, as shells do; if nothing better follows,
        // that is what is told.
        let mut refused = None;
        for path in &self.candidates {
            let Err(errno) = execve(path, &self.arguments, &self.environment);
            let path = Path::new(OsStr::from_bytes(path.as_bytes()));
            match errno {
                Errno::ENOENT | Errno::ENOTDIR if !path.exists() => {}
                Errno::EACCES => {
                    refused.get_or_insert(path);
                }
                _ => return Err(explain(path, errno)),
            }
        }
        Err(match refused {
            Some(path) => explain(path, Errno::EACCES),
            None => self.not_found(),
        })
    }

    fn not_found(&self) -> Fault {
        let program = self.program.display();
        match &self.search {
            _ if self.program.is_empty() => {
                Stage::Exec.fault(Errno::ENOENT, "the command is empty")
            }
            None => Stage::Exec
                .fault(Errno::ENOENT, format!("the command {program} does not exist"))
                .hint("a command with a slash is taken as a path, relative to `directory`"),
            Some(search) => Stage::Exec
                .fault(
                    Errno::ENOENT,
                    format!(
                        "the command {program} is in no directory of PATH ({})",
                        search.display()
                    ),
                )
                .hint("install it, give its full path, or set PATH in the worker's environment"),
        }
    }
}

fn c_string(bytes: &[u8], what: impl FnOnce() -> String) -> Result<CString, Fault> {
    CString::new(bytes).map_err(|_| Stage::Environment.fault(Errno::EINVAL, what()))
}

fn candidates(plan: &Plan) -> Result<(Option<OsString>, Vec<CString>), Fault> {
    let nul = || "PATH holds a NUL byte".to_owned();
    if plan.program.is_empty() {
        return Ok((None, Vec::new()));
    }
    if plan.program.as_bytes().contains(&b'/') {
        let path = c_string(plan.program.as_bytes(), nul)?;
        return Ok((None, vec![path]));
    }
    let search = plan.environment.get("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
    let paths = std::env::split_paths(search)
        .map(|folder| {
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            c_string(folder.join(&plan.program).as_os_str().as_bytes(), nul)
        })
        .collect::<Result<_, _>>()?;
    Ok((Some(search.to_owned()), paths))
}

fn environment(plan: &Plan, listeners: &[String]) -> Result<Vec<CString>, Fault> {
    let mut environment = plan.environment.clone();
    for name in LISTEN {
        environment.remove(name);
    }
    environment.set(MARK_VARIABLE, &plan.mark);
    environment.set("STANCH_WORKER", plan.worker.to_string());
    environment.set("STANCH_SLOT", plan.worker.slot.to_string());
    environment.set("STANCH_GENERATION", plan.worker.generation.to_string());
    if !listeners.is_empty() {
        environment.set("LISTEN_FDS", listeners.len().to_string());
        environment.set("LISTEN_PID", getpid().to_string());
        // A colon stands between names, so it cannot stand in one.
        let plain = |name: &String| name.replace([':', '\0'], "_");
        environment
            .set("LISTEN_FDNAMES", listeners.iter().map(plain).collect::<Vec<_>>().join(":"));
    }
    environment
        .iter()
        .map(|(name, value)| {
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                let what = format!("{:?} cannot be the name of an environment variable", name);
                return Err(Stage::Environment.fault(Errno::EINVAL, what));
            }
            let line = [name.as_bytes(), b"=", value.as_bytes()].concat();
            let what = || format!("the environment variable {} holds a NUL byte", name.display());
            c_string(&line, what)
        })
        .collect()
}

/// What `errno` means for this file.
fn explain(path: &Path, errno: Errno) -> Fault {
    let shown = path.display();
    let fault = |what: String| Stage::Exec.fault(errno, what);
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => match interpreter(path) {
            Some(interpreter) => {
                let what =
                    format!("the script {shown} asks for an interpreter that does not exist");
                let name = interpreter.as_os_str();
                if name.as_bytes().ends_with(b"\r") {
                    let hint =
                        "its first line ends in a carriage return: save it with Unix line ends";
                    fault(format!("{what}: {name:?}")).hint(hint)
                } else {
                    fault(format!("{what}: {}", name.display()))
                        .hint("install the interpreter, or correct the script's first line")
                }
            }
            None => fault(format!("the program {shown} asks for a loader that does not exist"))
                .hint("it was built for another C library or another kind of machine"),
        },
        Errno::EACCES => refused(path, fault),
        Errno::ENOEXEC => {
            fault(format!("{shown} is no program for this machine, and no script with a #! line"))
                .hint("start a script with #! and its interpreter, or name the interpreter first")
        }
        Errno::E2BIG => fault(format!("the arguments and environment are too long for {shown}"))
            .hint("one word may have 128 KiB; all together a quarter of the stack limit"),
        Errno::EAGAIN => fault(format!("user {} may start no more processes", geteuid()))
            .hint("raise the limit `nproc`: it counts all processes of the user, not only workers"),
        Errno::ETXTBSY => fault(format!("{shown} is being written"))
            .hint("put new versions in place with a rename, never by writing into the old file"),
        Errno::ENOMEM => fault(format!("there is not enough memory to start {shown}")),
        _ => fault(format!("could not execute {shown}")),
    }
}

fn refused(path: &Path, fault: impl Fn(String) -> Fault) -> Fault {
    let (shown, user) = (path.display(), geteuid());
    let executable = |file: &Metadata| file.permissions().mode() & 0o111 != 0;
    match path.metadata() {
        Err(_) => fault(format!("user {user} may not look into the directory of {shown}"))
            .hint("every directory of the path must allow that user to enter (x)"),
        Ok(file) if file.is_dir() => fault(format!("{shown} is a directory, not a command")),
        Ok(file) if !executable(&file) => {
            fault(format!("{shown} is not executable")).hint(format!("chmod +x {shown}"))
        }
        Ok(_) if statvfs(path).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC)) => {
            fault(format!("{shown} is on a file system that is mounted noexec"))
        }
        Ok(_) => match interpreter(path) {
            Some(interpreter) => fault(format!(
                "user {user} may not execute {shown} or its interpreter {}",
                interpreter.display()
            )),
            None => fault(format!("user {user} may not execute {shown}")),
        },
    }
}

/// What a script's first line asks for; `None` for anything else and for what cannot be read.
fn interpreter(path: &Path) -> Option<PathBuf> {
    // The kernel looks at no more than this (BINPRM_BUF_SIZE).
    let mut head = Vec::with_capacity(256);
    File::open(path).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.next().map(|word| OsString::from_vec(word.to_vec()).into())
}
