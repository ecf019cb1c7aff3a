use std::io::{self, IsTerminal as _, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Standard error: messages, the log and the progress display, which keep out of each other's way.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    bars: MultiProgress,
    is_terminal: bool,
}

impl Console {
    pub(crate) fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), is_terminal }
    }

    /// Starts the log: `NV_LOG`, else `RUST_LOG`, else warnings.
    pub(crate) fn start_log(&self) {
        let said = ["NV_LOG", "RUST_LOG"].iter().find_map(|name| std::env::var(name).ok().filter(|f| !f.is_empty()));
        // What the runtime reports of feeds is told by us, in our words.
        let filter = said.as_deref().unwrap_or("warn,nv_runtime::health=off");
        let filter = EnvFilter::try_new(filter).unwrap_or_else(|error| {
            self.warning(&format!("NV_LOG or RUST_LOG is no filter: {error}; logging warnings"));
            EnvFilter::new("warn")
        });
        let colors = self.is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colors).with_writer(self.clone());
        // It is started already where the command runs inside of another program: then that one's log is used.
        let _ = subscriber.try_init();
    }

    /// Whether a person looks on.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The progress display.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    pub(crate) fn error(&self, message: &str) {
        self.line(&format!("nv: error: {message}"));
    }

    pub(crate) fn warning(&self, message: &str) {
        self.line(&format!("nv: warning: {message}"));
    }

    pub(crate) fn note(&self, message: &str) {
        self.line(&format!("nv: {message}"));
    }

    fn line(&self, line: &str) {
        // Nobody is left to be told that standard error can't be written.
        let _ = self.bars.suspend(|| io::stderr().write_all(format!("{line}\n").as_bytes()));
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine { console: self, text: Vec::new() }
    }
}

/// One event of the log, written as a whole when it is complete.
pub(crate) struct LogLine<'a> {
    console: &'a Console,
    text: Vec<u8>,
}

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        let _ = self.console.bars.suspend(|| io::stderr().write_all(&self.text));
    }
}

/// Writes what was asked for to standard output. A reader who has gone away had enough.
pub(crate) fn print(text: &str) -> crate::exit::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(crate::exit::Failure::runtime(format!("standard output can't be written: {error}")))
        }
        _ => Ok(()),
    }
}
