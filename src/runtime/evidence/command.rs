//! The configured command for evidence, kept to its time and size.

use super::super::command::{self, Started};
use super::folder::Folder;
use super::saving;
use crate::config::Config;
use crate::core::ExitStatus;
use crate::core::evidence::Inquiry;
use crate::core::units::Bytes;
use crate::core::words::chain;
use crate::linux::launch::{Limit, Plan};
use crate::linux::spawn::Pipes;
use crate::store::Draft;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tokio::sync::oneshot::error::TryRecvError;

/// From one look at the size of its files to the next.
const LOOK_PAUSE: u16 = 50;
/// Files of a command that are kept.
const FILES_MAX: usize = 100;
/// After its end its output is there; a child that keeps the pipe open is not waited for longer.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A command that is being started.
pub(in crate::runtime) struct Errand {
    pub command: Started,
    pub terms: Terms,
}

/// Where it works, and what it may.
pub(in crate::runtime) struct Terms {
    folder: Folder,
    max_size: Bytes,
    within: Duration,
}

/// What the command shall be; `pids` are the worker's, its leader first.
pub(in crate::runtime) fn prepare(
    config: &Config,
    inquiry: &Inquiry,
    pids: &[i32],
) -> Result<(Plan, Terms), String> {
    let evidence = &config.evidence;
    let account = command::account(config).map_err(|error| chain(&error))?;
    let owner = account.as_ref().map(|account| &account.credentials);
    let folder = Folder::make(owner.map(|owner| (owner.uid, owner.gid)))
        .map_err(|error| format!("no folder for the command: {error}"))?;
    let path = folder.path().to_string_lossy().into_owned();
    let pid = pids.first().map(ToString::to_string).unwrap_or_default();
    let all: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let values = [
        ("pid", pid.as_str()),
        ("pids", &all.join(" ")),
        ("incident", &inquiry.incident.0),
        ("folder", &path),
    ];
    let plan = command::plan(config, account, inquiry.worker, &evidence.command, &values)?;
    let limit =
        |name: &str, value| Limit { name: name.into(), soft: Some(value), hard: Some(value) };
    let plan = Plan {
        // Not the worker's: what it uses is not the worker's use.
        mark: format!("evidence-{}", inquiry.worker),
        directory: Some(path.into()),
        umask: Some(0o077),
        limits: vec![limit("fsize", evidence.max_size.0), limit("core", 0)],
        ..plan
    };
    let terms = Terms { folder, max_size: evidence.max_size, within: inquiry.within };
    Ok((plan, terms))
}

impl Errand {
    /// Sees the start through; the error says why it does not run.
    pub async fn begin(mut self) -> Result<Running, String> {
        let begun = Instant::now();
        let until = begun + self.terms.within;
        let pipes = self.command.launching.take_pipes().ok_or("it has no pipes")?;
        self.command.runs(until.into()).await.map_err(|why| {
            self.command.kill_off();
            format!("evidence.command {why}")
        })?;
        Ok(Running { errand: self, pipes, begun, until })
    }
}

/// A command that runs.
pub(in crate::runtime) struct Running {
    errand: Errand,
    pipes: Pipes,
    begun: Instant,
    until: Instant,
}

impl Running {
    /// Waits for its end, or makes it; then saves what it printed and its files. When it was begun, and
    /// what is missing. It blocks.
    pub fn finish(self, draft: &mut Draft<'_>) -> Result<(Instant, Option<String>), String> {
        let Running { mut errand, pipes, begun, until } = self;
        let outcome = follow(&mut errand, pipes, until, draft);
        errand.command.kill_off();
        let (printed, mut problems) = outcome.map_err(saving)?;
        save_files(&errand.terms, printed, draft, &mut problems).map_err(saving)?;
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        if draft.is_empty() {
            return Err(problem.unwrap_or_else(|| "it printed nothing and left no file".to_owned()));
        }
        Ok((begun, problem))
    }
}

/// Passes on its output until its end; how many bytes it printed, and what went wrong.
fn follow(
    errand: &mut Errand,
    pipes: Pipes,
    until: Instant,
    draft: &mut Draft<'_>,
) -> io::Result<(u64, Vec<String>)> {
    let Terms { max_size, within, folder } = &errand.terms;
    let mut streams = [
        Stream { name: "stdout.txt", pipe: Some(File::from(pipes.stdout)), file: None },
        Stream { name: "stderr.txt", pipe: Some(File::from(pipes.stderr)), file: None },
    ];
    let (mut printed, mut problems, mut ended) = (0, Vec::new(), None);
    loop {
        if ended.is_none() {
            match errand.command.exit.try_recv() {
                Ok(ExitStatus::Code(0)) => ended = Some(Instant::now()),
                Ok(status) => {
                    problems.push(format!("evidence.command ended with {status}"));
                    ended = Some(Instant::now());
                }
                Err(TryRecvError::Empty) => {}
                // Nobody reaps any more: the supervisor ends.
                Err(TryRecvError::Closed) => break,
            }
        }
        let open = streams.iter().any(|stream| stream.pipe.is_some());
        if ended.is_some_and(|at: Instant| !open || at.elapsed() >= LAST_WORDS) {
            break;
        }
        let written: u64 = folder.list().iter().map(|found| found.bytes).sum();
        if ended.is_none() && Instant::now() >= until {
            problems.push(format!("evidence.command was killed after {} s", within.as_secs_f64()));
            break;
        }
        if printed + written > max_size.0 {
            problems.push(format!("evidence.command was killed: it wrote more than {max_size}"));
            break;
        }
        wait(&streams)?;
        for stream in &mut streams {
            printed += stream.pass_on(draft, max_size.0.saturating_sub(printed))?;
        }
    }
    for stream in streams {
        if let Some(file) = stream.file {
            file.finish()?;
        }
    }
    Ok((printed, problems))
}

/// Until there is something to read, and not for long.
fn wait(streams: &[Stream]) -> io::Result<()> {
    let pipes = streams.iter().filter_map(|stream| stream.pipe.as_ref());
    let mut fds: Vec<PollFd<'_>> =
        pipes.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
    match poll(&mut fds, PollTimeout::from(LOOK_PAUSE)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

struct Stream {
    name: &'static str,
    /// Until its end.
    pipe: Option<File>,
    /// From the first byte on.
    file: Option<crate::store::DraftFile>,
}

impl Stream {
    /// What is there, `room` bytes of it at most are kept; how many came.
    fn pass_on(&mut self, draft: &mut Draft<'_>, room: u64) -> io::Result<u64> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        let mut buffer = [0; 16 * 1024];
        let read = match pipe.read(&mut buffer) {
            Ok(0) => {
                self.pipe = None;
                return Ok(0);
            }
            Ok(read) => read,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let kept = read.min(usize::try_from(room).unwrap_or(usize::MAX));
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(draft.create(self.name)?),
        };
        file.write_all(&buffer[..kept])?;
        Ok(read as u64)
    }
}

/// Saves its files as far as there is room.
fn save_files(
    terms: &Terms,
    printed: u64,
    draft: &mut Draft<'_>,
    problems: &mut Vec<String>,
) -> io::Result<()> {
    let mut room = terms.max_size.0.saturating_sub(printed);
    let mut files = terms.folder.list();
    if files.len() > FILES_MAX {
        problems.push(format!("of {} files {FILES_MAX} are kept", files.len()));
        files.truncate(FILES_MAX);
    }
    for found in files {
        let name = &found.name;
        if let Some(why) = found.refused {
            problems.push(format!("{name} is {why}: left out"));
            continue;
        }
        if found.bytes > room {
            problems.push(format!("{name} has {}: no room for it", Bytes(found.bytes)));
            continue;
        }
        match terms.folder.open(&found) {
            Ok(from) => {
                let mut file = match draft.create(name) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        problems.push(format!("there is another {name}: left out"));
                        continue;
                    }
                    created => created?,
                };
                // It may be growing still.
                let copied = io::copy(&mut from.take(room), &mut file)?;
                file.finish()?;
                room -= copied;
            }
            Err(error) => problems.push(format!("{name} cannot be read: {error}")),
        }
    }
    Ok(())
}
