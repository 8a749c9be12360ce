//! From a leak in life to its replay: what `incidents export --samples` writes is judged as it was
//! judged live.

mod common;

use common::*;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The drill's leaking server under supervision; a session of so many KiB at each visit.
fn start(session: &str) -> (Stanch, std::net::SocketAddr) {
    let address = free_address();
    let program = env!("CARGO_BIN_EXE_stanch");
    let mut stanch = Stanch::start(&format!(
        r#"
        [app]
        name = "export"
        command = [{program:?}, "__leaky-server", "--address", "{address}", "--session", "{session}"]
        workers = 1
        [listen]
        address = ["{address}"]
        [memory]
        soft_limit = "160MiB"
        sample_interval = "250ms"
        [leak]
        action = "alert"
        warm_up = "5s"
        "#
    ));
    stanch.wait_ready(1);
    (stanch, address)
}

fn replay(trace: &Path, options: &[&str]) -> Value {
    let output = text(
        Command::new(env!("CARGO_BIN_EXE_stanch"))
            .args(["replay", "--json"])
            .args(options)
            .arg(trace),
    );
    serde_json::from_str(&output).expect("one line")
}

fn text(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("is text")
}

#[test]
fn a_leak_is_replayed_as_it_was_seen() {
    let (mut stanch, address) = start("64KiB");
    let confirmed = stanch.wait_until("the leak is confirmed", |stanch| {
        let mut connection = Connection::open(address, PATIENCE).ok()?;
        for _ in 0..10 {
            connection.get("/").ok()?;
        }
        stanch.event(&["leak_confirmed"], |_| true)
    });
    // The sample that was enough, live, is a few milliseconds younger in the trace.
    let age_s = confirmed["figures"]["age_s"].as_f64().expect("a figure");
    stanch.wait_until("more is recorded", |stanch| {
        Connection::open(address, PATIENCE).ok()?.get("/").ok()?;
        let now_s = stanch.workers().first()?["age_s"].as_f64()?;
        (now_s > age_s + 1.0).then_some(())
    });
    let store = stanch.place().store();
    let trace = stanch.place().file("trace.csv");
    // What waits to be written is written at the end.
    stanch.stop_clean();
    let exported = text(
        Command::new(env!("CARGO_BIN_EXE_stanch"))
            .args(["incidents", "export", "--samples", "--incident", "last", "--store"])
            .arg(store),
    );
    std::fs::write(&trace, &exported).expect("can be written");

    let report = replay(&trace, &[]);
    assert_eq!(report["verdict"], "leak", "{report}\n{exported}");
    let figure = |value: &Value| value.as_f64().expect("a figure");
    let live_s = figure(&confirmed["figures"]["age_s"]);
    let replayed_s = figure(&report["detected_at_s"]);
    // A sample at the border of a window may fall into the next one.
    assert!((live_s - replayed_s).abs() < 2.0, "live at {live_s} s, replayed {report}");
    let slopes = [&confirmed["figures"]["slope_kib_s"], &report["slope_kib_s"]].map(figure);
    assert!((slopes[0] / slopes[1] - 1.0).abs() < 0.2, "{slopes:?}");
    // It is the limit in the trace that makes it one so soon.
    let far = replay(&trace, &["--limit", "64GiB"]);
    assert_ne!(far["verdict"], "leak", "{far}");
}
