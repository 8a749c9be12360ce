//! What the core needs of a checked configuration.

use super::hooks::HookSettings;
use super::{AlertRule, QuietWindow, Secret, Target};
use std::time::Duration;

/// Everything the decisions depend on. Made by `config`, in defaults by [`Settings::default`].
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Number of slots.
    pub workers: u32,
    /// Label of the application's version, carried by workers started from now on.
    pub release: Option<String>,
    /// A worker that is not ready by then has failed to start.
    pub ready_timeout: Duration,
    /// Liveness.
    pub health: HealthSettings,
    /// Memory limits.
    pub memory: MemorySettings,
    /// What to do about a leak.
    pub leak: LeakSettings,
    /// What to do about the release that leaks, if its leak is acted on.
    pub leaking_release: LeakingRelease,
    /// How workers are replaced.
    pub rolling: RollingSettings,
    /// How crashed workers are started again.
    pub restart: RestartSettings,
    /// Who is told of incidents.
    pub alerts: Vec<AlertRule>,
    /// What is learned of a worker before it goes.
    pub evidence: EvidenceSettings,
    /// Commands that tell others.
    pub hooks: HookSettings,
}

/// Liveness: what makes a worker hung.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSettings {
    /// Failed probes in a row; 0 switches probes off.
    pub failures: u32,
    /// The longest that it may go without a ping; it need not ping where there is none.
    pub watchdog: Option<Duration>,
}

/// Memory limits, in KiB.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MemorySettings {
    /// A worker over it is replaced with overlap.
    pub soft_limit_kib: Option<u64>,
    /// A worker over it is killed at once, then replaced.
    pub hard_limit_kib: Option<u64>,
    /// All workers together; over it the one that has grown most is replaced.
    pub total_limit_kib: Option<u64>,
    /// What the host has; with no limit at all it is what a leak runs into.
    pub host_kib: Option<u64>,
}

/// What a confirmed leak leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakAction {
    /// Replace the worker before it reaches the limit.
    Restart,
    /// Write it down, touch nothing.
    Alert,
    /// Do not judge.
    Off,
}

impl LeakAction {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LeakAction::Restart => "restart",
            LeakAction::Alert => "alert",
            LeakAction::Off => "off",
        }
    }
}

/// What a confirmed leak in a release leads to that was put in the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakingRelease {
    /// It stays; its leak is held.
    Alert,
    /// The one before takes its place again.
    RollBack,
}

impl LeakingRelease {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LeakingRelease::Alert => "alert",
            LeakingRelease::RollBack => "rollback",
        }
    }
}

/// The leak policy.
#[derive(Clone, Debug, PartialEq)]
pub struct LeakSettings {
    /// What to do about a confirmed leak.
    pub action: LeakAction,
    /// Samples of a worker younger than this are not judged.
    pub warm_up: Duration,
    /// Replace at the latest this long before the limit is forecast to be reached.
    pub lead_time: Duration,
    /// When replacements are felt least; measured where there is none.
    pub quiet_window: Option<QuietWindow>,
}

/// How workers are replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct RollingSettings {
    /// Start the replacement first, and retire the old worker when it is ready. Without it the old
    /// one is retired first, as far as `max_unavailable` allows.
    pub surge: bool,
    /// Whether a worker can start and be probed while another one of its slot lives: not where they need the
    /// same port.
    pub beside: bool,
    /// How long the part of the connections that a new worker gets takes to grow to a full one.
    pub slow_start: Duration,
    /// How many slots may be without a ready worker by our own action.
    pub max_unavailable: u32,
    /// From the stop signal to the kill of what is left.
    pub drain_timeout: Duration,
    /// At least this long from one automatic replacement to the next.
    pub cooldown: Duration,
    /// A worker older than this is replaced.
    pub max_age: Option<Duration>,
}

/// How crashed workers are started again.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartSettings {
    /// Upper bound of the first delay; the restart of a worker that had been healthy has none.
    pub backoff_initial: Duration,
    /// Upper bound of any delay.
    pub backoff_max: Duration,
    /// More crashes than this `within` hold the slot.
    pub restarts: u32,
    /// The window of `restarts`, and how long a worker must have been ready to count as healthy.
    pub within: Duration,
    /// A held slot is tried again after this long.
    pub held_pause: Duration,
}

/// What is learned of a worker before it goes.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct EvidenceSettings {
    /// How long the command of the configuration may keep a worker from being told to stop; `None`
    /// without one.
    pub command_timeout: Option<Duration>,
}

impl Settings {
    /// The most slots there can be: more is a slip of the finger.
    pub const WORKERS_MAX: u32 = 1024;

    /// What is done about a release that leaks: nothing where leaks are told only, or not looked for.
    pub fn on_leaking_release(&self) -> LeakingRelease {
        match self.leak.action {
            LeakAction::Restart => self.leaking_release,
            LeakAction::Alert | LeakAction::Off => LeakingRelease::Alert,
        }
    }

    /// Everybody who can be told of an incident.
    pub fn alert_targets(&self) -> impl Iterator<Item = &Target> {
        self.alerts.iter().flat_map(|rule| &rule.to)
    }

    /// The variables of the environment that hold secrets of alerts.
    pub fn alert_variables(&self) -> impl Iterator<Item = &str> {
        self.alert_targets().flat_map(Target::secrets).filter_map(|secret| match secret {
            Secret::Variable(name) => Some(name.as_str()),
            Secret::File(_) => None,
        })
    }

    /// The limit that a forecast for one worker aims at: its soft limit, else its hard limit, else
    /// its share of the total limit, else its share of nine tenths of the host's memory.
    pub fn forecast_limit_kib(&self) -> Option<u64> {
        let memory = &self.memory;
        let share = |total_kib: u64| total_kib / u64::from(self.workers.max(1));
        memory
            .soft_limit_kib
            .or(memory.hard_limit_kib)
            .or(memory.total_limit_kib.map(share))
            .or(memory.host_kib.map(|host_kib| share(host_kib / 10 * 9)))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            release: None,
            ready_timeout: Duration::from_secs(60),
            health: HealthSettings { failures: 3, watchdog: None },
            memory: MemorySettings::default(),
            leak: LeakSettings {
                action: LeakAction::Restart,
                warm_up: Duration::from_secs(60),
                lead_time: Duration::from_secs(600),
                quiet_window: None,
            },
            leaking_release: LeakingRelease::Alert,
            rolling: RollingSettings {
                surge: true,
                beside: true,
                slow_start: Duration::from_secs(1),
                max_unavailable: 0,
                drain_timeout: Duration::from_secs(30),
                cooldown: Duration::from_secs(10),
                max_age: None,
            },
            restart: RestartSettings {
                backoff_initial: Duration::from_millis(100),
                backoff_max: Duration::from_secs(30),
                restarts: 5,
                within: Duration::from_secs(60),
                held_pause: Duration::from_secs(600),
            },
            alerts: Vec::new(),
            evidence: EvidenceSettings::default(),
            hooks: HookSettings::default(),
        }
    }
}
