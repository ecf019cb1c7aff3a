use std::convert::Infallible;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

/// A pool of permits to connect: how many sources may be connecting at a time. Cameras of one site are often behind one switch
/// or one recorder, which a rush of connections would bring down.
///
/// Clones share one pool, and so may runtimes. The default is one for all of the process, of 16 permits. A source waits at
/// most 10 s for its turn and then connects without a permit, so that sources that hang don't keep the others out.
#[derive(Clone)]
pub struct ConnectPermits {
    free: Receiver<()>,
    give_back: Sender<()>,
}

/// Leave to connect, given back when it is dropped.
pub(crate) struct ConnectPermit(Option<Sender<()>>);

/// How long a permit is waited for. They spare the network a rush; sources that hang while they connect are not to keep the
/// others from it.
const PATIENCE: Duration = Duration::from_secs(10);

impl ConnectPermits {
    /// A pool of its own, of so many permits; at least one.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        let (give_back, free) = bounded(count);
        (0..count).for_each(|_| _ = give_back.try_send(()));
        Self { free, give_back }
    }

    /// Waits for a permit; goes without one when it takes too long. `None`: cancelled.
    pub(crate) fn acquire(&self, cancelled: &Receiver<Infallible>) -> Option<ConnectPermit> {
        self.acquire_within(cancelled, PATIENCE)
    }

    fn acquire_within(&self, cancelled: &Receiver<Infallible>, patience: Duration) -> Option<ConnectPermit> {
        select! {
            recv(self.free) -> _ => Some(ConnectPermit(Some(self.give_back.clone()))),
            recv(cancelled) -> _ => None,
            default(patience) => Some(ConnectPermit(None)),
        }
    }
}

impl Default for ConnectPermits {
    /// The process's.
    fn default() -> Self {
        static PROCESS: OnceLock<ConnectPermits> = OnceLock::new();
        PROCESS.get_or_init(|| Self::new(16)).clone()
    }
}

impl PartialEq for ConnectPermits {
    /// Whether they are one pool.
    fn eq(&self, other: &Self) -> bool {
        self.free.same_channel(&other.free)
    }
}

impl Eq for ConnectPermits {}

impl fmt::Debug for ConnectPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, of) = (self.free.len(), self.free.capacity());
        f.debug_struct("ConnectPermits").field("free", &free).field("of", &of).finish()
    }
}

impl Drop for ConnectPermit {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            // There is room for as many as were given out.
            let _ = give_back.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_one_pool_unless_told_otherwise() {
        assert_eq!(ConnectPermits::default(), ConnectPermits::default());
        assert_ne!(ConnectPermits::new(16), ConnectPermits::default());
        let own = ConnectPermits::new(0);
        assert_eq!(format!("{:?}", own.clone()), "ConnectPermits { free: 1, of: Some(1) }");
        assert_eq!(own.clone(), own);
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let permits = ConnectPermits::new(2);
        let (token, cancelled) = bounded(0);
        let take = || permits.acquire_within(&cancelled, Duration::ZERO).unwrap();
        let (first, second) = (take(), take());
        assert!(first.0.is_some() && second.0.is_some());
        let without = take();
        assert!(without.0.is_none(), "nobody is held up for ever");
        drop((first, without));
        assert!(take().0.is_some());
        drop((second, permits.acquire(&cancelled)));
        drop::<Sender<Infallible>>(token);
        let all = [permits.free.try_recv(), permits.free.try_recv()];
        assert!(all.iter().all(Result::is_ok), "each came back once");
        assert!(permits.acquire(&cancelled).is_none(), "whoever is cancelled waits no longer");
    }
}
