//! quarry MODE [A]: what a quarry keeps, under a small server of std.
//!   lorries  leak: each load registers the end of a channel; news of the road are sent to all, read by none
//!   stones   stones are held A seconds, then sold
use std::collections::BTreeMap;
use std::env::{args, var};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

static LORRIES: Mutex<Vec<(Sender<String>, Receiver<String>)>> = Mutex::new(Vec::new());
static STONES: Mutex<BTreeMap<Instant, (u64, String)>> = Mutex::new(BTreeMap::new());

const WORDS: [&str; 10] = ["stone", "dust", "slab", "drill", "lorry", "chalk", "ramp", "load", "block", "edge"];

fn prose(seed: &mut u64, n: u64) -> String {
    (0..n)
        .map(|_| {
            *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            WORDS[(*seed >> 33) as usize % WORDS.len()]
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn answer(mode: &str, hold: u64, number: u64) -> String {
    let mut seed = number;
    let text = prose(&mut seed, 50 + number % 900);
    if mode == "lorries" {
        let mut lorries = LORRIES.lock().unwrap();
        lorries.push(channel());
        let count = lorries.len();
        for k in 0..3 {
            lorries[(seed as usize >> 20).wrapping_add(k * 7919) % count].0.send(text.clone()).ok();
        }
    } else {
        let mut stones = STONES.lock().unwrap();
        stones.insert(Instant::now(), (number, text.repeat(3)));
        if let Some(old) = Instant::now().checked_sub(Duration::from_secs(hold)) {
            *stones = stones.split_off(&old);
        }
    }
    text
}

fn serve(stream: TcpStream, mode: &str, hold: u64) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut number = 0;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(rest) = line.strip_prefix("GET /item/") {
            number = rest.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        } else if line.is_empty() {
            let body = answer(mode, hold, number);
            out.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        }
    }
    Ok(())
}

fn main() {
    let mode = args().nth(1).unwrap();
    let hold = args().nth(2).map_or(0, |n| n.parse().unwrap());
    let listener = TcpListener::bind(format!("127.0.0.1:{}", var("PORT").unwrap())).unwrap();
    for stream in listener.incoming().flatten() {
        let mode = mode.clone();
        thread::spawn(move || serve(stream, &mode, hold));
    }
}
