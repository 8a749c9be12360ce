//! Alerts as people get them: the real binary in trouble, and receivers on loopback that behave well
//! and badly.

#[path = "../common/mod.rs"]
mod common;
mod receiver;

use common::*;
use nix::sys::signal::Signal;
use receiver::{Reaction, Received, Receiver};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A worker that never comes up, so that its slot is held (an incident of the kind `crash_loop`), and
/// these alerts.
fn in_trouble(alerts: &str) -> String {
    config(&faulty("exit-at-once", free_address()), alerts)
}

fn config(app: &App, alerts: &str) -> String {
    let app = app.toml("shop", 1);
    format!(
        r#"{app}
        [restart]
        backoff_initial = "10ms"
        backoff_max = "50ms"
        intensity = {{ restarts = 3, within = "60s" }}
        {alerts}
        "#
    )
}

/// One alert about a held slot to this target.
fn alert(name: &str, to: &str) -> String {
    format!("[[alert]]\nwhen.kind = \"crash_loop\"\nto = {{ name = {name:?}, {to} }}\n")
}

/// Waits for what became of an alert.
#[track_caller]
fn outcome(stanch: &mut Stanch, to: &str, kind: &str, given_up: Option<bool>) -> Value {
    stanch.wait_until(&format!("{kind} {to} {given_up:?}"), |stanch| {
        stanch.event(&[kind], |event| {
            let figures = &event["figures"];
            figures["to"] == to && figures["given_up"].as_bool() == given_up
        })
    })
}

fn spool(place: &Place) -> Vec<PathBuf> {
    let folder = place.file("store.db.alerts");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("can be read").path()).collect()
}

fn incident_of(stanch: &mut Stanch, kind: &str) -> Value {
    stanch.wait_until(kind, |stanch| {
        stanch.incidents().into_iter().find(|incident| incident["kind"] == kind)
    })
}

#[test]
fn everybody_is_told_in_the_form_they_understand() {
    let receiver = Receiver::start(|_, _| Reaction::Answer(OK));
    let url = |path: &str| format!("http://{}{path}", receiver.address);
    let place = Place::new().with("ALERT_TOKEN", "t0k3n-of-inventory");
    fs::write(place.file("slack.url"), url("/services/s3cr3t") + "\n").unwrap();
    fs::write(place.file("pagerduty"), "r0ut1ng-k3y").unwrap();
    let told = place.file("told");
    let script = format!("(cat; echo; echo ---; env) > {told:?}; echo noted");
    let alerts = [
        alert(
            "inventory",
            &format!("webhook = {:?}, token = {{ env = \"ALERT_TOKEN\" }}", url("/json")),
        ),
        alert("slack", "webhook = { file = \"slack.url\" }, format = \"slack\""),
        alert(
            "pagerduty",
            &format!(
                "webhook = {:?}, format = \"pagerduty\", routing_key = {{ file = \"pagerduty\" }}",
                url("/enqueue")
            ),
        ),
        alert("manager", &format!("webhook = {:?}, format = \"alertmanager\"", url(""))),
        alert("mail", &format!("command = [\"sh\", \"-c\", {script:?}]")),
    ];
    let mut stanch = Stanch::start_in(place, &in_trouble(&alerts.concat()), Output::Log);
    for to in ["inventory", "slack", "pagerduty", "manager", "mail"] {
        let sent = outcome(&mut stanch, to, "alert_sent", None);
        assert_eq!(sent["figures"]["what"], "opened", "{sent}");
        assert_eq!(sent["figures"]["attempts"], 1, "{sent}");
    }
    let incident = incident_of(&mut stanch, "crash_loop");
    let id = &incident["id"];
    let one = |path: &str| -> Received {
        let mut all = receiver.of(path);
        assert_eq!(all.len(), 1, "{path}: {all:?}");
        all.remove(0)
    };
    let json = one("/json");
    assert_eq!(json.header("authorization"), Some("Bearer t0k3n-of-inventory"));
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(json.header("idempotency-key"), json.body["id"].as_str());
    assert_eq!(json.body["what"], "opened");
    assert_eq!(&json.body["incident"]["id"], id);
    assert_eq!(json.body["incident"]["severity"], "critical");
    assert!(json.body["runbook"].as_array().is_some_and(|lines| lines.len() > 2), "{json:?}");
    let head = json.body["head"].as_str().expect("the head of the audit log");
    assert_eq!(head.len(), 64, "{json:?}");
    let slack = one("/services/s3cr3t").body;
    assert_eq!(slack["blocks"][0]["type"], "header");
    assert!(slack["text"].as_str().is_some_and(|text| text.starts_with("[critical] shop on ")));
    let pagerduty = one("/enqueue").body;
    assert_eq!(pagerduty["routing_key"], "r0ut1ng-k3y");
    assert_eq!(pagerduty["event_action"], "trigger");
    assert!(pagerduty["dedup_key"].as_str().is_some_and(|key| key.ends_with(id.as_str().unwrap())));
    assert_eq!(one("/api/v2/alerts").body[0]["labels"]["incident"], *id);

    let told = fs::read_to_string(told).unwrap();
    let (object, environment) = told.split_once("\n---\n").expect("both parts");
    let object: Value = serde_json::from_str(object).unwrap_or_else(|e| panic!("{e}: {told}"));
    assert_eq!(&object["incident"]["id"], id);
    assert!(environment.contains("STANCH_SEVERITY=critical"), "{environment}");
    assert!(environment.contains("STANCH_SUBJECT=[critical] shop on "), "{environment}");
    let mail = outcome(&mut stanch, "mail", "alert_sent", None);
    assert!(mail["reason"].as_str().is_some_and(|reason| reason.ends_with("noted")), "{mail}");

    // Secrets went to their receivers and nowhere else.
    assert!(!environment.contains("t0k3n"), "{environment}");
    let mut said = stanch.place().log();
    said.extend(stanch.events().iter().map(Value::to_string));
    for secret in ["t0k3n", "s3cr3t", "r0ut1ng"] {
        assert!(!said.contains(secret), "{secret} is in: {said}");
    }
    wait_until(PATIENCE, "the spool is empty", || spool(stanch.place()).is_empty().then_some(()));
    stanch.stop_clean();
}

#[test]
fn workers_do_not_inherit_secrets_of_alerts() {
    let receiver = Receiver::start(|_, _| Reaction::Answer(OK));
    let to =
        format!("webhook = \"http://{}/\", token = {{ env = \"ALERT_TOKEN\" }}", receiver.address);
    let address = free_address();
    let text = config(&Server::PythonHttp.app(address), &alert("a", &to));
    let place = Place::new().with("ALERT_TOKEN", "t0k3n").with("OTHER_TOKEN", "0th3r");
    let mut stanch = Stanch::start_in(place, &text, Output::Log);
    stanch.wait_ready(1);
    let pid = stanch.workers()[0]["pid"].clone();
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(environment.contains("0th3r") && !environment.contains("t0k3n"), "{environment}");
    stanch.stop_clean();
}

#[test]
fn receivers_that_fail_are_tried_again_and_hold_up_nobody() {
    let elsewhere = Receiver::start(|_, _| Reaction::Answer(OK));
    let location = format!(
        "HTTP/1.1 301 Moved\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        elsewhere.address
    );
    let detour = location.replace("301 Moved", "302 Found");
    let receiver = Receiver::start(move |path, nth| match (path, nth) {
        ("/500", 0) => Reaction::Answer("HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nouch"),
        ("/429", 0) => {
            Reaction::Answer("HTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n")
        }
        ("/hang", 0) => Reaction::Hang,
        ("/close", 0) => Reaction::Answer(""),
        ("/slow", _) => Reaction::AnswerAndHang("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"),
        ("/slow-error", 0) => {
            Reaction::AnswerAndHang("HTTP/1.1 503 No\r\ncontent-length: 99999999\r\n\r\nlater")
        }
        ("/404-t0k3n", _) => Reaction::Answer(
            "HTTP/1.1 404 No\r\ncontent-length: 29\r\n\r\nno route /404-t0k3n was found",
        ),
        ("/detour", 0) => Reaction::Text(detour.clone()),
        ("/redirect", _) => Reaction::Text(location.clone()),
        _ => Reaction::Answer(OK),
    });
    let paths =
        ["500", "429", "hang", "close", "slow", "slow-error", "404-t0k3n", "redirect", "detour"];
    let place = Place::new();
    let mut text = String::new();
    for path in paths {
        fs::write(place.file(path), format!("http://{}/{path}", receiver.address)).unwrap();
        text += &alert(path, &format!("webhook = {{ file = {path:?} }}, timeout = \"5s\""));
    }
    let mut stanch = Stanch::start_in(place, &in_trouble(&text), Output::Log);
    let error = |event: Value| event["reason"].as_str().unwrap_or_default().to_owned();

    for (to, words) in [
        ("500", "500 Internal Server Error: ouch"),
        ("429", "429 Too Many Requests"),
        ("hang", "no answer within 5 s"),
        ("close", "does not speak HTTP"),
        ("detour", "302 Found and points"),
        ("slow-error", "503 Service Unavailable: later"),
    ] {
        let failed = error(outcome(&mut stanch, to, "alert_failed", Some(false)));
        assert!(failed.contains(words), "{to}: {failed}");
        let sent = outcome(&mut stanch, to, "alert_sent", None);
        assert_eq!(sent["figures"]["attempts"], 2, "{sent}");
    }
    let times = receiver.of("/429");
    let pause = times[1].at - times[0].at;
    assert!(pause >= Duration::from_secs(3), "{pause:?}");
    // The head of an answer says it all.
    let sent = outcome(&mut stanch, "slow", "alert_sent", None);
    assert_eq!(sent["figures"]["attempts"], 1, "{sent}");
    // What will not change is not tried again, and the secret in the answer is masked.
    let refused = error(outcome(&mut stanch, "404-t0k3n", "alert_failed", Some(true)));
    assert!(refused.contains("404 Not Found: no route [secret] was found"), "{refused}");
    let redirected = error(outcome(&mut stanch, "redirect", "alert_failed", Some(true)));
    assert!(redirected.contains("redirects are not followed"), "{redirected}");
    assert_eq!((receiver.of("/404-t0k3n").len(), receiver.of("/redirect").len()), (1, 1));
    assert!(elsewhere.all().is_empty(), "a redirect was followed: {:?}", elsewhere.all());
    stanch.stop_clean();
}

#[test]
fn an_alert_survives_a_kill_of_stanch() {
    let address = free_address();
    let to = format!("webhook = \"http://{address}/\"");
    let mut stanch = Stanch::start(&in_trouble(&alert("ops", &to)));
    let failed = outcome(&mut stanch, "ops", "alert_failed", Some(false));
    let reason = failed["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("cannot connect to 127.0.0.1: "), "{reason}");
    let id = failed["incident"].clone();
    kill(stanch.pid(), Signal::SIGKILL);
    stanch.wait_end();
    assert_eq!(spool(stanch.place()).len(), 1);

    let receiver = Receiver::at(address, |_, _| Reaction::Answer(OK));
    stanch.restart();
    stanch.wait_until("the alert of the first life is told", |stanch| {
        stanch.event(&["alert_sent"], |event| event["incident"] == id)
    });
    let told = receiver.all().into_iter().filter(|told| told.body["incident"]["id"] == id);
    assert_eq!(told.count(), 1);
    wait_until(PATIENCE, "the spool is empty", || spool(stanch.place()).is_empty().then_some(()));
    stanch.stop_clean();
}

#[test]
fn what_waits_when_stanch_is_killed_is_told_once() {
    let receiver = Receiver::start(|_, nth| match nth {
        0 => Reaction::Hang,
        _ => Reaction::Answer(OK),
    });
    let to = format!("webhook = \"http://{}/\"", receiver.address);
    let mut stanch = Stanch::start(&in_trouble(&alert("ops", &to)));
    // The log knows of no outcome yet.
    stanch.wait_until("the receiver is asked", |_| receiver.all().pop());
    kill(stanch.pid(), Signal::SIGKILL);
    stanch.wait_end();
    assert_eq!(spool(stanch.place()).len(), 1);

    stanch.restart();
    stanch.wait_until("somebody looks at it", |stanch| {
        (stanch.command(&["incidents", "ack", "last"]).code == Some(0)).then_some(())
    });
    // Of letters to one target none overtakes another: after this one no earlier one can come.
    stanch.wait_until("the last letter is told", |_| {
        receiver.all().into_iter().find(|told| told.body["what"] == "acknowledged")
    });
    let told: Vec<_> = receiver.all().into_iter().map(|told| told.body["what"].clone()).collect();
    assert_eq!(told, ["opened", "opened", "acknowledged"]);
    stanch.stop_clean();
}

#[test]
fn who_acknowledges_is_named_and_others_are_left_alone() {
    let receiver = Receiver::start(|_, _| Reaction::Answer(OK));
    let url = |path: &str| format!("webhook = \"http://{}{path}\"", receiver.address);
    let alerts = format!(
        r#"
        [[alert]]
        when.kind = "crash_loop"
        to = [{{ name = "ops", {} }}, {{ name = "dev", {} }}]
        escalate_after = "1h"
        [[alert]]
        when.kind = "start_failure"
        to = [{{ name = "ops2", {} }}, {{ name = "dev2", {} }}]
        escalate_after = "1s"
        "#,
        url("/ops"),
        url("/dev"),
        url("/ops2"),
        url("/dev2"),
    );
    let mut stanch = Stanch::start(&in_trouble(&alerts));
    let incident = incident_of(&mut stanch, "crash_loop");
    let id = incident["id"].as_str().unwrap().to_owned();
    assert_eq!(incident["acknowledged"], Value::Null);
    let answer = stanch.command(&["incidents", "ack", &id, "--by", "ada"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let event = stanch.wait_until("the acknowledgement is written", |stanch| {
        stanch.event(&["incident_acknowledged"], |_| true)
    });
    assert_eq!(event["figures"]["by"], "ada", "{event}");
    assert!(event["figures"]["from"].as_str().is_some_and(|from| from.starts_with("uid ")));
    stanch.wait_until("operations learn of it", |_| {
        receiver.of("/ops").iter().any(|told| told.body["what"] == "acknowledged").then_some(())
    });
    let list = stanch.wait_until("the incident has it", |stanch| {
        stanch.incidents().into_iter().find(|incident| incident["acknowledged"]["by"] == "ada")
    });
    assert_eq!(list["id"], *id);
    let store = stanch.place().store().display().to_string();
    let show = stanch.place().stanch(&["incidents", "show", &id, "--store", &store]).output();
    let show = String::from_utf8(show.unwrap().stdout).unwrap();
    assert!(show.contains("looked at by ada since "), "{show}");

    let again = stanch.command(&["incidents", "ack", &id]);
    assert!(again.code == Some(0) && again.stdout.contains("by ada at"), "{again:?}");
    let unknown = stanch.command(&["incidents", "ack", "20010101T000000Z"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("no incident"), "{unknown:?}");

    // The other incident nobody looks at.
    outcome(&mut stanch, "dev2", "alert_sent", None);
    assert_eq!(receiver.of("/dev2")[0].body["what"], "escalated");
    assert!(receiver.of("/dev").is_empty());
    stanch.stop_clean();
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let script = "echo still at it; sleep 86397 & sleep 86397";
    let to = format!("command = [\"sh\", \"-c\", {script:?}], timeout = \"1s\"");
    let mut stanch = Stanch::start(&in_trouble(&alert("mail", &to)));
    let failed = outcome(&mut stanch, "mail", "alert_failed", Some(false));
    let reason = failed["reason"].as_str().unwrap_or_default();
    assert!(reason.ends_with("sh was killed after 1 s: still at it"), "{reason}");
    let sleeps = |stanch: &Stanch| {
        let pids = stanch.place().processes().into_iter();
        let lines = pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
        lines.filter(|line| line.contains("sleep\u{0}86397")).count()
    };
    // The next try starts others; those of the first are gone.
    wait_until(PATIENCE, "none but those of one try are left", || {
        (sleeps(&stanch) <= 2).then_some(())
    });
    stanch.stop();
}

#[test]
fn a_command_that_fails_says_why() {
    let to = "command = [\"sh\", \"-c\", \"echo the relay is down >&2; exit 3\"]";
    let mut stanch = Stanch::start(&in_trouble(&alert("mail", to)));
    let failed = outcome(&mut stanch, "mail", "alert_failed", Some(false));
    let reason = failed["reason"].as_str().unwrap_or_default();
    assert!(reason.ends_with("sh ended with exit code 3: the relay is down"), "{reason}");
    stanch.stop_clean();
}

#[test]
fn https_is_spoken_with_those_whom_the_host_trusts() {
    let place = Place::new();
    let (key, certificate) = (place.file("key.pem"), place.file("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "basicConstraints=CA:FALSE"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    let receiver = Receiver::tls(&key, &certificate, |_, _| Reaction::Answer(OK));
    let to = format!("webhook = \"https://{}/\"", receiver.address);
    let text = in_trouble(&alert("ops", &to));

    let trusting = place.with("SSL_CERT_FILE", certificate.display().to_string());
    let mut stanch = Stanch::start_in(trusting, &text, Output::Log);
    outcome(&mut stanch, "ops", "alert_sent", None);
    assert_eq!(receiver.all().len(), 1);
    stanch.stop_clean();

    let mut stanch = Stanch::start(&text);
    let failed = outcome(&mut stanch, "ops", "alert_failed", Some(false));
    let reason = failed["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("no TLS connection to 127.0.0.1: invalid peer certificate"),
        "{reason}"
    );
    assert_eq!(receiver.all().len(), 1);
    stanch.stop_clean();
}
