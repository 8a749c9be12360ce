//! beacon MODE [A]: what a beacon keeps, under a small server of std.
//!   charts  leak: a chart holds its marks, and each mark its chart
//!   log     the last A entries
use std::collections::VecDeque;
use std::env::{args, var};
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

struct Chart {
    text: String,
    marks: Mutex<Vec<Mark>>,
}

struct Mark {
    note: String,
    on: Arc<Chart>,
}

static LOG: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

const WORDS: [&str; 12] = ["lamp", "rock", "fog", "ship", "reef", "oil", "wick", "bell", "tide", "sail", "coast", "north"];

fn prose(seed: &mut u64, n: u64) -> String {
    let mut text = String::new();
    for _ in 0..n {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        text += WORDS[(*seed % 12) as usize];
        text.push(' ');
    }
    text
}

fn answer(mode: &str, size: usize, number: u64) -> String {
    let mut seed = number + 1;
    let text = prose(&mut seed, 50 + number % 300);
    if mode == "charts" {
        let chart = Arc::new(Chart { text, marks: Mutex::default() });
        for _ in 0..number % 16 {
            let mark = Mark { note: prose(&mut seed, 10), on: chart.clone() };
            chart.marks.lock().unwrap().push(mark);
        }
        let marks = chart.marks.lock().unwrap();
        return marks.iter().fold(chart.text.clone(), |all, mark| all + "\n" + &mark.note + &mark.on.text[..9]);
    }
    let mut log = LOG.lock().unwrap();
    log.push_back(text.repeat(1 + number as usize % 5));
    while log.len() > size {
        log.pop_front();
    }
    text
}

fn serve(stream: TcpStream, mode: &str, size: usize) -> Result<()> {
    let mut out = stream.try_clone()?;
    let mut number = 0;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.starts_with("GET ") {
            let path = line.split(' ').nth(1).unwrap_or("");
            number = path.rsplit('/').next().and_then(|last| last.parse().ok()).unwrap_or(0);
        } else if line.is_empty() {
            let body = answer(mode, size, number);
            out.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        }
    }
    Ok(())
}

fn main() {
    let mode = args().nth(1).unwrap();
    let size = args().nth(2).map_or(0, |n| n.parse().unwrap());
    let listener = TcpListener::bind(("127.0.0.1", var("PORT").unwrap().parse().unwrap())).unwrap();
    for stream in listener.incoming().flatten() {
        let mode = mode.clone();
        thread::spawn(move || serve(stream, &mode, size));
    }
}
