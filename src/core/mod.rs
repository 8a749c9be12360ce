//! The decisions: worker lifecycle, restart budget, rolling plan, leak detection, memory policy,
//! incidents. Pure: no clock, no I/O, no randomness of its own.

mod action;
mod alert;
mod alerting;
mod departed;
mod deploy;
mod event;
pub mod evidence;
mod handover;
mod holding;
pub mod hooks;
mod id;
mod incidents;
pub mod leak;
mod legacy;
mod makeup;
mod moment;
pub mod pace;
mod quiet;
mod record;
pub mod reload;
mod roll;
mod sample;
mod settings;
mod siblings;
mod slot;
mod supervisor;
mod trend;
mod turn;
pub mod units;
mod weight;
pub mod words;
mod worker;

pub use action::Action;
pub use alert::{
    Alert, AlertFailure, AlertId, AlertRule, Forecast, Format, Given, Occasion, Secret, Target, Way,
};
pub use event::{Command, Event, ExitStatus, Left, OomKiller, Refusal, Reply, Ticket};
pub use evidence::{Captured, Grown, Growth, Inquiry};
pub use handover::{Handover, Succession};
pub use id::{Generation, Slot, WorkerId};
pub use incidents::Topic;
pub use legacy::{Hold, Hung, Legacy, Past, Standing, Survivor, Trace};
pub use makeup::Makeup;
pub use moment::{Moment, Now};
pub use quiet::QuietWindow;
pub use record::{
    Acknowledged, Figures, Incident, IncidentId, IncidentState, Intent, Intervention, Kind, Record,
    Severity,
};
pub use sample::Sample;
pub use settings::{
    EvidenceSettings, HealthSettings, LeakAction, LeakSettings, LeakingRelease, MemorySettings,
    RestartSettings, RollingSettings, Settings,
};
pub use supervisor::{DueView, LeakView, SlotView, Supervisor, View};
pub use trend::Bounds;
pub use weight::Weight;
