//! The steps of a feed: names, or tables with options.

use std::fmt;
use std::path::Path;

use nv_perception::Value;
use nv_runtime::{RegionOptions, SkipCondition, StepOptions};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

use super::duration::RawDuration;
use super::plan::{BatchPlan, Check, StagePlan, StepPlan, StepRef};
use super::raw::Text;
use super::suggestion;

/// A step as it is written: a name, or a table with the name and options.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawStep {
    name: String,
    options: Option<RawOptions>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStepTable {
    step: String,
    every: Option<u32>,
    max_rate: Option<f64>,
    #[serde(default)]
    skip_while: Vec<Spanned<RawSkip>>,
    regions: Option<RawRegions>,
}

#[derive(Clone, Debug)]
struct RawOptions {
    every: Option<u32>,
    max_rate: Option<f64>,
    skip_while: Vec<Spanned<RawSkip>>,
    regions: Option<RawRegions>,
}

/// A condition under which a step is skipped: a signal and what is said of it, or an artifact.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSkip {
    signal: Option<String>,
    is: Option<RawValue>,
    below: Option<f64>,
    above: Option<f64>,
    artifact: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "true, false, a number or a text in quotes")]
enum RawValue {
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

/// Which objects a step looks at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegions {
    from: Option<Text>,
    #[serde(default)]
    classes: Vec<Text>,
    min_score: Option<f32>,
    min_width: Option<f32>,
    min_height: Option<f32>,
    max: Option<usize>,
    refresh: Option<RawDuration>,
}

impl RawStep {
    /// A step of this name, without options.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), options: None }
    }
}

impl<'de> Deserialize<'de> for RawStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = RawStep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a step's name, or a table as in { step = \"name\", every = 3 }")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<RawStep, E> {
                Ok(RawStep::new(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<RawStep, A::Error> {
                let RawStepTable { step, every, max_rate, skip_while, regions } =
                    RawStepTable::deserialize(MapAccessDeserializer::new(table))?;
                Ok(RawStep { name: step, options: Some(RawOptions { every, max_rate, skip_while, regions }) })
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

impl Check<'_> {
    /// The steps of a feed, found by their names.
    pub(super) fn steps(
        &mut self,
        steps: Option<&[Spanned<RawStep>]>,
        feed: &str,
        batches: &[BatchPlan],
        stages: &[StagePlan],
    ) -> Vec<StepPlan> {
        let known: Vec<&str> =
            batches.iter().map(|b| b.name.as_str()).chain(stages.iter().map(|s| s.name.as_str())).collect();
        let Some(steps) = steps else {
            self.error(&(0..0), format!("feed {feed:?} has no steps; name some, in the feed or in [defaults]"));
            return Vec::new();
        };
        let mut resolved = Vec::with_capacity(steps.len());
        for (i, raw) in steps.iter().enumerate() {
            let name = &raw.get_ref().name;
            let before = &steps[..i];
            let step = if before.iter().any(|other| other.get_ref().name == *name) {
                self.error(&raw.span(), format!("feed {feed:?} has the step {name:?} twice"));
                continue;
            } else if let Some(at) = batches.iter().position(|b| b.name == *name) {
                StepRef::Batch(at)
            } else if let Some(at) = stages.iter().position(|s| s.name == *name) {
                StepRef::Stage(at)
            } else {
                let hint = suggestion(name, &known, "there are");
                let message = format!("there is no step {name:?}: no [batch.{name}] and no [stage.{name}]; {hint}");
                self.error_once(&raw.span(), message);
                continue;
            };
            let options = match &raw.get_ref().options {
                None => StepOptions::default(),
                Some(options) => self.options(raw, options, step, before, batches),
            };
            resolved.push(StepPlan { step, options });
        }
        resolved
    }

    fn options(
        &mut self,
        step: &Spanned<RawStep>,
        raw: &RawOptions,
        of: StepRef,
        before: &[Spanned<RawStep>],
        batches: &[BatchPlan],
    ) -> StepOptions {
        let name = &step.get_ref().name;
        let RawOptions { every, max_rate, skip_while, regions } = raw;
        let plain = StepOptions::default();
        if let StepRef::Stage(_) = of
            && (every.is_some() || max_rate.is_some() || !skip_while.is_empty() || regions.is_some())
        {
            let message = format!(
                "step {name:?}: every, max_rate, skip_while and regions are for batch points, and {name:?} is a stage, which \
                 sees every frame"
            );
            self.error_once(&step.span(), message);
            return plain;
        }
        let options = StepOptions {
            every: every.unwrap_or(plain.every),
            max_rate: *max_rate,
            skip_while: skip_while.iter().filter_map(|condition| self.skip_condition(name, condition)).collect(),
            regions: regions.as_ref().map(|regions| self.regions(step, regions, before, batches)),
        };
        if let Err(error) = options.validate() {
            // The key is called `max` here, within `regions`.
            let error = error.to_string().replace("regions.max_regions", "regions.max");
            self.error_once(&step.span(), format!("step {name:?}: {error}"));
        }
        options
    }

    fn skip_condition(&mut self, step: &str, raw: &Spanned<RawSkip>) -> Option<SkipCondition> {
        let RawSkip { signal, is, below, above, artifact } = raw.get_ref().clone();
        match (signal, is, below, above, artifact) {
            (Some(signal), None, None, None, None) => {
                Some(SkipCondition::SignalIs { signal: signal.into(), value: Value::Bool(true) })
            }
            (Some(signal), Some(value), None, None, None) => {
                Some(SkipCondition::SignalIs { signal: signal.into(), value: value.into() })
            }
            (Some(signal), None, Some(limit), None, None) => {
                Some(SkipCondition::SignalBelow { signal: signal.into(), limit })
            }
            (Some(signal), None, None, Some(limit), None) => {
                Some(SkipCondition::SignalAbove { signal: signal.into(), limit })
            }
            (None, None, None, None, Some(schema)) => Some(SkipCondition::Artifact { schema: schema.into() }),
            _ => {
                let message = format!(
                    "step {step:?}: a condition of skip_while is a `signal`, alone (it is true) or with one of `is`, `below` and \
                     `above`; or an `artifact`"
                );
                self.error_once(&raw.span(), message);
                None
            }
        }
    }

    fn regions(
        &mut self,
        step: &Spanned<RawStep>,
        raw: &RawRegions,
        before: &[Spanned<RawStep>],
        batches: &[BatchPlan],
    ) -> RegionOptions {
        let name = &step.get_ref().name;
        let before: Vec<&str> = before.iter().map(|s| s.get_ref().name.as_str()).collect();
        match &raw.from {
            None if before.is_empty() => {
                self.error_once(
                    &step.span(),
                    format!("step {name:?}: regions are objects of an earlier step, and it is the first"),
                );
            }
            Some(from) if !before.contains(&from.get_ref().as_str()) => {
                let hint = suggestion(from.get_ref(), &before, "before it are");
                let message = format!(
                    "step {name:?}: regions.from is {:?}, and no step before it is called so; {hint}",
                    from.get_ref()
                );
                self.error_once(&from.span(), message);
            }
            _ => {}
        }
        // What detectors don't know or leave out is never there to be looked at.
        let sources = match &raw.from {
            Some(from) => vec![from.get_ref().as_str()],
            None => before,
        };
        if let Some(given) = classes_of(&sources, batches, self.base_dir) {
            for class in raw.classes.iter().filter(|class| !given.contains(class.get_ref())) {
                let hint = suggestion(class.get_ref(), &given, "its classes are");
                let sources = sources.join(", ");
                let message =
                    format!("step {name:?}: {sources} gives no objects of class {:?}; {hint}", class.get_ref());
                self.error_once(&class.span(), message);
            }
        }
        let plain = RegionOptions::default();
        RegionOptions {
            from: raw.from.as_ref().map(|from| from.get_ref().as_str().into()),
            classes: raw.classes.iter().map(|class| class.get_ref().as_str().into()).collect(),
            min_score: raw.min_score.unwrap_or(plain.min_score),
            min_width: raw.min_width.unwrap_or(plain.min_width),
            min_height: raw.min_height.unwrap_or(plain.min_height),
            max_regions: raw.max.unwrap_or(plain.max_regions),
            refresh: raw.refresh.map(|t| t.0),
        }
    }
}

/// The classes that these steps are set to give, if that is known of each of them.
fn classes_of(steps: &[&str], batches: &[BatchPlan], base_dir: &Path) -> Option<Vec<String>> {
    let mut classes = Vec::new();
    for step in steps {
        let batch = batches.iter().find(|b| b.name == *step)?;
        if batch.kind.plugin != "models" || batch.kind.kind != "detect" {
            return None;
        }
        let list = |key| Some(batch.config.get(key)?.as_array()?.iter().filter_map(|c| c.as_str().map(str::to_owned)));
        match (list("classes"), batch.config.get("labels").and_then(|l| l.as_str())) {
            (Some(wanted), _) => classes.extend(wanted),
            (None, Some("coco")) => return None,
            // What is wrong with the file, the plugin says best.
            (None, Some(file)) => {
                let text = std::fs::read_to_string(base_dir.join(file)).ok()?;
                classes.extend(text.lines().map(|line| line.trim().to_owned()).filter(|name| !name.is_empty()));
            }
            (None, None) => classes.extend(list("labels")?),
        }
    }
    Some(classes)
}

impl From<RawValue> for Value {
    fn from(raw: RawValue) -> Self {
        match raw {
            RawValue::Flag(flag) => Self::Bool(flag),
            RawValue::Whole(number) => Self::Int(number),
            RawValue::Number(number) => Self::Float(number),
            RawValue::Text(text) => Self::Text(text),
        }
    }
}
