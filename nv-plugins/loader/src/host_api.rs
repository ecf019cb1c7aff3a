//! What this program does for plugins.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use nv_plugin_abi::abi_stable::prefix_type::PrefixTypeTrait as _;
use nv_plugin_abi::abi_stable::std_types::{RSlice, RStr, RVec};
use nv_plugin_abi::{self as abi, HostApi, HostApi_Ref, HostInfo, LogCallsite, LogField, LogParent};

use crate::log;

/// The one table of functions that all plugins get.
pub(crate) fn host_api() -> HostApi_Ref {
    static API: OnceLock<HostApi_Ref> = OnceLock::new();
    *API.get_or_init(|| {
        HostApi {
            info,
            log_register,
            log_enabled,
            log_event,
            span_new,
            span_record,
            span_follows,
            span_enter,
            span_exit,
            span_close,
            extension,
        }
        .leak_into_prefix()
    })
}

/// A panic in a subscriber of this program must not unwind into the plugin; it has been reported by the panic hook.
fn shielded<T: Default>(f: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_default()
}

extern "C" fn info() -> HostInfo {
    HostInfo { abi_version: abi::VERSION.into(), version: env!("CARGO_PKG_VERSION").into(), ext: RVec::new() }
}

extern "C" fn log_register(callsite: &LogCallsite<'_>) -> u64 {
    shielded(|| log::register(callsite))
}

extern "C" fn log_enabled(callsite: u64) -> bool {
    shielded(|| log::enabled(callsite))
}

extern "C" fn log_event(callsite: u64, parent: LogParent, fields: RSlice<'_, LogField<'_>>) {
    shielded(|| log::event(callsite, parent, fields.as_slice()));
}

extern "C" fn span_new(callsite: u64, parent: LogParent, fields: RSlice<'_, LogField<'_>>) -> u64 {
    shielded(|| log::new_span(callsite, parent, fields.as_slice()))
}

extern "C" fn span_record(span: u64, fields: RSlice<'_, LogField<'_>>) {
    shielded(|| log::record(span, fields.as_slice()));
}

extern "C" fn span_follows(span: u64, follows: u64) {
    shielded(|| log::follows(span, follows));
}

extern "C" fn span_enter(span: u64) {
    shielded(|| log::enter(span));
}

extern "C" fn span_exit(span: u64) {
    shielded(|| log::exit(span));
}

extern "C" fn span_close(span: u64) {
    shielded(|| log::close(span));
}

/// There are no further services yet; `nv.infer/1` is reserved.
extern "C" fn extension(_name: RStr<'_>) -> *const () {
    std::ptr::null()
}
