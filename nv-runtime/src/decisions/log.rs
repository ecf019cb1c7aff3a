use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::SCHEMA;
use crate::sync::{Arc, Mutex};

/// Where the runtime's pure cores write down what they are told and what they decide, to be played back by
/// [`replay`](crate::replay).
///
/// For [`RuntimeConfig::decisions`](crate::RuntimeConfig::decisions); of one runtime, whose end is its end. A tool to find out
/// why something was decided: each call of a core writes a line under that core's lock, which costs some microseconds and, on a
/// slow disk, more. A log that can't be written any more says so once, as a `tracing` error, and records nothing more; the
/// runtime goes on. [`finish`](Self::finish) says whether it is whole.
///
/// A clone is the same log.
#[derive(Clone)]
pub struct DecisionLog {
    name: Arc<str>,
    log: Arc<Mutex<Log>>,
}

struct Log {
    state: State,
    /// The line that is being written; kept for its memory.
    line: Vec<u8>,
    lines: u64,
    /// Cores so far.
    cores: u64,
}

enum State {
    Open(Box<dyn Write + Send>),
    /// It was ended, and is whole.
    Ended,
    Failed(Arc<io::Error>),
}

/// A [`DecisionLog`] can't be written.
#[derive(Clone, Debug, Error)]
#[error("{name}: can't write decisions: {error}")]
pub struct DecisionLogError {
    /// The log: its file, if it has one.
    pub name: String,
    /// What the system said.
    #[source]
    pub error: Arc<io::Error>,
}

impl DecisionLog {
    /// A log in a file, which is made, or emptied if it is there.
    ///
    /// # Errors
    /// It can't be made or written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, DecisionLogError> {
        let name = path.as_ref().display().to_string();
        let file = File::create(path).map_err(|e| DecisionLogError { name: name.clone(), error: Arc::new(e) })?;
        Self::new(name, file)
    }

    /// A log called `name`, in whatever takes bytes. It is written through a buffer, and flushed when it ends.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(name: impl Into<String>, writer: impl Write + Send + 'static) -> Result<Self, DecisionLogError> {
        #[derive(Serialize)]
        struct Header {
            schema: &'static str,
            version: &'static str,
        }
        let mut writer = BufWriter::with_capacity(BUFFER, writer);
        // What can't be written at all is known before anything begins.
        let header = serde_json::to_writer(&mut writer, &Header { schema: SCHEMA, version: env!("CARGO_PKG_VERSION") });
        let written =
            header.map_err(io::Error::from).and_then(|()| writer.write_all(b"\n")).and_then(|()| writer.flush());
        let name = name.into();
        match written {
            Ok(()) => Ok(Self::bare(&name, Box::new(writer))),
            Err(error) => Err(DecisionLogError { name, error: Arc::new(error) }),
        }
    }

    /// A log without a first line.
    pub(super) fn bare(name: &str, writer: Box<dyn Write + Send>) -> Self {
        let log = Log { state: State::Open(writer), line: Vec::new(), lines: 0, cores: 0 };
        Self { name: name.into(), log: Arc::new(Mutex::new(log)) }
    }

    /// Ends the log: writes out what it holds. What is decided from now on is not recorded. The runtime does so when it has
    /// shut down; asked again, it says the same.
    ///
    /// # Errors
    /// Not everything could be written.
    pub fn finish(&self) -> Result<(), DecisionLogError> {
        #[derive(Serialize)]
        struct End {
            end: Lines,
        }
        #[derive(Serialize)]
        struct Lines {
            lines: u64,
        }
        let mut log = self.log.lock();
        let lines = log.lines;
        self.write(&mut log, &End { end: Lines { lines } });
        if let State::Open(writer) = &mut log.state {
            let flushed = writer.flush();
            log.state = State::Ended;
            if let Err(error) = flushed {
                self.fail(&mut log, error);
            }
        }
        match &log.state {
            State::Failed(error) => Err(DecisionLogError { name: self.name.to_string(), error: error.clone() }),
            State::Open(_) | State::Ended => Ok(()),
        }
    }

    /// Where a core made with `config` notes its calls.
    pub(super) fn core(&self, kind: &str, name: &str, config: &impl Serialize) -> CoreLog {
        let number = {
            let mut log = self.log.lock();
            log.cores += 1;
            log.cores
        };
        self.core_called(format!("{kind} {name} #{number}"), config)
    }

    /// The same for a core whose name is known.
    pub(super) fn core_called(&self, core: String, config: &impl Serialize) -> CoreLog {
        #[derive(Serialize)]
        struct New<'a, C> {
            core: &'a str,
            new: &'a C,
        }
        self.write(&mut self.log.lock(), &New { core: &core, new: config });
        CoreLog(Some(Box::new(Recorder { core, log: self.clone() })))
    }

    /// Writes a line, unless the log has ended.
    fn write(&self, log: &mut Log, line: &impl Serialize) {
        let State::Open(writer) = &mut log.state else { return };
        log.line.clear();
        let written = serde_json::to_writer(&mut log.line, line).map_err(io::Error::from).and_then(|()| {
            log.line.push(b'\n');
            writer.write_all(&log.line)
        });
        match written {
            Ok(()) => log.lines += 1,
            Err(error) => self.fail(log, error),
        }
    }

    fn fail(&self, log: &mut Log, error: io::Error) {
        tracing::error!(log = %self.name, %error, "decisions can't be recorded any more");
        log.state = State::Failed(Arc::new(error));
    }
}

/// Bytes that are written at a time.
const BUFFER: usize = 64 * 1024;

impl PartialEq for DecisionLog {
    /// Whether they are the same log.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.log, &other.log)
    }
}

impl Eq for DecisionLog {}

impl fmt::Debug for DecisionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DecisionLog").field(&self.name).finish()
    }
}

/// Where a core notes its calls: nowhere by default, which costs it a branch.
#[derive(Default)]
pub(crate) struct CoreLog(Option<Box<Recorder>>);

struct Recorder {
    core: String,
    log: DecisionLog,
}

impl CoreLog {
    /// Notes a call: what the core was told and what it decided. Both are made up only if they are recorded.
    #[inline]
    pub(crate) fn note<I: Serialize, O: Serialize>(&self, call: impl FnOnce() -> (I, O)) {
        if let Some(recorder) = &self.0 {
            let (input, out) = call();
            recorder.write(&input, &out);
        }
    }
}

/// Things that a call is noted with, collected while it goes on: none unless it is recorded.
pub(crate) struct NoteList<T>(Option<Vec<T>>);

impl CoreLog {
    /// A list to collect things in that the call is to be noted with.
    pub(crate) fn list<T>(&self) -> NoteList<T> {
        NoteList(self.0.is_some().then(Vec::new))
    }
}

impl<T> NoteList<T> {
    #[inline]
    pub(crate) fn push(&mut self, item: impl FnOnce() -> T) {
        if let Some(list) = &mut self.0 {
            list.push(item());
        }
    }

    pub(crate) fn take(self) -> Vec<T> {
        self.0.unwrap_or_default()
    }
}

impl Recorder {
    #[cold]
    fn write(&self, input: &impl Serialize, out: &impl Serialize) {
        #[derive(Serialize)]
        struct Call<'a, I, O> {
            core: &'a str,
            r#in: &'a I,
            out: &'a O,
        }
        self.log.write(&mut self.log.log.lock(), &Call { core: &self.core, r#in: input, out });
    }
}

impl fmt::Debug for CoreLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CoreLog").field(&self.0.as_ref().map(|r| &r.core)).finish()
    }
}

/// Bytes that are written at one end and taken out at the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
