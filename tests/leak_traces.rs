//! Traces of real servers (see `tests/traces/README.md`) through `stanch replay`.

use std::process::Command;

fn replay(trace: &str) -> serde_json::Value {
    let path = format!("{}/tests/traces/{trace}.csv", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_stanch"))
        .args(["replay", "--json", "--limit", "512MiB", &path])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn healthy_servers_are_healthy() {
    for trace in
        ["java-cache", "java-churn", "node-churn", "node-lru", "python-cache", "python-churn"]
    {
        let report = replay(trace);
        // A heap that has not flattened yet at the end is not judged, and may be a suspect.
        let unfinished = ["java-cache", "node-lru", "python-cache"].contains(&trace);
        let allowed = if unfinished { ["healthy", "unjudged"] } else { ["healthy"; 2] };
        assert!(allowed.contains(&report["verdict"].as_str().unwrap()), "{report}");
        assert!(report["detected_at_s"].is_null(), "{report}");
        assert!(unfinished || report["eta_s"].is_null(), "{report}");
    }
}

#[test]
fn leaking_servers_leak() {
    for trace in ["node-leak", "python-leak"] {
        let report = replay(trace);
        assert_eq!(report["verdict"], "leak", "{report}");
        // Long before the end of the trace, which is at 300 s and 57% of the limit.
        assert!(report["detected_at_s"].as_f64().unwrap() < 240.0, "{report}");
        assert!(report["eta_s"].as_f64().unwrap() > 100.0, "{report}");
    }
}

#[test]
fn a_leak_fails_only_where_asked_and_a_bad_file_always() {
    let run = |args: &[&str]| {
        let folder = format!("{}/tests/traces", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_stanch"));
        command.current_dir(folder).arg("replay").args(["--limit", "512MiB"]).args(args);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&["node-leak.csv"]).0, Some(0));
    assert_eq!(run(&["--fail-on-leak", "node-leak.csv", "node-churn.csv"]).0, Some(1));
    assert_eq!(run(&["--fail-on-leak", "node-churn.csv"]).0, Some(0));
    let (code, message) = run(&["README.md", "no-such.csv"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("README.md, line 1: no column t_s"), "{message}");
    assert!(message.contains("no-such.csv: cannot be opened"), "{message}");
}
