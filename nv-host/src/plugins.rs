use std::path::{Path, PathBuf};
use std::sync::Arc;

use nv_perception::{BuildContext, Creator, KindDescriptor, StageError, StageErrorKind};
use nv_plugin_loader::{Registry, shipped_plugin_dirs};
use nv_runtime::{ProcessorFactory, StageFactory};
use serde_json::Value;

use crate::config::{BatchPlan, KindRef, Plan, StagePlan, suggestion};
use crate::exit::{Exit, Failure, Result};

/// The plugins that come with the command. Every other is loaded only where the user names it.
const SHIPPED: [&str; 2] = ["models", "track"];

/// The plugins of a run.
#[derive(Debug)]
pub(crate) struct Plugins {
    registry: Registry,
    /// Where shipped plugins are looked for.
    folders: Vec<PathBuf>,
}

impl Plugins {
    /// No plugins yet. Shipped ones will be looked for in `folder` (or several, separated as in `PATH`), where it is given.
    pub(crate) fn new(folder: Option<&Path>) -> Self {
        let folders = match folder {
            Some(folder) => std::env::split_paths(folder).collect(),
            None => shipped_plugin_dirs(),
        };
        Self { registry: Registry::new(), folders }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Loads every plugin that lies where shipped plugins do, for a list of them. Returns what was refused.
    pub(crate) fn load_found(&mut self) -> Vec<String> {
        self.registry.search(&self.folders).iter().map(ToString::to_string).collect()
    }

    /// Loads the plugin at `path`, under its own name, which is returned.
    pub(crate) fn load_file(&mut self, path: &Path) -> Result<String> {
        let plugin = self.registry.load(path).map_err(|error| Failure::new(Exit::Plugin, error.to_string()))?;
        Ok(plugin.name.clone())
    }

    /// Loads the plugins that the config names a file for.
    pub(crate) fn load_named(&mut self, plan: &Plan) -> Result<()> {
        let failures = plan.plugins.iter().filter_map(|plugin| {
            let error = self.registry.load_as(&plugin.name, &plugin.path).err()?;
            Some(Failure::new(Exit::Plugin, placed(plugin.at.as_deref(), &error.to_string())))
        });
        let failures: Vec<_> = failures.collect();
        Failure::gather(failures)
    }

    /// Loads all that a plan needs.
    pub(crate) fn load_for(&mut self, plan: &Plan) -> Result<()> {
        self.load_named(plan)?;
        let batches = plan.batches.iter().map(|batch| (&batch.kind, batch.at.as_deref()));
        let stages = plan.stages.iter().map(|stage| (&stage.kind, stage.at.as_deref()));
        let mut failures: Vec<Failure> = Vec::new();
        for (kind, at) in batches.chain(stages) {
            if self.registry.plugin(&kind.plugin).is_some() {
                continue;
            }
            if let Err(failure) = self.load_shipped(&kind.plugin, plan, at)
                && !failures.contains(&failure)
            {
                failures.push(failure);
            }
        }
        Failure::gather(failures)
    }

    fn load_shipped(&mut self, name: &str, plan: &Plan, at: Option<&str>) -> Result<()> {
        if !SHIPPED.contains(&name) {
            let known: Vec<&str> = SHIPPED.into_iter().chain(plan.plugins.iter().map(|p| p.name.as_str())).collect();
            let hint = suggestion(name, &known, "there are");
            let message = format!("there is no plugin {name:?}: no [plugin.{name}] says where it is; {hint}");
            return Err(Failure::new(Exit::Plugin, placed(at, &message)));
        }
        let file = format!("{}nv_{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        match self.folders.iter().map(|folder| folder.join(&file)).find(|path| path.exists()) {
            Some(path) => match self.registry.load_as(name, &path) {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::new(Exit::Plugin, error.to_string())),
            },
            None => {
                let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
                let looked = if folders.is_empty() { "nowhere".into() } else { folders.join(" and ") };
                Err(Failure::new(
                    Exit::Plugin,
                    format!(
                        "the plugin {name:?} ({file}) is not there; looked in {looked}; build it with `cargo xtask \
                         plugins`, or say where it is with --plugin-dir FOLDER"
                    ),
                ))
            }
        }
    }

    fn find(&self, kind: &KindRef, at: Option<&str>) -> Result<&KindDescriptor> {
        self.registry
            .find(&format!("{}/{}", kind.plugin, kind.kind))
            .map_err(|error| Failure::new(Exit::Plugin, placed(at, &error.to_string())))
    }

    /// What builds the processors of a batch point.
    pub(crate) fn processor(&self, batch: &BatchPlan, base_dir: &Path) -> Result<ProcessorFactory> {
        let at = batch.at.as_deref();
        match &self.find(&batch.kind, at)?.creator {
            Creator::Batch(create) => {
                let (create, config, context) = (create.clone(), batch.config.clone(), BuildContext::new(base_dir));
                Ok(Arc::new(move || create(&config, &context)))
            }
            Creator::Stage(_) => Err(wrong_table(&batch.name, &batch.kind, at, "stage", "batch")),
        }
    }

    /// What builds a stage, once for each feed.
    pub(crate) fn stage(&self, stage: &StagePlan, base_dir: &Path) -> Result<StageFactory> {
        let at = stage.at.as_deref();
        match &self.find(&stage.kind, at)?.creator {
            Creator::Stage(create) => {
                let (create, config, context) = (create.clone(), stage.config.clone(), BuildContext::new(base_dir));
                Ok(Arc::new(move || create(&config, &context)))
            }
            Creator::Batch(_) => Err(wrong_table(&stage.name, &stage.kind, at, "batch", "stage")),
        }
    }
}

fn wrong_table(name: &str, kind: &KindRef, at: Option<&str>, is: &str, not: &str) -> Failure {
    let KindRef { plugin, kind } = kind;
    let what = if is == "stage" { "is a stage, of which each feed has its own" } else { "works in batches" };
    Failure::usage(placed(at, &format!("{plugin}/{kind} {what}: make it [{is}.{name}], not [{not}.{name}]")))
}

/// How the command ends when a step can't be built for this reason.
pub(crate) fn exit_of(error: &StageError) -> Exit {
    match error.kind() {
        StageErrorKind::Config => Exit::Usage,
        StageErrorKind::NoDevice => Exit::Device,
        _ => Exit::Plugin,
    }
}

/// A stage's error with its causes, where they say more than it does itself.
pub(crate) fn with_causes(error: &StageError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A message with its place in the config before it.
pub(crate) fn placed(at: Option<&str>, message: &str) -> String {
    at.map_or_else(|| message.to_owned(), |at| format!("{at}: {message}"))
}

/// What `nv plugin` shows of a plugin.
pub(crate) fn plugin_record(plugin: &nv_plugin_loader::RegisteredPlugin) -> Value {
    let descriptor = &plugin.descriptor;
    let kinds: Vec<_> = descriptor
        .kinds
        .iter()
        .map(|kind| {
            let schema = serde_json::from_str::<Value>(&kind.config_schema).unwrap_or(Value::Null);
            serde_json::json!({
                "kind": kind.kind, "is": role(kind), "summary": kind.summary, "config_schema": schema,
            })
        })
        .collect();
    let mut record = serde_json::json!({
        "name": descriptor.name, "version": descriptor.version, "path": null, "sha256": null, "sdk_version": null,
        "authors": null, "license": null, "kinds": kinds,
    });
    if let nv_plugin_loader::Origin::Loaded(loaded) = &plugin.origin {
        record["path"] = loaded.file.path.display().to_string().into();
        record["sha256"] = loaded.file.sha256.to_string().into();
        record["sdk_version"] = loaded.sdk_version.clone().into();
        record["authors"] = loaded.authors.clone().into();
        record["license"] = loaded.license.clone().into();
    }
    record
}

/// `stage` or `batch`, as the tables of a config are called.
pub(crate) fn role(kind: &KindDescriptor) -> &'static str {
    match kind.creator {
        Creator::Stage(_) => "stage",
        Creator::Batch(_) => "batch",
    }
}
