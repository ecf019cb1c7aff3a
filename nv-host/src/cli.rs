use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use nv_infer::Device;
use nv_perception::SourceSpec;

use crate::config::{Inputs, OutputFormat, Overrides, Plan};
use crate::exit::{Failure, Result};

/// Real-time video perception: detects and tracks objects in any number of video feeds.
#[derive(Debug, Parser)]
#[command(name = "nv", version, about, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 runtime failure, 2 usage or config, 3 model or plugin, 4 no such device, 5 a source failed,
130 interrupted. Results go to standard output, everything else to standard error. NV_LOG (or RUST_LOG) sets what is
logged, as in NV_LOG=info; NO_COLOR turns colours off.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a config file, or videos, pictures and folders with a model
    Run(RunArgs),
    /// Check a config file and everything it names: plugins, models, sources, outputs
    Validate(ValidateArgs),
    /// Show the plugins that are found
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Look into models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Show what models can run on: the CPU, the GPUs, and which of them `auto` takes
    #[command(after_help = DEVICES_HELP)]
    Devices {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the decisions of a recorded run again, and compare them byte for byte
    #[command(after_help = REPLAY_HELP)]
    Replay {
        /// What `nv run --record-decisions FILE` wrote; or - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

const DEVICES_HELP: &str = "\
A discrete GPU goes before an integrated one, and any GPU before the CPU. A software adapter is the CPU playing a GPU: slower
than the CPU itself, and used only with --device software.";

const REPLAY_HELP: &str = "\
What the run was told (when frames came, when batches were done) is told again, in the same order and at the same times, to
the same code without videos, models and threads. Ends with 0 if it decides everything as it did then, with 1 at the first
line where it does not, and with 2 if the file is no such log. A log that was cut off is replayed as far as it goes.";

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// A CONFIG.toml; or any number of videos, pictures, folders, patterns and URLs, each a feed
    #[arg(required = true, value_name = "CONFIG.toml | INPUT")]
    pub(crate) inputs: Vec<String>,
    #[command(flatten)]
    pub(crate) flags: RunFlags,
    #[command(flatten)]
    pub(crate) plugins: PluginDir,
}

const RUN_HELP: &str = "\
Without a config file, one detector is shared by all inputs and each video or folder has a tracker of its own; single
pictures are not tracked. With a config file, flags go before the environment, which goes before the file.

Examples:
  nv run yard.mp4 --model yolox_nano.onnx --labels coco --classes person > yard.jsonl
  nv run a.mp4 b.mp4 --model m.onnx --output out/ --annotated pictures/ --summary summary.json
  nv run site.toml --limit 100";

/// What may be said on the command line, in the environment, or (most of it) in the config file.
#[derive(Debug, Default, Args)]
pub(crate) struct RunFlags {
    /// The detector's ONNX file
    #[arg(long, value_name = "FILE", env = "NV_MODEL")]
    model: Option<PathBuf>,
    /// Names of the classes: coco, or a text file with one on each line
    #[arg(long, value_name = "coco|FILE", env = "NV_LABELS")]
    labels: Option<String>,
    /// Classes to keep, by name, with commas between them
    #[arg(long, value_name = "NAME,…", env = "NV_CLASSES", value_delimiter = ',')]
    classes: Vec<String>,
    /// The least score that is reported, 0 to 1 [default: 0.35]
    #[arg(long, value_name = "SCORE", env = "NV_THRESHOLD", value_parser = score)]
    threshold: Option<f32>,
    /// Where results go: a file, a folder (with a slash at its end), a path with {feed} in it, or - for standard output
    #[arg(long, short, value_name = "PATH", env = "NV_OUTPUT", allow_hyphen_values = true)]
    output: Option<String>,
    /// What results look like
    #[arg(long, value_enum, env = "NV_FORMAT")]
    format: Option<Format>,
    /// A folder for pictures of every frame with boxes, ids and labels drawn in
    #[arg(long, value_name = "FOLDER", env = "NV_ANNOTATED")]
    annotated: Option<PathBuf>,
    /// A file for the account of the run: frames, drops, speed, latency
    #[arg(long, value_name = "FILE", env = "NV_SUMMARY")]
    summary: Option<PathBuf>,
    /// A file for what the run decides and why, to be replayed; slows it down
    #[arg(long, value_name = "FILE", env = "NV_RECORD_DECISIONS")]
    record_decisions: Option<PathBuf>,
    /// Stop each feed after so many frames
    #[arg(long, value_name = "N", env = "NV_LIMIT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Whether results say how they came about
    #[arg(long, value_enum, env = "NV_PROVENANCE")]
    provenance: Option<Switch>,
    /// What models run on; `nv devices` shows what there is
    #[arg(long, value_name = "DEVICE", env = "NV_DEVICE", value_parser = PossibleValuesParser::new(DEVICES))]
    device: Option<String>,
}

const DEVICES: [&str; 4] = ["auto", "cpu", "gpu", "software"];

#[derive(Debug, Default, Args)]
pub(crate) struct PluginDir {
    /// Where the shipped plugins are, instead of beside the executable
    #[arg(long = "plugin-dir", value_name = "FOLDER", env = "NV_PLUGIN_DIR")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line of JSON for each frame (nv.output/1)
    Jsonl,
    /// MOT text: a line for each confirmed track of each frame
    Mot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The config file
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) plugins: PluginDir,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// The plugins and their kinds
    List {
        /// A config file whose plugins are shown too
        #[arg(long, value_name = "CONFIG.toml")]
        config: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        plugins: PluginDir,
    },
    /// All about one plugin: version, kinds, what each can be told
    Info {
        /// Its name, or the path of its library
        plugin: String,
        /// A config file that names it
        #[arg(long, value_name = "CONFIG.toml")]
        config: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        plugins: PluginDir,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// What an ONNX file holds: inputs, outputs, operators, metadata; what its graph becomes, costs and takes
    Inspect {
        /// The ONNX file
        #[arg(value_name = "M.onnx")]
        model: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// List the nodes, before and after they are fused
        #[arg(long)]
        graph: bool,
        /// Entries in a batch, for the memory that it takes
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        batch: u32,
        /// The size of a dimension that the file leaves open, as in `height=320`; may be repeated
        #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = dimension)]
        dims: Vec<(String, u32)>,
    },
}

/// `NAME=SIZE`, a size of at least 1.
fn dimension(text: &str) -> std::result::Result<(String, u32), String> {
    let (name, size) = text.split_once('=').ok_or("it is not of the form NAME=SIZE")?;
    match size.parse() {
        Ok(size) if size > 0 && !name.is_empty() => Ok((name.into(), size)),
        _ => Err(format!("{size:?} is not a size of at least 1, or the name is empty")),
    }
}

impl RunArgs {
    /// What is to be run.
    pub(crate) fn plan(&self) -> Result<Plan> {
        let overrides = self.flags.overrides();
        match &self.inputs[..] {
            [config] if is_config(config) => Plan::from_file(Path::new(config), &overrides),
            inputs => {
                if let Some(config) = inputs.iter().find(|input| is_config(input)) {
                    return Err(Failure::usage(format!(
                        "{config} is a config file, which names its feeds itself; run it alone, or add the other \
                         inputs to it as [[feed]]"
                    )));
                }
                if overrides.model.is_none() {
                    return Err(Failure::usage(
                        "no model to detect with; give --model M.onnx, or run a CONFIG.toml that names one",
                    ));
                }
                Plan::from_inputs(&Inputs { sources: inputs.to_vec() }, &overrides)
            }
        }
    }
}

impl RunFlags {
    fn overrides(&self) -> Overrides {
        Overrides {
            model: self.model.clone(),
            labels: self.labels.clone(),
            classes: self.classes.iter().map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect(),
            threshold: self.threshold,
            device: self.device.as_deref().and_then(|device| device.parse::<Device>().ok()),
            output: self.output.clone(),
            format: self.format.map(|format| match format {
                Format::Jsonl => OutputFormat::Jsonl,
                Format::Mot => OutputFormat::Mot,
            }),
            annotated: self.annotated.clone(),
            summary: self.summary.clone(),
            record_decisions: self.record_decisions.clone(),
            limit: self.limit,
            provenance: self.provenance.map(|switch| switch == Switch::On),
        }
    }
}

fn is_config(input: &str) -> bool {
    SourceSpec::new(input).scheme() == "file"
        && Path::new(input).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}

fn score(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        _ => Err("it must be a number from 0 to 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn devices_are_those_of_the_inference() {
        for device in DEVICES {
            assert_eq!(device.parse::<Device>().map(|d| d.as_str()), Ok(device));
        }
    }

    fn plan(args: &[&str]) -> std::result::Result<Plan, String> {
        let cli = Cli::try_parse_from(["nv", "run"].iter().chain(args)).map_err(|e| e.to_string())?;
        let Command::Run(args) = cli.command else { panic!("it was asked to run") };
        args.plan().map_err(|e| e.to_string())
    }

    #[test]
    fn several_inputs_share_a_detector() {
        let plan = plan(&["a/x.mp4", "b/x.mp4", "p.jpg", "--model", "m.onnx", "--classes", "person, car,"]).unwrap();
        assert_eq!(plan.batches.len(), 1);
        assert_eq!(plan.batches[0].config, serde_json::json!({"model": "m.onnx", "classes": ["person", "car"]}));
        let feeds: Vec<_> = plan.feeds.iter().map(|f| (f.name.as_str(), f.steps.len())).collect();
        assert_eq!(feeds, [("x", 2), ("x-2", 2), ("p", 1)]);
        assert!(plan.feeds.iter().all(|f| f.report_threshold == 0.35 && f.provenance));
    }

    #[test]
    fn a_low_threshold_lowers_the_detectors_too() {
        let threshold = |t: &str| {
            let plan = plan(&["x.mp4", "--model", "m.onnx", "--threshold", t]).unwrap();
            (plan.feeds[0].report_threshold, plan.batches[0].config["threshold"].as_f64())
        };
        assert_eq!(threshold("0.5"), (0.5, None));
        let (reported, detector) = threshold("0.05");
        assert_eq!(reported, 0.05);
        assert!(detector.is_some_and(|d| (d - 0.05).abs() < 1e-6));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        fn check(args: &[&str], expected: &str) {
            let error = plan(args).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        check(&["x.mp4"], "no model to detect with; give --model M.onnx");
        check(&["x.mp4", "site.toml", "--model", "m"], "site.toml is a config file");
        check(&["x.mp4", "--model", "m", "--threshold", "2"], "it must be a number from 0 to 1");
        check(&["x.mp4", "--model", "m", "--limit", "0"], "--limit");
        check(&["a.mp4", "b.mp4", "--model", "m", "--format", "mot"], "several feeds can't share standard output");
        check(&["x.mp4", "--model", "m", "--thresold", "0.2"], "--threshold");
        check(&["nope.toml"], "config nope.toml: there is no such file");
    }
}
