//! Plugins that keep to the types of the boundary, but not to its rules.

use nv_core::{FrameHeader, FramePool, PixelFormat, Size};
use nv_perception::{BatchEntry, BuildContext, StageErrorKind};
use nv_plugin_abi::abi_stable::prefix_type::PrefixTypeTrait as _;
use nv_plugin_abi::abi_stable::sabi_trait::TD_Opaque;
use nv_plugin_abi::abi_stable::std_types::{ROption, RResult, RStr, RString, RVec};
use nv_plugin_abi::{
    BatchBox, BatchCall, BatchCapabilities, BatchKeyTag, BatchObject, BatchObject_TO, BatchOutcome, Capabilities,
    DataKind, DataKindTag, ErrorKind, HostApi_Ref, PluginInfo, PluginModule, StageBox, StageError,
};

use super::*;

type Init = extern "C" fn(HostApi_Ref) -> RResult<(), StageError>;

extern "C" fn welcome(_: HostApi_Ref) -> RResult<(), StageError> {
    RResult::ROk(())
}

extern "C" fn refuse(_: HostApi_Ref) -> RResult<(), StageError> {
    RResult::RErr(StageError::new(ErrorKind::UNSUPPORTED, "this host is too small"))
}

extern "C" fn info() -> RResult<PluginInfo, StageError> {
    let kind = |kind: &str, role| KindInfo {
        kind: kind.into(),
        role,
        summary: "odd".into(),
        config_schema: "{}".into(),
        ext: RVec::new(),
    };
    RResult::ROk(PluginInfo {
        name: "odd".into(),
        version: "0.1.0".into(),
        authors: RString::new(),
        license: RString::new(),
        sdk_version: "0.1.0".into(),
        rustc: "rustc".into(),
        kinds: vec![
            kind("teleport", KindRole(77)),
            kind("forgetful", KindRole::BATCH),
            kind("needy", KindRole::BATCH),
            kind("choosy", KindRole::BATCH),
        ]
        .into(),
        ext: RVec::new(),
    })
}

extern "C" fn create_stage(
    kind: RStr<'_>,
    _: RStr<'_>,
    _: &nv_plugin_abi::BuildContext<'_>,
) -> RResult<StageBox, StageError> {
    RResult::RErr(StageError::new(ErrorKind::UNSUPPORTED, format!("no stage {kind}")))
}

extern "C" fn create_batch(
    kind: RStr<'_>,
    _: RStr<'_>,
    _: &nv_plugin_abi::BuildContext<'_>,
) -> RResult<BatchBox, StageError> {
    RResult::ROk(BatchObject_TO::from_value(Odd { needy: kind == "needy", choosy: kind == "choosy" }, TD_Opaque))
}

extern "C" fn extension(_: RStr<'_>) -> *const () {
    std::ptr::null()
}

/// Gives one result whatever it is given, or needs what no host knows.
struct Odd {
    needy: bool,
    choosy: bool,
}

impl BatchObject for Odd {
    fn capabilities(&self) -> RResult<BatchCapabilities, StageError> {
        let kind = DataKind { tag: DataKindTag(99), name: RString::new() };
        RResult::ROk(BatchCapabilities {
            step: Capabilities {
                consumes: if self.needy { vec![kind].into() } else { RVec::new() },
                produces: RVec::new(),
                host_pixels: false,
                ext: RVec::new(),
            },
            max_batch: 0,
            preferred_batch: 1,
            idempotent: false,
            batch_key: if self.choosy { BatchKeyTag(98) } else { BatchKeyTag::ANY },
            ext: RVec::new(),
        })
    }

    fn start(&mut self) -> RResult<(), StageError> {
        RResult::ROk(())
    }

    fn process(&mut self, _: &BatchCall<'_>) -> BatchOutcome {
        BatchOutcome { results: vec![ROption::RNone].into(), error: ROption::RNone }
    }

    fn stop(&mut self) -> RResult<(), StageError> {
        RResult::ROk(())
    }
}

fn load(init: Init) -> Result<LoadedPlugin, Reason> {
    let module = PluginModule { init, info, create_stage, create_batch, extension }.leak_into_prefix();
    let note = PluginNote {
        name: "odd".into(),
        package: "odd".into(),
        version: "0.1.0".into(),
        generation: 1,
        abi_version: "1.0.0".into(),
        target: "any".into(),
        panic: "unwind".into(),
        rustc: "rustc".into(),
        entry: "entry".into(),
    };
    describe(module, PluginFile { path: "libodd.so".into(), bytes: 0, sha256: Sha256::of(b""), note })
}

fn create(plugin: &LoadedPlugin, kind: &str) -> Result<Box<dyn BatchProcessor>, nv_perception::StageError> {
    let Creator::Batch(create) = &plugin.descriptor.kind(kind).unwrap().creator else { panic!("a batch kind") };
    create(&serde_json::Value::Null, &BuildContext::default())
}

#[test]
fn a_plugin_that_refuses_the_host() {
    let error = LoadError::new("libodd.so".as_ref(), load(refuse).unwrap_err());
    assert_eq!(error.kind(), crate::LoadErrorKind::Init);
    assert_eq!(error.to_string(), "cannot load plugin libodd.so: it failed to initialise: this host is too small");
}

#[test]
fn kinds_of_a_later_version_are_passed_over() {
    let plugin = load(welcome).unwrap().descriptor;
    let kinds: Vec<_> = plugin.kinds.iter().map(|k| k.kind.as_str()).collect();
    assert_eq!(kinds, ["forgetful", "needy", "choosy"]);
}

#[test]
fn needs_of_a_later_version_are_not_met() {
    fn check(kind: &str, expected: &str) {
        let Err(error) = create(&load(welcome).unwrap(), kind) else { panic!("no error") };
        assert_eq!(error.kind(), StageErrorKind::Unsupported);
        assert!(error.message().contains(expected), "{error}");
    }
    check("needy", "kind of result number 99 is not known");
    check("choosy", "batch key number 98 is not known");
}

#[test]
fn results_must_be_as_many_as_entries() {
    let mut processor = create(&load(welcome).unwrap(), "forgetful").unwrap();
    let frame = FramePool::new(1).take(FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8)).unwrap().freeze();
    let entry = || BatchEntry::new("gate".into(), 0, frame.clone(), None, Default::default());
    let error = processor.process(&mut [entry(), entry()]).unwrap_err();
    assert_eq!(error.to_string(), "odd/forgetful gave 1 results for 2 entries");
    let mut one = [entry()];
    processor.process(&mut one).unwrap();
    assert!(!one[0].is_finished());
}

#[test]
fn a_library_with_several_notes_is_the_one_it_is_called_after() {
    let note = |package: &str| PluginNote {
        package: package.into(),
        name: package.into(),
        ..load(welcome).unwrap().file.note
    };
    let notes = || vec![note("acme-track"), note("acme-colour")];
    assert_eq!(choose(notes(), "/x/libacme_colour.so".as_ref()).unwrap().name, "acme-colour");
    let error = choose(notes(), "/x/renamed.so".as_ref()).unwrap_err().to_string();
    assert_eq!(error, "it holds several plugins (acme-track, acme-colour), and none of them is called as the file is");
}
