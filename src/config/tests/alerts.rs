//! `[[alert]]`: what is meant, and that secrets have no place in the file.

use super::{accepted, errors, with_command};
use crate::core::{AlertRule, Format, Given, Secret, Severity, Target, Topic, Way};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn rules(text: &str) -> Vec<AlertRule> {
    accepted(&with_command(text)).settings.alerts
}

fn target(name: &str, way: Way, timeout_s: u64) -> Target {
    Target { name: name.to_owned(), way, timeout: Duration::from_secs(timeout_s) }
}

#[test]
fn everything_that_is_typed_is_meant() {
    let text = r#"
        [[alert]]
        when = { severity = "major", kind = ["leak", "crash_loop"] }
        to = [
            { name = "ops", webhook = { file = "slack.url" }, format = "slack", timeout = "3s" },
            { format = "pagerduty", routing_key = { env = "PD" } },
            { command = ["./tell", "dev"] },
        ]
        escalate_after = "1m"
        [[alert]]
        to = { webhook = "http://127.0.0.1:9093", format = "alertmanager", token = { file = "/t" } }
        "#;
    let config = super::parse(&with_command(text), Path::new("/etc/stanch/f")).expect("is right");
    let file = |path: &str| Secret::File(PathBuf::from(path));
    let webhook = |url, format, secret| Way::Webhook { url, format, secret };
    let plain = |url: &str| Given::Plain(url.to_owned());
    let slack = webhook(Given::Secret(file("/etc/stanch/slack.url")), Format::Slack, None);
    let key = Some(Secret::Variable("PD".to_owned()));
    let pagerduty =
        webhook(plain("https://events.pagerduty.com/v2/enqueue"), Format::PagerDuty, key);
    let command = Way::Command(["/etc/stanch/./tell", "dev"].map(str::to_owned).to_vec());
    let manager = webhook(plain("http://127.0.0.1:9093"), Format::Alertmanager, Some(file("/t")));
    let expected = [
        AlertRule {
            severity: Severity::Major,
            kinds: vec![Topic::Leak, Topic::CrashLoop],
            to: vec![
                target("ops", slack, 3),
                target("pagerduty", pagerduty, 10),
                target("tell", command, 30),
            ],
            escalate_after: Duration::from_secs(60),
        },
        AlertRule {
            severity: Severity::Minor,
            kinds: Vec::new(),
            to: vec![target("alertmanager", manager, 10)],
            escalate_after: Duration::from_secs(900),
        },
    ];
    assert_eq!(config.settings.alerts, expected);
    let hidden: Vec<_> = config.settings.alert_variables().collect();
    assert_eq!(hidden, ["PD"]);
}

#[test]
fn a_program_is_found_beside_the_file_or_in_path() {
    let program = |text: &str| {
        let text = with_command(&format!("[[alert]]\nto = {{ command = [{text:?}] }}"));
        let config = super::parse(&text, Path::new("f")).expect("is right");
        match &config.settings.alerts[0].to[0].way {
            Way::Command(argv) => argv[0].clone(),
            Way::Webhook { .. } => panic!("a command was typed"),
        }
    };
    assert_eq!(program("mail"), "mail");
    assert_eq!(program("bin/tell"), "./bin/tell");
    assert_eq!(program("/usr/bin/mail"), "/usr/bin/mail");
}

#[test]
fn a_plain_url_may_stand_in_the_file() {
    for url in [
        "https://alerts.example/",
        "http://alertmanager.monitoring.svc.cluster.local:9093/api/v2/alerts",
        "https://example.org/hooks/incident-notifications-production",
    ] {
        let text = format!("[[alert]]\nto = {{ webhook = {url:?} }}");
        assert_eq!(rules(&text).len(), 1, "{url}");
    }
}

/// What each says, `K3Y` standing for a secret.
const MISTAKES: &[(&str, &str)] = &[
    ("[[alert]]", "2:1: alert.to: names nobody to tell"),
    ("[[alert]]\nto = []", "2:1: alert.to: names nobody to tell"),
    ("[[alert]]\nto = 'x'", "3:6: alert.to: must be a table, { … }, or an array of tables, not a"),
    ("[alert]\nto = 1", "2:2: alert: must be sections, [[alert]], not a table"),
    ("[[alert]]\nto = {}", "3:6: alert.to: needs webhook"),
    (
        "[[alert]]\nto = { webhok = 'http://a/' }",
        "3:8: alert.to.webhok: unknown key (did you mean webhook?)",
    ),
    (
        "[[alert]]\nwhen = { severity = 'mayor' }\nto = { command = ['x'] }",
        "3:21: alert.when.severity: \"mayor\" is none of \"minor\", \"major\" and \"critical\" (did you mean \"major\"?)",
    ),
    (
        "[[alert]]\nwhen = { kind = 'crashloop' }\nto = { command = ['x'] }",
        "(did you mean \"crash_loop\"?)",
    ),
    (
        "[[alert]]\nto = { command = ['x'], webhook = 'http://a/' }",
        "alert.to.command: is told by a webhook or by a command",
    ),
    (
        "[[alert]]\nto = { command = ['x'], format = 'slack' }",
        "alert.to.format: is for webhooks; a command gets JSON",
    ),
    ("[[alert]]\nto = { format = 'pagerduty' }", "PagerDuty needs a routing_key: write { file"),
    (
        "[[alert]]\nto = { format = 'pagerduty', routing_key = 'K3Y' }",
        "3:44: alert.to.routing_key: a secret does not belong into this file: write { file",
    ),
    (
        "[[alert]]\nto = { webhook = 'http://a/', token = 'K3Y' }",
        "alert.to.token: a secret does not belong into this file",
    ),
    (
        "[[alert]]\nto = { webhook = 'http://a/', token = { file = 'a', env = 'b' } }",
        "alert.to.token: must name a file or a variable",
    ),
    (
        "[[alert]]\nto = { webhook = 'https://hooks.slack.com/services/K3Y', format = 'slack' }",
        "3:18: alert.to.webhook: the URL holds a secret",
    ),
    (
        "[[alert]]\nto = { webhook = 'https://u:K3Y@example.org/' }",
        "alert.to.webhook: the URL holds a secret",
    ),
    (
        "[[alert]]\nto = { webhook = 'https://example.org/?token=K3Y' }",
        "alert.to.webhook: the URL holds a secret",
    ),
    (
        "[[alert]]\nto = { webhook = 'https://example.org/hooks/aK3Y4e5f6a7b8c9d0e1f2a3b' }",
        "alert.to.webhook: the URL holds a secret",
    ),
    (
        "[[alert]]\nto = { webhook = 'file:///K3Y' }",
        "alert.to.webhook: must be a URL that begins with https://",
    ),
    (
        "[[alert]]\nto = { webhook = 'http://a/' }\nescalate_after = '1m'",
        "4:18: alert.escalate_after: there is nobody to escalate to",
    ),
    (
        "[[alert]]\nto = [{ webhook = 'http://a/' }, { webhook = 'http://b/' }]",
        "3:34: alert.to: \"json\" is told already; give each a name",
    ),
    (
        "[[alert]]\nto = { webhook = 'http://a/' }\n[[alert]]\nto = { webhook = 'http://b/' }",
        "5:6: alert.to: \"json\" is somebody else in another alert",
    ),
    (
        "[[alert]]\nto = { webhook = 'http://a/', token = { env = 'T' } }",
        "alert.to.webhook: would send a secret in clear text to another host; use https://",
    ),
    (
        "[[alert]]\nto = { command = ['./tell', '--token', 'K3Y'] }",
        "alert.to.command: holds what looks like a secret",
    ),
    (
        "[[alert]]\nto = { command = ['curl', 'https://hooks.slack.com/services/K3Y'] }",
        "alert.to.command: holds what looks like a secret",
    ),
    (
        "[[alert]]\nto = { webhook = 'http://a/', timeout = '1h' }",
        "alert.to.timeout: must be at most 10m",
    ),
];

#[test]
fn mistakes_are_explained_and_repeat_no_secret() {
    for (text, expected) in MISTAKES {
        let errors = errors(&with_command(text));
        assert!(errors.contains(expected), "{expected}\nin\n{errors}\nof\n{text}");
        assert!(!errors.contains("K3Y"), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_target_may_serve_several_alerts() {
    let both = "to = { name = 'a', webhook = 'http://a/' }";
    assert_eq!(rules(&format!("[[alert]]\n{both}\n[[alert]]\n{both}")).len(), 2);
}
