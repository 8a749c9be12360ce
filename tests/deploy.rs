//! `stanch deploy` with a real server whose releases are folders, and a link that says which is current.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::time::Duration;

/// Answers with the name of its folder. What a release does besides is put in the place of HABIT.
const SERVER: &str = r#"
const http = require("http"), path = require("path");
const label = path.basename(__dirname);
const server = http.createServer((request, response) => response.end(label));
HABIT
server.listen(process.env.LISTEN_FDS ? { fd: 3 } : +process.env.WHERE, "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
"#;
const GOOD: &str = "";
const DOES_NOT_START: &str = "process.exit(3);";
const CRASHES: &str = "setTimeout(() => process.exit(4), 3000);";
const CRASHES_WHEN_TOLD: &str =
    "setInterval(() => require('fs').existsSync('crash') && process.exit(4), 20);";
const LEAKS: &str = "const kept = []; setInterval(() => kept.push('x'.repeat(64 << 10) + kept.length, \
                     Buffer.alloc(256 << 10, 1)), 50);";

/// A shop with two workers, of which a release serves.
struct Shop {
    stanch: Stanch,
    address: SocketAddr,
    load: Load,
}

impl Shop {
    /// Release 1 serves, and there is load.
    fn open(more: &str) -> Self {
        Self::open_in("takeover", more)
    }

    fn open_in(mode: &str, more: &str) -> Self {
        Self::open_with(|_, address| config(address, mode, more))
    }

    fn open_with(text: impl FnOnce(&Place, SocketAddr) -> String) -> Self {
        let (place, address) = (Place::new(), free_address());
        release(&place, "1", GOOD);
        let text = text(&place, address);
        let mut stanch = Stanch::start_in(place, &text, Output::Log);
        stanch.wait_ready(2);
        let load = Load::start(address, Style::Connect, 3);
        load.wait_for(50);
        Self { stanch, address, load }
    }

    fn deploy(&self, label: &str, habit: &str) -> Answer {
        release(self.stanch.place(), label, habit);
        self.stanch.command(&["deploy"])
    }

    /// What the workers answer; each is asked, with luck.
    fn answers(&self) -> Vec<String> {
        let ask = |_| {
            let mut connection = Connection::open(self.address, Duration::from_secs(20)).unwrap();
            connection.get("/").unwrap().body
        };
        let mut all: Vec<String> = (0..30).map(ask).collect();
        all.sort();
        all.dedup();
        all
    }

    fn event(&mut self, kind: &str) -> Value {
        self.stanch.wait_until(kind, |stanch| stanch.event(&[kind], |_| true))
    }

    /// None but this release serves, and `status` knows.
    fn serves(&mut self, label: &str) {
        self.stanch.wait_until("its workers only", |stanch| {
            let workers = stanch.workers();
            let right = |worker: &Value| worker["release"] == label && worker["state"] == "ready";
            (workers.len() == 2 && workers.iter().all(right)).then_some(())
        });
        assert_eq!(self.answers(), [label]);
        assert_eq!(self.stanch.status()["release"], label);
    }

    fn close(mut self) {
        let tally = self.load.stop();
        assert_eq!(tally.failed(), 0, "{tally:?}");
        self.stanch.stop_clean();
    }
}

fn config(address: SocketAddr, mode: &str, more: &str) -> String {
    format!(
        "[app]\nname = \"shop\"\nworkers = 2\ndirectory = \"current\"\n\
         command = [\"node\", \"server.js\"]\nenvironment = {{ WHERE = \"{}\" }}\n\
         [listen]\naddress = [\"{address}\"]\nmode = \"{mode}\"\n\
         [ready]\ntimeout = \"20s\"\n[health]\ninterval = \"1s\"\ntimeout = \"2s\"\n\
         [rolling]\ndrain_timeout = \"10s\"\ncooldown = \"0s\"\nslow_start = \"0s\"\n\
         [release]\nfile = \"current/REVISION\"\n{more}\n",
        address.port()
    )
}

/// Its folder is there, and `current` leads to it.
fn release(place: &Place, label: &str, habit: &str) {
    let folder = place.file("releases").join(label);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("server.js"), SERVER.replace("HABIT", habit)).unwrap();
    std::fs::write(folder.join("REVISION"), format!("{label}\n")).unwrap();
    let _ = std::fs::remove_file(place.file("current"));
    symlink(&folder, place.file("current")).unwrap();
}

#[test]
fn a_release_takes_the_place_of_another_under_load() {
    let mut shop = Shop::open("");
    let answer = shop.deploy("2", GOOD);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.ends_with("release 2 serves in the place of 1\n"), "{answer:?}");
    shop.serves("2");
    assert_eq!(shop.stanch.status()["release_before"], "1");
    let (began, ended) = (shop.event("deploy_started"), shop.event("deploy_finished"));
    assert_eq!((&began["figures"]["from"], &began["figures"]["to"]), (&"1".into(), &"2".into()));
    assert_eq!(ended["cause"], "done", "{ended}");
    shop.close();
}

#[test]
fn a_release_that_does_not_start_is_not_switched_to() {
    let mut shop = Shop::open("");
    let answer = shop.deploy("2", DOES_NOT_START);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("release 2 was given up, and 1 serves again"), "{answer:?}");
    shop.serves("1");
    assert_eq!(shop.event("deploy_finished")["cause"], "rolled_back");
    // Who was there is there still.
    let generations: Vec<Value> =
        shop.stanch.workers().iter().map(|worker| worker["generation"].clone()).collect();
    assert!(generations.contains(&1.into()), "{generations:?}");
    shop.close();
}

/// The link leads to the bad release when workers of the good one are started again.
#[test]
fn a_release_that_crashes_when_all_are_replaced_is_gone_back_from() {
    let mut shop = Shop::open("");
    let answer = shop.deploy("2", CRASHES);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("ended by itself: exit code 4"), "{answer:?}");
    shop.serves("1");
    let back = shop.event("release_rolled_back");
    assert!(back["incident"].is_string(), "{back}");

    // It comes neither with a reload nor with a crash.
    let answer = shop.stanch.command(&["reload", "--roll"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(
        answer
            .stdout
            .starts_with("rolled back, and not in force (`stanch deploy` tries it again):\n"),
        "{answer:?}"
    );
    shop.serves("1");
    // Nor in a new program, which would read it.
    let answer = shop.stanch.command(&["upgrade"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("app.release: 1 → 2"), "{answer:?}");

    let answer = shop.deploy("3", GOOD);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    shop.serves("3");
    // What crashed took its connections along.
    drop(shop.load.stop());
    shop.stanch.stop_clean();
}

#[test]
fn a_release_that_leaks_gives_way_to_the_one_before() {
    let more = "on_leak = \"rollback\"\n[leak]\nwarm_up = \"2s\"\nlead_time = \"1s\"\n\
                [memory]\nsoft_limit = \"1500MiB\"\nsample_interval = \"200ms\"\n";
    let mut shop = Shop::open(more);
    // The leak may be seen before the deploy is done.
    let answer = shop.deploy("2", LEAKS);
    assert!(matches!(answer.code, Some(0 | 1)), "{answer:?}");
    let back = shop.event("release_rolled_back");
    let figures = &back["figures"];
    assert_eq!((&figures["from"], &figures["to"]), (&"2".into(), &"1".into()), "{back}");
    shop.serves("1");
    let incidents = shop.stanch.incidents();
    let leak = incidents.iter().find(|incident| incident["kind"] == "leak").expect("of the leak");
    assert_eq!(leak["release"], "2", "{leak}");
    assert!(leak["impact"]["workers_replaced"].as_u64() >= Some(1), "{leak}");
    assert_eq!(shop.stanch.status()["release_before"], Value::Null, "there is no way to and fro");
    shop.close();
}

/// What died in the middle of it goes on with what the configuration says, whether workers can bind without
/// the supervisor or not.
#[test]
fn a_deploy_whose_supervisor_is_killed_is_finished_by_the_next() {
    for mode in ["takeover", "inherit"] {
        let mut shop = Shop::open_in(mode, "");
        release(shop.stanch.place(), "2", GOOD);
        let answer = shop.stanch.command(&["deploy", "--no-wait"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let _ = shop.event("deploy_started");
        kill(shop.stanch.pid(), Signal::SIGKILL);
        shop.stanch.wait_end();
        shop.stanch.restart();
        assert_eq!(shop.event("deploy_finished")["cause"], "interrupted");
        shop.serves("2");
        shop.close();
    }
}

/// Each release says by a path of its own that it is well, and knows no other.
const SAYS_SO_ITSELF: &str = r#"
server.on("request", () => {}).removeAllListeners("request").on("request", (request, response) => {
    response.statusCode = ["/", "/well" + label].includes(request.url) ? 200 : 404;
    response.end(label);
});"#;

#[test]
fn workers_of_before_are_not_asked_for_what_only_the_next_release_knows() {
    let (place, address) = (Place::new(), free_address());
    release(&place, "1", SAYS_SO_ITSELF);
    let config = |label: &str| {
        let health =
            format!("[health]\npath = \"/well{label}\"\nfailures = 2\ninterval = \"100ms\"");
        let text = config(address, "takeover", "[restart]\nbackoff_max = \"1s\"");
        text.replace("[health]\ninterval = \"1s\"", &health)
    };
    let mut stanch = Stanch::start_in(place, &config("1"), Output::Log);
    stanch.wait_ready(2);
    kill(stanch.pid(), Signal::SIGKILL);
    stanch.wait_end();
    release(stanch.place(), "2", DOES_NOT_START);
    stanch.place().write_config(&config("2"));
    stanch.restart();
    // Many probes later.
    stanch.wait_until("it was tried twice", |stanch| {
        let aborted = |event: &&Value| event["kind"] == "roll_aborted";
        (stanch.events().iter().filter(aborted).count() >= 2).then_some(())
    });
    assert_eq!(stanch.event(&["worker_hung"], |_| true), None);
    let workers = stanch.workers();
    let well = |worker: &Value| worker["release"] == "1" && worker["state"] == "ready";
    assert_eq!(workers.iter().filter(|worker| well(worker)).count(), 2, "{workers:?}");
    stanch.stop();
}

#[test]
fn where_a_link_leads_meanwhile_is_nobodys_business() {
    let mut shop = Shop::open("");
    release(shop.stanch.place(), "2", GOOD);
    let pid = shop.stanch.workers()[0]["pid"].as_i64().expect("it runs");
    kill(pid as i32, Signal::SIGKILL);
    shop.stanch.wait_until("it is started again", |stanch| stanch.ready_after(0, 1));
    shop.serves("1");
    let answer = shop.stanch.command(&["deploy"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    shop.serves("2");
    drop(shop.load.stop());
    shop.stanch.stop_clean();
}

/// As it was started, whatever is in force by then.
#[test]
fn hooks_of_a_worker_run_in_its_release() {
    let hook = |name: &str| {
        format!(
            "on_{name} = [\"sh\", \"-c\", \"echo {name} $STANCH_RELEASE $(basename $(pwd -P)) >>../../told\"]\n"
        )
    };
    let mut shop = Shop::open(&format!("[hooks]\n{}{}", hook("drain"), hook("retired")));
    let told = shop.stanch.place().file("told");
    let answer = shop.deploy("2", GOOD);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let mut lines = shop.stanch.wait_until("both are gone", |_| {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() == 4).then_some(lines)
    });
    lines.sort();
    assert_eq!(lines, ["drain 1 1", "drain 1 1", "retired 1 1", "retired 1 1"]);

    std::fs::remove_dir_all(shop.stanch.place().file("releases").join("2")).unwrap();
    let answer = shop.deploy("3", GOOD);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for cause in ["on_drain", "on_retired"] {
        let failed = |event: &Value| event["cause"] == cause && event["release"] == "2";
        let event = shop.stanch.wait_until(cause, |stanch| stanch.event(&["hook_failed"], failed));
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains("could not be started: directory: "), "{reason}");
        assert!(reason.contains("releases/2"), "{reason}");
    }
    shop.close();
}

/// It did happen, and may be forgotten.
#[test]
fn that_the_end_of_a_deploy_is_not_on_disk_is_told_whatever_the_end() {
    let shop = Shop::open_with(|place, address| {
        std::fs::write(place.store(), b"This is no database.\n".repeat(100)).unwrap();
        config(address, "takeover", "")
    });
    let answer = shop.deploy("2", DOES_NOT_START);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("and 1 serves again"), "{answer:?}");
    let not_yet = "; written down, not yet on disk (`stanch status` tells why)";
    assert!(answer.stderr.contains(not_yet), "{answer:?}");
    let answer = shop.deploy("3", GOOD);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.contains("; taken, not yet on disk"), "{answer:?}");
    shop.close();
}

/// Whatever leads to the files of a release, `restart` brings none of another.
#[test]
fn a_link_in_the_command_is_followed_once() {
    for (directory, command) in [
        (".", r#"["node", "current/server.js"]"#),
        ("current", r#"["sh", "-c", "exec node PLACE/current/server.js"]"#),
    ] {
        let mut shop = Shop::open_with(|place, address| {
            let command = command.replace("PLACE", place.path().to_str().unwrap());
            config(address, "takeover", "")
                .replace(r#""current""#, &format!("{directory:?}"))
                .replace(r#"["node", "server.js"]"#, &command)
        });
        release(shop.stanch.place(), "2", GOOD);
        let answer = shop.stanch.command(&["restart"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        shop.serves("1");
        let answer = shop.stanch.command(&["deploy"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        shop.serves("2");
        assert_eq!(shop.stanch.status()["release_before"], "1");
        shop.close();
    }
}

/// Tidied away by who keeps only the last releases.
#[test]
fn what_serves_stays_where_there_is_nothing_to_go_back_to() {
    let mut shop = Shop::open("");
    let [before, folder] = ["1", "2"].map(|label| shop.stanch.place().file("releases").join(label));
    release(shop.stanch.place(), "2", CRASHES_WHEN_TOLD);
    let answer = shop.stanch.command(&["deploy", "--no-wait"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    shop.stanch.wait_until("all are replaced", |stanch| stanch.event(&["roll_finished"], |_| true));
    std::fs::remove_dir_all(before).unwrap();
    std::fs::write(folder.join("crash"), "").unwrap();
    let ended = shop.event("deploy_finished");
    std::fs::remove_file(folder.join("crash")).unwrap();
    assert_eq!(ended["cause"], "failed", "{ended}");
    let reason = ended["reason"].as_str().unwrap();
    assert!(reason.contains("; on the way back: the new worker of slot"), "{reason}");
    // Whoever crashes next is started in a folder that is there.
    let forward = |event: &Value| event["cause"] == "no_way_back";
    let told = shop.stanch.event(&["release_rolled_back"], forward).expect("told");
    assert_eq!(shop.stanch.status()["release"], "2", "{told}");
    drop(shop.load.stop());
    shop.stanch.stop_clean();
}
