//! The functions of a plugin's root module, but for what the macro knows: which plugin it is.

use nv_perception::{
    BatchProcessor, BuildContext, Creator, KindDescriptor, PluginDescriptor, Stage, StageError, StageErrorKind,
};
use nv_plugin_abi::abi_stable::std_types::{RResult, RStr, RVec};
use nv_plugin_abi::{self as abi, BatchBox, HostApi_Ref, KindInfo, KindRole, PluginInfo, StageBox};
use nv_plugin_marshal::path_from_bytes;

use crate::batch::batch_to_abi;
use crate::guard::{guard, install_hook};
use crate::stage::{crossed, stage_to_abi};
use crate::{__private, bridge};

type Describe = fn() -> PluginDescriptor;

/// What Cargo knows of the plugin's crate.
#[derive(Debug)]
pub struct CrateInfo {
    /// Its authors.
    pub authors: &'static str,
    /// Its licence.
    pub license: &'static str,
}

/// Ties the plugin to its host.
pub fn init(host: HostApi_Ref) -> RResult<(), abi::StageError> {
    install_hook();
    crossed(guard("init", || {
        bridge::install(host);
        Ok(())
    }))
}

/// Describes the plugin.
pub fn info(plugin: Describe, krate: &CrateInfo) -> RResult<PluginInfo, abi::StageError> {
    crossed(guard("info", || {
        let plugin = plugin();
        Ok(PluginInfo {
            name: plugin.name.into(),
            version: plugin.version.into(),
            authors: krate.authors.into(),
            license: krate.license.into(),
            sdk_version: env!("CARGO_PKG_VERSION").into(),
            rustc: __private::RUSTC.into(),
            kinds: plugin.kinds.into_iter().map(kind_info).collect(),
            ext: RVec::new(),
        })
    }))
}

fn kind_info(kind: KindDescriptor) -> KindInfo {
    KindInfo {
        role: match kind.creator {
            Creator::Stage(_) => KindRole::STAGE,
            Creator::Batch(_) => KindRole::BATCH,
        },
        kind: kind.kind.into(),
        summary: kind.summary.into(),
        config_schema: kind.config_schema.into(),
        ext: RVec::new(),
    }
}

/// Builds a stage.
pub fn create_stage(
    plugin: Describe,
    kind: RStr<'_>,
    config: RStr<'_>,
    context: &abi::BuildContext<'_>,
) -> RResult<StageBox, abi::StageError> {
    crossed(guard("from_config", || {
        let build = |found: &KindDescriptor, config: &_, context: &_| match &found.creator {
            Creator::Stage(create) => Some(create(config, context)),
            Creator::Batch(_) => None,
        };
        create(plugin, &kind, &config, context, "stage", build).map(stage_to_abi as fn(Box<dyn Stage>) -> StageBox)
    }))
}

/// Builds a batch processor.
pub fn create_batch(
    plugin: Describe,
    kind: RStr<'_>,
    config: RStr<'_>,
    context: &abi::BuildContext<'_>,
) -> RResult<BatchBox, abi::StageError> {
    crossed(guard("from_config", || {
        let build = |found: &KindDescriptor, config: &_, context: &_| match &found.creator {
            Creator::Batch(create) => Some(create(config, context)),
            Creator::Stage(_) => None,
        };
        create(plugin, &kind, &config, context, "batch processor", build)
            .map(batch_to_abi as fn(Box<dyn BatchProcessor>) -> BatchBox)
    }))
}

fn create<T>(
    plugin: Describe,
    kind: &str,
    config: &str,
    context: &abi::BuildContext<'_>,
    role: &str,
    build: impl FnOnce(&KindDescriptor, &serde_json::Value, &BuildContext) -> Option<Result<T, StageError>>,
) -> Result<T, StageError> {
    let config = serde_json::from_str(config)
        .map_err(|e| StageError::config(format!("the config of {kind:?} came as JSON that can't be read: {e}")))?;
    let base_dir = path_from_bytes(context.base_dir.as_slice())
        .ok_or_else(|| StageError::config("the config's folder came as bytes that are no path here"))?;
    let plugin = plugin();
    let built = plugin.kind(kind).and_then(|found| build(found, &config, &BuildContext::new(base_dir)));
    built.unwrap_or_else(|| {
        let message = format!("plugin {:?} has no {role} {kind:?}", plugin.name);
        Err(StageError::new(StageErrorKind::Unsupported, message))
    })
}

/// Looks up a further offer of the plugin. There are none yet.
pub fn extension(_name: RStr<'_>) -> *const () {
    std::ptr::null()
}
