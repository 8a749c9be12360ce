//! `stanch logs`: what workers printed, where it is kept in a file. Reads the files themselves, whether
//! or not a supervisor is running.

use super::output::print;
use super::{Failure, incidents, place};
use crate::config::{Log, WorkerOutput};
use crate::runtime::{open_aside, set_aside};
use clap::Args as ClapArgs;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// From one look for new lines to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Show what workers printed, where `log.worker_output` is "files"
#[derive(ClapArgs)]
pub struct Args {
    /// Only of this slot
    slot: Option<u32>,
    /// Wait for more, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// The last so many lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
    /// The file of this configuration; by default the one beside the only audit log
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// This file
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
}

/// Runs `stanch logs`.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { slot, follow, lines, config, file } = args;
    let path = path_of(file, config.as_deref())?;
    let unread =
        |error: io::Error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let mut live = Live::open(&path).map_err(unread)?;
    let older = live.older.clone();
    if live.file.is_none() && older.is_empty() {
        return Err(Failure::Usage(format!(
            "{} is not there: nothing was printed yet, or log.worker_output is not \"files\"",
            path.display()
        )));
    }
    print(|out| {
        let mut last = Last { slot, most: lines, lines: VecDeque::new() };
        live.new_lines().map_err(unread)?.into_iter().for_each(|line| last.take(line));
        for part in older.iter().rev() {
            if last.lines.len() >= lines {
                break;
            }
            last.put_before(part).map_err(unread)?;
        }
        for line in last.lines {
            out.write_all(&line)?;
        }
        out.flush()?;
        if !follow {
            return Ok(());
        }
        loop {
            for line in live.new_lines().map_err(unread)?.iter().filter(|line| is_of(line, slot)) {
                out.write_all(line)?;
            }
            out.flush()?;
            sleep(PAUSE);
        }
    })
}

fn path_of(file: Option<PathBuf>, config: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(file) = file {
        return Ok(file);
    }
    let Some(source) = config else {
        let store = incidents::store_path(None, None).map_err(|_| {
            let which = "whose? In the default folders there is no audit log, or more than one; say which \
                         with --config FILE or --file FILE";
            Failure::Usage(which.to_owned())
        });
        return Ok(Log::default().file(&store?));
    };
    let config = place::config_of(source)?;
    match config.log.worker_output {
        WorkerOutput::Files => Ok(config.log.file(&place::store_path(&config))),
        WorkerOutput::Journal => Err(Failure::Usage(format!(
            "what the workers of {0} print is in systemd's journal: journalctl STANCH_APP={0}",
            config.app.name
        ))),
        WorkerOutput::Pass => Err(Failure::Usage(format!(
            "{} does not keep what workers print: it goes where the output of stanch goes; set \
             log.worker_output = \"files\" to keep it",
            source.display()
        ))),
    }
}

/// The last lines of a slot, or of all.
struct Last {
    slot: Option<u32>,
    most: usize,
    lines: VecDeque<Vec<u8>>,
}

impl Last {
    fn take(&mut self, line: Vec<u8>) {
        if is_of(&line, self.slot) {
            self.lines.push_back(line);
            if self.lines.len() > self.most {
                self.lines.pop_front();
            }
        }
    }

    /// Fills up with the last lines of an older file.
    fn put_before(&mut self, part: &Path) -> io::Result<()> {
        let most = self.most - self.lines.len();
        let mut older = Last { slot: self.slot, most, lines: VecDeque::new() };
        each_line(part, |line| older.take(line))?;
        older.lines.append(&mut self.lines);
        self.lines = older.lines;
        Ok(())
    }
}

/// The lines of a file that was set aside; none when it is gone.
fn each_line(name: &Path, mut take: impl FnMut(Vec<u8>)) -> io::Result<()> {
    let Some(reader) = open_aside(name)? else { return Ok(()) };
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        take(line);
    }
}

/// The file that is written.
struct Live {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet.
    begun: Vec<u8>,
    /// The files that had been set aside when it was opened.
    older: BTreeSet<PathBuf>,
}

impl Live {
    fn open(path: &Path) -> io::Result<Self> {
        let mut older = set_aside(path)?;
        loop {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                file => Some(BufReader::new(file?)),
            };
            let now = set_aside(path)?;
            // Else one was set aside meanwhile, and which side of it this one is on is not known.
            if now == older {
                return Ok(Self { path: path.to_owned(), file, begun: Vec::new(), older });
            }
            older = now;
        }
    }

    /// What was written since it was last asked, also in the file that has taken its place.
    fn new_lines(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        loop {
            // Looked up first: what is written until then is in the file that is open.
            let there = std::fs::metadata(&self.path).ok();
            if let Some(file) = &mut self.file {
                while file.read_until(b'\n', &mut self.begun)? > 0 {
                    if self.begun.ends_with(b"\n") {
                        lines.push(std::mem::take(&mut self.begun));
                    }
                }
            }
            let open = self.file.as_ref().and_then(|file| file.get_ref().metadata().ok());
            let place = |about: &std::fs::Metadata| (about.dev(), about.ino());
            if there.is_none() || there.as_ref().map(place) == open.as_ref().map(place) {
                return Ok(lines);
            }
            let next = Self::open(&self.path)?;
            // The first that is new is the one that was open; others came and went since.
            for part in next.older.difference(&self.older).skip(usize::from(self.file.is_some())) {
                each_line(part, |line| lines.push(line))?;
            }
            *self = next;
        }
    }
}

/// Whether a line is of this slot. It begins with a time and `[SLOT]`, or is a JSON object.
fn is_of(line: &[u8], slot: Option<u32>) -> bool {
    let Some(slot) = slot else { return true };
    if line.first() == Some(&b'{') {
        let object = serde_json::from_slice::<serde_json::Value>(line);
        return object.is_ok_and(|object| object["slot"] == slot);
    }
    let tag = format!("[{slot}]");
    line.split(|byte| *byte == b' ').nth(1) == Some(tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_known_by_their_slot() {
        let human = b"2026-11-22T05:40:00.123Z [1] GET /\n";
        let json = br#"{"at":"2026-11-22T05:40:00.123Z","slot":1,"line":"[2] x"}"#;
        for line in [&human[..], json] {
            assert!(is_of(line, None) && is_of(line, Some(1)) && !is_of(line, Some(2)));
        }
        assert!(!is_of(b"stanch: 3 lines are missing here\n", Some(1)));
        assert!(!is_of(b"2026-11-22T05:40:00.123Z [11] [1]\n", Some(1)));
    }
}
