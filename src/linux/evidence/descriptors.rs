//! What the descriptors of a tree are, from the links in `/proc/PID/fd` and the tables of sockets in
//! `/proc/PID/net` (proc_pid_fd(5), proc_pid_net(5)): those of the worker's own network namespace.

use super::{Budget, NAMED_MAX};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// States of TCP, by number (include/net/tcp_states.h).
const STATES: [&str; 12] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "closed",
    "close_wait",
    "last_ack",
    "listening",
    "closing",
    "new_syn_recv",
];

/// The descriptors read so far.
#[derive(Default)]
pub(super) struct Descriptors {
    kinds: BTreeMap<String, u64>,
    /// Inodes of sockets, and how many descriptors each has.
    sockets: HashMap<u64, u64>,
}

impl Descriptors {
    /// Adds those of a process; how many.
    pub fn read(&mut self, folder: &Path, budget: Budget) -> io::Result<u64> {
        let mut count = 0;
        for entry in fs::read_dir(folder)?.flatten() {
            if count % 256 == 255 && budget.is_spent() {
                let message = format!("no time for more than {count}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            // Closed meanwhile.
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            self.add(&target.to_string_lossy());
            count += 1;
        }
        Ok(count)
    }

    pub fn add(&mut self, target: &str) {
        match inode(target, "socket:[") {
            Some(inode) => *self.sockets.entry(inode).or_default() += 1,
            None => *self.kinds.entry(kind_of(target)).or_default() += 1,
        }
    }

    /// How many of which kind; the tables are read only for who has sockets.
    pub fn kinds(mut self, net: &Path, budget: Budget) -> BTreeMap<String, u64> {
        let tables = ["tcp", "tcp6", "udp", "udp6", "unix"];
        let mut known = Vec::new();
        for table in tables.iter().filter(|_| !self.sockets.is_empty()) {
            let Ok(file) = File::open(net.join(table)) else { continue };
            let lines = BufReader::new(file).lines().map_while(Result::ok).skip(1);
            for line in lines.take_while(|_| !budget.is_spent()) {
                let socket = match *table {
                    "unix" => Socket::unix(&line),
                    _ => Socket::inet(table.trim_end_matches('6'), &line),
                };
                known.extend(socket.filter(|socket| self.sockets.contains_key(&socket.inode)));
            }
        }
        let listening: BTreeSet<u16> =
            known.iter().filter(|s| s.what == "tcp listening").filter_map(|s| s.local).collect();
        for socket in known {
            let count = self.sockets.remove(&socket.inode).unwrap_or(0);
            *self.kinds.entry(socket.words(&listening)).or_default() += count;
        }
        let others: u64 = self.sockets.into_values().sum();
        if others > 0 {
            *self.kinds.entry("socket".to_owned()).or_default() += others;
        }
        most(self.kinds)
    }
}

/// The commonest kinds, and the others together.
fn most(kinds: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    if kinds.len() <= NAMED_MAX {
        return kinds;
    }
    let mut all: Vec<(String, u64)> = kinds.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let others = all.split_off(NAMED_MAX - 1).iter().map(|(_, count)| count).sum();
    all.push(("others".to_owned(), others));
    all.into_iter().collect()
}

/// The number in `socket:[123]`.
fn inode(target: &str, prefix: &str) -> Option<u64> {
    target.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

/// What a link leads to, without what differs from one to the next: files are told by their folder.
fn kind_of(target: &str) -> String {
    if let Some(kind) = target.strip_prefix("anon_inode:") {
        return kind.trim_matches(['[', ']']).to_owned();
    }
    if let Some(name) = target.strip_prefix("/memfd:") {
        return format!("memfd {}", name.trim_end_matches(" (deleted)"));
    }
    if target.starts_with("/dev/") && !target.starts_with("/dev/shm/") {
        return format!("device {target}");
    }
    if target.starts_with('/') {
        let folder = Path::new(target).parent().unwrap_or(Path::new("/"));
        let deleted = if target.ends_with(" (deleted)") { "deleted file" } else { "file" };
        return format!("{deleted} in {}", folder.display());
    }
    // `pipe:[123]`, `net:[456]`.
    target.split(':').next().unwrap_or_default().to_owned()
}

/// A line of a table.
struct Socket {
    inode: u64,
    /// `tcp established`, `udp`, `unix stream listening`.
    what: String,
    /// Ports, of those that have any.
    local: Option<u16>,
    remote: Option<u16>,
}

impl Socket {
    /// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`, numbers in
    /// hexadecimal but the inode.
    fn inet(protocol: &str, line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let port = |at: usize| u16::from_str_radix(fields.get(at)?.rsplit_once(':')?.1, 16).ok();
        let state = usize::from_str_radix(fields.get(3)?, 16).ok()?;
        let what = match protocol {
            "tcp" => format!("tcp {}", STATES.get(state.wrapping_sub(1)).unwrap_or(&"unknown")),
            other => other.to_owned(),
        };
        let inode = fields.get(9)?.parse().ok()?;
        Some(Self { inode, what, local: port(1), remote: port(2) })
    }

    /// `Num: RefCount Protocol Flags Type St Inode [Path]`; the flag is that of a listener.
    fn unix(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let kind = match *fields.get(4)? {
            "0001" => "stream",
            "0002" => "datagram",
            "0005" => "seqpacket",
            _ => "other",
        };
        let listening = if *fields.get(3)? == "00010000" { " listening" } else { "" };
        let inode = fields.get(6)?.parse().ok()?;
        Some(Self { inode, what: format!("unix {kind}{listening}"), local: None, remote: None })
    }

    /// Of a connection the server's port, which tells what it is for: its own if somebody listens
    /// there, else the peer's. No addresses: they are people's.
    fn words(&self, listening: &BTreeSet<u16>) -> String {
        match (self.local, self.remote) {
            (Some(local), _) if self.what == "tcp listening" => format!("tcp listening on {local}"),
            (Some(local), Some(_)) if listening.contains(&local) => {
                format!("{} on port {local}", self.what)
            }
            (Some(_), Some(remote)) if remote > 0 => format!("{} to port {remote}", self.what),
            _ => self.what.clone(),
        }
    }
}
