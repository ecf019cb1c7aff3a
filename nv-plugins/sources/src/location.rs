use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nv_perception::{SourceError, SourceErrorKind, SourceSpec};

/// What a `file:` URL or a plain path points to.
#[derive(Debug)]
pub(crate) enum Location {
    /// A regular file, and its first bytes.
    File {
        path: PathBuf,
        file: File,
        head: Vec<u8>,
    },
    Folder(PathBuf),
    /// A path with wildcards that exists under no such name, as a pattern for [`glob`].
    Pattern(String),
}

/// Enough to tell every kind of file that [`crate::mp4::sniff`] knows.
const HEAD: u64 = 512;

impl Location {
    /// Looks up the path that `spec` names.
    pub(crate) fn find(spec: &SourceSpec) -> Result<Self, SourceError> {
        let error = |kind, message: &str| SourceError::new(kind, &spec.url, message);
        let paths = candidate_paths(&spec.url).map_err(|message| error(SourceErrorKind::Config, message))?;
        if paths.iter().any(|path| path.as_os_str().is_empty()) {
            return Err(error(SourceErrorKind::Config, "it names no file")
                .with_remedy("give the path of a video, picture or folder"));
        }
        let pattern = paths.iter().find_map(|path| as_pattern(path, &spec.base_dir));
        let paths: Vec<PathBuf> = paths.into_iter().map(|path| spec.base_dir.join(path)).collect();
        let found = paths.iter().find_map(|path| match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            result => Some((path, result)),
        });
        let (path, metadata) = match (found, pattern) {
            (Some(found), _) => found,
            (None, Some(pattern)) => return Ok(Self::Pattern(pattern)),
            (None, None) => return Err(not_found(spec, &paths[0])),
        };
        let metadata = metadata.map_err(|e| io_error(&spec.url, e))?;
        if metadata.is_dir() {
            return Ok(Self::Folder(path.clone()));
        }
        // A pipe would make us wait for a writer; a device needs more than reading.
        if !metadata.is_file() {
            return Err(error(SourceErrorKind::Unsupported, "it is a device, pipe or socket, not a file")
                .with_remedy("cameras and pipes need the GStreamer source plugin"));
        }
        let (file, head) = open_with_head(path).map_err(|e| io_error(&spec.url, e))?;
        Ok(Self::File { path: path.clone(), file, head })
    }
}

/// Opens a file and reads its first bytes, leaving it at its start.
pub(crate) fn open_with_head(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok((File::open(path)?, head))
}

/// An error of the file system, with the kind that fits it.
pub(crate) fn io_error(url: &str, error: io::Error) -> SourceError {
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound => (SourceErrorKind::NotFound, "there is no such file".to_owned()),
        io::ErrorKind::PermissionDenied => (SourceErrorKind::Denied, "no permission to read it".to_owned()),
        _ => (SourceErrorKind::Io, format!("reading failed: {error}")),
    };
    SourceError::new(kind, url, message).with_source(error)
}

fn not_found(spec: &SourceSpec, path: &Path) -> SourceError {
    let error = SourceError::new(SourceErrorKind::NotFound, &spec.url, "there is no such file or folder");
    let base = &spec.base_dir;
    match base.as_os_str().is_empty() {
        true if path.is_relative() => error.with_remedy("check the path; it is relative to the current folder"),
        false if path.starts_with(base) => {
            error.with_remedy(format!("check the path; it is relative to {}", base.display()))
        }
        _ => error.with_remedy("check the path"),
    }
}

/// A path with wildcards as a pattern, in which those of `base` stand for themselves.
fn as_pattern(path: &Path, base: &Path) -> Option<String> {
    let text = path.to_str().filter(|path| path.contains(['*', '?', '[']))?;
    if path.is_absolute() || base.as_os_str().is_empty() {
        return Some(text.to_owned());
    }
    Some(format!("{}/{text}", glob::Pattern::escape(base.to_str()?)))
}

/// The paths that a URL may mean, best first: a `file:` URL with its percent codes decoded, then as it is written.
fn candidate_paths(url: &str) -> Result<Vec<PathBuf>, &'static str> {
    let Some(rest) = url.get(..5).filter(|start| start.eq_ignore_ascii_case("file:")).map(|_| &url[5..]) else {
        return Ok(vec![PathBuf::from(url)]);
    };
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(authority) => {
            let start = authority.find('/').unwrap_or(authority.len());
            match &authority[..start] {
                "" | "localhost" => &authority[start..],
                _ => return Err("a file URL can't name a host; write file:PATH or file:///PATH"),
            }
        }
    };
    let mut paths = vec![PathBuf::from(path)];
    if let Some(decoded) = percent_decoded(path) {
        paths.insert(0, decoded.into());
    }
    Ok(paths)
}

/// `None` where there is nothing to decode, or not as UTF-8.
fn percent_decoded(path: &str) -> Option<String> {
    if !path.contains('%') {
        return None;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_paths() {
        fn check(url: &str, expected: &[&str]) {
            let paths = candidate_paths(url).unwrap();
            assert_eq!(paths, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{url}");
        }
        check("yard.mp4", &["yard.mp4"]);
        check("a%20b.mp4", &["a%20b.mp4"]);
        check("file:yard.mp4", &["yard.mp4"]);
        check("FILE:/v/yard.mp4", &["/v/yard.mp4"]);
        check("file:///v/a%20b.mp4", &["/v/a b.mp4", "/v/a%20b.mp4"]);
        check("file://localhost/v/x.mp4", &["/v/x.mp4"]);
        check("file:100%.mp4", &["100%.mp4", "100%.mp4"]);
        check("file:caf%C3%A9%2.mp4", &["café%2.mp4", "caf%C3%A9%2.mp4"]);
        check("file:%ff", &["%ff"]);
        assert!(candidate_paths("file://nas/v/x.mp4").is_err());
    }

    #[test]
    fn what_is_not_there_is_said() {
        fn check(url: &str, kind: SourceErrorKind, expected: &str) {
            let folder = tempfile::tempdir().unwrap();
            let spec = SourceSpec { base_dir: folder.path().into(), ..SourceSpec::new(url) };
            let error = Location::find(&spec).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert_eq!(error.to_string(), expected.replace("{base}", &folder.path().display().to_string()));
        }
        check(
            "yard.mp4",
            SourceErrorKind::NotFound,
            "yard.mp4: there is no such file or folder; check the path; it is relative to {base}",
        );
        check(
            "/no/yard.mp4",
            SourceErrorKind::NotFound,
            "/no/yard.mp4: there is no such file or folder; check the path",
        );
        check("", SourceErrorKind::Config, ": it names no file; give the path of a video, picture or folder");
        check("file:", SourceErrorKind::Config, "file:: it names no file; give the path of a video, picture or folder");
        check(
            "/dev/null",
            SourceErrorKind::Unsupported,
            "/dev/null: it is a device, pipe or socket, not a file; cameras and pipes need the GStreamer source plugin",
        );
        check(
            "file://nas/yard.mp4",
            SourceErrorKind::Config,
            "file://nas/yard.mp4: a file URL can't name a host; write file:PATH or file:///PATH",
        );
    }

    #[test]
    fn a_name_with_wildcards_may_be_real() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("take[2].mp4"), b"x").unwrap();
        let find =
            |url: &str| Location::find(&SourceSpec { base_dir: folder.path().into(), ..SourceSpec::new(url) }).unwrap();
        assert!(matches!(find("take[2].mp4"), Location::File { head, .. } if head == b"x"));
        let Location::Pattern(pattern) = find("take*.mp4") else { panic!("a pattern") };
        assert_eq!(glob::glob(&pattern).unwrap().count(), 1, "{pattern}");
        assert!(matches!(find("."), Location::Folder(_)));
    }
}
