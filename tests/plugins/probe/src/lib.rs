//! A plugin for our tests: gives back all that it gets, and misbehaves when told to.
//!
//! Written against `nv-plugin-sdk` alone, as a third party would.

mod batch;
mod echo;
mod fail;
mod keep;
mod log;
mod misbehave;

pub use batch::{Census, CensusConfig};
pub use echo::{Echo, EchoConfig};
pub use fail::{Fail, FailConfig};
pub use keep::{Keep, KeepConfig};
pub use log::{Log, LogConfig};
pub use misbehave::{Misbehave, MisbehaveConfig, When};

nv_plugin_sdk::export_plugin! {
    stages: [Echo, Fail, Keep, Log, Misbehave],
    batch: [Census],
}
