//! What tests of the device side share: the software adapter, or word that there is none.

use std::sync::Arc;

use crate::Device;
use crate::gpu::context::Context;

/// The software adapter. Where there is none the test can't look: `None`, and it is printed by name as skipped.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn context(test: &str) -> Option<Arc<Context>> {
    Context::open(Device::Software).unwrap_or_else(|reason| {
        println!("skipped: {test}: {reason}");
        None
    })
}
