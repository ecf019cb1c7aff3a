use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nv_core::{CancelToken, Frame, Size};
use serde::{Serialize, Serializer};

/// One session with one camera or file: gives frames until it ends or breaks. It never reconnects; whoever opened it may
/// open another.
///
/// Called from one thread. `next` gives up within about its `timeout`, and at once when the [`CancelToken`] it was opened
/// with is cancelled.
pub trait FrameSource: Send {
    /// What is known of the stream. It may change after a [`SourceEvent::FormatChanged`].
    fn info(&self) -> &StreamInfo;

    /// The next thing that the source has to say.
    ///
    /// Frames come in display order with rising `pts`. A file gives its next frame at once; a live source waits for it.
    ///
    /// # Errors
    /// The session is over. Frames that were decoded before the trouble have been given already.
    fn next(&mut self, timeout: Duration) -> Result<SourceItem, SourceError>;
}

/// Opens sources by the scheme of their URL.
pub trait SourceFactory: Send + Sync {
    /// The schemes it opens, as in `["file", "synthetic"]`.
    fn schemes(&self) -> &[&str];

    /// Opens a session. Blocks until the first frame can be asked for, or until `cancel` is cancelled.
    ///
    /// # Errors
    /// See [`SourceErrorKind`].
    fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError>;
}

/// What to open, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// A URL (`file:yard.mp4`, `synthetic:?objects=5`, `rtsp://…`) or a plain path.
    pub url: String,
    /// Plays a file at its own speed, as if it were a camera. Default: as fast as the pipeline takes it.
    pub live: bool,
    /// The folder that relative paths are relative to.
    pub base_dir: PathBuf,
    /// Options of the source's own, as text.
    pub options: BTreeMap<String, String>,
}

impl SourceSpec {
    /// The source at `url`, relative to the current folder, with everything else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), live: false, base_dir: PathBuf::new(), options: BTreeMap::new() }
    }

    /// The URL's scheme in lower case; `"file"` for a plain path.
    pub fn scheme(&self) -> String {
        match self.url.split_once(':') {
            // One letter is a drive, not a scheme.
            Some((scheme, _))
                if scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
            {
                scheme.to_ascii_lowercase()
            }
            _ => "file".into(),
        }
    }
}

impl fmt::Debug for SourceSpec {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceSpec")
            .field("url", &redact_url(&self.url))
            .field("live", &self.live)
            .field("base_dir", &self.base_dir)
            .finish_non_exhaustive()
    }
}

/// The URL with user name and password taken out, fit for a log, an error or an output: before the host, and where a camera
/// wants them as parameters.
///
/// ```
/// # use nv_perception::redact_url;
/// assert_eq!(redact_url("rtsp://joe:s3cret@10.0.0.7/stream1"), "rtsp://***@10.0.0.7/stream1");
/// assert_eq!(redact_url("rtsp://10.0.0.7/live?channel=1&password=s3cret"), "rtsp://10.0.0.7/live?channel=1&password=***");
/// assert_eq!(redact_url("file:yard.mp4"), "file:yard.mp4");
/// ```
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    if scheme.eq_ignore_ascii_case("file") {
        return url.to_owned();
    }
    // A password may hold an unescaped '/', '?', '#' or '@'. So everything up to the last '@' goes: of a path with an '@'
    // too much is hidden, of credentials never too little.
    let (credentials, rest) = match rest.rfind('@') {
        Some(at) => ("***@", &rest[at + 1..]),
        None => ("", rest),
    };
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    // Some cameras have their parameters in the path.
    let path = redact_parameters(path, &['/', '&']);
    let query = query.map(|query| format!("?{}", redact_parameters(query, &['&']))).unwrap_or_default();
    format!("{scheme}://{credentials}{path}{query}")
}

/// `name=value` parts, with the values of those that are named like credentials taken out.
fn redact_parameters(text: &str, delimiters: &[char]) -> String {
    const SECRETS: [&str; 9] = ["user", "login", "pass", "pwd", "psw", "secret", "token", "auth", "key"];
    let redacted = |part: &str| {
        let (body, delimiter) = part.strip_suffix(delimiters).map_or((part, ""), |b| (b, &part[b.len()..]));
        match body.split_once('=') {
            Some((name, _)) if SECRETS.iter().any(|s| name.to_ascii_lowercase().contains(s)) => {
                format!("{name}=***{delimiter}")
            }
            _ => part.to_owned(),
        }
    };
    text.split_inclusive(delimiters).map(redacted).collect()
}

/// What is known of a stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamInfo {
    /// Size of the pictures, after cropping.
    pub size: Size,
    /// Time from one frame to the next, where the stream names it or it is constant.
    #[serde(rename = "frame_interval_ms", serialize_with = "interval_ms")]
    pub frame_interval: Option<Duration>,
    /// How many frames the stream has, where that is known.
    pub frame_count: Option<u64>,
    /// Whether frames come at their own pace: a late consumer loses some. A file that is not paced waits instead.
    pub live: bool,
    /// The codec, for people: `"H.264 High"`, `"JPEG"`.
    pub codec: String,
    /// What decodes it, for people.
    pub decoder: String,
    /// How many frames may be held at a time before the source runs out of buffers; `None`: any number.
    pub max_outstanding: Option<usize>,
}

fn interval_ms<S: Serializer>(interval: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    interval.map(|d| d.as_secs_f64() * 1e3).serialize(serializer)
}

/// What a source gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceItem {
    /// A frame.
    Frame(Frame),
    /// Something that is no frame.
    Event(SourceEvent),
    /// Nothing within the time given. Ask again.
    TimedOut,
    /// The stream has ended, as files do. For a live source this is a lost connection.
    End,
}

/// What may happen in a stream besides frames.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SourceEvent {
    /// Frames were lost before they got here.
    Gap {
        /// How many, as far as is known.
        count: u64,
    },
    /// Size, rate or codec changed; [`FrameSource::info`] has the new ones.
    FormatChanged,
    /// Time jumped: what follows does not continue what came before.
    Discontinuity,
    /// Data was damaged: frames until the next key frame are suspect.
    Suspect {
        /// What was wrong.
        reason: String,
    },
}

/// What kind of trouble a source is in. It decides whether to try again, and the command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The URL or an option of it is wrong.
    Config,
    /// There is no such file or camera.
    NotFound,
    /// Not allowed: permissions, credentials.
    Denied,
    /// It is there, and is no video (or picture) that any source knows.
    NotVideo,
    /// A codec, profile or scheme that this build can't decode.
    Unsupported,
    /// The data is damaged.
    Damaged,
    /// Reading failed.
    Io,
    /// The connection was lost or could not be made; a later try may work.
    Transient,
    /// The caller cancelled.
    Cancelled,
}

/// Why a source could not be opened or broke. The text names the source, what is wrong and, where there is one, the remedy.
#[derive(Debug)]
pub struct SourceError {
    kind: SourceErrorKind,
    url: String,
    message: String,
    remedy: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// An error of `kind` in the source at `url`, whose credentials are taken out here.
    pub fn new(kind: SourceErrorKind, url: &str, message: impl Into<String>) -> Self {
        Self { kind, url: redact_url(url), message: message.into(), remedy: None, source: None }
    }

    /// The same error, with what the user can do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> SourceErrorKind {
        self.kind
    }

    /// The source, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is wrong, without source and remedy.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// Whether a later try may work.
    pub fn is_transient(&self) -> bool {
        self.kind == SourceErrorKind::Transient
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        fn check(url: &str, expected: &str) {
            assert_eq!(SourceSpec::new(url).scheme(), expected, "{url}");
        }
        check("yard.mp4", "file");
        check("file:yard.mp4", "file");
        check("RTSP://10.0.0.7/1", "rtsp");
        check("synthetic:?objects=5", "synthetic");
        check("C:\\yard.mp4", "file");
        check("odd name: take 2.mp4", "file");
    }

    #[test]
    fn credentials_never_show() {
        for url in [
            "rtsp://joe:s3cret@10.0.0.7/stream1",
            "rtsp://joe:s3cret/with?odd#signs@10.0.0.7/stream1",
            "rtsp://joe:s3cret@with@ats@10.0.0.7",
            "rtsp://10.0.0.7:554/user=joe&password=s3cret&channel=1&stream=0.sdp?",
            "rtsp://10.0.0.7:554/user=joe_password=s3cret_channel=1",
            "http://10.0.0.7/video?Username=joe&PWD=s3cret/with?odd=signs&fps=5",
            "http://10.0.0.7/video?access_token=s3cret",
        ] {
            let error = SourceError::new(SourceErrorKind::Transient, url, "connection refused");
            let spec = SourceSpec::new(url);
            for text in [error.to_string(), format!("{error:?}"), format!("{spec:?}"), redact_url(url)] {
                assert!(!text.contains("joe") && !text.contains("s3cret"), "{text}");
                assert!(text.contains("10.0.0.7"), "{text}");
            }
        }
    }
}
