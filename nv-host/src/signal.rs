use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::exit::Exit;

/// Whether there is something to be drained, so that the first Ctrl-C asks and does not abort.
static RUNNING: AtomicBool = AtomicBool::new(false);
/// When the first Ctrl-C was heard.
static ASKED: OnceLock<Instant> = OnceLock::new();

/// One request may come as two signals, to the process and to its group (`timeout -s INT` does that). Nobody types as fast.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// From now on, Ctrl-C (and SIGTERM, SIGHUP) ends the process with 130: at once before [`drain_from_now_on`], at once the
/// second time; the first time after it, by a message on this channel.
pub(crate) fn listen() -> Receiver<()> {
    let (sender, receiver) = bounded(1);
    let handler = move || {
        let now = Instant::now();
        let first = ASKED.get_or_init(|| now);
        let again = now.duration_since(*first) > SAME_REQUEST;
        if !RUNNING.load(Ordering::SeqCst) || again {
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        // A full channel holds the request already.
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
