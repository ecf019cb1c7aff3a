use std::path::Path;

use nv_plugin_abi::PluginModule_Ref;

use crate::error::Reason;

/// What the system's loader said.
pub(crate) enum OpenError {
    /// The file can't be mapped from where it is, as on a file system that is mounted `noexec`.
    NotMappable(String),
    /// The library will not do, wherever it is.
    Refused(Reason),
}

/// Maps the library at `path`, for ever, and returns its root module after a check of its types.
#[cfg(unix)]
pub(crate) fn open(path: &Path, entry: &str) -> Result<PluginModule_Ref, OpenError> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    use nv_plugin_abi::abi_stable::library::AbiHeaderRef;

    let refused =
        |reason: fn(String) -> Reason| move |e: &dyn std::fmt::Display| OpenError::Refused(reason(one_line(e)));

    // All symbols are resolved now: a missing one is an error here, not the end of the process at its first call. They are
    // kept to the library: two plugins may use two versions of one thing.
    // SAFETY: running a library's constructors is as safe as the library. The user named it, its note says that it is a plugin,
    // and it is whole.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }.map_err(|e| {
        let text = one_line(&e).replace(&format!("{}: ", path.display()), "");
        match text.contains("failed to map segment") || text.contains("Operation not permitted") {
            true => OpenError::NotMappable(text),
            false => OpenError::Refused(Reason::Link(text)),
        }
    })?;
    // SAFETY: the note names the symbol, and whoever writes the note (export_plugin!) puts a LibHeader there, to which an
    // AbiHeaderRef points. Its beginning is checked before the rest is believed.
    let header: AbiHeaderRef = unsafe { library.get::<AbiHeaderRef>(entry.as_bytes()).map(|symbol| *symbol) }
        .map_err(|_| OpenError::Refused(Reason::NoEntry { entry: entry.into() }))?;
    // Never unloaded: the plugin's threads, statics and types may be in use until the process ends.
    std::mem::forget(library);

    let header = header.upgrade().map_err(|e| refused(Reason::Entry)(&e))?;
    crate::layout::check_layout(header).map_err(OpenError::Refused)?;
    // SAFETY: the layout of the module's type has just been compared with ours.
    unsafe { header.init_root_module_with_unchecked_layout::<PluginModule_Ref>() }
        .map_err(|e| refused(Reason::Entry)(&e))
}

#[cfg(not(unix))]
pub(crate) fn open(_path: &Path, _entry: &str) -> Result<PluginModule_Ref, OpenError> {
    Err(OpenError::Refused(Reason::Platform))
}

/// Keeps the library mapped even if somebody closes it. The value is the platform's; where there is none, not closing must do.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const RTLD_NODELETE: std::ffi::c_int = 0x1000;
#[cfg(target_vendor = "apple")]
const RTLD_NODELETE: std::ffi::c_int = 0x80;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_vendor = "apple"))))]
const RTLD_NODELETE: std::ffi::c_int = 0;

/// Somebody else's error in one line.
fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given").to_owned()
}
