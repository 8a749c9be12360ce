//! `stanch run` from one program to the next (`stanch upgrade`): what the faces leave beside the
//! runtime's estate, and how `run` begins with it.

use super::Failure;
use crate::core::Reply;
use crate::core::words::chain;
use crate::http::{Control, ControlFile};
use crate::linux::fdstore::Kept;
use crate::linux::handover::{self, Luggage, Parcel, Place, Program};
use crate::linux::nofile;
use crate::runtime::{EarlySignals, Estate, Inheritance};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use tokio::sync::oneshot;

/// What supervision begins with, besides the configuration.
#[derive(Default)]
pub struct Start {
    /// Whether it begins paused.
    pub dry_run: bool,
    pub control: Option<Control>,
    pub inheritance: Option<Inheritance>,
    /// Who asked for the upgrade, and what they shall be told.
    pub connection: Option<OwnedFd>,
    pub answer: Option<oneshot::Receiver<Reply>>,
    pub early: Option<EarlySignals>,
    /// What the service manager has kept.
    pub kept: Vec<Kept>,
}

impl Start {
    /// Whether another supervisor has left its workers to this one.
    pub fn succeeds(&self) -> bool {
        self.inheritance.is_some()
    }
}

/// The faces' part of the estate.
#[derive(Default, Serialize, Deserialize)]
struct Faces {
    /// The limit of open files that workers get.
    nofile: Option<(u64, u64)>,
    control: Option<(ControlFile, [Place; 2])>,
    connection: Option<Place>,
}

/// What a supervisor leaves.
pub struct Leaves {
    pub estate: Estate,
    pub luggage: Luggage,
    pub control: Option<Control>,
    pub connection: Option<OwnedFd>,
}

/// What was left to this process.
pub struct Received {
    parcel: Parcel,
    early: EarlySignals,
}

/// What another program has left to this process, if one has. To be called before there is a second
/// thread.
pub fn received() -> Result<Option<Received>, Failure> {
    let Some(parcel) = Parcel::received().map_err(lost)? else { return Ok(None) };
    let early = EarlySignals::note().map_err(lost)?;
    handover::allow_signals().map_err(lost)?;
    Ok(Some(Received { parcel, early }))
}

impl Received {
    /// What `run` begins with.
    pub fn start(self) -> Result<Start, Failure> {
        start(self.parcel, Some(self.early), None).map_err(lost)
    }
}

fn lost(error: io::Error) -> Failure {
    Failure::Fault(format!(
        "cannot take over what the program before handed over; the workers serve on without \
         supervision, until stanch is started again: {}",
        chain(&error)
    ))
}

impl Leaves {
    /// Has `program` take the place of this one. Returns only if it cannot: then with all that was to be
    /// left.
    pub fn execute(self, program: &Program, arguments: &[OsString]) -> Result<Start, Failure> {
        let from = self.estate.version().to_owned();
        let parcel = self.pack().map_err(lost)?;
        let failure = match program.is_there() {
            true => {
                tracing::debug!(from, program = %program.path.display(), "hands over");
                let Err(error) = parcel.execute(&program.path, arguments);
                error.to_string()
            }
            false => "it was replaced once more after it was tried".to_owned(),
        };
        start(parcel, None, Some(failure)).map_err(lost)
    }

    fn pack(self) -> io::Result<Parcel> {
        let Self { mut estate, mut luggage, control, connection } = self;
        let mut faces = Faces { nofile: nofile::original(), ..Faces::default() };
        if let Some(control) = control {
            let (file, [listener, lock]) = control.parts();
            faces.control = Some((file, [luggage.put(listener)?, luggage.put(lock)?]));
            // Its file is the successor's.
            std::mem::forget(control);
        }
        faces.connection = connection.map(|connection| luggage.put(connection)).transpose()?;
        estate.faces = serde_json::to_value(faces)?;
        Parcel::pack(&estate, luggage)
    }
}

fn start(
    parcel: Parcel,
    early: Option<EarlySignals>,
    failure: Option<String>,
) -> io::Result<Start> {
    let (mut estate, mut luggage) = parcel.open::<Estate>()?;
    let faces: Faces = serde_json::from_value(std::mem::take(&mut estate.faces))?;
    if let Some(original) = faces.nofile {
        nofile::started_with(original);
    }
    let mut take = |place| luggage.take(place);
    let control = faces
        .control
        .map(|(file, [listener, lock])| Control::again(file, [take(listener)?, take(lock)?]));
    let control = control.transpose()?;
    let connection = faces.connection.map(take).transpose()?;
    let (reply, answer) = connection.as_ref().map(|_| oneshot::channel()).unzip();
    let inheritance = Some(Inheritance { estate, luggage, reply, failure });
    Ok(Start { dry_run: false, control, inheritance, connection, answer, early, kept: Vec::new() })
}
