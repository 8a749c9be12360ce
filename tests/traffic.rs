//! The short form of `tests/bench/traffic`: no request fails while every worker is replaced, with
//! unmodified servers, on new connections and on kept ones.

mod common;

use common::*;

const WORKERS: usize = 2;
const CLIENTS: usize = 6;
const REQUESTS: u64 = 3_000;

fn no_request_fails(server: Server, style: Style) {
    let address = free_address();
    let app = server.app(address).toml("traffic", 2);
    let mut stanch = Stanch::start(&format!(
        r#"{app}
        [listen]
        address = ["{address}"]
        [rolling]
        # Kept connections that are busy all the time last until here.
        drain_timeout = "2s"
        "#
    ));
    stanch.wait_ready(WORKERS);
    let load = Load::start(address, style, CLIENTS);
    load.wait_for(100);
    let mut rolls = 0;
    while rolls == 0 || load.tally().ok < REQUESTS {
        let before = stanch.workers();
        let answer = stanch.command(&["restart"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        for old in before {
            let (slot, generation) = (old["slot"].as_u64(), old["generation"].as_u64());
            let (slot, generation) = slot.zip(generation).expect("they are numbers");
            assert!(stanch.ready_after(slot, generation).is_some(), "slot {slot} was not replaced");
        }
        rolls += 1;
    }
    load.wait_for(100);
    let tally = load.stop();
    let Tally { ok, retried, .. } = tally;
    println!("{server:?}, {style:?}: {ok} answered, {retried} retried, {rolls} rolls");
    assert_eq!(tally.failed(), 0, "{tally:?}");
    stanch.stop_clean();
}

/// A test a server and style: `gunicorn::connect`.
macro_rules! servers {
    ($($name:ident: $server:expr,)*) => { $(
        mod $name {
            use super::{Server, Style, no_request_fails};

            #[test]
            fn connect() {
                no_request_fails($server, Style::Connect);
            }

            #[test]
            fn keep_alive() {
                no_request_fails($server, Style::KeepAlive);
            }
        }
    )* };
}

servers! {
    node: Server::NodeHttp,
    gunicorn: Server::Gunicorn,
    uvicorn: Server::Uvicorn,
    go: Server::Go,
}
