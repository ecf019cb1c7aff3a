use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};

use crate::exit::Exit;

/// Whether there is something to be drained, so that the first Ctrl-C asks and does not abort.
static RUNNING: AtomicBool = AtomicBool::new(false);
/// Whether one Ctrl-C has been heard.
static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on, Ctrl-C (and SIGTERM, SIGHUP) ends the process with 130: at once before [`drain_from_now_on`], at once the
/// second time; the first time after it, by a message on this channel.
pub(crate) fn listen() -> Receiver<()> {
    let (sender, receiver) = bounded(1);
    let handler = move || {
        if !RUNNING.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        let _ = sender.try_send(());
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        // Another handler is there (the command runs inside of another program), or the system has none to give.
        tracing::debug!(%error, "Ctrl-C ends the process without a drain");
    }
    receiver
}

/// Something runs that can be drained.
pub(crate) fn drain_from_now_on() {
    RUNNING.store(true, Ordering::SeqCst);
}
