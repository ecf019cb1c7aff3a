use nv_core::CancelToken;
use nv_perception::SourceFactory as _;
use nv_sources::EmbeddedSources;

use crate::assembly::Assembly;
use crate::config::{Plan, StepRef};
use crate::console::{Console, print};
use crate::exit::{Exit, Failure, Result};
use crate::plugins::Plugins;
use crate::sink::Outputs;

/// Checks all that a config names: plugins load, models fit, sources open, outputs can be written. Tells everything that is
/// wrong, not only the first.
pub(crate) fn validate(plan: &Plan, name: &str, plugins: &mut Plugins, console: &Console) -> Result<Exit> {
    for warning in &plan.warnings {
        console.warning(warning);
    }
    let mut failures = Vec::new();
    failures.extend(Outputs::open(plan).err());
    match plugins.load_for(plan) {
        Ok(()) => failures.extend(Assembly::build(plan, plugins, None).err()),
        Err(failure) => failures.push(failure),
    }
    let sources = EmbeddedSources::default();
    let mut described = Vec::new();
    for feed in &plan.feeds {
        match sources.open(&feed.spec, &CancelToken::new()) {
            Ok(source) => {
                let info = source.info();
                let frames = info.frame_count.map(|n| format!(", {n} frames")).unwrap_or_default();
                let (codec, size) = (&info.codec, info.size);
                described.push(format!("feed {}: {codec}, {}×{}{frames}\n", feed.name, size.width, size.height));
            }
            Err(error) => failures.push(Failure::new(Exit::Source, format!("feed {}: {error}", feed.name))),
        }
    }
    Failure::gather(failures)?;
    let count = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let batches = (0..plan.batches.len()).filter(|&i| plan.uses(StepRef::Batch(i))).count();
    let totals = format!(
        "{name} is valid: {}, {}, {}\n",
        count(plan.feeds.len(), "feed"),
        count(batches, "batch point"),
        count(plan.outputs.len(), "output")
    );
    print(&(described.concat() + &totals))?;
    Ok(Exit::Done)
}
