//! A client of the control socket, which says what it likes: it is answered, or hung up on, and the server
//! serves the next one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stanch::core::Refusal;
use stanch::http::{Closing, bind, serve};
use stanch::runtime::{Handle, Request};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longer than the server waits for a client that says no more.
const PATIENCE: Duration = Duration::from_secs(20);
const STATUS: &[u8] = b"GET /v1/status HTTP/1.1\r\nhost: stanch\r\nconnection: close\r\n\r\n";

static SOCKET: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder can be made").keep();
    let path = folder.join("control.sock");
    let control = bind(&path).expect("a socket can be made");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(async {
            let (handle, requests) = Handle::new(16);
            let server = serve(control, handle, std::future::pending::<Closing>());
            let (served, ()) = tokio::join!(server, refuse(requests));
            panic!("the server has ended: {served:?}");
        });
    });
    path
});

/// An engine that wants nothing.
async fn refuse(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        let no = Err(Refusal::No("not today".to_owned()));
        let _ = match request {
            Request::Status(_) => continue,
            Request::Command { reply, .. }
            | Request::Reload { reply, .. }
            | Request::Upgrade { reply, .. } => reply.send(no),
        };
    }
}

fuzz_target!(|input: &[u8]| {
    say(input, true);
    let answer = say(STATUS, false);
    assert!(answer.starts_with(b"HTTP/1.1 503"), "{:?}", String::from_utf8_lossy(&answer));
});

/// Who says that there is no more is hung up on before it is answered.
fn say(input: &[u8], no_more: bool) -> Vec<u8> {
    let mut stream = UnixStream::connect(&*SOCKET).expect("it is served");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let mut answer = Vec::new();
    // It may hang up before it has read all.
    let _ = stream.write_all(input);
    if no_more {
        let _ = stream.shutdown(Shutdown::Write);
    }
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no end: {error}"),
        _ => answer,
    }
}
