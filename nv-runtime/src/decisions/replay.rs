use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::log::{Buffer, DecisionLog};
use super::{Recorded, SCHEMA};
use crate::batch::{Attempt, PointCore};
use crate::feed::cores::{FeedCore, IntakeCore, Reconnect, RestartBudget, Selection, StepGate};

/// Plays a [`DecisionLog`] back: makes each core as it was made, tells it what it was told, and compares
/// what it decides with what is in the log, byte for byte.
///
/// # Errors
/// The log can't be read, is none, or a core decides otherwise now.
pub fn replay(log: impl Read) -> Result<ReplayReport, ReplayError> {
    let mut lines = Lines { reader: BufReader::new(log), number: 0, line: Vec::new() };
    check_header(&mut lines)?;
    let mut player = Player::new();
    loop {
        let end = match lines.next()? {
            Next::Line => match player.play(lines.number, &lines.line)? {
                None => continue,
                Some(end) => end,
            },
            Next::Torn => LogEnd::Torn { line: lines.number },
            Next::Nothing => LogEnd::Missing,
        };
        if end == LogEnd::Whole && !matches!(lines.next()?, Next::Nothing) {
            return Err(ReplayError::line(lines.number, "nothing may follow the line that ends the log"));
        }
        return Ok(ReplayReport { cores: player.counts, end });
    }
}

/// What a log held, all of which was decided again as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// By kind of core.
    pub cores: BTreeMap<String, ReplayedCores>,
    /// Whether the log is whole.
    pub end: LogEnd,
}

/// The cores of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayedCores {
    /// How many there were.
    pub cores: u64,
    /// How many decisions they made, each of which was made again.
    pub decisions: u64,
}

impl ReplayReport {
    /// All cores, of every kind.
    pub fn total(&self) -> ReplayedCores {
        self.cores.values().fold(ReplayedCores::default(), |sum, kind| ReplayedCores {
            cores: sum.cores + kind.cores,
            decisions: sum.decisions + kind.decisions,
        })
    }
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// With the line that says so.
    Whole,
    /// Without that line: whoever wrote it did not come to its end, or could not write any more.
    Missing,
    /// In the middle of this line, which was left out.
    Torn {
        /// Its number, from 1.
        line: u64,
    },
}

/// Why a log was not reproduced.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It can't be read.
    #[error("line {line}: {error}")]
    Read {
        /// The line, from 1.
        line: u64,
        /// What the system said.
        error: io::Error,
    },
    /// It is no log of decisions, or of another version.
    #[error("not a log of decisions in the form {SCHEMA}: {reason}")]
    NoLog {
        /// What speaks against it.
        reason: String,
    },
    /// A line makes no sense.
    #[error("line {line}: {reason}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A core decides otherwise now.
    #[error(transparent)]
    Differs(Box<Difference>),
}

/// The first decision that was not reproduced.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {core} decides otherwise\n  recorded: {recorded}\n  replayed: {replayed}")]
pub struct Difference {
    /// The line, from 1.
    pub line: u64,
    /// The core.
    pub core: String,
    /// The line as it was recorded.
    pub recorded: String,
    /// The line as it would be recorded now.
    pub replayed: String,
}

impl ReplayError {
    fn line(line: u64, reason: impl ToString) -> Self {
        Self::Line { line, reason: reason.to_string() }
    }
}

fn check_header(lines: &mut Lines<impl Read>) -> Result<(), ReplayError> {
    #[derive(Deserialize)]
    struct Header {
        schema: String,
    }
    let no_log = |reason: String| ReplayError::NoLog { reason };
    match lines.next() {
        Ok(Next::Line) => {}
        Ok(Next::Torn) => return Err(no_log("its first line is torn".into())),
        Ok(Next::Nothing) => return Err(no_log("it is empty".into())),
        Err(ReplayError::Line { .. }) => return Err(no_log("its first line has no end".into())),
        Err(error) => return Err(error),
    }
    match serde_json::from_slice::<Header>(&lines.line) {
        Ok(header) if header.schema == SCHEMA => Ok(()),
        Ok(header) => Err(no_log(format!("it says that it is {:?}", header.schema))),
        Err(error) => Err(no_log(format!("its first line: {error}"))),
    }
}

/// The lines of a log.
struct Lines<R> {
    reader: BufReader<R>,
    /// Of the line that was read last.
    number: u64,
    /// With the end of line.
    line: Vec<u8>,
}

enum Next {
    Line,
    /// A line without an end.
    Torn,
    Nothing,
}

/// No line of a log is as long: a batch of 4,096 entries takes a tenth of it.
const LONGEST_LINE: u64 = 8 << 20;

impl<R: Read> Lines<R> {
    fn next(&mut self) -> Result<Next, ReplayError> {
        self.number += 1;
        self.line.clear();
        let read = (&mut self.reader).take(LONGEST_LINE).read_until(b'\n', &mut self.line);
        match read {
            Err(error) => Err(ReplayError::Read { line: self.number, error }),
            Ok(0) => Ok(Next::Nothing),
            Ok(_) if self.line.ends_with(b"\n") => Ok(Next::Line),
            Ok(n) if n as u64 == LONGEST_LINE => {
                Err(ReplayError::line(self.number, "it is longer than any line of a log"))
            }
            Ok(_) => Ok(Next::Torn),
        }
    }
}

/// The cores as far as the log has been played.
struct Player {
    /// By name, with the kind.
    cores: HashMap<String, (&'static str, Box<dyn Core>)>,
    counts: BTreeMap<String, ReplayedCores>,
    log: DecisionLog,
    /// What `log` has got.
    written: Buffer,
}

/// A line of a log after the first: one of `new`, `in` with `out`, and `end`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    core: Option<String>,
    new: Option<Value>,
    r#in: Option<Value>,
    #[serde(rename = "out")]
    _out: Option<Value>,
    end: Option<End>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    lines: u64,
}

impl Player {
    fn new() -> Self {
        let written = Buffer::default();
        let log = DecisionLog::bare("replay", Box::new(written.clone()));
        Self { cores: HashMap::new(), counts: BTreeMap::new(), log, written }
    }

    /// Plays a line, the `number`th. The end, if it says so.
    fn play(&mut self, number: u64, bytes: &[u8]) -> Result<Option<LogEnd>, ReplayError> {
        let wrong = |reason: String| ReplayError::line(number, reason);
        let line: Line = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        let core = match line {
            Line { core: Some(core), new: Some(config), r#in: None, end: None, .. } => {
                if self.cores.contains_key(&core) {
                    return Err(wrong(format!("{core} was made before")));
                }
                let (kind, made) = make(&core, config, &self.log).map_err(wrong)?;
                self.counts.entry(kind.to_owned()).or_default().cores += 1;
                self.cores.insert(core.clone(), (kind, made));
                core
            }
            Line { core: Some(core), new: None, r#in: Some(input), end: None, .. } => {
                let Some((kind, known)) = self.cores.get_mut(&core) else {
                    return Err(wrong(format!("{core} was not made before")));
                };
                known.call(input).map_err(|error| wrong(format!("an input that {core} does not have: {error}")))?;
                if let Some(counts) = self.counts.get_mut(*kind) {
                    counts.decisions += 1;
                }
                core
            }
            Line { core: None, new: None, r#in: None, end: Some(End { lines }), .. } => {
                // The first line and this one are not counted.
                if lines + 2 != number {
                    return Err(wrong(format!("lines are missing or too many: {lines} were written before this one")));
                }
                return Ok(Some(LogEnd::Whole));
            }
            _ => return Err(wrong("it is neither a core that is made, nor a call of one, nor the end".into())),
        };
        let replayed = self.written.take();
        if replayed == bytes {
            return Ok(None);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (recorded, replayed) = (text(bytes), text(&replayed));
        Err(ReplayError::Differs(Box::new(Difference { line: number, core, recorded, replayed })))
    }
}

/// A core of any kind.
trait Core {
    /// Tells it an input.
    fn call(&mut self, input: Value) -> Result<(), String>;
}

impl<C: Recorded> Core for C {
    fn call(&mut self, input: Value) -> Result<(), String> {
        let input = serde_json::from_value(input).map_err(|error| error.to_string())?;
        self.fits(&input)?;
        // A log that was tampered with may still lead a core where nothing leads it else.
        catch_unwind(AssertUnwindSafe(|| Recorded::call(self, input))).map_err(|_| "it broke the core".to_owned())
    }
}

/// Makes the core that a log calls `name`.
fn make(name: &str, config: Value, log: &DecisionLog) -> Result<(&'static str, Box<dyn Core>), String> {
    fn one<C: Recorded + 'static>(
        name: &str,
        config: Value,
        log: &DecisionLog,
    ) -> Result<(&'static str, Box<dyn Core>), String> {
        let config: C::Config =
            serde_json::from_value(config).map_err(|error| format!("a config that {name} does not have: {error}"))?;
        C::check(&config).map_err(|error| format!("a config that {name} does not have: {error}"))?;
        let log = log.core_called(name.to_owned(), &config);
        Ok((C::KIND, Box::new(C::with_log(config, log))))
    }
    match name.split_once(' ').map_or(name, |(kind, _)| kind) {
        Attempt::KIND => one::<Attempt>(name, config, log),
        PointCore::<()>::KIND => one::<PointCore<()>>(name, config, log),
        FeedCore::<()>::KIND => one::<FeedCore<()>>(name, config, log),
        Selection::KIND => one::<Selection>(name, config, log),
        StepGate::KIND => one::<StepGate>(name, config, log),
        IntakeCore::<()>::KIND => one::<IntakeCore<()>>(name, config, log),
        Reconnect::KIND => one::<Reconnect>(name, config, log),
        RestartBudget::KIND => one::<RestartBudget>(name, config, log),
        kind => Err(format!("there is no kind of core called {kind:?}")),
    }
}
