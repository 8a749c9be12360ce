//! weir MODE [A]: levels of a river, a thread for each connection (rustc -O).
//!   reports  leak: reports go down a channel whose reader waits for the next flood
//!   levels   the levels of the last A seconds, by hour, the old ones taken out

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

#[derive(Clone)]
struct Level {
    station: u64,
    marks: Vec<(f64, String)>,
}

fn measure(number: u64) -> Level {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos() as u64;
    let count = 8 + (clock ^ number) % 60;
    let marks = (0..count).map(|k| (k as f64 / 7.0, format!("{k} cm at mark {} of station {number}", clock % 997)));
    Level { station: number, marks: marks.collect() }
}

type Levels = Mutex<HashMap<u64, (Instant, Level)>>;

struct Weir {
    reports: Option<Mutex<Sender<Level>>>,
    levels: Levels,
    keep: Duration,
}

impl Weir {
    fn serve(&self, client: TcpStream) {
        let mut input = BufReader::new(client.try_clone().unwrap());
        let mut line = String::new();
        while matches!(input.read_line(&mut line), Ok(1..)) {
            if line.starts_with("GET") {
                let number = line.split(['/', ' ']).filter_map(|one| one.parse().ok()).next().unwrap_or(0);
                let level = measure(number);
                let text: String = level.marks.iter().map(|(at, mark)| format!("{at:.2} {mark}\n")).collect();
                match &self.reports {
                    Some(reports) => reports.lock().unwrap().send(level).unwrap(),
                    None => self.keep(level),
                }
                while !matches!(line.as_str(), "\r\n" | "") {
                    line.clear();
                    if input.read_line(&mut line).is_err() {
                        return;
                    }
                }
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
                if (&client).write_all((head + &text).as_bytes()).is_err() {
                    return;
                }
            }
            line.clear();
        }
    }

    fn keep(&self, level: Level) {
        let mut levels = self.levels.lock().unwrap();
        levels.retain(|_, (at, _)| at.elapsed() < self.keep);
        levels.insert(level.station, (Instant::now(), level));
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let keep = Duration::from_secs(arguments.get(2).map_or(0, |one| one.parse().unwrap()));
    let (sender, reports) = channel::<Level>();
    std::thread::spawn(move || {
        for report in reports {
            while report.marks.iter().all(|(at, _)| *at < 400.0) {
                std::thread::sleep(Duration::from_secs(60));
            }
        }
    });
    let reports = (arguments[1] == "reports").then(|| Mutex::new(sender));
    let weir = Arc::new(Weir { reports, levels: Levels::default(), keep });
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    for client in TcpListener::bind(("127.0.0.1", port)).unwrap().incoming().flatten() {
        let weir = weir.clone();
        std::thread::spawn(move || weir.serve(client));
    }
}
