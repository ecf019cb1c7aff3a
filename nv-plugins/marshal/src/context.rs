use std::path::{Path, PathBuf};

use nv_perception::StreamContext;
use nv_plugin_abi as abi;
use nv_plugin_abi::abi_stable::std_types::{RSlice, RStr};

/// A stream's context as it crosses.
pub fn stream_to_abi(stream: &StreamContext) -> abi::StreamContext<'_> {
    abi::StreamContext {
        feed: RStr::from_str(&stream.feed),
        step: RStr::from_str(&stream.step),
        session: stream.session,
        ext: RSlice::EMPTY,
    }
}

/// A path as it crosses; `None` where the platform's paths are not bytes and this one is not Unicode.
pub fn path_to_bytes(path: &Path) -> Option<&[u8]> {
    #[cfg(unix)]
    return Some(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
    #[cfg(not(unix))]
    return path.to_str().map(str::as_bytes);
}

/// A path that has crossed; `None` where the bytes are no path on this platform.
pub fn path_from_bytes(bytes: &[u8]) -> Option<PathBuf> {
    #[cfg(unix)]
    return Some(PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes)));
    #[cfg(not(unix))]
    return std::str::from_utf8(bytes).ok().map(PathBuf::from);
}
