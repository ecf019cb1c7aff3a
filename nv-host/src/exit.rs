use std::fmt;

/// How the command ends, for the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done, or the reader of standard output had enough.
    Done = 0,
    /// Something failed while it ran: an output can't be written, no disk, an internal error.
    Runtime = 1,
    /// The command line or the config is wrong.
    Usage = 2,
    /// A model or a plugin is missing, damaged or of the wrong sort.
    Plugin = 3,
    /// There is no device of the kind that was demanded.
    Device = 4,
    /// A source failed for good. The other feeds have ended their work.
    Source = 5,
    /// Stopped by Ctrl-C (or SIGTERM).
    Interrupted = 130,
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Of two ways to end, the one that the shell should hear of: an interrupt before trouble in the runtime, that before
    /// plugin and device, a failed source last.
    pub(crate) fn worse(self, other: Self) -> Self {
        const RANKING: [Exit; 7] =
            [Exit::Interrupted, Exit::Runtime, Exit::Usage, Exit::Plugin, Exit::Device, Exit::Source, Exit::Done];
        RANKING.into_iter().find(|exit| [self, other].contains(exit)).unwrap_or(self)
    }
}

/// Why the command can't do what it was asked to: what to tell the person, and how to end. One message, or several that
/// are independent of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) messages: Vec<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, messages: vec![message.into()] }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn runtime(message: impl Into<String>) -> Self {
        Self::new(Exit::Runtime, message)
    }

    /// Both failures, told together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.exit = self.exit.worse(other.exit);
        self.messages.extend(other.messages);
        self
    }

    /// `Ok` where there are none, else all of them told together.
    pub(crate) fn gather(failures: impl IntoIterator<Item = Self>) -> Result<()> {
        failures.into_iter().reduce(Self::and).map_or(Ok(()), Err)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told() {
        let check = |a: Exit, b: Exit, expected| {
            assert_eq!(a.worse(b), expected);
            assert_eq!(b.worse(a), expected);
        };
        check(Exit::Done, Exit::Source, Exit::Source);
        check(Exit::Source, Exit::Plugin, Exit::Plugin);
        check(Exit::Source, Exit::Runtime, Exit::Runtime);
        check(Exit::Runtime, Exit::Interrupted, Exit::Interrupted);
        check(Exit::Done, Exit::Done, Exit::Done);
    }

    #[test]
    fn failures_are_told_together() {
        assert_eq!(Failure::gather([]), Ok(()));
        let failures = [Failure::new(Exit::Source, "a"), Failure::usage("b")];
        let failure = Failure::gather(failures).unwrap_err();
        assert_eq!(failure, Failure { exit: Exit::Usage, messages: vec!["a".into(), "b".into()] });
    }
}
