use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nv_perception::SourceSpec;
use nv_runtime::{DecisionLog, SinkConfig};

use super::TroubleSender;
use super::annotate::AnnotateSink;
use super::jsonl::JsonlSink;
use super::lines::LineWriter;
use super::mot::MotSink;
use crate::config::{OutputFormat, Place, Plan};
use crate::exit::{Failure, Result};

/// The outputs of a run, opened: what can't be written is known before any work begins.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// Of each feed, in the plan's order: formats and places.
    feeds: Vec<Vec<(OutputFormat, Place)>>,
    files: BTreeMap<PathBuf, File>,
    decisions: Option<(PathBuf, File)>,
    has_stdout: bool,
    /// Files and folders that were not there before, what holds others first. They go again if nothing is begun.
    made: Vec<Made>,
}

#[derive(Debug)]
enum Made {
    File(PathBuf),
    Folder(PathBuf),
}

impl Outputs {
    /// Makes the folders and opens the files. What files hold stays until [`begin`](Self::begin).
    ///
    /// # Errors
    /// Something can't be written, or is one of the inputs.
    pub(crate) fn open(plan: &Plan) -> Result<Self> {
        let inputs: Vec<PathBuf> = plan.feeds.iter().filter_map(|feed| input_file(&feed.spec)).collect();
        let mut outputs = Self::default();
        for (index, feed) in plan.feeds.iter().enumerate() {
            let mut places = Vec::new();
            for output in plan.outputs.iter().filter(|output| output.feeds.contains(&index)) {
                let place = output.place(&feed.name);
                match &place {
                    Place::Stdout => outputs.has_stdout = true,
                    Place::File(path) if outputs.files.contains_key(path) => {}
                    Place::File(path) => {
                        let file = outputs.open_file(path, &inputs)?;
                        outputs.files.insert(path.clone(), file);
                    }
                    Place::Pictures(folder) => outputs.check_folder(folder)?,
                }
                places.push((output.format, place));
            }
            outputs.feeds.push(places);
        }
        if let Some(summary) = &plan.summary {
            if outputs.files.contains_key(summary) {
                let summary = summary.display();
                return Err(Failure::usage(format!("{summary} is to hold both results and the summary")));
            }
            outputs.open_file(summary, &inputs)?;
        }
        if let Some(decisions) = &plan.record_decisions {
            if outputs.files.contains_key(decisions) || plan.summary.as_ref() == Some(decisions) {
                let decisions = decisions.display();
                return Err(Failure::usage(format!("{decisions} is to hold both results and decisions")));
            }
            let file = outputs.open_file(decisions, &inputs)?;
            outputs.decisions = Some((decisions.clone(), file));
        }
        Ok(outputs)
    }

    /// Whether results go to standard output.
    pub(crate) fn use_stdout(&self) -> bool {
        self.has_stdout
    }

    /// Empties the file for decisions, if there is to be one, and begins it.
    pub(crate) fn begin_decisions(&mut self) -> Result<Option<DecisionLog>> {
        let Some((path, file)) = self.decisions.take() else { return Ok(None) };
        empty(&path, &file)?;
        let name = path.display().to_string();
        DecisionLog::new(name, file).map(Some).map_err(|error| unwritable(&path, &error.error))
    }

    /// Empties the files and makes the sinks, a list for each feed in the plan's order.
    pub(crate) fn begin(mut self, trouble: &TroubleSender) -> Result<Vec<Vec<SinkConfig>>> {
        self.made.clear();
        let mut writers: BTreeMap<PathBuf, Arc<LineWriter>> = BTreeMap::new();
        for (path, file) in std::mem::take(&mut self.files) {
            empty(&path, &file)?;
            let writer = LineWriter::file(path.display().to_string(), file, trouble.clone());
            writers.insert(path, Arc::new(writer));
        }
        let stdout = self.has_stdout.then(|| Arc::new(LineWriter::stdout(trouble.clone())));
        let lines = |place: &Place| match place {
            Place::File(path) => writers.get(path).cloned(),
            _ => stdout.clone(),
        };
        let sink = |(format, place): (OutputFormat, Place)| {
            let sink: Box<dyn nv_perception::OutputSink> = match (format, place) {
                (OutputFormat::Annotated, Place::Pictures(folder)) => {
                    Box::new(AnnotateSink::new(folder, trouble.clone()))
                }
                (OutputFormat::Mot, place) => Box::new(MotSink::new(lines(&place)?)),
                (_, place) => Box::new(JsonlSink::new(lines(&place)?)),
            };
            Some(SinkConfig::new(format.as_str(), sink))
        };
        Ok(std::mem::take(&mut self.feeds)
            .into_iter()
            .map(|places| places.into_iter().filter_map(sink).collect())
            .collect())
    }

    fn open_file(&mut self, path: &Path, inputs: &[PathBuf]) -> Result<File> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.make_folder(parent)?;
        }
        if path.canonicalize().is_ok_and(|path| inputs.contains(&path)) {
            return Err(Failure::usage(format!(
                "{} is one of the inputs, and would be overwritten; give another output",
                path.display()
            )));
        }
        let is_new = !path.exists();
        // Not emptied yet: if something else is wrong, the results of an earlier run stay.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| unwritable(path, &error))?;
        if is_new {
            self.made.push(Made::File(path.to_owned()));
        }
        Ok(file)
    }

    fn check_folder(&mut self, folder: &Path) -> Result<()> {
        self.make_folder(folder)?;
        let probe = folder.join(format!(".nv-{}", std::process::id()));
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(|error| unwritable(folder, &error))
    }

    fn make_folder(&mut self, folder: &Path) -> Result<()> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let mut missing: Vec<_> = folder.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        fs::create_dir_all(folder).map_err(|error| {
            let folder = folder.display();
            Failure::runtime(format!("the folder {folder} can't be made: {error}; give another path"))
        })?;
        missing.reverse();
        self.made.extend(missing.into_iter().map(Made::Folder));
        Ok(())
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for made in self.made.iter().rev() {
            // What can't be removed is empty and harms nobody, or somebody has put something into it.
            let _ = match made {
                Made::File(path) => fs::remove_file(path),
                Made::Folder(path) => fs::remove_dir(path),
            };
        }
    }
}

fn empty(path: &Path, file: &File) -> Result<()> {
    // A pipe or device has no length to be set.
    if file.metadata().is_ok_and(|m| m.is_file()) {
        file.set_len(0).map_err(|error| unwritable(path, &error))?;
    }
    Ok(())
}

/// Writes a whole file.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.flush()
    };
    write().map_err(|error: io::Error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::runtime(format!(
        "{} can't be written: {error}; check permissions and free space, or give another path",
        path.display()
    ))
}

/// The file that a source reads, if it is one.
fn input_file(spec: &SourceSpec) -> Option<PathBuf> {
    if spec.scheme() != "file" {
        return None;
    }
    let path = spec.url.strip_prefix("file:").unwrap_or(&spec.url);
    spec.base_dir.join(path).canonicalize().ok()
}
