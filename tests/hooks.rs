//! Hook commands with a real server: when they run, what they are told, and that one which fails or hangs
//! is written down and keeps nobody.

mod common;

use common::*;
use std::fs;
use std::path::{Path, PathBuf};

/// One node worker with these hooks; `{told}` in them is the file that is returned.
fn start(hooks: &str) -> (Stanch, PathBuf) {
    let (address, place) = (free_address(), Place::new());
    let told = place.file("told");
    let app = Server::NodeHttp.app(address).toml("hooks", 1);
    let hooks = hooks.replace("{told}", told.to_str().unwrap());
    let mut stanch = Stanch::start_in(
        place,
        &format!(
            r#"{app}
            [listen]
            address = ["{address}"]
            [rolling]
            slow_start = "0s"
            drain_timeout = "5s"
            [hooks]
            {hooks}
            "#
        ),
        Output::Log,
    );
    stanch.wait_ready(1);
    (stanch, told)
}

fn lines(told: &Path) -> Vec<String> {
    fs::read_to_string(told).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn others_are_told_in_their_order_and_of_whom() {
    let tell = |name: &str| {
        format!(
            "on_{name} = [\"sh\", \"-c\", \"kill -0 {{pid}} 2>/dev/null && lives=lives; echo \
             $STANCH_HOOK $STANCH_APP $STANCH_WORKER {{pid}} $STANCH_ADDRESS $lives >>{{told}}\"]\n"
        )
    };
    let (mut stanch, told) = start(&["ready", "drain", "retired"].map(tell).concat());
    let first = stanch.workers().remove(0);
    stanch.wait_until("the first is announced", |_| (lines(&told).len() == 1).then_some(()));
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let second = stanch.workers().remove(0);
    stanch.wait_until("the farewell", |_| (lines(&told).len() == 4).then_some(()));
    let address = stanch.status()["listeners"][0]["address"].as_str().unwrap().to_owned();
    let (old, new) = (&first["pid"], &second["pid"]);
    assert_eq!(
        lines(&told),
        [
            format!("on_ready hooks 0.1 {old} {address} lives"),
            format!("on_ready hooks 0.2 {new} {address} lives"),
            format!("on_drain hooks 0.1 {old} {address} lives"),
            format!("on_retired hooks 0.1 {old} {address}"),
        ]
    );
    stanch.stop();
    let last = &lines(&told)[4..];
    assert_eq!(last.len(), 2, "the end waits for farewells: {last:?}");
    assert!(last[1].starts_with("on_retired hooks 0.2 "), "{last:?}");
}

#[test]
fn one_that_fails_or_hangs_is_written_down_and_keeps_nobody() {
    let (mut stanch, told) = start(
        "on_ready = [\"false\"]\n\
         on_drain = [\"sh\", \"-c\", \"echo $$ >{told}; sleep 1000\"]\n\
         on_retired = [\"/no/such/program\"]\n\
         timeout = \"300ms\"",
    );
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let mut reason = |hook: &str| {
        let event = stanch.wait_until(hook, |stanch| {
            stanch
                .event(&["hook_failed"], |event| event["cause"] == hook && event["generation"] == 1)
        });
        event["reason"].as_str().unwrap().to_owned()
    };
    let (ready, drain, retired) = (reason("on_ready"), reason("on_drain"), reason("on_retired"));
    assert!(ready.contains("hooks.on_ready of worker 0.1: ended with exit code 1"), "{ready}");
    assert!(drain.contains("was killed after 0.3 s"), "{drain}");
    assert!(retired.contains("/no/such/program"), "{retired}");
    let sleeper: i32 = lines(&told)[0].parse().unwrap();
    stanch.wait_until("the hook is gone", |_| {
        (!PathBuf::from(format!("/proc/{sleeper}")).exists()).then_some(())
    });
    assert_eq!(stanch.status()["state"], "running");
}
