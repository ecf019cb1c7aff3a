use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::raw::OutputFormat;

/// Where the outputs of some feeds go, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputPlan {
    pub(crate) format: OutputFormat,
    pub(crate) target: Target,
    /// The feeds, as indices into the plan's.
    pub(crate) feeds: Vec<usize>,
}

/// A place for the outputs of several feeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    /// One file for all.
    File(PathBuf),
    /// A path with `{feed}` in it.
    Template(String),
    /// A folder with a file (or a folder of pictures) for each feed.
    Folder(PathBuf),
}

/// The place for the outputs of one feed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Stdout,
    File(PathBuf),
    /// Pictures, one for each frame.
    Pictures(PathBuf),
}

impl OutputPlan {
    /// The output that `path` asks for: `-`, a file, a folder (which exists, or whose path ends in a slash), or a path with
    /// `{feed}` in it. Relative paths are relative to `base_dir`.
    pub(crate) fn new(format: OutputFormat, path: &str, base_dir: &Path, feeds: Vec<usize>) -> Result<Self, String> {
        if path.is_empty() {
            return Err("the output's path is empty; give a file, a folder, or - for standard output".into());
        }
        let full = base_dir.join(path);
        let target = match format {
            OutputFormat::Annotated if path == "-" => {
                return Err("pictures can't go to standard output; give a folder".into());
            }
            _ if path == "-" => Target::Stdout,
            _ if path.contains("{feed}") => match full.to_str() {
                Some(full) => Target::Template(full.to_owned()),
                None => return Err(format!("{}: a path with {{feed}} in it must be UTF-8", full.display())),
            },
            OutputFormat::Annotated => Target::Folder(full),
            _ if path.ends_with(['/', std::path::MAIN_SEPARATOR]) || full.is_dir() => Target::Folder(full),
            // MOT text does not say which feed it is of.
            OutputFormat::Mot if feeds.len() > 1 => Target::Folder(full),
            _ => Target::File(full),
        };
        if format == OutputFormat::Mot && target == Target::Stdout && feeds.len() > 1 {
            return Err(
                "MOT text does not say which feed a line is of, so several feeds can't share standard output; \
                        give a folder: --output FOLDER"
                    .into(),
            );
        }
        if let Target::Folder(folder) = &target
            && folder.is_file()
        {
            let folder = folder.display();
            return Err(match format {
                OutputFormat::Mot => format!(
                    "{folder} is a file; MOT text of several feeds goes to a folder, a file for each: give a folder"
                ),
                _ => format!("{folder} is a file; give a folder"),
            });
        }
        Ok(Self { format, target, feeds })
    }

    /// Where the outputs of the feed of this name go.
    pub(crate) fn place(&self, feed: &str) -> Place {
        let path = match &self.target {
            Target::Stdout => return Place::Stdout,
            Target::File(path) => path.clone(),
            Target::Template(path) => PathBuf::from(path.replace("{feed}", feed)),
            Target::Folder(folder) => match self.format {
                OutputFormat::Jsonl => folder.join(format!("{feed}.jsonl")),
                OutputFormat::Mot => folder.join(format!("{feed}.txt")),
                OutputFormat::Annotated => folder.join(feed),
            },
        };
        if self.format == OutputFormat::Annotated { Place::Pictures(path) } else { Place::File(path) }
    }
}

/// Whether every place is written by one format, and by a feed only once.
pub(crate) fn check_places(outputs: &[OutputPlan], feeds: &[String]) -> Result<(), String> {
    let mut users: BTreeMap<Place, Vec<(OutputFormat, usize)>> = BTreeMap::new();
    for output in outputs {
        for &feed in &output.feeds {
            let place = output.place(&feeds[feed]);
            let here = users.entry(place.clone()).or_default();
            let shown = match &place {
                Place::Stdout => "standard output".to_owned(),
                Place::File(path) | Place::Pictures(path) => path.display().to_string(),
            };
            if let Some((other, _)) = here.iter().find(|(format, _)| *format != output.format) {
                return Err(format!(
                    "{shown} is to hold both {} and {}; give each a place of its own",
                    other.as_str(),
                    output.format.as_str()
                ));
            }
            if here.iter().any(|(_, other)| *other == feed) {
                return Err(format!("feed {:?} is to be written to {shown} twice; leave one output out", feeds[feed]));
            }
            if output.format != OutputFormat::Jsonl && !here.is_empty() {
                return Err(format!(
                    "several feeds are to be written to {shown}, which {} can't keep apart; put {{feed}} into the path",
                    output.format.as_str()
                ));
            }
            here.push((output.format, feed));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_path_format_and_number_of_feeds() {
        fn check(format: OutputFormat, path: &str, feeds: usize, expected: Result<Place, &str>) {
            let plan = OutputPlan::new(format, path, Path::new("base"), (0..feeds).collect());
            match (plan.map(|plan| plan.place("gate")), expected) {
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (place, expected) => assert_eq!(place, expected.map_err(str::to_owned), "{path}"),
            }
        }
        use OutputFormat::{Annotated, Jsonl, Mot};
        let file = |path: &str| Ok(Place::File(path.into()));
        check(Jsonl, "-", 2, Ok(Place::Stdout));
        check(Jsonl, "x.jsonl", 2, file("base/x.jsonl"));
        check(Jsonl, "/abs/x.jsonl", 2, file("/abs/x.jsonl"));
        check(Jsonl, "out/", 1, file("base/out/gate.jsonl"));
        check(Jsonl, "out/{feed}/x.jsonl", 2, file("base/out/gate/x.jsonl"));
        check(Mot, "x.txt", 1, file("base/x.txt"));
        check(Mot, "x", 2, file("base/x/gate.txt"));
        check(Mot, "out/", 1, file("base/out/gate.txt"));
        check(Mot, "-", 1, Ok(Place::Stdout));
        check(Mot, "-", 2, Err("several feeds can't share standard output"));
        check(Annotated, "pics", 1, Ok(Place::Pictures("base/pics/gate".into())));
        check(Annotated, "pics/{feed}-x", 1, Ok(Place::Pictures("base/pics/gate-x".into())));
        check(Annotated, "-", 1, Err("pictures can't go to standard output"));
        check(Jsonl, "", 1, Err("path is empty"));
    }

    #[test]
    fn a_place_has_one_use() {
        fn check(outputs: &[(OutputFormat, &str, &[usize])], expected: Option<&str>) {
            let outputs: Vec<_> = outputs
                .iter()
                .map(|(format, path, feeds)| OutputPlan::new(*format, path, Path::new(""), feeds.to_vec()).unwrap())
                .collect();
            let error = check_places(&outputs, &["a".into(), "b".into()]).err();
            match expected {
                None => assert_eq!(error, None),
                Some(part) => assert!(error.as_ref().is_some_and(|e| e.contains(part)), "{error:?}"),
            }
        }
        use OutputFormat::{Annotated, Jsonl, Mot};
        check(&[(Jsonl, "x", &[0, 1]), (Mot, "y-{feed}", &[0, 1])], None);
        check(&[(Jsonl, "x", &[0]), (Jsonl, "x", &[1])], None);
        check(&[(Jsonl, "-", &[0]), (Mot, "-", &[0])], Some("standard output is to hold both jsonl and mot"));
        check(&[(Jsonl, "x", &[0, 1]), (Jsonl, "x", &[1])], Some("feed \"b\" is to be written to x twice"));
        check(&[(Mot, "x", &[0]), (Mot, "x", &[1])], Some("several feeds"));
        check(&[(Annotated, "p", &[0, 1]), (Annotated, "q", &[0, 1])], None);
    }
}
