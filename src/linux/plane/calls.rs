//! Waiting for the calls of one worker, on the tokio runtime.

use super::{Plane, PlaneError, PlaneEvent, Served};
use crate::core::WorkerId;
use crate::linux::seccomp::NotifyFd;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::unix::AsyncFd;

/// The trapped calls of a worker's tree.
#[derive(Debug)]
pub struct Calls {
    worker: WorkerId,
    notify: AsyncFd<Arc<NotifyFd>>,
}

impl Calls {
    /// Those that come through `notify`, which `plane` knows from now on until the worker is released.
    ///
    /// # Errors
    /// What the runtime's epoll said.
    pub fn of(worker: WorkerId, notify: OwnedFd, plane: &Mutex<Plane>) -> io::Result<Self> {
        let notify = Arc::new(NotifyFd::from(notify));
        lock(plane).calls.insert(worker, Arc::clone(&notify));
        Ok(Self { worker, notify: notify.registered()? })
    }

    /// Those of a worker that `plane` was handed; `None` if it has no filter.
    ///
    /// # Errors
    /// What the runtime's epoll said.
    pub fn again(worker: WorkerId, plane: &Mutex<Plane>) -> io::Result<Option<Self>> {
        let notify = lock(plane).calls.get(&worker).map(Arc::clone);
        notify.map(|notify| Ok(Self { worker, notify: notify.registered()? })).transpose()
    }

    /// Answers calls until one has something to tell; `None` when no process with the filter is left.
    /// `plane` is locked for one call at a time. Cancel-safe.
    ///
    /// # Errors
    /// As [`Plane::serve`]; the next calls can be answered all the same.
    pub async fn next(&self, plane: &Mutex<Plane>) -> Option<Result<PlaneEvent, PlaneError>> {
        loop {
            let mut ready = self.notify.readable().await.ok()?;
            let served = lock(plane).serve(self.worker, self.notify.get_ref());
            match served {
                Ok(Served::Event(event)) => return Some(Ok(event)),
                Ok(Served::Quiet) => {}
                Ok(Served::Idle) if ready.ready().is_read_closed() => return None,
                Ok(Served::Idle) => ready.clear_ready(),
                Err(_) if ready.ready().is_read_closed() => return None,
                Err(error) => {
                    ready.clear_ready();
                    return Some(Err(error));
                }
            }
        }
    }
}

fn lock(plane: &Mutex<Plane>) -> MutexGuard<'_, Plane> {
    plane.lock().unwrap_or_else(PoisonError::into_inner)
}
