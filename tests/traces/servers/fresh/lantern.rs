//! lantern MODE [A]: a server of the standard library, a thread for each connection (rustc -O).
//!   cycles  leak: a parent holds its children, and each child its parent
//!   ring    the last A parents, whose children hold them weakly

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, Weak};

enum Up {
    Strong(Arc<Lamp>),
    Weak(Weak<Lamp>),
}

struct Lamp {
    text: String,
    up: Option<Up>,
    children: Mutex<Vec<Arc<Lamp>>>,
}

struct Server {
    strong: bool,
    recent: Mutex<VecDeque<Arc<Lamp>>>,
    bound: usize,
}

fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *seed >> 33
}

fn prose(seed: &mut u64, words: u64) -> String {
    const WORDS: [&str; 8] = ["lantern", "oil", "wick", "glass", "night", "street", "corner", "watch"];
    (0..words).map(|_| WORDS[next(seed) as usize % 8]).collect::<Vec<_>>().join(" ")
}

impl Server {
    fn lamp(&self, number: u64) -> Arc<Lamp> {
        let mut seed = number;
        let words = 40 + next(&mut seed) % 400;
        let parent = Arc::new(Lamp { text: prose(&mut seed, words), up: None, children: Mutex::default() });
        for _ in 0..next(&mut seed) % 12 {
            let up = if self.strong { Up::Strong(parent.clone()) } else { Up::Weak(Arc::downgrade(&parent)) };
            let child = Lamp { text: prose(&mut seed, 60), up: Some(up), children: Mutex::default() };
            parent.children.lock().unwrap().push(Arc::new(child));
        }
        let mut recent = self.recent.lock().unwrap();
        recent.push_back(parent.clone());
        if recent.len() > self.bound {
            recent.pop_front();
        }
        parent
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(client.try_clone()?).lines();
        while let Some(first) = lines.next().transpose()? {
            while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
            let number = first.split(['/', ' ']).filter_map(|part| part.parse().ok()).next().unwrap_or(0);
            let lamp = self.lamp(number);
            let mut text = lamp.text.clone();
            for child in lamp.children.lock().unwrap().iter() {
                let above = match child.up.as_ref() {
                    Some(Up::Strong(parent)) => parent.text.len(),
                    Some(Up::Weak(parent)) => parent.upgrade().map_or(0, |parent| parent.text.len()),
                    None => 0,
                };
                text += &format!("\n{above} {}", child.text);
            }
            write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
        }
        Ok(())
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let bound = arguments.get(2).map_or(100, |one| one.parse().unwrap());
    let server = Arc::new(Server { strong: arguments[1] == "cycles", recent: Mutex::default(), bound });
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    for client in TcpListener::bind(("127.0.0.1", port)).unwrap().incoming().flatten() {
        let server = server.clone();
        std::thread::spawn(move || server.serve(client));
    }
}
