//! Threads, and who answers for them.

use std::convert::Infallible;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};
use nv_core::{HealthKind, MonoTime, Name};

use crate::health::HealthHub;
use crate::sync::{Arc, Mutex, SystemClock};

/// A thread, and a channel that disconnects when its work is done.
pub(crate) struct Worker {
    name: String,
    thread: JoinHandle<()>,
    done: Receiver<Infallible>,
}

impl Worker {
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (token, done) = bounded(0);
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            // Dropped last, also when the body panics.
            let _token = token;
            body();
        })?;
        Ok(Self { name, thread, done })
    }

    /// Disconnects when the thread's work is done.
    pub(crate) fn done(&self) -> &Receiver<Infallible> {
        &self.done
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.done.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
    }

    /// Waits until the thread's work is done. False if it is not by `deadline`.
    pub(crate) fn wait(&self, deadline: MonoTime, clock: &SystemClock) -> bool {
        let result = self.done.recv_deadline(clock.instant(deadline));
        matches!(result, Err(crossbeam_channel::RecvTimeoutError::Disconnected))
    }

    /// Joins the thread, whose work is done.
    pub(crate) fn join(self) {
        // A panic in it has been logged by the hook, and whoever waits for its work has been told.
        let _ = self.thread.join();
    }
}

/// Threads that did not end when they should have, by name: the only ones that nobody waits for. Clones share one list.
#[derive(Clone)]
pub(crate) struct Abandoned {
    health: HealthHub,
    threads: Arc<Mutex<Vec<Worker>>>,
}

impl Abandoned {
    pub(crate) fn new(health: HealthHub) -> Self {
        Self { health, threads: Arc::default() }
    }

    /// Takes a thread in, and reports it.
    pub(crate) fn add(&self, feed: Option<&Name>, worker: Worker) {
        self.health.report(feed, HealthKind::ThreadAbandoned { thread: worker.name.clone() });
        self.threads.lock().push(worker);
    }

    /// Joins a feed's thread if it is done, takes it in if not.
    pub(crate) fn join_or_add_of(&self, feed: &Name, worker: Worker) {
        if worker.is_done() { worker.join() } else { self.add(Some(feed), worker) }
    }

    /// Joins each of them that is done by `deadline`, takes in the others.
    pub(crate) fn join_or_add(&self, workers: Vec<Worker>, deadline: MonoTime, clock: &SystemClock) {
        for worker in workers {
            if worker.wait(deadline, clock) { worker.join() } else { self.add(None, worker) }
        }
    }

    /// The names of those that are still running. The others are joined and forgotten.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut threads = self.threads.lock();
        let done: Vec<_> = threads.extract_if(.., |worker| worker.is_done()).collect();
        let names = threads.iter().map(|w| w.name.clone()).collect();
        drop(threads);
        done.into_iter().for_each(Worker::join);
        names
    }
}
