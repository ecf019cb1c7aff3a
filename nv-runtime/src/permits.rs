use std::convert::Infallible;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

/// How many sources may be connecting at a time. Clones share one pool.
#[derive(Clone)]
pub(crate) struct ConnectPermits {
    free: Receiver<()>,
    give_back: Sender<()>,
}

/// Leave to connect, given back when it is dropped.
pub(crate) struct ConnectPermit(Option<Sender<()>>);

/// How long a permit is waited for. They spare the network a rush; sources that hang while they connect are not to keep the
/// others from it.
const PATIENCE: Duration = Duration::from_secs(10);

impl ConnectPermits {
    pub(crate) fn new(count: usize) -> Self {
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
