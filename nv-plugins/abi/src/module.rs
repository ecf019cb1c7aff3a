use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RResult, RSlice, RStr, RString, RVec};

use crate::{BatchBox, ExtEntry, HostApi_Ref, OwnedExtEntry, StageBox, StageError};

/// What a kind is an instance of.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindRole(pub u32);

impl KindRole {
    /// A stage: `create_stage`.
    pub const STAGE: Self = Self(1);
    /// A batch processor: `create_batch`.
    pub const BATCH: Self = Self(2);
}

/// One kind of step that a plugin offers.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct KindInfo {
    /// The name by which config asks for it.
    pub kind: RString,
    /// What it is. A host passes over roles that it does not know.
    pub role: KindRole,
    /// What it does, in half a sentence.
    pub summary: RString,
    /// A JSON Schema of its config.
    pub config_schema: RString,
    /// Additions.
    pub ext: RVec<OwnedExtEntry>,
}

/// Who a plugin is and what it offers.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct PluginInfo {
    /// The name that config uses.
    pub name: RString,
    /// The crate's version.
    pub version: RString,
    /// The crate's authors, as Cargo gives them.
    pub authors: RString,
    /// The crate's licence, as Cargo gives it.
    pub license: RString,
    /// The version of the SDK it was built with.
    pub sdk_version: RString,
    /// The compiler it was built with.
    pub rustc: RString,
    /// What it offers.
    pub kinds: RVec<KindInfo>,
    /// Additions.
    pub ext: RVec<OwnedExtEntry>,
}

/// Where a step is being built.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct BuildContext<'a> {
    /// The folder that relative paths in the config are relative to: the path's bytes on Unix, UTF-8 elsewhere.
    pub base_dir: RSlice<'a, u8>,
    /// Additions.
    pub ext: RSlice<'a, ExtEntry<'a>>,
}

/// What a plugin offers. Every function may be called from any thread, once `init` has succeeded; none unwinds.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModule_Ref)))]
#[sabi(missing_field(option))]
pub struct PluginModule {
    /// Comes first. May be called again; the first host counts.
    pub init: extern "C" fn(host: HostApi_Ref) -> RResult<(), StageError>,
    /// Who the plugin is.
    pub info: extern "C" fn() -> RResult<PluginInfo, StageError>,
    /// Builds a stage from its section of config, as JSON.
    pub create_stage:
        extern "C" fn(kind: RStr<'_>, config: RStr<'_>, context: &BuildContext<'_>) -> RResult<StageBox, StageError>,
    /// Builds a batch processor from its section of config, as JSON.
    pub create_batch:
        extern "C" fn(kind: RStr<'_>, config: RStr<'_>, context: &BuildContext<'_>) -> RResult<BatchBox, StageError>,
    /// A further offer by its name, or null. The name defines the type behind the pointer.
    #[sabi(last_prefix_field)]
    pub extension: extern "C" fn(name: RStr<'_>) -> *const (),
}

impl RootModule for PluginModule_Ref {
    abi_stable::declare_root_module_statics! {PluginModule_Ref}
    const BASE_NAME: &'static str = "nv_plugin";
    const NAME: &'static str = "nv_plugin";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}
