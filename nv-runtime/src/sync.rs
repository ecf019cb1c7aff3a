//! The locks of the runtime's shells, in one place: those of the system, or with the feature `model-check` those of a model
//! checker, which tries many schedules of the threads that use them. So with the clock by which they
//! wait: the rest of this crate takes its `SystemClock` from here.

#[cfg(feature = "model-check")]
mod model;
#[cfg(not(feature = "model-check"))]
mod system;
#[cfg(feature = "model-check")]
mod time;

pub(crate) use std::sync::Arc;

#[cfg(feature = "model-check")]
pub(crate) use model::{Condvar, Mutex, MutexGuard};
#[cfg(not(feature = "model-check"))]
pub(crate) use nv_core::SystemClock;
#[cfg(not(feature = "model-check"))]
pub(crate) use system::{Condvar, Mutex, MutexGuard};
#[cfg(feature = "model-check")]
pub(crate) use time::SystemClock;

#[cfg(all(test, feature = "model-check"))]
pub(crate) use model::lose_notification;
#[cfg(all(test, feature = "model-check"))]
pub(crate) use time::pass as time_passes;
