//! Versioned JSON types of the control API: the keys of `status --json` are a contract.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

fn yes() -> bool {
    true
}

/// The body of `POST /v1/restart`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The slot to restart; all in rolling fashion when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Whether the answer comes when it is done.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// The body of `POST /v1/drain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// The slot to empty.
    pub slot: u32,
    /// Whether the answer comes when it is done.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// The body of `POST /v1/scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The new number of slots.
    pub workers: u32,
    /// Whether the answer comes when it is done.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// The body of `POST /v1/reload`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Whether all workers are replaced afterwards.
    #[serde(default)]
    pub roll: bool,
}

/// The body of `POST /v1/deploy`, `/v1/stop`, `/v1/upgrade`, `/v1/pause` and `/v1/resume`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// Whether the answer comes when it is done.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// The body of `POST /v1/incidents/ack`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// The incident's name, the beginning of it, or `last`.
    pub incident: String,
    /// Who looks at it, where that is another than who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The answer of every request but `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done, or with `"wait": false` taken on.
    pub ok: bool,
    /// What was done, or why not; for people.
    pub message: String,
    /// What can be asked, where something else was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
}

/// The answer of `GET /v1/status`, and one object of `stanch status --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The application's name.
    pub app: String,
    /// The file that its configuration is read from, if it was started with one.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// The release that new workers get.
    pub release: Option<String>,
    /// The one before, if it can be gone back to.
    #[serde(default)]
    pub release_before: Option<String>,
    /// `starting`, `running`, `paused`, `degraded` (a slot without a ready worker), `stopping`.
    pub state: String,
    /// Since the supervisor began.
    pub uptime_s: f64,
    /// The supervised addresses.
    pub listeners: Vec<Listener>,
    /// All workers together.
    pub memory: Memory,
    /// One entry a live worker (and one for a slot that has none: its last state).
    pub workers: Vec<Worker>,
    /// Incidents that are not resolved.
    pub incidents_open: u64,
    /// The audit log.
    #[serde(default)]
    pub store: Store,
}

/// Whether what is done is written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// `well`, or `degraded`: it cannot be written. Empty from a stanch that does not tell.
    pub state: String,
    /// Why it cannot be written.
    pub why: Option<String>,
    /// Events that are not on disk yet; more than a few only when it is degraded.
    pub waiting: u64,
}

/// A supervised address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// `127.0.0.1:8000`, `[::]:8000`, `unix:/run/app.sock`.
    pub address: String,
    /// `takeover`, `inherit`, `port`, `none`.
    pub mode: String,
    /// Connections that wait to be accepted, all workers together; `null` where stanch does not hold
    /// the sockets, and for a path.
    #[serde(default)]
    pub queued: Option<u64>,
    /// How many may wait for one worker.
    #[serde(default)]
    pub queue_limit: Option<u64>,
    /// Attempts to connect that the kernel turned away since the address is supervised, above all
    /// because the queue was full; a client's second try counts again.
    #[serde(default)]
    pub dropped: Option<u64>,
}

/// Memory of all workers together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Sum over the workers of anonymous + shared + swapped, in KiB.
    pub total_kib: Option<u64>,
    /// The configured limit.
    pub total_limit_kib: Option<u64>,
    /// Who holds hard limits: `cgroup2`, `cgroup1` or `polling`.
    pub enforced_by: String,
    /// What the hard limit is compared with: `charged` (by the kernel, page cache included) or
    /// `anon_shmem_swap`, which the soft and the total limit always are.
    #[serde(default)]
    pub hard_limit_compares: String,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its slot.
    pub slot: u32,
    /// Its leader, while it lives.
    pub pid: Option<i32>,
    /// Its generation.
    pub generation: u64,
    /// `starting`, `ready`, `draining`, `stopping`, `exited`, `backoff`, `held`.
    pub state: String,
    /// The release that it was started with.
    pub release: Option<String>,
    /// Since its command was started.
    pub age_s: Option<f64>,
    /// Resident memory of the tree.
    pub rss_kib: Option<u64>,
    /// Anonymous memory of the tree.
    pub anon_kib: Option<u64>,
    /// Threads of the tree.
    pub threads: Option<u64>,
    /// Open file descriptors of the tree.
    pub fds: Option<u64>,
    /// CPU of the tree between the last two samples; 100 is one processor.
    pub cpu_percent: Option<f64>,
    /// Established connections.
    pub connections: Option<u64>,
    /// How often the slot was started again.
    pub restarts: u64,
    /// What the leak detector says.
    pub leak: Leak,
    /// What the worker says that it does (`STATUS=`): one line, at most 200 characters.
    #[serde(default)]
    pub status_text: Option<String>,
    /// It is to be replaced.
    #[serde(default)]
    pub due: Option<Due>,
}

/// A replacement that is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Due {
    /// `leak`, `soft_limit`, `total_limit`, `host_pressure`, `hang`, `max_age`, `adopted`.
    pub cause: String,
    /// The same for people.
    pub reason: String,
    /// Until it may begin; `null` while it is under way, or automatic action is paused.
    pub in_s: Option<f64>,
}

/// What the leak detector says of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leak {
    /// `unjudged`, `healthy`, `suspect`, `leak`.
    pub verdict: String,
    /// Growth, where there is one.
    pub slope_kib_s: Option<f64>,
    /// Until the nearest limit is reached at this slope.
    pub eta_s: Option<f64>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// The verdict's reason, for people; of an unjudged one, what it waits for.
    #[serde(default)]
    pub reason: String,
}
