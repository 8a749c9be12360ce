//! What workers print, kept in files: `log.worker_output = "files"` and `stanch logs`.

mod common;

use common::*;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

/// Workers that count, a line every 20 ms; the second one says `two`.
const COUNTS: &str = r#"
i=0
while :; do i=$((i+1)); echo "slot $STANCH_SLOT counts $i"; sleep 0.02; done
"#;

fn start(script: &str, workers: u32, log: &str) -> Stanch {
    let app = App::new(["sh", "-c", script]).toml("talker", workers);
    let mut stanch = Stanch::start(&format!(
        "{app}\n[listen]\nmode = \"none\"\n[log]\nworker_output = \"files\"\n{log}\n"
    ));
    stanch.wait_ready(workers as usize);
    stanch
}

fn logs(stanch: &Stanch, arguments: &[&str]) -> Vec<String> {
    let config = stanch.place().file("stanch.toml");
    let mut command = stanch.place().stanch(&["logs", "--config"]);
    let output = command.arg(config).args(arguments).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn lines_are_kept_with_their_time_and_shown_by_slot() {
    let mut stanch = start(COUNTS, 2, "");
    let lines = stanch.wait_until("lines of both", |stanch| {
        let lines = logs(stanch, &["-n", "1000"]);
        let of =
            |slot: u32| lines.iter().any(|line| line.contains(&format!("slot {slot} counts 3")));
        (of(0) && of(1)).then_some(lines)
    });
    for line in &lines {
        let (time, rest) = line.split_once(' ').expect("a time");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
        let slot = &rest[1..2];
        assert!(rest.starts_with(&format!("[{slot}] slot {slot} counts ")), "{line}");
    }
    let of_one = logs(&stanch, &["1", "-n", "3"]);
    assert_eq!(of_one.len(), 3);
    assert!(of_one.iter().all(|line| line.contains(" [1] slot 1 counts ")), "{of_one:?}");
    assert!(!stanch.place().log().contains("counts"), "they go to the file alone");
    stanch.stop_clean();
}

#[test]
fn a_rotated_log_is_followed_and_read_as_one() {
    // Lines of half a kilobyte, ten at a time, so that the least size is reached soon.
    let script = format!(
        "x={}; i=0; while :; do i=$((i+1)); echo \"$i $x\"; [ $((i%10)) -gt 0 ] || sleep 0.01; done",
        "x".repeat(500)
    );
    let rotate = "rotate = { size = \"64KiB\", keep = 50 }\nflood_limit = 0\nformat = \"json\"";
    let mut stanch = start(&script, 1, rotate);
    let config = stanch.place().file("stanch.toml");
    let mut follow = stanch.place().stanch(&["logs", "-f", "-n", "1", "--config"]);
    let mut follow = follow.arg(config).stdout(Stdio::piped()).spawn().expect("runs");
    let number = |line: &str| -> u64 {
        let object: serde_json::Value = serde_json::from_str(line).expect("one object a line");
        assert_eq!((&object["slot"], &object["stream"]), (&0.into(), &"stdout".into()), "{line}");
        let text = object["line"].as_str().expect("text").split(' ').next();
        text.expect("a number").parse().expect("a number")
    };
    // Three files' worth, without a gap.
    let lines = BufReader::new(follow.stdout.take().expect("piped")).lines();
    let seen: Vec<u64> = lines.take(400).map(|line| number(&line.expect("read"))).collect();
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
    kill(i32::try_from(follow.id()).unwrap(), Signal::SIGKILL);
    let _ = follow.wait();
    stanch.stop_clean();
    let all: Vec<u64> = logs(&stanch, &["-n", "300"]).iter().map(|line| number(line)).collect();
    assert_eq!(all.len(), 300);
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
}

#[test]
fn a_full_disk_stops_nobody() {
    let full = Path::new("/dev/full");
    let mut stanch = start(COUNTS, 1, &format!("path = {full:?}"));
    let said = "the workers' output cannot be written";
    stanch.wait_until("it is said", |stanch| stanch.place().log().contains(said).then_some(()));
    let cpu = |stanch: &Stanch| stanch.workers()[0]["cpu_percent"].as_f64();
    stanch.wait_until("the worker goes on", |stanch| cpu(stanch).filter(|percent| *percent > 0.0));
    assert_eq!(stanch.workers()[0]["restarts"], 0);
    assert_eq!(stanch.place().log().matches(said).count(), 1, "once");
    stanch.stop_clean();
    let log = stanch.place().log();
    assert!(log.contains("lines of the workers' output never came to /dev/full"), "{log}");
}

#[test]
fn a_long_line_comes_as_several_and_as_no_empty_one() {
    let script = "for n in 16383 16384 16385 32768; do head -c $n /dev/zero | tr '\\0' x; echo; done; \
                  echo end; exec sleep 1000";
    let mut stanch = start(script, 1, "");
    let lines = stanch.wait_until("all lines", |stanch| {
        let lines = logs(stanch, &["-n", "1000"]);
        lines.last().is_some_and(|line| line.ends_with(" [0] end")).then_some(lines)
    });
    let lengths: Vec<usize> =
        lines.iter().filter_map(|line| Some(line.split_once("] ")?.1.len())).collect();
    assert_eq!(lengths, [16383, 16384, 16384, 1, 16384, 16384, 3]);
    stanch.stop_clean();
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let mut stanch = start(COUNTS, 1, "path = \"moved.log\"");
    let path = stanch.place().file("moved.log");
    let moved = path.with_extension("old");
    stanch.wait_until("the file", |_| path.exists().then_some(()));
    fs::rename(&path, &moved).expect("renames");
    kill(stanch.pid(), Signal::SIGUSR1);
    stanch.wait_until("another file", |_| path.exists().then_some(()));
    let last = logs(&stanch, &["-n", "1"]);
    assert!(last[0].contains("[0] slot 0 counts"), "{last:?}");
    stanch.stop_clean();
}

#[test]
fn a_flood_is_cut_and_counted() {
    let script = "seq 1 200000; while :; do sleep 1; done";
    let mut stanch = start(script, 1, "flood_limit = 100");
    let told = stanch.wait_until("what was dropped", |stanch| {
        let lines = logs(stanch, &["-n", "100000"]);
        let told = lines.iter().find(|line| line.contains("lines of this worker were dropped"));
        told.map(|told| (told.clone(), lines.len()))
    });
    let (told, lines) = told;
    assert!(lines < 2000, "{lines} were kept: {told}");
    stanch.stop_clean();
}

#[test]
fn what_was_printed_while_no_stanch_ran_is_no_flood() {
    let script = "until [ -e go ]; do sleep 0.01; done; seq 1 20000; touch done; sleep 600";
    let mut stanch = start(script, 1, "flood_limit = 1000");
    kill(stanch.pid(), Signal::SIGKILL);
    stanch.wait_end();
    fs::write(stanch.place().file("go"), "").expect("the folder can be written");
    let done = stanch.place().file("done");
    wait_until(PATIENCE, "all is printed", || done.exists().then_some(()));
    stanch.restart();
    let file = stanch.place().store().with_extension("log");
    stanch.wait_until("the last line", |stanch| {
        let last = file.exists().then(|| logs(stanch, &["-n", "1"]))?;
        last.first()?.ends_with(" 20000").then_some(())
    });
    assert_eq!(logs(&stanch, &["-n", "30000"]).len(), 20_000, "and all before it");
    stanch.stop_clean();
}

#[test]
fn what_is_not_kept_is_said() {
    let place = Place::new();
    place.write_config("[app]\ncommand = [\"sleep\", \"600\"]\n[listen]\nmode = \"none\"\n");
    let mut command = place.stanch(&["logs", "--config"]);
    let output = command.arg(place.file("stanch.toml")).output().expect("runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("log.worker_output = \"files\""), "{said}");
}
