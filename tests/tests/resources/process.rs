//! What the system knows of this process.

use std::fs;

/// Memory that is in use, in bytes.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(number);
    kibibytes.expect("the system says it of every process") * 1024
}

/// Threads.
pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("this is Linux").count()
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
