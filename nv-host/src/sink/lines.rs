use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nv_perception::SinkError;

use super::TroubleSender;

/// How long a line may stay in memory before a file has it, so that whoever follows the file sees it.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// Writes whole lines to a file or to standard output, for any number of feeds.
pub(crate) struct LineWriter {
    place: String,
    out: Mutex<Out>,
    trouble: TroubleSender,
}

enum Out {
    /// Hands every line on at once: a reader waits at the other end.
    Stdout(Stdout),
    File {
        file: BufWriter<File>,
        flushed: Instant,
    },
}

impl LineWriter {
    pub(super) fn stdout(trouble: TroubleSender) -> Self {
        Self { place: "standard output".into(), out: Mutex::new(Out::Stdout(io::stdout())), trouble }
    }

    pub(super) fn file(place: String, file: File, trouble: TroubleSender) -> Self {
        let out = Out::File { file: BufWriter::with_capacity(1 << 16, file), flushed: Instant::now() };
        Self { place, out: Mutex::new(out), trouble }
    }

    /// Writes lines; each must have its end. Lines of several callers do not mix.
    pub(super) fn write(&self, lines: &[u8]) -> Result<(), SinkError> {
        self.with(|out| match out {
            Out::Stdout(stdout) => {
                let mut stdout = stdout.lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Out::File { file, flushed } => {
                file.write_all(lines)?;
                if flushed.elapsed() < FLUSH_AFTER {
                    return Ok(());
                }
                *flushed = Instant::now();
                file.flush()
            }
        })
    }

    /// Writes out what is held back.
    pub(super) fn flush(&self) -> Result<(), SinkError> {
        self.with(|out| match out {
            Out::Stdout(stdout) => stdout.flush(),
            Out::File { file, .. } => file.flush(),
        })
    }

    fn with(&self, f: impl FnOnce(&mut Out) -> io::Result<()>) -> Result<(), SinkError> {
        // A panic inside could only have been one of the writer's; the next write shows whether it still works.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut out).map_err(|error| self.trouble.report(&self.place, error))
    }
}
