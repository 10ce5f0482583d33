//! The locks and atomics of the slot table: `parking_lot`'s and std's, or those of shuttle, whose scheduler decides at
//! each of them who goes on.

#[cfg(not(all(test, shuttle)))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{OnceLock, atomic};

#[cfg(all(test, shuttle))]
pub(crate) use explored::{Mutex, OnceLock};
#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::atomic;

#[cfg(all(test, shuttle))]
mod explored {
    use std::sync::PoisonError;

    use shuttle::sync::MutexGuard;
    use shuttle::sync::atomic::{AtomicBool, Ordering};

    /// shuttle's lock, with the signatures of `parking_lot`'s.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// std's cell, with a point before each access where the scheduler decides.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        point: AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { value: std::sync::OnceLock::new(), point: AtomicBool::new(false) }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.point.store(true, Ordering::Release);
            self.value.set(value)
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.point.load(Ordering::Acquire);
            self.value.get()
        }
    }
}
