use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::lock::Sha256;

/// Why a plugin was not loaded: one sentence that names the file.
#[derive(Debug, Error)]
#[error("cannot load plugin {}: {reason}", path.display())]
pub struct LoadError {
    path: PathBuf,
    reason: Reason,
}

/// What sort of trouble a [`LoadError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// There is no such file.
    NotFound,
    /// It can't be read.
    Unreadable,
    /// It is no shared library of this sort of system: a folder, an empty file, a text, a program …
    NotALibrary,
    /// It is a library for another machine or system.
    OtherTarget,
    /// Its end is missing.
    Truncated,
    /// It contradicts itself.
    Damaged,
    /// It is a library, but no plugin.
    NotAPlugin,
    /// It speaks another version of the plugin boundary.
    OtherAbi,
    /// It would end the process on a panic.
    PanicAbort,
    /// It is not the file that the lock names.
    Lock,
    /// The system's loader refused it: an undefined symbol, a missing library.
    Link,
    /// It failed to initialise.
    Init,
    /// There is a plugin of that name already.
    DuplicateName,
    /// Plugins can't be loaded on this system.
    Platform,
}

impl LoadError {
    pub(crate) fn new(path: &Path, reason: Reason) -> Self {
        Self { path: path.into(), reason }
    }

    /// The file, or the name of the linked plugin.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What sort of trouble it is.
    pub fn kind(&self) -> LoadErrorKind {
        self.reason.kind()
    }
}

/// The reasons, as they are worded. None ends with a full stop, and none has two sentences.
#[derive(Debug, Error)]
pub(crate) enum Reason {
    #[error("there is no such file")]
    NotFound,
    #[error("it can't be read: {0}")]
    Unreadable(io::Error),
    #[error("it is a folder, not a shared library")]
    Directory,
    #[error("it is no regular file")]
    Special,
    #[error("it is empty")]
    Empty,
    #[error("it is {bytes} bytes long, and no plugin is larger than {limit}")]
    TooLarge { bytes: u64, limit: u64 },
    #[error("it is {0}, not a shared library")]
    NotALibrary(&'static str),
    #[error("it is built for {library}, and this program for {host}")]
    Machine { library: String, host: &'static str },
    #[error("it is built for the target {library}, and this program for {host}")]
    Target { library: String, host: &'static str },
    #[error("it is truncated: it should have {need} bytes and has {have}")]
    Truncated { need: u64, have: u64 },
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error(
        "it is a shared library, but no NextVision plugin (it has no plugin note; plugins are made with export_plugin! of nv-plugin-sdk)"
    )]
    NoNote,
    #[error("it holds several plugins ({names}), and none of them is called as the file is")]
    SeveralNotes { names: String },
    #[error(
        "it is built for generation {library} of the plugin boundary, and this program speaks generation {host}: \
         {} must be brought up to date", if library > host { "the program" } else { "the plugin" }
    )]
    Generation { library: u32, host: u32 },
    #[error("it is built for version {library} of the plugin boundary, and this program speaks {host}")]
    AbiVersion { library: String, host: &'static str },
    #[error(
        "it is compiled with panic = \"{0}\", so that a panic in it would end this program: \
         it must be compiled with panic = \"unwind\""
    )]
    Panic(String),
    #[error("its SHA-256 is {found}, and the lock says {expected}")]
    Hash { expected: Sha256, found: Sha256 },
    #[error("the lock does not list a plugin {0:?}")]
    NotLocked(String),
    #[error("the system can't link it: {0}")]
    Link(String),
    #[error("its note names the entry {entry:?}, which it does not export")]
    NoEntry { entry: String },
    #[error("its entry is none: {0}")]
    Entry(String),
    #[error(
        "its types are laid out otherwise than this program's (boundary {library} in the plugin, {host} here): {difference}"
    )]
    Layout { library: String, host: String, difference: String },
    #[error("it failed to initialise: {0}")]
    Init(String),
    #[error("a plugin called {name:?} is there already ({})", .origin)]
    Duplicate { name: String, origin: String },
    #[cfg_attr(unix, expect(dead_code, reason = "the reason on systems without dlopen"))]
    #[error("this build can't load plugins on {}", std::env::consts::OS)]
    Platform,
}

impl Reason {
    fn kind(&self) -> LoadErrorKind {
        use LoadErrorKind as K;
        match self {
            Self::NotFound => K::NotFound,
            Self::Unreadable(_) => K::Unreadable,
            Self::Directory | Self::Special | Self::Empty | Self::TooLarge { .. } | Self::NotALibrary(_) => {
                K::NotALibrary
            }
            Self::Machine { .. } | Self::Target { .. } => K::OtherTarget,
            Self::Truncated { .. } => K::Truncated,
            Self::Damaged(_) => K::Damaged,
            Self::NoNote | Self::SeveralNotes { .. } => K::NotAPlugin,
            Self::Generation { .. } | Self::AbiVersion { .. } | Self::Layout { .. } | Self::Entry(_) => K::OtherAbi,
            Self::Panic(_) => K::PanicAbort,
            Self::Hash { .. } | Self::NotLocked(_) => K::Lock,
            Self::Link(_) | Self::NoEntry { .. } => K::Link,
            Self::Init(_) => K::Init,
            Self::Duplicate { .. } => K::DuplicateName,
            Self::Platform => K::Platform,
        }
    }
}

/// Why no kind was found under a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FindError {
    /// No plugin of that name.
    #[error("there is no plugin {plugin:?}{} ({})", did_you_mean(.suggestion), there_are(.plugins, "plugins"))]
    Plugin {
        /// The name asked for.
        plugin: String,
        /// The nearest name that there is.
        suggestion: Option<String>,
        /// All that there are.
        plugins: Vec<String>,
    },
    /// The plugin has no such kind.
    #[error("plugin {plugin:?} has no kind {kind:?}{} ({})", did_you_mean(.suggestion), there_are(.kinds, "kinds"))]
    Kind {
        /// The plugin.
        plugin: String,
        /// The kind asked for.
        kind: String,
        /// The nearest name that there is.
        suggestion: Option<String>,
        /// All that it has.
        kinds: Vec<String>,
    },
    /// No plugin has such a kind.
    #[error("no plugin has a kind {kind:?}{} ({})", did_you_mean(.suggestion), there_are(.kinds, "kinds"))]
    Bare {
        /// The kind asked for.
        kind: String,
        /// The nearest name that there is.
        suggestion: Option<String>,
        /// All kinds of all plugins.
        kinds: Vec<String>,
    },
    /// Several plugins have that kind.
    #[error("several plugins have a kind {kind:?}: say which you mean, {}", or(.candidates))]
    Ambiguous {
        /// The kind asked for.
        kind: String,
        /// Full names of those that there are.
        candidates: Vec<String>,
    },
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|s| format!(", did you mean {s:?}?")).unwrap_or_default()
}

fn there_are(names: &[String], what: &str) -> String {
    if names.is_empty() { format!("there are no {what}") } else { format!("{what}: {}", names.join(", ")) }
}

fn or(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")
}
