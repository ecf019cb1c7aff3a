use std::collections::BTreeSet;
use std::path::{Component, Path};

use nv_perception::SourceSpec;

/// Gives each feed its name: the one it was given, else the source's, with `-2`, `-3` … where that is taken.
pub(crate) fn feed_names(given: &[(Option<&str>, &str)]) -> Vec<String> {
    let mut taken: BTreeSet<String> = given.iter().filter_map(|(name, _)| name.map(str::to_owned)).collect();
    let mut names = Vec::with_capacity(given.len());
    for (name, source) in given {
        let name = match name {
            Some(name) => (*name).to_owned(),
            None => {
                let base = name_of_source(source);
                let numbered = (2u64..).map(|n| format!("{base}-{n}"));
                let free = std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name));
                free.unwrap_or(base)
            }
        };
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

/// What a feed of this source is called: a file after its stem, a folder after itself, a stream after the end of its path.
fn name_of_source(source: &str) -> String {
    let scheme = SourceSpec::new(source).scheme();
    let name = match scheme.as_str() {
        "file" => name_of_path(source.strip_prefix("file:").unwrap_or(source)),
        _ => match source.split_once("://") {
            // What is before the last @ may be a password, with or without slashes in it.
            Some((_, rest)) => {
                let rest = rest.rsplit('@').next().unwrap_or_default();
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                rest.split('/').rfind(|part| !part.is_empty()).map(str::to_owned)
            }
            None => Some(scheme),
        },
    };
    let safe = |c: char| if c.is_control() || "/\\:*?\"<>|{}".contains(c) { '_' } else { c };
    let name: String = name.unwrap_or_default().chars().map(safe).collect();
    if check_name(&name).is_ok() { name } else { "feed".into() }
}

fn name_of_path(path: &str) -> Option<String> {
    let path = Path::new(path);
    let is_pattern = |path: &Path| path.to_str().is_some_and(|path| path.contains(['*', '?', '[']));
    let path = path.ancestors().find(|path| !path.file_name().is_some_and(|name| is_pattern(Path::new(name))))?;
    let resolved;
    let path = match path.components().next_back() {
        Some(Component::Normal(_)) => path,
        // "." and ".." have a name of their own.
        _ => {
            resolved = if path.as_os_str().is_empty() { Path::new(".") } else { path }.canonicalize().ok()?;
            &resolved
        }
    };
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map(|name| name.to_string_lossy().into_owned())
}

/// Whether a feed may be called this: its name becomes a part of file names.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() {
        return Err("it is empty");
    }
    if name.starts_with('.') {
        return Err("it begins with a dot");
    }
    if name.len() > 100 {
        return Err("it is longer than 100 bytes");
    }
    if name.chars().any(|c| c.is_control() || "/\\".contains(c)) {
        return Err("it has a slash or a control character in it, and becomes part of file names");
    }
    Ok(())
}

/// Whether this is one picture, rather than a video or several.
pub(crate) fn is_picture(source: &str) -> bool {
    if SourceSpec::new(source).scheme() != "file" || source.contains(['*', '?', '[']) {
        return false;
    }
    let extension = Path::new(source).extension().and_then(|e| e.to_str()).unwrap_or_default();
    ["jpg", "jpeg", "png"].iter().any(|e| e.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_are_called_after_their_sources() {
        fn check(source: &str, expected: &str) {
            assert_eq!(name_of_source(source), expected, "{source}");
        }
        check("yard.mp4", "yard");
        check("file:/v/north gate.mp4", "north gate");
        check("file:///v/a.b.mp4", "a.b");
        check("frames/", "frames");
        check("walks/day1/*.png", "day1");
        check("walks/*/left/*.png", "left");
        check("rtsp://joe:s3/cr@et@10.0.0.7/stream1?x=y", "stream1");
        check("rtsp://10.0.0.7:554", "10.0.0.7_554");
        check("synthetic:?objects=5", "synthetic");
        check("/", "feed");
    }

    #[test]
    fn names_do_not_repeat() {
        fn check(given: &[(Option<&str>, &str)], expected: &[&str]) {
            assert_eq!(feed_names(given), expected);
        }
        check(&[(None, "a/x.mp4"), (None, "b/x.mp4"), (None, "x.png")], &["x", "x-2", "x-3"]);
        check(&[(None, "x.mp4"), (Some("x"), "y.mp4"), (Some("x-2"), "z.mp4")], &["x-3", "x", "x-2"]);
    }

    #[test]
    fn names_are_fit_for_files() {
        for wrong in ["", " ", "..", ".hidden", "a/b", "a\\b", "a\nb"] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
        for right in ["gate", "north gate", "Tor-3 (hinten)", "x.y"] {
            assert!(check_name(right).is_ok(), "{right:?}");
        }
    }

    #[test]
    fn pictures_are_told_by_their_ending() {
        assert!(is_picture("a/b.JPG") && is_picture("file:x.png"));
        assert!(
            !is_picture("a.mp4") && !is_picture("a/*.png") && !is_picture("folder") && !is_picture("rtsp://x/a.jpg")
        );
    }
}
