//! `cargo xtask demo`: two feeds of real video, one detector shared by both, a tracker for each.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::assets::{self, AssetSet, Subject};
use crate::plugins::{self, Profile};
use crate::workspace::{Workspace, list};
use crate::{Result, process, table};

/// The flags of `cargo xtask demo`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many frames of each feed to process
    #[arg(long, value_name = "N", default_value_t = 600)]
    frames: u64,
}

/// Finds or fetches what it needs, builds a release, runs it, and says where the results are.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let set = match assets::find(workspace) {
        Some(set) => set,
        None => assets::fill(workspace)?,
    };
    println!("model {}", set.model.display());
    for (feed, clip) in &set.clips {
        println!("feed  {feed}: {}", clip.display());
    }

    let built = plugins::build(workspace, Profile::Release, &["-p", "nv-host", "--lib", "--bins"])?;
    let nv = built.executables.iter().find(|path| path.file_stem().is_some_and(|stem| stem == "nv"));
    let nv = nv.ok_or("the build made no executable `nv`")?;

    let results = Results::prepare(workspace.target.join("demo"))?;
    fs::write(&results.config, config(&set, &results)?)?;
    fs::write(results.folder.join("CREDITS.txt"), set.credits.join("\n") + "\n")?;
    let mut command = Command::new(nv);
    command.arg("run").arg(&results.config);
    command.arg("--limit").arg(options.frames.to_string());
    command.arg("--annotated").arg(&results.pictures).arg("--summary").arg(&results.summary);
    process::run(&mut command)?;

    println!("\n{}", report(&set, &results)?);
    println!("results   {} (a line of JSON for each frame)", results.folder.join("*.jsonl").display());
    println!("pictures  {}", results.pictures.display());
    println!("summary   {}", results.summary.display());
    println!("again     {} run {}", nv.display(), results.config.display());
    for credit in set.credits {
        println!("credit    {credit}");
    }
    Ok(())
}

/// Where one demo puts everything.
struct Results {
    folder: PathBuf,
    config: PathBuf,
    pictures: PathBuf,
    summary: PathBuf,
}

impl Results {
    /// An empty folder; what an earlier demo left there goes.
    fn prepare(folder: PathBuf) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
        }
        fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let [config, pictures, summary] = ["demo.toml", "pictures", "summary.json"].map(|name| folder.join(name));
        Ok(Self { folder, config, pictures, summary })
    }

    fn lines_of(&self, feed: &str) -> PathBuf {
        self.folder.join(format!("{feed}.jsonl"))
    }
}

/// The configuration that an operator would write for these two feeds.
fn config(set: &AssetSet, results: &Results) -> Result<String> {
    let model = quoted(&set.model)?;
    let detector = match set.subject {
        Subject::People => format!("{{ model = {model}, labels = \"coco\", classes = [\"person\"] }}"),
        Subject::Faces => format!("{{ model = {model} }}"),
    };
    let mut text = format!(
        "# Two feeds that share one detector; each has a tracker of its own.\n\
         [defaults]\n\
         steps = [\"detector\", \"track\"]\n\n\
         [batch.detector]\n\
         use = \"models/detect\"\n\
         config = {detector}\n\n\
         [stage.track]\n\
         use = \"track/bytetrack\"\n"
    );
    for (feed, clip) in &set.clips {
        text.push_str(&format!("\n[[feed]]\nname = \"{feed}\"\nsource = {}\n", quoted(clip)?));
    }
    let path = quoted(&results.folder.join("{feed}.jsonl"))?;
    text.push_str(&format!("\n[[output]]\nformat = \"jsonl\"\npath = {path}\n"));
    Ok(text)
}

/// A path as a TOML basic string, which JSON's escapes are valid in.
fn quoted(path: &Path) -> Result<String> {
    let path = path.to_str().ok_or_else(|| format!("{} is not valid Unicode", path.display()))?;
    Ok(Value::from(path).to_string())
}

/// What `nv` says about the run (`nv.summary/1`), with what its output lines hold, as two tables.
fn report(set: &AssetSet, results: &Results) -> Result<String> {
    let text = fs::read_to_string(&results.summary)
        .map_err(|error| format!("nv left no summary at {}: {error}", results.summary.display()))?;
    let summary: Value = serde_json::from_str(&text)?;
    let mut feeds = vec![
        ["feed", "frames", "emitted", "dropped", "fps", "latency p50", "p95", "objects", "tracks"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for feed in list(&summary, "feeds") {
        let name = feed["feed"].as_str().unwrap_or_default();
        let dropped: u64 =
            feed["dropped"].as_object().into_iter().flat_map(|d| d.values()).filter_map(Value::as_u64).sum();
        let seen = Seen::read(&results.lines_of(name))?;
        feeds.push(vec![
            name.to_owned(),
            feed["received"].to_string(),
            feed["emitted"].to_string(),
            dropped.to_string(),
            decimal(&feed["fps"], ""),
            decimal(&feed["latency_ms"]["p50"], " ms"),
            decimal(&feed["latency_ms"]["p95"], " ms"),
            seen.objects.to_string(),
            seen.tracks.len().to_string(),
        ]);
    }
    if feeds.len() != set.clips.len() + 1 {
        return Err(format!(
            "{} tells of {} feeds, not of {}",
            results.summary.display(),
            feeds.len() - 1,
            set.clips.len()
        )
        .into());
    }
    let mut batches = vec![
        ["batch", "frames", "batches", "mean size", "busy", "wait p50", "process p50", "p99"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for batch in list(&summary, "batches") {
        batches.push(vec![
            batch["batch"].as_str().unwrap_or_default().to_owned(),
            batch["processed"].to_string(),
            batch["batches"].to_string(),
            decimal(&batch["mean_size"], ""),
            batch["busy"].as_f64().map_or_else(|| "-".to_owned(), |busy| format!("{:.0} %", busy * 100.0)),
            decimal(&batch["wait_ms"]["p50"], " ms"),
            decimal(&batch["process_ms"]["p50"], " ms"),
            decimal(&batch["process_ms"]["p99"], " ms"),
        ]);
    }
    let wall = decimal(&summary["wall_s"], " s");
    Ok(format!("{}\n{}\n{wall} in all\n", table::render(&feeds), table::render(&batches)))
}

fn decimal(value: &Value, unit: &str) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.1}{unit}"))
}

/// What the output lines of one feed hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    objects: usize,
    /// The ids of the tracks that were confirmed at some time.
    tracks: BTreeSet<u64>,
}

impl Seen {
    fn read(path: &Path) -> Result<Self> {
        let file =
            fs::File::open(path).map_err(|error| format!("nv left no results at {}: {error}", path.display()))?;
        let mut seen = Self::default();
        for line in BufReader::new(file).lines() {
            seen.add(&serde_json::from_str(&line?)?);
        }
        Ok(seen)
    }

    fn add(&mut self, output: &Value) {
        self.objects += list(output, "objects").count();
        let confirmed = list(output, "tracks").filter(|track| track["state"] == "confirmed");
        self.tracks.extend(confirmed.filter_map(|track| track["id"].as_u64()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set() -> AssetSet {
        AssetSet {
            subject: Subject::People,
            model: PathBuf::from("/a/m.onnx"),
            clips: [("left", PathBuf::from("/a/\"l\".mp4")), ("right", PathBuf::from("/a/r.mp4"))],
            credits: &[],
        }
    }

    #[test]
    fn the_configuration_is_toml_that_names_both_feeds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let results = Results::prepare(folder.path().join("demo")).expect("writable");
        let text = config(&set(), &results).expect("paths are Unicode");
        let config: toml::Table = text.parse().expect("valid TOML");
        let feeds = config["feed"].as_array().expect("feeds");
        assert_eq!(feeds.len(), 2);
        assert_eq!(feeds[0]["source"].as_str(), Some("/a/\"l\".mp4"));
        assert_eq!(config["batch"]["detector"]["config"]["model"].as_str(), Some("/a/m.onnx"));
        assert!(config["output"][0]["path"].as_str().is_some_and(|path| path.ends_with("demo/{feed}.jsonl")));
    }

    #[test]
    fn the_report_joins_the_summary_and_the_lines() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let results = Results::prepare(folder.path().join("demo")).expect("writable");
        let feed = |name| {
            json!({"feed": name, "received": 3, "emitted": 2, "dropped": {"queue_full": 1}, "fps": 12.34,
                "latency_ms": {"p50": 18.0, "p95": 25.04, "p99": 31.0}})
        };
        let summary = json!({"wall_s": 1.26, "feeds": [feed("left"), feed("right")], "batches": [{
            "batch": "detector", "processed": 4, "batches": 2, "mean_size": 2.0, "busy": 0.97,
            "wait_ms": {"p50": 1.2}, "process_ms": {"p50": 118.0, "p99": 131.0}}]});
        fs::write(&results.summary, summary.to_string()).expect("writable");
        let track = |id, state| json!({"id": id, "state": state});
        let first = json!({"objects": [{}, {}], "tracks": [track(1, "confirmed"), track(2, "tentative")]});
        let second = json!({"objects": null, "tracks": [track(1, "confirmed"), track(3, "confirmed")]});
        fs::write(results.lines_of("left"), format!("{first}\n{second}\n")).expect("writable");
        fs::write(results.lines_of("right"), "").expect("writable");

        let text = report(&set(), &results).expect("complete");
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "left 3 2 1 12.3 18.0 ms 25.0 ms 2 2");
        assert_eq!(lines[2], "right 3 2 1 12.3 18.0 ms 25.0 ms 0 0");
        assert_eq!(lines[5], "detector 4 2 2.0 97 % 1.2 ms 118.0 ms 131.0 ms");
        assert_eq!(lines[7], "1.3 s in all");
    }

    #[test]
    fn a_run_without_a_summary_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let results = Results::prepare(folder.path().join("demo")).expect("writable");
        let error = report(&set(), &results).expect_err("nothing was run");
        assert!(error.to_string().contains("summary.json"), "{error}");
    }
}
