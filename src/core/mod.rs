//! The decisions: worker lifecycle, restart budget, rolling plan, leak detection, memory policy,
//! incidents. Pure: no clock, no I/O, no randomness of its own.

mod action;
mod event;
mod id;
pub mod leak;
mod moment;
mod record;
mod sample;
mod settings;
pub mod units;

pub use action::Action;
pub use event::{Command, Event, ExitStatus, Refusal, Reply, Ticket};
pub use id::{Generation, Slot, WorkerId};
pub use moment::{Moment, Now};
pub use record::{Figures, Incident, IncidentId, IncidentState, Intent, Kind, Record, Severity};
pub use sample::Sample;
pub use settings::{
    HealthSettings, LeakAction, LeakSettings, MemorySettings, RestartSettings, RollingSettings,
    Settings,
};
