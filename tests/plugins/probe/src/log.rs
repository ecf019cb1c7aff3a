use nv_plugin_sdk::tracing::{self, Span, debug, error, field, info, info_span, trace, warn};
use nv_plugin_sdk::{BuildContext, FromConfig, Signal, Stage, StageError, StageInput, StageOutput, serde};

/// Logs events and spans of all sorts while it processes a frame.
pub struct Log;

/// Config of [`Log`]: empty.
#[derive(Debug, serde::Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
pub struct LogConfig {}

impl FromConfig for Log {
    type Config = LogConfig;
    const KIND: &'static str = "log";
    const SUMMARY: &'static str = "logs";

    fn from_config(_: LogConfig, _: &BuildContext) -> Result<Self, StageError> {
        info!("built");
        Ok(Self)
    }
}

impl Stage for Log {
    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        let seq = input.frame().seq();
        let work = info_span!("work", seq, late = field::Empty);
        work.in_scope(|| {
            debug!(signed = -1i64, unsigned = 2u64, float = 0.5, yes = true, text = "a \"b\"", shown = %"plain", "inner {}", 7);
            Span::current().record("late", 42);
            let aside = info_span!(parent: None, "aside");
            aside.follows_from(&work);
            warn!(parent: &aside, "beside");
            let again = work.clone();
            drop(work.clone());
            again.in_scope(|| error!(target: "probe::special", "nested"));
        });
        let enabled = tracing::enabled!(tracing::Level::TRACE);
        trace!("too fine");
        Ok(StageOutput { signals: vec![Signal::new("trace_enabled", enabled)], ..StageOutput::default() })
    }
}
