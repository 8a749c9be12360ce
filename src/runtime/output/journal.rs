//! systemd's journal: a datagram a line, in its own protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>), so that the worker is a field of the entry and not a word
//! in its text. One that cannot be sent (the journal is slow, or is just being started again) is lost and
//! counted; nobody waits.

use super::Source;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where it listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Nobody can say what it is that a worker prints.
const PRIORITY_INFO: u8 = 6;

/// The journal of this host.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    app: String,
    lost: u64,
}

impl Journal {
    /// That of this host, if there is one; entries are of `app`.
    pub fn open(app: &str) -> io::Result<Option<Self>> {
        Self::at(Path::new(SOCKET), app)
    }

    fn at(path: &Path, app: &str) -> io::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, path: path.to_owned(), app: app.to_owned(), lost: 0 }))
    }

    /// Lines that were lost, and not yet told of.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Sends a line, or counts it as lost.
    pub fn append(&mut self, source: Source, text: &[u8]) {
        if self.lost > 0 {
            let told = format!("stanch: {} lines are missing here", self.lost);
            if self.send(source, told.as_bytes()).is_ok() {
                self.lost = 0;
            }
        }
        if self.lost > 0 || self.send(source, text).is_err() {
            self.lost += 1;
        }
    }

    /// By its path each time: a journal that was started again is another socket.
    fn send(&self, source: Source, text: &[u8]) -> io::Result<usize> {
        self.socket.send_to(&entry(&self.app, source, text), &self.path)
    }
}

fn entry(app: &str, source: Source, text: &[u8]) -> Vec<u8> {
    let Source { worker, stream } = source;
    let mut entry = format!(
        "PRIORITY={PRIORITY_INFO}\nSYSLOG_IDENTIFIER={app}\nSTANCH_APP={app}\nSTANCH_SLOT={}\n\
         STANCH_GENERATION={}\nSTANCH_STREAM={}\nMESSAGE\n",
        worker.slot,
        worker.generation,
        stream.as_str()
    )
    .into_bytes();
    // With its length, because it may be any bytes.
    entry.extend((text.len() as u64).to_le_bytes());
    entry.extend(text);
    entry.push(b'\n');
    entry
}

#[cfg(test)]
mod tests {
    use super::super::Stream;
    use super::*;
    use crate::core::WorkerId;

    const SOURCE: Source = Source { worker: WorkerId::new(2, 7), stream: Stream::Stderr };

    #[test]
    fn an_entry_has_its_fields_and_what_is_lost_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(Journal::at(&path, "shop").unwrap().is_none(), "there is none");
        let listener = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(&path, "shop").unwrap().unwrap();
        let heard = || {
            let mut buffer = [0; 1024];
            let length = listener.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        journal.append(SOURCE, b"GET /\xff");
        let told = heard();
        assert!(told.starts_with("PRIORITY=6\nSYSLOG_IDENTIFIER=shop\n"), "{told:?}");
        assert!(told.contains("\nSTANCH_SLOT=2\nSTANCH_GENERATION=7\nSTANCH_STREAM=stderr\n"));
        assert!(told.contains("MESSAGE\n\u{6}\0\0\0\0\0\0\0GET /"), "{told:?}");

        let away = folder.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        journal.append(SOURCE, b"lost");
        journal.append(SOURCE, b"lost");
        std::fs::rename(&away, &path).unwrap();
        journal.append(SOURCE, b"kept");
        assert!(heard().contains("stanch: 2 lines are missing here"));
        assert!(heard().ends_with("kept\n"));
    }
}
