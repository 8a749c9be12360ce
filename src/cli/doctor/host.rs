//! The host itself: its clock, and what it is.

use super::Host;
use super::check::Check;
use jiff::Timestamp;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// When this program was not written yet, in seconds since 1970: 2026-01-01.
const EARLIEST_S: i64 = 1_767_225_600;

/// Wall clock and monotonic clock may part by this much without anybody having set the former.
const SLACK: Duration = Duration::from_secs(1);

/// Both clocks at the same moment.
pub(super) struct Clock {
    wall: Timestamp,
    monotonic: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { wall: Timestamp::now(), monotonic: Instant::now() }
    }

    /// Whether times in the audit log will be right; over the time since the start.
    pub fn check(&self) -> Check {
        let name = "clock";
        let now = Timestamp::now();
        let means = "times in the audit log are wrong; limits, timeouts and the leak detector go by \
                     the monotonic clock and are not affected";
        let remedy = "set the clock and keep it set (systemd-timesyncd, chrony)";
        if now.as_second() < EARLIEST_S {
            return Check::limited(name, format!("it says {now:.0}, before 2026"), means, remedy);
        }
        let passed = self.monotonic.elapsed();
        let wall = Duration::try_from(now.duration_since(self.wall)).unwrap_or_default();
        if wall.abs_diff(passed) > SLACK {
            let found = format!(
                "{:.1} s passed during these checks, and {:.1} s by the wall clock",
                passed.as_secs_f64(),
                wall.as_secs_f64()
            );
            return Check::limited(name, found, means, remedy);
        }
        let found = format!("it says {now:.0}, and went with the monotonic clock meanwhile");
        Check::ok(name, found, "times in the audit log are right")
    }
}

/// Which kernel.
pub(super) fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let found = format!("Linux {}, {}", release.trim(), std::env::consts::ARCH);
    Check::ok("kernel", found, "information only: what it allows is told above")
}

/// What looks like a container.
pub(super) fn container(host: &Host) -> Check {
    let mut hints = Vec::new();
    for file in ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"] {
        if Path::new(file).exists() {
            hints.push(file.to_owned());
        }
    }
    let root = host.procfs.root();
    let status = fs::read_to_string(root.join("self/status")).unwrap_or_default();
    let value =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
    if value("Seccomp:") == "2" {
        hints.push("a seccomp filter is in force".to_owned());
    }
    if value("NoNewPrivs:") == "1" {
        hints.push("no_new_privs is set".to_owned());
    }
    if value("NSpid:").contains(char::is_whitespace) {
        hints.push("a nested pid namespace".to_owned());
    }
    let found = match hints.as_slice() {
        [] => "no sign of one".to_owned(),
        hints => hints.join(", "),
    };
    Check::ok("container", found, "information only: what it forbids is told above")
}
