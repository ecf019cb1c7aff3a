//! `nv plugin` and `nv model`: looking at what there is.

use std::fmt::Write as _;
use std::path::Path;

use nv_infer::{GraphOptions, Model};
use nv_plugin_loader::{Origin, RegisteredPlugin};
use serde_json::Value;

use crate::cli::{ModelCommand, PluginCommand};
use crate::config::{Overrides, Plan, suggestion};
use crate::console::{Console, print};
use crate::exit::{Exit, Failure, Result};
use crate::plugins::{Plugins, plugin_record, role};

pub(crate) fn plugin(command: &PluginCommand, console: &Console) -> Result<Exit> {
    match command {
        PluginCommand::List { config, json, plugins } => {
            let mut found = Plugins::new(plugins.folder.as_deref());
            load(&mut found, config.as_deref(), console)?;
            let plugins = found.registry().plugins();
            if *json {
                let records: Vec<_> = plugins.iter().map(plugin_record).collect();
                print(&format!("{:#}\n", Value::from(records)))?;
            } else {
                print(&list(plugins))?;
            }
        }
        PluginCommand::Info { plugin, config, json, plugins } => {
            let mut found = Plugins::new(plugins.folder.as_deref());
            let is_path = plugin.contains(['/', '\\']) || plugin.ends_with(std::env::consts::DLL_SUFFIX);
            let name = if is_path {
                found.load_file(Path::new(plugin))?
            } else {
                load(&mut found, config.as_deref(), console)?;
                plugin.clone()
            };
            let Some(plugin) = found.registry().plugin(&name) else {
                let names: Vec<_> = found.registry().plugins().iter().map(|p| p.descriptor.name.clone()).collect();
                let hint = suggestion(&name, &names, "there are");
                return Err(Failure::new(Exit::Plugin, format!("there is no plugin {name:?}; {hint}")));
            };
            if *json {
                print(&format!("{:#}\n", plugin_record(plugin)))?;
            } else {
                print(&info(plugin))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Loads the plugins of a config and those that lie where shipped ones do.
fn load(plugins: &mut Plugins, config: Option<&Path>, console: &Console) -> Result<()> {
    if let Some(config) = config {
        plugins.load_named(&Plan::from_file(config, &Overrides::default())?)?;
    }
    for refused in plugins.load_found() {
        console.warning(&refused);
    }
    Ok(())
}

fn list(plugins: &[RegisteredPlugin]) -> String {
    let mut text = String::new();
    let kinds = || plugins.iter().flat_map(|p| p.descriptor.kinds.iter().map(move |kind| (p, kind)));
    let names: Vec<_> = kinds().map(|(p, kind)| format!("{}/{}", p.descriptor.name, kind.kind)).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for ((plugin, kind), name) in kinds().zip(&names) {
        let (version, role) = (&plugin.descriptor.version, role(kind));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:width$}  {version:8} {role:5}  {}", kind.summary);
    }
    if text.is_empty() {
        text.push_str("no plugins; build the shipped ones with `cargo xtask plugins`\n");
    }
    text
}

fn info(plugin: &RegisteredPlugin) -> String {
    let descriptor = &plugin.descriptor;
    let mut text = format!("plugin   {}\nversion  {}\n", descriptor.name, descriptor.version);
    if let Origin::Loaded(loaded) = &plugin.origin {
        let rows = [
            ("file", loaded.file.path.display().to_string()),
            ("sha256", loaded.file.sha256.to_string()),
            ("sdk", loaded.sdk_version.clone()),
            ("authors", loaded.authors.clone()),
            ("license", loaded.license.clone()),
        ];
        for (key, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(text, "{key:8} {value}");
        }
    }
    for kind in &descriptor.kinds {
        let _ = writeln!(text, "\n{}/{} ({}): {}", descriptor.name, kind.kind, role(kind), kind.summary);
        text.push_str(&keys(&kind.config_schema));
    }
    text
}

/// The keys of a config schema, a line each.
fn keys(schema: &str) -> String {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let Some(properties) = schema["properties"].as_object() else { return String::new() };
    let width = properties.keys().map(String::len).max().unwrap_or(0);
    let required = |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
    let mut text = String::new();
    for (key, about) in properties {
        let description = about["description"].as_str().unwrap_or_default();
        let default = match &about["default"] {
            _ if required(key) => " (must be given)".to_owned(),
            Value::Null => String::new(),
            default => format!(" (default {default})"),
        };
        let choices = about["enum"].as_array().map(|choices| {
            let choices: Vec<_> = choices.iter().map(ToString::to_string).collect();
            format!(" [{}]", choices.join(", "))
        });
        let _ = writeln!(text, "  {key:width$}  {description}{}{default}", choices.unwrap_or_default());
    }
    text
}

pub(crate) fn model(command: &ModelCommand) -> Result<Exit> {
    let ModelCommand::Inspect { model, json, graph, batch, dims } = command;
    let failed = |error: nv_infer::InferError| Failure::new(Exit::Plugin, error.to_string());
    let model = Model::load(model).map_err(failed)?;
    let options = GraphOptions {
        batch: *batch as usize,
        sizes: dims.iter().map(|(name, size)| (name.clone(), *size as usize)).collect(),
        nodes: *graph,
        ..GraphOptions::default()
    };
    let (description, report) = (model.describe(), model.analyse(&options).map_err(failed)?);
    if *json {
        let record = |value: serde_json::Result<Value>| value.map_err(|error| Failure::runtime(error.to_string()));
        let mut all = record(serde_json::to_value(&description))?;
        all["graph"] = record(serde_json::to_value(&report))?;
        print(&format!("{all:#}\n"))?;
    } else {
        print(&format!("{description}{report}"))?;
    }
    Ok(Exit::Done)
}
