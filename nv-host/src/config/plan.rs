use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nv_infer::Device;
use nv_perception::SourceSpec;
use nv_runtime::{BatchConfig, QueuePolicy, RestartConfig, StepErrorPolicy, StepOptions};
use serde_json::{Value, json};

use super::naming;
use super::origin::Origin;
use super::output::{OutputPlan, check_places};
use super::raw::{
    OutputFormat, RawBatch, RawConfig, RawFeed, RawIsolation, RawOption, RawQueuePolicy, RawStepError, Text,
};
use super::restart::RawRestart;
use super::suggestion;
use crate::exit::{Exit, Failure, Result};

/// The least score that is reported, unless told otherwise.
const REPORT_THRESHOLD: f32 = 0.35;
/// The least score that a detector of ours gives on, unless told otherwise: a tracker makes use of uncertain objects.
const DETECTOR_THRESHOLD: f64 = 0.1;

/// What is to be run, checked: names resolve, numbers are in range, units are gone.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The folder that relative paths in the plugins' own config are relative to.
    pub(crate) base_dir: PathBuf,
    pub(crate) plugins: Vec<PluginPlan>,
    pub(crate) batches: Vec<BatchPlan>,
    pub(crate) stages: Vec<StagePlan>,
    pub(crate) feeds: Vec<FeedPlan>,
    pub(crate) outputs: Vec<OutputPlan>,
    pub(crate) summary: Option<PathBuf>,
    /// Where what is decided is recorded.
    pub(crate) record_decisions: Option<PathBuf>,
    /// What is odd but no error.
    pub(crate) warnings: Vec<String>,
}

/// A plugin that config names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginPlan {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Its place in the file, for messages.
    pub(crate) at: Option<String>,
}

/// `plugin/kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KindRef {
    pub(crate) plugin: String,
    pub(crate) kind: String,
}

#[derive(Debug)]
pub(crate) struct BatchPlan {
    pub(crate) name: String,
    pub(crate) kind: KindRef,
    pub(crate) settings: BatchConfig,
    pub(crate) config: Value,
    pub(crate) at: Option<String>,
}

#[derive(Debug)]
pub(crate) struct StagePlan {
    pub(crate) name: String,
    pub(crate) kind: KindRef,
    pub(crate) config: Value,
    pub(crate) at: Option<String>,
}

#[derive(Debug)]
pub(crate) struct FeedPlan {
    pub(crate) name: String,
    pub(crate) spec: SourceSpec,
    pub(crate) steps: Vec<StepPlan>,
    pub(crate) report_threshold: f32,
    pub(crate) on_step_error: StepErrorPolicy,
    pub(crate) queue_capacity: Option<usize>,
    pub(crate) queue_policy: Option<QueuePolicy>,
    pub(crate) freshness: Option<Duration>,
    pub(crate) max_in_pipeline: Option<usize>,
    pub(crate) provenance: bool,
    pub(crate) frame_limit: Option<u64>,
    pub(crate) weight: Option<u32>,
    /// Frames a second that are let in, at most.
    pub(crate) max_rate: Option<f64>,
    /// Whether frames that the decoder calls suspect are dropped.
    pub(crate) drop_suspect: bool,
    pub(crate) stage_timeout: Option<Duration>,
    pub(crate) restart: RestartConfig,
    pub(crate) at: Option<String>,
}

/// A step of a feed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepPlan {
    pub(crate) step: StepRef,
    pub(crate) options: StepOptions,
}

/// What a step of a feed is: an index into the plan's batch points or stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepRef {
    Batch(usize),
    Stage(usize),
}

/// What the command line and the environment say, which goes before the file. Paths are relative to the current folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overrides {
    pub(crate) model: Option<PathBuf>,
    pub(crate) labels: Option<String>,
    pub(crate) classes: Vec<String>,
    pub(crate) threshold: Option<f32>,
    pub(crate) device: Option<Device>,
    pub(crate) output: Option<String>,
    pub(crate) format: Option<OutputFormat>,
    pub(crate) annotated: Option<PathBuf>,
    pub(crate) summary: Option<PathBuf>,
    pub(crate) record_decisions: Option<PathBuf>,
    pub(crate) limit: Option<u64>,
    pub(crate) provenance: Option<bool>,
}

impl Plan {
    /// Checks a config, and lays the overrides over it. Tells everything that is wrong at once.
    pub(super) fn check(raw: RawConfig, origin: &Origin, base_dir: &Path, overrides: &Overrides) -> Result<Self> {
        let mut check = Check { origin, base_dir, errors: Vec::new(), warnings: Vec::new() };
        let RawConfig { defaults, batch, stage, feed, plugin, output } = raw;

        let plugins = plugin
            .into_iter()
            .map(|(name, plugin)| {
                if let Some(isolation) = plugin.isolation
                    && *isolation.get_ref() == RawIsolation::Process
                {
                    check.error(
                        &isolation.span(),
                        "isolation = \"process\" is not in this build; \"in_process\" is the one way to run a plugin",
                    );
                }
                let path = base_dir.join(plugin.path.get_ref());
                let at = check.origin.place(plugin.path.span().start);
                PluginPlan { name: name.into_inner(), path, at }
            })
            .collect();

        for name in stage.keys().filter(|name| batch.keys().any(|b| b.get_ref() == name.get_ref())) {
            let message =
                format!("{:?} is both a batch point and a stage; give one of them another name", name.get_ref());
            check.error(&name.span(), message);
        }
        let mut batches: Vec<_> = batch.into_iter().map(|(name, batch)| check.batch(name, batch)).collect();
        let stages: Vec<_> = stage
            .into_iter()
            .map(|(name, stage)| StagePlan {
                kind: check.kind(&stage.kind),
                config: Value::Object(stage.config),
                at: check.origin.place(name.span().start),
                name: name.into_inner(),
            })
            .collect();

        if feed.is_empty() {
            check.error(&(0..0), "no feed: add at least one [[feed]] with a source");
        }
        let given: Vec<_> = feed
            .iter()
            .map(|f| (f.get_ref().name.as_ref().map(|n| n.get_ref().as_str()), f.get_ref().source.get_ref().as_str()))
            .collect();
        let names = naming::feed_names(&given);
        check.feed_names(feed.iter().filter_map(|f| f.get_ref().name.as_ref()));
        let mut feeds = Vec::with_capacity(feed.len());
        for (raw, name) in feed.into_iter().zip(&names) {
            let at = check.origin.place(raw.span().start);
            let raw = with_defaults(raw.into_inner(), &defaults);
            let steps = check.steps(raw.steps.as_deref(), name, &batches, &stages);
            feeds.push(check.feed(raw, name.clone(), steps, at));
        }

        let mut outputs = Vec::new();
        for output in output {
            let output = output.into_inner();
            let of = check.output_feeds(output.feeds.as_deref(), &names);
            match OutputPlan::new(output.format, output.path.get_ref(), base_dir, of) {
                Ok(plan) => outputs.push(plan),
                Err(message) => check.error(&output.path.span(), message),
            }
        }

        check.override_models(&mut batches, overrides);
        for feed in &mut feeds {
            feed.report_threshold = overrides.threshold.unwrap_or(feed.report_threshold);
            feed.provenance = overrides.provenance.unwrap_or(feed.provenance);
            feed.frame_limit = overrides.limit.or(feed.frame_limit);
        }
        check.override_outputs(&mut outputs, overrides, names.len());
        if let Err(message) = check_places(&outputs, &names) {
            check.error(&(0..0), message);
        }
        check.warn_of_unused(&batches, &stages, &feeds);

        let Check { errors, warnings, .. } = check;
        if !errors.is_empty() {
            return Err(Failure { exit: Exit::Usage, messages: errors });
        }
        let base_dir = base_dir.to_owned();
        let (summary, record_decisions) = (overrides.summary.clone(), overrides.record_decisions.clone());
        Ok(Self { base_dir, plugins, batches, stages, feeds, outputs, summary, record_decisions, warnings })
    }

    /// Whether a feed has this step.
    pub(crate) fn uses(&self, step: StepRef) -> bool {
        self.feeds.iter().any(|feed| feed.has_step(step))
    }
}

impl FeedPlan {
    fn has_step(&self, step: StepRef) -> bool {
        self.steps.iter().any(|s| s.step == step)
    }
}

/// A check in progress: gathers what is wrong.
pub(super) struct Check<'a> {
    origin: &'a Origin,
    pub(super) base_dir: &'a Path,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Check<'_> {
    /// As [`error`](Self::error), but for what stands in the defaults: it is wrong once, not once for each feed.
    pub(super) fn error_once(&mut self, span: &Range<usize>, message: impl AsRef<str>) {
        let message = self.origin.say(span, message);
        if !self.errors.contains(&message) {
            self.errors.push(message);
        }
    }

    pub(super) fn error(&mut self, span: &Range<usize>, message: impl AsRef<str>) {
        // A message about the file as a whole has its name, not a place in it.
        self.errors.push(self.origin.say(span, message));
    }

    fn kind(&mut self, text: &Text) -> KindRef {
        match text.get_ref().split_once('/') {
            Some((plugin, kind)) if !plugin.is_empty() && !kind.is_empty() && !kind.contains('/') => {
                KindRef { plugin: plugin.to_owned(), kind: kind.to_owned() }
            }
            _ => {
                let message = format!(
                    "use = {:?} names no kind; write plugin/kind, as in \"models/detect\" or \"track/bytetrack\"",
                    text.get_ref()
                );
                self.error(&text.span(), message);
                KindRef { plugin: String::new(), kind: String::new() }
            }
        }
    }

    fn batch(&mut self, name: Text, raw: RawBatch) -> BatchPlan {
        let d = BatchConfig::default();
        let settings = BatchConfig {
            max_batch_size: raw.max_batch_size.unwrap_or(d.max_batch_size),
            instances: raw.instances.unwrap_or(d.instances),
            max_latency: raw.max_latency.map_or(d.max_latency, |t| t.0),
            response_timeout: raw.response_timeout.map_or(d.response_timeout, |t| t.0),
            max_age: raw.max_age.map_or(d.max_age, |t| t.0),
            startup_timeout: raw.startup_timeout.map_or(d.startup_timeout, |t| t.0),
            max_in_flight_per_feed: raw.max_in_flight_per_feed.unwrap_or(d.max_in_flight_per_feed),
            max_regions_per_frame: raw.max_regions_per_frame.unwrap_or(d.max_regions_per_frame),
            max_pending: raw.max_pending.unwrap_or(d.max_pending),
        };
        if let Err(error) = settings.validate() {
            self.error(&name.span(), format!("[batch.{}]: {error}", name.get_ref()));
        }
        BatchPlan {
            kind: self.kind(&raw.kind),
            settings,
            config: Value::Object(raw.config),
            at: self.origin.place(name.span().start),
            name: name.into_inner(),
        }
    }

    fn feed_names<'t>(&mut self, given: impl Iterator<Item = &'t Text>) {
        let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        for name in given {
            if let Err(reason) = naming::check_name(name.get_ref()) {
                self.error(&name.span(), format!("{:?} can't be a feed's name: {reason}", name.get_ref()));
            }
            match seen.get(name.get_ref().as_str()) {
                Some(first) => {
                    let first = self.origin.place(first.start).map(|p| format!(" (the other is at {p})"));
                    let first = first.unwrap_or_default();
                    self.error(&name.span(), format!("two feeds are called {:?}{first}", name.get_ref()));
                }
                None => {
                    seen.insert(name.get_ref(), name.span());
                }
            }
        }
    }

    fn feed(&mut self, raw: RawFeed, name: String, steps: Vec<StepPlan>, at: Option<String>) -> FeedPlan {
        let report_threshold = raw.report_threshold.map_or(REPORT_THRESHOLD, |threshold| {
            if !(0.0..=1.0).contains(threshold.get_ref()) {
                let message = format!("report_threshold is {}, and must be from 0 to 1", threshold.get_ref());
                self.error(&threshold.span(), message);
            }
            threshold.into_inner()
        });
        let mut count = |key: &str, value: Option<toml::Spanned<usize>>| {
            let value = value?;
            if !(1..=4096).contains(value.get_ref()) {
                self.error(&value.span(), format!("{key} is {}, and must be from 1 to 4096", value.get_ref()));
            }
            Some(value.into_inner())
        };
        let queue_capacity = count("queue_capacity", raw.queue_capacity);
        let max_in_pipeline = count("max_in_pipeline", raw.max_in_pipeline);
        let frame_limit = raw.limit.map(|limit| {
            if *limit.get_ref() == 0 {
                self.error(&limit.span(), "limit is 0, which would run nothing; give at least 1");
            }
            limit.into_inner()
        });
        let weight = raw.weight.map(|weight| {
            if !(1..=1000).contains(weight.get_ref()) {
                self.error_once(&weight.span(), format!("weight is {}, and must be from 1 to 1000", weight.get_ref()));
            }
            weight.into_inner()
        });
        let max_rate = raw.max_rate.map(|rate| {
            if !(*rate.get_ref() > 0.0 && rate.get_ref().is_finite()) {
                let message =
                    format!("max_rate is {}, and must be a number of frames a second above 0", rate.get_ref());
                self.error_once(&rate.span(), message);
            }
            rate.into_inner()
        });
        let stage_timeout = raw.stage_timeout.map(|limit| {
            if limit.get_ref().0.is_zero() {
                self.error_once(
                    &limit.span(),
                    "stage_timeout is 0, and no stage could ever run; give at least \"1ms\"",
                );
            }
            limit.into_inner().0
        });
        let restart = self.restart(&name, raw.restart);
        let spec = SourceSpec {
            url: raw.source.into_inner(),
            live: raw.live.unwrap_or(false),
            base_dir: self.base_dir.to_owned(),
            options: raw.options.into_iter().map(|(name, value)| (name, RawOption::into_text(value))).collect(),
        };
        FeedPlan {
            name,
            spec,
            steps,
            report_threshold,
            on_step_error: match raw.on_step_error {
                Some(RawStepError::Pass) => StepErrorPolicy::Pass,
                Some(RawStepError::Drop) | None => StepErrorPolicy::Drop,
            },
            queue_capacity,
            queue_policy: raw.queue_policy.map(|policy| match policy {
                RawQueuePolicy::DropOldest => QueuePolicy::DropOldest,
                RawQueuePolicy::DropNewest => QueuePolicy::DropNewest,
                RawQueuePolicy::Block => QueuePolicy::Block,
            }),
            freshness: raw.freshness.map(|t| t.0),
            max_rate,
            drop_suspect: raw.drop_suspect.unwrap_or(false),
            max_in_pipeline,
            provenance: raw.provenance.unwrap_or(true),
            frame_limit,
            weight,
            stage_timeout,
            restart,
            at,
        }
    }

    fn restart(&mut self, feed: &str, raw: Option<toml::Spanned<RawRestart>>) -> RestartConfig {
        let Some(raw) = raw else { return RestartConfig::default() };
        let settings = raw.get_ref().settings();
        if let Err(error) = settings.validate() {
            self.error(&raw.span(), format!("feed {feed:?}: {error}"));
        }
        settings
    }

    /// The feeds that an output names; all where it names none.
    fn output_feeds(&mut self, named: Option<&[Text]>, feeds: &[String]) -> Vec<usize> {
        let Some(named) = named else { return (0..feeds.len()).collect() };
        let mut indices = Vec::with_capacity(named.len());
        for name in named {
            match feeds.iter().position(|feed| feed == name.get_ref()) {
                Some(at) if !indices.contains(&at) => indices.push(at),
                Some(_) => {}
                None => {
                    let hint = suggestion(name.get_ref(), feeds, "there are");
                    self.error(&name.span(), format!("there is no feed {:?}; {hint}", name.get_ref()));
                }
            }
        }
        indices
    }

    /// Lays what the command line says of models over the batch points that run them.
    fn override_models(&mut self, batches: &mut [BatchPlan], overrides: &Overrides) {
        let runs_model = |b: &&mut BatchPlan| b.kind.plugin == "models";
        if let Some(device) = overrides.device {
            let mut any = false;
            for batch in batches.iter_mut().filter(runs_model) {
                batch.config["device"] = json!(device.as_str());
                any = true;
            }
            if !any && device != Device::Auto && device != Device::Cpu {
                self.errors.push(format!("--device {device}: no batch point here runs a model"));
            }
        }
        if let Some(threshold) = overrides.threshold {
            for batch in batches.iter_mut().filter(|b| b.kind.plugin == "models" && b.kind.kind == "detect") {
                let own = batch.config["threshold"].as_f64().unwrap_or(DETECTOR_THRESHOLD);
                // What is to be reported must get past the detector.
                if own > f64::from(threshold) {
                    batch.config["threshold"] = json!(threshold);
                }
            }
        }
        let Overrides { model, labels, classes, .. } = overrides;
        if model.is_none() && labels.is_none() && classes.is_empty() {
            return;
        }
        let mut detectors = batches.iter_mut().filter(|b| b.kind.plugin == "models" && b.kind.kind == "detect");
        let (Some(detector), None) = (detectors.next(), detectors.next()) else {
            self.errors.push(
                "--model, --labels and --classes go with one batch point of use = \"models/detect\", and here is not \
                 exactly one; set them in the config"
                    .into(),
            );
            return;
        };
        // The plugin takes paths as relative to the config file; those of the command line are not.
        let from_here = |path: &Path| {
            let path = if self.base_dir.as_os_str().is_empty() { Ok(path.into()) } else { std::path::absolute(path) };
            path.ok().and_then(|path: PathBuf| path.to_str().map(str::to_owned))
        };
        if let Some(model) = model {
            match from_here(model) {
                Some(model) => detector.config["model"] = json!(model),
                None => self.errors.push(format!("--model {}: the path must be UTF-8", model.display())),
            }
        }
        if let Some(labels) = labels {
            let labels = if labels == "coco" { Some(labels.clone()) } else { from_here(Path::new(labels)) };
            detector.config["labels"] = json!(labels);
        }
        if !classes.is_empty() {
            detector.config["classes"] = json!(classes);
        }
    }

    /// Lays what the command line says of outputs over those of the file.
    fn override_outputs(&mut self, outputs: &mut Vec<OutputPlan>, overrides: &Overrides, feeds: usize) {
        let all = || (0..feeds).collect();
        let mut add = |format, path: &str| match OutputPlan::new(format, path, Path::new(""), all()) {
            Ok(plan) => Some(plan),
            Err(message) => {
                self.errors.push(message);
                None
            }
        };
        let mut added = Vec::new();
        let named = overrides.output.is_some() || overrides.format.is_some();
        if named || outputs.is_empty() {
            outputs.retain(|output| output.format == OutputFormat::Annotated);
            let format = overrides.format.unwrap_or_default();
            added.extend(add(format, overrides.output.as_deref().unwrap_or("-")));
        }
        if let Some(folder) = &overrides.annotated {
            outputs.retain(|output| output.format != OutputFormat::Annotated);
            match folder.to_str() {
                Some(folder) => added.extend(add(OutputFormat::Annotated, folder)),
                None => self.errors.push(format!("--annotated {}: the path must be UTF-8", folder.display())),
            }
        }
        outputs.extend(added);
    }

    /// Warns of batch points and stages that no feed uses. They are not built: nobody is to wait for a model that does
    /// nothing.
    fn warn_of_unused(&mut self, batches: &[BatchPlan], stages: &[StagePlan], feeds: &[FeedPlan]) {
        let batches = batches.iter().enumerate().map(|(i, b)| (StepRef::Batch(i), "batch", &b.name, &b.at));
        let stages = stages.iter().enumerate().map(|(i, s)| (StepRef::Stage(i), "stage", &s.name, &s.at));
        for (step, table, name, at) in batches.chain(stages) {
            if !feeds.iter().any(|feed| feed.has_step(step)) {
                let place = at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
                self.warnings.push(format!("{place}[{table}.{name}] is in no feed's steps and is left out"));
            }
        }
    }
}

fn with_defaults(feed: RawFeed, defaults: &super::raw::RawDefaults) -> RawFeed {
    let d = defaults;
    RawFeed {
        steps: feed.steps.or_else(|| d.steps.clone()),
        live: feed.live.or(d.live),
        report_threshold: feed.report_threshold.or_else(|| d.report_threshold.clone()),
        on_step_error: feed.on_step_error.or(d.on_step_error),
        queue_capacity: feed.queue_capacity.or_else(|| d.queue_capacity.clone()),
        queue_policy: feed.queue_policy.or(d.queue_policy),
        freshness: feed.freshness.or(d.freshness),
        max_rate: feed.max_rate.or_else(|| d.max_rate.clone()),
        drop_suspect: feed.drop_suspect.or(d.drop_suspect),
        max_in_pipeline: feed.max_in_pipeline.or_else(|| d.max_in_pipeline.clone()),
        provenance: feed.provenance.or(d.provenance),
        limit: feed.limit.or_else(|| d.limit.clone()),
        weight: feed.weight.or_else(|| d.weight.clone()),
        stage_timeout: feed.stage_timeout.or_else(|| d.stage_timeout.clone()),
        restart: RawRestart::of_feed(feed.restart, d.restart.as_ref()),
        ..feed
    }
}
