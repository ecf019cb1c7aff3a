//! `nv devices`: what models can run on here.

use nv_infer::DeviceReport;

use crate::console::print;
use crate::exit::{Exit, Failure, Result};

/// Prints the CPU, the adapters and what `auto` comes to. A machine without a GPU is not at fault.
pub(crate) fn devices(json: bool) -> Result<Exit> {
    let report = DeviceReport::probe();
    if json {
        let record = serde_json::to_value(&report).map_err(|error| Failure::runtime(error.to_string()))?;
        print(&format!("{record:#}\n"))?;
    } else {
        print(&report.to_string())?;
    }
    Ok(Exit::Done)
}
