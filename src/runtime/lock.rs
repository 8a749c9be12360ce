//! How the runtime takes its locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, also after a panic of who held it: supervision goes on with what there is.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
